package harness

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// ReadyLimit bounds the wait for a start, an election or a catch-up on a busy two-core machine.
const ReadyLimit = 30 * time.Second

// Server is one member: a process, its folder, its addresses. It keeps both over Kill and Start.
type Server struct {
	Name      string
	ClientURL string
	PeerURL   string
	DataDir   string
	// PagesURL is where HTTP is served, if not at ClientURL.
	PagesURL string
	// NoCluster leaves --initial-cluster and its token out: the member finds the others in another way.
	NoCluster bool
	// WorkDir is the process's working folder; empty: the test's.
	WorkDir string
	// Environment is added to the process's.
	Environment []string
	// TLS is how clients reach an https URL; nil for http.
	TLS *tls.Config

	t       testing.TB
	binary  string
	flags   []string
	log     *Log
	command *exec.Cmd
	exited  chan struct{}
	conn    *grpc.ClientConn
}

var addresses atomic.Uint32

// Address gives host:port that nobody else uses: a loopback address of this process's own (so that no outgoing
// connection of anybody can take the port while a member is down), and a port that the kernel chose.
func Address(t testing.TB) string {
	t.Helper()
	number := addresses.Add(1)
	pid := uint32(os.Getpid())
	host := fmt.Sprintf("127.%d.%d.%d", 1+pid>>8%200, pid%256, 1+number%250)
	listener, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatalf("no free address on %s: %v", host, err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// NewServer prepares a member with addresses of its own; nothing runs before Start. The extra flags come last.
func NewServer(t testing.TB, binary, name string, flags ...string) *Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "quorate-test-")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{
		Name:      name,
		ClientURL: "http://" + Address(t),
		PeerURL:   "http://" + Address(t),
		DataDir:   filepath.Join(dir, "data"),
		t:         t,
		binary:    binary,
		flags:     flags,
		log:       &Log{},
	}
	t.Cleanup(func() {
		s.CloseConn()
		s.Kill()
		os.RemoveAll(dir)
		if t.Failed() {
			t.Logf("log of %s (%s):\n%s", s.Name, filepath.Base(s.binary), s.log.Tail(60))
		}
	})
	return s
}

// Secure makes clients reach the member over https, and adds flags.
func (s *Server) Secure(config *tls.Config, flags ...string) {
	s.ClientURL = "https://" + s.Endpoint()
	s.TLS = config
	s.flags = append(s.flags, flags...)
}

// SecurePeers makes members reach this one over https, and adds flags.
func (s *Server) SecurePeers(flags ...string) {
	s.PeerURL = "https://" + strings.TrimPrefix(s.PeerURL, "http://")
	s.flags = append(s.flags, flags...)
}

// HTTP asks the member's pages, over TLS if it is secure.
func (s *Server) HTTP() *http.Client {
	if s.TLS == nil {
		return http.DefaultClient
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: s.TLS, DisableKeepAlives: true, ForceAttemptHTTP2: true}}
}

// Start runs the process with the given cluster ("" is itself alone) and the state "new" or "existing".
func (s *Server) Start(cluster, state string) {
	s.t.Helper()
	binary, err := filepath.Abs(s.binary)
	if err != nil {
		s.t.Fatal(err)
	}
	if cluster == "" {
		cluster = s.Name + "=" + s.PeerURL
	}
	args := []string{
		"--name", s.Name, "--data-dir", s.DataDir,
		"--listen-client-urls", s.ClientURL, "--advertise-client-urls", s.ClientURL,
		"--listen-peer-urls", s.PeerURL, "--initial-advertise-peer-urls", s.PeerURL,
		"--initial-cluster-state", state,
	}
	if !s.NoCluster {
		args = append(args, "--initial-cluster", cluster, "--initial-cluster-token", "tests")
	}
	command := exec.Command(binary, append(args, s.flags...)...)
	command.Stdout, command.Stderr = s.log, s.log
	command.Dir = s.WorkDir
	command.Env = append(os.Environ(), s.Environment...)
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		s.t.Fatalf("%s does not start: %v", s.binary, err)
	}
	exited := make(chan struct{})
	go func() {
		command.Wait()
		close(exited)
	}()
	s.command, s.exited = command, exited
}

