package scripts

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/status"

	. "quorate/tests/harness"
)

// noCounterpart marks scripts about what only our store has: expiry decisions, queues, snapshots.
const noCounterpart = "# No counterpart in etcd."

var rooms = []string{"kv", "txn", "lease", "compaction", "watch", "hash", "snapshot"}

// authRoom holds the scripts about users and roles.
const authRoom = "auth"

// ownLines are of our store's outcome, and no server tells them.
var ownLines = regexp.MustCompile(`^lease \d+ ended$`)

func TestEtcdAnswersAsTheScriptsSay(t *testing.T) {
	runAll(t, Programs(t).Peer, append(slices.Clone(rooms), authRoom))
}

func TestQuorateAnswersAsTheScriptsSay(t *testing.T) { runAll(t, Programs(t).Server, rooms) }

func runAll(t *testing.T, binary string, rooms []string) {
	for _, room := range rooms {
		paths, err := filepath.Glob(filepath.Join("../../../crates/store/testdata", room, "*.txt"))
		if err != nil || len(paths) == 0 {
			t.Fatalf("no scripts of %s: %v", room, err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(text), noCounterpart) {
				continue
			}
			t.Run(room+"/"+strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
				t.Parallel()
				var flags []string
				if room == authRoom {
					// As cheap as it can be: no password here is a secret.
					flags = []string{"--bcrypt-cost", "4"}
				}
				runScript(t, binary, string(text), flags)
			})
		}
	}
}

func runScript(t *testing.T, binary, text string, flags []string) {
	server := NewServer(t, binary, "m0", flags...)
	server.Start("", "new")
	server.AwaitReady()
	m := &machine{t: t, server: server, streams: map[string]*stream{}, passwords: map[string]string{}}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		if lines[i] == "" || strings.HasPrefix(lines[i], "#") {
			continue
		}
		number, command := i+1, lines[i]
		var expected []string
		for i+1 < len(lines) && strings.HasPrefix(lines[i+1], "  ") {
			i++
			if line := lines[i][2:]; !ownLines.MatchString(line) {
				expected = append(expected, line)
			}
		}
		answered, comparable := m.run(command, expected)
		if comparable && !slices.Equal(answered, expected) {
			t.Errorf("line %d: %s\n  expected\n    %s\n  answered\n    %s", number, command,
				strings.Join(expected, "\n    "), strings.Join(answered, "\n    "))
		}
	}
	for name, stream := range m.streams {
		if left := stream.settle(); len(left) != 0 {
			t.Errorf("stream %s had more to say: %q", name, left)
		}
	}
}

// machine runs commands against one server.
type machine struct {
	t       *testing.T
	server  *Server
	streams map[string]*stream
	// passwords are those that the users got last.
	passwords map[string]string
}

