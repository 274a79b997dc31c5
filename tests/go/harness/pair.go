package harness

import (
	"context"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// CallLimit bounds one request of a comparison.
const CallLimit = 15 * time.Second

// Pair is real etcd and our server with equal histories, each behind a Side.
type Pair struct {
	Peer, Ours *Side
}

// Side is one of the two servers, and the transcript of what it answered.
type Side struct {
	Server      *Server
	KV          pb.KVClient
	Watch       pb.WatchClient
	Lease       pb.LeaseClient
	Cluster     pb.ClusterClient
	Maintenance pb.MaintenanceClient
	Auth        pb.AuthClient
	Scrub       Scrub

	transcript []entry
	metadata   context.Context
	// peer: this is real etcd; quorate: it is held against ours, which does not serve everything.
	peer, quorate bool
}

type entry struct{ asked, answered string }

// NewPair starts both servers fresh with the same extra flags.
func NewPair(t testing.TB, flags ...string) *Pair {
	t.Helper()
	return NewPairOf(t, func(s *Server) { s.AddFlags(flags...) })
}

// NewPairOf is NewPair with servers that are prepared one by one.
func NewPairOf(t testing.TB, prepare func(*Server)) *Pair {
	t.Helper()
	programs := Programs(t)
	servers := make([]*Server, 2)
	for i, binary := range []string{programs.Peer, programs.Server} {
		servers[i] = NewServer(t, binary, "m0")
		prepare(servers[i])
		servers[i].Start("", "new")
	}
	for _, server := range servers {
		server.AwaitReady()
	}
	pair := &Pair{Peer: NewSide(servers[0]), Ours: NewSide(servers[1])}
	pair.Peer.peer = true
	return pair
}

// AwaitVersions waits until both sides have agreed on cluster and storage version, which etcd settles after it is ready.
func (p *Pair) AwaitVersions(t testing.TB) {
	t.Helper()
	for _, side := range []*Side{p.Peer, p.Ours} {
		Eventually(t, ReadyLimit, "versions of "+side.Server.ClientURL, func() error {
			reply, err := http.Get(side.Server.ClientURL + "/version")
			if err != nil {
				return err
			}
			defer reply.Body.Close()
			text, err := io.ReadAll(reply.Body)
			if err == nil && !strings.Contains(string(text), `"etcdcluster":"3.7.0","storage":"3.7.0"`) {
				err = Wanted("%s", text)
			}
			return err
		})
	}
}

// NewSide puts the raw service stubs in front of a server.
func NewSide(server *Server) *Side {
	conn := server.Conn()
	return &Side{
		Server:      server,
		KV:          pb.NewKVClient(conn),
		Watch:       pb.NewWatchClient(conn),
		Lease:       pb.NewLeaseClient(conn),
		Cluster:     pb.NewClusterClient(conn),
		Maintenance: pb.NewMaintenanceClient(conn),
		Auth:        pb.NewAuthClient(conn),
		Scrub:       Identity,
		metadata:    context.Background(),
	}
}

// Both runs the same script against each side at the same time and compares what they answered, entry by entry.
func (p *Pair) Both(t *testing.T, script func(t *testing.T, s *Side)) {
	t.Helper()
	var wait sync.WaitGroup
	for _, side := range []*Side{p.Peer, p.Ours} {
		side.transcript = nil
		wait.Go(func() { script(t, side) })
	}
	wait.Wait()
	p.Compare(t)
}

// Compare holds the two transcripts against each other and empties them.
func (p *Pair) Compare(t *testing.T) {
	t.Helper()
	peer, ours := p.Peer.transcript, p.Ours.transcript
	p.Peer.transcript, p.Ours.transcript = nil, nil
	shown := 0
	for i := range max(len(peer), len(ours)) {
		if i >= len(peer) || i >= len(ours) {
			t.Errorf("etcd gave %d answers, ours %d", len(peer), len(ours))
			return
		}
		if peer[i] == ours[i] {
			continue
		}
		asked := peer[i].asked
		if asked != ours[i].asked {
			asked += "\n  (asked of ours: " + ours[i].asked + ")"
		}
		t.Errorf("%s\n  etcd: %s\n  ours: %s", asked, peer[i].answered, ours[i].answered)
		if shown++; shown == 5 {
			t.Errorf("further differences left out")
			return
		}
	}
	if len(peer) == 0 {
		t.Errorf("the script asked nothing")
	}
}

// Each runs a subtest for every named script, in the order given.
func (p *Pair) Each(t *testing.T, scripts []Script) {
	t.Helper()
	for _, script := range scripts {
		t.Run(script.Name, func(t *testing.T) { p.Both(t, script.Run) })
	}
}

// Script is one behaviour: what is asked of each side.
type Script struct {
	Name string
	Run  func(t *testing.T, s *Side)
}

// Note records something that was observed otherwise than by Do.
func (s *Side) Note(asked, answered string) {
	s.transcript = append(s.transcript, entry{asked, answered})
}

// Context is a fresh context for one call, with the side's credentials.
func (s *Side) Context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(s.metadata, CallLimit)
}

// SetContext makes later calls carry what ctx carries (credentials).
func (s *Side) SetContext(ctx context.Context) { s.metadata = ctx }

// Do sends one request and records the reply. The reply comes back for scripts that go on from it.
func Do[Request, Reply proto.Message](
	s *Side, call func(context.Context, Request, ...grpc.CallOption) (Reply, error), request Request,
) (Reply, error) {
	return DoScrubbed(s, s.Scrub, call, request)
}

// DoScrubbed is Do with more that may differ.
func DoScrubbed[Request, Reply proto.Message](
	s *Side, scrub Scrub, call func(context.Context, Request, ...grpc.CallOption) (Reply, error), request Request,
) (Reply, error) {
	asked := Name(request) + Render(request, nil)
	var reply Reply
	var err error
	ask := func() error {
		ctx, cancel := s.Context()
		defer cancel()
		reply, err = call(ctx, request)
		return err
	}
	ask()
	if err != nil {
		s.Note(asked, RenderError(err))
	} else {
		s.Note(asked, Render(reply, scrub))
	}
	return reply, err
}

// Name is the message's short name.
func Name(message proto.Message) string {
	return string(message.ProtoReflect().Descriptor().Name())
}

// Must fails the test and ends the script's goroutine; for steps that no comparison is about.
func Must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
		runtime.Goexit()
	}
}
