package conformance

import (
	"context"
	"encoding/binary"
	"fmt"
	"regexp"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"

	. "quorate/tests/harness"
)

// rawCodec sends bytes as they are and gives the reply as bytes.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (rawCodec) Unmarshal(data []byte, v any) error { *v.(*[]byte) = data; return nil }
func (rawCodec) Name() string                       { return "proto" }

// raw calls a method with a body that need not be a message.
func raw(s *Side, method string, body []byte) {
	ctx, cancel := s.Context()
	defer cancel()
	var reply []byte
	shown := fmt.Sprintf("%d bytes", len(body))
	if len(body) < 100 {
		shown = fmt.Sprintf("%x", body)
	}
	s.Note(method+" "+shown, errorText(s.Server.Conn().Invoke(ctx, method, &body, &reply, grpc.ForceCodec(rawCodec{}))))
}

// Offsets and Go's own wording behind a parser's message are an implementation's, the rest is the contract.
var parserDetail = regexp.MustCompile(`(cannot parse invalid wire-format data|invalid UTF-8|maximum recursion depth).*`)

func errorText(err error) string {
	text := strings.ReplaceAll(RenderError(err), "\u00a0", " ") // the Go library writes a no-break space now and then
	return parserDetail.ReplaceAllString(text, "$1")
}

// deep is a transaction nested so many levels, built from the inside as bytes.
func deep(levels int) []byte {
	var body []byte
	for range levels {
		op := append(binary.AppendUvarint([]byte{4<<3 | 2}, uint64(len(body))), body...)
		body = append(binary.AppendUvarint([]byte{2<<3 | 2}, uint64(len(op))), op...)
	}
	return body
}

func TestBadInput(t *testing.T) {
	pair := NewPair(t)
	const kv = "/etcdserverpb.KV/"
	pair.Each(t, []Script{
		{"malformed messages", func(_ *testing.T, s *Side) {
			for _, body := range [][]byte{
				{0xff}, {0x0a}, {0x0a, 0x05, 'a'}, {0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f}, {0x07}, {0x0b}, {0x0c}, {0x00},
				{0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01}, {0x18, 0x80},
			} {
				for _, method := range []string{kv + "Range", kv + "Put", kv + "Txn", "/etcdserverpb.Lease/LeaseGrant"} {
					raw(s, method, body)
				}
			}
		}},
		{"unknown fields are ignored", func(_ *testing.T, s *Side) {
			raw(s, kv+"Range", []byte{0x0a, 1, 'a', 0xfa, 0x3f, 3, 'x', 'y', 'z'})
			raw(s, kv+"Put", []byte{0x0a, 1, 'a', 0x12, 1, 'b', 0xf8, 0x3f, 5})
			Do(s, s.KV.Range, get("a"))
		}},
		{"text that is not UTF-8", func(_ *testing.T, s *Side) {
			raw(s, "/etcdserverpb.Auth/UserAdd", []byte{0x0a, 2, 0xff, 0xfe})
			raw(s, "/etcdserverpb.Cluster/MemberAdd", []byte{0x0a, 2, 0xff, 0xfe})
		}},
		{"deep nesting", func(_ *testing.T, s *Side) {
			for _, levels := range []int{1, 10, 50, 100, 127, 128, 129, 2_000, 20_000} {
				raw(s, kv+"Txn", deep(levels))
			}
			Do(s, s.KV.Range, get("a"))
		}},
		{"sizes", func(_ *testing.T, s *Side) {
			for _, size := range []int{1_500_000, 1_572_800, 1_572_864, 1_600_000, 2_000_000, 2_097_152 - 20, 3_000_000, 8_000_000} {
				ctx, cancel := s.Context()
				_, err := s.KV.Put(ctx, &pb.PutRequest{Key: bytesOf("k"), Value: make([]byte, size)})
				s.Note(fmt.Sprint("put of ", size), RenderError(err))
				_, err = s.KV.Txn(ctx, succeed(opPut("k", strings.Repeat("x", size))))
				s.Note(fmt.Sprint("txn of ", size), RenderError(err))
				cancel()
				Do(s, s.KV.Range, &pb.RangeRequest{Key: bytesOf("k"), CountOnly: true})
			}
		}},
		{"unknown services and methods", func(_ *testing.T, s *Side) {
			for _, method := range []string{kv + "NoSuch", "/etcdserverpb.NoSuch/Range", "/no.such.Service/Method"} {
				raw(s, method, nil)
			}
		}},
		{"empty messages", func(_ *testing.T, s *Side) {
			for _, method := range []string{kv + "Range", kv + "Put", kv + "DeleteRange", kv + "Txn", kv + "Compact",
				"/etcdserverpb.Lease/LeaseRevoke", "/etcdserverpb.Lease/LeaseTimeToLive", "/etcdserverpb.Cluster/MemberRemove",
				"/etcdserverpb.Auth/UserAdd", "/etcdserverpb.Auth/RoleAdd", "/etcdserverpb.Auth/UserGet", "/etcdserverpb.Auth/Authenticate"} {
				raw(s, method, nil)
			}
		}},
		{"metadata", func(_ *testing.T, s *Side) {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			_, err := s.KV.Range(ctx, get("a"))
			s.Note("a call that was given up", RenderError(err))
			Do(s, s.KV.Range, get("a"))
		}},
		{"password too long", func(_ *testing.T, s *Side) {
			Do(s, s.Auth.UserAdd, &pb.AuthUserAddRequest{Name: "u", Password: strings.Repeat("p", 73)})
			Do(s, s.Auth.UserAdd, &pb.AuthUserAddRequest{Name: "u", Password: strings.Repeat("p", 72)})
			Do(s, s.Auth.UserChangePassword, &pb.AuthUserChangePasswordRequest{Name: "u", Password: strings.Repeat("p", 73)})
		}},
		{"everything goes on", func(_ *testing.T, s *Side) {
			Do(s, s.KV.Put, put("after", "all"))
			// The empty messages held a compaction, whose hash is known when it is done: this one waits for both.
			Do(s, s.KV.Compact, &pb.CompactionRequest{Revision: 1, Physical: true})
			Do(s, s.Maintenance.HashKV, &pb.HashKVRequest{})
		}},
	})
}

// What real etcd fails at: here our server alone is asked, and must refuse and live.
func TestBadInputThatEndsEtcd(t *testing.T) {
	server := Single(t, Programs(t).Server)
	s := NewSide(server)
	long := strings.Repeat("n", 40_000)
	for what, call := range map[string]func(context.Context) error{
		"user name": func(ctx context.Context) error {
			_, err := s.Auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: long, Password: "p"})
			return err
		},
		"role name": func(ctx context.Context) error {
			_, err := s.Auth.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: long})
			return err
		},
		"alarm action": func(ctx context.Context) error {
			_, err := s.Maintenance.Alarm(ctx, &pb.AlarmRequest{Action: 77})
			return err
		},
	} {
		ctx, cancel := s.Context()
		if text := RenderError(call(ctx)); !strings.HasPrefix(text, "InvalidArgument: ") {
			t.Errorf("%s: %q", what, text)
		}
		cancel()
	}
	if err := server.Healthy(); err != nil {
		t.Error(err)
	}
	if server.Ended() {
		t.Error("the server ended")
	}
	server.CloseConn()
	server.Kill()
	server.Start("", "new")
	server.AwaitReady()
}
