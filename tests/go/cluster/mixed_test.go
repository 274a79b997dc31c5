package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	. "quorate/tests/harness"
)

// Members of etcd and of Quorate share no log: neither becomes a member of the other's cluster, and neither is harmed.
func TestMembersOfEtcdNeverJoin(t *testing.T) {
	programs := Programs(t)
	if !OursIsQuorate(t) {
		return
	}
	peer := Single(t, programs.Peer)
	ours := NewServer(t, programs.Server, "ours")
	if _, err := Client(t, peer).MemberAddAsLearner(within(t), []string{ours.PeerURL}); err != nil {
		t.Fatal(err)
	}
	ours.Start(initial(peer, ours), "existing")
	if code := ours.AwaitExit(ReadyLimit); code != 1 || !strings.Contains(ours.LogText(), "it answers as etcd") {
		t.Errorf("a member of Quorate at etcd's cluster ended with %d:\n%s", code, ours.LogText())
	}

	c := start(t)
	client := Client(t, c.Members...)
	guest := NewServer(t, programs.Peer, "guest")
	var added *clientv3.MemberAddResponse
	Eventually(t, ReadyLimit, "the addition", func() (err error) {
		added, err = client.MemberAddAsLearner(within(t), []string{guest.PeerURL})
		return err
	})
	before, err := c.Members[0].Status()
	if err != nil {
		t.Fatal(err)
	}
	writing := startLoad(t, client, 2)
	guest.Start(initial(append(c.Members, guest)...), "existing")
	Eventually(t, ReadyLimit, "etcd's try", func() error {
		if !guest.Ended() && !strings.Contains(guest.LogText(), "starting a raft node") && !strings.Contains(guest.LogText(), "starting remote peer") {
			return Wanted("%s", guest.LogText())
		}
		return nil
	})
	writing.goesOn(t, "etcd's try", 200)
	writing.end()
	if reply, err := clientv3.New(clientv3.Config{Endpoints: []string{guest.ClientURL}, DialTimeout: time.Second}); err == nil {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if got, err := reply.Get(ctx, writing.writes[0].key, clientv3.WithSerializable()); err == nil && len(got.Kvs) > 0 {
			t.Errorf("etcd has the data: %v", got)
		}
		cancel()
		reply.Close()
	}
	if _, err := client.MemberPromote(within(t), added.Member.ID); err == nil {
		t.Error("etcd's member was promoted")
	}
	if _, err := client.MemberRemove(within(t), added.Member.ID); err != nil {
		t.Error(err)
	}
	if after, err := c.Members[0].Status(); err != nil || after.RaftTerm != before.RaftTerm {
		t.Errorf("%v, %v after %v", err, after, before)
	}
	equal(t, c)
}

