package conformance

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	electionpb "go.etcd.io/etcd/server/v3/etcdserver/api/v3election/v3electionpb"
	lockpb "go.etcd.io/etcd/server/v3/etcdserver/api/v3lock/v3lockpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/reflect/protoreflect"

	. "quorate/tests/harness"
)

// callers is every kind of role that a call may come with.
var callers = []struct{ name, user, password, token string }{
	{name: "nobody"},
	{name: "a wrong token", token: "nonsense.5"},
	{name: "a user without a role", user: "bare", password: "p"},
	{name: "a reader", user: "reader", password: "p"},
	{name: "a writer", user: "writer", password: "p"},
	{name: "one of a part of the range", user: "partial", password: "p"},
	{name: "one of a single key", user: "single", password: "p"},
	{name: "root", user: "root", password: "p"},
}

// shape is a call's answer as far as permissions decide about it: the error, or that there was none. What the calls answer
// to whoever may make them is compared elsewhere.
func shape(s *Side, asked string, err error) {
	if err != nil {
		s.Note(asked, RenderError(err))
		return
	}
	s.Note(asked, "let through")
}

func try[Request, Reply any](s *Side, asked string, call func(context.Context, Request, ...grpc.CallOption) (Reply, error), request Request) {
	ctx, cancel := s.Context()
	defer cancel()
	_, err := call(ctx, request)
	shape(s, asked, err)
}

// first opens a stream that is asked once and gives its first answer's error.
func first[Reply any](s *Side, asked string, open func(context.Context) (func() (Reply, error), error)) {
	ctx, cancel := s.Context()
	defer cancel()
	receive, err := open(ctx)
	if err == nil {
		_, err = receive()
	}
	shape(s, asked, err)
}