func (m *machine) run(command string, expected []string) (answered []string, comparable bool) {
	if several, found := strings.CutPrefix(command, "entry "); found {
		for _, one := range strings.Split(several, " | ") {
			lines, _ := m.run(one, nil)
			answered = append(answered, lines...)
		}
		return answered, true
	}
	ctx, cancel := context.WithTimeout(context.Background(), CallLimit)
	defer cancel()
	conn := m.server.Conn()
	kv, lease, maintenance := pb.NewKVClient(conn), pb.NewLeaseClient(conn), pb.NewMaintenanceClient(conn)
	ctx, command, err := m.loginAs(ctx, conn, command)
	if err != nil {
		return []string{"error: " + status.Convert(err).Message()}, true
	}
	w := split(command)
	switch verb := w.word(); verb {
	case "put":
		var r *pb.PutResponse
		if r, err = kv.Put(ctx, putOf(w)); err == nil {
			answered = putLines(r)
		}
	case "del":
		var r *pb.DeleteRangeResponse
		if r, err = kv.DeleteRange(ctx, deleteOf(w)); err == nil {
			answered = deleteLines(r)
		}
	case "get":
		var r *pb.RangeResponse
		if r, err = kv.Range(ctx, rangeOf(w)); err == nil {
			answered = rangeLines(r)
		}
	case "txn":
		var r *pb.TxnResponse
		if r, err = kv.Txn(ctx, txnOf(w)); err == nil {
			answered = txnLines(r)
		}
	case "compact":
		var r *pb.CompactionResponse
		if r, err = kv.Compact(ctx, &pb.CompactionRequest{Revision: w.number(), Physical: true}); err == nil {
			answered = []string{fmt.Sprintf("revision %d", r.Header.Revision)}
		}
	case "grant":
		var r *pb.LeaseGrantResponse
		if r, err = lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: w.number(), TTL: w.number()}); err == nil {
			answered = []string{fmt.Sprintf("lease %d, %d s", r.ID, r.TTL)}
		}
	case "renew":
		answered, err = renew(ctx, lease, w.number())
	case "revoke":
		var r *pb.LeaseRevokeResponse
		if r, err = lease.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: w.number()}); err == nil {
			answered = []string{fmt.Sprintf("revision %d", r.Header.Revision)}
		}
	case "leases":
		answered, err = leases(ctx, lease)
	case "alarm":
		answered, err = alarm(ctx, maintenance, w)
	case "alarms":
		answered, err = alarm(ctx, maintenance, split("get none 0"))
	case "hash":
		var revision int64
		if w.peek() != "" {
			revision = w.number()
		}
		var r *pb.HashKVResponse
		if r, err = maintenance.HashKV(ctx, &pb.HashKVRequest{Revision: revision}); err == nil {
			answered = []string{fmt.Sprintf("%08x of revision %d, compacted %d, revision %d", r.Hash, r.HashRevision, r.CompactRevision, r.Header.Revision)}
		}
	case "auth", "user", "role", "users", "roles":
		answered, err = m.auth(ctx, pb.NewAuthClient(conn), split(command))
	case "restart", "crash":
		if verb == "restart" {
			m.server.Signal(syscall.SIGTERM)
			m.server.AwaitExit(ReadyLimit)
		}
		m.server.Kill()
		m.server.CloseConn()
		m.server.Start("", "new")
		m.awaitServing()
		return nil, false
	case "checkpoint", "maintain", "renewals", "stats", "watchers", "term":
		return nil, false
	case "stream":
		m.streams[w.word()] = openStream(m.t, pb.NewWatchClient(conn), ctx)
		return nil, true
	case "watch":
		return m.streams[w.word()].watch(w), true
	case "cancel":
		return m.streams[w.word()].cancel(w.number()), true
	case "progress":
		m.streams[w.word()].send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}})
		return nil, true
	case "next":
		return m.streams[w.word()].next(expected), true
	default:
		w.unknown(verb)
	}
	if err != nil {
		return []string{"error: " + status.Convert(err).Message()}, true
	}
	return answered, true
}

// awaitServing waits for the server's first answer; its health may be bad on purpose.
func (m *machine) awaitServing() {
	Eventually(m.t, ReadyLimit, "the server answers again", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_, err := pb.NewKVClient(m.server.Conn()).Range(ctx, &pb.RangeRequest{Key: []byte("a")})
		if status.Convert(err).Message() == "etcdserver: user name is empty" {
			return nil
		}
		return err
	})
}

func renew(ctx context.Context, lease pb.LeaseClient, id int64) ([]string, error) {
	keepAlive, err := lease.LeaseKeepAlive(ctx)
	if err != nil {
		return nil, err
	}
	if err := keepAlive.Send(&pb.LeaseKeepAliveRequest{ID: id}); err != nil {
		return nil, err
	}
	r, err := keepAlive.Recv()
	if err != nil {
		return nil, err
	}
	if r.TTL == 0 {
		// The stream's way to say it.
		return []string{"error: etcdserver: requested lease not found"}, nil
	}
	return []string{fmt.Sprintf("lease %d, %d s", r.ID, r.TTL)}, nil
}

