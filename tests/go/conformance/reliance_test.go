package conformance

import (
	"context"
	"fmt"
	"net/http"
	"os/exec"
	"sort"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	. "quorate/tests/harness"
)

// Clients that are killed count as Canceled at once, not as something that failed here.
func TestKilledWatchersAreCounted(t *testing.T) {
	pair := NewPair(t)
	pair.Both(t, func(t *testing.T, s *Side) {
		for range 6 {
			conn, err := grpc.NewClient(s.Server.Endpoint(), grpc.WithTransportCredentials(insecure.NewCredentials()))
			Must(t, err)
			stream, err := pb.NewWatchClient(conn).Watch(t.Context())
			Must(t, err)
			Must(t, stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: bytesOf("a")}}}))
			_, err = stream.Recv()
			Must(t, err)
			conn.Close()
		}
		const name = `grpc_server_handled_total{grpc_code="Canceled",grpc_method="Watch",grpc_service="etcdserverpb.Watch",grpc_type="bidi_stream"}`
		Eventually(t, ReadyLimit, "six cancelled watches", func() error {
			if count := samples(t, s)[name]; count != "6" {
				return Wanted("%q", count)
			}
			return nil
		})
		s.Note(name, samples(t, s)[name])
		s.Note("watchers", samples(t, s)["etcd_debugging_mvcc_watcher_total"])
	})
}

// As many watches through the gateway as there are streams but one, and a range beside them.
func TestGatewayWatchesUpToTheBound(t *testing.T) {
	for _, bound := range []int{3, 100, 1_000} {
		t.Run(fmt.Sprint(bound), func(t *testing.T) {
			pair := NewPair(t, fmt.Sprint("--max-concurrent-streams=", bound))
			pair.Both(t, func(t *testing.T, s *Side) {
				ctx, cancel := context.WithTimeout(t.Context(), ReadyLimit)
				defer cancel()
				client := &http.Client{Transport: &http.Transport{}}
				created := 0
				for range bound - 1 {
					request, err := http.NewRequestWithContext(ctx, "POST", s.Server.ClientURL+"/v3/watch", strings.NewReader(`{"create_request":{"key":"YQ=="}}`))
					Must(t, err)
					reply, err := client.Do(request)
					Must(t, err)
					defer reply.Body.Close()
					first := make([]byte, 4096)
					count, err := reply.Body.Read(first)
					Must(t, err)
					if strings.Contains(string(first[:count]), `"created":true}}`) {
						created++
					}
				}
				s.Note("watches", fmt.Sprint(created))
				page(t, s, "POST", "/v3/kv/range", `{"key":"YQ=="}`)
			})
		})
	}
}

// An empty store is far below a quota of 52 KiB, which a few values of 4 KiB fill; compaction makes room for more. With a
// quota that is below anything, users and roles can still be made.
func TestSmallQuotas(t *testing.T) {
	pair := NewPair(t, "--quota-backend-bytes=53248", "--bcrypt-cost=4")
	pair.Both(t, func(t *testing.T, s *Side) {
		put4 := func() error {
			ctx, cancel := s.Context()
			defer cancel()
			_, err := s.KV.Put(ctx, &pb.PutRequest{Key: bytesOf("k"), Value: make([]byte, 4096)})
			return err
		}
		Must(t, put4())
		// etcd learns of its file's size with each commit, every 100 ms.
		var refused error
		for began := time.Now(); refused == nil && time.Since(began) < ReadyLimit; {
			refused = put4()
		}
		s.Note("filled", RenderError(refused))
		ctx, cancel := s.Context()
		defer cancel()
		status, err := s.Maintenance.Status(ctx, &pb.StatusRequest{})
		Must(t, err)
		_, err = s.KV.Compact(ctx, &pb.CompactionRequest{Revision: status.Header.Revision, Physical: true})
		Must(t, err)
		_, err = s.Maintenance.Defragment(ctx, &pb.DefragmentRequest{})
		Must(t, err)
		_, err = s.Maintenance.Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE})
		Must(t, err)
		_, err = s.KV.Put(ctx, put("small", "value"))
		s.Note("a small put", RenderError(err))
	})
	tiny := NewPair(t, "--quota-backend-bytes=5120", "--bcrypt-cost=4")
	tiny.Both(t, func(t *testing.T, s *Side) {
		ctx, cancel := s.Context()
		defer cancel()
		_, err := s.Auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: "root", Password: "p"})
		s.Note("user", RenderError(err))
		_, err = s.Auth.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: "root"})
		s.Note("role", RenderError(err))
		_, err = s.Auth.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"})
		s.Note("grant", RenderError(err))
		_, err = s.Auth.AuthEnable(ctx, &pb.AuthEnableRequest{})
		s.Note("enable", RenderError(err))
	})
}

