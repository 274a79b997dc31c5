package conformance

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	. "quorate/tests/harness"
)

// watcher is one watch stream of a side; what arrives is kept in order.
type watcher struct {
	t        *testing.T
	s        *Side
	stream   pb.Watch_WatchClient
	arrived  chan *pb.WatchResponse
	end      chan error
	received []*pb.WatchResponse
}

func openWatch(t *testing.T, s *Side) *watcher {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	stream, err := s.Watch.Watch(ctx)
	Must(t, err)
	w := &watcher{t: t, s: s, stream: stream, arrived: make(chan *pb.WatchResponse, 1000), end: make(chan error, 1)}
	go func() {
		for {
			response, err := stream.Recv()
			if err != nil {
				w.end <- err
				return
			}
			w.arrived <- response
		}
	}()
	return w
}

func (w *watcher) create(request *pb.WatchCreateRequest) {
	Must(w.t, w.stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: request}}))
}

func (w *watcher) cancel(id int64) {
	Must(w.t, w.stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}}))
}

func (w *watcher) progress() {
	Must(w.t, w.stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}))
}

// next waits for one response.
func (w *watcher) next() *pb.WatchResponse {
	select {
	case response := <-w.arrived:
		w.received = append(w.received, response)
		return response
	case err := <-w.end:
		w.t.Errorf("%s: the watch stream ended: %v", w.s.Server.Name, err)
		w.end <- err
	case <-time.After(CallLimit):
		w.t.Errorf("%s: no watch response within %s", w.s.Server.Name, CallLimit)
	}
	Must(w.t, fmt.Errorf("received so far: %v", w.received))
	return nil
}

// control waits for one response that carries no event, and records it whole.
func (w *watcher) control(what string) *pb.WatchResponse {
	response := w.next()
	w.s.Note(what, Render(response, w.s.Scrub))
	return response
}

// events waits for count events of one watcher and records them. How many responses they come in and which head
// revision those name is timing, not meaning; one revision's events must share a response unless it is a fragment.
func (w *watcher) events(what string, id int64, count int) {
	var shown []string
	last := int64(0)
	for len(shown) < count {
		response := w.next()
		if response.WatchId != id || len(response.Events) == 0 {
			shown = append(shown, "unexpected "+Render(response, w.s.Scrub))
			break
		}
		if response.Header.Revision < response.Events[len(response.Events)-1].Kv.ModRevision {
			w.t.Errorf("%s: header revision %d is below an event's", what, response.Header.Revision)
		}
		if first := response.Events[0].Kv.ModRevision; first == last {
			w.t.Errorf("%s: events of revision %d are split over two responses", what, first)
		}
		last = response.Events[len(response.Events)-1].Kv.ModRevision
		for _, event := range response.Events {
			shown = append(shown, Render(event, w.s.Scrub))
		}
	}
	w.s.Note(what, strings.Join(shown, "\n    "))
}

// quiet proves that nothing else comes: what a progress request answers next is its own response.
func (w *watcher) quiet(what string) {
	w.progress()
	w.control(what + ": then progress")
}

func watchKey(key string) *pb.WatchCreateRequest { return &pb.WatchCreateRequest{Key: bytesOf(key)} }

func watchSpan(key, end string, start int64) *pb.WatchCreateRequest {
	return &pb.WatchCreateRequest{Key: bytesOf(key), RangeEnd: bytesOf(end), StartRevision: start}
}

func write(t *testing.T, s *Side, key, value string) int64 {
	ctx, cancel := s.Context()
	defer cancel()
	reply, err := s.KV.Put(ctx, put(key, value))
	Must(t, err)
	return reply.Header.Revision
}

func TestWatch(t *testing.T) {
	pair := NewPair(t)
	pair.Each(t, []Script{
		{"live", func(t *testing.T, s *Side) {
			seed(s)
			w := openWatch(t, s)
			w.create(watchKey("a"))
			w.control("create")
			write(t, s, "a", "live 1")
			w.events("first", 0, 1)
			write(t, s, "other", "x")
			write(t, s, "a", "live 2")
			w.events("second", 0, 1)
			Do(s, s.KV.DeleteRange, &pb.DeleteRangeRequest{Key: bytesOf("a")})
			w.events("delete", 0, 1)
			Do(s, s.KV.DeleteRange, &pb.DeleteRangeRequest{Key: bytesOf("a")})
			w.quiet("after the delete of nothing")
		}},
		{"from a past revision", func(t *testing.T, s *Side) {
			for _, c := range []struct {
				start int64
				count int
			}{{1, 15}, {2, 15}, {9, 8}, {13, 5}} {
				w := openWatch(t, s)
				w.create(watchSpan("\x00", "e", c.start))
				w.control("create")
				w.events(fmt.Sprintf("from %d", c.start), 0, c.count)
			}
		}},
		{"from a future revision", func(t *testing.T, s *Side) {
			head := write(t, s, "f", "before")
			w := openWatch(t, s)
			w.create(&pb.WatchCreateRequest{Key: bytesOf("f"), StartRevision: head + 3})
			w.control("create")
			for i := range 4 {
				write(t, s, "f", fmt.Sprint(i))
			}
			w.events("events", 0, 2)
			w.quiet("future")
		}},
		{"previous values", func(t *testing.T, s *Side) {
			w := openWatch(t, s)
			r := watchSpan("p", "q", 0)
			r.PrevKv = true
			w.create(r)
			w.control("create")
			write(t, s, "p1", "1")
			w.events("new key", 0, 1)
			start := write(t, s, "p1", "2")
			w.events("overwritten", 0, 1)
			Do(s, s.KV.DeleteRange, &pb.DeleteRangeRequest{Key: bytesOf("p1")})
			w.events("deleted", 0, 1)
			write(t, s, "p1", "3")
			w.events("created again", 0, 1)
			late := openWatch(t, s)
			r.StartRevision = start
			late.create(r)
			late.control("create late")
			late.events("late", 0, 3)
		}},
		{"filters", func(t *testing.T, s *Side) {
			for _, filters := range [][]pb.WatchCreateRequest_FilterType{{0}, {1}, {0, 1}, {0, 0}, {7}} {
				w := openWatch(t, s)
				r := watchSpan("fl", "fm", 0)
				r.Filters = filters
				w.create(r)
				w.control("create")
				write(t, s, "fl", "v")
				Do(s, s.KV.DeleteRange, &pb.DeleteRangeRequest{Key: bytesOf("fl")})
				count := 1
				if len(filters) == 2 && filters[1] == 1 {
					count = 0
				} else if filters[0] == 7 {
					count = 2
				}
				w.events("filtered", 0, count)
				w.quiet("filtered")
			}
		}},
		{"ids", func(t *testing.T, s *Side) {
			w := openWatch(t, s)
			for _, id := range []int64{0, 0, 7, 7, 0, 1, -1, -5, 3, 0, 0} {
				r := watchKey("ids")
				r.WatchId = id
				w.create(r)
				w.control(fmt.Sprintf("create %d", id))
			}
			for _, id := range []int64{7, 0} {
				w.cancel(id)
				w.control(fmt.Sprintf("cancel %d", id))
			}
			w.cancel(7)
			w.cancel(4711)
			r := watchKey("ids")
			r.WatchId = 7
			w.create(r)
			w.control("create 7 again")
		}},
		{"bad requests", func(t *testing.T, s *Side) {
			w := openWatch(t, s)
			for _, r := range []*pb.WatchCreateRequest{
				watchSpan("b", "a", 0), watchSpan("b", "b", 0), {}, {RangeEnd: bytesOf("z")}, watchSpan("b", "\x00", 0),
				watchSpan("", "\x00", 0), {Key: bytesOf("b"), StartRevision: -1}, {Key: bytesOf("b"), StartRevision: -1000},
			} {
				w.create(r)
				w.control(Render(r, nil))
			}
			Must(t, w.stream.Send(&pb.WatchRequest{}))
			w.create(watchKey("b"))
			w.control("create after an empty request")
		}},
		{"one transaction, one response", func(t *testing.T, s *Side) {
			write(t, s, "tx/old", "1")
			w := openWatch(t, s)
			r := watchSpan("tx/", "tx0", 0)
			r.PrevKv = true
			w.create(r)
			w.control("create")
			start := write(t, s, "tx/a", "0")
			w.events("put", 0, 1)
			Do(s, s.KV.Txn, succeed(opPut("tx/c", "1"), opPut("tx/a", "2"), opDelete("tx/old", ""), opPut("unseen", "x"), opTxn(succeed(opPut("tx/b", "3")))))
			w.events("txn", 0, 4)
			Do(s, s.KV.DeleteRange, &pb.DeleteRangeRequest{Key: bytesOf("tx/"), RangeEnd: bytesOf("tx0")})
			w.events("range delete", 0, 3)
			late := openWatch(t, s)
			r.StartRevision = start
			late.create(r)
			late.control("create late")
			late.events("late", 0, 8)
		}},
		{"several watches on a stream", func(t *testing.T, s *Side) {
			w := openWatch(t, s)
			w.create(watchKey("m"))
			w.control("first")
			w.create(watchSpan("n", "o", 0))
			w.control("second")
			write(t, s, "m", "1")
			w.events("first's", 0, 1)
			write(t, s, "n1", "1")
			w.events("second's", 1, 1)
			w.cancel(0)
			w.control("cancel")
			write(t, s, "m", "2")
			write(t, s, "n1", "2")
			w.events("second's again", 1, 1)
			w.quiet("cancelled")
		}},
		{"lease's end", func(t *testing.T, s *Side) {
			Do(s, s.Lease.LeaseGrant, &pb.LeaseGrantRequest{TTL: 1000, ID: 9})
			for _, key := range []string{"ls/c", "ls/a", "ls/b"} {
				Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf(key), Value: bytesOf("v"), Lease: 9})
			}
			w := openWatch(t, s)
			w.create(watchSpan("ls/", "ls0", 0))
			w.control("create")
			Do(s, s.Lease.LeaseRevoke, &pb.LeaseRevokeRequest{ID: 9})
			w.events("revoked", 0, 3)
		}},
		{"half closed", func(t *testing.T, s *Side) {
			w := openWatch(t, s)
			w.create(watchKey("h"))
			w.control("create")
			Must(t, w.stream.CloseSend())
			write(t, s, "h", "v")
			w.events("still served", 0, 1)
		}},
	})
}

