package cluster

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	. "quorate/tests/harness"
)

// control runs `quorate ctl` and gives what it printed and its exit code.
func control(t *testing.T, through *Server, args ...string) (string, int) {
	t.Helper()
	quorate := filepath.Join(filepath.Dir(Programs(t).Control), "quorate")
	process := exec.Command(quorate, append([]string{"ctl", "--endpoints", through.ClientURL}, args...)...)
	var shown bytes.Buffer
	process.Stdout, process.Stderr = &shown, &shown
	if err := process.Run(); err != nil && process.ProcessState == nil {
		t.Fatal(err)
	}
	return shown.String(), process.ProcessState.ExitCode()
}

// changed repeats a change of members until the members are connected for long enough.
func changed(t *testing.T, through *Server, args ...string) (text string, code int) {
	t.Helper()
	Eventually(t, ReadyLimit, strings.Join(args, " "), func() error {
		text, code = control(t, through, args...)
		if strings.Contains(text, "unhealthy cluster") {
			return Wanted("%s", text)
		}
		return nil
	})
	return text, code
}

func hex(t *testing.T, s *Server) string {
	t.Helper()
	status, err := s.Status()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", status.Header.MemberId)
}

// learner is the only one; "" if there is none.
func learner(t *testing.T, client *clientv3.Client) string {
	t.Helper()
	list, err := client.MemberList(within(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, member := range list.Members {
		if member.IsLearner {
			return fmt.Sprintf("%x", member.ID)
		}
	}
	return ""
}

const nowhere = "http://127.0.0.1:1"

// A dead member is replaced, with a mistyped address first: there is a quorum all along.
func TestReplacingADeadMember(t *testing.T) {
	c := start(t)
	dead := c.Followers()[0]
	var alive []*Server
	for _, s := range c.Members {
		if s != dead {
			alive = append(alive, s)
		}
	}
	id := hex(t, dead)
	client := Client(t, alive...)
	writing := startLoad(t, client, 4)
	dead.Kill()
	writing.goesOn(t, "the death", 50)
	if text, code := changed(t, alive[0], "member", "replace", id, "m9", "--peer-urls", nowhere, "--wait", "1s"); code != 1 || !strings.Contains(text, "has no vote yet: it does not run at "+nowhere) {
		t.Fatalf("a replacement by nobody ends with %d: %s", code, text)
	}
	writing.goesOn(t, "a mistyped replacement", 100)
	// One of the two voters that are left may restart: the learner that nobody started has no say.
	if text, code := changed(t, alive[0], "member", "remove", learner(t, client)); code != 0 {
		t.Fatalf("%d: %s", code, text)
	}
	s := NewServer(t, Programs(t).Server, "m9")
	if text, code := changed(t, alive[0], "member", "add", "m9", "--peer-urls", s.PeerURL, "--auto-promote"); code != 0 || !strings.Contains(text, "added as learner") || !strings.Contains(text, `ETCD_INITIAL_CLUSTER_STATE="existing"`) {
		t.Fatalf("%d: %s", code, text)
	}
	writing.goesOn(t, "an addition", 100)
	c.Members = append(alive, s)
	s.Start(initial(c.Members...), "existing")
	s.AwaitReady()
	Eventually(t, ReadyLimit, "the promotion", func() error {
		if id := learner(t, client); id != "" {
			return Wanted("%s learns", id)
		}
		return nil
	})
	writing.end()
	Eventually(t, ReadyLimit, "the new member's own word of it", func() error {
		if status, err := s.Status(); err != nil || status.IsLearner {
			return Wanted("it learns: %v, %v", status, err)
		}
		return nil
	})
	holdsAll(t, s, writing.writes)
}

// A member that runs is replaced: it leaves only when the new one has its vote.
func TestReplacingALivingMember(t *testing.T) {
	c := start(t)
	old := c.Leader()
	rest := c.Followers()
	id := hex(t, old)
	writing := startLoad(t, Client(t, rest...), 4)
	if text, code := changed(t, rest[0], "member", "replace", id, "m9", "--peer-urls", nowhere, "--wait", "1s"); code != 1 || !strings.Contains(text, "has no vote yet") {
		t.Fatalf("a replacement by nobody ends with %d: %s", code, text)
	}
	writing.goesOn(t, "a mistyped replacement", 100)
	if old.Ended() {
		t.Fatal("the old member left before there was a new one")
	}
	client := Client(t, rest...)
	if text, code := changed(t, rest[0], "member", "remove", learner(t, client)); code != 0 {
		t.Fatalf("%d: %s", code, text)
	}
	s := NewServer(t, Programs(t).Server, "m9")
	started := make(chan struct{})
	go func() {
		defer close(started)
		Eventually(t, ReadyLimit, "the learner", func() error {
			if list, err := client.MemberList(t.Context()); err != nil || len(list.Members) != 4 {
				return Wanted("%v, %v", list, err)
			}
			return nil
		})
		s.Start(initial(append(c.Members, s)...), "existing")
	}()
	text, code := changed(t, rest[0], "member", "replace", id, "m9", "--peer-urls", s.PeerURL, "--wait", "30s")
	<-started
	if code != 0 || !strings.Contains(text, "removed from cluster") {
		t.Fatalf("%d: %s", code, text)
	}
	if code := old.AwaitExit(ReadyLimit); code != 0 || !strings.Contains(old.LogText(), "the member has been permanently removed from the cluster") {
		t.Errorf("the old member ended with %d", code)
	}
	writing.goesOn(t, "the replacement", 100)
	writing.end()
	Eventually(t, ReadyLimit, "the new member's own word of it", func() error {
		if status, err := s.Status(); err != nil || status.IsLearner {
			return Wanted("it learns: %v, %v", status, err)
		}
		return nil
	})
	holdsAll(t, s, writing.writes)
	c.Members = append(rest, s)
	equal(t, c)
}

// A member that was removed stays out and says why, whatever it is started with; wrong settings are named.
func TestARemovedMemberCannotComeBack(t *testing.T) {
	const removed = "the member has been permanently removed from the cluster"
	c := start(t)
	everybody := initial(c.Members...)
	out := c.Followers()[0]
	leave(t, c, c.Leader(), out)
	out.CloseConn()
	survivors := initial(c.Members...)
	writing := startLoad(t, Client(t, c.Members...), 2)
	term, err := c.Members[0].Status()
	if err != nil {
		t.Fatal(err)
	}
	for _, try := range []struct {
		what, cluster, state, token, said string
		wiped                             bool
		code                              int
	}{
		{"with its folder", everybody, "existing", "tests", removed, false, 0},
		{"with its folder, as at first", everybody, "new", "tests", removed, false, 0},
		{"wiped, as at first", everybody, "new", "tests", removed, true, 0},
		{"wiped, to join", everybody, "existing", "tests", "member count is unequal", true, 1},
		{"wiped, to join without itself", survivors, "existing", "tests", "couldn't find local name", true, 1},
		{"wiped, with another token", everybody, "new", "other", "cluster ID mismatch", true, 1},
	} {
		if try.wiped {
			if err := os.RemoveAll(out.DataDir); err != nil {
				t.Fatal(err)
			}
		}
		again := NewServer(t, Programs(t).Server, out.Name, "--initial-cluster-token", try.token)
		again.DataDir, again.PeerURL = out.DataDir, out.PeerURL
		again.Start(try.cluster, try.state)
		if code := again.AwaitExit(ReadyLimit); code != try.code || !strings.Contains(again.LogText(), try.said) {
			t.Errorf("%s: ended with %d instead of %d, or says nothing of %q:\n%s", try.what, code, try.code, try.said, again.LogText())
		}
		again.Kill()
	}
	writing.goesOn(t, "all of it", 50)
	writing.end()
	if after, err := c.Members[0].Status(); err != nil || after.RaftTerm != term.RaftTerm {
		t.Errorf("the removed member disturbed the others: %v, %v after %v", err, after, term)
	}
	// Of two members one keeps its data: the other's token is told where the URLs are equal.
	lost := c.Followers()[0]
	lost.Kill()
	if err := os.RemoveAll(lost.DataDir); err != nil {
		t.Fatal(err)
	}
	again := NewServer(t, Programs(t).Server, lost.Name, "--initial-cluster-token", "other")
	again.DataDir, again.PeerURL = lost.DataDir, lost.PeerURL
	again.Start(survivors, "new")
	Eventually(t, ReadyLimit, "word of the other token", func() error {
		if !strings.Contains(again.LogText(), "so --initial-cluster-token (\\\"other\\\") is another one") {
			return Wanted("%s", again.LogText())
		}
		return nil
	})
	if again.Healthy() == nil {
		t.Error("a member with another token serves")
	}
}
