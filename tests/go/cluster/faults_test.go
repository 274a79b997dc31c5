// Package cluster runs three real members and real clients through kills, restarts and changes of leader.
//
// It asserts what a client was promised: acknowledged writes, complete watches, equal members. What single replies
// look like is held by the conformance suite.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	. "quorate/tests/harness"
)

const (
	callLimit     = 10 * time.Second
	handOverLimit = 500 * time.Millisecond
	exitLimit     = 1500 * time.Millisecond
)

func start(t *testing.T, flags ...string) *Cluster {
	t.Helper()
	return StartCluster(t, Programs(t).Server, 3, flags...)
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), callLimit)
	t.Cleanup(cancel)
	return ctx
}

// acknowledged is what the server promised to keep.
type acknowledged struct {
	key, value string
	revision   int64
}

// load writes through etcd's client until it is stopped, and records what was acknowledged.
type load struct {
	lock   sync.Mutex
	writes []acknowledged
	stop   context.CancelFunc
	done   sync.WaitGroup
}

func startLoad(t *testing.T, client *clientv3.Client, writers int) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{stop: cancel}
	for writer := range writers {
		l.done.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				key, value := fmt.Sprintf("load/%d/%d", writer, n), fmt.Sprintf("value %d of %d", n, writer)
				call, cancel := context.WithTimeout(ctx, 3*time.Second)
				reply, err := client.Put(call, key, value)
				cancel()
				if err != nil {
					continue // not acknowledged: it may be there or not
				}
				l.lock.Lock()
				l.writes = append(l.writes, acknowledged{key, value, reply.Header.Revision})
				l.lock.Unlock()
			}
		})
	}
	t.Cleanup(l.end)
	return l
}

func (l *load) end() {
	l.stop()
	l.done.Wait()
}

func (l *load) count() int {
	l.lock.Lock()
	defer l.lock.Unlock()
	return len(l.writes)
}

// goesOn waits until that many more writes are acknowledged.
func (l *load) goesOn(t *testing.T, what string, more int) {
	t.Helper()
	target := l.count() + more
	Eventually(t, ReadyLimit, "writes after "+what, func() error {
		if n := l.count(); n < target {
			return Wanted("%d of %d acknowledged", n, target)
		}
		return nil
	})
}

// feed collects the events of a prefix from revision 1 on, through whatever happens.
type feed struct {
	lock   sync.Mutex
	events []*clientv3.Event
	failed error
}

func startFeed(t *testing.T, client *clientv3.Client, prefix string) *feed {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	f := &feed{}
	watch := client.Watch(clientv3.WithRequireLeader(ctx), prefix, clientv3.WithPrefix(), clientv3.WithRev(1))
	go func() {
		last := int64(1)
		for {
			for response := range watch {
				f.lock.Lock()
				f.events = append(f.events, response.Events...)
				for _, event := range response.Events {
					last = event.Kv.ModRevision
				}
				if response.CompactRevision != 0 {
					f.failed = response.Err()
				}
				f.lock.Unlock()
			}
			if ctx.Err() != nil {
				return
			}
			// The client hands a lost leader to its user, who goes on from the last event.
			watch = client.Watch(clientv3.WithRequireLeader(ctx), prefix, clientv3.WithPrefix(), clientv3.WithRev(last+1))
		}
	}()
	return f
}

// holds checks that the feed saw every acknowledged write once, in order.
func (f *feed) holds(t *testing.T, writes []acknowledged) {
	t.Helper()
	Eventually(t, ReadyLimit, "the watch's last event", func() error {
		f.lock.Lock()
		defer f.lock.Unlock()
		seen := map[int64]*mvccpb.KeyValue{}
		last := int64(0)
		for _, event := range f.events {
			if event.Kv.ModRevision <= last {
				t.Fatalf("the watch gave revision %d after %d", event.Kv.ModRevision, last)
			}
			last = event.Kv.ModRevision
			seen[last] = event.Kv
		}
		if f.failed != nil {
			t.Fatal(f.failed)
		}
		for _, write := range writes {
			kv := seen[write.revision]
			if kv == nil && last < write.revision {
				return Wanted("events up to revision %d of %d", last, write.revision)
			}
			if kv == nil || string(kv.Key) != write.key || string(kv.Value) != write.value {
				t.Fatalf("the watch lost or changed %+v: %v", write, kv)
			}
		}
		return nil
	})
}

