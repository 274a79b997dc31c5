package conformance

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	. "quorate/tests/harness"
)

// delayMax tells a watcher that is starved from one on a busy machine with two cores, where etcd itself is late by 0.4 s.
const delayMax = 3 * time.Second

// Ten readers fetch 5 MB in a loop; events, notifications by the clock and those that are asked for come nevertheless.
func TestWatchesBesideLargeReads(t *testing.T) {
	const period, rounds = 100 * time.Millisecond, 30
	for _, security := range []string{"plain", "TLS"} {
		t.Run(security, func(t *testing.T) {
			s := NewServer(t, Programs(t).Server, "m0", "--watch-progress-notify-interval=100ms")
			transport := insecure.NewCredentials()
			if security == "TLS" {
				config := &tls.Config{InsecureSkipVerify: true}
				s.Secure(config, "--auto-tls")
				transport = credentials.NewTLS(config)
			}
			s.Start("", "new")
			s.AwaitReady()
			side := NewSide(s)
			for number := range 50 {
				Must(t, only(side.KV.Put(t.Context(), &pb.PutRequest{Key: bytesOf(fmt.Sprint("load/", number)), Value: make([]byte, 100_000)})))
			}
			ctx, cancel := context.WithCancel(t.Context())
			var readers sync.WaitGroup
			defer readers.Wait()
			defer cancel()
			fetched := make([]int, 10)
			for i := range fetched {
				conn, err := grpc.NewClient(s.Endpoint(), grpc.WithTransportCredentials(transport), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
				Must(t, err)
				defer conn.Close()
				readers.Go(func() {
					for ctx.Err() == nil {
						if _, err := pb.NewKVClient(conn).Range(ctx, span("load/", "load0")); err == nil {
							fetched[i]++
						}
					}
				})
			}
			open := func(request *pb.WatchCreateRequest) pb.Watch_WatchClient {
				stream, err := side.Watch.Watch(ctx)
				Must(t, err)
				Must(t, stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: request}}))
				only(stream.Recv())
				return stream
			}
			events := open(watchKey("event"))
			notified := open(&pb.WatchCreateRequest{Key: bytesOf("quiet"), ProgressNotify: true})
			asked := open(watchKey("quiet"))
			var latest [3]time.Duration
			began := time.Now()
			ticker := time.NewTicker(period)
			defer ticker.Stop()
			Must(t, only(notified.Recv()))
			for range rounds {
				before := time.Now()
				Must(t, only(notified.Recv()))
				latest[1] = max(latest[1], time.Since(before)-period)
				before = time.Now()
				Must(t, only(side.KV.Put(ctx, put("event", "v"))))
				Must(t, only(events.Recv()))
				latest[0] = max(latest[0], time.Since(before))
				before = time.Now()
				Must(t, asked.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}}))
				Must(t, only(asked.Recv()))
				latest[2] = max(latest[2], time.Since(before))
				<-ticker.C
			}
			took := time.Since(began)
			cancel()
			readers.Wait()
			total := 0
			for _, count := range fetched {
				total += count
			}
			t.Logf("late by: event %s, notification %s, answer %s; %d reads in %s", latest[0], latest[1], latest[2], total, took)
			for i, what := range []string{"an event", "a notification", "an answer"} {
				if latest[i] > delayMax {
					t.Errorf("%s was late by %s, more than %s", what, latest[i], delayMax)
				}
			}
			if total < 10 {
				t.Errorf("the readers fetched %d times only", total)
			}
		})
	}
}