// calls is every method of the client port, with requests that permissions tell apart. Keys: "p/" to "p0" is what readers
// and writers hold, "p/a" to "p/n" what the partial user holds, "p/a" what the single one holds; nobody but root holds "q".
func calls() map[string]func(s *Side) {
	lease := func(id int64) *pb.PutRequest { return &pb.PutRequest{Key: bytesOf("p/a"), Lease: id} }
	ranges := []*pb.RangeRequest{
		get("p/a"), get("p/z"), get("q"), span("p/", "p0"), span("p/a", "p/n"), span("p/a", "p/z"), span("p/", "\x00"),
		span("p/a", "\x00"), all(), {Key: bytesOf("p/a"), Serializable: true}, {Key: bytesOf("q"), Serializable: true, CountOnly: true},
		span("p/n", "p/a"), {Key: bytesOf("p/a"), Revision: 1},
	}
	return map[string]func(s *Side){
		"/etcdserverpb.KV/Range": func(s *Side) {
			for _, r := range ranges {
				try(s, "range "+Render(r, nil), s.KV.Range, r)
			}
		},
		"/etcdserverpb.KV/RangeStream": func(s *Side) {
			for _, r := range ranges {
				first(s, "range stream "+Render(r, nil), func(ctx context.Context) (func() (*pb.RangeStreamResponse, error), error) {
					stream, err := s.KV.RangeStream(ctx, r)
					if err != nil {
						return nil, err
					}
					return stream.Recv, nil
				})
			}
		},
		"/etcdserverpb.KV/Put": func(s *Side) {
			for _, key := range []string{"p/a", "p/z", "q"} {
				try(s, "put "+key, s.KV.Put, put(key, "v"))
				try(s, "put with the old value "+key, s.KV.Put, &pb.PutRequest{Key: bytesOf(key), PrevKv: true})
				try(s, "put keeping the value "+key, s.KV.Put, &pb.PutRequest{Key: bytesOf(key), IgnoreValue: true})
			}
			for _, id := range []int64{501, 502, 503, 4711} {
				try(s, fmt.Sprint("put with lease ", id), s.KV.Put, lease(id))
			}
		},
		"/etcdserverpb.KV/DeleteRange": func(s *Side) {
			for _, r := range []*pb.DeleteRangeRequest{
				{Key: bytesOf("p/b")}, {Key: bytesOf("p/b"), PrevKv: true}, {Key: bytesOf("q")}, {Key: bytesOf("p/b"), RangeEnd: bytesOf("p/c")},
				{Key: bytesOf("p/m"), RangeEnd: bytesOf("p/n0"), PrevKv: true}, {Key: bytesOf("z/"), RangeEnd: []byte{0}},
			} {
				try(s, "delete "+Render(r, nil), s.KV.DeleteRange, r)
			}
		},
		"/etcdserverpb.KV/Txn": func(s *Side) {
			outer := func(inner *pb.RequestOp) *pb.TxnRequest { return succeed(opTxn(succeed(inner))) }
			never := func(op *pb.RequestOp) *pb.TxnRequest {
				return &pb.TxnRequest{Compare: []*pb.Compare{version("p/a", pb.Compare_GREATER, 9999)}, Success: []*pb.RequestOp{op}}
			}
			operations := []*pb.RequestOp{
				opRange(get("p/a")), opRange(get("q")), opRange(span("p/", "p0")), opPut("p/a", "v"), opPut("q", "v"),
				{Request: &pb.RequestOp_RequestPut{RequestPut: &pb.PutRequest{Key: bytesOf("p/a"), PrevKv: true}}},
				{Request: &pb.RequestOp_RequestPut{RequestPut: lease(502)}},
				{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: bytesOf("q"), PrevKv: true}}},
				{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: &pb.DeleteRangeRequest{Key: bytesOf("p/b"), PrevKv: true}}},
			}
			for _, op := range operations {
				for _, r := range []*pb.TxnRequest{succeed(op), outer(op), never(op), {Failure: []*pb.RequestOp{op}}} {
					try(s, "txn "+Render(r, nil), s.KV.Txn, r)
				}
			}
			for _, key := range []string{"p/a", "q"} {
				try(s, "compare "+key, s.KV.Txn, &pb.TxnRequest{Compare: []*pb.Compare{version(key, pb.Compare_GREATER, 9999)}})
			}
		},
		"/etcdserverpb.KV/Compact": func(s *Side) {
			try(s, "compact", s.KV.Compact, &pb.CompactionRequest{Revision: 1 << 40})
		},
		"/etcdserverpb.Watch/Watch": func(s *Side) {
			for _, r := range []*pb.WatchCreateRequest{
				watchKey("p/a"), watchKey("q"), watchSpan("p/", "p0", 0), watchSpan("p/a", "p/n", 0), watchSpan("p/a", "\x00", 0),
				watchSpan("\x00", "\x00", 0), {}, {Key: bytesOf("q"), StartRevision: -1},
			} {
				asked := "watch " + Render(r, nil)
				ctx, cancel := s.Context()
				stream, err := s.Watch.Watch(ctx)
				if err == nil {
					err = stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: r}})
				}
				if err == nil {
					var response *pb.WatchResponse
					if response, err = stream.Recv(); err == nil {
						s.Note(asked, fmt.Sprint(response.Created, response.Canceled, response.WatchId, " ", response.CancelReason))
						cancel()
						continue
					}
				}
				cancel()
				shape(s, asked, err)
			}
		},
		"/etcdserverpb.Lease/LeaseGrant": func(s *Side) {
			try(s, "grant", s.Lease.LeaseGrant, &pb.LeaseGrantRequest{ID: 600, TTL: 1000})
		},
		"/etcdserverpb.Lease/LeaseRevoke": func(s *Side) {
			for _, id := range []int64{600, 4711, 502, 503} {
				try(s, fmt.Sprint("revoke ", id), s.Lease.LeaseRevoke, &pb.LeaseRevokeRequest{ID: id})
			}
		},
		"/etcdserverpb.Lease/LeaseKeepAlive": func(s *Side) {
			for _, id := range []int64{501, 502, 503, 4711} {
				first(s, fmt.Sprint("keep alive ", id), func(ctx context.Context) (func() (*pb.LeaseKeepAliveResponse, error), error) {
					stream, err := s.Lease.LeaseKeepAlive(ctx)
					if err == nil {
						err = stream.Send(&pb.LeaseKeepAliveRequest{ID: id})
					}
					if err != nil {
						return nil, err
					}
					return stream.Recv, nil
				})
			}
		},
		"/etcdserverpb.Lease/LeaseTimeToLive": func(s *Side) {
			for _, id := range []int64{501, 502, 503, 4711} {
				try(s, fmt.Sprint("time to live ", id), s.Lease.LeaseTimeToLive, &pb.LeaseTimeToLiveRequest{ID: id})
				try(s, fmt.Sprint("time to live and keys ", id), s.Lease.LeaseTimeToLive, &pb.LeaseTimeToLiveRequest{ID: id, Keys: true})
			}
		},
		"/etcdserverpb.Lease/LeaseLeases": func(s *Side) { try(s, "leases", s.Lease.LeaseLeases, &pb.LeaseLeasesRequest{}) },
		"/etcdserverpb.Cluster/MemberAdd": func(s *Side) {
			try(s, "add nonsense", s.Cluster.MemberAdd, &pb.MemberAddRequest{PeerURLs: []string{"nonsense"}})
		},
		"/etcdserverpb.Cluster/MemberRemove": shaped("/etcdserverpb.Cluster/MemberRemove", func(s *Side, ctx context.Context) error {
			_, err := s.Cluster.MemberRemove(ctx, &pb.MemberRemoveRequest{ID: 4711})
			return err
		}),
		"/etcdserverpb.Cluster/MemberUpdate": shaped("/etcdserverpb.Cluster/MemberUpdate", func(s *Side, ctx context.Context) error {
			_, err := s.Cluster.MemberUpdate(ctx, &pb.MemberUpdateRequest{ID: 4711, PeerURLs: []string{"http://127.0.0.1:1"}})
			return err
		}),
		"/etcdserverpb.Cluster/MemberPromote": shaped("/etcdserverpb.Cluster/MemberPromote", func(s *Side, ctx context.Context) error {
			_, err := s.Cluster.MemberPromote(ctx, &pb.MemberPromoteRequest{ID: 4711})
			return err
		}),
		"/etcdserverpb.Cluster/MemberList": func(s *Side) {
			try(s, "members", s.Cluster.MemberList, &pb.MemberListRequest{})
			try(s, "members, linearizable", s.Cluster.MemberList, &pb.MemberListRequest{Linearizable: true})
		},
		"/etcdserverpb.Maintenance/Alarm": func(s *Side) {
			try(s, "alarms", s.Maintenance.Alarm, &pb.AlarmRequest{})
			try(s, "disarm", s.Maintenance.Alarm, &pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: 9, Alarm: pb.AlarmType_NOSPACE})
			try(s, "raise none", s.Maintenance.Alarm, &pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: 9})
		},
		"/etcdserverpb.Maintenance/Status":     func(s *Side) { try(s, "status", s.Maintenance.Status, &pb.StatusRequest{}) },
		"/etcdserverpb.Maintenance/Defragment": func(s *Side) { try(s, "defragment", s.Maintenance.Defragment, &pb.DefragmentRequest{}) },
		"/etcdserverpb.Maintenance/Hash":       func(s *Side) { try(s, "hash", s.Maintenance.Hash, &pb.HashRequest{}) },
		"/etcdserverpb.Maintenance/HashKV":     func(s *Side) { try(s, "hash of keys", s.Maintenance.HashKV, &pb.HashKVRequest{}) },
		"/etcdserverpb.Maintenance/MoveLeader": func(s *Side) {
			try(s, "move the leader", s.Maintenance.MoveLeader, &pb.MoveLeaderRequest{TargetID: 4711})
		},
		"/etcdserverpb.Maintenance/Snapshot": shaped("/etcdserverpb.Maintenance/Snapshot", func(s *Side, ctx context.Context) error {
			stream, err := s.Maintenance.Snapshot(ctx, &pb.SnapshotRequest{})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		}),
		"/etcdserverpb.Maintenance/Downgrade": shaped("/etcdserverpb.Maintenance/Downgrade", func(s *Side, ctx context.Context) error {
			_, err := s.Maintenance.Downgrade(ctx, &pb.DowngradeRequest{Version: "nonsense"})
			return err
		}),
		"/etcdserverpb.Auth/AuthStatus":  func(s *Side) { try(s, "auth status", s.Auth.AuthStatus, &pb.AuthStatusRequest{}) },
		"/etcdserverpb.Auth/AuthEnable":  func(s *Side) { try(s, "enable", s.Auth.AuthEnable, &pb.AuthEnableRequest{}) },
		"/etcdserverpb.Auth/AuthDisable": func(s *Side) { disableUnlessRoot(s) },
		"/etcdserverpb.Auth/Authenticate": func(s *Side) {
			try(s, "log in", s.Auth.Authenticate, &pb.AuthenticateRequest{Name: "bare", Password: "p"})
		},
		"/etcdserverpb.Auth/UserAdd": func(s *Side) {
			try(s, "add root again", s.Auth.UserAdd, &pb.AuthUserAddRequest{Name: "root", Password: "p"})
			try(s, "add nobody", s.Auth.UserAdd, &pb.AuthUserAddRequest{Password: "p"})
		},
		"/etcdserverpb.Auth/UserGet": func(s *Side) {
			for _, name := range []string{"root", "bare", "reader", "writer", "partial", "single", "nosuch"} {
				try(s, "get "+name, s.Auth.UserGet, &pb.AuthUserGetRequest{Name: name})
			}
		},
		"/etcdserverpb.Auth/UserList":   func(s *Side) { try(s, "users", s.Auth.UserList, &pb.AuthUserListRequest{}) },
		"/etcdserverpb.Auth/UserDelete": func(s *Side) { try(s, "delete nobody", s.Auth.UserDelete, &pb.AuthUserDeleteRequest{Name: "nosuch"}) },
		"/etcdserverpb.Auth/UserChangePassword": func(s *Side) {
			try(s, "change nobody's password", s.Auth.UserChangePassword, &pb.AuthUserChangePasswordRequest{Name: "nosuch", Password: "p"})
		},
		"/etcdserverpb.Auth/UserGrantRole": func(s *Side) {
			try(s, "grant nothing", s.Auth.UserGrantRole, &pb.AuthUserGrantRoleRequest{User: "bare", Role: "nosuch"})
		},
		"/etcdserverpb.Auth/UserRevokeRole": func(s *Side) {
			try(s, "revoke nothing", s.Auth.UserRevokeRole, &pb.AuthUserRevokeRoleRequest{Name: "bare", Role: "nosuch"})
		},
		"/etcdserverpb.Auth/RoleAdd": func(s *Side) { try(s, "add a role again", s.Auth.RoleAdd, &pb.AuthRoleAddRequest{Name: "reader"}) },
		"/etcdserverpb.Auth/RoleGet": func(s *Side) {
			for _, name := range []string{"root", "reader", "writer", "partial", "nosuch"} {
				try(s, "role "+name, s.Auth.RoleGet, &pb.AuthRoleGetRequest{Role: name})
			}
		},
		"/etcdserverpb.Auth/RoleList":   func(s *Side) { try(s, "roles", s.Auth.RoleList, &pb.AuthRoleListRequest{}) },
		"/etcdserverpb.Auth/RoleDelete": func(s *Side) { try(s, "delete no role", s.Auth.RoleDelete, &pb.AuthRoleDeleteRequest{Role: "nosuch"}) },
		"/etcdserverpb.Auth/RoleGrantPermission": func(s *Side) {
			try(s, "permit nothing", s.Auth.RoleGrantPermission, &pb.AuthRoleGrantPermissionRequest{Name: "nosuch", Perm: permission(authpb.Permission_READ, "x", "")})
		},
		"/etcdserverpb.Auth/RoleRevokePermission": func(s *Side) {
			try(s, "forbid nothing", s.Auth.RoleRevokePermission, &pb.AuthRoleRevokePermissionRequest{Role: "reader", Key: bytesOf("nosuch")})
		},
		"/v3lockpb.Lock/Lock": func(s *Side) {
			for _, name := range []string{"p/lock", "q/lock"} {
				try(s, "lock "+name, lockpb.NewLockClient(s.Server.Conn()).Lock, &lockpb.LockRequest{Name: bytesOf(name), Lease: 501})
			}
		},
		"/v3lockpb.Lock/Unlock": func(s *Side) {
			for _, key := range []string{"p/lock/1f5", "q/lock/1f5"} {
				try(s, "unlock "+key, lockpb.NewLockClient(s.Server.Conn()).Unlock, &lockpb.UnlockRequest{Key: bytesOf(key)})
			}
		},
		"/v3electionpb.Election/Campaign": func(s *Side) {
			for _, name := range []string{"p/election", "q/election"} {
				try(s, "campaign "+name, electionpb.NewElectionClient(s.Server.Conn()).Campaign, &electionpb.CampaignRequest{Name: bytesOf(name), Lease: 501})
			}
		},
		"/v3electionpb.Election/Proclaim": func(s *Side) {
			for _, name := range []string{"p/election", "q/election"} {
				leader := &electionpb.LeaderKey{Name: bytesOf(name), Key: bytesOf(name + "/1f5"), Rev: 1, Lease: 501}
				try(s, "proclaim "+name, electionpb.NewElectionClient(s.Server.Conn()).Proclaim, &electionpb.ProclaimRequest{Leader: leader})
			}
		},
		"/v3electionpb.Election/Resign": func(s *Side) {
			for _, name := range []string{"p/election", "q/election"} {
				leader := &electionpb.LeaderKey{Name: bytesOf(name), Key: bytesOf(name + "/1f5"), Rev: 1, Lease: 501}
				try(s, "resign "+name, electionpb.NewElectionClient(s.Server.Conn()).Resign, &electionpb.ResignRequest{Leader: leader})
			}
		},
		"/v3electionpb.Election/Leader": func(s *Side) {
			for _, name := range []string{"p/nosuch", "q/nosuch"} {
				try(s, "leader "+name, electionpb.NewElectionClient(s.Server.Conn()).Leader, &electionpb.LeaderRequest{Name: bytesOf(name)})
			}
		},
		"/v3electionpb.Election/Observe": func(s *Side) {
			for _, name := range []string{"p/observed", "q/observed"} {
				ctx, cancel := s.Context()
				stream, err := electionpb.NewElectionClient(s.Server.Conn()).Observe(ctx, &electionpb.LeaderRequest{Name: bytesOf(name)})
				if err == nil {
					_, err = stream.Recv()
				}
				cancel()
				// etcd ends the stream without a word; ours says why.
				s.Note("observe "+name, fmt.Sprint("let through: ", err == nil))
			}
		},
	}
}