// holdsAll checks every acknowledged write on one member, from its own copy.
func holdsAll(t *testing.T, s *Server, writes []acknowledged) {
	t.Helper()
	found := map[string]*mvccpb.KeyValue{}
	reply, err := Client(t, s).Get(within(t), "load/", clientv3.WithPrefix())
	if err != nil {
		t.Fatalf("%s: %v", s.Name, err)
	}
	for _, kv := range reply.Kvs {
		found[string(kv.Key)] = kv
	}
	lost := 0
	for _, write := range writes {
		kv := found[write.key]
		if kv == nil || string(kv.Value) != write.value || kv.ModRevision != write.revision {
			if lost++; lost <= 5 {
				t.Errorf("%s lost %+v: has %v", s.Name, write, kv)
			}
		}
	}
	if lost > 0 {
		t.Fatalf("%s lost %d of %d acknowledged writes", s.Name, lost, len(writes))
	}
}

// equal waits until all members have the head revision, and compares their hashes there.
func equal(t *testing.T, c *Cluster) {
	t.Helper()
	status, err := c.Leader().Status()
	if err != nil {
		t.Fatal(err)
	}
	revision := status.Header.Revision
	hashes := map[uint32][]string{}
	for _, s := range c.Members {
		maintenance := pb.NewMaintenanceClient(s.Conn())
		Eventually(t, ReadyLimit, "the hash of "+s.Name, func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			reply, err := maintenance.HashKV(ctx, &pb.HashKVRequest{Revision: revision})
			if err == nil {
				hashes[reply.Hash] = append(hashes[reply.Hash], s.Name)
			}
			return err
		})
	}
	if len(hashes) != 1 {
		t.Errorf("the members differ at revision %d: %v", revision, hashes)
	}
}

func TestKillsUnderLoad(t *testing.T) {
	c := start(t)
	client := Client(t, c.Members...)
	watched := startFeed(t, client, "load/")
	l := startLoad(t, client, 6)
	l.goesOn(t, "the start", 300)
	for _, fault := range []struct {
		name    string
		victims func() []*Server
	}{
		{"a follower", func() []*Server { return c.Followers()[:1] }},
		{"the leader", func() []*Server { return []*Server{c.Leader()} }},
		{"the leader again", func() []*Server { return []*Server{c.Leader()} }},
		{"all", func() []*Server { return c.Members }},
		{"both followers", func() []*Server { return c.Followers() }},
	} {
		victims := fault.victims()
		for _, s := range victims {
			s.Signal(syscall.SIGKILL)
		}
		for _, s := range victims {
			s.Kill()
			s.CloseConn()
		}
		if len(victims) == 1 {
			l.goesOn(t, "the kill of "+fault.name, 100)
		}
		c.StartAll()
		c.AwaitReady()
		l.goesOn(t, "the restart of "+fault.name, 200)
	}
	l.end()
	t.Logf("%d acknowledged writes", l.count())
	for _, s := range c.Members {
		holdsAll(t, s, l.writes)
	}
	equal(t, c)
	watched.holds(t, l.writes)
}

// What a lone member acknowledged is there at once after a kill, also for reads from its own copy.
func TestKillOfALoneMember(t *testing.T) {
	s := Single(t, Programs(t).Server)
	for round := range 8 {
		kv := pb.NewKVClient(s.Conn())
		var last string
		for n := range 50 {
			last = fmt.Sprintf("%d of round %d", n, round)
			if _, err := kv.Put(within(t), &pb.PutRequest{Key: []byte("k"), Value: []byte(last)}); err != nil {
				t.Fatal(err)
			}
		}
		s.Kill()
		s.CloseConn()
		s.Start("", "new")
		s.AwaitReady()
		reply, err := pb.NewKVClient(s.Conn()).Range(within(t), &pb.RangeRequest{Key: []byte("k"), Serializable: true})
		if err != nil || len(reply.Kvs) != 1 || string(reply.Kvs[0].Value) != last {
			t.Fatalf("wrote %q, then killed: %v, %v", last, reply, err)
		}
	}
}

