package conformance

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	. "quorate/tests/harness"
)

// The bounds of docs/operations.md that etcd does not have: who goes beyond is refused at once, and all others are served.

// bounded is our server, or a skipped test.
func bounded(t *testing.T, flags ...string) *Side {
	if !OursIsQuorate(t) {
		t.Skip("etcd has other bounds")
	}
	return NewSide(Single(t, Programs(t).Server, flags...))
}

// Four backups that nobody reads on; the fifth is refused, and let in when one of them ends.
func TestBackupsAreBounded(t *testing.T) {
	s := bounded(t)
	for number := range 8 {
		ctx, cancel := s.Context()
		Must(t, only(s.KV.Put(ctx, &pb.PutRequest{Key: bytesOf(fmt.Sprint("k", number)), Value: make([]byte, 1_000_000)})))
		cancel()
	}
	first := func() (context.CancelFunc, error) {
		ctx, cancel := s.Context()
		stream, err := s.Maintenance.Snapshot(ctx, &pb.SnapshotRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		return cancel, err
	}
	var under []context.CancelFunc
	for range 4 {
		cancel, err := first()
		defer cancel()
		Must(t, err)
		under = append(under, cancel)
	}
	began := time.Now()
	cancel, err := first()
	cancel()
	if status.Code(err) != codes.ResourceExhausted || time.Since(began) > 5*time.Second {
		t.Errorf("the fifth backup: %v after %s", err, time.Since(began))
	}
	under[0]()
	Eventually(t, ReadyLimit, "room for a backup", func() error {
		cancel, err := first()
		cancel()
		return err
	})
	ctx, cancel := s.Context()
	defer cancel()
	Must(t, only(s.KV.Put(ctx, put("a", "beside them"))))
}

// Metadata that is too large is refused, and the connection goes on.
func TestHeadsAreBounded(t *testing.T) {
	s := bounded(t)
	ctx, cancel := s.Context()
	defer cancel()
	err := only(s.KV.Range(metadata.AppendToOutgoingContext(ctx, "long", strings.Repeat("x", 70<<10)), get("a")))
	if err == nil || ctx.Err() != nil {
		t.Errorf("metadata of 70 KiB: %v", err)
	}
	Must(t, only(s.KV.Range(ctx, get("a"))))
}

// The watcher beyond the bound is refused by a canceled answer; those before it go on.
func TestWatchersOfAStreamAreBounded(t *testing.T) {
	s := bounded(t)
	const bound = 200_000
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	stream, err := s.Watch.Watch(ctx)
	Must(t, err)
	// Not too many ahead: see the bound on small messages that wait to be read.
	ahead := make(chan struct{}, 10_000)
	go func() {
		for range bound + 1 {
			ahead <- struct{}{}
			if stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: watchKey("k")}}) != nil {
				return
			}
		}
	}()
	for number := range bound + 1 {
		reply, err := stream.Recv()
		Must(t, err)
		<-ahead
		if !reply.Created || reply.Canceled != (number == bound) {
			t.Fatalf("watcher %d: %v", number, reply)
		}
	}
	Must(t, stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}))
	reply, err := stream.Recv()
	Must(t, err)
	if reply.WatchId != -1 || reply.Canceled {
		t.Errorf("progress afterwards: %v", reply)
	}
}

// A crowd at the address for metrics waits there, and keeps nobody from the clients' address.
func TestConnectionsForMetricsAreBounded(t *testing.T) {
	address := Address(t)
	s := bounded(t, "--listen-metrics-urls=http://"+address)
	var crowd []net.Conn
	for range 256 {
		connection, err := net.Dial("tcp", address)
		Must(t, err)
		defer connection.Close()
		crowd = append(crowd, connection)
	}
	// All of them are in: the last is answered.
	last := crowd[255]
	Must(t, last.SetDeadline(time.Now().Add(ReadyLimit)))
	fmt.Fprint(last, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
	Must(t, only(last.Read(make([]byte, 100))))
	further, err := net.Dial("tcp", address)
	Must(t, err)
	defer further.Close()
	fmt.Fprint(further, "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
	Must(t, further.SetReadDeadline(time.Now().Add(time.Second)))
	if count, err := further.Read(make([]byte, 100)); err == nil || err == io.EOF {
		t.Errorf("one more is answered: %d bytes, %v", count, err)
	}
	if code, _, _ := ask(t, s, "GET", "/health", ""); code != http.StatusOK {
		t.Errorf("the clients' address: %d", code)
	}
	crowd[0].Close()
	Must(t, further.SetReadDeadline(time.Now().Add(ReadyLimit)))
	answer, err := io.ReadAll(further)
	Must(t, err)
	if !strings.HasPrefix(string(answer), "HTTP/1.1 200 ") {
		t.Errorf("after one has gone: %s", answer)
	}
}
