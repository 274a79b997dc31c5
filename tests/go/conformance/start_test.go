package conformance

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	. "quorate/tests/harness"
)

// Asked before every start by supervisors and test frameworks.
func TestVersionsOfPrograms(t *testing.T) {
	programs := Programs(t)
	for _, pair := range [][]string{
		{programs.Peer, programs.Server, "--version"}, {programs.PeerControl, programs.Control, "version"}, {programs.PeerUtility, programs.Utility, "version"},
	} {
		var said [2]string
		for i, binary := range pair[:2] {
			text, err := exec.Command(binary, pair[2]).CombinedOutput()
			if err != nil {
				t.Errorf("%s %s: %v", binary, pair[2], err)
			}
			said[i] = string(text)
		}
		if said[0] != said[1] || !strings.Contains(said[0], "3.7.3") {
			t.Errorf("%s: %q, not %q", pair[2], said[1], said[0])
		}
	}
}

// line is one line of the log.
type line struct {
	Level, Ts, Caller, Msg string
	fields                 map[string]any
}

var timestamp = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$`)

// lines are what a member printed; each must be one JSON object with level, time, place and message.
func lines(t *testing.T, s *Server) []line {
	t.Helper()
	var found []line
	for text := range strings.Lines(s.LogText()) {
		var read line
		if json.Unmarshal([]byte(text), &read) != nil || json.Unmarshal([]byte(text), &read.fields) != nil {
			t.Errorf("no JSON object: %q", text)
			continue
		}
		if read.Level == "" || read.Caller == "" || read.Msg == "" || !timestamp.MatchString(read.Ts) {
			t.Errorf("level, ts, caller or msg: %q", text)
		}
		found = append(found, read)
	}
	return found
}

// with are the lines of a message.
func with(found []line, message string) []line {
	return slices.DeleteFunc(slices.Clone(found), func(read line) bool { return read.Msg != message })
}

// Every flag that tools give, in every way that Go's flags can be written; variables that are none of etcd's; and what the
// log says of all that at the start and of slow requests.
func TestFlagsOfEveryKind(t *testing.T) {
	pair := NewPairOf(t, func(s *Server) {
		s.Environment = []string{"ETCD_VERIFY=all", "ETCD_UNSUPPORTED_ARCH=amd64", "ETCD_NO_SUCH_SETTING=1", "GODEBUG=http2debug=0", "GOFAIL_HTTP=127.0.0.1:1", "ETCD_MAX_TXN_OPS=64"}
		s.AddFlags("--strict-reconfig-check", "--force-new-cluster=false", "--snapshot-count=1", "--snapshot-catchup-entries", "1", "--quota-backend-bytes", "53248",
			"-max-concurrent-streams=100", "--corrupt-check-time=1h0m0s", "--compact-hash-check-time", "10s", "--compaction-batch-limit=1", "--compaction-sleep-interval=1µs",
			"--watch-progress-notify-interval=100ms", "--warning-unary-request-duration=1ns", "--bootstrap-defrag-threshold-megabytes=1000", "--metrics=extensive",
			"--log-level=info", "--auth-token=simple", "--cipher-suites=TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", "--tls-min-version=TLS1.2", "--tls-max-version", "TLS1.3",
			"--max-snapshots=3", "--max-wals=1", "--v2-deprecation=gone", "--feature-gates=InitialCorruptCheck=true,CompactHashCheck=true,FastLeaseKeepAlive=false,StopGRPCServiceOnDefrag=true,SetMemberLocalAddr=true",
			"--pre-vote=T", "--discovery-dial-timeout=2s", "--listen-peer-urls="+s.PeerURL+",http://"+Address(t))
	})
	pair.Both(t, func(t *testing.T, s *Side) {
		Do(s, s.KV.Put, put("a", "a value that must not be in the log"))
		var ops []*pb.RequestOp
		for i := range 65 {
			ops = append(ops, opPut(fmt.Sprint(i), ""))
		}
		Do(s, s.KV.Txn, succeed(ops...))
		_, _, text := ask(t, s, "GET", "/metrics", "")
		for scanner := bufio.NewScanner(strings.NewReader(text)); scanner.Scan(); {
			if strings.HasPrefix(scanner.Text(), "etcd_server_feature_enabled{") {
				s.Note("gate", scanner.Text())
			}
		}
		var slow []line
		Eventually(t, ReadyLimit, "lines of slow requests", func() error {
			if slow = with(lines(t, s.Server), "request stats"); len(slow) == 0 {
				return Wanted("a line")
			}
			return nil
		})
		found := lines(t, s.Server)
		started := with(found, "starting an etcd server")
		if len(started) != 1 {
			t.Fatalf("%d lines of the start", len(started))
		}
		for _, name := range []string{"etcd-version", "name", "heartbeat-interval", "election-timeout", "snapshot-count", "snapshot-catchup-entries", "quota-backend-bytes",
			"max-request-bytes", "max-concurrent-streams", "initial-cluster-state", "initial-cluster-token", "v2-deprecation", "force-new-cluster", "max-learners", "member-initialized"} {
			s.Note(name, fmt.Sprint(started[0].fields[name]))
		}
		s.Note("catch-up as text", fmt.Sprint(strings.Contains(s.Server.LogText(), `"snapshot-catchup-entries":1,`), strings.Contains(s.Server.LogText(), `"v2-deprecation":"write-only"`)))
		for _, message := range []string{"Skipping defragmentation", "ready to serve client requests",
			"--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8.", "--v2-deprecation is deprecated and scheduled for removal in v3.8. The default value is enforced, ignoring user input."} {
			s.Note(message, fmt.Sprint(len(with(found, message)) > 0))
		}
		for _, read := range slow {
			if read.fields["response type"] == "/etcdserverpb.KV/Put" {
				remote, _ := read.fields["remote"].(string)
				s.Note("slow put", fmt.Sprint(read.Level, read.fields["request count"], read.fields["request size"], read.fields["response count"], read.fields["request content"],
					strings.HasPrefix(remote, "127.0.0.1:"), timestamp.MatchString(fmt.Sprint(read.fields["start time"])), read.fields["time spent"] != ""))
			}
		}
		s.Note("a value in the log", fmt.Sprint(strings.Contains(s.Server.LogText(), "a value that must not")))
	})
}

// A file of settings with etcd's names, empty values, and maps for TLS; it beats flags and variables.
func TestConfigFile(t *testing.T) {
	programs := Programs(t)
	for _, kind := range []string{"yaml", "json"} {
		for name, binary := range map[string]string{"etcd": programs.Peer, "ours": programs.Server} {
			t.Run(kind+" "+name, func(t *testing.T) {
				t.Parallel()
				peer, client, secure := "http://"+Address(t), "http://"+Address(t), "https://"+Address(t)
				text := fmt.Sprintf(`name: 'from-file'
