package backup

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	. "quorate/tests/harness"
)

// A backup of ours: real etcdutl says the same of it as ours does, and real etcd and ours go on with the same data.
func TestOurBackupIsEtcds(t *testing.T) {
	programs := Programs(t)
	for _, compacted := range []bool{false, true} {
		t.Run(fmt.Sprintf("compacted=%v", compacted), func(t *testing.T) {
			s := Single(t, programs.Server)
			live(t, s, compacted)
			want := account(t, s)
			dir := folder(t)
			file := save(t, dir, "s.db", s)
			sameWords(t, dir, "snapshot", "status", file)
			same(t, "what real etcd has", account(t, restored(t, programs.PeerUtility, programs.Peer, file)), want)
			same(t, "what ours has", account(t, restored(t, programs.Utility, programs.Server, file)), want)
			// The real hashkv writes to the file, so it comes last.
			sameWords(t, dir, "hashkv", file)
		})
	}
}

// A backup of real etcd, restored by both tools.
func TestEtcdsBackupIsOurs(t *testing.T) {
	programs := Programs(t)
	for _, compacted := range []bool{false, true} {
		t.Run(fmt.Sprintf("compacted=%v", compacted), func(t *testing.T) {
			s := Single(t, programs.Peer)
			live(t, s, compacted)
			want := account(t, s)
			dir := folder(t)
			file := save(t, dir, "s.db", s)
			sameWords(t, dir, "snapshot", "status", file)
			ours := restored(t, programs.Utility, programs.Server, file)
			same(t, "what ours has", account(t, ours), want)
			// And back again.
			again := save(t, dir, "again.db", ours)
			same(t, "what real etcd has", account(t, restored(t, programs.PeerUtility, programs.Peer, again)), want)
			sameWords(t, dir, "hashkv", file)
			copied := filepath.Join(dir, "copied.db")
			s.Signal(syscall.SIGTERM)
			s.AwaitExit(ReadyLimit)
			copyFile(t, filepath.Join(s.DataDir, "member", "snap", "db"), copied)
			bare := restored(t, programs.Utility, programs.Server, copied, "--skip-hash-check")
			same(t, "what a copied file gives", account(t, bare), want)
		})
	}
}

// sameWords runs a command of both offline tools in every form and compares output and code.
func sameWords(t *testing.T, dir string, words ...string) {
	t.Helper()
	programs := Programs(t)
	for _, form := range []string{"simple", "json", "table", "fields", "protobuf", "bogus"} {
		words := append(words, "-w", form)
		ours, theirs := run(t, dir, programs.Utility, words...), run(t, dir, programs.PeerUtility, words...)
		if ours != theirs {
			t.Errorf("%q:\n ours   %+v\n theirs %+v", words, ours, theirs)
		}
	}
}

// The revision jumps and everything before it is compacted.
func TestRestoreRaisesTheRevision(t *testing.T) {
	programs := Programs(t)
	s := Single(t, programs.Server)
	live(t, s, true)
	file := save(t, folder(t), "s.db", s)
	flags := []string{"--bump-revision", "1000", "--mark-compacted"}
	ours := restored(t, programs.Utility, programs.Server, file, flags...)
	theirs := restored(t, programs.PeerUtility, programs.Peer, file, flags...)
	tell := func(s *Server) string {
		c, ctx := client(t, s)
		var text strings.Builder
		_, err := c.Get(ctx, "/last", clientv3.WithRev(500))
		fmt.Fprintln(&text, err)
		now, err := c.Get(ctx, "/", clientv3.WithPrefix())
		Must(t, err)
		put, err := c.Put(ctx, "/next", "x")
		Must(t, err)
		fmt.Fprintln(&text, now.Header.Revision, now.Count, put.Header.Revision)
		for _, kv := range now.Kvs {
			fmt.Fprintln(&text, string(kv.Key), kv.ModRevision, kv.Version, len(kv.Value))
		}
		return text.String()
	}
	same(t, "the raised clusters", tell(ours), tell(theirs))
	// A backup of the raised one is at that revision, too.
	again := restored(t, programs.PeerUtility, programs.Peer, save(t, folder(t), "again.db", ours))
	c, ctx := client(t, again)
	reply, err := c.Get(ctx, "/next")
	Must(t, err)
	if reply.Kvs[0].ModRevision < 1000 {
		t.Errorf("the revision went back to %d", reply.Kvs[0].ModRevision)
	}
}

