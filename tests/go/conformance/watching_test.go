package conformance

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"

	. "quorate/tests/harness"
)

// series reads /metrics into the sorted names of its series with their labels, what identifies the server left out.
func series(t *testing.T, s *Side) []string {
	identity := regexp.MustCompile(`(server_id|Local|Remote|To|From)="[0-9a-f]+"`)
	var names []string
	for name := range samples(t, s) {
		names = append(names, identity.ReplaceAllString(name, `$1="*"`))
	}
	sort.Strings(names)
	return names
}

// Series that one of the two alone has, each for a reason that docs/compatibility.md gives.
var ownSeries = regexp.MustCompile(`^(go_|quorate_|etcd_server_go_version|etcd_server_request_duration_seconds.*type="Cluster|etcd_server_apply_duration_seconds)`)

// Every series of the one is a series of the other, with the same labels and the same buckets.
func TestMetricsSeries(t *testing.T) {
	pair := NewPair(t, "--metrics=extensive")
	pair.AwaitVersions(t)
	pair.Both(t, func(t *testing.T, s *Side) {
		Do(s, s.KV.Put, put("a", "1"))
		Do(s, s.KV.Range, all())
		Do(s, s.KV.Range, get("a"))
		Do(s, s.KV.DeleteRange, &pb.DeleteRangeRequest{Key: bytesOf("a")})
		Do(s, s.Lease.LeaseGrant, &pb.LeaseGrantRequest{ID: 1, TTL: 100})
		Do(s, s.Maintenance.Defragment, &pb.DefragmentRequest{})
		for _, path := range []string{"/livez", "/readyz", "/health"} {
			page(t, s, "GET", path, "")
		}
		for _, name := range series(t, s) {
			if !ownSeries.MatchString(name) {
				s.Note(name, "present")
			}
		}
	})
}

// etcd's dashboard and alert rules (contrib/mixin of etcd) read these; each must have a series at every member.
var watched = []string{
	"etcd_disk_backend_commit_duration_seconds_bucket", "etcd_disk_wal_fsync_duration_seconds_bucket",
	"etcd_mvcc_db_total_size_in_bytes", "etcd_mvcc_db_total_size_in_use_in_bytes",
	"etcd_network_client_grpc_received_bytes_total", "etcd_network_client_grpc_sent_bytes_total",
	"etcd_network_peer_received_bytes_total", "etcd_network_peer_round_trip_time_seconds_bucket",
	"etcd_network_peer_sent_bytes_total", "etcd_network_peer_sent_failures_total",
	"etcd_server_has_leader", "etcd_server_leader_changes_seen_total", "etcd_server_proposals_failed_total",
	"etcd_server_proposals_pending", "etcd_server_quota_backend_bytes",
	"grpc_server_handled_total", "grpc_server_handling_seconds_bucket", "grpc_server_started_total",
	"process_resident_memory_bytes",
}

func TestDashboardFindsItsSeries(t *testing.T) {
	cluster := StartCluster(t, Programs(t).Server, 3, "--metrics=extensive")
	for _, member := range cluster.Members {
		Eventually(t, ReadyLimit, "all series at "+member.Name, func() error {
			found := samples(t, NewSide(member))
			for _, name := range watched {
				has := false
				for line := range found {
					has = has || line == name || strings.HasPrefix(line, name+"{")
				}
				if !has {
					return Wanted("%s", name)
				}
			}
			// Both other members have answered a probe.
			measured := 0
			for line, value := range found {
				if strings.HasPrefix(line, "etcd_network_peer_round_trip_time_seconds_count{") && value != "0" {
					measured++
				}
			}
			if measured != 2 {
				return Wanted("2 measured ways, found %d", measured)
			}
			return nil
		})
	}
}

