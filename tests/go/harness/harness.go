// Package harness starts and ends the server processes that the tests speak to, and waits for conditions.
//
// It owns processes, their addresses, folders and logs. It knows no expected reply: that is the tests' part.
// A process started here never outlives the test that started it, and every wait has a deadline.
package harness

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"testing"
	"time"
)

// A shell's background job and what runs under nohup ignore the interrupt, and every process started from there does
// too; the clients that the tests interrupt would go on until their deadline. Programs that are started with a signal
// caught have its default again.
func init() {
	if signal.Ignored(os.Interrupt) {
		signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	}
}

// Binaries names the programs under test and the ones they are held against.
type Binaries struct {
	Server      string // ours; speaks etcd's command line
	Peer        string // real etcd
	Control     string // our etcdctl
	PeerControl string // real etcdctl 3.7.3
	OldControl  string // etcdctl 3.4, as distributions ship it
	Utility     string // our etcdutl
	PeerUtility string // real etcdutl 3.7.3
}

// Programs finds the binaries: from the environment (QUORATE_BIN, PEER_BIN, QUORATE_CTL, PEER_CTL, OLD_CTL,
// QUORATE_UTL, PEER_UTL),
// else where `cargo xtask test` puts them.
func Programs(t testing.TB) Binaries {
	t.Helper()
	return Binaries{
		Server:      program(t, "QUORATE_BIN", "etcd"),
		Peer:        program(t, "PEER_BIN", "etcd-peer"),
		Control:     program(t, "QUORATE_CTL", "etcdctl"),
		PeerControl: program(t, "PEER_CTL", "etcdctl-peer"),
		OldControl:  program(t, "OLD_CTL", "etcdctl-old"),
		Utility:     program(t, "QUORATE_UTL", "etcdutl"),
		PeerUtility: program(t, "PEER_UTL", "etcdutl-peer"),
	}
}

func program(t testing.TB, variable, name string) string {
	t.Helper()
	if path := os.Getenv(variable); path != "" {
		return path
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "Cargo.lock")); err == nil {
			return filepath.Join(dir, "target", "test-bin", name)
		}
	}
	t.Fatalf("%s is not set and no target/test-bin was found: run `cargo xtask test`", variable)
	return ""
}

// Eventually waits until the condition gives nil, asking every 10 ms, and fails the test with its last error when the
// deadline passes first.
func Eventually(t testing.TB, limit time.Duration, what string, condition func() error) {
	t.Helper()
	if err := Within(limit, condition); err != nil {
		t.Fatalf("%s: not within %s: %v", what, limit, err)
	}
}

// Within is Eventually for callers that handle the failure themselves.
func Within(limit time.Duration, condition func() error) error {
	deadline := time.Now().Add(limit)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return err
		}
		<-tick.C
	}
}

// Wanted is the error of a condition that does not hold yet.
func Wanted(format string, args ...any) error { return fmt.Errorf(format, args...) }
