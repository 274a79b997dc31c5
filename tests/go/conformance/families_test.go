package conformance

import (
	"bufio"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	. "quorate/tests/harness"
)

// Every family of etcd's own that it shows anywhere: name, kind, labels ("-": none), and of a histogram the first of its
// bounds, which double, and their number.
const families = `
etcd_cluster_version gauge cluster_version
etcd_debugging_auth_revision gauge
etcd_debugging_disk_backend_commit_rebalance_duration_seconds histogram - 0.001 14
etcd_debugging_disk_backend_commit_spill_duration_seconds histogram - 0.001 14
etcd_debugging_disk_backend_commit_write_duration_seconds histogram - 0.001 14
etcd_debugging_lease_granted_total counter
etcd_debugging_lease_renewed_total counter
etcd_debugging_lease_revoked_total counter
etcd_debugging_lease_ttl_total histogram - 1 24
etcd_debugging_mvcc_compact_revision gauge
etcd_debugging_mvcc_current_revision gauge
etcd_debugging_mvcc_db_compaction_keys_total counter
etcd_debugging_mvcc_db_compaction_last gauge
etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds histogram - 1 13
etcd_debugging_mvcc_db_compaction_total_duration_milliseconds histogram - 100 14
etcd_debugging_mvcc_events_total counter
etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds histogram - 0.5 14
etcd_debugging_mvcc_keys_total gauge
etcd_debugging_mvcc_pending_events_total gauge
etcd_debugging_mvcc_slow_watcher_total gauge
etcd_debugging_mvcc_total_put_size_in_bytes gauge
etcd_debugging_mvcc_watch_stream_total gauge
etcd_debugging_mvcc_watcher_total gauge
etcd_debugging_server_alarms gauge server_id,alarm_type
etcd_debugging_server_lease_expired_total counter
etcd_debugging_server_watch_send_loop_control_stream_duration_seconds histogram - 0.001 14
etcd_debugging_server_watch_send_loop_progress_duration_seconds histogram - 0.001 14
etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds histogram - 0.001 14
etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds histogram - 0.001 14
etcd_debugging_snap_save_marshalling_duration_seconds histogram - 0.001 14
etcd_debugging_snap_save_total_duration_seconds histogram - 0.001 14
etcd_disk_backend_commit_duration_seconds histogram - 0.001 14
etcd_disk_backend_defrag_duration_seconds histogram - 0.1 13
etcd_disk_backend_snapshot_duration_seconds histogram - 0.01 17
etcd_disk_defrag_inflight gauge
etcd_disk_wal_fsync_duration_seconds histogram - 0.001 14
etcd_disk_wal_write_bytes_total gauge
etcd_disk_wal_write_duration_seconds histogram - 0.001 14
etcd_grpc_proxy_cache_hits_total gauge
etcd_grpc_proxy_cache_keys_total gauge
etcd_grpc_proxy_cache_misses_total gauge
etcd_grpc_proxy_events_coalescing_total counter
etcd_grpc_proxy_watchers_coalescing_total gauge
etcd_mvcc_db_open_read_transactions gauge
etcd_mvcc_db_total_size_in_bytes gauge
etcd_mvcc_db_total_size_in_use_in_bytes gauge
etcd_mvcc_delete_total counter
etcd_mvcc_hash_duration_seconds histogram - 0.01 15
etcd_mvcc_hash_rev_duration_seconds histogram - 0.01 15
etcd_mvcc_put_total counter
etcd_mvcc_range_total counter
etcd_mvcc_txn_total counter
etcd_network_active_peers gauge Local,Remote
etcd_network_client_grpc_received_bytes_total counter
etcd_network_client_grpc_sent_bytes_total counter
etcd_network_disconnected_peers_total counter Local,Remote
etcd_network_known_peers gauge Local,Remote
etcd_network_peer_received_bytes_total counter From
etcd_network_peer_received_failures_total counter From
etcd_network_peer_round_trip_time_seconds histogram To 0.0001 16
etcd_network_peer_sent_bytes_total counter To
etcd_network_peer_sent_failures_total counter To
etcd_network_server_stream_failures_total counter Type,API
etcd_network_snapshot_receive_failures counter From
etcd_network_snapshot_receive_inflights_total gauge From
etcd_network_snapshot_receive_success counter From
etcd_network_snapshot_receive_total_duration_seconds histogram From 0.1 10
etcd_network_snapshot_send_failures counter To
etcd_network_snapshot_send_inflights_total gauge To
etcd_network_snapshot_send_success counter To
etcd_network_snapshot_send_total_duration_seconds histogram To 0.1 10
etcd_server_apply_duration_seconds histogram version,op,success 0.0001 20
etcd_server_client_requests_total counter type,client_api_version
etcd_server_feature_enabled gauge name,stage
etcd_server_go_version gauge server_go_version
etcd_server_has_leader gauge
etcd_server_health_failures counter
etcd_server_health_success counter
etcd_server_healthcheck gauge type,name
etcd_server_healthchecks_total counter type,name,status
etcd_server_heartbeat_send_failures_total counter
etcd_server_id gauge server_id
etcd_server_is_leader gauge
etcd_server_is_learner gauge
etcd_server_leader_changes_seen_total counter
etcd_server_learner_promote_failures counter Reason
etcd_server_learner_promote_successes counter
etcd_server_proposals_applied_total gauge
etcd_server_proposals_committed_total gauge
etcd_server_proposals_failed_total counter
etcd_server_proposals_pending gauge
etcd_server_quota_backend_bytes gauge
etcd_server_range_duration_seconds histogram success 0.0001 20
etcd_server_read_indexes_failed_total counter
etcd_server_request_duration_seconds histogram type,success 0.001 14
etcd_server_slow_apply_total counter
etcd_server_slow_read_indexes_total counter
etcd_server_snapshot_apply_in_progress_total gauge
etcd_server_version gauge server_version
etcd_snap_db_fsync_duration_seconds histogram - 0.001 14
etcd_snap_db_save_total_duration_seconds histogram - 0.1 10
etcd_snap_fsync_duration_seconds histogram - 0.001 14
os_fd_limit gauge
os_fd_used gauge
`

