package v2

import (
	"bufio"
	"context"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"quorate/tests/harness"
)

// What a copy has of its own.
var indexes = regexp.MustCompile(`,"(modified|created)Index":\d+`)

// TestCopy moves an etcd 3.4's keys to us while both run, then follows what changes there.
func TestCopy(t *testing.T) {
	servers := pair(t)
	source, target := servers[0], servers[1]
	checkOne := func(server *harness.Server, method, path, form string) {
		t.Helper()
		if answer := ask(server, request{method: method, path: path, form: form}); !strings.HasPrefix(answer, "20") {
			t.Fatalf("%s %s: %s", method, path, answer)
		}
	}
	checkOne(source, "PUT", "/v2/keys/a", "value=x%26%3D%20y")
	checkOne(source, "PUT", "/v2/keys/ttl", "value=1&ttl=1000")
	checkOne(source, "PUT", "/v2/keys/d/e/f", "value=")
	checkOne(source, "PUT", "/v2/keys/empty", "dir=true&ttl=1000")
	checkOne(source, "POST", "/v2/keys/queue", "value=1")
	ctl := harness.Programs(t).Control
	words := []string{"--v2", "--endpoints", target.ClientURL, "copy", "--from", source.ClientURL, "--follow"}
	ctx, cancel := context.WithTimeout(context.Background(), 2*harness.ReadyLimit)
	defer cancel()
	quorate := exec.CommandContext(ctx, ctl, append([]string{"ctl"}, words...)...)
	// By its own name, which the harness's link is not.
	quorate.Args[0] = "quorate"
	out, err := quorate.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var failure strings.Builder
	quorate.Stderr = &failure
	if err := quorate.Start(); err != nil {
		t.Fatal(err)
	}
	defer quorate.Process.Kill()
	lines := bufio.NewScanner(out)
	await := func(beginning string) {
		t.Helper()
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), beginning) {
				return
			}
		}
		t.Fatalf("no line %q; %s", beginning, failure.String())
	}
	await("copied 4 keys and 4 directories")
	checkOne(source, "PUT", "/v2/keys/later", "value=2&ttl=500")
	checkOne(source, "PUT", "/v2/keys/a", "value=3&prevExist=true")
	checkOne(source, "DELETE", "/v2/keys/queue?recursive=true", "")
	checkOne(source, "PUT", "/v2/keys/last", "value=4")
	await("set /last")
	if err := quorate.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := quorate.Wait(); err != nil {
		t.Fatalf("%v: %s", err, failure.String())
	}
	same := func(server *harness.Server) string {
		answer := ask(server, request{method: "GET", path: "/v2/keys?recursive=true&sorted=true"})
		answer = answer[strings.Index(answer, "{"):]
		return indexes.ReplaceAllString(ttl.ReplaceAllString(answer, `"ttl":N`), "")
	}
	if want, got := same(source), same(target); want != got {
		t.Errorf("the source has\n%s\nthe target has\n%s", want, got)
	}
}
