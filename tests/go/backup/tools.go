// Package backup takes backups of ours to real etcd and its tools and the other way round, and compares what comes out.
package backup

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/protobuf/encoding/prototext"

	. "quorate/tests/harness"
)

const toolLimit = 60 * time.Second

// output is what a tool printed and how it ended.
type output struct {
	stdout, stderr string
	code           int
}

// run runs a tool to its end.
func run(t testing.TB, dir, binary string, words ...string) output {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), toolLimit)
	defer cancel()
	command := exec.CommandContext(ctx, binary, words...)
	command.Dir = dir
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		t.Fatalf("%s %s: %v", binary, strings.Join(words, " "), err)
	}
	return output{stdout.String(), stderr.String(), command.ProcessState.ExitCode()}
}

// succeed runs a tool that must succeed, and gives its standard output.
func succeed(t testing.TB, dir, binary string, words ...string) string {
	t.Helper()
	out := run(t, dir, binary, words...)
	if out.code != 0 {
		t.Fatalf("%s %s: code %d\n%s%s", filepath.Base(binary), strings.Join(words, " "), out.code, out.stdout, out.stderr)
	}
	return out.stdout
}

// folder is an empty folder that goes with the test.
func folder(t testing.TB) string {
	t.Helper()
	return t.TempDir()
}

// save takes a backup with the real etcdctl.
func save(t testing.TB, dir, name string, s *Server) string {
	t.Helper()
	out := succeed(t, dir, Programs(t).PeerControl, "--endpoints", s.Endpoint(), "snapshot", "save", name)
	if want := "Snapshot saved at " + name + "\nServer version 3.7.0\n"; out != want {
		t.Errorf("snapshot save printed %q, wanted %q", out, want)
	}
	return filepath.Join(dir, name)
}

// restoreFlags describe the new cluster of a server.
func restoreFlags(s *Server) []string {
	return []string{
		"--data-dir", s.DataDir, "--name", s.Name, "--initial-cluster", s.Name + "=" + s.PeerURL,
		"--initial-advertise-peer-urls", s.PeerURL, "--initial-cluster-token", "tests",
	}
}

// restored is a server on what a tool made of a backup.
func restored(t testing.TB, tool, binary, file string, flags ...string) *Server {
	t.Helper()
	s := NewServer(t, binary, "restored")
	words := append([]string{"snapshot", "restore", file}, restoreFlags(s)...)
	succeed(t, folder(t), tool, append(words, flags...)...)
	s.Start("", "new")
	s.AwaitReady()
	return s
}

// client of one server, bounded.
func client(t testing.TB, s *Server) (*clientv3.Client, context.Context) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), toolLimit)
	t.Cleanup(cancel)
	return Client(t, s), ctx
}

// live fills a server: versions, deletions, transactions, leases, a compaction, an alarm.
func live(t testing.TB, s *Server, compacted bool) {
	t.Helper()
	c, ctx := client(t, s)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range 120 {
		_, err := c.Put(ctx, fmt.Sprintf("/key/%02d", i%37), strings.Repeat("v", i*i%700))
		check(err)
	}
	for i := 0; i < 37; i += 5 {
		_, err := c.Delete(ctx, fmt.Sprintf("/key/%02d", i))
		check(err)
	}
	_, err := c.Txn(ctx).Then(
		clientv3.OpPut("/txn/a", "1"), clientv3.OpPut("/txn/b", strings.Repeat("large", 3000)), clientv3.OpDelete("/key/01"),
	).Commit()
	check(err)
	for id, ttl := range map[int64]int64{7: 500, 1 << 40: 9_000} {
		_, err := pb.NewLeaseClient(s.Conn()).LeaseGrant(ctx, &pb.LeaseGrantRequest{ID: id, TTL: ttl})
		check(err)
		_, err = c.Put(ctx, fmt.Sprintf("/leased/%d", id), "x", clientv3.WithLease(clientv3.LeaseID(id)))
		check(err)
	}
	if compacted {
		_, err := c.Compact(ctx, 90, clientv3.WithCompactPhysical())
		check(err)
	}
	_, err = c.Put(ctx, "/last", "one")
	check(err)
}

// account is everything that a server tells about its data, as one text.
func account(t testing.TB, s *Server) string {
	t.Helper()
	c, ctx := client(t, s)
	var text strings.Builder
	hash, err := pb.NewMaintenanceClient(s.Conn()).HashKV(ctx, &pb.HashKVRequest{})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&text, "hash %d compacted %d at %d\n", hash.Hash, hash.CompactRevision, hash.HashRevision)
	for revision := int64(1); revision <= hash.HashRevision; revision++ {
		reply, err := c.Get(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithRev(revision))
		if err != nil {
			fmt.Fprintf(&text, "%d: %v\n", revision, err)
			continue
		}
		for _, kv := range reply.Kvs {
			fmt.Fprintf(&text, "%d: %s\n", revision, prototext.MarshalOptions{}.Format(kv))
		}
	}
	leases, err := c.Leases(ctx)
	if err != nil {
		t.Fatal(err)
	}
	found := map[clientv3.LeaseID]string{}
	for _, lease := range leases.Leases {
		left, err := c.TimeToLive(ctx, lease.ID, clientv3.WithAttachedKeys())
		if err != nil {
			t.Fatal(err)
		}
		found[lease.ID] = fmt.Sprintf("granted %d keys %q", left.GrantedTTL, left.Keys)
	}
	fmt.Fprintf(&text, "leases %v\n", found)
	return strings.Join(strings.Fields(text.String()), " ")
}

// same compares two accounts and shows where they part.
func same(t testing.TB, what, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	at := 0
	for at < len(got) && at < len(want) && got[at] == want[at] {
		at++
	}
	from := max(0, at-120)
	t.Errorf("%s differ:\n got …%.300s\nwant …%.300s", what, got[from:], want[from:])
}

// copyFile copies a file.
func copyFile(t testing.TB, from, to string) {
	t.Helper()
	data, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