func leases(ctx context.Context, lease pb.LeaseClient) (lines []string, err error) {
	all, err := lease.LeaseLeases(ctx, &pb.LeaseLeasesRequest{})
	if err != nil {
		return nil, err
	}
	sort.Slice(all.Leases, func(i, j int) bool { return all.Leases[i].ID < all.Leases[j].ID })
	for _, one := range all.Leases {
		r, err := lease.LeaseTimeToLive(ctx, &pb.LeaseTimeToLiveRequest{ID: one.ID, Keys: true})
		if err != nil {
			return nil, err
		}
		line := fmt.Sprintf("%d: %d s", r.ID, r.GrantedTTL)
		sort.Slice(r.Keys, func(i, j int) bool { return string(r.Keys[i]) < string(r.Keys[j]) })
		for _, key := range r.Keys {
			line += " " + shown(key)
		}
		lines = append(lines, line)
	}
	return lines, nil
}

func alarm(ctx context.Context, maintenance pb.MaintenanceClient, w *words) (lines []string, err error) {
	actions := map[string]pb.AlarmRequest_AlarmAction{"raise": pb.AlarmRequest_ACTIVATE, "clear": pb.AlarmRequest_DEACTIVATE, "get": pb.AlarmRequest_GET}
	types := map[string]pb.AlarmType{"none": pb.AlarmType_NONE, "nospace": pb.AlarmType_NOSPACE, "corrupt": pb.AlarmType_CORRUPT}
	r, err := maintenance.Alarm(ctx, &pb.AlarmRequest{Action: actions[w.word()], Alarm: types[w.word()], MemberID: uint64(w.number())})
	if err != nil {
		return nil, err
	}
	sort.Slice(r.Alarms, func(i, j int) bool { return r.Alarms[i].MemberID < r.Alarms[j].MemberID })
	for _, one := range r.Alarms {
		lines = append(lines, fmt.Sprintf("%s of member %d", strings.ToLower(one.Alarm.String()), one.MemberID))
	}
	return lines, nil
}

// stream is one watch stream; a goroutine reads it.
type stream struct {
	t      *testing.T
	client pb.Watch_WatchClient
	alive  map[int64]bool

	lock    sync.Mutex
	changed *sync.Cond
	news    []string
	answers []*pb.WatchResponse
}

// openStream opens a stream that outlives the command's context, but has its credentials.
func openStream(t *testing.T, client pb.WatchClient, command context.Context) *stream {
	ctx, cancel := context.WithCancel(context.WithoutCancel(command))
	t.Cleanup(cancel)
	opened, err := client.Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	s := &stream{t: t, client: opened, alive: map[int64]bool{}}
	s.changed = sync.NewCond(&s.lock)
	go s.read()
	return s
}

func (s *stream) read() {
	for {
		r, err := s.client.Recv()
		if err != nil {
			return
		}
		s.lock.Lock()
		if r.Created && !r.Canceled {
			// Here, since what ends it again may be the next that is read.
			s.alive[r.WatchId] = true
		}
		switch {
		case r.Created || (r.Canceled && r.CompactRevision == 0):
			s.answers = append(s.answers, r)
		case r.Canceled:
			s.news = append(s.news, fmt.Sprintf("%d: cancelled, compacted %d", r.WatchId, r.CompactRevision))
			delete(s.alive, r.WatchId)
		case len(r.Events) == 0 && r.WatchId == -1:
			s.news = append(s.news, fmt.Sprintf("all: progress %d", r.Header.Revision))
		case len(r.Events) == 0:
			s.news = append(s.news, fmt.Sprintf("%d: progress %d", r.WatchId, r.Header.Revision))
		}
		for _, e := range r.Events {
			s.news = append(s.news, fmt.Sprintf("%d: %s", r.WatchId, event(e)))
		}
		s.changed.Broadcast()
		s.lock.Unlock()
	}
}

