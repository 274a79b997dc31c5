package conformance

import (
	"context"
	"fmt"
	"testing"
	"time"

	electionpb "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	lockpb "go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	. "quorate/tests/harness"
)

// Locks and elections as the server offers them: names of keys, who holds, who waits, and the words of every refusal.
func TestLocksAndElections(t *testing.T) {
	pair := NewPair(t)
	pair.Both(t, func(t *testing.T, s *Side) {
		locks, elections := lockpb.NewLockClient(s.Server.Conn()), electionpb.NewElectionClient(s.Server.Conn())
		for id := range int64(4) {
			Do(s, s.Lease.LeaseGrant, &pb.LeaseGrantRequest{ID: 0x1230 + id, TTL: 1000})
		}
		lock := func(name string, lease int64) {
			Do(s, locks.Lock, &lockpb.LockRequest{Name: bytesOf(name), Lease: lease})
		}
		lock("l", 0x1230)
		lock("l", 0x1230) // the same lease holds it already
		lock("", 0x1230)
		lock("l", 0x9999)
		lock("other", 0x1230)
		Do(s, s.KV.Range, span("l", "m"))
		// Those who wait come in the order of their arrival; who gives up leaves no key.
		giveUp, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		_, err := locks.Lock(giveUp, &lockpb.LockRequest{Name: bytesOf("l"), Lease: 0x1231})
		cancel()
		s.Note("gave up", RenderError(err))
		Eventually(t, ReadyLimit, "the key of who gave up", func() error {
			ctx, cancel := s.Context()
			defer cancel()
			reply, err := s.KV.Range(ctx, span("l/", "l0"))
			if err == nil && reply.Count != 1 {
				err = Wanted("%d keys", reply.Count)
			}
			return err
		})
		held := make(chan string, 2)
		waiting := func(lease int64, count int64) {
			go func() {
				ctx, cancel := s.Context()
				defer cancel()
				reply, err := locks.Lock(ctx, &lockpb.LockRequest{Name: bytesOf("l"), Lease: lease})
				held <- fmt.Sprint(string(reply.GetKey()), err)
			}()
			Eventually(t, ReadyLimit, "the waiter's key", func() error {
				ctx, cancel := s.Context()
				defer cancel()
				reply, err := s.KV.Range(ctx, span("l/", "l0"))
				if err == nil && reply.Count != count {
					err = Wanted("%d keys", reply.Count)
				}
				return err
			})
		}
		waiting(0x1232, 2)
		waiting(0x1231, 3)
		Do(s, locks.Unlock, &lockpb.UnlockRequest{Key: bytesOf("l/1230")})
		s.Note("next", <-held)
		// A holder whose lease ends makes room.
		Do(s, s.Lease.LeaseRevoke, &pb.LeaseRevokeRequest{ID: 0x1232})
		s.Note("and next", <-held)
		Do(s, locks.Unlock, &lockpb.UnlockRequest{Key: bytesOf("nosuch")})
		Do(s, locks.Unlock, &lockpb.UnlockRequest{})

		name := bytesOf("e")
		Do(s, elections.Leader, &electionpb.LeaderRequest{Name: name})
		elected, err := Do(s, elections.Campaign, &electionpb.CampaignRequest{Name: name, Lease: 0x1230, Value: bytesOf("v")})
		Must(t, err)
		Do(s, elections.Campaign, &electionpb.CampaignRequest{Name: name, Lease: 0x1230, Value: bytesOf("w")})
		Do(s, elections.Campaign, &electionpb.CampaignRequest{Name: name, Lease: 0x9999, Value: bytesOf("w")})
		Do(s, elections.Leader, &electionpb.LeaderRequest{Name: name})
		Do(s, elections.Proclaim, &electionpb.ProclaimRequest{Leader: elected.Leader, Value: bytesOf("x")})
		Do(s, elections.Proclaim, &electionpb.ProclaimRequest{Value: bytesOf("x")})
		Do(s, elections.Proclaim, &electionpb.ProclaimRequest{Leader: &electionpb.LeaderKey{Name: name, Key: bytesOf("e/1231"), Rev: 3, Lease: 0x1231}, Value: bytesOf("x")})
		ctx, cancel := s.Context()
		defer cancel()
		observing, err := elections.Observe(ctx, &electionpb.LeaderRequest{Name: name})
		Must(t, err)
		observe := func() {
			reply, err := observing.Recv()
			Must(t, err)
			s.Note("observed", Render(reply, s.Scrub))
		}
		observe()
		Do(s, elections.Proclaim, &electionpb.ProclaimRequest{Leader: elected.Leader, Value: bytesOf("y")})
		observe()
		Do(s, elections.Resign, &electionpb.ResignRequest{Leader: elected.Leader})
		Do(s, elections.Resign, &electionpb.ResignRequest{Leader: elected.Leader})
		Do(s, elections.Resign, &electionpb.ResignRequest{})
		Do(s, elections.Leader, &electionpb.LeaderRequest{Name: name})
		_, err = Do(s, elections.Campaign, &electionpb.CampaignRequest{Name: name, Lease: 0x1231, Value: bytesOf("z")})
		Must(t, err)
		observe()
		Do(s, s.KV.Range, &pb.RangeRequest{Key: bytesOf("e/"), RangeEnd: bytesOf("e0"), SortTarget: pb.RangeRequest_KEY})
	})
}
