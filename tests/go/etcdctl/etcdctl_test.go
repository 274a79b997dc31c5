// Package etcdctl runs etcd's command-line clients against real etcd and against our server, and our etcdctl beside
// the real one, and compares what they print.
//
// A session is a list of commands for one server; outputs are compared word for word after what names the server
// (identities, addresses, durations, sizes) is replaced.
package etcdctl

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	. "quorate/tests/harness"
)

const commandLimit = 20 * time.Second

// command is one call of etcdctl. With until, the command is one that does not end by itself: it is interrupted when
// its output holds that many lines.
type command struct {
	args  string
	input string
	until int
	// decode shows protobuf output as a message of this type.
	decode proto.Message
	// sorted compares the lines without their order.
	sorted bool
	// fails: the client itself refuses it.
	fails bool
}

// words are the command's own, without the flags in front of it.
func (c command) words() []string {
	words := strings.Fields(c.args)
	for len(words) > 1 && words[0] == "--user" {
		words = words[2:]
	}
	return words
}

func (c command) arguments(s *session) []string {
	var arguments []string
	for _, word := range strings.Fields(c.args) {
		word = strings.NewReplacer("%20", " ", "%EMPTY", "", "%DIR", s.dir, "%LEASE1", s.lease(0), "%LEASE2", s.lease(1)).Replace(word)
		arguments = append(arguments, word)
	}
	return arguments
}

// session is one etcdctl and one server.
type session struct {
	t      *testing.T
	binary string
	server *Server
	dir    string
	leases []string
	// variables are added to the environment.
	variables []string
}

func (s *session) lease(n int) string {
	if n < len(s.leases) {
		return s.leases[n]
	}
	return "4711"
}

var (
	granted    = regexp.MustCompile(`lease ([0-9a-f]+) granted`)
	clientLogs = regexp.MustCompile(`(?m)^(\{"level".*|\d{4}-\d\d-\d\dT.*\n?)$\n?`)
	scrubs     = []struct {
		pattern *regexp.Regexp
		shown   string
	}{
		{regexp.MustCompile(`\b\d{15,20}\b`), "ID"},
		{regexp.MustCompile(`\b[0-9a-f]{13,16}\b`), "ID"},
		{regexp.MustCompile(`\b\d+(\.\d+)?(ns|µs|ms|s)\b`), "TIME"},
		{regexp.MustCompile(`"raft_term":"?\d+"?`), `"raft_term":N`},
		{regexp.MustCompile(`"RaftTerm" : \d+`), `"RaftTerm" : N`},
		{regexp.MustCompile(`"(dbSize|dbSizeInUse|raftIndex|raftTerm|raftAppliedIndex)":\d+`), `"$1":N`},
		{regexp.MustCompile(`"(DBSize|DBSizeInUse|RaftIndex|RaftTerm|RaftAppliedIndex)" : \d+`), `"$1" : N`},
		{regexp.MustCompile(`\b\d+(\.\d+)? (B|kB|MB)\b`), "SIZE"},
		{regexp.MustCompile(`\b\d+%`), "N%"},
		{regexp.MustCompile(`(true|false)( [│|]|,) +(true|false)( [│|]|,) +\d+( [│|]|,) +\d+( [│|]|,) +\d+`), "$1 $3 TERM INDEX APPLIED"},
		{regexp.MustCompile(`ttl":(9|19)\d\b`), "ttl\":N"},
		{regexp.MustCompile(`remaining\(\w+\)`), "remaining(N)"},
		{regexp.MustCompile(`[─\-]{3,}`), "-"},
		{regexp.MustCompile(` {2,}`), " "},
	}
)

func (s *session) scrub(text string) string {
	text = clientLogs.ReplaceAllString(strings.ReplaceAll(text, s.dir, "DIR"), "")
	address := strings.TrimPrefix(s.server.Endpoint(), "https://")
	text = strings.NewReplacer(s.server.ClientURL, "CLIENT", address, "CLIENT", s.server.PeerURL, "PEER").Replace(text)
	for _, scrub := range scrubs {
		text = scrub.pattern.ReplaceAllString(text, scrub.shown)
	}
	return text
}

// output collects what a process prints; the waiter is told of every write.
type output struct {
	Log
	wrote chan struct{}
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.Log.Write(p)
	select {
	case o.wrote <- struct{}{}:
	default:
	}
	return n, err
}

