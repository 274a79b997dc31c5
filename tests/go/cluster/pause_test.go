package cluster

import (
	"context"
	"sync"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	. "quorate/tests/harness"
)

// A leader that was paused while another one was elected tells nothing old when it goes on, and keeps no lease alive that
// ended meanwhile: whatever it was asked waits in its sockets until it wakes.
func TestAPausedLeaderTellsNothingOld(t *testing.T) {
	c := start(t)
	leader, followers := c.Leader(), c.Followers()
	client := Client(t, followers...)
	if _, err := client.Put(within(t), "k", "old"); err != nil {
		t.Fatal(err)
	}
	old := pb.NewKVClient(leader.Conn())
	leases := pb.NewLeaseClient(leader.Conn())
	granted, err := leases.LeaseGrant(within(t), &pb.LeaseGrantRequest{TTL: 2})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := old.Put(within(t), &pb.PutRequest{Key: []byte("held"), Value: []byte("v"), Lease: granted.ID}); err != nil {
		t.Fatal(err)
	}
	renewals, err := leases.LeaseKeepAlive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	leader.Signal(syscall.SIGSTOP)
	t.Cleanup(func() { leader.Signal(syscall.SIGCONT) })

	ctx, cancel := context.WithTimeout(t.Context(), ReadyLimit)
	defer cancel()
	type read struct {
		reply *pb.RangeResponse
		err   error
	}
	const readers = 20
	reads := make(chan read, readers)
	var asked sync.WaitGroup
	for range readers {
		asked.Add(1)
		go func() {
			asked.Done()
			reply, err := old.Range(ctx, &pb.RangeRequest{Key: []byte("k")})
			reads <- read{reply, err}
		}()
	}
	asked.Wait()
	Eventually(t, ReadyLimit, "a write through another leader", func() error {
		call, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := client.Put(call, "k", "new")
		return err
	})
	Eventually(t, ReadyLimit, "the end of the lease", func() error {
		reply, err := client.Get(within(t), "held")
		if err == nil && len(reply.Kvs) > 0 {
			err = Wanted("%v", reply.Kvs)
		}
		return err
	})
	if err := renewals.Send(&pb.LeaseKeepAliveRequest{ID: granted.ID}); err != nil {
		t.Fatal(err)
	}
	leader.Signal(syscall.SIGCONT)
	for range readers {
		read := <-reads
		if read.err == nil && string(read.reply.Kvs[0].Value) != "new" {
			t.Errorf("a linearizable read through the old leader gives %v", read.reply.Kvs)
		}
	}
	if renewed, err := renewals.Recv(); err == nil && renewed.TTL > 0 {
		t.Errorf("the old leader prolongs a lease that ended: %v", renewed)
	}
	Eventually(t, ReadyLimit, "the old leader as a follower", func() error {
		reply, err := old.Range(within(t), &pb.RangeRequest{Key: []byte("k")})
		if err != nil {
			return err
		}
		if string(reply.Kvs[0].Value) != "new" {
			t.Errorf("it serves %v", reply.Kvs)
		}
		return nil
	})
	equal(t, c)
}

// A leader that reaches no quorum stops leading, and says so to those who require a leader.
func TestALeaderWithoutAQuorumStepsDown(t *testing.T) {
	c := start(t)
	leader, followers := c.Leader(), c.Followers()
	for _, s := range followers {
		s.Signal(syscall.SIGSTOP)
		t.Cleanup(func() { s.Signal(syscall.SIGCONT) })
	}
	Eventually(t, ReadyLimit, "the end of its lead", func() error {
		status, err := leader.Status()
		if err == nil && status.Leader != 0 {
			err = Wanted("leader %x", status.Leader)
		}
		return err
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if reply, err := pb.NewKVClient(leader.Conn()).Range(ctx, &pb.RangeRequest{Key: []byte("k")}); err == nil {
		t.Errorf("it reads %v without a quorum", reply)
	}
	if _, err := pb.NewKVClient(leader.Conn()).Range(within(t), &pb.RangeRequest{Key: []byte("k"), Serializable: true}); err != nil {
		t.Errorf("a serializable read: %v", err)
	}
	for _, s := range followers {
		s.Signal(syscall.SIGCONT)
	}
	Eventually(t, ReadyLimit, "a leader again", func() error {
		_, err := Client(t, c.Members...).Put(within(t), "k", "v")
		return err
	})
	equal(t, c)
}
