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

// identities are the numbers that differ between two servers in a JSON reply.
var identities = regexp.MustCompile(`"(cluster_id|member_id|raft_term|leader|ID)":"\d+"`)

func ask(t *testing.T, s *Side, method, path, body string, header ...string) (int, http.Header, string) {
	ctx, cancel := s.Context()
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, s.Server.ClientURL+path, strings.NewReader(body))
	Must(t, err)
	for _, pair := range header {
		name, value, _ := strings.Cut(pair, "=")
		request.Header.Set(name, value)
	}
	reply, err := http.DefaultClient.Do(request)
	Must(t, err)
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	Must(t, err)
	return reply.StatusCode, reply.Header, string(text)
}

// compact takes the blanks out of JSON: Go's protobuf library puts one behind a comma or not, by chance of the build.
// Behind a colon there is never one, and clients that search the text rely on it.
func compact(text string) string {
	if strings.Contains(text, "\": ") {
		return text
	}
	var out bytes.Buffer
	if json.Compact(&out, []byte(text)) != nil {
		return text
	}
	return out.String()
}

// page records status, content type and body.
func page(t *testing.T, s *Side, method, path, body string, header ...string) string {
	code, headers, text := ask(t, s, method, path, body, header...)
	shown := identities.ReplaceAllString(compact(text), `"$1":"*"`)
	if checks := strings.Split(shown, "\n"); strings.HasPrefix(shown, "[") && len(checks) > 1 {
		// etcd walks its checks in the order of a Go map.
		sort.Strings(checks)
		shown = strings.Join(checks, "\n")
	}
	s.Note(fmt.Sprintf("%s %s %s %v", method, path, body, header), fmt.Sprintf("%d [%s] [%s] %s", code, headers.Get("Content-Type"), headers.Get("Allow"), shown))
	return text
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

func TestGateway(t *testing.T) {
	pair := NewPair(t)
	if pair.Lacks(t, Gateway) {
		return
	}
	post := func(paths ...string) func(*testing.T, *Side) {
		return func(t *testing.T, s *Side) {
			for i := 0; i < len(paths); i += 2 {
				page(t, s, "POST", paths[i], paths[i+1])
			}
		}
	}
	pair.Each(t, []Script{
		{"key and value", post(
			"/v3/kv/put", `{"key":"Zm9v","value":"YmFy"}`,
			"/v3/kv/put", `{"key":"Zm9v","value":"YmFyMg==","prev_kv":true}`,
			"/v3/kv/put", `{"key":"Zm9v","value":"YmFyMw==","prevKv":true}`,
			"/v3/kv/put", `{"key":"Zm9v","value":"-_-_"}`,
			"/v3/kv/put", `{"key":"Zm9","value":"YQ"}`,
			"/v3/kv/put", `{"key":"Zm9v","lease":"12"}`,
			"/v3/kv/put", `{"key":"Zm9v","lease":12}`,
			"/v3/kv/put", `{}`,
			"/v3/kv/range", `{"key":"Zm9v"}`,
			"/v3/kv/range", `{"key":"AA==","range_end":"AA==","limit":"1"}`,
			"/v3/kv/range", `{"key":"AA==","rangeEnd":"AA==","limit":1}`,
			"/v3/kv/range", `{"key":"AA==","range_end":"AA==","sort_order":"DESCEND","sort_target":"MOD"}`,
			"/v3/kv/range", `{"key":"AA==","range_end":"AA==","sort_order":2,"sort_target":3,"keys_only":true}`,
			"/v3/kv/range", `{"key":"AA==","range_end":"AA==","count_only":true}`,
			"/v3/kv/range", `{"key":"AA==","range_end":"AA==","sort_order":"NONSENSE"}`,
			"/v3/kv/range", `{"key":"Zm9v","nosuch":1,"revision":null}`,
			"/v3/kv/range", `{"key":"Zm9v","revision":"3"}`,
			"/v3/kv/range", `{"key":"Zm9v","revision":300}`,
			"/v3/kv/deleterange", `{"key":"Zm9v","prev_kv":true}`,
			"/v3/kv/deleterange", `{"key":"Zm9v"}`,
			"/v3/kv/compaction", `{"revision":"2"}`,
			"/v3/kv/compaction", `{"revision":"2"}`,
			"/v3/kv/compaction", `{"revision":"200"}`,
			"/v3beta/kv/range", `{"key":"Zm9v"}`,
			"/v3alpha/kv/range", `{"key":"Zm9v"}`,
			"/v3/kv/nosuch", `{}`,
		)},
		{"transactions", post(
			"/v3/kv/txn", `{"compare":[{"key":"Zm9v","target":"CREATE","create_revision":"0"}],"success":[{"request_put":{"key":"Zm9v","value":"YQ=="}},{"requestRange":{"key":"Zm9v"}}],"failure":[{"request_delete_range":{"key":"Zm9v"}}]}`,
			"/v3/kv/txn", `{"compare":[{"key":"Zm9v","target":"CREATE","createRevision":"0"}],"success":[{"request_put":{"key":"Zm9v","value":"YQ=="}}],"failure":[{"request_delete_range":{"key":"Zm9v"}}]}`,
			"/v3/kv/txn", `{"compare":[{"key":"Zm9v","target":"VALUE","result":"EQUAL","value":"YQ=="}],"failure":[{"request_txn":{"success":[{"request_range":{"key":"Zm9v"}}]}}]}`,
			"/v3/kv/txn", `{"success":[{}]}`,
			"/v3/kv/txn", `{"success":[{"request_put":{"key":"YQ=="}},{"request_put":{"key":"YQ=="}}]}`,
			"/v3/kv/txn", `{}`,
		)},
		{"leases", post(
			"/v3/lease/grant", `{"TTL":100,"ID":5}`,
			"/v3/lease/grant", `{"TTL":"100","ID":"5"}`,
			"/v3/lease/grant", `{"TTL":"0","ID":"6"}`,
			"/v3/lease/grant", `{"TTL":"90000000000","ID":"7"}`,
			"/v3/kv/lease/timetolive", `{"ID":"4711"}`,
			"/v3/lease/timetolive", `{"ID":4711,"keys":true}`,
			"/v3/lease/keepalive", `{"ID":4711}`,
			"/v3/lease/keepalive", `{"ID":5}`,
			"/v3/lease/revoke", `{"ID":4711}`,
			"/v3/kv/lease/revoke", `{"ID":"5"}`,
			"/v3/kv/lease/leases", `{}`,
			"/v3/lease/leases", ``,
		)},
		{"maintenance and cluster", post(
			"/v3/maintenance/hashkv", `{}`,
			"/v3/maintenance/hashkv", `{"revision":"300"}`,
			"/v3/maintenance/defragment", `{}`,
			"/v3/maintenance/alarm", `{}`,
			"/v3/maintenance/alarm", `{"action":"ACTIVATE"}`,
			"/v3/maintenance/alarm", `{"action":"ACTIVATE","memberID":5,"alarm":"NOSPACE"}`,
			"/v3/maintenance/alarm", `{"action":"DEACTIVATE","memberID":5,"alarm":"NOSPACE"}`,
			"/v3/maintenance/transfer-leadership", `{"targetID":4711}`,
			"/v3/maintenance/downgrade", `{"action":"VALIDATE","version":"9.9"}`,
			"/v3/cluster/member/remove", `{"ID":"4711"}`,
			"/v3/cluster/member/add", `{"peerURLs":["nonsense"]}`,
			"/v3/cluster/member/promote", `{"ID":4711}`,
		)},
		{"auth", post(
			"/v3/auth/status", `{}`,
			"/v3/auth/enable", `{}`,
			"/v3/auth/user/add", `{"name":"u","password":"p"}`,
			"/v3/auth/user/add", `{"name":"u","password":"p"}`,
			"/v3/auth/user/get", `{"name":"u"}`,
			"/v3/auth/user/get", `{"name":"nosuch"}`,
			"/v3/auth/user/list", `{}`,
			"/v3/auth/role/add", `{"name":"r"}`,
			"/v3/auth/role/grant", `{"name":"r","perm":{"permType":"READWRITE","key":"YQ==","range_end":"Yg=="}}`,
			"/v3/auth/role/grant", `{"name":"r","perm":{"key":"YQ=="}}`,
			"/v3/auth/role/get", `{"role":"r"}`,
			"/v3/auth/role/list", ``,
			"/v3/auth/user/grant", `{"user":"u","role":"r"}`,
			"/v3/auth/user/get", `{"name":"u"}`,
			"/v3/auth/role/revoke", `{"role":"r","key":"YQ==","range_end":"Yg=="}`,
			"/v3/auth/user/revoke", `{"name":"u","role":"r"}`,
			"/v3/auth/user/changepw", `{"name":"u","password":"q"}`,
			"/v3/auth/authenticate", `{"name":"u","password":"q"}`,
			"/v3/auth/user/delete", `{"name":"u"}`,
			"/v3/auth/role/delete", `{"role":"r"}`,
			"/v3/auth/role/delete", `{"role":"r"}`,
		)},
		{"locks and elections", post(
			"/v3/lock/lock", `{"name":"bG9jaw==","lease":"4711"}`,
			"/v3/lock/unlock", `{"key":"bm9zdWNo"}`,
			"/v3/election/leader", `{"name":"bm9ib2R5"}`,
			"/v3/election/proclaim", `{}`,
			"/v3/election/resign", `{}`,
			"/v3/election/campaign", `{"name":"bm9ib2R5","lease":4711}`,
			"/v3/lease/grant", `{"TTL":100,"ID":99}`,
			"/v3/lock/lock", `{"name":"bG9jaw==","lease":"99"}`,
			"/v3/lock/lock", `{"name":"bG9jaw==","lease":"99"}`,
			"/v3/lock/unlock", `{"key":"bG9jay82Mw=="}`,
			"/v3/election/campaign", `{"name":"bm9ib2R5","lease":99,"value":"bWU="}`,
			"/v3/election/leader", `{"name":"bm9ib2R5"}`,
		)},
		{"bodies and methods", func(t *testing.T, s *Side) {
			for _, body := range []string{``, `{`, `[]`, `null`, `"text"`, `{"key":1}`, `{"key":"!"}`, `{"limit":"x"}`, `{"limit":1.5}`, `{"limit":1e3}`, `{"serializable":"yes"}`, `{"key":"Zm9v"} trailing`} {
				code, _, text := ask(t, s, "POST", "/v3/kv/range", body)
				var reply struct{ Code int }
				json.Unmarshal([]byte(text), &reply)
				s.Note("range "+body, fmt.Sprint(code, " ", reply.Code))
			}
			for _, method := range []string{"GET", "PUT", "DELETE"} {
				page(t, s, method, "/v3/kv/range", `{"key":"Zm9v"}`)
			}
			page(t, s, "POST", "/v3/kv/range", `{"key":"Zm9v"}`, "Content-Type=text/plain")
			page(t, s, "POST", "/v3/kv/range", `{"key":"Zm9v"}`, "Content-Type=application/x-www-form-urlencoded")
			page(t, s, "POST", "/v3/kv/range/", `{"key":"Zm9v"}`)
		}},
		{"headers", func(t *testing.T, s *Side) {
			for _, path := range []string{"/v3/kv/range", "/v3/kv/nosuch"} {
				_, headers, _ := ask(t, s, "POST", path, `{"key":"Zm9v"}`, "Origin=http://elsewhere")
				for _, name := range []string{"Content-Type", "Grpc-Metadata-Content-Type", "Access-Control-Allow-Origin", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers"} {
					s.Note(path+" "+name, headers.Get(name))
				}
			}
			page(t, s, "OPTIONS", "/v3/kv/range", "", "Origin=http://elsewhere")
		}},
		{"watch", func(t *testing.T, s *Side) {
			request, err := http.NewRequestWithContext(t.Context(), "POST", s.Server.ClientURL+"/v3/watch", bytes.NewBufferString(`{"create_request":{"key":"dw==","range_end":"eA==","start_revision":"1000000","prev_kv":true}}`+"\n"))
			Must(t, err)
			_, err = http.Post(s.Server.ClientURL+"/v3/kv/put", "application/json", strings.NewReader(`{"key":"dw=="}`))
			Must(t, err)
			request.Body = io.NopCloser(strings.NewReader(`{"create_request":{"key":"dw==","range_end":"eA==","prev_kv":true}}`))
			request.ContentLength = -1
			reply, err := http.DefaultClient.Do(request)
			Must(t, err)
			defer reply.Body.Close()
			lines := bufio.NewReader(reply.Body)
			next := func(what string) {
				line, err := lines.ReadString('\n')
				Must(t, err)
				s.Note(what, identities.ReplaceAllString(compact(line), `"$1":"*"`))
			}
			s.Note("head", fmt.Sprint(reply.StatusCode, reply.Header.Get("Content-Type"), reply.TransferEncoding))
			next("created")
			page(t, s, "POST", "/v3/kv/put", `{"key":"dzE=","value":"MQ=="}`)
			next("put")
			page(t, s, "POST", "/v3/kv/deleterange", `{"key":"dzE="}`)
			next("delete")
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