// What a learner answers is what etcd's learner answers, to every kind of request; watches it serves beyond.
func TestALearnersAnswersAreEtcds(t *testing.T) {
	programs := Programs(t)
	answers := func(binary string) []string {
		first := Single(t, binary)
		client := Client(t, first)
		if _, err := client.Put(within(t), "k", "v"); err != nil {
			t.Fatal(err)
		}
		s := NewServer(t, binary, "learner")
		added, err := client.MemberAddAsLearner(within(t), []string{s.PeerURL})
		if err != nil {
			t.Fatal(err)
		}
		s.Start(initial(first, s), "existing")
		kv, lease, cluster := pb.NewKVClient(s.Conn()), pb.NewLeaseClient(s.Conn()), pb.NewClusterClient(s.Conn())
		upkeep, auth := pb.NewMaintenanceClient(s.Conn()), pb.NewAuthClient(s.Conn())
		Eventually(t, ReadyLimit, "the learner's copy", func() error {
			reply, err := kv.Range(within(t), &pb.RangeRequest{Key: []byte("k"), Serializable: true})
			if err == nil && len(reply.Kvs) != 1 {
				err = Wanted("%v", reply)
			}
			return err
		})
		var told []string
		note := func(what string, err error) { told = append(told, fmt.Sprint(what, ": ", RenderError(err))) }
		key := []byte("k")
		_, err = kv.Range(within(t), &pb.RangeRequest{Key: key})
		note("range", err)
		_, err = kv.Range(within(t), &pb.RangeRequest{Key: key, Serializable: true})
		note("serializable range", err)
		_, err = kv.Put(within(t), &pb.PutRequest{Key: key})
		note("put", err)
		_, err = kv.DeleteRange(within(t), &pb.DeleteRangeRequest{Key: key})
		note("delete", err)
		_, err = kv.Txn(within(t), &pb.TxnRequest{})
		note("txn", err)
		read := &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: &pb.RangeRequest{Key: key, Serializable: true}}}
		_, err = kv.Txn(within(t), &pb.TxnRequest{Success: []*pb.RequestOp{read}})
		note("reading txn", err)
		_, err = kv.Compact(within(t), &pb.CompactionRequest{Revision: 1})
		note("compact", err)
		_, err = lease.LeaseGrant(within(t), &pb.LeaseGrantRequest{TTL: 9})
		note("grant", err)
		_, err = lease.LeaseRevoke(within(t), &pb.LeaseRevokeRequest{ID: 9})
		note("revoke", err)
		_, err = lease.LeaseTimeToLive(within(t), &pb.LeaseTimeToLiveRequest{ID: 9})
		note("time to live", err)
		_, err = lease.LeaseLeases(within(t), &pb.LeaseLeasesRequest{})
		note("leases", err)
		renewals, err := lease.LeaseKeepAlive(within(t))
		if err == nil {
			renewals.Send(&pb.LeaseKeepAliveRequest{ID: 9})
			_, err = renewals.Recv()
		}
		note("keep alive", err)
		_, err = cluster.MemberList(within(t), &pb.MemberListRequest{})
		note("members", err)
		_, err = cluster.MemberAdd(within(t), &pb.MemberAddRequest{PeerURLs: []string{"http://127.0.0.1:1"}})
		note("add", err)
		_, err = cluster.MemberPromote(within(t), &pb.MemberPromoteRequest{ID: added.Member.ID})
		note("promote", err)
		_, err = upkeep.Status(within(t), &pb.StatusRequest{})
		note("status", err)
		_, err = upkeep.Alarm(within(t), &pb.AlarmRequest{})
		note("alarms", err)
		_, err = upkeep.Defragment(within(t), &pb.DefragmentRequest{})
		note("defragment", err)
		_, err = upkeep.Hash(within(t), &pb.HashRequest{})
		note("hash", err)
		_, err = upkeep.HashKV(within(t), &pb.HashKVRequest{})
		note("hash of keys", err)
		_, err = upkeep.MoveLeader(within(t), &pb.MoveLeaderRequest{TargetID: added.Member.ID})
		note("move the leader", err)
		_, err = upkeep.Downgrade(within(t), &pb.DowngradeRequest{Version: "3.6"})
		note("downgrade", err)
		snapshot, err := upkeep.Snapshot(within(t), &pb.SnapshotRequest{})
		if err == nil {
			_, err = snapshot.Recv()
		}
		note("snapshot", err)
		_, err = auth.AuthStatus(within(t), &pb.AuthStatusRequest{})
		note("auth status", err)
		_, err = auth.UserList(within(t), &pb.AuthUserListRequest{})
		note("users", err)
		_, err = auth.Authenticate(within(t), &pb.AuthenticateRequest{Name: "a", Password: "b"})
		note("log in", err)
		return told
	}
	expected, got := answers(programs.Peer), answers(programs.Server)
	if !slices.Equal(expected, got) {
		t.Errorf("--- expected:\n%s\n--- got:\n%s", strings.Join(expected, "\n"), strings.Join(got, "\n"))
	}
}
