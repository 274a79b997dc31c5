// Package tls holds the server's TLS against real etcd's: who is let in, over what, and how a start fails.
package tls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	. "quorate/tests/harness"
)

// Both runs a test against real etcd and ours: what holds for one must hold for the other.
func both(t *testing.T, test func(t *testing.T, binary string)) {
	programs := Programs(t)
	for name, binary := range map[string]string{"etcd": programs.Peer, "ours": programs.Server} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, binary)
		})
	}
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), CallLimit)
	t.Cleanup(cancel)
	return ctx
}

// server has a certificate for its address; the member is not started.
func server(t *testing.T, binary string, authority *Authority, flags ...string) *Server {
	s := NewServer(t, binary, "m0")
	own := authority.Issue("server", For(s.Endpoint()))
	s.Secure(authority.Trusting(), append([]string{"--cert-file", own.CertFile, "--key-file", own.KeyFile}, flags...)...)
	return s
}

// letIn tells whether a client with the given certificates gets an answer, and over which protocol.
func letIn(s *Server, config *tls.Config) (string, error) {
	client := &http.Client{Timeout: CallLimit, Transport: &http.Transport{
		TLSClientConfig: config, DisableKeepAlives: true, ForceAttemptHTTP2: true,
	}}
	reply, err := client.Get(s.ClientURL + "/version")
	if err != nil {
		return "", err
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err == nil && !strings.Contains(string(text), `"etcdserver":"3.7.3"`) {
		err = Wanted("%s", text)
	}
	return reply.Proto, err
}

// refusal is what a client hears that shakes hands and says nothing: nil if it hears nothing.
func refusal(s *Server, config *tls.Config) error {
	conn, err := tls.Dial("tcp", s.Endpoint(), config)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(CallLimit))
	_, err = conn.Read(make([]byte, 1))
	if timeout, ok := err.(net.Error); ok && timeout.Timeout() {
		return nil
	}
	return err
}

func TestClientsAreJudgedByTheirCertificates(t *testing.T) {
	both(t, func(t *testing.T, binary string) {
		authority, strangers := NewAuthority(t, "authority"), NewAuthority(t, "strangers")
		revoked := authority.Issue("revoked", nil)
		list := authority.Revoke("list.crl", revoked)
		s := server(t, binary, authority, "--client-cert-auth", "--trusted-ca-file", authority.File, "--client-crl-file", list)
		good := authority.Issue("good", nil)
		s.TLS = authority.Trusting(good)
		s.Start("", "new")
		s.AwaitReady()
		client := Client(t, s)
		if _, err := client.Put(within(t), "key", "value"); err != nil {
			t.Errorf("a good certificate: %v", err)
		}
		for _, old := range []*tls.Config{{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12}, {MinVersion: tls.VersionTLS13}} {
			judge := func(name string, wanted string, shown ...Certificate) {
				t.Helper()
				config := authority.Trusting(shown...)
				config.MinVersion, config.MaxVersion = old.MinVersion, old.MaxVersion
				if len(shown) > 0 {
					// Also one that the server did not ask for.
					pair := shown[0].Pair()
					config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
				}
				var err error
				if wanted == "" {
					_, err = letIn(s, config)
				} else {
					err = refusal(s, config)
				}
				switch {
				case wanted == "" && err != nil:
					t.Errorf("%s: %v", name, err)
				case wanted != "" && (err == nil || !strings.Contains(err.Error(), wanted)):
					t.Errorf("%s: %v, wanted %q", name, err, wanted)
				}
			}
			judge("good", "", good)
			judge("for servers only", "remote error: tls: ", authority.Issue("x", func(c *x509.Certificate) {
				c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
			}))
			judge("from anywhere", "", authority.Issue("elsewhere", For("10.9.8.7:1", "nowhere.test:1")))
			judge("a stranger's", "remote error: tls: ", strangers.Issue("good", nil))
			judge("expired", "remote error: tls: expired certificate", authority.Issue("late", func(c *x509.Certificate) {
				c.NotAfter = time.Now().Add(-time.Hour)
			}))
			judge("revoked", "EOF", revoked)
			if old.MaxVersion == 0 {
				judge("none", "remote error: tls: certificate required")
			} else {
				judge("none", "remote error: tls: ")
			}
		}
		Eventually(t, ReadyLimit, "the log's lines", func() error {
			for _, wanted := range []string{
				`rejected connection on client endpoint`,
				`tls: client didn't provide a certificate`,
				`x509: certificate signed by unknown authority`,
				fmt.Sprintf(`transport: certificate serial %x revoked`, revoked.Serial.Bytes()),
			} {
				if !strings.Contains(s.LogText(), wanted) {
					return Wanted("%s", wanted)
				}
			}
			return nil
		})
	})
}