// family is how a page of metrics shows one: its kind, the labels of its series, the bounds of its buckets.
type family struct {
	kind   string
	labels map[string]bool
	bounds []string
}

var (
	sample = regexp.MustCompile(`^([a-z_A-Z0-9]+)(?:\{(.*)\})? `)
	label  = regexp.MustCompile(`(\w+)="(?:[^"\\]|\\.)*"`)
	bound  = regexp.MustCompile(`le="([^"]*)"`)
)

// gather adds a server's page to what others showed.
func gather(t *testing.T, found map[string]*family, s *Side) {
	_, _, text := ask(t, s, "GET", "/metrics", "")
	for scanner := bufio.NewScanner(strings.NewReader(text)); scanner.Scan(); {
		line := scanner.Text()
		if named, isType := strings.CutPrefix(line, "# TYPE "); isType {
			name, kind, _ := strings.Cut(named, " ")
			if found[name] == nil {
				found[name] = &family{kind: kind, labels: map[string]bool{}}
			}
			if found[name].kind != kind {
				t.Errorf("%s is a %s and a %s", name, found[name].kind, kind)
			}
			continue
		}
		parts := sample.FindStringSubmatch(line)
		if parts == nil {
			continue
		}
		name := parts[1]
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if base, cut := strings.CutSuffix(name, suffix); cut && found[base] != nil && (found[base].kind == "histogram" || found[base].kind == "summary") {
				name = base
			}
		}
		shown := found[name]
		if shown == nil {
			t.Errorf("%s has no type", name)
			continue
		}
		var names []string
		for _, pair := range label.FindAllStringSubmatch(parts[2], -1) {
			if pair[1] != "le" {
				names = append(names, pair[1])
			} else if limit := bound.FindStringSubmatch(parts[2])[1]; !slices.Contains(shown.bounds, limit) {
				shown.bounds = append(shown.bounds, limit)
			}
		}
		slices.Sort(names)
		shown.labels[strings.Join(names, ",")] = true
	}
}

// neverShown are families that may be without a series in the story below: what they count has to fail first.
var neverShown = map[string]bool{
	"etcd_network_peer_received_failures_total": true, "etcd_network_peer_sent_failures_total": true,
	"etcd_network_server_stream_failures_total": true, "etcd_network_snapshot_receive_failures": true,
	"etcd_network_snapshot_send_failures": true,
}

