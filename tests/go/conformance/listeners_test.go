package conformance

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	. "quorate/tests/harness"
)

// shown is what an HTTP client gets: status, type and body, or that it gets nothing.
func shown(client *http.Client, method, url, contentType, body string) string {
	request, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return err.Error()
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	reply, err := client.Do(request)
	if err != nil {
		return "no answer"
	}
	defer reply.Body.Close()
	text, _ := io.ReadAll(reply.Body)
	if strings.HasPrefix(reply.Header.Get("Content-Type"), "application/grpc") {
		text = fmt.Appendf(nil, "%d bytes", min(len(text), 1))
	}
	status := reply.Header.Get("Grpc-Status") + " " + reply.Header.Get("Grpc-Message")
	return fmt.Sprintf("%s [%s] [%s] %s", reply.Status, reply.Header.Get("Content-Type"), status,
		identities.ReplaceAllString(compact(string(text)), `"$1":"*"`))
}

// overHTTP1 and overHTTP2 speak one version of HTTP alone, HTTP/2 also without TLS.
func overHTTP1() *http.Client {
	return speaking(func(protocols *http.Protocols) { protocols.SetHTTP1(true) })
}

func overHTTP2() *http.Client {
	return speaking(func(protocols *http.Protocols) { protocols.SetHTTP2(true); protocols.SetUnencryptedHTTP2(true) })
}

func speaking(set func(*http.Protocols)) *http.Client {
	protocols := new(http.Protocols)
	set(protocols)
	config := &tls.Config{InsecureSkipVerify: true}
	if !protocols.HTTP2() {
		config.NextProtos = []string{"http/1.1"}
	}
	return &http.Client{Timeout: CallLimit, Transport: &http.Transport{Protocols: protocols, TLSClientConfig: config, DisableKeepAlives: true}}
}

// With --listen-client-http-urls, pages and gateway are at the one address and gRPC at the other, plain and encrypted.
func TestHTTPApart(t *testing.T) {
	urls := map[*Server][4]string{}
	pair := NewPairOf(t, func(s *Server) {
		encrypted, pages, encryptedPages := "https://"+Address(t), "http://"+Address(t), "https://"+Address(t)
		urls[s] = [4]string{s.ClientURL, encrypted, pages, encryptedPages}
		s.PagesURL = pages
		s.AddFlags("--auto-tls", "--listen-client-urls="+s.ClientURL+","+encrypted, "--listen-client-http-urls="+pages+","+encryptedPages)
	})
	pair.Peer.Server.PagesURL, pair.Ours.Server.PagesURL = urls[pair.Peer.Server][2], urls[pair.Ours.Server][2]
	for _, side := range []*Side{pair.Peer, pair.Ours} {
		Eventually(t, ReadyLimit, "versions", func() error {
			if text := shown(overHTTP1(), "GET", side.Server.PagesURL+"/version", "", ""); !strings.Contains(text, `"etcdcluster":"3.7.0","storage":"3.7.0"`) {
				return Wanted("%s", text)
			}
			return nil
		})
	}
	pair.Both(t, func(t *testing.T, s *Side) {
		Do(s, s.KV.Put, put("a", "1"))
		for number, url := range urls[s.Server] {
			for _, way := range []struct {
				name   string
				client *http.Client
			}{{"HTTP/1", overHTTP1()}, {"HTTP/2", overHTTP2()}} {
				for _, asked := range []struct{ method, path, contentType, body string }{
					{"GET", "/version", "", ""}, {"GET", "/health", "", ""}, {"GET", "/nosuch", "", ""},
					{"POST", "/v3/kv/range", "application/json", `{"key":"YQ=="}`},
					{"GET", "/etcdserverpb.KV/Range", "", ""}, {"GET", "/etcdserverpb.KV/Range", "application/grpc", ""},
					{"POST", "/etcdserverpb.KV/Range", "application/grpc", "\x00\x00\x00\x00\x03\x0a\x01b"},
				} {
					if way.name == "HTTP/1" && number >= 2 && strings.HasPrefix(asked.path, "/etcdserverpb") {
						continue // one thing that neither speaks: etcd's pages have no such path, which is asked above
					}
					s.Note(fmt.Sprint(number, way.name, asked), shown(way.client, asked.method, url+asked.path, asked.contentType, asked.body))
				}
			}
		}
		for number, url := range urls[s.Server] {
			transport := insecure.NewCredentials()
			if strings.HasPrefix(url, "https") {
				transport = credentials.NewTLS(&tls.Config{InsecureSkipVerify: true})
			}
			s.Note(fmt.Sprint("gRPC at ", number), fmt.Sprint(rangeAt(url[strings.LastIndex(url, "/")+1:], transport)))
		}
		for _, line := range []string{`"serving client traffic securely","traffic":"grpc"`, `"serving client traffic securely","traffic":"http"`} {
			s.Note(line, fmt.Sprint(strings.Contains(s.Server.LogText(), line)))
		}
	})
}