// A member whose others are gone: it says that it is not ready, within two seconds, and serves its own copy. And who is
// asked to hand over, and is no leader, says so.
func TestPagesWithoutQuorum(t *testing.T) {
	programs := Programs(t)
	shown := map[string][]string{}
	for _, binary := range []string{programs.Peer, programs.Server} {
		cluster := StartCluster(t, binary, 3)
		note := func(what, got string) { shown[binary] = append(shown[binary], what+": "+got) }
		followers := cluster.Followers()
		for _, control := range []string{programs.PeerControl, programs.Control} {
			text, err := exec.Command(control, "--endpoints="+followers[0].ClientURL, "move-leader", "1").CombinedOutput()
			note("move-leader", fmt.Sprint(strings.ReplaceAll(string(text), followers[0].Endpoint(), "*"), err))
		}
		ctx, cancel := context.WithTimeout(t.Context(), CallLimit)
		_, err := pb.NewMaintenanceClient(followers[0].Conn()).MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: 1})
		note("MoveLeader at a follower", RenderError(err))
		_, err = pb.NewMaintenanceClient(cluster.Leader().Conn()).MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: 1})
		note("MoveLeader to nobody", RenderError(err))
		cancel()
		alone := cluster.Leader()
		for _, member := range cluster.Members {
			if member != alone {
				member.CloseConn()
				member.Kill()
			}
		}
		Eventually(t, ReadyLimit, "the loss of the quorum", func() error {
			if text := read(alone, "/metrics"); !strings.Contains(text, "\netcd_server_has_leader 0") {
				return Wanted("no leader")
			}
			return nil
		})
		for _, path := range []string{"/health", "/health?serializable=true", "/health?serializable=false", "/livez", "/livez?verbose", "/readyz/serializable_read", "/readyz/data_corruption", "/readyz/non_learner", "/version"} {
			began := time.Now()
			text := read(alone, path)
			if path == "/health" || path == "/health?serializable=false" {
				// etcd answers 503, or its client goes away after two seconds.
				if !strings.HasPrefix(text, "503 ") && time.Since(began) < 2*time.Second {
					t.Errorf("%s %s: %s after %s", binary, path, text, time.Since(began))
				}
				continue
			}
			if strings.HasPrefix(text, "200 [+]") {
				lines := strings.Split(text, "\n")
				sort.Strings(lines)
				text = strings.Join(lines, "\n")
			}
			note(path, text)
		}
		if text := read(alone, "/readyz?verbose"); !strings.HasPrefix(text, "503 ") || !strings.Contains(text, "[-]linearizable_read failed: ") || !strings.Contains(text, "[+]serializable_read ok") {
			t.Errorf("%s: %s", binary, text)
		}
		ctx, cancel = context.WithTimeout(t.Context(), CallLimit)
		_, err = pb.NewKVClient(alone.Conn()).Range(ctx, &pb.RangeRequest{Key: bytesOf("a"), Serializable: true})
		note("serializable range", RenderError(err))
		cancel()
	}
	expected, got := shown[programs.Peer], shown[programs.Server]
	for i := range expected {
		if expected[i] != got[i] {
			t.Errorf("etcd: %s\nours: %s", expected[i], got[i])
		}
	}
}

// read is a page's status and text.
func read(s *Server, path string) string {
	client := &http.Client{Timeout: 10 * time.Second}
	reply, err := client.Get(s.ClientURL + path)
	if err != nil {
		return err.Error()
	}
	defer reply.Body.Close()
	var text strings.Builder
	buffer := make([]byte, 4096)
	for {
		count, err := reply.Body.Read(buffer)
		text.Write(buffer[:count])
		if err != nil {
			break
		}
	}
	return fmt.Sprint(reply.StatusCode, " ", text.String())
}