data-dir: data
wal-dir:
snapshot-count: 5000
heartbeat-interval: 50
election-timeout: 500
quota-backend-bytes: 0
listen-peer-urls: %s
listen-client-urls: %s,%s
max-snapshots: 5
cors:
initial-advertise-peer-urls: %s
advertise-client-urls: %s
discovery:
initial-cluster: from-file=%s
initial-cluster-token: 'tests'
initial-cluster-state: 'new'
strict-reconfig-check: false
enable-pprof: true
watch-progress-notify-interval: 600000000000
client-transport-security:
  cert-file:
  key-file:
  client-cert-auth: false
  trusted-ca-file:
  auto-tls: true
peer-transport-security:
  cert-file:
  key-file:
  client-cert-auth: false
  trusted-ca-file:
  auto-tls: false
self-signed-cert-validity: 1
log-level: info
logger: zap
log-outputs: [stderr]
force-new-cluster: false
auto-compaction-mode: periodic
auto-compaction-retention: "1"
`, peer, client, secure, peer, client, peer)
				if kind == "json" {
					text = fmt.Sprintf(`{"name":"from-file","data-dir":"data","listen-peer-urls":%q,"listen-client-urls":%q,"initial-advertise-peer-urls":%q,"advertise-client-urls":%q,
"initial-cluster":"from-file=%s","heartbeat-interval":50,"election-timeout":500,"snapshot-count":5000,"enable-pprof":true,"client-transport-security":{"auto-tls":true}}`,
						peer, client+","+secure, peer, client, peer)
				}
				folder := t.TempDir()
				file := filepath.Join(folder, "settings")
				Must(t, os.WriteFile(file, []byte(text), 0o600))
				program, err := filepath.Abs(binary)
				Must(t, err)
				command := exec.Command(program, "--config-file", file, "--name=from-flag")
				command.Env = append(os.Environ(), "ETCD_NAME=from-variable", "ETCD_ELECTION_TIMEOUT=2000")
				command.Dir = folder
				var log Log
				command.Stdout, command.Stderr = &log, &log
				command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
				Must(t, command.Start())
				defer func() {
					command.Process.Kill()
					command.Wait()
					if t.Failed() {
						t.Log(log.Tail(40))
					}
				}()
				for _, url := range []string{client + "/health", secure + "/health", client + "/debug/pprof/"} {
					Eventually(t, ReadyLimit, url, func() error {
						reply, err := overHTTP1().Get(url)
						if err != nil {
							return err
						}
						reply.Body.Close()
						if reply.StatusCode != http.StatusOK {
							return Wanted("%s", reply.Status)
						}
						return nil
					})
				}
				for _, wanted := range []string{`"name":"from-file"`, `"election-timeout":"500ms"`, `"snapshot-count":5000`} {
					if !strings.Contains(log.Text(), wanted) {
						t.Errorf("not in the log: %s", wanted)
					}
				}
				if _, err := os.Stat(filepath.Join(folder, "data", "member")); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// From the first line to the last one after SIGTERM: JSON, "ready" once, and nothing at level error, plain and with TLS.
func TestLogOfALife(t *testing.T) {
	programs := Programs(t)
	for name, binary := range map[string]string{"etcd": programs.Peer, "ours": programs.Server} {
		for _, size := range []int{1, 3} {
			for _, security := range []string{"plain", "auto TLS"} {
				t.Run(fmt.Sprint(name, " ", size, " ", security), func(t *testing.T) {
					t.Parallel()
					cluster := StartClusterOf(t, binary, size, func(s *Server) {
						s.AddFlags("--log-level=debug")
						if security == "auto TLS" {
							s.Secure(trustingAnybody(), "--auto-tls")
							s.SecurePeers("--peer-auto-tls")
						}
					})
					client := Client(t, cluster.Members...)
					ctx, cancel := context.WithTimeout(t.Context(), CallLimit)
					defer cancel()
					_, err := client.Put(ctx, "a", "1")
					Must(t, err)
					_, err = client.Get(ctx, "a")
					Must(t, err)
					client.Close()
					for _, member := range cluster.Members {
						member.CloseConn()
						member.Signal(syscall.SIGTERM)
					}
					for _, member := range cluster.Members {
						member.AwaitExit(ReadyLimit)
						ready := 0
						for _, read := range lines(t, member) {
							// etcd's own way of telling that its listeners closed.
							if read.Level == "error" && read.Msg != "setting up serving from embedded etcd failed." && binary == programs.Server {
								t.Errorf("%s: %s %v", member.Name, read.Msg, read.fields)
							}
							if read.Msg == "ready to serve client requests" {
								ready++
							}
						}
						if ready != 1 {
							t.Errorf("%s is ready %d times", member.Name, ready)
						}
						if !strings.Contains(member.LogText(), "serving client traffic") {
							t.Errorf("%s does not say what it serves", member.Name)
						}
					}
				})
			}
		}
	}
}

// A start whose quorum is missing waits, and gets ready when the others come, one by one.
func TestMembersThatComeOneByOne(t *testing.T) {
	programs := Programs(t)
	for name, binary := range map[string]string{"etcd": programs.Peer, "ours": programs.Server} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var members []*Server
			var urls []string
			for i := range 3 {
				member := NewServer(t, binary, fmt.Sprint("m", i))
				members = append(members, member)
				urls = append(urls, member.Name+"="+member.PeerURL)
			}
			initial := strings.Join(urls, ",")
			members[0].Start(initial, "new")
			Eventually(t, ReadyLimit, "the first member's start", func() error {
				if !strings.Contains(members[0].LogText(), "serving peer traffic") {
					return Wanted("a line")
				}
				return nil
			})
			if members[0].Healthy() == nil {
				t.Error("one of three is no quorum")
			}
			members[1].Start(initial, "new")
			members[0].AwaitReady()
			members[1].AwaitReady()
			members[2].Start(initial, "new")
			members[2].AwaitReady()
			for _, member := range members[:1] {
				for _, read := range lines(t, member) {
					if read.Level == "error" || read.Level == "fatal" {
						t.Errorf("%s: %v", read.Msg, read.fields)
					}
				}
			}
		})
	}
}

// A whole cluster with TLS on both sides is ready, used and stopped within ten seconds.
func TestAClusterIsQuick(t *testing.T) {
	began := time.Now()
	cluster := StartClusterOf(t, Programs(t).Server, 3, func(s *Server) {
		s.Secure(trustingAnybody(), "--auto-tls")
		s.SecurePeers("--peer-auto-tls")
	})
	client := Client(t, cluster.Members...)
	ctx, cancel := context.WithTimeout(t.Context(), CallLimit)
	defer cancel()
	_, err := client.Put(ctx, "a", "1")
	Must(t, err)
	for _, member := range cluster.Members {
		member.Signal(syscall.SIGTERM)
	}
	for _, member := range cluster.Members {
		member.AwaitExit(ReadyLimit)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
}
