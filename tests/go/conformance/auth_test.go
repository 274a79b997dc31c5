package conformance

import (
	"context"
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/metadata"

	. "quorate/tests/harness"
)

func permission(kind authpb.Permission_Type, key, end string) *authpb.Permission {
	p := &authpb.Permission{PermType: kind, Key: bytesOf(key)}
	if end != "" {
		p.RangeEnd = bytesOf(end)
	}
	return p
}

// logIn makes the side's later calls those of the user; "" logs out.
func logIn(t *testing.T, s *Side, name, password string) {
	s.SetContext(context.Background())
	if name == "" {
		return
	}
	ctx, cancel := s.Context()
	defer cancel()
	reply, err := s.Auth.Authenticate(ctx, &pb.AuthenticateRequest{Name: name, Password: password})
	Must(t, err)
	s.SetContext(metadata.AppendToOutgoingContext(context.Background(), "token", reply.Token))
}

func TestAuth(t *testing.T) {
	pair := NewPair(t, "--bcrypt-cost", "4")
	add := func(s *Side, name, password string) {
		Do(s, s.Auth.UserAdd, &pb.AuthUserAddRequest{Name: name, Password: password})
	}
	grant := func(s *Side, role string, p *authpb.Permission) {
		Do(s, s.Auth.RoleGrantPermission, &pb.AuthRoleGrantPermissionRequest{Name: role, Perm: p})
	}
	tokens := Identity.With(Scrub{"AuthenticateResponse.token": Word("TOKEN")})
	everything := func(s *Side) {
		for _, key := range []string{"a", "b", "r", "w", "secret", "dir/x", "dir0"} {
			Do(s, s.KV.Range, get(key))
			Do(s, s.KV.Put, put(key, "v"))
			Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf(key), Value: bytesOf("v"), PrevKv: true})
			Do(s, s.KV.DeleteRange, &pb.DeleteRangeRequest{Key: bytesOf(key)})
			Do(s, s.KV.DeleteRange, &pb.DeleteRangeRequest{Key: bytesOf(key), PrevKv: true})
			Do(s, s.KV.Txn, succeed(opPut(key, "v")))
			Do(s, s.KV.Txn, succeed(opTxn(succeed(opRange(get(key))))))
			Do(s, s.KV.Txn, &pb.TxnRequest{Compare: []*pb.Compare{version(key, pb.Compare_GREATER, 99)}, Success: []*pb.RequestOp{opPut("secret", "v")}})
			Do(s, s.KV.Txn, &pb.TxnRequest{Compare: []*pb.Compare{version(key, pb.Compare_GREATER, 99)}})
		}
		Do(s, s.KV.Range, all())
		Do(s, s.KV.Range, span("dir/", "dir0"))
		Do(s, s.KV.Range, span("dir/", "dir1"))
		Do(s, s.KV.DeleteRange, &pb.DeleteRangeRequest{Key: bytesOf("dir/"), RangeEnd: bytesOf("dir0")})
		Do(s, s.KV.Range, get(""))
		Do(s, s.Lease.LeaseGrant, &pb.LeaseGrantRequest{ID: 70, TTL: 100})
		Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf("dir/leased"), Lease: 70})
		Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf("dir/leased"), Lease: 60})
		timeToLive(s, 70, true)
		timeToLive(s, 60, true)
		timeToLive(s, 60, false)
		Do(s, s.Lease.LeaseRevoke, &pb.LeaseRevokeRequest{ID: 60})
		Do(s, s.Lease.LeaseRevoke, &pb.LeaseRevokeRequest{ID: 70})
		Do(s, s.KV.Compact, &pb.CompactionRequest{Revision: 3})
		Do(s, s.Maintenance.HashKV, &pb.HashKVRequest{})
		DoScrubbed(s, Identity.With(Scrub{"hash": Presence}), s.Maintenance.Hash, &pb.HashRequest{})
		Do(s, s.Maintenance.Defragment, &pb.DefragmentRequest{})
		Do(s, s.Maintenance.Alarm, &pb.AlarmRequest{})
		Do(s, s.Maintenance.Alarm, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: 9, Alarm: pb.AlarmType_NOSPACE})
		DoScrubbed(s, sizes, s.Maintenance.Status, &pb.StatusRequest{})
		Do(s, s.Maintenance.MoveLeader, &pb.MoveLeaderRequest{TargetID: 4711})
		DoScrubbed(s, own, s.Cluster.MemberList, &pb.MemberListRequest{})
		Do(s, s.Cluster.MemberRemove, &pb.MemberRemoveRequest{ID: 4711})
		Do(s, s.Cluster.MemberAdd, &pb.MemberAddRequest{PeerURLs: []string{"nonsense"}})
		Do(s, s.Auth.AuthStatus, &pb.AuthStatusRequest{})
		Do(s, s.Auth.UserList, &pb.AuthUserListRequest{})
		Do(s, s.Auth.RoleList, &pb.AuthRoleListRequest{})
		Do(s, s.Auth.UserGet, &pb.AuthUserGetRequest{Name: "user"})
		Do(s, s.Auth.UserGet, &pb.AuthUserGetRequest{Name: "root"})
		Do(s, s.Auth.RoleGet, &pb.AuthRoleGetRequest{Role: "role"})
		Do(s, s.Auth.RoleGet, &pb.AuthRoleGetRequest{Role: "other"})
		Do(s, s.Auth.UserAdd, &pb.AuthUserAddRequest{Name: "user", Password: "again"})
		Do(s, s.Auth.RoleDelete, &pb.AuthRoleDeleteRequest{Role: "nosuch"})
	}
	pair.Each(t, []Script{
		{"users", func(_ *testing.T, s *Side) {
			add(s, "", "p")
			add(s, "user", "p")
			add(s, "user", "p")
			add(s, "bare", "")
			Do(s, s.Auth.UserAdd, &pb.AuthUserAddRequest{Name: "certified", Options: &authpb.UserAddOptions{NoPassword: true}})
			Do(s, s.Auth.UserAdd, &pb.AuthUserAddRequest{Name: "both", Password: "p", Options: &authpb.UserAddOptions{NoPassword: true}})
			Do(s, s.Auth.UserList, &pb.AuthUserListRequest{})
			Do(s, s.Auth.UserGet, &pb.AuthUserGetRequest{Name: "user"})
			Do(s, s.Auth.UserGet, &pb.AuthUserGetRequest{Name: "nosuch"})
			Do(s, s.Auth.UserGet, &pb.AuthUserGetRequest{})
			Do(s, s.Auth.UserChangePassword, &pb.AuthUserChangePasswordRequest{Name: "user", Password: "q"})
			Do(s, s.Auth.UserChangePassword, &pb.AuthUserChangePasswordRequest{Name: "nosuch", Password: "q"})
			Do(s, s.Auth.UserDelete, &pb.AuthUserDeleteRequest{Name: "both"})
			Do(s, s.Auth.UserDelete, &pb.AuthUserDeleteRequest{Name: "nosuch"})
			Do(s, s.Auth.UserDelete, &pb.AuthUserDeleteRequest{})
		}},
		{"roles", func(_ *testing.T, s *Side) {
			for _, name := range []string{"", "role", "role", "other"} {
				Do(s, s.Auth.RoleAdd, &pb.AuthRoleAddRequest{Name: name})
			}
			grant(s, "role", permission(authpb.Permission_READ, "r", ""))
			grant(s, "role", permission(authpb.Permission_WRITE, "w", ""))
			grant(s, "role", permission(authpb.Permission_READWRITE, "dir/", "dir0"))
			grant(s, "role", permission(authpb.Permission_READWRITE, "a", "b"))
			grant(s, "role", permission(authpb.Permission_READ, "b", "c"))
			grant(s, "role", permission(authpb.Permission_WRITE, "a", "b"))
			grant(s, "role", permission(authpb.Permission_READWRITE, "a", "b"))
			grant(s, "role", permission(7, "x", ""))
			grant(s, "role", permission(authpb.Permission_READ, "z", "y"))
			grant(s, "role", permission(authpb.Permission_READ, "", ""))
			grant(s, "other", permission(authpb.Permission_READ, "open", "\x00"))
			grant(s, "nosuch", permission(authpb.Permission_READ, "r", ""))
			grant(s, "role", nil)
			for _, name := range []string{"role", "other", "root", "nosuch", ""} {
				Do(s, s.Auth.RoleGet, &pb.AuthRoleGetRequest{Role: name})
			}
			Do(s, s.Auth.RoleRevokePermission, &pb.AuthRoleRevokePermissionRequest{Role: "role", Key: bytesOf("b"), RangeEnd: bytesOf("c")})
			Do(s, s.Auth.RoleRevokePermission, &pb.AuthRoleRevokePermissionRequest{Role: "role", Key: bytesOf("a")})
			Do(s, s.Auth.RoleRevokePermission, &pb.AuthRoleRevokePermissionRequest{Role: "nosuch", Key: bytesOf("a")})
			Do(s, s.Auth.RoleGet, &pb.AuthRoleGetRequest{Role: "role"})
			Do(s, s.Auth.RoleList, &pb.AuthRoleListRequest{})
		}},
		{"grants", func(_ *testing.T, s *Side) {
			for _, pair := range [][2]string{{"user", "role"}, {"user", "role"}, {"user", "nosuch"}, {"nosuch", "role"}, {"user", "root"}, {"user", "other"}} {
				Do(s, s.Auth.UserGrantRole, &pb.AuthUserGrantRoleRequest{User: pair[0], Role: pair[1]})
			}
			Do(s, s.Auth.UserGet, &pb.AuthUserGetRequest{Name: "user"})
			Do(s, s.Auth.UserRevokeRole, &pb.AuthUserRevokeRoleRequest{Name: "user", Role: "root"})
			Do(s, s.Auth.UserRevokeRole, &pb.AuthUserRevokeRoleRequest{Name: "user", Role: "root"})
			Do(s, s.Auth.UserRevokeRole, &pb.AuthUserRevokeRoleRequest{Name: "nosuch", Role: "role"})
			Do(s, s.Auth.UserGet, &pb.AuthUserGetRequest{Name: "user"})
			Do(s, s.Auth.RoleDelete, &pb.AuthRoleDeleteRequest{Role: "other"})
			Do(s, s.Auth.UserGet, &pb.AuthUserGetRequest{Name: "user"})
			Do(s, s.Auth.RoleAdd, &pb.AuthRoleAddRequest{Name: "other"})
		}},
		{"turning on", func(_ *testing.T, s *Side) {
			Do(s, s.Auth.AuthStatus, &pb.AuthStatusRequest{})
			Do(s, s.Auth.AuthDisable, &pb.AuthDisableRequest{})
			Do(s, s.Auth.Authenticate, &pb.AuthenticateRequest{Name: "user", Password: "q"})
			Do(s, s.Auth.AuthEnable, &pb.AuthEnableRequest{})
			add(s, "root", "rootpw")
			Do(s, s.Auth.AuthEnable, &pb.AuthEnableRequest{})
			Do(s, s.Auth.RoleAdd, &pb.AuthRoleAddRequest{Name: "root"})
			Do(s, s.Auth.UserGrantRole, &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"})
			Do(s, s.Auth.RoleGet, &pb.AuthRoleGetRequest{Role: "root"})
			Do(s, s.KV.Put, put("secret", "v"))
			Do(s, s.Lease.LeaseGrant, &pb.LeaseGrantRequest{ID: 60, TTL: 1000})
			Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf("secret"), Lease: 60})
			Do(s, s.Auth.AuthEnable, &pb.AuthEnableRequest{})
			Do(s, s.Auth.AuthEnable, &pb.AuthEnableRequest{})
		}},
		{"log in", func(_ *testing.T, s *Side) {
			for _, pair := range [][2]string{{"user", "q"}, {"user", "wrong"}, {"user", ""}, {"nosuch", "q"}, {"", ""}, {"certified", ""}, {"certified", "x"}, {"bare", ""}, {"root", "rootpw"}} {
				DoScrubbed(s, tokens, s.Auth.Authenticate, &pb.AuthenticateRequest{Name: pair[0], Password: pair[1]})
			}
		}},
		{"nobody", func(_ *testing.T, s *Side) { everything(s) }},
		{"with a wrong token", func(_ *testing.T, s *Side) {
			for _, token := range []string{"", "nonsense", "nonsense.5"} {
				s.SetContext(metadata.AppendToOutgoingContext(context.Background(), "token", token))
				Do(s, s.KV.Range, get("a"))
				Do(s, s.KV.Put, put("a", "v"))
			}
			s.SetContext(context.Background())
		}},
		{"a user", func(t *testing.T, s *Side) {
			logIn(t, s, "user", "q")
			everything(s)
		}},
		{"a user without a role", func(t *testing.T, s *Side) {
			logIn(t, s, "bare", "")
			Do(s, s.KV.Range, get("a"))
			Do(s, s.KV.Put, put("a", "v"))
		}},
		{"a refused watch", func(t *testing.T, s *Side) {
			logIn(t, s, "user", "q")
			ctx, cancel := s.Context()
			defer cancel()
			stream, err := s.Watch.Watch(ctx)
			Must(t, err)
			for _, r := range []*pb.WatchCreateRequest{watchKey("secret"), watchSpan("\x00", "\x00", 0), watchKey("w"), watchKey("r"), watchSpan("dir/", "dir0", 0)} {
				Must(t, stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}}))
				response, err := stream.Recv()
				Must(t, err)
				s.Note(Render(r, nil), Render(response, s.Scrub))
			}
		}},
		{"root", func(t *testing.T, s *Side) {
			logIn(t, s, "root", "rootpw")
			everything(s)
			Do(s, s.Auth.UserDelete, &pb.AuthUserDeleteRequest{Name: "root"})
			Do(s, s.Auth.RoleDelete, &pb.AuthRoleDeleteRequest{Role: "root"})
			Do(s, s.Auth.UserRevokeRole, &pb.AuthUserRevokeRoleRequest{Name: "root", Role: "root"})
		}},
		{"changes end sessions", func(t *testing.T, s *Side) {
			logIn(t, s, "user", "q")
			Do(s, s.KV.Put, put("dir/x", "v"))
			ctx, cancel := s.Context()
			defer cancel()
			other := NewSide(s.Server)
			logIn(t, other, "root", "rootpw")
			_, err := other.Auth.UserChangePassword(withToken(other), &pb.AuthUserChangePasswordRequest{Name: "user", Password: "new"})
			Must(t, err)
			_, err = s.KV.Put(ctx, put("dir/x", "v"))
			s.Note("after the password changed", RenderError(err))
			logIn(t, s, "user", "new")
			_, err = other.Auth.RoleRevokePermission(withToken(other), &pb.AuthRoleRevokePermissionRequest{Role: "role", Key: bytesOf("dir/"), RangeEnd: bytesOf("dir0")})
			Must(t, err)
			Do(s, s.KV.Put, put("dir/x", "v"))
			_, err = other.Auth.UserDelete(withToken(other), &pb.AuthUserDeleteRequest{Name: "user"})
			Must(t, err)
			Do(s, s.KV.Put, put("r", "v"))
			Do(s, s.KV.Range, get("r"))
		}},
		{"turning off", func(t *testing.T, s *Side) {
			logIn(t, s, "root", "rootpw")
			Do(s, s.Auth.AuthStatus, &pb.AuthStatusRequest{})
			Do(s, s.Auth.AuthDisable, &pb.AuthDisableRequest{})
			logIn(t, s, "", "")
			Do(s, s.Auth.AuthStatus, &pb.AuthStatusRequest{})
			Do(s, s.KV.Put, put("free", "again"))
			Do(s, s.Maintenance.HashKV, &pb.HashKVRequest{})
		}},
	})
}

func withToken(s *Side) context.Context {
	ctx, cancel := s.Context()
	_ = cancel // the deadline ends it
	return ctx
}
