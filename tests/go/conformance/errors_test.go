package conformance

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	. "quorate/tests/harness"
)

// refused is one error that clients match on: its status, its text behind "etcdserver: ", and a request that meets with it.
type refused struct {
	code codes.Code
	text string
	call func(ctx context.Context, s *Side) error
}

// only is a call's error without its reply.
func only[Reply any](_ Reply, err error) error { return err }

// holds provokes each error at a server, in the order given: status and text must be exactly these.
func holds(t *testing.T, s *Side, table []refused) {
	for _, row := range table {
		ctx, cancel := s.Context()
		err := row.call(ctx, s)
		cancel()
		want := fmt.Sprintf("%s: etcdserver: %s", row.code, row.text)
		if got := RenderError(err); got != want {
			t.Errorf("%s\n  wanted %s\n  got    %s", filepath.Base(s.Server.ClientURL), want, got)
		}
		s.Note(want, RenderError(err))
	}
}

// learnerOnce adds a learner that never starts and gives its identity.
func learnerOnce(ctx context.Context, s *Side) (uint64, error) {
	reply, err := s.Cluster.MemberList(ctx, &pb.MemberListRequest{})
	if err != nil {
		return 0, err
	}
	for _, member := range reply.Members {
		if member.IsLearner {
			return member.ID, nil
		}
	}
	added, err := s.Cluster.MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: []string{"http://127.0.0.1:9"}, IsLearner: true})
	return added.GetMember().GetID(), err
}

// while raises an alarm around a call.
func while(ctx context.Context, s *Side, kind pb.AlarmType, call func() error) error {
	if _, err := s.Maintenance.Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: 5, Alarm: kind}); err != nil {
		return err
	}
	answer := call()
	if _, err := s.Maintenance.Alarm(ctx, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: 5, Alarm: kind}); err != nil {
		return err
	}
	return answer
}

