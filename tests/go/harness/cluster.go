package harness

import (
	"context"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// Single starts one member and waits until it serves.
func Single(t testing.TB, binary string, flags ...string) *Server {
	t.Helper()
	s := NewServer(t, binary, "m0", flags...)
	s.Start("", "new")
	s.AwaitReady()
	return s
}

// Cluster is several members started together.
type Cluster struct {
	Members []*Server
	t       testing.TB
	initial string
}

// ClusterOf is a cluster of members that the test starts itself.
func ClusterOf(t testing.TB, members ...*Server) *Cluster { return &Cluster{Members: members, t: t} }

// StartCluster starts size members of one binary and waits until all serve.
func StartCluster(t testing.TB, binary string, size int, flags ...string) *Cluster {
	t.Helper()
	return StartClusterOf(t, binary, size, func(s *Server) { s.flags = append(s.flags, flags...) })
}

// StartClusterOf is StartCluster with members that are prepared one by one.
func StartClusterOf(t testing.TB, binary string, size int, prepare func(*Server)) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	var parts []string
	for i := range size {
		s := NewServer(t, binary, "m"+string(rune('0'+i)))
		prepare(s)
		c.Members = append(c.Members, s)
		parts = append(parts, s.Name+"="+s.PeerURL)
	}
	c.initial = strings.Join(parts, ",")
	c.StartAll()
	c.AwaitReady()
	return c
}

// StartAll starts every member that does not run.
func (c *Cluster) StartAll() {
	for _, s := range c.Members {
		if s.Ended() {
			c.Start(s)
		}
	}
}

// Start starts one member again on its folder.
func (c *Cluster) Start(s *Server) { s.Start(c.initial, "new") }

// AwaitReady waits for every member.
func (c *Cluster) AwaitReady() {
	c.t.Helper()
	for _, s := range c.Members {
		s.AwaitReady()
	}
}

// Ended tells whether no process runs for the member.
func (s *Server) Ended() bool {
	if s.command == nil {
		return true
	}
	select {
	case <-s.exited:
		return true
	default:
		return false
	}
}

// Status asks one member.
func (s *Server) Status() (*pb.StatusResponse, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return pb.NewMaintenanceClient(s.Conn()).Status(ctx, &pb.StatusRequest{})
}

// Leader waits until some running member says that it leads, and gives it.
func (c *Cluster) Leader() *Server {
	c.t.Helper()
	var leader *Server
	Eventually(c.t, ReadyLimit, "a leader", func() error {
		for _, s := range c.Members {
			if s.Ended() {
				continue
			}
			if status, err := s.Status(); err == nil && status.Leader != 0 && status.Leader == status.Header.MemberId {
				leader = s
				return nil
			}
		}
		return Wanted("no member leads")
	})
	return leader
}

// Followers are the running members other than the leader.
func (c *Cluster) Followers() []*Server {
	leader := c.Leader()
	var others []*Server
	for _, s := range c.Members {
		if s != leader && !s.Ended() {
			others = append(others, s)
		}
	}
	return others
}