// A cluster of three out of one backup, in which all members agree.
func TestRestoreOfThreeMembers(t *testing.T) {
	programs := Programs(t)
	s := Single(t, programs.Peer)
	live(t, s, true)
	want := account(t, s)
	file := save(t, folder(t), "s.db", s)
	var members []*Server
	var initial []string
	for i := range 3 {
		member := NewServer(t, programs.Server, fmt.Sprintf("m%d", i))
		members, initial = append(members, member), append(initial, member.Name+"="+member.PeerURL)
	}
	cluster := strings.Join(initial, ",")
	for _, member := range members {
		succeed(t, folder(t), programs.Utility, "snapshot", "restore", file, "--data-dir", member.DataDir,
			"--name", member.Name, "--initial-cluster", cluster, "--initial-cluster-token", "tests",
			"--initial-advertise-peer-urls", member.PeerURL)
		member.Start(cluster, "new")
	}
	for _, member := range members {
		member.AwaitReady()
		same(t, member.Name, account(t, member), want)
	}
	c, ctx := client(t, members[0])
	list, err := c.MemberList(ctx)
	Must(t, err)
	if len(list.Members) != 3 {
		t.Errorf("%d members", len(list.Members))
	}
}

// What the tools refuse, in the same words with the same code.
func TestRefusalsAreEtcdutls(t *testing.T) {
	programs := Programs(t)
	dir := folder(t)
	s := Single(t, programs.Server)
	live(t, s, false)
	file := save(t, dir, "s.db", s)
	whole, err := os.ReadFile(file)
	Must(t, err)
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		Must(t, os.WriteFile(path, data, 0o600))
		return path
	}
	bare := write("bare.db", whole[:len(whole)-32])
	flipped := append([]byte(nil), whole...)
	flipped[9000] ^= 1
	wrong := write("wrong.db", flipped)
	write("text.db", []byte(strings.Repeat("no database\n", 2000)))
	Must(t, os.MkdirAll(filepath.Join(dir, "full", "x"), 0o700))
	for _, line := range []string{
		"snapshot status", "snapshot status a b", "snapshot status nowhere.db", "snapshot status text.db",
		"snapshot restore", "snapshot restore s.db --bump-revision 3", "snapshot restore s.db --mark-compacted",
		"snapshot restore s.db --data-dir full", "snapshot restore nowhere.db --data-dir n1",
		"snapshot restore " + bare + " --data-dir n2", "snapshot restore " + wrong + " --data-dir n3",
		"snapshot restore s.db --name other --data-dir n4",
		"snapshot restore s.db --initial-cluster default=http://localhost:1 --data-dir n5",
		"snapshot restore s.db --initial-cluster default=http://127.0.0.1:1,default=http://127.0.0.1:2 --data-dir n5",
		"snapshot restore s.db --initial-advertise-peer-urls http://127.0.0.1:1,http://localhost:2380 --data-dir n5",
		"snapshot restore s.db --initial-cluster a=http://127.0.0.1:1,b=http://127.0.0.1:1 --name a --initial-advertise-peer-urls http://127.0.0.1:1 --data-dir n5",
		"snapshot restore s.db --initial-advertise-peer-urls x --data-dir n6",
		"snapshot restore s.db --bump-revision x", "snapshot restore s.db --data-dir n7 --wal-dir full",
		"hashkv", "hashkv nowhere.db", "hashkv s.db --rev 100000", "defrag", "defrag --data-dir nowhere", "migrate", "version",
		"migrate --data-dir nowhere --target-version 3", "migrate --data-dir nowhere --target-version 3.4",
		"migrate --data-dir nowhere --target-version 3.6",
	} {
		words := strings.Fields(line)
		ours, theirs := run(t, dir, programs.Utility, words...), run(t, dir, programs.PeerUtility, words...)
		// etcd lists a member's addresses in the order of a Go map.
		listed := strings.NewReplacer("default=http://127.0.0.1:2,default=http://127.0.0.1:1", "default=http://127.0.0.1:1,default=http://127.0.0.1:2")
		if listed.Replace(errorsOf(ours)) != listed.Replace(errorsOf(theirs)) {
			t.Errorf("%s:\n ours   %s\n theirs %s", line, errorsOf(ours), errorsOf(theirs))
		}
		for i := range 8 {
			Must(t, os.RemoveAll(filepath.Join(dir, fmt.Sprintf("n%d", i))))
		}
	}
}

