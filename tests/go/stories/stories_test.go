// Package stories runs the pages of docs/stories as a newcomer would: every command in turn, in one shell, and each must
// answer what the page says.
package stories

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	. "quorate/tests/harness"
)

// answerLimit is how long a page's answer may take to come true.
const answerLimit = 30 * time.Second

// step is a command of a page, and what it must print.
type step struct {
	line     int
	command  string
	expected []string
}

// steps reads the console blocks of a page. A line of `...` stands for any lines.
func steps(t *testing.T, page string) (found []step) {
	t.Helper()
	text, err := os.ReadFile(page)
	Must(t, err)
	inBlock := false
	for number, line := range strings.Split(string(text), "\n") {
		switch {
		case strings.HasPrefix(line, "```"):
			inBlock = line == "```console"
		case !inBlock:
		case strings.HasPrefix(line, "$ "):
			found = append(found, step{number + 1, line[2:], nil})
		case len(found) > 0:
			last := &found[len(found)-1]
			last.expected = append(last.expected, line)
		}
	}
	if len(found) == 0 {
		t.Fatalf("%s has no command", page)
	}
	return found
}

var (
	ids = regexp.MustCompile(`\b[0-9a-f]{14,16}\b`)
	// A member that was added is named as it is known at that moment, in any order.
	clusters = regexp.MustCompile(`ETCD_INITIAL_CLUSTER="[^"]*"`)
	indexes  = regexp.MustCompile(`\[\d+\]$|"((modified|created)I|i)ndex":\d+|"ttl":\d+|"expiration":"[^"]+"`)
	rates    = regexp.MustCompile(`\(\+[\d.]+/s\)`)
	// A member's line of `top`: figures, and who leads, differ.
	members = regexp.MustCompile(`^node-\w  (leader|follower)`)
	figures = regexp.MustCompile(`\s([\d.]+( [kM]?B|ms|us|s)?|-)\b|\s-`)
	spaces  = regexp.MustCompile(` +`)
	// What bash says of a job that ended.
	ended = regexp.MustCompile(`(?m)^bash: line \d+: +\d+ Killed .*\n`)
)

// plain takes out what differs from run to run.
func plain(line string) string {
	line = ids.ReplaceAllString(strings.TrimRight(line, " \t\r"), "ID")
	line = rates.ReplaceAllString(line, "RATE")
	if members.MatchString(line) {
		line = figures.ReplaceAllString(members.ReplaceAllString(line, "member"), " N")
	}
	line = spaces.ReplaceAllString(line, " ")
	line = clusters.ReplaceAllString(line, `ETCD_INITIAL_CLUSTER="..."`)
	return indexes.ReplaceAllString(line, "INDEX")
}

// answers compares in the order of addresses: etcdctl lists members by their ids, which are drawn.
func answers(expected []string, got string) bool {
	var lines []string
	if got = strings.Trim(ended.ReplaceAllString(got, ""), "\n"); got != "" {
		lines = strings.Split(got, "\n")
	}
	for len(expected) > 0 && expected[len(expected)-1] == "" {
		expected = expected[:len(expected)-1]
	}
	var words []string
	for _, line := range expected {
		words = append(words, plain(line))
	}
	for i, line := range lines {
		lines[i] = plain(line)
	}
	return matches(words, lines) || matches(groups(words), groups(lines))
}

// groups orders the lines of cluster-health by address, those about one member together.
func groups(lines []string) []string {
	type group struct {
		address string
		lines   []string
	}
	var all []group
	address := regexp.MustCompile(`10\.10\.10\.\d+`)
	for _, line := range lines {
		found := address.FindString(line)
		if found == "" {
			found = "~" + line // behind the members
		}
		at := 0
		for at < len(all) && all[at].address != found {
			at++
		}
		if at == len(all) {
			all = append(all, group{address: found})
		}
		all[at].lines = append(all[at].lines, line)
	}
	for i := range all {
		for j := i; j > 0 && all[j].address < all[j-1].address; j-- {
			all[j], all[j-1] = all[j-1], all[j]
		}
	}
	var out []string
	for _, g := range all {
		out = append(out, g.lines...)
	}
	return out
}