// run executes one command and gives its exit code and scrubbed output.
func (s *session) run(c command) string {
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	process := exec.CommandContext(ctx, s.binary, c.arguments(s)...)
	process.Env = append(append(os.Environ(), "ETCDCTL_API=3", "ETCDCTL_ENDPOINTS="+s.server.ClientURL), s.variables...)
	process.Dir = s.dir
	process.Stdin = strings.NewReader(c.input)
	process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdout, stderr := &output{wrote: make(chan struct{}, 1)}, &Log{}
	process.Stdout, process.Stderr = stdout, stderr
	if err := process.Start(); err != nil {
		s.t.Error(err)
		return "does not start"
	}
	if c.until > 0 {
	lines:
		for strings.Count(stdout.Text(), "\n") < c.until {
			select {
			case <-stdout.wrote:
			case <-ctx.Done():
				s.t.Errorf("%s: not %d lines within %s", c.args, c.until, commandLimit)
				break lines
			}
		}
		process.Process.Signal(syscall.SIGINT)
	}
	err := process.Wait()
	if ctx.Err() != nil && c.until == 0 {
		s.t.Errorf("etcdctl %s did not end: %v", c.args, err)
	}
	text := stdout.Text()
	if found := granted.FindStringSubmatch(text); found != nil {
		s.leases = append(s.leases, found[1])
	}
	if lines := strings.SplitAfter(text, "\n"); c.until > 0 && len(lines) > c.until {
		text = strings.Join(lines[:c.until], "")
	}
	switch {
	case c.decode != nil:
		message := proto.Clone(c.decode)
		if err := proto.Unmarshal([]byte(text), message); err != nil {
			text = fmt.Sprintf("%v: %x", err, text)
		} else {
			text = Render(message, Identity)
		}
	case c.sorted:
		lines := strings.Split(text, "\n")
		slices.Sort(lines)
		text = strings.Join(lines, "\n")
	}
	code := process.ProcessState.ExitCode()
	if c.until > 0 {
		code = 0 // how an interrupted command ends is asked for elsewhere
	}
	return fmt.Sprintf("exit %d\n%s%s", code, s.scrub(text), s.scrub(stderr.Text()))
}

// compare runs the same commands in two sessions at the same time.
func compare(t *testing.T, peer, ours *session, commands []command) {
	t.Helper()
	for _, c := range commands {
		t.Run(strings.ReplaceAll(c.args, "/", "_"), func(t *testing.T) {
			var wait sync.WaitGroup
			var expected, got string
			wait.Go(func() { expected = peer.run(c) })
			wait.Go(func() { got = ours.run(c) })
			wait.Wait()
			if expected != got {
				t.Errorf("etcdctl %s\n--- expected:\n%s\n--- got:\n%s", c.args, expected, got)
			}
		})
	}
}

// sessions starts two servers, each with its client.
func sessions(t *testing.T, peerControl, ourControl string) (peer, ours *session) {
	pair := NewPair(t)
	pair.AwaitVersions(t)
	peer = &session{t: t, binary: peerControl, server: pair.Peer.Server, dir: t.TempDir()}
	ours = &session{t: t, binary: ourControl, server: pair.Ours.Server, dir: t.TempDir()}
	return peer, ours
}

