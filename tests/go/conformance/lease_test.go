package conformance

import (
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	. "quorate/tests/harness"
)

// leaseTimes leaves out what is a matter of the moment (a rest of life) and of chance (etcd lists keys unsorted).
var leaseTimes = Identity.With(Scrub{"LeaseTimeToLiveResponse.TTL": Remaining, "LeaseTimeToLiveResponse.keys": Sorted})

func timeToLive(s *Side, id int64, keys bool) {
	DoScrubbed(s, leaseTimes, s.Lease.LeaseTimeToLive, &pb.LeaseTimeToLiveRequest{ID: id, Keys: keys})
}

func keepAlive(t *testing.T, s *Side, ids ...int64) {
	ctx, cancel := s.Context()
	defer cancel()
	stream, err := s.Lease.LeaseKeepAlive(ctx)
	Must(t, err)
	for _, id := range ids {
		Must(t, stream.Send(&pb.LeaseKeepAliveRequest{ID: id}))
		reply, err := stream.Recv()
		if err != nil {
			s.Note(fmt.Sprintf("keep alive %d", id), RenderError(err))
			return
		}
		s.Note(fmt.Sprintf("keep alive %d", id), Render(reply, s.Scrub))
	}
	Must(t, stream.CloseSend())
	_, err = stream.Recv()
	s.Note("after the stream's end", fmt.Sprint(err == io.EOF, err))
}

func TestLease(t *testing.T) {
	pair := NewPair(t)
	pair.Each(t, []Script{
		{"grant", func(_ *testing.T, s *Side) {
			for id, ttl := range []int64{1, 2, 3, 5, 100, 0, -1, -1 << 62, 8_999_999_999, 9_000_000_000, 9_000_000_001, 1 << 62} {
				Do(s, s.Lease.LeaseGrant, &pb.LeaseGrantRequest{ID: int64(1000 + id), TTL: ttl})
			}
			Do(s, s.Lease.LeaseGrant, &pb.LeaseGrantRequest{ID: 1004, TTL: 100})
			Do(s, s.Lease.LeaseGrant, &pb.LeaseGrantRequest{ID: 1004, TTL: 1 << 62})
			Do(s, s.Lease.LeaseGrant, &pb.LeaseGrantRequest{ID: -7, TTL: 100})
			Do(s, s.Lease.LeaseGrant, &pb.LeaseGrantRequest{ID: 1<<63 - 1, TTL: 100})
			DoScrubbed(s, Identity.With(Scrub{"LeaseGrantResponse.ID": Presence}), s.Lease.LeaseGrant, &pb.LeaseGrantRequest{TTL: 100})
			Do(s, s.KV.Range, get("a"))
		}},
		{"time to live", func(_ *testing.T, s *Side) {
			timeToLive(s, 1004, false)
			timeToLive(s, 1004, true)
			timeToLive(s, 1008, true)
			timeToLive(s, -7, true)
			timeToLive(s, 0, true)
			timeToLive(s, 4711, true)
			timeToLive(s, -4711, false)
		}},
		{"keys", func(_ *testing.T, s *Side) {
			for _, key := range []string{"z", "a", "m", "a\x00"} {
				Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf(key), Value: bytesOf("v"), Lease: 1004})
			}
			timeToLive(s, 1004, true)
			Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf("m"), Value: bytesOf("v")})
			Do(s, s.KV.DeleteRange, &pb.DeleteRangeRequest{Key: bytesOf("a")})
			timeToLive(s, 1004, true)
			Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf("z"), Value: bytesOf("v"), Lease: -7})
			timeToLive(s, 1004, true)
			timeToLive(s, -7, true)
			Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf("z"), Value: bytesOf("w"), IgnoreLease: true})
			timeToLive(s, -7, true)
		}},
		{"revoke", func(_ *testing.T, s *Side) {
			Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf("b"), Value: bytesOf("v"), Lease: 1004})
			Do(s, s.Lease.LeaseRevoke, &pb.LeaseRevokeRequest{ID: 1004})
			Do(s, s.Lease.LeaseRevoke, &pb.LeaseRevokeRequest{ID: 1004})
			Do(s, s.Lease.LeaseRevoke, &pb.LeaseRevokeRequest{})
			Do(s, s.Lease.LeaseRevoke, &pb.LeaseRevokeRequest{ID: 1008})
			Do(s, s.KV.Range, all())
			timeToLive(s, 1004, true)
			timeToLive(s, -7, true)
			Do(s, s.Lease.LeaseGrant, &pb.LeaseGrantRequest{ID: 1004, TTL: 100})
			timeToLive(s, 1004, true)
		}},
		{"keep alive", func(t *testing.T, s *Side) {
			keepAlive(t, s, -7, 1004, 4711, 0, -7)
			keepAlive(t, s)
		}},
	})
}

