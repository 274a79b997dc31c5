package etcdctl

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unsafe"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/proto"

	. "quorate/tests/harness"
)

// onEtcd starts two members of real etcd: one for etcdctl, one for ours. What differs is then the client's.
func onEtcd(t *testing.T, flags ...string) (peer, ours *session) {
	programs := Programs(t)
	peer = &session{t: t, binary: programs.PeerControl, server: Single(t, programs.Peer, flags...), dir: t.TempDir()}
	ours = &session{t: t, binary: programs.Control, server: Single(t, programs.Peer, flags...), dir: t.TempDir()}
	return peer, ours
}

// sttyLines are those of the program that turns a terminal's echo off, where there is no terminal: etcdctl runs it anyway.
var sttyLines = regexp.MustCompile(`(?m)^stty: .*\n`)

// alike runs the same commands by both clients, each on its own server.
func alike(t *testing.T, peer, ours *session, commands []command) {
	t.Helper()
	for _, c := range commands {
		t.Run(strings.ReplaceAll(c.args, "/", "_"), func(t *testing.T) {
			var wait sync.WaitGroup
			var expected, got string
			wait.Go(func() { expected = peer.run(c) })
			wait.Go(func() { got = ours.run(c) })
			wait.Wait()
			expected = sttyLines.ReplaceAllString(expected, "")
			if expected != got {
				t.Errorf("etcdctl %s\n--- expected:\n%s\n--- got:\n%s", c.args, expected, got)
			}
		})
	}
}

func TestOurEtcdctlOnEtcd(t *testing.T) {
	t.Parallel()
	peer, ours := onEtcd(t)
	alike(t, peer, ours, append(append(common(), recent()...), refusals()...))
}

// refusals are what the client itself refuses, and what only real servers did at the time of writing.
func refusals() []command {
	commands := []command{
		{args: "completion"}, {args: "completion nonsense"}, {args: "completion bash zsh"}, {args: "check"}, {args: "check perf --help"}, {args: "check datascale --help"},
		{args: "check perf --load=nonsense"}, {args: "check perf --bogus"}, {args: "put /etcdctl-check-perf/x 1"}, {args: "check perf"}, {args: "put /etcdctl-check-datascale/x 1"},
		{args: "check datascale"}, {args: "make-mirror"}, {args: "make-mirror --help"}, {args: "make-mirror --max-txn-ops=-1 x"}, {args: "make-mirror --dest-prefix a --no-dest-prefix 127.0.0.1:1"},
		{args: "make-mirror --dest-cert /nosuch 127.0.0.1:1"}, {args: "make-mirror a b"}, {args: "--help"}, {args: "help"}, {args: "help nosuch"}, {args: "mak"}, {args: "chek perf"}, {args: "make-miror x"},
		{args: "member add"}, {args: "member add a b"},
		{args: "member add n7"}, {args: "member remove"}, {args: "member promote zz"}, {args: "snapshot save"}, {args: "snapshot save %DIR/none/s.db"}, {args: "snapshot bogus"},
		{args: "--command-timeout=1ns snapshot save %DIR/t.db"}, {args: "endpoint health --cluster -w table"}, {args: "endpoint status --cluster -w simple"}, {args: "defrag --cluster"},
		{args: "alarm disarm -w fields"}, {args: "downgrade enable"}, {args: "downgrade enable x"}, {args: "downgrade enable 1.0"}, {args: "downgrade validate 3.6 -w json"}, {args: "downgrade cancel -w fields"},
		{args: "move-leader"}, {args: "move-leader zz"}, {args: "user add x --interactive=false", input: "two words\n"}, {args: "--user x:two get a"}, {args: "user add y --interactive=false", input: "\n"},
		{args: "user add z", input: "p\np\n"}, {args: "user add z2", input: "p\nq\n"}, {args: "user add z3", input: "\n"}, {args: "user passwd z", input: " q \nq\n"}, {args: "user add :x"}, {args: "user add n --no-password"},
		{args: "user add m --new-user-password pw"}, {args: "user grant-role z"}, {args: "role grant-permission a"}, {args: "role revoke-permission a"}, {args: "--user root --password= get a", input: "pw\n"},
		{args: "--cert=%EMPTY get a"}, {args: "--cert=/nosuch get a"}, {args: "--cert=/nosuch --key=/nosuch get a"}, {args: "--cacert=/nosuch get a"}, {args: "-w bogus --cacert=/nosuch get a"},
		{args: "--dial-timeout=x get a"}, {args: "--max-txn-ops 3 get a"}, {args: "elect"}, {args: "elect e"}, {args: "elect -l e p"}, {args: "lock"}, {args: "lock l nosuchprogram"},
		{args: "lock l -- sh -c exit%203"}, {args: "watch"}, {args: "watch a b --prefix"}, {args: "watch a --"}, {args: "watch -i", input: "watch\nwatch a b --prefix\nbogus\n\nwatch -- echo\n"},
		{args: "watch -i", input: "watch --rev 3\n"}, {args: "watch -i", input: "watch a --bogus\n"}, {args: "lease"}, {args: "lease bogus"}, {args: "lease grant"}, {args: "lease grant x"}, {args: "auth bogus x"}, {args: "auth enable x"},
		{args: "options"}, {args: "version x"}, {args: "get a --limit x"}, {args: "get a --order x"}, {args: "get --stream --prefix %EMPTY --keys-only"}, {args: "put a"}, {args: "del a b", input: ""},
		{args: "txn -i", input: "\n\n\n"}, {args: "txn", input: "mod(\"a\") > \"x\"\n"}, {args: "txn", input: "\nput a\n"}, {args: "txn x"},
	}
	for _, form := range []string{"json", "fields", "table", "simple"} {
		for _, args := range []string{"user list", "user get z", "role list", "auth status", "alarm list", "endpoint hashkv --rev 3", "member list --hex", "downgrade cancel", "move-leader 1"} {
			commands = append(commands, command{args: args + " -w " + form})
		}
	}
	for args, message := range map[string]proto.Message{
		"user list": &pb.AuthUserListResponse{}, "user get z": &pb.AuthUserGetResponse{}, "role list": &pb.AuthRoleListResponse{}, "auth status": &pb.AuthStatusResponse{},
		"alarm list": &pb.AlarmResponse{}, "member list": &pb.MemberListResponse{}, "downgrade cancel": &pb.DowngradeResponse{},
	} {
		commands = append(commands, command{args: args + " -w protobuf", decode: message})
	}
	return commands
}