// The further addresses serve metrics and health, and nothing else.
func TestMetricsURLs(t *testing.T) {
	for _, binary := range []string{Programs(t).Peer, Programs(t).Server} {
		url := "http://" + Address(t)
		server := NewServer(t, binary, "m0", "--listen-metrics-urls="+url)
		server.Start("", "new")
		server.AwaitReady()
		for path, expected := range map[string]int{
			"/metrics": 200, "/health": 200, "/livez": 200, "/readyz?verbose": 200, "/readyz/non_learner": 200,
			"/version": 404, "/debug/vars": 404, "/v3/kv/range": 404,
		} {
			reply, err := http.Get(url + path)
			Must(t, err)
			reply.Body.Close()
			if reply.StatusCode != expected {
				t.Errorf("%s: %s gives %d, not %d", binary, path, reply.StatusCode, expected)
			}
		}
	}
}

// refusal is what a start with wrong flags comes to: the exit code, and the first line of a usage error or the error
// that was logged.
func refusal(t *testing.T, binary string, flags []string) string {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	command := exec.Command(binary, append([]string{"--name=m0", "--data-dir=" + data}, flags...)...)
	command.Dir = dir
	var stderr strings.Builder
	command.Stderr = &stderr
	var exit *exec.ExitError
	if err := command.Run(); !errors.As(err, &exit) {
		t.Fatalf("%s %v: %v", binary, flags, err)
	}
	if _, err := os.Stat(data); !os.IsNotExist(err) {
		t.Errorf("%s %v: the data folder was touched: %v", binary, flags, err)
	}
	said := ""
	for scanner := bufio.NewScanner(strings.NewReader(stderr.String())); scanner.Scan(); {
		var line struct{ Error string }
		switch {
		case exit.ExitCode() == 2 && said == "":
			said = scanner.Text()
		case exit.ExitCode() != 2 && json.Unmarshal(scanner.Bytes(), &line) == nil && line.Error != "" && said == "":
			said = line.Error
		}
	}
	return fmt.Sprintf("%d %s", exit.ExitCode(), said)
}

func TestWrongFlags(t *testing.T) {
	programs := Programs(t)
	for _, flags := range [][]string{
		{"--nosuchflag"}, {"extra"}, {"--snapshot-count=abc"}, {"--snapshot-count"}, {"--v2-deprecation=not-yet"},
		{"--listen-client-urls=foo"}, {"--initial-cluster-state=old"}, {"--warning-apply-duration=5"}, {"--enable-pprof=maybe"},
		{"--max-concurrent-streams=x"}, {"--feature-gates=Nonsense=true"}, {"--feature-gates=CompactHashCheck"},
		{"--feature-gates=CompactHashCheck=maybe"}, {"--feature-gates=LeaseCheckpointPersist=true"},
		{"--auto-compaction-mode=never"}, {"--auto-compaction-mode="}, {"--logger=x"}, {"--logger=capnslog"}, {"--log-format=xml"},
		{"--log-outputs=default,stdout"}, {"--enable-log-rotation"}, {"--enable-log-rotation", "--log-outputs=a,b"},
		{"--heartbeat-interval=0"}, {"--election-timeout=50001"}, {"--listen-metrics-urls=http://example.com:1"},
		{"--enable-distributed-tracing", "--distributed-tracing-sampling-rate=-1"},
		{"--enable-distributed-tracing", "--distributed-tracing-sampling-rate=1000001"},
		{"--compact-hash-check-time=0"}, {"--compact-hash-check-time=-90s"}, {"--discovery-fallback=proxy"},
		{"--listen-client-http-urls=http://example.com:1"}, {"--listen-client-http-urls=https://localhost:1"},
		{"--listen-client-http-urls=http://localhost:2379"}, {"--listen-client-http-urls=unixs://a.sock"},
		{"--listen-client-urls=unix://a", "--advertise-client-urls=unix://a", "--listen-client-http-urls=unix://a"},
	} {
		expected := refusal(t, programs.Peer, flags)
		if got := refusal(t, programs.Server, flags); got != expected {
			t.Errorf("%v: %q, not %q", flags, got, expected)
		}
	}
}

