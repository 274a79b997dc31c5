package cluster

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	. "quorate/tests/harness"
)

// gateway starts one before the endpoints and gives its address and its log.
func gateway(t *testing.T, binary string, endpoints ...string) (string, *Log) {
	t.Helper()
	address, log := Address(t), &Log{}
	process := exec.Command(binary, "gateway", "start", "--listen-addr", address, "--endpoints", strings.Join(endpoints, ","), "--retry-delay", "200ms")
	process.Stdout, process.Stderr = log, log
	process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		process.Process.Kill()
		process.Wait()
	})
	Eventually(t, ReadyLimit, "the gateway", func() error {
		if !strings.Contains(log.Text(), "ready to proxy client requests") {
			return Wanted("%s", log.Text())
		}
		return nil
	})
	return address, log
}

// A client of the gateway alone goes on while members die and come back; both gateways tell of it alike.
func TestGateway(t *testing.T) {
	for _, binary := range []string{Programs(t).Peer, Programs(t).Server} {
		c := start(t)
		var endpoints []string
		for _, s := range c.Members {
			endpoints = append(endpoints, s.ClientURL)
		}
		address, log := gateway(t, binary, endpoints...)
		client, err := clientv3.New(clientv3.Config{Endpoints: []string{address}, DialTimeout: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { client.Close() })
		writing := startLoad(t, client, 2)
		writing.goesOn(t, "the start", 50)
		for _, s := range c.Members {
			s.Kill()
			s.CloseConn()
			writing.goesOn(t, "a death", 50)
			// Each new connection goes to the next endpoint, so the dead one is found.
			Eventually(t, ReadyLimit, "the dead endpoint", func() error {
				probe, err := clientv3.New(clientv3.Config{Endpoints: []string{address}})
				if err != nil {
					return err
				}
				defer probe.Close()
				if _, err := probe.Get(within(t), "k"); err != nil {
					return err
				}
				if !strings.Contains(log.Text(), `"deactivated endpoint","address":"`+s.Endpoint()) {
					return Wanted("%s", log.Text())
				}
				return nil
			})
			c.Start(s)
			s.AwaitReady()
			Eventually(t, ReadyLimit, "the endpoint again", func() error {
				if !strings.Contains(log.Text(), `"activated","address":"`+s.Endpoint()) {
					return Wanted("%s", log.Text())
				}
				return nil
			})
		}
		writing.end()
		holdsAll(t, c.Members[0], writing.writes)
	}
}

// Wrong command lines end both gateways alike.
func TestGatewaysCommandLine(t *testing.T) {
	run := func(binary string, args []string) string {
		process := exec.Command(binary, append([]string{"gateway"}, args...)...)
		text, _ := process.CombinedOutput()
		var shown []string
		for line := range strings.Lines(string(text)) {
			if !strings.HasPrefix(line, "{") {
				shown = append(shown, strings.TrimRight(line, "\n"))
			}
		}
		return fmt.Sprint(process.ProcessState.ExitCode(), " ", strings.Join(shown, "\n"))
	}
	for _, args := range [][]string{
		{"start", "--endpoints", "nonsense"}, {"start", "--listen-addr", "nonsense"}, {"start", "--endpoints", "127.0.0.1:7", "--listen-addr", "127.0.0.1:7"},
		{"start", "--nosuch"}, {"start", "--retry-delay", "x"}, {"start", "--help"}, {"start", "--endpoints"},
	} {
		expected, got := run(Programs(t).Peer, args), run(Programs(t).Server, args)
		if expected != got {
			t.Errorf("gateway %v\n--- expected:\n%s\n--- got:\n%s", args, expected, got)
		}
	}
}