func matches(expected, got []string) bool {
	if len(expected) == 0 {
		return len(got) == 0
	}
	if expected[0] == "..." {
		for skipped := 0; skipped <= len(got); skipped++ {
			if matches(expected[1:], got[skipped:]) {
				return true
			}
		}
		return false
	}
	return len(got) > 0 && expected[0] == got[0] && matches(expected[1:], got[1:])
}

// shell is a bash in networks and mounts of its own.
type shell struct {
	t      *testing.T
	input  io.WriteCloser
	output *bufio.Reader
	marks  int
}

func start(t *testing.T, programs string) *shell {
	t.Helper()
	for _, tool := range []string{"unshare", "ip", "bash", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("the stories need %s: install util-linux, iproute2, bash and curl", tool)
		}
	}
	if os.Geteuid() != 0 {
		t.Fatal("the stories make networks of their own: run them as root")
	}
	page, err := filepath.Abs("../../../docs/stories")
	Must(t, err)
	folder := t.TempDir()
	Must(t, os.Symlink(filepath.Join(page, "hosts.sh"), filepath.Join(folder, "hosts.sh")))
	private := "mkdir -p /run/netns && mount -t tmpfs none /run/netns && ip link set lo up && exec bash --norc"
	command := exec.Command("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", private)
	command.Dir = folder
	command.Env = append(os.Environ(), "PATH="+programs+":"+os.Getenv("PATH"), "LC_ALL=C")
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	input, err := command.StdinPipe()
	Must(t, err)
	output, err := command.StdoutPipe()
	Must(t, err)
	command.Stderr = command.Stdout
	Must(t, command.Start())
	t.Cleanup(func() {
		if t.Failed() {
			logs, _ := filepath.Glob(filepath.Join(folder, "*.log"))
			for _, name := range logs {
				text, _ := os.ReadFile(name)
				t.Logf("%s:\n%s", filepath.Base(name), text[max(0, len(text)-4000):])
			}
		}
		// The first process of the shell's own process ids takes all others with it.
		input.Close()
		syscall.Kill(-command.Process.Pid, syscall.SIGKILL)
		command.Wait()
	})
	return &shell{t: t, input: input, output: bufio.NewReader(output)}
}

// run runs a command in the shell and answers what it prints.
func (s *shell) run(command string) string {
	s.t.Helper()
	s.marks++
	mark := fmt.Sprintf("--- end of %d ---", s.marks)
	_, err := fmt.Fprintf(s.input, "%s\nprintf '\\n%s\\n'\n", command, mark)
	Must(s.t, err)
	var lines []string
	for {
		line, err := s.output.ReadString('\n')
		if err != nil {
			s.t.Fatalf("%s: the shell ended: %v, after %q", command, err, lines)
		}
		if strings.TrimSuffix(line, "\n") == mark {
			return strings.Join(lines, "")
		}
		lines = append(lines, line)
	}
}

// tell runs a page.
func tell(t *testing.T, page string, control string) {
	programs := t.TempDir()
	binaries := Programs(t)
	for name, target := range map[string]string{"etcd": binaries.Server, "etcdctl": control, "quorate": binaries.Server} {
		absolute, err := filepath.EvalSymlinks(target)
		Must(t, err)
		Must(t, os.Symlink(absolute, filepath.Join(programs, name)))
	}
	s := start(t, programs)
	for _, step := range steps(t, filepath.Join("../../../docs/stories", page)) {
		repeats := strings.Contains(step.command, "health") || len(step.expected) > 0 && !strings.Contains(step.command, " add ") &&
			!strings.Contains(step.command, "move-leader")
		err := Within(answerLimit, func() error {
			got := s.run(step.command)
			if answers(step.expected, got) {
				return nil
			}
			problem := Wanted("%s:%d: $ %s\nprints\n%s\nnot\n%s", page, step.line, step.command, got, strings.Join(step.expected, "\n"))
			if !repeats && !strings.Contains(got, "unavailable") {
				t.Fatal(problem)
			}
			return problem
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestFiveMembers is told with the etcdctl that distributions ship, in v2 mode.
func TestFiveMembers(t *testing.T) { tell(t, "five-members.md", Programs(t).OldControl) }

// TestConnector is told with curl.
func TestConnector(t *testing.T) { tell(t, "connector-v2.md", Programs(t).Control) }

// TestPartition is told with our own etcdctl.
func TestPartition(t *testing.T) { tell(t, "partition.md", Programs(t).Control) }
