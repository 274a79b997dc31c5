package etcdctl

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	. "quorate/tests/harness"
)

// TestTop looks at a cluster with a member down, and at real etcd.
func TestTop(t *testing.T) {
	programs := Programs(t)
	top := func(endpoints string, arguments ...string) (string, error) {
		binary := filepath.Join(filepath.Dir(programs.Control), "quorate")
		command := exec.Command(binary, append([]string{"ctl", "--endpoints=" + endpoints, "top", "--interval=300ms"}, arguments...)...)
		out, err := command.CombinedOutput()
		return string(out), err
	}
	type shown struct {
		State   string
		Members []struct {
			Name, Role, Error string
			Lag               *int64
			RequestsPerSecond *float64 `json:"requests_per_s"`
		}
	}
	look := func(endpoints string) (look shown, text string) {
		out, err := top(endpoints, "--once", "-w", "json")
		Must(t, err)
		Must(t, json.Unmarshal([]byte(out), &look))
		return look, out
	}

	c := StartCluster(t, programs.Server, 3)
	c.AwaitReady()
	leader := c.Leader()
	seen, text := look(leader.Endpoint())
	if seen.State != "healthy" || len(seen.Members) != 3 || strings.Count(text, `"role":"leader"`) != 1 {
		t.Fatal(text)
	}
	for _, member := range seen.Members {
		if member.RequestsPerSecond == nil || member.Lag == nil {
			t.Errorf("%s has no figures: %s", member.Name, text)
		}
	}
	down := c.Followers()[0]
	down.Kill()
	seen, text = look(leader.Endpoint())
	if seen.State != "1 of 3 members do not answer" {
		t.Error(text)
	}
	for _, member := range seen.Members {
		if isDown := member.Name == down.Name; isDown != (member.Role == "unknown") || isDown != (member.Error != "") {
			t.Errorf("%s: %s", member.Name, text)
		}
	}
	out, err := top(leader.Endpoint(), "--once")
	Must(t, err)
	if !strings.Contains(out, "MEMBER") || !strings.Contains(out, down.Name) || strings.Contains(out, "\x1b") {
		t.Errorf("in words: %s", out)
	}

	seen, text = look(Single(t, programs.Peer).Endpoint())
	if seen.State != "healthy" || len(seen.Members) != 1 || seen.Members[0].Role != "leader" {
		t.Error(text)
	}
	if out, err := top(leader.Endpoint(), "--once", "-w", "table"); err == nil || !strings.Contains(out, "simple and json only") {
		t.Errorf("a form that it has not: %s", out)
	}
}