// common are commands that etcdctl 3.4 and 3.7 both have.
func common() []command {
	commands := []command{
		{args: "put foo bar"}, {args: "put foo bar2 -w json"}, {args: "put foo bar3 --prev-kv"}, {args: "put foo bar4 --prev-kv -w fields"},
		{args: "put foo", input: "from stdin"}, {args: "put foo bar3 -w protobuf", decode: &pb.PutResponse{}},
		{args: "put nosuch --ignore-value"}, {args: "put foo --ignore-value --prev-kv"}, {args: "put foo x --lease 4711"}, {args: "put %EMPTY x"},
		{args: "put a 1"}, {args: "put b 2"}, {args: "put c 3"}, {args: "put dir/x 4"}, {args: "put dir/y 5"},
	}
	for _, form := range []string{"simple", "json", "fields", "table"} {
		for _, get := range []string{
			"get foo", "get nosuch", "get a c", "get --prefix dir/", "get --from-key b", "get --prefix %EMPTY --limit 2", "get --keys-only --prefix %EMPTY",
			"get --count-only --prefix %EMPTY", "get --prefix %EMPTY --order DESCEND --sort-by MODIFY", "get --prefix %EMPTY --sort-by VALUE", "get foo --rev 3",
			"get foo --rev 1000", "get foo --consistency s", "get --print-value-only foo", "get %EMPTY",
		} {
			commands = append(commands, command{args: get + " -w " + form})
		}
	}
	commands = append(commands,
		command{args: "get foo --hex"}, command{args: "get foo --hex -w json"}, command{args: "get foo -w protobuf", decode: &pb.RangeResponse{}},
		command{args: "get"}, command{args: "nosuchcommand"}, command{args: "get foo -w nonsense"},
		command{args: "watch foo --rev 2", until: 18}, command{args: "watch foo --rev 2 --prev-kv", until: 18}, command{args: "watch foo --rev 2 -w json", until: 1},
		command{args: "watch --prefix dir/ --rev 1 -w fields", until: 10}, command{args: "watch a d --rev 1", until: 9},
		command{args: "del a"}, command{args: "del a"}, command{args: "del b -w json"}, command{args: "del dir/ --prefix --prev-kv"}, command{args: "del c -w fields"},
		command{args: "del c -w protobuf", decode: &pb.DeleteRangeResponse{}}, command{args: "del %EMPTY"}, command{args: "watch a --rev 1", until: 5},
		command{args: "txn", input: "value(\"foo\") = \"bar3\"\nversion(\"a\") = \"0\"\n\nput x 1\nget x\ndel y\n\nput x 2\n\n"},
		command{args: "txn -w json", input: "mod(\"foo\") > \"10000\"\n\nput x 1\n\nget x\nput x 2\n\n"},
		command{args: "txn -w fields", input: "\nput x 3\nget foo\n\n\n"},
		command{args: "txn", input: "create(\"x\") < \"10000\"\n\nput x 1\nput x 2\n\n\n"},
		command{args: "txn", input: "garbage\n\n\n\n"}, command{args: "txn -w protobuf", input: "\nget x\n\n\n", decode: &pb.TxnResponse{}},
		// Before any lease: the hash covers the leases' ids, which servers draw.
		command{args: "endpoint hashkv"}, command{args: "endpoint hashkv -w json"}, command{args: "endpoint hashkv -w table"}, command{args: "endpoint hashkv -w fields"},
		command{args: "lease grant 100"}, command{args: "lease grant 200"}, command{args: "lease grant 100 -w json"}, command{args: "lease grant 0"}, command{args: "lease grant 10000000000"},
		command{args: "put leased v --lease=%LEASE1"}, command{args: "get leased -w json"}, command{args: "put leased w --ignore-lease"},
		command{args: "lease timetolive %LEASE1"}, command{args: "lease timetolive %LEASE1 --keys"}, command{args: "lease timetolive %LEASE1 --keys -w json"}, command{args: "lease timetolive 4711"},
		command{args: "lease timetolive 4711 -w json"}, command{args: "lease keep-alive %LEASE1 --once"}, command{args: "lease keep-alive 4711 --once"}, command{args: "lease keep-alive %LEASE1", until: 1},
		command{args: "lease list", sorted: true}, command{args: "lease list -w json"}, command{args: "lease revoke %LEASE2"}, command{args: "lease revoke %LEASE2"}, command{args: "lease revoke %LEASE1 -w json"}, command{args: "lease revoke nonsense"},
		command{args: "get leased"},
		command{args: "compaction 5"}, command{args: "compaction 5"}, command{args: "compaction 1000"}, command{args: "compact 6 --physical"}, command{args: "get foo --rev 2"}, command{args: "watch foo --rev 2"},
		command{args: "endpoint status"}, command{args: "endpoint health"}, command{args: "endpoint health -w json"},
		command{args: "endpoint health --cluster"},
		command{args: "member list"}, command{args: "member list -w json"}, command{args: "member list -w table"}, command{args: "member list -w fields"}, command{args: "member list -w protobuf", decode: &pb.MemberListResponse{Members: nil}},
		command{args: "member remove 4711"}, command{args: "member remove nonsense", fails: true}, command{args: "member update 4711 --peer-urls=http://127.0.0.1:1"}, command{args: "member promote 4711"},
		command{args: "alarm list"}, command{args: "alarm list -w json"}, command{args: "alarm disarm"}, command{args: "defrag"}, command{args: "move-leader 4711"},
		command{args: "lock l echo held"}, command{args: "lock l false"}, command{args: "lock l", until: 1}, command{args: "elect e me", until: 2}, command{args: "get --prefix l"}, command{args: "get --prefix e"},
		command{args: "check datascale --load=nonsense"},
		command{args: "user add u:pw"}, command{args: "user add u:pw"}, command{args: "user add v --interactive=false", input: "pw\n"}, command{args: "user list"}, command{args: "user list -w json"}, command{args: "user get u"},
		command{args: "role add r"}, command{args: "role add r"}, command{args: "role grant-permission r readwrite foo"}, command{args: "role grant-permission r read dir/ --prefix"},
		command{args: "role grant-permission r write z --from-key"}, command{args: "role grant-permission r nonsense z", fails: true}, command{args: "role get r"}, command{args: "role get r -w json"}, command{args: "role list"},
		command{args: "user grant-role u r"}, command{args: "user get u --detail"}, command{args: "user get u -w json"}, command{args: "user revoke-role u nosuch"},
		command{args: "role revoke-permission r foo"}, command{args: "role revoke-permission r foo"}, command{args: "role get nosuch"}, command{args: "user passwd u --interactive=false", input: "new\n"},
		command{args: "auth enable"}, command{args: "user add root:pw"}, command{args: "user grant-role root root"}, command{args: "auth enable"},
		command{args: "put foo bar"}, command{args: "--user u:new get dir/x"}, command{args: "--user u:new put foo bar"}, command{args: "--user u:bad get foo"}, command{args: "--user root:pw put foo bar"},
		command{args: "--user u:new watch secret"}, command{args: "--user root:pw auth disable"}, command{args: "user delete v"}, command{args: "role delete r"}, command{args: "get foo"},
		command{args: "snapshot save %DIR/s.db"},
	)
	return commands
}