// await waits, with the lock held, until the condition holds or the limit passes.
func (s *stream) await(limit time.Duration, condition func() bool) bool {
	deadline := time.Now().Add(limit)
	timer := time.AfterFunc(limit, func() {
		s.lock.Lock()
		defer s.lock.Unlock()
		s.changed.Broadcast()
	})
	defer timer.Stop()
	for !condition() {
		if time.Now().After(deadline) {
			return false
		}
		s.changed.Wait()
	}
	return true
}

func (s *stream) send(r *pb.WatchRequest) {
	if err := s.client.Send(r); err != nil {
		s.t.Fatal(err)
	}
}

func (s *stream) answer() *pb.WatchResponse {
	s.lock.Lock()
	defer s.lock.Unlock()
	if !s.await(CallLimit, func() bool { return len(s.answers) > 0 }) {
		s.t.Fatal("a watch request was not answered")
	}
	answer := s.answers[0]
	s.answers = s.answers[1:]
	return answer
}

func (s *stream) watch(w *words) []string {
	create := &pb.WatchCreateRequest{}
	create.Key, create.RangeEnd = keys(w.word())
	for {
		name, argument, found := w.option()
		if !found {
			break
		}
		switch name {
		case "id":
			create.WatchId = w.parse(argument)
		case "start":
			create.StartRevision = w.parse(argument)
		case "no-put":
			create.Filters = append(create.Filters, pb.WatchCreateRequest_NOPUT)
		case "no-delete":
			create.Filters = append(create.Filters, pb.WatchCreateRequest_NODELETE)
		case "prev":
			create.PrevKv = true
		case "notify":
			create.ProgressNotify = true
		default:
			w.unknown(name)
		}
	}
	s.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}})
	r := s.answer()
	if !r.Canceled {
		return []string{fmt.Sprintf("watcher %d, revision %d", r.WatchId, r.Header.Revision)}
	}
	for part, line := range map[string]string{"duplicate watch ID": "duplicate id", "range is empty": "empty range", "compacted": "compacted"} {
		if strings.Contains(r.CancelReason, part) {
			return []string{"refused: " + line}
		}
	}
	reason := r.CancelReason
	if _, text, found := strings.Cut(reason, " desc = "); found {
		reason = text
	}
	return []string{"refused: " + reason}
}

func (s *stream) cancel(id int64) []string {
	s.send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CancelRequest{CancelRequest: &pb.WatchCancelRequest{WatchId: id}}})
	s.lock.Lock()
	known := s.alive[id]
	delete(s.alive, id)
	s.lock.Unlock()
	if !known {
		// A server says nothing to it.
		return []string{"no such watcher"}
	}
	if r := s.answer(); r.WatchId != id || !r.Canceled {
		s.t.Errorf("cancelling %d was answered by %v", id, r)
	}
	return nil
}

// next takes what came, as soon as it is as much as expected; between watchers no order is promised.
func (s *stream) next(expected []string) []string {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.await(3*time.Second, func() bool { return len(s.news) >= len(expected) })
	var rest []string
	took := s.news
	if len(took) > len(expected) {
		took, rest = took[:len(expected)], took[len(expected):]
	}
	s.news = rest
	byWatcher := func(lines []string) []string {
		sort.SliceStable(lines, func(i, j int) bool {
			left, _, _ := strings.Cut(lines[i], ":")
			right, _, _ := strings.Cut(lines[j], ":")
			return left < right
		})
		return lines
	}
	answered := byWatcher(took)
	if slices.Equal(answered, byWatcher(slices.Clone(expected))) {
		return expected
	}
	return answered
}

// settle is what comes although nobody expects it.
func (s *stream) settle() []string {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.await(500*time.Millisecond, func() bool { return len(s.news) > 0 })
	return s.news
}
