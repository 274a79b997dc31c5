package cluster

import (
	"context"
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