// A leader that is asked to end hands over first: no election timeout is waited for.
func TestHandOver(t *testing.T) {
	c := start(t)
	client := Client(t, c.Members...)
	if _, err := client.Put(within(t), "load/before", "v"); err != nil {
		t.Fatal(err)
	}
	leader := c.Leader()
	follower := c.Followers()[0]
	before, err := follower.Status()
	if err != nil {
		t.Fatal(err)
	}
	asked := time.Now()
	leader.Signal(syscall.SIGTERM)
	var after *pb.StatusResponse
	Eventually(t, handOverLimit, "another leader", func() error {
		if after, err = follower.Status(); err != nil {
			return err
		}
		if after.Leader == before.Leader || after.Leader == 0 {
			return Wanted("leader %x", after.Leader)
		}
		return nil
	})
	handed := time.Since(asked)
	if after.RaftTerm != before.RaftTerm+1 {
		t.Errorf("term %d came after %d", after.RaftTerm, before.RaftTerm)
	}
	leader.AwaitExit(exitLimit - time.Since(asked))
	t.Logf("another leader after %s, gone after %s", handed, time.Since(asked))
	if _, err := Client(t, c.Followers()...).Put(within(t), "load/after", "v"); err != nil {
		t.Error(err)
	}
	leader.CloseConn()
	c.Start(leader)
	c.AwaitReady()
	equal(t, c)
}

// A member that missed more than the others keep in their logs gets a snapshot and is equal again.
func TestCatchUp(t *testing.T) {
	c := start(t, "--snapshot-count", "200", "--snapshot-catchup-entries", "100")
	client := Client(t, c.Members...)
	behind := c.Followers()[0]
	behind.Kill()
	behind.CloseConn()
	var writes []acknowledged
	for n := range 3000 {
		key, value := fmt.Sprintf("load/%d", n%500), fmt.Sprint(n)
		reply, err := client.Put(within(t), key, value)
		if err != nil {
			t.Fatal(err)
		}
		if n >= 2500 {
			writes = append(writes, acknowledged{key, value, reply.Header.Revision})
		}
	}
	lease, err := client.Grant(within(t), 1000)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Put(within(t), "leased", "v", clientv3.WithLease(lease.ID)); err != nil {
		t.Fatal(err)
	}
	c.Start(behind)
	behind.AwaitReady()
	holdsAll(t, behind, writes)
	equal(t, c)
	reply, err := Client(t, behind).TimeToLive(within(t), lease.ID, clientv3.WithAttachedKeys())
	if err != nil || reply.GrantedTTL != 1000 || len(reply.Keys) != 1 {
		t.Errorf("the lease on the member that caught up: %+v, %v", reply, err)
	}
	// And it keeps what it got.
	behind.Kill()
	behind.CloseConn()
	c.Start(behind)
	behind.AwaitReady()
	holdsAll(t, behind, writes)
	equal(t, c)
}

// Without a quorum nothing is acknowledged and own copies can be read; with it again everything goes on.
func TestLossOfQuorum(t *testing.T) {
	c := start(t)
	client := Client(t, c.Members...)
	if _, err := client.Put(within(t), "load/before", "v"); err != nil {
		t.Fatal(err)
	}
	alone := c.Leader()
	lost := c.Followers()
	for _, s := range lost {
		s.Kill()
		s.CloseConn()
	}
	kv := pb.NewKVClient(alone.Conn())
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if reply, err := kv.Put(ctx, &pb.PutRequest{Key: []byte("load/never"), Value: []byte("v")}); err == nil {
		t.Errorf("a write without a quorum was acknowledged: %v", reply)
	}
	Eventually(t, ReadyLimit, "own copy", func() error {
		_, err := kv.Range(within(t), &pb.RangeRequest{Key: []byte("load/before"), Serializable: true})
		return err
	})
	Eventually(t, ReadyLimit, "a bad health", func() error {
		if alone.Healthy() == nil {
			return errors.New("a member without a quorum says that it is healthy")
		}
		return nil
	})
	c.StartAll()
	c.AwaitReady()
	if _, err := client.Put(within(t), "load/again", "v"); err != nil {
		t.Error(err)
	}
	equal(t, c)
}