// rangeAt makes one call at an address, and tells whether there is somebody to answer it.
func rangeAt(address string, transport credentials.TransportCredentials) string {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(transport), grpc.WithDisableRetry())
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), CallLimit)
	defer cancel()
	reply, err := pb.NewKVClient(conn).Range(ctx, get("a"))
	if err != nil {
		return strings.SplitN(RenderError(err), ":", 2)[0]
	}
	return fmt.Sprint(reply.Count)
}

// Clients over unix sockets, plain and encrypted, with every kind of client, beside a TCP address.
func TestClientsOverUnixSockets(t *testing.T) {
	programs := Programs(t)
	folders := map[*Server]string{}
	pair := NewPairOf(t, func(s *Server) {
		folder, err := os.MkdirTemp("", "quorate-unix-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(folder) })
		folders[s] = folder
		plain, encrypted := "unix://"+folder+"/plain.sock", "unixs://"+folder+"/encrypted.sock"
		// What a process that was killed leaves behind does not hinder the next one.
		leftover, err := net.Listen("unix", folder+"/plain.sock")
		if err != nil {
			t.Fatal(err)
		}
		leftover.(*net.UnixListener).SetUnlinkOnClose(false)
		leftover.Close()
		s.WorkDir = folder
		s.AddFlags("--auto-tls", "--listen-client-urls="+s.ClientURL+",unix://in-folder:1,"+plain+","+encrypted, "--advertise-client-urls="+plain)
	})
	pair.Both(t, func(t *testing.T, s *Side) {
		folder := folders[s.Server]
		Do(s, s.KV.Put, put("a", "1"))
		s.Note("plain", rangeAt("unix://"+folder+"/plain.sock", insecure.NewCredentials()))
		s.Note("in the working folder", rangeAt("unix://"+folder+"/in-folder:1", insecure.NewCredentials()))
		s.Note("encrypted", rangeAt("unix://"+folder+"/encrypted.sock", credentials.NewTLS(&tls.Config{InsecureSkipVerify: true})))
		s.Note("plain at the encrypted one", rangeAt("unix://"+folder+"/encrypted.sock", insecure.NewCredentials()))
		pages := &http.Client{Timeout: CallLimit, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", folder+"/plain.sock")
		}}}
		s.Note("/health", shown(pages, "GET", "http://unix/health", "", ""))
		s.Note("gateway", shown(pages, "POST", "http://unix/v3/kv/range", "", `{"key":"YQ=="}`))
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{"unix://" + folder + "/plain.sock"}, DialTimeout: 5 * time.Second})
		Must(t, err)
		defer client.Close()
		ctx, cancel := s.Context()
		defer cancel()
		reply, err := client.Get(ctx, "a")
		Must(t, err)
		s.Note("etcd's client", string(reply.Kvs[0].Value))
		members, err := client.MemberList(ctx)
		Must(t, err)
		s.Note("advertised", strings.ReplaceAll(strings.Join(members.Members[0].ClientURLs, ","), folder, "*"))
		for _, control := range []string{programs.PeerControl, programs.Control} {
			for _, arguments := range [][]string{{"get", "a"}, {"endpoint", "health", "-w", "json"}, {"member", "list", "-w", "fields"}} {
				command := exec.Command(control, append([]string{"--endpoints=unix://" + folder + "/plain.sock"}, arguments...)...)
				text, err := command.Output()
				line, _, _ := strings.Cut(strings.ReplaceAll(string(text), folder, "*"), "took")
				if arguments[0] == "member" {
					line = fmt.Sprint(strings.Contains(line, `"ClientURL" : "unix://*/plain.sock"`))
				}
				s.Note(filepath.Base(control)+" "+arguments[0], fmt.Sprint(line, err))
			}
		}
	})
	for _, side := range []*Side{pair.Peer, pair.Ours} {
		side.Server.CloseConn()
		side.Server.Signal(syscall.SIGTERM)
		side.Server.AwaitExit(ReadyLimit)
		left, err := os.ReadDir(folders[side.Server])
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range left {
			if entry.Type()&os.ModeSocket != 0 {
				t.Errorf("%s is left behind", entry.Name())
			}
		}
	}
}

