package conformance

import (
	"strings"
	"testing"
	"time"

	. "quorate/tests/harness"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// downgrade goes down and up again, with every question on the way.
func downgrade(t *testing.T, s *Side) {
	ask := func(action pb.DowngradeRequest_DowngradeAction, versions ...string) {
		for _, version := range versions {
			Do(s, s.Maintenance.Downgrade, &pb.DowngradeRequest{Action: action, Version: version})
		}
	}
	const validate, enable, stop = pb.DowngradeRequest_VALIDATE, pb.DowngradeRequest_ENABLE, pb.DowngradeRequest_CANCEL
	all := []string{
		"", "3", "3.6", "3.6.0", "3.6.9", "3.6.0-rc.1", "03.6", "v3.6", "3.6 ", "+3.6", "3.6.", "3.6.1.2", "3.7.0", "3.5.0", "2.0.0", "nonsense",
		"9.9.9", "99999999999999999999.1",
	}
	ask(validate, all...)
	ask(stop, "", "3.6")
	ask(7, "3.6")
	ask(enable, "", "3.7", "3.5", "x")
	versions(t, s, "3.7", "3.7")
	ask(enable, "3.6.4")
	versions(t, s, "3.7", "3.6")
	ask(validate, all...)
	ask(enable, "3.6", "3.5")
	Do(s, s.KV.Put, put("a", "while down"))
	ask(stop, "")
	versions(t, s, "3.6", "3.7")
	ask(stop, "")
	ask(validate, "3.6", "3.5")
}

// versions waits until the cluster has a version, and notes all that tells of it there. It began at another one, or at the same.
func versions(t *testing.T, s *Side, from, to string) {
	t.Helper()
	deadline := time.Now().Add(CallLimit)
	for _, _, page := ask(t, s, "GET", "/version", ""); !strings.Contains(page, `"storage":"`+to+`.0"`); _, _, page = ask(t, s, "GET", "/version", "") {
		if time.Now().After(deadline) {
			t.Fatalf("the cluster stays at %s instead of going to %s: %s", from, to, page)
		}
		time.Sleep(20 * time.Millisecond)
	}
	page(t, s, "GET", "/version", "")
	reply, err := s.Maintenance.Status(t.Context(), &pb.StatusRequest{})
	Must(t, err)
	s.Note("storage version", reply.StorageVersion)
	s.Note("downgrade", Render(reply.DowngradeInfo, nil))
	_, _, metrics := ask(t, s, "GET", "/metrics", "")
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, "etcd_cluster_version") {
			s.Note("metric", line)
		}
	}
}