// Each kind of command counts under etcd's name, with how often it went well and not. Reads, and log-ins, are commands of
// etcd's log and not of ours; a lease's renewal the other way round.
func TestAppliedCommandsByName(t *testing.T) {
	pair := NewPair(t, "--bcrypt-cost=4")
	pair.AwaitVersions(t)
	counted := regexp.MustCompile(`^etcd_server_apply_duration_seconds_count\{op="((?:Put|DeleteRange|Txn|Compaction|Lease(?:Grant|Revoke)|Alarm|Auth(?:Enable|Disable|User|Role)\w*))",`)
	reads := regexp.MustCompile(`op="Auth(User|Role)(Get|List)"`)
	pair.Both(t, func(t *testing.T, s *Side) {
		for range 2 {
			Do(s, s.KV.Put, put("a", "1"))
			Do(s, s.KV.DeleteRange, &pb.DeleteRangeRequest{Key: bytesOf("a")})
			Do(s, s.KV.Txn, succeed(opPut("a", "1")))
			Do(s, s.Lease.LeaseGrant, &pb.LeaseGrantRequest{ID: 1, TTL: 100})
			Do(s, s.Auth.UserAdd, &pb.AuthUserAddRequest{Name: "root", Password: "p"})
			Do(s, s.Auth.RoleAdd, &pb.AuthRoleAddRequest{Name: "root"})
			Do(s, s.Auth.RoleAdd, &pb.AuthRoleAddRequest{Name: "r"})
			Do(s, s.Auth.RoleGrantPermission, &pb.AuthRoleGrantPermissionRequest{Name: "r", Perm: permission(authpb.READ, "a", "")})
			Do(s, s.Auth.UserGrantRole, &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"})
			Do(s, s.Auth.UserGrantRole, &pb.AuthUserGrantRoleRequest{User: "nobody", Role: "r"})
			Do(s, s.Auth.UserChangePassword, &pb.AuthUserChangePasswordRequest{Name: "root", Password: "q"})
		}
		Do(s, s.KV.Compact, &pb.CompactionRequest{Revision: 3})
		Do(s, s.Lease.LeaseRevoke, &pb.LeaseRevokeRequest{ID: 1})
		Must(t, alarm(t, s, pb.AlarmRequest_ACTIVATE, pb.AlarmType_NOSPACE))
		Must(t, alarm(t, s, pb.AlarmRequest_DEACTIVATE, pb.AlarmType_NOSPACE))
		Do(s, s.Auth.AuthEnable, &pb.AuthEnableRequest{})
		token, err := s.Auth.Authenticate(t.Context(), &pb.AuthenticateRequest{Name: "root", Password: "q"})
		Must(t, err)
		ctx := metadata.AppendToOutgoingContext(t.Context(), rpctypes.TokenFieldNameGRPC, token.Token)
		_, err = s.Auth.AuthDisable(ctx, &pb.AuthDisableRequest{})
		Must(t, err)
		for range 2 {
			Do(s, s.Auth.RoleRevokePermission, &pb.AuthRoleRevokePermissionRequest{Role: "r", Key: bytesOf("a")})
			Do(s, s.Auth.UserRevokeRole, &pb.AuthUserRevokeRoleRequest{Name: "root", Role: "root"})
			Do(s, s.Auth.RoleDelete, &pb.AuthRoleDeleteRequest{Role: "r"})
			Do(s, s.Auth.UserDelete, &pb.AuthUserDeleteRequest{Name: "root"})
		}
		var names []string
		for name, value := range samples(t, s) {
			if counted.MatchString(name) && !reads.MatchString(name) {
				names = append(names, name+" "+value)
			}
		}
		sort.Strings(names)
		for _, name := range names {
			s.Note("counted", name)
		}
	})
}