// Members that reach each other over unix sockets, in their common working folder, plain and encrypted. Who comes through
// one has no address that a certificate could be for.
func TestMembersOverUnixSockets(t *testing.T) {
	programs := Programs(t)
	for name, binary := range map[string]string{"etcd": programs.Peer, "ours": programs.Server} {
		for _, scheme := range []string{"unix", "unixs"} {
			if scheme == "unixs" && (binary == programs.Peer || !OursIsQuorate(t)) {
				continue // etcd listens there without TLS, and its members never find each other
			}
			t.Run(name+" "+scheme, func(t *testing.T) {
				t.Parallel()
				folder, err := os.MkdirTemp("", "quorate-unix-")
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { os.RemoveAll(folder) })
				cluster := StartClusterOf(t, binary, 3, func(s *Server) {
					s.WorkDir = folder
					s.PeerURL = scheme + "://localhost:2000" + s.Name[1:]
					if scheme == "unixs" {
						s.AddFlags("--peer-auto-tls", "--peer-skip-client-san-verification")
					}
				})
				client := Client(t, cluster.Members...)
				write := func(key string) {
					t.Helper()
					Eventually(t, ReadyLimit, "a write of "+key, func() error {
						ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
						defer cancel()
						_, err := client.Put(ctx, key, "1")
						return err
					})
				}
				write("a")
				leader := cluster.Leader()
				leader.CloseConn()
				leader.Kill()
				write("b")
				cluster.Start(leader)
				leader.AwaitReady()
				for _, member := range cluster.Members {
					Eventually(t, ReadyLimit, "both keys at "+member.Name, func() error {
						ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
						defer cancel()
						reply, err := pb.NewKVClient(member.Conn()).Range(ctx, &pb.RangeRequest{Key: []byte("a"), RangeEnd: []byte("c"), Serializable: true})
						if err == nil && reply.Count != 2 {
							err = Wanted("2 keys, found %d", reply.Count)
						}
						return err
					})
				}
				if t.Failed() {
					return
				}
				for line := range strings.Lines(leader.LogText()) {
					if strings.Contains(line, `"level":"error"`) {
						t.Errorf("%s", line)
					}
				}
			})
		}
	}
}

// A socket that cannot be made ends the start.
func TestUnixSocketThatCannotBeMade(t *testing.T) {
	programs := Programs(t)
	for _, binary := range []string{programs.Peer, programs.Server} {
		command := exec.Command(binary, "--data-dir="+t.TempDir()+"/data", "--listen-peer-urls=http://"+Address(t),
			"--listen-client-urls=unix:///nosuch/folder/a.sock", "--advertise-client-urls=unix:///nosuch/folder/a.sock")
		output, err := command.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		named := false
		for scanner := bufio.NewScanner(output); scanner.Scan(); {
			named = named || strings.Contains(scanner.Text(), "fatal") && strings.Contains(scanner.Text(), "/nosuch/folder/a.sock")
		}
		var exit *exec.ExitError
		if err := command.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 1 {
			t.Errorf("%s: %v", binary, err)
		}
		if !named {
			t.Errorf("%s does not name the socket", binary)
		}
	}
}

func trustingAnybody() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }
