package conformance

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	. "quorate/tests/harness"
)

// collector takes spans as any OpenTelemetry collector does.
type collector struct {
	collectorpb.UnimplementedTraceServiceServer
	address string
	lock    sync.Mutex
	spans   []*tracepb.Span
}

func newCollector(t *testing.T) *collector {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{address: listener.Addr().String()}
	server := grpc.NewServer()
	collectorpb.RegisterTraceServiceServer(server, c)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return c
}

func (c *collector) Export(_ context.Context, request *collectorpb.ExportTraceServiceRequest) (*collectorpb.ExportTraceServiceResponse, error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	for _, resource := range request.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			c.spans = append(c.spans, scope.Spans...)
		}
	}
	return &collectorpb.ExportTraceServiceResponse{}, nil
}

// children are the spans of a trace by their parents' ids.
func (c *collector) children(trace string) map[string][]*tracepb.Span {
	c.lock.Lock()
	defer c.lock.Unlock()
	found := map[string][]*tracepb.Span{}
	for _, span := range c.spans {
		if hex.EncodeToString(span.TraceId) == trace {
			parent := hex.EncodeToString(span.ParentSpanId)
			found[parent] = append(found[parent], span)
		}
	}
	return found
}

// A sampled call's span, what etcd names beneath it, and where its time goes.
func TestSpans(t *testing.T) {
	collectors := map[*Server]*collector{}
	pair := NewPairOf(t, func(s *Server) {
		collectors[s] = newCollector(t)
		s.AddFlags("--enable-distributed-tracing", "--distributed-tracing-address="+collectors[s].address)
	})
	const caller = "b7ad6b7169203331"
	calls := []struct {
		name   string
		stages string
		call   func(context.Context, *Side) error
	}{
		{"put", "queue log apply deliver", func(ctx context.Context, s *Side) error { _, err := s.KV.Put(ctx, put("a", "1")); return err }},
		{"range", "", func(ctx context.Context, s *Side) error { _, err := s.KV.Range(ctx, get("a")); return err }},
		{"txn", "queue log apply deliver", func(ctx context.Context, s *Side) error {
			_, err := s.KV.Txn(ctx, succeed(opPut("a", "2")))
			return err
		}},
		{"txn that reads", "", func(ctx context.Context, s *Side) error {
			_, err := s.KV.Txn(ctx, succeed(opRange(get("a"))))
			return err
		}},
		{"delete", "queue log apply deliver", func(ctx context.Context, s *Side) error {
			_, err := s.KV.DeleteRange(ctx, &pb.DeleteRangeRequest{Key: bytesOf("a")})
			return err
		}},
		{"compact", "queue log apply deliver", func(ctx context.Context, s *Side) error {
			_, err := s.KV.Compact(ctx, &pb.CompactionRequest{Revision: 2})
			return err
		}},
		{"grant", "queue log apply deliver", func(ctx context.Context, s *Side) error {
			_, err := s.Lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: 7, TTL: 100})
			return err
		}},
		{"revoke", "queue log apply deliver", func(ctx context.Context, s *Side) error {
			_, err := s.Lease.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: 7})
			return err
		}},
		{"refused", "", func(ctx context.Context, s *Side) error {
			_, err := s.KV.Put(ctx, &pb.PutRequest{})
			if err == nil {
				return Wanted("a refusal")
			}
			return nil
		}},
	}
	trace := func(number int) string { return fmt.Sprintf("0af7651916cd43dd8448eb21000000%02x", number+1) }
	pair.Both(t, func(t *testing.T, s *Side) {
		for number, call := range calls {
			ctx, cancel := s.Context()
			Must(t, call.call(metadata.AppendToOutgoingContext(ctx, "traceparent", "00-"+trace(number)+"-"+caller+"-01"), s))
			cancel()
		}
		ctx, cancel := s.Context()
		defer cancel()
		_, err := s.KV.Put(metadata.AppendToOutgoingContext(ctx, "traceparent", "00-"+trace(90)+"-"+caller+"-00"), put("a", "1"))
		Must(t, err)
		for number, call := range calls {
			var root *tracepb.Span
			Eventually(t, ReadyLimit, "spans of "+call.name, func() error {
				found := collectors[s.Server].children(trace(number))[caller]
				if len(found) != 1 {
					return Wanted("%d spans", len(found))
				}
				root = found[0]
				return nil
			})
			known := collectors[s.Server].children(trace(number))
			s.Note(call.name, fmt.Sprint(root.Name, root.Kind, root.Status.GetCode()))
			for _, operation := range known[hex.EncodeToString(root.SpanId)] {
				var events []string
				for _, event := range operation.Events {
					events = append(events, event.Name)
				}
				inside := root.StartTimeUnixNano <= operation.StartTimeUnixNano && operation.EndTimeUnixNano <= root.EndTimeUnixNano
				s.Note(call.name+": beneath", fmt.Sprint(operation.Name, operation.Kind, events, inside))
				if s != pair.Ours || !OursIsQuorate(t) {
					continue
				}
				stages := known[hex.EncodeToString(operation.SpanId)]
				slices.SortFunc(stages, func(a, b *tracepb.Span) int {
					if a.StartTimeUnixNano != b.StartTimeUnixNano {
						return int(a.StartTimeUnixNano - b.StartTimeUnixNano)
					}
					return int(a.EndTimeUnixNano - b.EndTimeUnixNano)
				})
				var names []string
				for _, stage := range stages {
					names = append(names, stage.Name)
					if stage.StartTimeUnixNano < operation.StartTimeUnixNano || stage.EndTimeUnixNano > operation.EndTimeUnixNano {
						t.Errorf("%s: %s is outside of its operation", call.name, stage.Name)
					}
				}
				if strings.Join(names, " ") != call.stages {
					t.Errorf("%s: stages %v, not %s", call.name, names, call.stages)
				}
			}
		}
		if found := collectors[s.Server].children(trace(90)); len(found) != 0 {
			t.Errorf("a call that its caller does not sample has spans: %v", found)
		}
	})
}

// A read at a follower shows the round among the members that it waits for.
func TestSpanOfALinearizableRead(t *testing.T) {
	spans := newCollector(t)
	cluster := StartCluster(t, Programs(t).Server, 3, "--enable-distributed-tracing", "--distributed-tracing-address="+spans.address)
	if !OursIsQuorate(t) {
		t.Skip("etcd tells of it in its log alone")
	}
	const trace, caller = "0af7651916cd43dd8448eb2100000001", "b7ad6b7169203331"
	ctx, cancel := context.WithTimeout(t.Context(), CallLimit)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "traceparent", "00-"+trace+"-"+caller+"-01")
	if _, err := pb.NewKVClient(cluster.Followers()[0].Conn()).Range(ctx, get("a")); err != nil {
		t.Fatal(err)
	}
	Eventually(t, ReadyLimit, "the wait's span", func() error {
		for _, list := range spans.children(trace) {
			for _, span := range list {
				if span.Name == "agreement among raft nodes before linearized reading" {
					return nil
				}
			}
		}
		return Wanted("a span")
	})
}
