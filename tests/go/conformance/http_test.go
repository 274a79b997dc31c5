package conformance

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"sort"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	. "quorate/tests/harness"
)

// addresses are each server's own.
var addresses = regexp.MustCompile(`http://127\.[0-9.]+:\d+`)

// identities are the numbers that differ between two servers in a JSON reply.
var identities = regexp.MustCompile(`"(cluster_id|member_id|raft_term|leader|ID)":"\d+"`)

// followingNothing shows redirections as they are.
var followingNothing = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

func ask(t *testing.T, s *Side, method, path, body string, header ...string) (int, http.Header, string) {
	ctx, cancel := s.Context()
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, s.Server.ClientURL+path, strings.NewReader(body))
	Must(t, err)
	for _, pair := range header {
		name, value, _ := strings.Cut(pair, "=")
		if name == "Host" {
			request.Host = value
		} else if value != "" {
			request.Header.Set(name, value)
		}
	}
	reply, err := followingNothing.Do(request)
	Must(t, err)
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	Must(t, err)
	return reply.StatusCode, reply.Header, string(text)
}

// compact takes the blanks out of JSON: Go's protobuf library puts one behind a comma or not, by chance of the build, and
// one of two kinds of blanks into its errors. Behind a colon there is never one, and clients that search the text rely on it.
func compact(text string) string {
	text = strings.ReplaceAll(text, "proto:\u00a0", "proto: ")
	// At a deadline, etcd's gateway tells now and then how its own connection saw it.
	text = strings.ReplaceAll(text, "stream terminated by RST_STREAM with error code: CANCEL", "context deadline exceeded")
	if strings.Contains(text, "\": ") {
		return text
	}
	var out bytes.Buffer
	if json.Compact(&out, []byte(text)) != nil {
		return text
	}
	return out.String()
}

// page records status, the headers that matter, and body.
func page(t *testing.T, s *Side, method, path, body string, header ...string) string {
	code, headers, text := ask(t, s, method, path, body, header...)
	shown := identities.ReplaceAllString(compact(text), `"$1":"*"`)
	if checks := strings.Split(shown, "\n"); strings.HasPrefix(shown, "[") && len(checks) > 1 {
		// etcd walks its checks in the order of a Go map.
		sort.Strings(checks)
		shown = strings.Join(checks, "\n")
	}
	s.Note(fmt.Sprintf("%s %s %s %v", method, path, body, header), fmt.Sprintf("%d [%s] [%s] %s %s", code, headers.Get("Content-Type"), headers.Get("Allow"), shownHeaders(headers), shown))
	return text
}

// shownHeaders are the further headers that clients look at, those that are there.
func shownHeaders(headers http.Header) string {
	var shown []string
	for _, name := range []string{"Grpc-Metadata-Content-Type", "Location", "Www-Authenticate", "Access-Control-Allow-Origin", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers"} {
		if value := headers.Get(name); value != "" {
			shown = append(shown, name+": "+value)
		}
	}
	return strings.Join(shown, ", ")
}

func TestHealthPages(t *testing.T) {
	pair := NewPair(t)
	pair.AwaitVersions(t)
	pages := func(t *testing.T, s *Side) {
		for _, path := range []string{"/health", "/health?serializable=true", "/health?serializable=false", "/health?exclude=NOSPACE", "/health?exclude=NOSPACE&exclude=CORRUPT", "/health?exclude=nonsense",
			"/livez", "/readyz", "/livez?verbose", "/readyz?verbose", "/livez?verbose=true", "/livez/serializable_read", "/readyz/linearizable_read",
			"/readyz/data_corruption", "/readyz/non_learner", "/readyz?exclude=linearizable_read&verbose", "/livez?exclude=nonsense&verbose", "/livez/nonsense", "/version"} {
			page(t, s, "GET", path, "")
		}
	}
	pair.Each(t, []Script{
		{"well", pages},
		{"methods", func(t *testing.T, s *Side) {
			for _, path := range []string{"/health", "/version", "/nosuch", "/"} {
				page(t, s, "POST", path, "")
				page(t, s, "PUT", path, "x")
			}
			page(t, s, "GET", "/nosuch", "")
			page(t, s, "GET", "/", "")
		}},
		{"without space", func(t *testing.T, s *Side) {
			Must(t, alarm(t, s, pb.AlarmRequest_ACTIVATE, pb.AlarmType_NOSPACE))
			pages(t, s)
			Must(t, alarm(t, s, pb.AlarmRequest_DEACTIVATE, pb.AlarmType_NOSPACE))
		}},
		{"corrupt", func(t *testing.T, s *Side) {
			Must(t, alarm(t, s, pb.AlarmRequest_ACTIVATE, pb.AlarmType_CORRUPT))
			pages(t, s)
			Must(t, alarm(t, s, pb.AlarmRequest_DEACTIVATE, pb.AlarmType_CORRUPT))
			pages(t, s)
		}},
	})
}

func alarm(t *testing.T, s *Side, action pb.AlarmRequest_AlarmAction, kind pb.AlarmType) error {
	_, err := s.Maintenance.Alarm(t.Context(), &pb.AlarmRequest{Action: action, MemberID: 5, Alarm: kind})
	return err
}