// Every error that a lone member can be brought to, word for word on both servers: official clients compare status and text.
func TestErrorsOfALoneMember(t *testing.T) {
	pair := NewPair(t, "--bcrypt-cost=4")
	pair.AwaitVersions(t)
	pair.Both(t, func(t *testing.T, s *Side) {
		seed(s)
		ctx, cancel := s.Context()
		defer cancel()
		Must(t, only(s.KV.Compact(ctx, &pb.CompactionRequest{Revision: 3})))
		Must(t, only(s.Lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: 1, TTL: 1000})))
		holds(t, s, []refused{
			{codes.InvalidArgument, "key is not provided", func(ctx context.Context, s *Side) error { return only(s.KV.Range(ctx, get(""))) }},
			{codes.InvalidArgument, "key not found", func(ctx context.Context, s *Side) error {
				return only(s.KV.Txn(ctx, succeed(&pb.RequestOp{})))
			}},
			{codes.InvalidArgument, "value is provided", func(ctx context.Context, s *Side) error {
				return only(s.KV.Put(ctx, &pb.PutRequest{Key: bytesOf("a"), Value: bytesOf("v"), IgnoreValue: true}))
			}},
			{codes.InvalidArgument, "lease is provided", func(ctx context.Context, s *Side) error {
				return only(s.KV.Put(ctx, &pb.PutRequest{Key: bytesOf("a"), Lease: 1, IgnoreLease: true}))
			}},
			{codes.InvalidArgument, "too many operations in txn request", func(ctx context.Context, s *Side) error {
				operations := make([]*pb.RequestOp, 129)
				for i := range operations {
					operations[i] = opPut(fmt.Sprint("k", i), "v")
				}
				return only(s.KV.Txn(ctx, succeed(operations...)))
			}},
			{codes.InvalidArgument, "duplicate key given in txn request", func(ctx context.Context, s *Side) error {
				return only(s.KV.Txn(ctx, succeed(opPut("k", "1"), opPut("k", "2"))))
			}},
			{codes.InvalidArgument, "invalid sort option", func(ctx context.Context, s *Side) error {
				return only(s.KV.Range(ctx, &pb.RangeRequest{Key: bytesOf("a"), SortOrder: 99}))
			}},
			{codes.OutOfRange, "mvcc: required revision has been compacted", func(ctx context.Context, s *Side) error {
				return only(s.KV.Range(ctx, &pb.RangeRequest{Key: bytesOf("a"), Revision: 2}))
			}},
			{codes.OutOfRange, "mvcc: required revision is a future revision", func(ctx context.Context, s *Side) error {
				return only(s.KV.Range(ctx, &pb.RangeRequest{Key: bytesOf("a"), Revision: 1 << 40}))
			}},
			{codes.ResourceExhausted, "mvcc: database space exceeded", func(ctx context.Context, s *Side) error {
				return while(ctx, s, pb.AlarmType_NOSPACE, func() error { return only(s.KV.Put(ctx, put("a", "v"))) })
			}},
			{codes.DataLoss, "corrupt cluster", func(ctx context.Context, s *Side) error {
				return while(ctx, s, pb.AlarmType_CORRUPT, func() error { return only(s.KV.Put(ctx, put("a", "v"))) })
			}},
			{codes.NotFound, "requested lease not found", func(ctx context.Context, s *Side) error {
				return only(s.Lease.LeaseRevoke(ctx, &pb.LeaseRevokeRequest{ID: 4711}))
			}},
			{codes.FailedPrecondition, "lease already exists", func(ctx context.Context, s *Side) error {
				return only(s.Lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: 1, TTL: 1000}))
			}},
			{codes.OutOfRange, "too large lease TTL", func(ctx context.Context, s *Side) error {
				return only(s.Lease.LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: 2, TTL: 9_000_000_001}))
			}},
			{codes.InvalidArgument, "request is too large", func(ctx context.Context, s *Side) error {
				return only(s.KV.Put(ctx, put("a", strings.Repeat("x", 1_600_000))))
			}},
			{codes.FailedPrecondition, "bad leader transferee", func(ctx context.Context, s *Side) error {
				return only(s.Maintenance.MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: 4711}))
			}},
			{codes.InvalidArgument, "wrong downgrade target version format", func(ctx context.Context, s *Side) error {
				return only(s.Maintenance.Downgrade(ctx, &pb.DowngradeRequest{Action: pb.DowngradeRequest_VALIDATE, Version: "x"}))
			}},
			{codes.InvalidArgument, "invalid downgrade target version", func(ctx context.Context, s *Side) error {
				return only(s.Maintenance.Downgrade(ctx, &pb.DowngradeRequest{Action: pb.DowngradeRequest_VALIDATE, Version: "3.5"}))
			}},
			{codes.FailedPrecondition, "cluster has a downgrade job in progress", func(ctx context.Context, s *Side) error {
				request := &pb.DowngradeRequest{Action: pb.DowngradeRequest_ENABLE, Version: "3.6"}
				if _, err := s.Maintenance.Downgrade(ctx, request); err != nil {
					return err
				}
				return only(s.Maintenance.Downgrade(ctx, request))
			}},
			// Members.
			{codes.InvalidArgument, "given member URLs are invalid", func(ctx context.Context, s *Side) error {
				return only(s.Cluster.MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: []string{"nonsense"}}))
			}},
			{codes.FailedPrecondition, "Peer URLs already exists", func(ctx context.Context, s *Side) error {
				return only(s.Cluster.MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: []string{s.Server.PeerURL}}))
			}},
			{codes.NotFound, "member not found", func(ctx context.Context, s *Side) error {
				return only(s.Cluster.MemberRemove(ctx, &pb.MemberRemoveRequest{ID: 4711}))
			}},
			// etcd's own table has no status for this one.
			{codes.Unknown, "re-configuration failed due to not enough started members", func(ctx context.Context, s *Side) error {
				reply, err := s.Cluster.MemberList(ctx, &pb.MemberListRequest{})
				if err != nil {
					return err
				}
				return only(s.Cluster.MemberRemove(ctx, &pb.MemberRemoveRequest{ID: reply.Header.MemberId}))
			}},
			{codes.FailedPrecondition, "can only promote a learner member", func(ctx context.Context, s *Side) error {
				reply, err := s.Cluster.MemberList(ctx, &pb.MemberListRequest{})
				if err != nil {
					return err
				}
				return only(s.Cluster.MemberPromote(ctx, &pb.MemberPromoteRequest{ID: reply.Header.MemberId}))
			}},
			{codes.FailedPrecondition, "can only promote a learner member which is in sync with leader", func(ctx context.Context, s *Side) error {
				id, err := learnerOnce(ctx, s)
				if err != nil {
					return err
				}
				return only(s.Cluster.MemberPromote(ctx, &pb.MemberPromoteRequest{ID: id}))
			}},
			{codes.FailedPrecondition, "too many learner members in cluster", func(ctx context.Context, s *Side) error {
				if _, err := learnerOnce(ctx, s); err != nil {
					return err
				}
				return only(s.Cluster.MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: []string{"http://127.0.0.1:10"}, IsLearner: true}))
			}},
			// Users and roles, without authentication.
			{codes.FailedPrecondition, "authentication is not enabled", func(ctx context.Context, s *Side) error {
				return only(s.Auth.Authenticate(ctx, &pb.AuthenticateRequest{Name: "a", Password: "p"}))
			}},
			{codes.FailedPrecondition, "root user does not exist", func(ctx context.Context, s *Side) error {
				return only(s.Auth.AuthEnable(ctx, &pb.AuthEnableRequest{}))
			}},
			{codes.FailedPrecondition, "root user does not have root role", func(ctx context.Context, s *Side) error {
				if _, err := s.Auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: "root", Password: "p"}); err != nil {
					return err
				}
				return only(s.Auth.AuthEnable(ctx, &pb.AuthEnableRequest{}))
			}},
			{codes.FailedPrecondition, "user name already exists", func(ctx context.Context, s *Side) error {
				return only(s.Auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: "root", Password: "p"}))
			}},
			{codes.InvalidArgument, "user name is empty", func(ctx context.Context, s *Side) error {
				return only(s.Auth.UserAdd(ctx, &pb.AuthUserAddRequest{Password: "p"}))
			}},
			{codes.FailedPrecondition, "user name not found", func(ctx context.Context, s *Side) error {
				return only(s.Auth.UserGet(ctx, &pb.AuthUserGetRequest{Name: "nobody"}))
			}},
			{codes.FailedPrecondition, "role name already exists", func(ctx context.Context, s *Side) error {
				if _, err := s.Auth.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: "r"}); err != nil {
					return err
				}
				return only(s.Auth.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: "r"}))
			}},
			{codes.FailedPrecondition, "role name not found", func(ctx context.Context, s *Side) error {
				return only(s.Auth.RoleGet(ctx, &pb.AuthRoleGetRequest{Role: "nothing"}))
			}},
			{codes.InvalidArgument, "role name is empty", func(ctx context.Context, s *Side) error {
				return only(s.Auth.RoleAdd(ctx, &pb.AuthRoleAddRequest{}))
			}},
			{codes.InvalidArgument, "permission not given", func(ctx context.Context, s *Side) error {
				return only(s.Auth.RoleGrantPermission(ctx, &pb.AuthRoleGrantPermissionRequest{Name: "r"}))
			}},
			{codes.FailedPrecondition, "role is not granted to the user", func(ctx context.Context, s *Side) error {
				return only(s.Auth.UserRevokeRole(ctx, &pb.AuthUserRevokeRoleRequest{Name: "root", Role: "r"}))
			}},
			{codes.FailedPrecondition, "permission is not granted to the role", func(ctx context.Context, s *Side) error {
				return only(s.Auth.RoleRevokePermission(ctx, &pb.AuthRoleRevokePermissionRequest{Role: "r", Key: bytesOf("k")}))
			}},
		})
	})
}