func TestFilesAreReadAgain(t *testing.T) {
	both(t, func(t *testing.T, binary string) {
		authority := NewAuthority(t, "authority")
		good := authority.Issue("good", nil)
		list := authority.Revoke("list.crl")
		s := server(t, binary, authority, "--client-cert-auth", "--trusted-ca-file", authority.File, "--client-crl-file", list)
		s.TLS = authority.Trusting(good)
		s.Start("", "new")
		s.AwaitReady()
		first := authority.Issue("server", For(s.Endpoint())) // in the same place
		serial := func() (shown string) {
			conn, err := tls.Dial("tcp", s.Endpoint(), s.TLS)
			if err != nil {
				return err.Error()
			}
			defer conn.Close()
			return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
		}
		Eventually(t, ReadyLimit, "the new certificate", func() error {
			if shown := serial(); shown != first.Serial.String() {
				return Wanted("%s, not %s", shown, first.Serial)
			}
			return nil
		})
		authority.Revoke("list.crl", good)
		Eventually(t, ReadyLimit, "the revocation", func() error {
			if _, err := letIn(s, s.TLS); err == nil {
				return Wanted("still let in")
			}
			return nil
		})
	})
}

func TestEtcdctlOverTLS(t *testing.T) {
	programs := Programs(t)
	both(t, func(t *testing.T, binary string) {
		authority, strangers := NewAuthority(t, "authority"), NewAuthority(t, "strangers")
		good, bad := authority.Issue("good", nil), strangers.Issue("bad", nil)
		s := server(t, binary, authority, "--client-cert-auth", "--trusted-ca-file", authority.File)
		s.TLS = authority.Trusting(good)
		s.Start("", "new")
		s.AwaitReady()
		run := func(arguments ...string) (string, int) {
			arguments = append([]string{"--endpoints", s.ClientURL, "--command-timeout", "2s", "--dial-timeout", "1s"}, arguments...)
			command := exec.Command(programs.PeerControl, arguments...)
			out, _ := command.CombinedOutput()
			return string(out), command.ProcessState.ExitCode()
		}
		shows := func(c Certificate) []string {
			return []string{"--cacert", authority.File, "--cert", c.CertFile, "--key", c.KeyFile}
		}
		if out, code := run(append(shows(good), "put", "key", "value")...); out != "OK\n" || code != 0 {
			t.Errorf("put: %d %s", code, out)
		}
		if out, code := run(append(shows(good), "get", "key")...); out != "key\nvalue\n" || code != 0 {
			t.Errorf("get: %d %s", code, out)
		}
		for name, arguments := range map[string][]string{
			"a stranger":        append(shows(bad), "get", "key"),
			"nothing shown":     {"--cacert", authority.File, "get", "key"},
			"unknown authority": {"--cacert", strangers.File, "--cert", good.CertFile, "--key", good.KeyFile, "get", "key"},
		} {
			if out, code := run(arguments...); code == 0 || !strings.Contains(out, "context deadline exceeded") {
				t.Errorf("%s: %d %s", name, code, out)
			}
		}
	})
}