// Of every family of etcd's that a member shows in the course of a life (a snapshot sent and received, a learner, an alarm,
// members that come and go) there is one of that name, kind, labels and buckets here, and they are those that dashboards know.
func TestMetricsFamilies(t *testing.T) {
	programs := Programs(t)
	shown := map[string]map[string]*family{}
	reasons := map[string][]string{}
	for _, binary := range []string{programs.Peer, programs.Server} {
		found := map[string]*family{}
		shown[binary] = found
		first := Single(t, binary, "--snapshot-count=10", "--snapshot-catchup-entries=1", "--metrics=extensive")
		s := NewSide(first)
		for number := range 60 {
			Must(t, only(s.KV.Put(t.Context(), put(fmt.Sprint("k", number), "v"))))
		}
		Must(t, only(s.KV.Range(t.Context(), all())))
		Must(t, only(s.Maintenance.Defragment(t.Context(), &pb.DefragmentRequest{})))
		second := NewServer(t, binary, "second")
		added, err := s.Cluster.MemberAdd(t.Context(), &pb.MemberAddRequest{PeerURLs: []string{second.PeerURL}, IsLearner: true})
		Must(t, err)
		promote := func() error {
			return only(s.Cluster.MemberPromote(t.Context(), &pb.MemberPromoteRequest{ID: added.Member.ID}))
		}
		if promote() == nil {
			t.Errorf("%s promotes who never started", binary)
		}
		// Nobody, and one who has a vote already.
		reply, err := s.Cluster.MemberList(t.Context(), &pb.MemberListRequest{})
		Must(t, err)
		for _, id := range []uint64{4711, reply.Header.MemberId} {
			if only(s.Cluster.MemberPromote(t.Context(), &pb.MemberPromoteRequest{ID: id})) == nil {
				t.Errorf("%s promotes %d", binary, id)
			}
		}
		for name, count := range samples(t, s) {
			if strings.HasPrefix(name, "etcd_server_learner_promote_failures{") {
				reasons[binary] = append(reasons[binary], name+" "+count)
			}
		}
		slices.Sort(reasons[binary])
		second.Start("m0="+first.PeerURL+",second="+second.PeerURL, "existing")
		Eventually(t, ReadyLimit, "the learner's promotion", promote)
		second.AwaitReady()
		Must(t, alarm(t, s, pb.AlarmRequest_ACTIVATE, pb.AlarmType_NOSPACE))
		for _, page := range []string{"/health", "/livez", "/readyz"} {
			ask(t, s, "GET", page, "")
		}
		Eventually(t, ReadyLimit, "probes both ways", func() error {
			for _, member := range []*Server{first, second} {
				gather(t, found, NewSide(member))
			}
			for _, name := range []string{"etcd_network_peer_round_trip_time_seconds", "etcd_network_snapshot_send_success", "etcd_network_snapshot_receive_success"} {
				if found[name] == nil {
					return Wanted("%s", name)
				}
			}
			return nil
		})
		second.Kill()
		second.CloseConn()
		Eventually(t, ReadyLimit, "the loss of the other", func() error {
			gather(t, found, s)
			if found["etcd_network_disconnected_peers_total"] == nil {
				return Wanted("a disconnected peer")
			}
			return nil
		})
	}
	if etcd, ours := reasons[programs.Peer], reasons[programs.Server]; !slices.Equal(etcd, ours) {
		t.Errorf("refused promotions\n  etcd: %v\n  ours: %v", etcd, ours)
	}
	for line := range strings.Lines(strings.TrimSpace(families)) {
		fields := strings.Fields(line)
		name, kind, labels := fields[0], fields[1], ""
		if len(fields) > 2 && fields[2] != "-" {
			names := strings.Split(fields[2], ",")
			slices.Sort(names)
			labels = strings.Join(names, ",")
		}
		var bounds []string
		if len(fields) > 3 {
			from, err := strconv.ParseFloat(fields[3], 64)
			Must(t, err)
			count, err := strconv.Atoi(fields[4])
			Must(t, err)
			for range count {
				bounds = append(bounds, strconv.FormatFloat(from, 'g', -1, 64))
				from *= 2
			}
			bounds = append(bounds, "+Inf")
		}
		for binary, found := range shown {
			got := found[name]
			switch {
			case got == nil && neverShown[name]:
			case got == nil:
				t.Errorf("%s: %s is missing", binary, name)
			case got.kind != kind:
				t.Errorf("%s: %s is a %s, not a %s", binary, name, got.kind, kind)
			case len(got.labels) != 1 || !got.labels[labels]:
				t.Errorf("%s: %s has labels %v, not %s", binary, name, got.labels, labels)
			case !slices.Equal(got.bounds, bounds):
				t.Errorf("%s: %s has buckets %v, not %v", binary, name, got.bounds, bounds)
			}
		}
	}
}