// shaped is a call of which only the outcome's shape is compared.
func shaped(method string, call func(s *Side, ctx context.Context) error) func(s *Side) {
	return func(s *Side) {
		ctx, cancel := s.Context()
		defer cancel()
		shape(s, method, call(s, ctx))
	}
}

// disableUnlessRoot is left out for the one who would end the table by it.
func disableUnlessRoot(s *Side) {
	ctx, cancel := s.Context()
	defer cancel()
	if _, err := s.Auth.UserList(ctx, &pb.AuthUserListRequest{}); err != nil {
		try(s, "disable", s.Auth.AuthDisable, &pb.AuthDisableRequest{})
	}
}

func TestAuthMatrix(t *testing.T) {
	table := calls()
	for _, file := range []protoreflect.FileDescriptor{pb.File_rpc_proto, lockpb.File_v3lock_proto, electionpb.File_v3election_proto} {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				method := "/" + string(service.FullName()) + "/" + string(service.Methods().Get(j).Name())
				if table[method] == nil {
					t.Errorf("%s is missing in the table", method)
				}
			}
		}
	}
	pair := NewPair(t, "--bcrypt-cost", "4")
	pair.Both(t, func(t *testing.T, s *Side) {
		for _, name := range []string{"root", "bare", "reader", "writer", "partial", "single"} {
			Do(s, s.Auth.UserAdd, &pb.AuthUserAddRequest{Name: name, Password: "p"})
			if name != "bare" {
				Do(s, s.Auth.RoleAdd, &pb.AuthRoleAddRequest{Name: name})
				Do(s, s.Auth.UserGrantRole, &pb.AuthUserGrantRoleRequest{User: name, Role: name})
			}
		}
		for role, p := range map[string]*authpb.Permission{
			"reader": permission(authpb.Permission_READ, "p/", "p0"), "writer": permission(authpb.Permission_WRITE, "p/", "p0"),
			"partial": permission(authpb.Permission_READWRITE, "p/a", "p/n"), "single": permission(authpb.Permission_READWRITE, "p/a", ""),
		} {
			_, err := s.Auth.RoleGrantPermission(t.Context(), &pb.AuthRoleGrantPermissionRequest{Name: role, Perm: p})
			Must(t, err)
		}
		for _, id := range []int64{501, 502, 503} {
			Do(s, s.Lease.LeaseGrant, &pb.LeaseGrantRequest{ID: id, TTL: 100_000})
		}
		Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf("p/a"), Value: bytesOf("v")})
		Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf("q/held"), Lease: 502})
		Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf("p/z"), Lease: 503})
		for _, election := range []string{"p/observed/1", "q/observed/1"} {
			Do(s, s.KV.Put, put(election, "v"))
		}
		Do(s, s.Auth.AuthEnable, &pb.AuthEnableRequest{})
	})
	for _, caller := range callers {
		for _, method := range sortedKeys(table) {
			t.Run(caller.name+method, func(t *testing.T) {
				pair.Both(t, func(t *testing.T, s *Side) {
					logIn(t, s, caller.user, caller.password)
					if caller.token != "" {
						s.SetContext(metadata.AppendToOutgoingContext(context.Background(), "token", caller.token))
					}
					table[method](s)
					s.Note("the end", "of what was asked")
				})
			})
		}
	}
}

// sortedKeys gives both sides the same order.
func sortedKeys(table map[string]func(s *Side)) []string {
	keys := slices.Collect(maps.Keys(table))
	slices.Sort(keys)
	return keys
}