func TestWatchCompacted(t *testing.T) {
	pair := NewPair(t)
	pair.Both(t, func(t *testing.T, s *Side) {
		seed(s)
		Do(s, s.KV.Compact, &pb.CompactionRequest{Revision: 10, Physical: true})
		for _, start := range []int64{1, 9} {
			w := openWatch(t, s)
			w.create(watchSpan("\x00", "\x00", start))
			w.control("create")
			w.control("compacted")
			w.create(watchKey("a"))
			w.control("the stream lives")
		}
		for _, start := range []int64{10, 11} {
			w := openWatch(t, s)
			w.create(watchSpan("\x00", "\x00", start))
			w.control("create")
			w.events("from the compacted revision on", 0, 16-int(start))
		}
	})
}

func TestWatchFragments(t *testing.T) {
	pair := NewPair(t)
	pair.Both(t, func(t *testing.T, s *Side) {
		w := openWatch(t, s)
		r := watchSpan("fr/", "fr0", 0)
		r.Fragment = true
		w.create(r)
		w.control("create")
		start := write(t, s, "fr/first", "x")
		w.events("first", 0, 1)
		value := strings.Repeat("v", 40_000)
		for i := range 60 {
			Do(s, s.KV.Put, put(fmt.Sprintf("fr/%02d", i), value))
		}
		w.events("puts", 0, 60)
		Do(s, s.KV.DeleteRange, &pb.DeleteRangeRequest{Key: bytesOf("fr/"), RangeEnd: bytesOf("fr0")})
		w.events("delete", 0, 61)
		// A late watcher gets more than a message can hold, and may get it in fragments: the last one is not marked.
		late := openWatch(t, s)
		r.StartRevision, r.PrevKv = start, true
		late.create(r)
		late.control("create late")
		count, fragments := 0, 0
		marked := false
		var revisions []string
		for count < 122 {
			response := late.next()
			count += len(response.Events)
			marked = response.Fragment
			if marked {
				fragments++
			}
			for _, event := range response.Events {
				revisions = append(revisions, fmt.Sprint(event.Kv.ModRevision, string(event.Kv.Key)))
			}
		}
		s.Note("late events", strings.Join(revisions, " "))
		s.Note("came in fragments, the last unmarked", fmt.Sprint(fragments > 0, !marked))
	})
}

func TestWatchProgress(t *testing.T) {
	pair := NewPair(t, "--watch-progress-notify-interval", "200ms")
	pair.Each(t, []Script{
		{"on request", func(t *testing.T, s *Side) {
			seed(s)
			w := openWatch(t, s)
			w.create(watchKey("a"))
			w.control("create")
			w.progress()
			w.control("progress")
			w.create(watchKey("b"))
			w.control("create another")
			w.progress()
			w.control("progress of both")
		}},
		{"by itself", func(t *testing.T, s *Side) {
			w := openWatch(t, s)
			r := watchKey("a")
			r.ProgressNotify = true
			w.create(r)
			w.control("create")
			w.control("first")
			w.control("second")
			write(t, s, "unrelated", "x")
			var response *pb.WatchResponse
			for response == nil || response.Header.Revision == w.received[0].Header.Revision {
				response = w.next()
			}
			s.Note("progress follows the head", Render(response, s.Scrub))
		}},
	})
}

func TestWatchOfManyKeys(t *testing.T) {
	pair := NewPair(t)
	pair.Both(t, func(t *testing.T, s *Side) {
		w := openWatch(t, s)
		w.create(watchSpan("\x00", "\x00", 0))
		w.control("create")
		for i := range 500 {
			write(t, s, fmt.Sprintf("k%d", i%37), fmt.Sprint(i))
		}
		w.events("live", 0, 500)
		late := openWatch(t, s)
		late.create(watchSpan("\x00", "\x00", 2))
		late.control("create late")
		late.events("late", 0, 500)
		single := openWatch(t, s)
		single.create(&pb.WatchCreateRequest{Key: bytesOf("k5"), StartRevision: 2})
		single.control("create single")
		single.events("single", 0, 14)
	})
}
