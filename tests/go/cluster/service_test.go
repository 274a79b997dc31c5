package cluster

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	. "quorate/tests/harness"
)

// Every member takes every request, whoever leads.
func TestFollowersTakeAllRequests(t *testing.T) {
	c := start(t)
	for number, s := range c.Followers() {
		client := Client(t, s)
		key := fmt.Sprintf("through/%d", number)
		must := func(what string, err error) {
			t.Helper()
			if err != nil {
				t.Fatalf("%s through %s: %v", what, s.Name, err)
			}
		}
		watch := client.Watch(t.Context(), key)
		put, err := client.Put(within(t), key, "1")
		must("put", err)
		got, err := client.Get(within(t), key)
		must("get", err)
		if len(got.Kvs) != 1 || got.Kvs[0].ModRevision != put.Header.Revision {
			t.Errorf("read through %s after the write of revision %d: %v", s.Name, put.Header.Revision, got)
		}
		txn, err := client.Txn(within(t)).If(clientv3.Compare(clientv3.Value(key), "=", "1")).Then(clientv3.OpPut(key, "2")).Commit()
		must("txn", err)
		if !txn.Succeeded {
			t.Error("the comparison failed")
		}
		lease, err := client.Grant(within(t), 100)
		must("grant", err)
		_, err = client.Put(within(t), key+"/leased", "v", clientv3.WithLease(lease.ID))
		must("leased put", err)
		kept, err := client.KeepAliveOnce(within(t), lease.ID)
		must("keep alive", err)
		if kept.TTL != 100 {
			t.Errorf("keep alive gave %d", kept.TTL)
		}
		rest, err := client.TimeToLive(within(t), lease.ID, clientv3.WithAttachedKeys())
		must("time to live", err)
		if len(rest.Keys) != 1 {
			t.Errorf("keys of the lease: %v", rest.Keys)
		}
		_, err = client.Leases(within(t))
		must("leases", err)
		_, err = client.Revoke(within(t), lease.ID)
		must("revoke", err)
		_, err = client.Delete(within(t), key)
		must("delete", err)
		_, err = client.Compact(within(t), put.Header.Revision)
		must("compact", err)
		_, err = client.MemberList(within(t))
		must("member list", err)
		_, err = client.AlarmList(within(t))
		must("alarm list", err)
		_, err = client.RoleAdd(within(t), key)
		must("role add", err)
		_, err = client.Defragment(within(t), s.ClientURL)
		must("defragment", err)
		if _, err = client.MoveLeader(within(t), 1); err != rpctypes.ErrNotLeader {
			t.Errorf("move leader through a follower: %v", err)
		}
		snapshot, err := client.Snapshot(within(t))
		must("snapshot", err)
		if n, err := io.Copy(io.Discard, snapshot); err != nil || n == 0 {
			t.Errorf("snapshot of %d bytes: %v", n, err)
		}
		seen := 0
		for seen < 3 {
			select {
			case response := <-watch:
				seen += len(response.Events)
			case <-time.After(callLimit):
				t.Fatalf("the watch through %s gave %d of 3 events", s.Name, seen)
			}
		}
	}
	equal(t, c)
}