// Peer port: what other members and their operators ask there.
func TestPeerPages(t *testing.T) {
	pair := NewPair(t)
	pair.AwaitVersions(t)
	pair.Both(t, func(t *testing.T, s *Side) {
		for _, path := range []string{"/version", "/members"} {
			reply, err := http.Get(s.Server.PeerURL + path)
			Must(t, err)
			text, err := io.ReadAll(reply.Body)
			reply.Body.Close()
			Must(t, err)
			shown := strings.NewReplacer(s.Server.PeerURL, "PEER", s.Server.ClientURL, "CLIENT").Replace(string(text))
			shown = regexp.MustCompile(`"id":\d+`).ReplaceAllString(shown, `"id":N`)
			s.Note(path, fmt.Sprint(reply.StatusCode, reply.Header.Get("Content-Type"), shown))
		}
	})
}

// samples reads the text format into name{labels} -> value.
func samples(t *testing.T, s *Side) map[string]string {
	code, _, text := ask(t, s, "GET", "/metrics", "")
	if code != http.StatusOK {
		t.Errorf("/metrics gives %d", code)
	}
	found := map[string]string{}
	for scanner := bufio.NewScanner(strings.NewReader(text)); scanner.Scan(); {
		line := scanner.Text()
		if cut := strings.LastIndexByte(line, ' '); cut > 0 && !strings.HasPrefix(line, "#") {
			found[line[:cut]] = line[cut+1:]
		}
	}
	return found
}

func TestMetrics(t *testing.T) {
	pair := NewPair(t)
	pair.AwaitVersions(t)
	// Families that describe the Go runtime, the process or bbolt's and rafthttp's own inside.
	foreign := regexp.MustCompile(`^(go_|process_|promhttp_|os_|etcd_debugging_disk_backend_|etcd_debugging_store_|etcd_disk_backend_|grpc_)`)
	pair.Each(t, []Script{
		{"counts", func(t *testing.T, s *Side) {
			Do(s, s.KV.Put, put("a", "1"))
			Do(s, s.KV.Put, put("b", "1"))
			Do(s, s.KV.Range, all())
			Do(s, s.KV.DeleteRange, &pb.DeleteRangeRequest{Key: bytesOf("a")})
			Do(s, s.KV.Txn, succeed(opPut("c", "1"), opRange(get("c"))))
			Do(s, s.KV.Range, get(""))
			Do(s, s.Lease.LeaseGrant, &pb.LeaseGrantRequest{ID: 1, TTL: 100})
			Do(s, s.Lease.LeaseRevoke, &pb.LeaseRevokeRequest{ID: 1})
			got := samples(t, s)
			for _, name := range []string{
				"etcd_mvcc_put_total", "etcd_mvcc_delete_total", "etcd_mvcc_range_total", "etcd_mvcc_txn_total", "etcd_debugging_mvcc_keys_total",
				"etcd_debugging_mvcc_current_revision", "etcd_debugging_mvcc_compact_revision", "etcd_debugging_lease_granted_total",
				"etcd_debugging_lease_revoked_total", "etcd_server_has_leader", "etcd_server_is_leader", "etcd_server_is_learner",
				"etcd_server_leader_changes_seen_total", "etcd_server_proposals_failed_total", "etcd_server_proposals_pending",
				`etcd_server_version{server_version="3.7.3"}`, `etcd_cluster_version{cluster_version="3.7"}`,
				`grpc_server_handled_total{grpc_code="OK",grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"}`,
				`grpc_server_handled_total{grpc_code="OK",grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary"}`,
				`grpc_server_handled_total{grpc_code="InvalidArgument",grpc_method="Range",grpc_service="etcdserverpb.KV",grpc_type="unary"}`,
				`grpc_server_started_total{grpc_method="Txn",grpc_service="etcdserverpb.KV",grpc_type="unary"}`,
				`grpc_server_msg_received_total{grpc_method="Txn",grpc_service="etcdserverpb.KV",grpc_type="unary"}`,
				`grpc_server_msg_sent_total{grpc_method="Txn",grpc_service="etcdserverpb.KV",grpc_type="unary"}`,
				"etcd_server_quota_backend_bytes", "etcd_debugging_mvcc_watcher_total", "etcd_debugging_mvcc_watch_stream_total", "etcd_debugging_mvcc_slow_watcher_total",
			} {
				s.Note(name, got[name])
			}
		}},
		{"every family of etcd's, by its type", func(t *testing.T, s *Side) {
			_, _, text := ask(t, s, "GET", "/metrics", "")
			var types []string
			for scanner := bufio.NewScanner(strings.NewReader(text)); scanner.Scan(); {
				if line, found := strings.CutPrefix(scanner.Text(), "# TYPE "); found && !foreign.MatchString(line) && strings.HasPrefix(line, "etcd_") {
					types = append(types, line)
				}
			}
			sort.Strings(types)
			for _, line := range types {
				s.Note(line, "present")
			}
		}},
	})
}

// What load balancers and gRPC clients ask beside etcd's own services.
func TestHealthService(t *testing.T) {
	pair := NewPair(t)
	pair.Both(t, func(t *testing.T, s *Side) {
		health := healthpb.NewHealthClient(s.Server.Conn())
		for _, service := range []string{"", "etcdserverpb.KV", "no.such.Service"} {
			Do(s, health.Check, &healthpb.HealthCheckRequest{Service: service})
		}
		ctx, cancel := s.Context()
		defer cancel()
		stream, err := health.Watch(ctx, &healthpb.HealthCheckRequest{})
		Must(t, err)
		reply, err := stream.Recv()
		s.Note("watch", fmt.Sprint(Render(reply, nil), RenderError(err)))
	})
}