// Those of authentication, with signed tokens, which can be too old.
func TestErrorsOfAuthentication(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	Must(t, os.WriteFile(secret, []byte("thirty-two bytes of a shared key"), 0o600))
	pair := NewPair(t, "--bcrypt-cost=4", "--auth-token=jwt,sign-method=HS256,priv-key="+secret+",ttl=10m")
	pair.Both(t, func(t *testing.T, s *Side) {
		enableAuth(t, s)
		logIn(t, s, "root", "p")
		as := func(ctx context.Context, token string) context.Context {
			return metadata.NewOutgoingContext(ctx, metadata.Pairs("token", token))
		}
		holds(t, s, []refused{
			{codes.InvalidArgument, "authentication failed, invalid user ID or password", func(ctx context.Context, s *Side) error {
				return only(s.Auth.Authenticate(ctx, &pb.AuthenticateRequest{Name: "a", Password: "wrong"}))
			}},
			{codes.Unauthenticated, "invalid auth token", func(ctx context.Context, s *Side) error {
				return only(s.KV.Range(as(ctx, "nonsense"), get("a")))
			}},
			{codes.PermissionDenied, "permission denied", func(ctx context.Context, s *Side) error {
				reply, err := s.Auth.Authenticate(ctx, &pb.AuthenticateRequest{Name: "a", Password: "p"})
				if err != nil {
					return err
				}
				return only(s.KV.Range(as(ctx, reply.Token), get("b")))
			}},
			{codes.InvalidArgument, "invalid auth management", func(ctx context.Context, s *Side) error {
				return only(s.Auth.UserDelete(ctx, &pb.AuthUserDeleteRequest{Name: "root"}))
			}},
			{codes.InvalidArgument, "revision of auth store is old", func(ctx context.Context, s *Side) error {
				reply, err := s.Auth.Authenticate(ctx, &pb.AuthenticateRequest{Name: "a", Password: "p"})
				if err != nil {
					return err
				}
				grant := &pb.AuthRoleGrantPermissionRequest{Name: "a", Perm: &authpb.Permission{PermType: authpb.READWRITE, Key: bytesOf("c")}}
				if _, err := s.Auth.RoleGrantPermission(ctx, grant); err != nil {
					return err
				}
				return only(s.KV.Range(as(ctx, reply.Token), get("a")))
			}},
		})
	})
}