// errorsOf is an output without log lines and usage texts.
func errorsOf(out output) string {
	lines := []string{fmt.Sprint("code ", out.code), out.stdout}
	for _, line := range strings.Split(out.stderr, "\n") {
		if strings.HasPrefix(line, "Error: ") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

// The data folder of a stopped or killed etcd: its data file and what its log holds beyond it.
func TestImportOfEtcdsFolder(t *testing.T) {
	programs := Programs(t)
	for _, ending := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(ending.String(), func(t *testing.T) {
			// A commit of the data file so rare that the log holds nearly everything at the end.
			s := Single(t, programs.Peer, "--backend-batch-interval", "1h", "--backend-batch-limit", "1000000")
			live(t, s, true)
			want := account(t, s)
			ours := NewServer(t, programs.Server, "restored")
			words := append([]string{"import", s.DataDir}, restoreFlags(ours)...)
			running := run(t, folder(t), programs.Utility, words...)
			if running.code != 1 || !strings.Contains(running.stderr, "a running etcd uses") {
				t.Errorf("importing from a running etcd: %+v", running)
			}
			s.Signal(ending)
			s.AwaitExit(ReadyLimit)
			said := succeed(t, folder(t), programs.Utility, words...)
			if ending == syscall.SIGKILL && strings.Contains(said, " 0 entries of its log") {
				t.Errorf("nothing of the log was needed, so nothing was tried: %s", said)
			}
			ours.Start("", "new")
			ours.AwaitReady()
			same(t, "what was imported", account(t, ours), want)
		})
	}
}

// Whoever survives alone goes on alone, and is told what that costs.
func TestRecoveryOfOneMember(t *testing.T) {
	programs := Programs(t)
	cluster := StartCluster(t, programs.Server, 3)
	cluster.AwaitReady()
	live(t, cluster.Leader(), true)
	c, ctx := client(t, cluster.Leader())
	head, err := c.Get(ctx, "/last")
	Must(t, err)
	survivor := cluster.Followers()[0]
	reader, ctx := client(t, survivor)
	_, err = reader.Get(ctx, "/last")
	Must(t, err)
	for _, member := range cluster.Members {
		member.Kill()
	}
	alone := NewServer(t, programs.Server, survivor.Name)
	words := []string{"recover", survivor.DataDir, "--data-dir", alone.DataDir, "--initial-cluster-token", "tests",
		"--initial-advertise-peer-urls", alone.PeerURL, "--bump-revision", "1000", "--mark-compacted"}
	asked := run(t, folder(t), programs.Utility, words...)
	if asked.code == 0 || strings.Count(asked.stdout, "Lost: member ") != 2 {
		t.Errorf("recovery without a yes: %+v", asked)
	}
	if _, err := os.Stat(alone.DataDir); err == nil {
		t.Error("recovery without a yes made a folder")
	}
	succeed(t, folder(t), programs.Utility, append(words, "--yes")...)
	alone.Start("", "new")
	alone.AwaitReady()
	c, ctx = client(t, alone)
	reply, err := c.Get(ctx, "/last")
	Must(t, err)
	if len(reply.Kvs) != 1 || reply.Header.Revision != head.Header.Revision+1000 {
		t.Errorf("after recovery: %v, before: %v", reply, head.Header)
	}
	list, err := c.MemberList(ctx)
	Must(t, err)
	if len(list.Members) != 1 {
		t.Errorf("members after recovery: %v", list.Members)
	}
}

// A sound folder is called sound; a flipped byte is named with its file, whatever part it hits.
func TestCheckFindsDamage(t *testing.T) {
	programs := Programs(t)
	s := Single(t, programs.Server)
	live(t, s, true)
	running := run(t, folder(t), programs.Utility, "check", s.DataDir)
	if running.code != 1 || !strings.Contains(running.stderr, "running member") {
		t.Errorf("a running member's folder: %+v", running)
	}
	s.Signal(syscall.SIGTERM)
	s.AwaitExit(ReadyLimit)
	if said := succeed(t, folder(t), programs.Utility, "check", s.DataDir); !strings.Contains(said, "sound: ") {
		t.Errorf("a sound folder: %s", said)
	}
	var files []string
	Must(t, filepath.Walk(s.DataDir, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() && info.Size() > 0 && !strings.HasSuffix(path, ".spare") {
			files = append(files, path)
		}
		return err
	}))
	if len(files) < 4 {
		t.Fatalf("files: %q", files)
	}
	for _, file := range files {
		whole, err := os.ReadFile(file)
		Must(t, err)
		broken := append([]byte(nil), whole...)
		broken[40%len(whole)] ^= 4
		Must(t, os.WriteFile(file, broken, 0o600))
		out := run(t, folder(t), programs.Utility, "check", s.DataDir, "-w", "json")
		if out.code != 1 || !strings.Contains(out.stdout, filepath.Base(file)) || !strings.Contains(out.stdout, `"sound":false`) {
			t.Errorf("%s: %+v", file, out)
		}
		Must(t, os.WriteFile(file, whole, 0o600))
	}
	if out := run(t, folder(t), programs.Utility, "defrag", "--data-dir", s.DataDir); out.code != 0 {
		t.Errorf("defrag: %+v", out)
	}
	s.Start("", "new")
	s.AwaitReady()
}