func TestEtcdctl(t *testing.T) {
	programs := Programs(t)
	peer, ours := sessions(t, programs.PeerControl, programs.PeerControl)
	compare(t, peer, ours, append(common(), recent()...))
}

func TestOldEtcdctl(t *testing.T) {
	programs := Programs(t)
	peer, ours := sessions(t, programs.OldControl, programs.OldControl)
	compare(t, peer, ours, common())
}

func TestOurEtcdctl(t *testing.T) {
	programs := Programs(t)
	peer, ours := sessions(t, programs.PeerControl, programs.Control)
	compare(t, peer, ours, append(common(), recent()...))
}

// recent are commands and forms whose output is fixed for 3.7.
func recent() []command {
	return []command{
		{args: "version"}, {args: "endpoint status -w json"}, {args: "endpoint status -w table"}, {args: "endpoint status -w fields"}, {args: "member list -w json --hex"},
		{args: "auth status"}, {args: "auth status -w json"}, {args: "put k v -w json -w fields"}, {args: "--hex put k v"},
		{args: "get foo --write-out=json"}, {args: "--command-timeout=3s get foo"}, {args: "get k --min-mod-rev 1000"}, {args: "get --prefix %EMPTY --max-create-rev 10"},
		{args: "downgrade validate 9.9"}, {args: "downgrade cancel"},
	}
}

// A lock that is held is released by an interrupt, and the exit code is 0.
func TestLockIsReleasedOnInterrupt(t *testing.T) {
	programs := Programs(t)
	for _, binary := range []string{programs.PeerControl, programs.Control} {
		server := Single(t, programs.Server)
		client := Client(t, server)
		holder := exec.Command(binary, "--endpoints", server.ClientURL, "lock", "name")
		printed := &output{wrote: make(chan struct{}, 1)}
		holder.Stdout = printed
		holder.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := holder.Start(); err != nil {
			t.Fatal(err)
		}
		Eventually(t, ReadyLimit, "the lock", func() error {
			if !strings.HasPrefix(printed.Text(), "name/") {
				return Wanted("printed %q", printed.Text())
			}
			return nil
		})
		key := strings.TrimSpace(printed.Text())
		if reply, err := client.Get(t.Context(), key); err != nil || len(reply.Kvs) != 1 {
			t.Fatalf("the key of the lock: %v, %v", reply, err)
		}
		holder.Process.Signal(syscall.SIGINT)
		if err := holder.Wait(); err != nil {
			t.Errorf("%s: %v", filepath.Base(binary), err)
		}
		if reply, err := client.Get(t.Context(), key); err != nil || len(reply.Kvs) != 0 {
			t.Errorf("%s left its key behind: %v, %v", filepath.Base(binary), reply, err)
		}
	}
}
