// Package random sends the same requests, drawn from a seed, to real etcd and to our server and compares every reply.
//
// The seed is printed and replays the run: RANDOM_SEED=n RANDOM_COUNT=n. Both servers are killed and started again in
// between, so what is compared afterwards comes from disk.
package random

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	. "quorate/tests/harness"
)

const (
	// Fixed, so that two runs of the same commit differ in nothing; RANDOM_SEED=n looks further.
	seedDefault  = 1
	countDefault = 10_000
	restarts     = 3
)

func number(t *testing.T, variable string, fallback int64) int64 {
	text := os.Getenv(variable)
	if text == "" {
		return fallback
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

// chances leaves out what depends on the moment or on chance in etcd itself.
var chances = Identity.With(Scrub{"LeaseTimeToLiveResponse.TTL": Remaining, "LeaseTimeToLiveResponse.keys": Sorted})

// run is one pair of servers and the requests that they get.
type run struct {
	t    *testing.T
	pair *Pair
	g    *generator
	kind map[string]int
}

func TestRandom(t *testing.T) {
	seed := number(t, "RANDOM_SEED", seedDefault)
	count := number(t, "RANDOM_COUNT", countDefault)
	// To stdout, where it is seen also if the process is ended from outside.
	fmt.Printf("RANDOM_SEED=%d RANDOM_COUNT=%d\n", seed, count)
	r := &run{
		t:    t,
		pair: NewPair(t),
		g:    &generator{Rand: rand.New(rand.NewPCG(uint64(seed), 0)), head: 1},
		kind: map[string]int{},
	}
	for step := range count {
		if step > 0 && step%(count/(restarts+1)+1) == 0 {
			r.restart()
		}
		if asked, peer, ours := r.step(); peer != ours {
			t.Fatalf("RANDOM_SEED=%d step %d: %s\n  etcd: %s\n  ours: %s", seed, step, asked, peer, ours)
		}
	}
	r.restart()
	for _, request := range []*pb.RangeRequest{
		{Key: []byte{0}, RangeEnd: []byte{0}},
		{Key: []byte{0}, RangeEnd: []byte{0}, Revision: max(1, r.g.compacted)},
		{Key: []byte{0}, RangeEnd: []byte{0}, Revision: (r.g.compacted + r.g.head) / 2},
	} {
		if asked, peer, ours := unary(r, rangeCall, request); peer != ours {
			t.Fatalf("RANDOM_SEED=%d at the end: %s\n  etcd: %s\n  ours: %s", seed, asked, peer, ours)
		}
	}
	t.Logf("seed %d, head revision %d, compacted %d, requests %v", seed, r.g.head, r.g.compacted, r.kind)
}

func rangeCall(s *Side) func(context.Context, *pb.RangeRequest, ...grpc.CallOption) (*pb.RangeResponse, error) {
	return s.KV.Range
}

// both runs something on each side at the same time.
func (r *run) both(what func(s *Side) string) (peer, ours string) {
	var wait sync.WaitGroup
	wait.Go(func() { peer = what(r.pair.Peer) })
	wait.Go(func() { ours = what(r.pair.Ours) })
	wait.Wait()
	return peer, ours
}

func (r *run) restart() {
	for _, side := range []**Side{&r.pair.Peer, &r.pair.Ours} {
		server := (*side).Server
		server.CloseConn()
		server.Kill()
		server.Start("", "new")
		server.AwaitReady()
		*side = NewSide(server)
	}
	r.kind["restart"]++
}

// unary sends one request to both and shows what came back; the generator learns the head revision from it.
func unary[Request, Reply proto.Message](
	r *run, of func(*Side) func(context.Context, Request, ...grpc.CallOption) (Reply, error), request Request,
) (asked, peer, ours string) {
	asked = Name(request) + Render(request, nil)
	r.kind[Name(request)]++
	var head int64
	peer, ours = r.both(func(s *Side) string {
		ctx, cancel := s.Context()
		defer cancel()
		reply, err := of(s)(ctx, request)
		if err != nil {
			return RenderError(err)
		}
		if with, ok := any(reply).(interface{ GetHeader() *pb.ResponseHeader }); ok && s == r.pair.Peer {
			head = with.GetHeader().GetRevision()
		}
		return Render(reply, chances)
	})
	r.g.head = max(r.g.head, head)
	return asked, peer, ours
}

func (r *run) step() (asked, peer, ours string) {
	g := r.g
	switch n := g.IntN(1000); {
	case n < 350:
		return unary(r, func(s *Side) func(context.Context, *pb.PutRequest, ...grpc.CallOption) (*pb.PutResponse, error) {
			return s.KV.Put
		}, g.put())
	case n < 600:
		return unary(r, rangeCall, g.rangeRequest())
	case n < 660:
		return unary(r, func(s *Side) func(context.Context, *pb.DeleteRangeRequest, ...grpc.CallOption) (*pb.DeleteRangeResponse, error) {
			return s.KV.DeleteRange
		}, g.deleteRange())
	case n < 860:
		return unary(r, func(s *Side) func(context.Context, *pb.TxnRequest, ...grpc.CallOption) (*pb.TxnResponse, error) {
			return s.KV.Txn
		}, g.txn(3))
	case n < 885:
		id := 1 + g.Int64N(leases)
		return unary(r, func(s *Side) func(context.Context, *pb.LeaseGrantRequest, ...grpc.CallOption) (*pb.LeaseGrantResponse, error) {
			return s.Lease.LeaseGrant
		}, &pb.LeaseGrantRequest{ID: id, TTL: id * 10_000})
	case n < 895:
		return unary(r, func(s *Side) func(context.Context, *pb.LeaseRevokeRequest, ...grpc.CallOption) (*pb.LeaseRevokeResponse, error) {
			return s.Lease.LeaseRevoke
		}, &pb.LeaseRevokeRequest{ID: g.lease()})
	case n < 910:
		return unary(r, func(s *Side) func(context.Context, *pb.LeaseTimeToLiveRequest, ...grpc.CallOption) (*pb.LeaseTimeToLiveResponse, error) {
			return s.Lease.LeaseTimeToLive
		}, &pb.LeaseTimeToLiveRequest{ID: g.lease(), Keys: g.chance(70)})
	case n < 915:
		return unary(r, func(s *Side) func(context.Context, *pb.LeaseLeasesRequest, ...grpc.CallOption) (*pb.LeaseLeasesResponse, error) {
			return s.Lease.LeaseLeases
		}, &pb.LeaseLeasesRequest{})
	case n < 925:
		return r.keepAlive(g.lease())
	case n < 935:
		return r.compact()
	case n < 955:
		request := &pb.HashKVRequest{}
		if g.chance(70) {
			request.Revision = g.revision()
		}
		return unary(r, func(s *Side) func(context.Context, *pb.HashKVRequest, ...grpc.CallOption) (*pb.HashKVResponse, error) {
			return s.Maintenance.HashKV
		}, request)
	case n < 970:
		return r.stream(g.rangeRequest())
	}
	return r.watch(g.watch())
}

func (r *run) compact() (asked, peer, ours string) {
	// Physical, which waits for etcd's own job: until that has ended HashKV's compact revision, and after two jobs at once
	// HashKV's number, depend on etcd's timing. Compactions that do not wait are compared in the conformance tests.
	request := &pb.CompactionRequest{Revision: r.g.compacted + r.g.Int64N((r.g.head-r.g.compacted)/2+2), Physical: true}
	if r.g.chance(20) {
		request.Revision = r.g.revision()
	}
	asked, peer, ours = unary(r, func(s *Side) func(context.Context, *pb.CompactionRequest, ...grpc.CallOption) (*pb.CompactionResponse, error) {
		return s.KV.Compact
	}, request)
	if strings.HasPrefix(peer, "{") {
		r.g.compacted = max(r.g.compacted, request.Revision)
	}
	return asked, peer, ours
}

func (r *run) keepAlive(id int64) (asked, peer, ours string) {
	r.kind["LeaseKeepAlive"]++
	peer, ours = r.both(func(s *Side) string {
		ctx, cancel := s.Context()
		defer cancel()
		stream, err := s.Lease.LeaseKeepAlive(ctx)
		if err == nil {
			err = stream.Send(&pb.LeaseKeepAliveRequest{ID: id})
		}
		if err != nil {
			return RenderError(err)
		}
		reply, err := stream.Recv()
		if err != nil {
			return RenderError(err)
		}
		return Render(reply, chances)
	})
	return fmt.Sprintf("LeaseKeepAlive{%d}", id), peer, ours
}

func (r *run) stream(request *pb.RangeRequest) (asked, peer, ours string) {
	r.kind["RangeStream"]++
	if request.SortOrder == pb.RangeRequest_NONE {
		// Sorted otherwise than by key, but without an order, etcd's pieces overlap: its count is too high.
		request.SortTarget = pb.RangeRequest_KEY
	}
	peer, ours = r.both(func(s *Side) string {
		ctx, cancel := s.Context()
		defer cancel()
		joined := &pb.RangeResponse{}
		stream, err := s.KV.RangeStream(ctx, request)
		for err == nil {
			var part *pb.RangeStreamResponse
			if part, err = stream.Recv(); err == nil {
				proto.Merge(joined, part.RangeResponse)
			}
		}
		if err != io.EOF {
			return RenderError(err)
		}
		return Render(joined, chances)
	})
	return "RangeStream" + Render(request, nil), peer, ours
}

// watch looks back from the head: it reads events until the one of a write that it makes itself after the creation.
func (r *run) watch(request *pb.WatchCreateRequest) (asked, peer, ours string) {
	r.kind["Watch"]++
	onlyDeletes := len(request.Filters) > 0 && request.Filters[0] == pb.WatchCreateRequest_NOPUT
	mark := request.Key
	if len(mark) == 0 {
		mark = []byte{0} // an empty key watches from the first key on
	}
	var head int64
	peer, ours = r.both(func(s *Side) string {
		ctx, cancel := s.Context()
		defer cancel()
		stream, err := s.Watch.Watch(ctx)
		if err == nil {
			err = stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: request}})
		}
		if err != nil {
			return RenderError(err)
		}
		created, err := stream.Recv()
		if err != nil {
			return RenderError(err)
		}
		shown := []string{Render(created, chances)}
		if created.Canceled {
			return shown[0]
		}
		put, err := s.KV.Put(ctx, &pb.PutRequest{Key: mark, Value: []byte("mark")})
		if err != nil {
			return RenderError(err)
		}
		last := put.Header.Revision
		if onlyDeletes {
			deleted, err := s.KV.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: mark})
			if err != nil {
				return RenderError(err)
			}
			last = deleted.Header.Revision
		}
		if s == r.pair.Peer {
			head = last
		}
		for seen := int64(0); seen < last; {
			response, err := stream.Recv()
			if err != nil {
				return strings.Join(append(shown, RenderError(err)), "\n    ")
			}
			if len(response.Events) == 0 {
				shown = append(shown, Render(response, chances.With(Scrub{"ResponseHeader.revision": Presence})))
				if response.Canceled {
					break
				}
			}
			for _, event := range response.Events {
				seen = event.Kv.ModRevision
				shown = append(shown, Render(event, chances))
			}
		}
		return strings.Join(shown, "\n    ")
	})
	r.g.head = max(r.g.head, head)
	return "Watch" + Render(request, nil), peer, ours
}
