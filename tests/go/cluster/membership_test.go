package cluster

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/encoding/protowire"

	. "quorate/tests/harness"
)

// initial is what the members name as --initial-cluster.
func initial(members ...*Server) string {
	var parts []string
	for _, s := range members {
		parts = append(parts, s.Name+"="+s.PeerURL)
	}
	return strings.Join(parts, ",")
}

// join adds a member through one that runs, and starts it.
func join(t *testing.T, c *Cluster, through *Server, name string) *Server {
	t.Helper()
	s := NewServer(t, Programs(t).Server, name)
	client := Client(t, through)
	Eventually(t, ReadyLimit, "the addition of "+name, func() error {
		_, err := client.MemberAdd(within(t), []string{s.PeerURL})
		return err
	})
	c.Members = append(c.Members, s)
	s.Start(initial(c.Members...), "existing")
	s.AwaitReady()
	return s
}

// leave removes a member through another one and waits for its end.
func leave(t *testing.T, c *Cluster, through, s *Server) {
	t.Helper()
	status, err := s.Status()
	if err != nil {
		t.Fatal(err)
	}
	client := Client(t, through)
	Eventually(t, ReadyLimit, "the removal of "+s.Name, func() error {
		_, err := client.MemberRemove(within(t), status.Header.MemberId)
		if err == rpctypes.ErrMemberNotFound {
			return nil // an earlier try was not heard of
		}
		return err
	})
	if code := s.AwaitExit(ReadyLimit); code != 0 {
		t.Errorf("%s ended with %d", s.Name, code)
	}
	if !strings.Contains(s.LogText(), "the member has been permanently removed from the cluster") {
		t.Errorf("%s does not say why it ended", s.Name)
	}
	var rest []*Server
	for _, member := range c.Members {
		if member != s {
			rest = append(rest, member)
		}
	}
	c.Members = rest
}

// A cluster grows from one member to five and shrinks to one again, under load, and keeps everything.
func TestGrowAndShrink(t *testing.T) {
	c := StartCluster(t, Programs(t).Server, 1)
	first := c.Members[0]
	writing := startLoad(t, Client(t, first), 4)
	writing.goesOn(t, "the start", 50)
	for n := 1; n < 5; n++ {
		join(t, c, c.Members[n/2], fmt.Sprint("m", n))
		writing.goesOn(t, fmt.Sprint("member ", n), 50)
	}
	equal(t, c)
	for len(c.Members) > 1 {
		leave(t, c, first, c.Members[len(c.Members)-1])
		writing.goesOn(t, fmt.Sprint("shrinking to ", len(c.Members)), 50)
	}
	writing.end()
	holdsAll(t, first, writing.writes)
}

// A leader that is removed hands over; once out, it does not come back.
func TestRemovedLeaderStaysOut(t *testing.T) {
	c := start(t)
	leader := c.Leader()
	other := c.Followers()[0]
	leave(t, c, other, leader)
	leader.Start(initial(append(c.Members, leader)...), "existing")
	if code := leader.AwaitExit(ReadyLimit); code != 0 {
		t.Errorf("the removed leader ended with %d when it was started again", code)
	}
	if _, err := Client(t, other).Put(within(t), "k", "v"); err != nil {
		t.Error(err)
	}
}

// A learner serves what it holds, counts for nothing, and is promoted by the leader when it asked for that.
func TestLearnersLife(t *testing.T) {
	c := StartCluster(t, Programs(t).Server, 1)
	first := c.Members[0]
	client := Client(t, first)
	if _, err := client.Put(within(t), "k", "v"); err != nil {
		t.Fatal(err)
	}
	s := NewServer(t, Programs(t).Server, "learner")
	added, err := client.MemberAddAsLearner(within(t), []string{s.PeerURL})
	if err != nil {
		t.Fatal(err)
	}
	// Down, it costs nothing.
	if _, err := client.Put(within(t), "k", "w"); err != nil {
		t.Fatal(err)
	}
	s.Start(initial(first, s), "existing")
	learner := Client(t, s)
	Eventually(t, ReadyLimit, "the learner's copy", func() error {
		reply, err := learner.Get(within(t), "k", clientv3.WithSerializable())
		if err == nil && (len(reply.Kvs) != 1 || string(reply.Kvs[0].Value) != "w") {
			err = Wanted("%v", reply.Kvs)
		}
		return err
	})
	watch := learner.Watch(t.Context(), "k")
	Eventually(t, ReadyLimit, "an event through the learner", func() error {
		if _, err := client.Put(within(t), "k", "x"); err != nil {
			return err
		}
		select {
		case response := <-watch:
			return response.Err()
		case <-time.After(100 * time.Millisecond):
			return Wanted("no event")
		}
	})
	refused := func(what string, err error) {
		if err == nil || err.Error() != rpctypes.ErrGRPCNotSupportedForLearner.Error() && !strings.Contains(err.Error(), "rpc not supported for learner") {
			t.Errorf("%s through a learner: %v", what, err)
		}
	}
	raw := pb.NewKVClient(s.Conn())
	_, err = raw.Put(within(t), &pb.PutRequest{Key: []byte("k")})
	refused("put", err)
	_, err = raw.Range(within(t), &pb.RangeRequest{Key: []byte("k")})
	refused("a linearizable range", err)
	_, err = pb.NewClusterClient(s.Conn()).MemberList(within(t), &pb.MemberListRequest{})
	refused("member list", err)
	if status, err := s.Status(); err != nil || !status.IsLearner {
		t.Errorf("status %v, %v", status, err)
	}
	if _, err := client.MoveLeader(within(t), added.Member.ID); err != rpctypes.ErrBadLeaderTransferee {
		t.Errorf("move the lead to a learner: %v", err)
	}
	if _, err := client.MemberPromote(within(t), added.Member.ID); err != nil {
		t.Error(err)
	}
	s.AwaitReady()
}