// authority signs certificates.
type authority struct {
	t           *testing.T
	dir         string
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
	serial      int64
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	template := &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	a.sign("ca", template)
	return a
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name+".pem") }

// sign writes NAME.pem and NAME-key.pem; the first certificate signs itself and all others.
func (a *authority) sign(name string, template *x509.Certificate) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	Must(a.t, err)
	a.serial++
	template.SerialNumber = big.NewInt(a.serial)
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	Must(a.t, err)
	if a.certificate == nil {
		a.certificate, err = x509.ParseCertificate(der)
		Must(a.t, err)
		a.key = key
	}
	der2, err := x509.MarshalPKCS8PrivateKey(key)
	Must(a.t, err)
	Must(a.t, os.WriteFile(a.path(name), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	Must(a.t, os.WriteFile(a.path(name+"-key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der2}), 0o600))
}

func (a *authority) signServer(name, address string) {
	host, _, err := net.SplitHostPort(address)
	Must(a.t, err)
	a.sign(name, &x509.Certificate{Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.ParseIP(host)}, DNSNames: []string{"localhost"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}})
}

func (a *authority) signClient(name string) {
	a.sign(name, &x509.Certificate{Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
}

// protected starts a member of real etcd that speaks TLS.
func protected(t *testing.T, a *authority, flags ...string) *Server {
	t.Helper()
	server := NewServer(t, Programs(t).Peer, "m0", append(flags, "--cert-file", a.path("server"), "--key-file", a.path("server-key"))...)
	server.ClientURL = strings.Replace(server.ClientURL, "http://", "https://", 1)
	a.signServer("server", strings.TrimPrefix(server.ClientURL, "https://"))
	a.signClient("root")
	server.Start("", "new")
	Eventually(t, ReadyLimit, "the member with TLS", func() error {
		health := exec.Command(Programs(t).PeerControl, "--endpoints", server.ClientURL, "--cacert", a.path("ca"), "--cert", a.path("root"), "--key", a.path("root-key"), "endpoint", "health")
		if text, err := health.CombinedOutput(); err != nil {
			return Wanted("%v: %s", err, text)
		}
		return nil
	})
	return server
}

// replaced puts files in place of their names.
func replaced(a, other *authority, commands []command) []command {
	names := strings.NewReplacer("%CA", a.path("ca"), "%CERT", a.path("root"), "%KEY", a.path("root-key"), "%SERVER", a.path("server"), "%OTHER", other.path("ca"))
	for i := range commands {
		commands[i].args = names.Replace(commands[i].args)
	}
	return commands
}

func TestOurEtcdctlSpeaksTLS(t *testing.T) {
	t.Parallel()
	programs, a, other := Programs(t), newAuthority(t, "authority"), newAuthority(t, "other authority")
	other.signClient("root")
	server := protected(t, a)
	address := strings.TrimPrefix(server.ClientURL, "https://")
	with := func(binary string) *session { return &session{t: t, binary: binary, server: server, dir: t.TempDir()} }
	alike(t, with(programs.PeerControl), with(programs.Control), replaced(a, other, []command{
		{args: "--cacert %CA get a"}, {args: "--cacert %CA endpoint health"}, {args: "--cacert %CA member list"}, {args: "--insecure-skip-tls-verify get a"},
		{args: "--cacert %CA --insecure-transport=false get a"}, {args: "--cacert %CA --cert %CERT --key %KEY get a"}, {args: "--cacert %SERVER get a"},
		{args: "--cacert %OTHER --command-timeout 1s get a"}, {args: "--command-timeout 1s get a"}, {args: "--cacert %CA --command-timeout 1s put"}, {args: "--cacert %KEY --command-timeout 1s get a"},
		{args: "--cert %CERT get a"}, {args: "--cert %CERT --key %CERT get a"}, {args: "--cert %KEY --key %KEY get a"}, {args: "--cert %CERT --key %KEY --cacert %CA --user u:p get a"},
		{args: "--cacert %OTHER --dial-timeout 1s --user u:p get a"},
	}))
	// What the endpoint says comes before what flags say.
	plain := func(endpoint string) (peer, ours *session) {
		peer, ours = with(programs.PeerControl), with(programs.Control)
		peer.variables = []string{"ETCDCTL_ENDPOINTS=" + endpoint}
		ours.variables = peer.variables
		return peer, ours
	}
	peer, ours := plain(address)
	alike(t, peer, ours, replaced(a, other, []command{{args: "--cacert %CA get a"}, {args: "--command-timeout 1s get a"}, {args: "--command-timeout 1s put a b"}}))
	peer, ours = plain("http://" + address)
	alike(t, peer, ours, replaced(a, other, []command{{args: "--cacert %CA --command-timeout 1s get a"}}))
	peer, ours = plain(server.ClientURL + "," + address)
	alike(t, peer, ours, replaced(a, other, []command{{args: "--cacert %CA get a"}}))
}

func TestOurEtcdctlShowsItsCertificate(t *testing.T) {
	t.Parallel()
	programs, a, other := Programs(t), newAuthority(t, "authority"), newAuthority(t, "other authority")
	other.signClient("root")
	server := protected(t, a, "--client-cert-auth", "--trusted-ca-file", a.path("ca"))
	with := func(binary string) *session { return &session{t: t, binary: binary, server: server, dir: t.TempDir()} }
	alike(t, with(programs.PeerControl), with(programs.Control), replaced(a, other, []command{
		{args: "--cacert %CA --cert %CERT --key %KEY put a b"}, {args: "--cacert %CA --command-timeout 1s put a b"}, {args: "--cacert %CA --command-timeout 1s get a"},
	}))
	stranger := command{args: fmt.Sprintf("--cacert %s --cert %s --key %s --command-timeout 1s put a b", a.path("ca"), other.path("root"), other.path("root-key"))}
	alike(t, with(programs.PeerControl), with(programs.Control), []command{stranger})
	// The certificate's name is the user's.
	ours := with(programs.Control)
	for _, args := range []string{"user add root --no-password", "user grant-role root root", "auth enable", "put a b", "user list", "auth disable"} {
		if got := ours.run(command{args: fmt.Sprintf("--cacert %s --cert %s --key %s %s", a.path("ca"), a.path("root"), a.path("root-key"), args)}); !strings.HasPrefix(got, "exit 0\n") {
			t.Errorf("%s: %s", args, got)
		}
	}
}

// terminal runs a command on a terminal of its own, types each line after the prompt that comes before it, and gives all
// that was shown.
func terminal(t *testing.T, binary string, endpoint string, arguments []string, typed ...[2]string) string {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	Must(t, err)
	defer master.Close()
	ioctl := func(request uintptr, value unsafe.Pointer) {
		raw, err := master.SyscallConn()
		Must(t, err)
		Must(t, raw.Control(func(fd uintptr) {
			if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, fd, request, uintptr(value)); errno != 0 {
				t.Fatal(errno)
			}
		}))
	}
	var unlocked, number int32
	ioctl(syscall.TIOCSPTLCK, unsafe.Pointer(&unlocked))
	ioctl(syscall.TIOCGPTN, unsafe.Pointer(&number))
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	Must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), commandLimit)
	defer cancel()
	process := exec.CommandContext(ctx, binary, arguments...)
	process.Env = append(os.Environ(), "ETCDCTL_ENDPOINTS="+endpoint)
	process.Stdin, process.Stdout, process.Stderr = slave, slave, slave
	process.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Pdeathsig: syscall.SIGKILL}
	Must(t, process.Start())
	slave.Close()
	shown := &output{wrote: make(chan struct{}, 1)}
	read := make(chan struct{})
	go func() {
		defer close(read)
		buffer := make([]byte, 4096)
		for {
			n, err := master.Read(buffer)
			shown.Write(buffer[:n])
			if err != nil {
				return
			}
		}
	}()
	for _, line := range typed {
		for !strings.HasSuffix(shown.Text(), line[0]) {
			select {
			case <-shown.wrote:
			case <-ctx.Done():
				t.Fatalf("%v: %q was not shown:\n%s", arguments, line[0], shown.Text())
			}
		}
		if strings.Contains(line[0], "assword") || strings.Contains(line[0], "confirmation") {
			Eventually(t, ReadyLimit, "a terminal that does not show what is typed", func() error {
				var settings syscall.Termios
				ioctl(syscall.TCGETS, unsafe.Pointer(&settings))
				if settings.Lflag&syscall.ECHO != 0 {
					return Wanted("it shows it")
				}
				return nil
			})
		}
		if _, err := master.WriteString(line[1]); err != nil {
			t.Fatal(err)
		}
	}
	process.Wait()
	<-read
	return fmt.Sprintf("exit %d\n%s", process.ProcessState.ExitCode(), shown.Text())
}

// What a person sees and types at a terminal, by etcdctl and by ours.
func TestOurEtcdctlAtATerminal(t *testing.T) {
	t.Parallel()
	programs := Programs(t)
	dialogues := []struct {
		arguments string
		typed     [][2]string
	}{
		{"user add u", [][2]string{{"Password of u: ", "pw\n"}, {"confirmation: ", "pw\n"}}},
		{"user add v", [][2]string{{"Password of v: ", "pw\n"}, {"confirmation: ", "px\n"}}},
		{"user add w", [][2]string{{"Password of w: ", "\n"}}},
		{"user passwd u", [][2]string{{"Password of u: ", "new\n"}, {"confirmation: ", "new\n"}}},
		{"user passwd nosuch", [][2]string{{"Password of nosuch: ", "new\n"}, {"confirmation: ", "new\n"}}},
		{"txn --interactive", [][2]string{{"compares:\r\n", "version(\"a\") = \"0\"\n\n"}, {"success requests (get, put, del):\r\n", "put a \"x y\"\n\n"}, {"failure requests (get, put, del):\r\n", "get a\n\n"}}},
		{"put onlykey", [][2]string{{"", "typed\x04\x04"}}}, {"get onlykey", nil},
		{"user add root:pw", nil}, {"user grant-role root root", nil}, {"auth enable", nil},
		{"--user root get a", [][2]string{{"Password: ", "pw\n"}}},
		{"--user root get a", [][2]string{{"Password: ", "bad\n"}}},
		{"--user root user add late", [][2]string{{"Password of late: ", "pw\n"}, {"confirmation: ", "pw\n"}, {"\nPassword: ", "pw\n"}}},
		{"--user root:pw auth disable", nil},
	}
	run := func(binary string) (shown []string) {
		server := Single(t, programs.Peer)
		for _, dialogue := range dialogues {
			text := terminal(t, binary, server.ClientURL, strings.Fields(dialogue.arguments), dialogue.typed...)
			shown = append(shown, clientLogs.ReplaceAllString(strings.ReplaceAll(text, "\r\n", "\n"), ""))
		}
		return shown
	}
	expected, got := run(programs.PeerControl), run(programs.Control)
	for i := range dialogues {
		if expected[i] != got[i] {
			t.Errorf("etcdctl %s\n--- expected:\n%s\n--- got:\n%s", dialogues[i].arguments, expected[i], got[i])
		}
	}
}

// content is every key and value, and at which version each is.
func content(t *testing.T, client *clientv3.Client) string {
	t.Helper()
	reply, err := client.Get(t.Context(), "", clientv3.WithPrefix())
	Must(t, err)
	var text strings.Builder
	for _, kv := range reply.Kvs {
		fmt.Fprintf(&text, "%q=%q version %d\n", kv.Key, kv.Value, kv.Version)
	}
	return text.String()
}

// A mirror by etcdctl and one by ours hold the same, whatever the flags.
func TestOurMirrorIsTheSame(t *testing.T) {
	t.Parallel()
	programs := Programs(t)
	for _, flags := range []string{"", "--prefix p/", "--prefix p/ --dest-prefix q/", "--prefix p/ --no-dest-prefix", "--dest-prefix all/", "--rev 4", "--prefix p/ --rev 4", "--max-txn-ops 2"} {
		t.Run(strings.ReplaceAll(flags, "/", "_"), func(t *testing.T) {
			t.Parallel()
			mirror := func(binary string) string {
				source, destination := Single(t, programs.Peer), Single(t, programs.Peer)
				from, to := Client(t, source), Client(t, destination)
				for i := range 5 {
					Must(t, second(from.Put(t.Context(), fmt.Sprintf("p/%d", i), "before")))
				}
				Must(t, second(from.Put(t.Context(), "other", "before")))
				Must(t, second(from.Delete(t.Context(), "p/0")))
				arguments := append(append([]string{"--endpoints", source.ClientURL, "make-mirror"}, strings.Fields(flags)...), destination.ClientURL)
				process := exec.Command(binary, arguments...)
				var shown bytes.Buffer
				process.Stdout, process.Stderr = &shown, &shown
				process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
				Must(t, process.Start())
				defer func() { process.Process.Kill(); process.Wait() }()
				var ops []clientv3.Op
				for i := range 3 {
					ops = append(ops, clientv3.OpPut(fmt.Sprintf("p/%d", i), "after"))
				}
				Must(t, second(from.Txn(t.Context()).Then(append(ops, clientv3.OpDelete("p/4"))...).Commit()))
				Must(t, second(from.Put(t.Context(), "p/last", "after")))
				last := map[bool]string{true: "q/", false: "p/"}[strings.Contains(flags, "q/")] + "last"
				if strings.Contains(flags, "--no-dest-prefix") || flags == "--prefix p/ --rev 4" {
					last = "last"
				}
				if strings.Contains(flags, "all/") {
					last = "all/p/last"
				}
				Eventually(t, ReadyLimit, "the last key in the mirror", func() error {
					reply, err := to.Get(t.Context(), last)
					if err == nil && len(reply.Kvs) == 0 {
						err = Wanted("%s has it not: %s", last, shown.String())
					}
					return err
				})
				// How often a key was written depends on whether the first copy saw the second write.
				versions := strings.NewReplacer("version 1\n", "\n", "version 2\n", "\n", "version 3\n", "\n")
				return versions.Replace(content(t, to))
			}
			if expected, got := mirror(programs.PeerControl), mirror(programs.Control); expected != got {
				t.Errorf("expected\n%s\ngot\n%s", expected, got)
			}
		})
	}
}

func second[Reply any](_ Reply, err error) error { return err }

// A check that is interrupted cleans up, says what it measured, and fails by its throughput.
func TestOurCheckIsInterrupted(t *testing.T) {
	t.Parallel()
	programs := Programs(t)
	for _, binary := range []string{programs.PeerControl, programs.Control} {
		server := Single(t, programs.Peer)
		client := Client(t, server)
		process := exec.Command(binary, "--endpoints", server.ClientURL, "check", "perf", "--load=s")
		shown := &Log{}
		process.Stdout = shown
		process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		Must(t, process.Start())
		count := func() int64 {
			reply, err := client.Get(t.Context(), "/etcdctl-check-perf/", clientv3.WithPrefix(), clientv3.WithCountOnly())
			Must(t, err)
			return reply.Count
		}
		Eventually(t, ReadyLimit, "keys of the check", func() error {
			if count() < 100 {
				return Wanted("too few")
			}
			return nil
		})
		process.Process.Signal(syscall.SIGINT)
		process.Wait()
		for _, line := range []string{"Throughput", "Slowest request took", "tddev"} {
			if !strings.Contains(shown.Text(), line) {
				t.Errorf("%s shows no %q:\n%s", filepath.Base(binary), line, shown.Text())
			}
		}
		if left := count(); left != 0 {
			t.Errorf("%s left %d keys", filepath.Base(binary), left)
		}
	}
}

func TestOurCheckOfMemory(t *testing.T) {
	t.Parallel()
	programs, a := Programs(t), newAuthority(t, "authority")
	server := protected(t, a)
	process := exec.Command(programs.Control, "--endpoints", server.ClientURL, "--cacert", a.path("ca"), "check", "datascale", "--auto-compact", "--auto-defrag")
	text, err := process.Output()
	if err != nil {
		t.Errorf("%v", err)
	}
	for _, line := range []string{
		"Start data scale check for work load [10000 key-value pairs, 1024 bytes per key-value, 50 concurrent clients].\n",
		"Compacting with revision 10002\nCompacted with revision 10002\nDefragmenting \"" + server.ClientURL + "\"\nDefragmented \"" + server.ClientURL + "\"\n",
		"PASS: Approximate system memory used : ",
	} {
		if !strings.Contains(string(text), line) {
			t.Errorf("no %q in\n%s", line, text)
		}
	}
}

// The interactive form of watch reads its lines from a pipe, and its variables from the environment.
func TestOurInteractiveWatch(t *testing.T) {
	t.Parallel()
	programs := Programs(t)
	run := func(binary string) string {
		server := Single(t, programs.Peer)
		client := Client(t, server)
		process := exec.Command(binary, "--endpoints", server.ClientURL, "watch", "-i")
		process.Env = append(os.Environ(), "ETCDCTL_WATCH_KEY=k", "ETCDCTL_WATCH_RANGE_END=m")
		shown := &output{wrote: make(chan struct{}, 1)}
		process.Stdout, process.Stderr = shown, shown
		process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		input, err := process.StdinPipe()
		Must(t, err)
		Must(t, process.Start())
		expect := func(text string) {
			t.Helper()
			Eventually(t, ReadyLimit, text, func() error {
				if !strings.Contains(shown.Text(), text) {
					return Wanted("%q", shown.Text())
				}
				return nil
			})
		}
		Must(t, second(client.Put(t.Context(), "l", "1")))
		fmt.Fprintln(input, "nonsense")
		expect("only support watch")
		fmt.Fprintln(input, "watch --rev 1 -- sh -c \"echo $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE $ETCD_WATCH_REVISION\"")
		expect("\"PUT\" \"l\" \"1\" 2\n")
		fmt.Fprintln(input, "progress")
		expect("progress notify: 2\n")
		Must(t, second(client.Delete(t.Context(), "l")))
		expect("\"DELETE\" \"l\" \"\" 3\n")
		input.Close()
		process.Wait()
		return fmt.Sprintf("exit %d\n%s", process.ProcessState.ExitCode(), shown.Text())
	}
	if expected, got := run(programs.PeerControl), run(programs.Control); expected != got {
		t.Errorf("--- expected:\n%s\n--- got:\n%s", expected, got)
	}
}
