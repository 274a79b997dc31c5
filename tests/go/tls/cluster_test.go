package tls

import (
	"fmt"
	"strings"
	"testing"

	. "quorate/tests/harness"
)

// secureCluster starts three members that talk over TLS among themselves and with clients.
func secureCluster(t *testing.T, binary string, authority *Authority, flags ...string) *Cluster {
	shown := authority.Issue("client", nil)
	return StartClusterOf(t, binary, 3, func(s *Server) {
		own := authority.Issue(s.Name, For(s.Endpoint(), s.PeerURL[len("http://"):], "127.0.0.1:1"))
		s.Secure(authority.Trusting(shown), append([]string{
			"--cert-file", own.CertFile, "--key-file", own.KeyFile, "--client-cert-auth", "--trusted-ca-file", authority.File,
		}, flags...)...)
		s.SecurePeers("--peer-cert-file", own.CertFile, "--peer-key-file", own.KeyFile, "--peer-client-cert-auth",
			"--peer-trusted-ca-file", authority.File)
	})
}

func TestAClusterWithCertificatesAllAround(t *testing.T) {
	both(t, func(t *testing.T, binary string) {
		authority := NewAuthority(t, "authority")
		c := secureCluster(t, binary, authority, "--peer-cert-allowed-cn", "m0,m1,m2", "--snapshot-count", "100")
		for round := range 3 {
			for number, s := range c.Members {
				if _, err := Client(t, s).Put(within(t), fmt.Sprintf("key/%d/%d", round, number), s.Name); err != nil {
					t.Fatalf("through %s: %v", s.Name, err)
				}
			}
		}
		lost := c.Followers()[0]
		lost.CloseConn()
		lost.Kill()
		client := Client(t, c.Leader())
		for number := range 300 {
			if _, err := client.Put(within(t), fmt.Sprintf("more/%d", number), strings.Repeat("x", 1000)); err != nil {
				t.Fatal(err)
			}
		}
		c.Start(lost)
		lost.AwaitReady()
		got, err := Client(t, lost).Get(within(t), "more/299")
		if err != nil || len(got.Kvs) != 1 {
			t.Errorf("%v %v", got, err)
		}
	})
}

// A member whose common name is not allowed stays outside, and both sides' logs say why.
func TestAMemberWithAnotherNameStaysOutside(t *testing.T) {
	both(t, func(t *testing.T, binary string) {
		authority := NewAuthority(t, "authority")
		var members []*Server
		var parts []string
		for _, name := range []string{"m0", "m1", "m2"} {
			s := NewServer(t, binary, name)
			own := authority.Issue(name, For(s.PeerURL[len("http://"):], "127.0.0.1:1"))
			s.SecurePeers("--peer-cert-file", own.CertFile, "--peer-key-file", own.KeyFile, "--peer-client-cert-auth",
				"--peer-trusted-ca-file", authority.File, "--peer-cert-allowed-cn", "m0,m1")
			members, parts = append(members, s), append(parts, name+"="+s.PeerURL)
		}
		for _, s := range members {
			s.Start(strings.Join(parts, ","), "new")
		}
		members[0].AwaitReady()
		members[1].AwaitReady()
		Eventually(t, ReadyLimit, "the log's lines", func() error {
			for _, s := range members {
				if !strings.Contains(s.LogText(), "rejected connection on peer endpoint") {
					return Wanted("%s turned nobody away", s.Name)
				}
			}
			if !strings.Contains(members[2].LogText(), "remote error: tls: bad certificate") {
				return Wanted("the outsider's log does not say that it is refused")
			}
			for _, s := range members[:2] {
				if !strings.Contains(s.LogText(), "client certificate authentication failed") {
					return Wanted("the log of %s does not say why", s.Name)
				}
			}
			return nil
		})
		if members[2].Healthy() == nil {
			t.Error("the outsider serves")
		}
	})
}

func TestMembersWithSelfMadeCertificates(t *testing.T) {
	both(t, func(t *testing.T, binary string) {
		c := StartClusterOf(t, binary, 3, func(s *Server) { s.SecurePeers("--peer-auto-tls") })
		for _, s := range c.Members {
			if _, err := Client(t, s).Put(within(t), "key", s.Name); err != nil {
				t.Errorf("through %s: %v", s.Name, err)
			}
		}
	})
}