// A learner that asks for it is promoted by the leader, and not before it runs.
func TestAutoPromotion(t *testing.T) {
	c := StartCluster(t, Programs(t).Server, 1)
	first := c.Members[0]
	s := NewServer(t, Programs(t).Server, "m1")
	request := &pb.MemberAddRequest{PeerURLs: []string{s.PeerURL}, IsLearner: true}
	request.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 1000, protowire.VarintType), 1))
	if _, err := pb.NewClusterClient(first.Conn()).MemberAdd(within(t), request); err != nil {
		t.Fatal(err)
	}
	for n := range 20 {
		if _, err := Client(t, first).Put(within(t), "k", fmt.Sprint(n)); err != nil {
			t.Fatalf("a write while the added member is down: %v", err)
		}
	}
	s.Start(initial(first, s), "existing")
	Eventually(t, ReadyLimit, "the promotion", func() error {
		list, err := Client(t, first).MemberList(within(t))
		if err != nil {
			return err
		}
		for _, member := range list.Members {
			if member.IsLearner {
				return Wanted("%v learns", member)
			}
		}
		return nil
	})
	s.AwaitReady()
}

// Wrong settings of a member that joins are told, and end it.
func TestJoiningWithWrongSettings(t *testing.T) {
	c := StartCluster(t, Programs(t).Server, 1)
	first := c.Members[0]
	for _, wrong := range []struct {
		what, said string
		cluster    func(s *Server) string
	}{
		{"not added", "member count is unequal", func(s *Server) string { return initial(first, s) }},
		{"only itself", "cannot fetch cluster info from peer urls", func(s *Server) string { return initial(s) }},
		{"without itself", `couldn't find local name \"stray\" in the initial cluster configuration`, func(*Server) string { return initial(first) }},
	} {
		s := NewServer(t, Programs(t).Server, "stray")
		s.Start(wrong.cluster(s), "existing")
		if code := s.AwaitExit(ReadyLimit); code != 1 {
			t.Errorf("%s: ended with %d", wrong.what, code)
		}
		if !strings.Contains(s.LogText(), wrong.said) {
			t.Errorf("%s: says nothing of %q:\n%s", wrong.what, wrong.said, s.LogText())
		}
	}
	// A member that lost its data must not begin anew.
	three := start(t)
	lost := three.Followers()[0]
	lost.Kill()
	if err := os.RemoveAll(lost.DataDir); err != nil {
		t.Fatal(err)
	}
	three.Start(lost)
	if code := lost.AwaitExit(ReadyLimit); code != 1 || !strings.Contains(lost.LogText(), "has already been bootstrapped") {
		t.Errorf("a member that lost its data ended with %d", code)
	}
}

// One survivor of three goes on alone, with everything that was acknowledged, and takes new members.
func TestForcedNewCluster(t *testing.T) {
	c := start(t)
	writing := startLoad(t, Client(t, c.Members...), 4)
	writing.goesOn(t, "the start", 200)
	writing.end()
	equal(t, c)
	survivor := c.Members[1]
	for _, s := range c.Members {
		s.Kill()
	}
	alone := NewServer(t, Programs(t).Server, survivor.Name, "--force-new-cluster")
	alone.DataDir, alone.PeerURL = survivor.DataDir, survivor.PeerURL
	alone.Start("", "new")
	alone.AwaitReady()
	holdsAll(t, alone, writing.writes)
	alone.CloseConn()
	alone.Kill()
	survivor.CloseConn()
	survivor.Start("", "existing")
	survivor.AwaitReady()
	list, err := Client(t, survivor).MemberList(within(t))
	if err != nil || len(list.Members) != 1 || list.Members[0].IsLearner {
		t.Fatalf("members %v, %v", list, err)
	}
	again := &Cluster{Members: []*Server{survivor}}
	holdsAll(t, join(t, again, survivor, "new"), writing.writes)
}

// Each member is stopped and started again, under load: a client that tries each call twice sees no failure.
func TestRollingRestart(t *testing.T) {
	c := start(t)
	ctx, cancel := context.WithCancel(context.Background())
	var wait sync.WaitGroup
	failures := make(chan error, 1000)
	for writer := range 4 {
		client := Client(t, c.Members...)
		wait.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				put := func() error {
					call, cancel := context.WithTimeout(context.Background(), callLimit)
					defer cancel()
					_, err := client.Put(call, fmt.Sprint("rolling/", writer, "/", n), "v")
					return err
				}
				if put() == nil {
					continue
				}
				if err := put(); err != nil {
					select {
					case failures <- err:
					default:
					}
				}
			}
		})
	}
	for _, s := range c.Members {
		s.Signal(syscall.SIGTERM)
		s.AwaitExit(ReadyLimit)
		s.CloseConn()
		c.Start(s)
		s.AwaitReady()
	}
	cancel()
	wait.Wait()
	close(failures)
	for err := range failures {
		t.Errorf("failed twice: %v", err)
	}
	equal(t, c)
}