// AwaitReady waits until the member serves linearizable requests.
func (s *Server) AwaitReady() {
	s.t.Helper()
	Eventually(s.t, ReadyLimit, s.Name+" ready", func() error {
		select {
		case <-s.exited:
			s.t.Fatalf("%s ended before it was ready: %v", s.Name, s.command.ProcessState)
		default:
		}
		return s.Healthy()
	})
}

func (s *Server) pages() string {
	if s.PagesURL != "" {
		return s.PagesURL
	}
	return s.ClientURL
}

// AddFlags adds flags, which come last.
func (s *Server) AddFlags(flags ...string) { s.flags = append(s.flags, flags...) }

// Healthy asks /health once.
func (s *Server) Healthy() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.pages()+"/health", nil)
	if err != nil {
		return err
	}
	// A name that every test's list of hosts holds.
	request.Host = "localhost"
	reply, err := s.HTTP().Do(request)
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	if reply.StatusCode != http.StatusOK {
		return Wanted("/health gives %s", reply.Status)
	}
	return nil
}

// Kill ends the process as a power cut would (SIGKILL); it may already be gone.
func (s *Server) Kill() {
	s.Signal(syscall.SIGKILL)
	s.AwaitExit(ReadyLimit)
}

// Signal sends a signal if the process runs.
func (s *Server) Signal(signal os.Signal) {
	if s.command != nil {
		s.command.Process.Signal(signal)
	}
}

// AwaitExit waits for the end of the process and gives its exit code (-1 by signal or if it never ran).
func (s *Server) AwaitExit(limit time.Duration) int {
	if s.command == nil {
		return -1
	}
	select {
	case <-s.exited:
		return s.command.ProcessState.ExitCode()
	case <-time.After(limit):
		s.t.Errorf("%s still runs %s after it should have ended", s.Name, limit)
		return -1
	}
}

// Endpoint is host:port of the client listener.
func (s *Server) Endpoint() string { return s.ClientURL[strings.LastIndex(s.ClientURL, "/")+1:] }

// LogText is everything the member printed.
func (s *Server) LogText() string { return s.log.Text() }

// Conn is a plain gRPC connection: no retries and no rewriting between the test and the server.
func (s *Server) Conn() *grpc.ClientConn {
	if s.conn == nil {
		transport := insecure.NewCredentials()
		if s.TLS != nil {
			transport = credentials.NewTLS(s.TLS)
		}
		conn, err := grpc.NewClient(s.Endpoint(), grpc.WithTransportCredentials(transport),
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20), grpc.MaxCallSendMsgSize(64<<20)), grpc.WithDisableRetry())
		if err != nil {
			s.t.Fatal(err)
		}
		s.conn = conn
	}
	return s.conn
}

// CloseConn drops the plain connection, so that the next Conn dials anew.
func (s *Server) CloseConn() {
	if s.conn != nil {
		s.conn.Close()
		s.conn = nil
	}
}

// Client opens etcd's own client on the given members.
func Client(t testing.TB, members ...*Server) *clientv3.Client {
	t.Helper()
	config := clientv3.Config{DialTimeout: 5 * time.Second}
	for _, member := range members {
		config.Endpoints = append(config.Endpoints, member.ClientURL)
		config.TLS = member.TLS
	}
	client, err := clientv3.New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// Log collects what a process prints; safe to read while it is written.
type Log struct {
	lock sync.Mutex
	text bytes.Buffer
}

// Write appends.
func (l *Log) Write(p []byte) (int, error) {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.text.Write(p)
}

// Text is all of it.
func (l *Log) Text() string {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.text.String()
}

// Tail is the last lines of it.
func (l *Log) Tail(lines int) string {
	all := strings.Split(strings.TrimRight(l.Text(), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