func TestOnePortServesPlainAndEncryptedOfEveryProtocol(t *testing.T) {
	both(t, func(t *testing.T, binary string) {
		authority := NewAuthority(t, "authority")
		s := NewServer(t, binary, "m0")
		own := authority.Issue("server", For(s.Endpoint()))
		plain := s.ClientURL
		watched := "https://" + Address(t)
		s.Secure(authority.Trusting(), "--cert-file", own.CertFile, "--key-file", own.KeyFile,
			"--listen-client-urls", plain+",https://"+s.Endpoint(), "--listen-metrics-urls", watched)
		s.Start("", "new")
		s.AwaitReady()
		for protocol, offered := range map[string][]string{"HTTP/2.0": {"h2", "http/1.1"}, "HTTP/1.1": {"http/1.1"}} {
			client := &http.Client{Timeout: CallLimit}
			config := authority.Trusting()
			config.NextProtos = offered
			client.Transport = &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: protocol == "HTTP/2.0"}
			for _, page := range []string{"/version", "/health", "/metrics"} {
				reply, err := client.Get(s.ClientURL + page)
				if err != nil {
					t.Fatalf("%s %s: %v", protocol, page, err)
				}
				io.Copy(io.Discard, reply.Body)
				reply.Body.Close()
				if reply.StatusCode != 200 || reply.Proto != protocol {
					t.Errorf("%s %s: %s over %s", protocol, page, reply.Status, reply.Proto)
				}
			}
		}
		for _, page := range []string{"/metrics", "/health"} {
			// The certificate is for another address of this machine.
			unverified := &http.Client{Timeout: CallLimit, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
			reply, err := unverified.Get(watched + page)
			if err != nil || reply.StatusCode != 200 {
				t.Errorf("metrics address, %s: %v %v", page, reply, err)
			}
		}
		reply, err := http.Get(plain + "/version")
		if err != nil || reply.StatusCode != 200 {
			t.Errorf("plain: %v %v", reply, err)
		}
		if _, err := Client(t, s).Put(within(t), "key", "encrypted"); err != nil {
			t.Error(err)
		}
		unsafe, err := clientv3.New(clientv3.Config{Endpoints: []string{plain}, DialTimeout: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer unsafe.Close()
		got, err := unsafe.Get(within(t), "key")
		if err != nil || string(got.Kvs[0].Value) != "encrypted" {
			t.Errorf("%v %v", got, err)
		}
		for _, wanted := range []string{"serving client traffic insecurely", "serving client traffic securely"} {
			if !strings.Contains(s.LogText(), wanted) {
				t.Errorf("not in the log: %s", wanted)
			}
		}
		// A client without TLS on a port that has nothing else is cut off, and harms nobody.
		only := server(t, binary, authority)
		only.Start("", "new")
		only.AwaitReady()
		if reply, err := http.Get("http://" + only.Endpoint() + "/version"); err == nil {
			t.Errorf("%s", reply.Status)
		}
		if _, err := letIn(only, authority.Trusting()); err != nil {
			t.Error(err)
		}
	})
}

func TestVersionsAndSuites(t *testing.T) {
	both(t, func(t *testing.T, binary string) {
		authority := NewAuthority(t, "authority")
		handshake := func(s *Server, version uint16, suites ...uint16) error {
			config := authority.Trusting()
			config.MinVersion, config.MaxVersion, config.CipherSuites = version, version, suites
			conn, err := tls.Dial("tcp", s.Endpoint(), config)
			if err == nil {
				conn.Close()
			}
			return err
		}
		check := func(s *Server, name, wanted string, version uint16, suites ...uint16) {
			t.Helper()
			err := handshake(s, version, suites...)
			if (wanted == "") != (err == nil) || (err != nil && !strings.HasPrefix(err.Error(), wanted)) {
				t.Errorf("%s: %v, wanted %q", name, err, wanted)
			}
		}
		const version, suite = "remote error: tls: protocol version not supported", "remote error: tls: handshake failure"
		s := server(t, binary, authority, "--cipher-suites", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305")
		s.Start("", "new")
		s.AwaitReady()
		check(s, "1.1", "remote error: tls: ", tls.VersionTLS11)
		check(s, "1.2 with the suite", "", tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)
		check(s, "1.2 with another", suite, tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384)
		check(s, "1.3", "", tls.VersionTLS13)
		s = server(t, binary, authority, "--tls-min-version", "TLS1.3")
		s.Start("", "new")
		s.AwaitReady()
		check(s, "1.2 where 1.3 is the oldest", version, tls.VersionTLS12)
		check(s, "1.3 where it is the oldest", "", tls.VersionTLS13)
		s = server(t, binary, authority, "--tls-max-version", "TLS1.2")
		s.Start("", "new")
		s.AwaitReady()
		check(s, "1.2 where it is the newest", "", tls.VersionTLS12)
		check(s, "1.3 where 1.2 is the newest", version, tls.VersionTLS13)
	})
}

func TestSelfMadeCertificates(t *testing.T) {
	both(t, func(t *testing.T, binary string) {
		s := NewServer(t, binary, "m0")
		s.Secure(&tls.Config{InsecureSkipVerify: true}, "--auto-tls", "--self-signed-cert-validity", "2")
		s.SecurePeers("--peer-auto-tls")
		s.Start("", "new")
		s.AwaitReady()
		file := filepath.Join(s.DataDir, "fixtures", "client", "cert.pem")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(text)
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if lasts := certificate.NotAfter.Sub(certificate.NotBefore).Round(time.Hour); lasts != 2*365*24*time.Hour {
			t.Errorf("valid for %s", lasts)
		}
		if certificate.Subject.String() != "O=etcd" {
			t.Error(certificate.Subject)
		}
		if _, err := os.Stat(filepath.Join(s.DataDir, "fixtures", "peer", "key.pem")); err != nil {
			t.Error(err)
		}
		trusting := &tls.Config{RootCAs: x509.NewCertPool()}
		trusting.RootCAs.AddCert(certificate)
		if _, err := letIn(s, trusting); err != nil {
			t.Error(err)
		}
		s.CloseConn()
		s.Kill()
		s.Start("", "new")
		s.AwaitReady()
		if again, err := os.ReadFile(file); err != nil || string(again) != string(text) {
			t.Errorf("another certificate after the restart: %v", err)
		}
	})
}

// What is wrong with the settings ends the start with 1 and etcd's words. Ours does so before it touches a data folder.
func TestWrongSettingsEndTheStart(t *testing.T) {
	programs := Programs(t)
	authority := NewAuthority(t, "authority")
	own, other := authority.Issue("own", For("127.0.0.1:1")), authority.Issue("other", nil)
	missing := filepath.Join(t.TempDir(), "missing.pem")
	pair := func(prefix string) []string {
		return []string{"--" + prefix + "cert-file", own.CertFile, "--" + prefix + "key-file", own.KeyFile}
	}
	client := func(url string, flags ...string) []string {
		return append([]string{"--listen-client-urls", url, "--advertise-client-urls", url}, flags...)
	}
	peer := func(url string, flags ...string) []string {
		return append([]string{"--listen-peer-urls", url, "--initial-advertise-peer-urls", url, "--initial-cluster", "default=" + url}, flags...)
	}
	for _, c := range []struct {
		name  string
		flags func(url string) []string
		words string
	}{
		{"no certificate", func(url string) []string { return client(url) }, "TLS key/cert (--cert-file, --key-file) must be provided for client url"},
		{"no key", func(url string) []string { return client(url, "--cert-file", own.CertFile) }, "KeyFile and CertFile must both be present[key: , cert: " + own.CertFile + "]"},
		{"no such file", func(url string) []string {
			return client(url, "--cert-file", missing, "--key-file", own.KeyFile)
		}, "open " + missing + ": no such file or directory"},
		{"another's key", func(url string) []string {
			return client(url, "--cert-file", own.CertFile, "--key-file", other.KeyFile)
		}, "tls: private key does not match public key"},
		{"no authority", func(url string) []string {
			return client(url, append(pair(""), "--trusted-ca-file", missing)...)
		}, "open " + missing + ": no such file or directory"},
		{"no peer certificate", func(url string) []string { return peer(url) }, "KeyFile and CertFile are not presented"},
		{"no such peer file", func(url string) []string {
			return peer(url, "--peer-cert-file", missing, "--peer-key-file", own.KeyFile)
		}, "open " + missing + ": no such file or directory"},
		{"half a peer client certificate", func(url string) []string {
			return peer(url, append(pair("peer-"), "--peer-client-cert-file", own.CertFile)...)
		}, "ClientKeyFile and ClientCertFile must both be present or both absent: key: , cert: " + own.CertFile + "]"},
		{"names and hosts", func(url string) []string {
			return peer(url, append(pair("peer-"), "--peer-cert-allowed-cn", "a,b", "--peer-cert-allowed-hostname", "c")...)
		}, `AllowedCNs and AllowedHostnames are mutually exclusive (cns=[\"a\" \"b\"], hostnames=[\"c\"])`},
		{"no certificate for metrics", func(url string) []string { return []string{"--listen-metrics-urls", url} }, "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url"},
		{"an unknown suite", func(url string) []string { return client(url, append(pair(""), "--cipher-suites", "x")...) }, `unexpected TLS cipher suite \"x\"`},
		{"an unknown version", func(string) []string { return []string{"--tls-min-version", "TLS1.1"} }, `unexpected TLS version \"TLS1.1\" (must be one of: TLS1.2, TLS1.3)`},
		{"versions that cross", func(string) []string {
			return []string{"--tls-min-version", "TLS1.3", "--tls-max-version", "TLS1.2"}
		}, "min version (TLS1.3) is greater than max version (TLS1.2)"},
		{"suites of 1.3", func(string) []string {
			return []string{"--tls-min-version", "TLS1.3", "--cipher-suites", "TLS_AES_128_GCM_SHA256"}
		}, "cipher suites cannot be configured when only TLS1.3 is enabled"},
		{"no validity", func(url string) []string { return client(url, "--auto-tls", "--self-signed-cert-validity", "0") }, "selfSignedCertValidity is invalid,it should be greater than 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for name, binary := range map[string]string{"etcd": programs.Peer, "ours": programs.Server} {
				s := NewServer(t, binary, "default")
				url := "https://" + Address(t)
				flags := append([]string{"--data-dir", s.DataDir}, c.flags(url)...)
				ctx, cancel := context.WithTimeout(t.Context(), CallLimit)
				command := exec.CommandContext(ctx, binary, append([]string{
					"--listen-peer-urls", s.PeerURL, "--initial-advertise-peer-urls", s.PeerURL, "--initial-cluster", "default=" + s.PeerURL,
					"--listen-client-urls", s.ClientURL, "--advertise-client-urls", s.ClientURL,
				}, flags...)...)
				out, _ := command.CombinedOutput()
				cancel()
				if code := command.ProcessState.ExitCode(); code != 1 {
					t.Errorf("%s: exit code %d: %s", name, code, out)
				}
				if !strings.Contains(string(out), c.words) {
					t.Errorf("%s does not say %s: %s", name, c.words, out)
				}
				if _, err := os.Stat(s.DataDir); binary == programs.Server && !os.IsNotExist(err) {
					t.Errorf("ours touched its data folder: %v", err)
				}
			}
		})
	}
}

func TestWarningsAboutCertificatesThatNothingUses(t *testing.T) {
	both(t, func(t *testing.T, binary string) {
		authority := NewAuthority(t, "authority")
		own := authority.Issue("own", nil)
		s := Single(t, binary, "--cert-file", own.CertFile, "--key-file", own.KeyFile, "--client-cert-auth",
			"--peer-cert-file", own.CertFile, "--peer-key-file", own.KeyFile, "--peer-client-cert-auth")
		for _, wanted := range []string{
			"scheme is http or unix while key and cert files are present; ignoring key and cert files",
			"scheme is http or unix while --client-cert-auth is enabled; ignoring client cert auth for this URL",
			"scheme is HTTP while key and cert files are present; ignoring key and cert files",
			"scheme is HTTP while --peer-client-cert-auth is enabled; ignoring client cert auth for this URL",
		} {
			if !strings.Contains(s.LogText(), wanted) {
				t.Errorf("not in the log: %s", wanted)
			}
		}
	})
}

// Connections that say nothing, or that stop in the middle of their first words, keep nobody waiting.
func TestSilentConnectionsStarveNobody(t *testing.T) {
	authority := NewAuthority(t, "authority")
	s := server(t, Programs(t).Server, authority)
	s.Start("", "new")
	s.AwaitReady()
	for number := range 3000 {
		conn, err := net.Dial("tcp", s.Endpoint())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if number%2 == 0 {
			conn.Write([]byte{0x16, 3, 1, 2, 0, 1})
		}
	}
	began := time.Now()
	if _, err := letIn(s, authority.Trusting()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("served after %s", took)
	}
	if lines := strings.Count(s.LogText(), "rejected connection on client endpoint"); lines > 200 {
		t.Errorf("%d lines in the log", lines)
	}
}