// A backup is one moment while writes go on: of a pair that is always written together never only one half, and no write
// waits for it.
func TestBackupWhileWritesGoOn(t *testing.T) {
	programs := Programs(t)
	s := Single(t, programs.Server)
	c, ctx := client(t, s)
	for i := range 20 {
		_, err := c.Put(ctx, fmt.Sprintf("/fill/%d", i), strings.Repeat("x", 500_000))
		Must(t, err)
	}
	writing, stop := context.WithCancel(ctx)
	var writes atomic.Int64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; writing.Err() == nil; i++ {
			value := fmt.Sprint(i)
			if _, err := c.Txn(writing).Then(clientv3.OpPut("/a", value), clientv3.OpPut("/b", value)).Commit(); err == nil {
				writes.Add(1)
			}
			if i%50 == 49 {
				c.Compact(writing, int64(i))
			}
		}
	}()
	Eventually(t, ReadyLimit, "writes", func() error {
		if writes.Load() < 100 {
			return Wanted("only %d writes", writes.Load())
		}
		return nil
	})
	// A caller that takes nothing holds a snapshot and nobody else.
	idle, err := pb.NewMaintenanceClient(s.Conn()).Snapshot(writing, &pb.SnapshotRequest{})
	Must(t, err)
	_, err = idle.Recv()
	Must(t, err)
	dir := folder(t)
	var files []string
	for i := range 3 {
		before := writes.Load()
		files = append(files, save(t, dir, fmt.Sprintf("%d.db", i), s))
		Eventually(t, ReadyLimit, "writes after a backup", func() error {
			if writes.Load() <= before {
				return Wanted("none")
			}
			return nil
		})
	}
	stop()
	<-ended
	for _, file := range files {
		peer := restored(t, programs.PeerUtility, programs.Peer, file)
		c, ctx := client(t, peer)
		a, err := c.Get(ctx, "/a")
		Must(t, err)
		b, err := c.Get(ctx, "/b")
		Must(t, err)
		if string(a.Kvs[0].Value) != string(b.Kvs[0].Value) || a.Kvs[0].ModRevision != b.Kvs[0].ModRevision {
			t.Errorf("%s: a is %v, b is %v", file, a.Kvs, b.Kvs)
		}
		peer.Kill()
	}
	deadline := time.Now().Add(ReadyLimit)
	if err := s.Healthy(); err != nil && time.Now().Before(deadline) {
		t.Error(err)
	}
}

