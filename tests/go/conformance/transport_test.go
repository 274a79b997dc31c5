package conformance

import (
	"fmt"
	"math"
	"net"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"

	. "quorate/tests/harness"
)

// Requests that clients compressed; the answers may be compressed or not.
func TestCompressedRequests(t *testing.T) {
	pair := NewPair(t)
	pair.Both(t, func(t *testing.T, s *Side) {
		packed := grpc.UseCompressor(gzip.Name)
		ctx, cancel := s.Context()
		defer cancel()
		note := func(what string, err error) { s.Note(what, RenderError(err)) }
		_, err := s.KV.Put(ctx, put("a", strings.Repeat("1", 10_000)), packed)
		note("put", err)
		reply, err := s.KV.Range(ctx, get("a"), packed)
		s.Note("range", fmt.Sprint(Render(reply, Identity), RenderError(err)))
		_, err = s.KV.Range(ctx, get(""), packed)
		note("refused", err)
		for _, size := range []int{1_600_000, 2_000_000, 2_097_152, 3_000_000, 50_000_000} {
			_, err = s.KV.Put(ctx, &pb.PutRequest{Key: bytesOf("a"), Value: make([]byte, size)}, packed)
			note(fmt.Sprint("a put that unpacks to ", size), err)
		}
		stream, err := s.Lease.LeaseKeepAlive(ctx, packed)
		Must(t, err)
		for id := range 3 {
			Must(t, stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(id + 1)}))
			reply, err := stream.Recv()
			s.Note("keep-alive", fmt.Sprint(Render(reply, Identity), RenderError(err)))
		}
		Do(s, s.KV.Range, get("a"))
	})
}

// Old clients name an endpoint's URL where HTTP/2 wants an authority.
func TestURLAsAuthority(t *testing.T) {
	pair := NewPair(t)
	pair.Both(t, func(t *testing.T, s *Side) {
		for _, authority := range []string{s.Server.ClientURL, strings.Replace(s.Server.ClientURL, "http:", "https:", 1), "http://localhost", "x"} {
			conn, err := grpc.NewClient(s.Server.Endpoint(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority(authority), grpc.WithDisableRetry())
			Must(t, err)
			for range 3 {
				ctx, cancel := s.Context()
				_, err = pb.NewKVClient(conn).Range(ctx, get("a"))
				cancel()
				s.Note("range for authority", RenderError(err))
			}
			conn.Close()
		}
	})
}

// rawHTTP2 opens a connection without a client library.
func rawHTTP2(t *testing.T, s *Side) (net.Conn, *http2.Framer) {
	conn, err := net.Dial("tcp", s.Server.Endpoint())
	Must(t, err)
	_, err = conn.Write([]byte(http2.ClientPreface))
	Must(t, err)
	framer := http2.NewFramer(conn, conn)
	Must(t, framer.WriteSettings())
	return conn, framer
}

// A client that pings without end is told to calm down, and others go on.
func TestPingFlood(t *testing.T) {
	pair := NewPair(t)
	pair.Both(t, func(t *testing.T, s *Side) {
		conn, framer := rawHTTP2(t, s)
		defer conn.Close()
		go func() {
			for number := range 1000 {
				if framer.WritePing(false, [8]byte{byte(number), byte(number >> 8)}) != nil {
					return
				}
			}
		}()
		for {
			frame, err := framer.ReadFrame()
			if err != nil {
				s.Note("end without a word", "")
				return
			}
			if goaway, isGoaway := frame.(*http2.GoAwayFrame); isGoaway {
				s.Note("goaway", fmt.Sprint(goaway.ErrCode, " ", string(goaway.DebugData())))
				break
			}
		}
		Do(s, s.KV.Range, get("a"))
	})
}

// What a server tells of its bound on streams.
func TestMaxConcurrentStreams(t *testing.T) {
	for _, flag := range []string{"--max-concurrent-streams=7", "--max-concurrent-streams=4294967295", "--max-concurrent-streams=0"} {
		t.Run(flag, func(t *testing.T) {
			pair := NewPair(t, flag)
			pair.Both(t, func(t *testing.T, s *Side) {
				conn, framer := rawHTTP2(t, s)
				defer conn.Close()
				for {
					frame, err := framer.ReadFrame()
					Must(t, err)
					if settings, isSettings := frame.(*http2.SettingsFrame); isSettings && !settings.IsAck() {
						value, given := settings.Value(http2.SettingMaxConcurrentStreams)
						if !given {
							value = math.MaxUint32
						}
						s.Note("streams", fmt.Sprint(value))
						return
					}
				}
			})
		})
	}
}
