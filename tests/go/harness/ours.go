package harness

import (
	"os"
	"testing"
)

// OursIsQuorate tells whether the server under test is ours: real etcd in its place lacks what only Quorate has.
func OursIsQuorate(t testing.TB) bool {
	t.Helper()
	programs := Programs(t)
	server, err := os.Stat(programs.Server)
	if err != nil {
		t.Fatal(err)
	}
	peer, err := os.Stat(programs.Peer)
	if err != nil {
		t.Fatal(err)
	}
	return !os.SameFile(server, peer)
}