// Users and roles go from etcd to ours and back to etcd.
func TestUsersAndRolesTravel(t *testing.T) {
	programs := Programs(t)
	s := Single(t, programs.Peer)
	c, ctx := client(t, s)
	for _, role := range []string{"root", "reader"} {
		_, err := c.RoleAdd(ctx, role)
		Must(t, err)
	}
	_, err := c.RoleGrantPermission(ctx, "reader", "/a", "/b", clientv3.PermissionType(clientv3.PermRead))
	Must(t, err)
	for user, role := range map[string]string{"root": "root", "someone": "reader"} {
		_, err := c.UserAdd(ctx, user, "secret")
		Must(t, err)
		_, err = c.UserGrantRole(ctx, user, role)
		Must(t, err)
	}
	ours := restored(t, programs.Utility, programs.Server, save(t, folder(t), "s.db", s))
	back := restored(t, programs.PeerUtility, programs.Peer, save(t, folder(t), "back.db", ours))
	c, ctx = client(t, back)
	_, err = c.AuthEnable(ctx)
	Must(t, err)
	login, err := clientv3.New(clientv3.Config{Endpoints: []string{back.ClientURL}, Username: "someone", Password: "secret"})
	Must(t, err)
	defer login.Close()
	if _, err := login.Get(ctx, "/a"); err != nil {
		t.Errorf("reading what the role permits: %v", err)
	}
	if _, err := login.Put(ctx, "/a", "x"); err == nil {
		t.Error("writing what the role does not permit")
	}
}

// TestCompletion asks both tools for completion in all wrong ways, and lets bash complete with our script.
func TestCompletion(t *testing.T) {
	programs := Programs(t)
	for _, words := range [][]string{{"completion"}, {"completion", "nonsense"}, {"completion", "bash", "more"}, {"completion", "--help"}} {
		expected, got := run(t, folder(t), programs.PeerUtility, words...), run(t, folder(t), programs.Utility, words...)
		if expected.code != got.code || expected.stdout != got.stdout || expected.stderr != got.stderr {
			t.Errorf("%v: etcdutl\n%+v\nours\n%+v", words, expected, got)
		}
	}
	script := `source <(etcdutl completion bash) || exit 1
function=$(complete -p etcdutl | sed 's/.*-F \([^ ]*\).*/\1/')
COMP_WORDS=(etcdutl snapshot re) COMP_CWORD=2 COMP_LINE="etcdutl snapshot re" COMP_POINT=19
$function etcdutl re snapshot
echo "${COMPREPLY[@]}"`
	names := folder(t)
	if err := os.Symlink(programs.Utility, filepath.Join(names, "etcdutl")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", names+":"+os.Getenv("PATH"))
	if out := succeed(t, folder(t), "bash", "-c", script); strings.TrimSpace(out) != "restore" {
		t.Errorf("bash completes to %q", out)
	}
}