func TestLeaseList(t *testing.T) {
	pair := NewPair(t)
	pair.Both(t, func(_ *testing.T, s *Side) {
		Do(s, s.Lease.LeaseLeases, &pb.LeaseLeasesRequest{})
		for _, id := range []int64{5, 3, 9, 1} {
			Do(s, s.Lease.LeaseGrant, &pb.LeaseGrantRequest{ID: id, TTL: 1000 * (10 - id)})
		}
		Do(s, s.Lease.LeaseLeases, &pb.LeaseLeasesRequest{})
		Do(s, s.Lease.LeaseRevoke, &pb.LeaseRevokeRequest{ID: 3})
		Do(s, s.Lease.LeaseLeases, &pb.LeaseLeasesRequest{})
	})
}

// A lease ends by itself no earlier than its TTL and soon after, and its keys go with it in one revision.
func TestLeaseExpiry(t *testing.T) {
	pair := NewPair(t)
	pair.Both(t, func(t *testing.T, s *Side) {
		Do(s, s.Lease.LeaseGrant, &pb.LeaseGrantRequest{ID: 1, TTL: 1})
		Do(s, s.Lease.LeaseGrant, &pb.LeaseGrantRequest{ID: 2, TTL: 1000})
		granted := time.Now()
		Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf("b"), Value: bytesOf("v"), Lease: 1})
		Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf("a"), Value: bytesOf("v"), Lease: 1})
		Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf("c"), Value: bytesOf("v"), Lease: 2})
		w := openWatch(t, s)
		w.create(watchSpan("\x00", "\x00", 0))
		w.control("create")
		w.events("expired", 0, 2)
		if lived := time.Since(granted); lived < 1900*time.Millisecond || lived > 6*time.Second {
			t.Errorf("%s: a lease of 2 s lived %s", s.Server.Name, lived)
		}
		timeToLive(s, 1, true)
		keepAlive(t, s, 1)
		Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf("d"), Value: bytesOf("v"), Lease: 1})
		Do(s, s.KV.Range, all())
	})
}

// A kept lease outlives its TTL; one that is kept no longer ends.
func TestLeaseKeptAlive(t *testing.T) {
	pair := NewPair(t)
	pair.Both(t, func(t *testing.T, s *Side) {
		Do(s, s.Lease.LeaseGrant, &pb.LeaseGrantRequest{ID: 1, TTL: 2})
		Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf("kept"), Value: bytesOf("v"), Lease: 1})
		ctx, cancel := context.WithTimeout(context.Background(), CallLimit)
		defer cancel()
		stream, err := s.Lease.LeaseKeepAlive(ctx)
		Must(t, err)
		tick := time.NewTicker(400 * time.Millisecond)
		defer tick.Stop()
		for range 10 {
			<-tick.C
			Must(t, stream.Send(&pb.LeaseKeepAliveRequest{ID: 1}))
			reply, err := stream.Recv()
			Must(t, err)
			if reply.TTL != 2 {
				t.Errorf("%s: keep-alive gave TTL %d", s.Server.Name, reply.TTL)
			}
		}
		Do(s, s.KV.Range, get("kept"))
		w := openWatch(t, s)
		w.create(watchKey("kept"))
		w.control("create")
		w.events("ended", 0, 1)
	})
}

// TestLeaseIsKnownWhenGranted asks for each lease as soon as its grant was answered.
func TestLeaseIsKnownWhenGranted(t *testing.T) {
	p := NewPair(t)
	for _, side := range []*Side{p.Ours, p.Peer} {
		lease := pb.NewLeaseClient(side.Server.Conn())
		var wait sync.WaitGroup
		for range 4 {
			wait.Go(func() {
				for range 500 {
					ctx, cancel := context.WithTimeout(context.Background(), CallLimit)
					granted, err := lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{TTL: 60})
					if err != nil {
						cancel()
						t.Error(err)
						return
					}
					left, err := lease.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: granted.ID})
					cancel()
					if err != nil || left.TTL < 1 || left.GrantedTTL != 60 {
						t.Errorf("%s: a lease just granted: %v, %v", side.Server.Name, left, err)
						return
					}
				}
			})
		}
		wait.Wait()
	}
}