// Those of a cluster that lost its leader or its quorum.
func TestErrorsOfACluster(t *testing.T) {
	programs := Programs(t)
	for _, binary := range []string{programs.Peer, programs.Server} {
		t.Run(filepath.Base(binary), func(t *testing.T) {
			t.Parallel()
			cluster := StartCluster(t, binary, 3)
			leader, followers := cluster.Leader(), cluster.Followers()
			alone := NewSide(leader)
			// Where the two differ, as docs/compatibility.md says.
			told := func(peer, ours string) string {
				if binary == programs.Peer {
					return peer
				}
				return ours
			}
			holds(t, NewSide(followers[0]), []refused{
				{codes.FailedPrecondition, "not leader", func(ctx context.Context, s *Side) error {
					return only(s.Maintenance.MoveLeader(ctx, &pb.MoveLeaderRequest{TargetID: 1}))
				}},
			})
			// One of three is dead: none may be added.
			followers[1].Kill()
			holds(t, alone, []refused{
				{codes.Unavailable, "unhealthy cluster", func(ctx context.Context, s *Side) error {
					return only(s.Cluster.MemberAdd(ctx, &pb.MemberAddRequest{PeerURLs: []string{"http://127.0.0.1:9"}}))
				}},
			})
			// A read is under way when the quorum goes; the next leader, whoever that is, ends it.
			followers[0].Signal(syscall.SIGSTOP)
			t.Cleanup(func() { followers[0].Signal(syscall.SIGCONT) })
			answer := make(chan error, 1)
			reading := func() {
				ctx, cancel := alone.Context()
				defer cancel()
				answer <- only(alone.KV.Range(ctx, get("a")))
			}
			leaderless := func() {
				Eventually(t, ReadyLimit, "the end of the lead", func() error {
					if text := read(leader, "/metrics"); !strings.Contains(text, "\netcd_server_has_leader 0") {
						return Wanted("no leader")
					}
					return nil
				})
			}
			go reading()
			leaderless()
			followers[0].Signal(syscall.SIGCONT)
			// Ours asks the next leader instead.
			if got, want := RenderError(<-answer), told("Unavailable: etcdserver: leader changed", ""); got != want {
				t.Errorf("wanted %q, got %q", want, got)
			}
			cluster.Leader()
			followers[0].Kill()
			leaderless()
			holds(t, alone, []refused{
				{codes.Unavailable, "no leader", func(ctx context.Context, s *Side) error {
					return only(s.KV.Range(metadata.AppendToOutgoingContext(ctx, "hasleader", "true"), get("a")))
				}},
				{codes.Unavailable, told("request timed out", "no leader"), func(ctx context.Context, s *Side) error {
					return only(s.KV.Range(ctx, get("a")))
				}},
			})
			ctx, cancel := alone.Context()
			defer cancel()
			err := only(alone.KV.Put(ctx, put("a", "v")))
			if got, want := RenderError(err), told("DeadlineExceeded: context deadline exceeded", "Unavailable: etcdserver: no leader"); got != want {
				t.Errorf("wanted %q, got %q", want, got)
			}
			// A write is under way at the end.
			const begun = `grpc_server_started_total{grpc_method="Put",grpc_service="etcdserverpb.KV",grpc_type="unary"}`
			before := samples(t, alone)[begun]
			go func() {
				ctx, cancel := alone.Context()
				defer cancel()
				answer <- only(alone.KV.Put(ctx, put("a", "v")))
			}()
			Eventually(t, ReadyLimit, "the write under way", func() error {
				if now := samples(t, alone)[begun]; now == before {
					return Wanted("%s", now)
				}
				return nil
			})
			leader.Signal(syscall.SIGTERM)
			if got, want := RenderError(<-answer), told("DeadlineExceeded: context deadline exceeded", "Unavailable: etcdserver: request timed out"); got != want {
				t.Errorf("wanted %q, got %q", want, got)
			}
		})
	}
}