// Requests of one client reach all members, and go on when one is gone.
func TestBalancedEndpoints(t *testing.T) {
	c := start(t)
	client := Client(t, c.Members...)
	for n := range 60 {
		if _, err := client.Put(within(t), fmt.Sprint("balanced/", n), "v"); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range c.Members {
		reply, err := http.Get(s.ClientURL + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(reply.Body)
		reply.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		const served = `grpc_server_handled_total{grpc_code="OK",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"} `
		if _, count, found := strings.Cut(string(text), served); !found || count[0] == '0' {
			t.Errorf("%s served no put", s.Name)
		}
	}
	gone := c.Followers()[0]
	gone.Kill()
	gone.CloseConn()
	for n := range 30 {
		if _, err := client.Get(within(t), fmt.Sprint("balanced/", n)); err != nil {
			t.Errorf("read %d with a member gone: %v", n, err)
		}
	}
}

// persist asks until it is done: the client reports what the loss of a leader does to a call, asking again is its
// user's part.
func persist(t *testing.T, what string, ask func(context.Context) error) bool {
	ctx, cancel := context.WithTimeout(t.Context(), ReadyLimit)
	defer cancel()
	err := Within(ReadyLimit, func() error { return ask(ctx) })
	if err != nil {
		t.Errorf("no %s: %v", what, err)
	}
	return err == nil
}

// A lock is held by one at a time, through the loss of the leader too.
func TestMutex(t *testing.T) {
	c := start(t)
	client := Client(t, c.Members...)
	var group sync.WaitGroup
	var lock sync.Mutex
	holders, total, most := 0, 0, 0
	const workers, rounds = 4, 5
	for range workers {
		group.Go(func() {
			session, err := concurrency.NewSession(client, concurrency.WithTTL(30))
			if err != nil {
				t.Error(err)
				return
			}
			defer session.Close()
			mutex := concurrency.NewMutex(session, "mutex")
			for range rounds {
				if !persist(t, "lock", mutex.Lock) {
					return
				}
				lock.Lock()
				holders++
				total++
				most = max(most, holders)
				kill := total == workers*rounds/2
				lock.Unlock()
				if kill {
					leader := c.Leader()
					leader.Kill()
					leader.CloseConn()
					c.Start(leader)
				}
				lock.Lock()
				holders--
				lock.Unlock()
				if !persist(t, "unlock", mutex.Unlock) {
					return
				}
			}
		})
	}
	group.Wait()
	if total != workers*rounds || most != 1 {
		t.Errorf("%d of %d times locked, up to %d at once", total, workers*rounds, most)
	}
}

// When the elected one's session ends, the next is elected, and observers see both.
func TestElection(t *testing.T) {
	c := start(t)
	client := Client(t, c.Members...)
	first, err := concurrency.NewSession(client, concurrency.WithTTL(2))
	if err != nil {
		t.Fatal(err)
	}
	second, err := concurrency.NewSession(client, concurrency.WithTTL(30))
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	one, other := concurrency.NewElection(first, "election"), concurrency.NewElection(second, "election")
	ctx, cancel := context.WithTimeout(t.Context(), ReadyLimit)
	defer cancel()
	if err := one.Campaign(ctx, "one"); err != nil {
		t.Fatal(err)
	}
	observed := other.Observe(ctx)
	see := func(value string) {
		t.Helper()
		select {
		case reply := <-observed:
			if len(reply.Kvs) != 1 || string(reply.Kvs[0].Value) != value {
				t.Fatalf("wanted %q, observed %v", value, reply.Kvs)
			}
		case <-ctx.Done():
			t.Fatalf("%q was never observed", value)
		}
	}
	see("one")
	if err := one.Proclaim(ctx, "one again"); err != nil {
		t.Fatal(err)
	}
	see("one again")
	elected := make(chan error, 1)
	go func() { elected <- other.Campaign(ctx, "other") }()
	first.Orphan() // no more keep-alives: the lease runs out by itself
	if err := <-elected; err != nil {
		t.Fatal(err)
	}
	see("other")
	if err := other.Resign(ctx); err != nil {
		t.Error(err)
	}
	if _, err := other.Leader(ctx); err != concurrency.ErrElectionNoLeader {
		t.Errorf("after the resignation: %v", err)
	}
}

// A lease that is kept survives the leader; one that is not kept ends under the next leader too.
func TestLeaseThroughLossOfLeader(t *testing.T) {
	c := start(t)
	client := Client(t, c.Members...)
	kept, err := client.Grant(within(t), 5)
	if err != nil {
		t.Fatal(err)
	}
	granted := time.Now() // its time begins between this and the answer
	left, err := client.Grant(within(t), 5)
	if err != nil {
		t.Fatal(err)
	}
	for key, id := range map[string]clientv3.LeaseID{"kept": kept.ID, "left": left.ID} {
		if _, err := client.Put(within(t), key, "v", clientv3.WithLease(id)); err != nil {
			t.Fatal(err)
		}
	}
	alive, err := client.KeepAlive(t.Context(), kept.ID)
	if err != nil {
		t.Fatal(err)
	}
	<-alive
	leader := c.Leader()
	leader.Kill()
	leader.CloseConn()
	survivors := Client(t, c.Followers()...)
	Eventually(t, ReadyLimit, "the end of the lease that nobody keeps", func() error {
		reply, err := survivors.Get(within(t), "left")
		if err == nil && len(reply.Kvs) > 0 {
			err = Wanted("%v is there after %s", reply.Kvs, time.Since(granted))
		}
		return err
	})
	if lived := time.Since(granted); lived < 5*time.Second {
		t.Errorf("a lease of 5 s lived %s", lived)
	}
	reply, err := survivors.Get(within(t), "kept")
	if err != nil || len(reply.Kvs) != 1 {
		t.Errorf("the kept lease's key: %v, %v", reply, err)
	}
}

// A member is replaced: removed, its process ends by itself, its place is taken by a learner that is promoted.
func TestReplacementOfAMember(t *testing.T) {
	c := start(t)
	client := Client(t, c.Members...)
	var writes []acknowledged
	for n := range 300 {
		key := fmt.Sprint("load/", n)
		reply, err := client.Put(within(t), key, "v")
		if err != nil {
			t.Fatal(err)
		}
		writes = append(writes, acknowledged{key, "v", reply.Header.Revision})
	}
	old := c.Followers()[0]
	status, err := old.Status()
	if err != nil {
		t.Fatal(err)
	}
	rest := Client(t, c.Leader())
	Eventually(t, ReadyLimit, "the removal", func() error {
		_, err := rest.MemberRemove(within(t), status.Header.MemberId)
		return err
	})
	old.AwaitExit(ReadyLimit)
	old.CloseConn()
	if err := os.RemoveAll(old.DataDir); err != nil {
		t.Fatal(err)
	}
	var added *clientv3.MemberAddResponse
	Eventually(t, ReadyLimit, "the addition of a learner", func() error {
		added, err = rest.MemberAddAsLearner(within(t), []string{old.PeerURL})
		return err
	})
	var initial []string
	for _, s := range c.Members {
		initial = append(initial, s.Name+"="+s.PeerURL)
	}
	old.Start(strings.Join(initial, ","), "existing")
	Eventually(t, ReadyLimit, "the learner's promotion", func() error {
		_, err := rest.MemberPromote(within(t), added.Member.ID)
		return err
	})
	old.AwaitReady()
	holdsAll(t, old, writes)
	equal(t, c)
	list, err := rest.MemberList(within(t))
	if err != nil || len(list.Members) != 3 {
		t.Fatalf("members: %v, %v", list, err)
	}
	for _, member := range list.Members {
		if member.IsLearner || member.ID == status.Header.MemberId {
			t.Errorf("member %v", member)
		}
	}
}

// The leader goes where it is sent.
func TestMoveLeader(t *testing.T) {
	c := start(t)
	leader, target := c.Leader(), c.Followers()[1]
	status, err := target.Status()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Client(t, leader).MoveLeader(within(t), status.Header.MemberId); err != nil {
		t.Fatal(err)
	}
	Eventually(t, ReadyLimit, "the move", func() error {
		if got := c.Leader(); got != target {
			return Wanted("%s leads", got.Name)
		}
		return nil
	})
	if _, err := Client(t, leader).Put(within(t), "k", "v"); err != nil {
		t.Error(err)
	}
}
