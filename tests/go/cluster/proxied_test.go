package cluster

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	. "quorate/tests/harness"
)

// relay passes connections on to an address, or swallows what they say.
type relay struct {
	lock  sync.Mutex
	black bool
	open  []net.Conn
}

// newRelay listens for the address that it passes on to.
func newRelay(t *testing.T, to string) (*relay, string) {
	listener, err := net.Listen("tcp", Address(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	r := &relay{}
	t.Cleanup(func() { r.swallow(false) })
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			onward, err := net.Dial("tcp", to)
			if err != nil {
				from.Close()
				continue
			}
			r.lock.Lock()
			r.open = append(r.open, from, onward)
			r.lock.Unlock()
			go r.pass(from, onward)
			go r.pass(onward, from)
		}
	}()
	return r, listener.Addr().String()
}

func (r *relay) pass(from, to net.Conn) {
	defer to.Close()
	defer from.Close()
	buffer := make([]byte, 64<<10)
	for {
		count, err := from.Read(buffer)
		if err != nil {
			return
		}
		r.lock.Lock()
		black := r.black
		r.lock.Unlock()
		if black {
			continue
		}
		if _, err := to.Write(buffer[:count]); err != nil {
			return
		}
	}
}

// swallow begins or ends the black hole; what was lost in it can't be gone on with.
func (r *relay) swallow(black bool) {
	r.lock.Lock()
	defer r.lock.Unlock()
	r.black = black
	if !black {
		for _, connection := range r.open {
			connection.Close()
		}
		r.open = nil
	}
}

// Members that reach each other through relays, at other addresses than they listen on. While those swallow everything, each
// member serves its own copy and says that it has no leader; afterwards all go on.
func TestMembersBehindRelays(t *testing.T) {
	programs := Programs(t)
	for _, binary := range []string{programs.Peer, programs.Server} {
		var relays []*relay
		c := StartClusterOf(t, binary, 3, func(s *Server) {
			listening := s.PeerURL
			r, address := newRelay(t, strings.TrimPrefix(listening, "http://"))
			relays = append(relays, r)
			s.PeerURL = "http://" + address
			s.AddFlags("--listen-peer-urls=" + listening)
		})
		client := Client(t, c.Members...)
		if _, err := client.Put(within(t), "k", "v"); err != nil {
			t.Fatal(err)
		}
		own := func(s *Server) error {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			reply, err := pb.NewKVClient(s.Conn()).Range(ctx, &pb.RangeRequest{Key: []byte("k"), Serializable: true})
			if err == nil && len(reply.Kvs) != 1 {
				err = Wanted("%v", reply)
			}
			return err
		}
		for _, s := range c.Members {
			Eventually(t, ReadyLimit, "the write everywhere", func() error { return own(s) })
		}
		for _, r := range relays {
			r.swallow(true)
		}
		for _, s := range c.Members {
			Eventually(t, ReadyLimit, "the loss of the leader", func() error {
				status, err := s.Status()
				if err == nil && status.Leader != 0 {
					err = Wanted("leader %x", status.Leader)
				}
				return err
			})
			if err := own(s); err != nil {
				t.Errorf("%s: its own copy: %v", s.Name, err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if reply, err := pb.NewKVClient(s.Conn()).Range(ctx, &pb.RangeRequest{Key: []byte("k")}); err == nil {
				t.Errorf("%s: a linearizable read without a quorum: %v", s.Name, reply)
			}
			cancel()
		}
		for _, r := range relays {
			r.swallow(false)
		}
		Eventually(t, ReadyLimit, "a write afterwards", func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			_, err := client.Put(ctx, "k", "w")
			return err
		})
	}
}

// A new cluster takes over the addresses of an old one, member by member: neither takes the other for its own, no data goes
// over, and no alarm is raised, although each asks the others for their hashes.
func TestANewClusterAtTheOldAddresses(t *testing.T) {
	programs := Programs(t)
	for _, binary := range []string{programs.Peer, programs.Server} {
		flags := []string{"--corrupt-check-time=200ms", "--feature-gates=CompactHashCheck=true", "--compact-hash-check-time=200ms"}
		old := StartCluster(t, binary, 3, flags...)
		if _, err := Client(t, old.Members...).Put(within(t), "old", "1"); err != nil {
			t.Fatal(err)
		}
		var added []*Server
		var parts []string
		for i, before := range old.Members {
			s := NewServer(t, binary, fmt.Sprint("n", i), append(flags, "--initial-cluster-token=another")...)
			s.ClientURL, s.PeerURL = before.ClientURL, before.PeerURL
			added, parts = append(added, s), append(parts, s.Name+"="+s.PeerURL)
		}
		alarmsOf := func(s *Server) {
			reply, err := pb.NewMaintenanceClient(s.Conn()).Alarm(within(t), &pb.AlarmRequest{})
			if err != nil || len(reply.Alarms) != 0 {
				t.Errorf("%s at %s: %v %v", binary, s.Name, reply, err)
			}
		}
		for i, before := range old.Members {
			before.CloseConn()
			before.Kill()
			added[i].Start(strings.Join(parts, ","), "new")
			switch i {
			case 0:
				// Two of the old ones go on, beside a stranger at the third one's place.
				client := Client(t, old.Members[1:]...)
				Eventually(t, ReadyLimit, "the old cluster's writes", func() error {
					_, err := client.Put(within(t), "old", "2")
					return err
				})
				alarmsOf(old.Members[1])
			case 1:
				// Two of the new ones make a quorum, beside the last of the old.
				added[0].AwaitReady()
				added[1].AwaitReady()
				client := Client(t, added[0], added[1])
				for number := range 50 {
					if _, err := client.Put(within(t), "new", fmt.Sprint(number)); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := client.Compact(within(t), 40); err != nil {
					t.Fatal(err)
				}
				// The last one is heard of, as a stranger.
				Eventually(t, ReadyLimit, "word of the stranger", func() error {
					for _, s := range append(added[:2:2], old.Members[2]) {
						if strings.Contains(strings.ToLower(s.LogText()), "cluster id mismatch") {
							return nil
						}
					}
					return Wanted("a line on the cluster ID")
				})
				alarmsOf(added[0])
			}
		}
		for _, s := range added {
			s.AwaitReady()
			reply, err := pb.NewKVClient(s.Conn()).Range(within(t), &pb.RangeRequest{Key: []byte("old")})
			if err != nil || len(reply.Kvs) != 0 {
				t.Errorf("%s at %s: %v %v", binary, s.Name, reply, err)
			}
			alarmsOf(s)
		}
	}
}
