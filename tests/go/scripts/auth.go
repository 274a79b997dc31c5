package scripts

import (
	"context"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// loginAs logs the user in whom a command is done by (`as NAME COMMAND`); answers the context that carries its token,
// and the command itself.
func (m *machine) loginAs(ctx context.Context, conn *grpc.ClientConn, command string) (context.Context, string, error) {
	rest, found := strings.CutPrefix(command, "as ")
	if !found {
		return ctx, command, nil
	}
	name, command, _ := strings.Cut(rest, " ")
	r, err := pb.NewAuthClient(conn).Authenticate(ctx, &pb.AuthenticateRequest{Name: name, Password: m.passwords[name]})
	if err != nil {
		return ctx, command, err
	}
	return metadata.AppendToOutgoingContext(ctx, "token", r.Token), command, nil
}

func name(w *words) string {
	if word := w.word(); word != `""` {
		return word
	}
	return ""
}

// header is what all of these answers have.
type header interface{ GetHeader() *pb.ResponseHeader }

// auth does the commands of crates/store/tests/scripts/auth.rs.
func (m *machine) auth(ctx context.Context, auth pb.AuthClient, w *words) (lines []string, err error) {
	var r header
	switch noun, verb := w.word(), w.peek(); noun + " " + verb {
	case "users ":
		r, err := auth.UserList(ctx, &pb.AuthUserListRequest{})
		return r.GetUsers(), err
	case "roles ":
		r, err := auth.RoleList(ctx, &pb.AuthRoleListRequest{})
		return r.GetRoles(), err
	default:
		w.word()
		switch noun + " " + verb {
		case "auth status":
			r, err := auth.AuthStatus(ctx, &pb.AuthStatusRequest{})
			if err != nil {
				return nil, err
			}
			return []string{fmt.Sprintf("%s, auth revision %d", map[bool]string{true: "on", false: "off"}[r.Enabled], r.AuthRevision)}, nil
		case "user show":
			r, err := auth.UserGet(ctx, &pb.AuthUserGetRequest{Name: w.word()})
			if err != nil {
				return nil, err
			}
			return []string{"roles: " + strings.Join(r.Roles, " ")}, nil
		case "role show":
			r, err := auth.RoleGet(ctx, &pb.AuthRoleGetRequest{Role: w.word()})
			for _, permission := range r.GetPerm() {
				line := strings.ToLower(permission.PermType.String()) + " " + shown(permission.Key)
				if len(permission.RangeEnd) > 0 {
					line += ".." + shown(permission.RangeEnd)
				}
				lines = append(lines, line)
			}
			return lines, err
		case "auth on":
			r, err = auth.AuthEnable(ctx, &pb.AuthEnableRequest{})
		case "auth off":
			r, err = auth.AuthDisable(ctx, &pb.AuthDisableRequest{})
		case "user add":
			user, password := name(w), w.word()
			request := &pb.AuthUserAddRequest{Name: user, Password: password, Options: &authpb.UserAddOptions{}}
			if password == "-" {
				request.Password, request.Options.NoPassword = "", true
			}
			if r, err = auth.UserAdd(ctx, request); err == nil {
				m.passwords[user] = password
			}
		case "user pass":
			user, password := name(w), w.word()
			r, err = auth.UserChangePassword(ctx, &pb.AuthUserChangePasswordRequest{Name: user, Password: password})
			if err == nil {
				m.passwords[user] = password
			}
		case "user del":
			r, err = auth.UserDelete(ctx, &pb.AuthUserDeleteRequest{Name: name(w)})
		case "user grant":
			r, err = auth.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: name(w), Role: name(w)})
		case "user take":
			r, err = auth.UserRevokeRole(ctx, &pb.AuthUserRevokeRoleRequest{Name: name(w), Role: name(w)})
		case "role add":
			r, err = auth.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: name(w)})
		case "role del":
			r, err = auth.RoleDelete(ctx, &pb.AuthRoleDeleteRequest{Role: name(w)})
		case "role grant":
			request := &pb.AuthRoleGrantPermissionRequest{Name: name(w)}
			kind := authpb.Permission_Type(authpb.Permission_Type_value[strings.ToUpper(w.word())])
			if w.peek() != "" {
				key, end := keys(w.word())
				request.Perm = &authpb.Permission{PermType: kind, Key: key, RangeEnd: end}
			}
			r, err = auth.RoleGrantPermission(ctx, request)
		case "role take":
			request := &pb.AuthRoleRevokePermissionRequest{Role: name(w)}
			request.Key, request.RangeEnd = keys(w.word())
			r, err = auth.RoleRevokePermission(ctx, request)
		default:
			w.unknown(verb)
		}
	}
	if err != nil {
		return nil, err
	}
	return []string{fmt.Sprintf("revision %d", r.GetHeader().Revision)}, nil
}
