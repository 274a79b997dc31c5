package harness

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// Area is a part of etcd's API.
type Area string

// The areas that this release of Quorate does not serve.
const (
	Snapshots  Area = "snapshots"
	Downgrades Area = "downgrades"
)

// unserved is the one list of what our server refuses, and how. Whatever a test asks of it is asked of our server alone
// and must be refused exactly so; when an area is served, its lines go, and the tests compare again.
var unserved = map[Area][]string{
	Downgrades: {"/etcdserverpb.Maintenance/Downgrade"},
}

// notServed is what a transcript says of a request that our server rightly refuses.
const notServed = "not served by this release of Quorate, which says so"

// OursIsQuorate tells whether the server under test is ours: real etcd in its place serves everything.
func OursIsQuorate(t testing.TB) bool {
	t.Helper()
	programs := Programs(t)
	server, err := os.Stat(programs.Server)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := os.Stat(programs.Peer)
	if err != nil {
		t.Fatal(err)
	}
	return !os.SameFile(server, peer)
}

// refusal is the whole answer to a method that is not served; "" when it is served.
func refusal(method string) string {
	for _, methods := range unserved {
		for _, known := range methods {
			if known == method {
				return "Unimplemented: method " + method[strings.LastIndexByte(method, '/')+1:] + " not implemented"
			}
		}
	}
	return ""
}

// methodOf finds the method that takes a request; "" for requests of other services than etcd's own.
func methodOf(request proto.Message) string {
	wanted := request.ProtoReflect().Descriptor().FullName()
	services := pb.File_rpc_proto.Services()
	for i := range services.Len() {
		methods := services.Get(i).Methods()
		for j := range methods.Len() {
			if methods.Get(j).Input().FullName() == wanted {
				return "/" + string(services.Get(i).FullName()) + "/" + string(methods.Get(j).Name())
			}
		}
	}
	return ""
}

// Serves tells whether a method is served by both sides, so that a script may ask for it.
func (s *Side) Serves(method string) bool { return refusal(method) == "" || !s.quorate }

// Refuses notes a request of a method that is not served: asked of our server alone, it must be refused in full.
// It answers false for a method that is to be compared.
func (s *Side) Refuses(method, asked string, call func() error) bool {
	expected := refusal(method)
	if expected == "" || !s.quorate {
		return false
	}
	if s.peer {
		s.Note(asked, notServed)
	} else if answered := RenderError(call()); answered == expected {
		s.Note(asked, notServed)
	} else {
		s.Note(asked, answered)
	}
	return true
}

// gatewayPaths are the paths of the JSON gateway for methods that may be unserved.
var gatewayPaths = map[string]string{
	"/v3/cluster/member/add": "Cluster/MemberAdd", "/v3/cluster/member/remove": "Cluster/MemberRemove", "/v3/cluster/member/update": "Cluster/MemberUpdate",
	"/v3/cluster/member/promote": "Cluster/MemberPromote", "/v3/maintenance/snapshot": "Maintenance/Snapshot", "/v3/maintenance/downgrade": "Maintenance/Downgrade",
}

// RefusesPath is Side.Refuses for an answer of the JSON gateway.
func (s *Side) RefusesPath(path string, code int, text string) bool {
	method := "/etcdserverpb." + gatewayPaths[path]
	expected := refusal(method)
	if expected == "" || !s.quorate {
		return false
	}
	short := method[strings.LastIndexByte(method, '/')+1:]
	if s.peer || code == http.StatusNotImplemented && text == `{"code":12,"message":"method `+short+` not implemented"}` {
		s.Note(path, notServed)
	} else {
		s.Note(path, fmt.Sprint(code, " ", text))
	}
	return true
}

// Lacks tells whether our server does not serve an area, so that a script about it has nothing to compare. What it
// refuses is checked then.
func (s *Side) Lacks(t testing.TB, area Area) bool {
	t.Helper()
	if len(unserved[area]) == 0 || !s.quorate {
		return false
	}
	s.Note(string(area), notServed)
	if !s.peer {
		refusesArea(t, s.Server, area)
	}
	return true
}

// Lacks is Side.Lacks for a test of our server alone.
func Lacks(t testing.TB, s *Server, area Area) bool {
	t.Helper()
	if len(unserved[area]) == 0 || !OursIsQuorate(t) {
		return false
	}
	refusesArea(t, s, area)
	return true
}

// Lacks is Side.Lacks for a whole test.
func (p *Pair) Lacks(t testing.TB, area Area) bool {
	t.Helper()
	return Lacks(t, p.Ours.Server, area)
}

// refusesArea checks that the server refuses every method of an area.
func refusesArea(t testing.TB, s *Server, area Area) {
	t.Helper()
	for _, method := range unserved[area] {
		if answered := RenderError(ask(s.Conn(), method)); answered != refusal(method) {
			t.Errorf("%s is listed as not served, and answers %q", method, answered)
		}
	}
}

// ask sends an empty request to any method.
func ask(conn *grpc.ClientConn, method string) error {
	ctx, cancel := context.WithTimeout(context.Background(), CallLimit)
	defer cancel()
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(&pb.StatusRequest{}); err != nil && err != io.EOF {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	return stream.RecvMsg(&pb.StatusResponse{})
}

// UnservedCommand tells the method, if any, that our server refuses when etcdctl is called so.
func UnservedCommand(t testing.TB, words []string) (method string) {
	t.Helper()
	if !OursIsQuorate(t) || len(words) < 2 {
		return ""
	}
	service := map[string]string{"auth": "Auth/Auth", "user": "Auth/User", "role": "Auth/Role", "snapshot": "Maintenance/Snapshot", "downgrade": "Maintenance/Downgrade"}[words[0]]
	if service == "" {
		return ""
	}
	verb := map[string]string{"passwd": "change-password"}[words[1]]
	if verb == "" {
		verb = words[1]
	}
	if words[0] == "snapshot" || words[0] == "downgrade" {
		verb = ""
	}
	method = "/etcdserverpb." + service
	for _, part := range strings.Split(verb, "-") {
		if part != "" {
			method += strings.ToUpper(part[:1]) + part[1:]
		}
	}
	if refusal(method) == "" {
		return ""
	}
	return method[strings.LastIndexByte(method, '/')+1:]
}
