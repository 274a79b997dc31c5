package conformance

import (
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/reflect/protoreflect"

	. "quorate/tests/harness"
)

// own shows addresses that each server has for itself.
var own = Identity.With(Scrub{
	"Member.ID":         Presence,
	"Member.peerURLs":   listLength,
	"Member.clientURLs": listLength,
})

// inAnyOrder is own for several members: they are listed by their IDs, which come of addresses drawn by chance.
var inAnyOrder = own.With(Scrub{"members": func(v protoreflect.Value) string {
	var members []string
	for i := range v.List().Len() {
		members = append(members, Render(v.List().Get(i).Message().Interface(), own))
	}
	slices.Sort(members)
	return fmt.Sprint(members)
}})

func listLength(v protoreflect.Value) string { return fmt.Sprintf("%d URLs", v.List().Len()) }

func TestMembers(t *testing.T) {
	pair := NewPair(t)
	pair.Each(t, []Script{
		{"list", func(_ *testing.T, s *Side) {
			DoScrubbed(s, own, s.Cluster.MemberList, &pb.MemberListRequest{})
			DoScrubbed(s, own, s.Cluster.MemberList, &pb.MemberListRequest{Linearizable: true})
		}},
		{"the list's facts", func(t *testing.T, s *Side) {
			reply, err := s.Cluster.MemberList(t.Context(), &pb.MemberListRequest{})
			Must(t, err)
			m := reply.Members[0]
			s.Note("the answering member is listed", fmt.Sprint(m.ID == reply.Header.MemberId))
			s.Note("its URLs", fmt.Sprint(m.PeerURLs[0] == s.Server.PeerURL, m.ClientURLs[0] == s.Server.ClientURL))
			s.Note("revision", fmt.Sprint(reply.Header.Revision))
		}},
		{"refused changes", func(t *testing.T, s *Side) {
			reply, err := s.Cluster.MemberList(t.Context(), &pb.MemberListRequest{})
			Must(t, err)
			self := reply.Members[0].ID
			Do(s, s.Cluster.MemberRemove, &pb.MemberRemoveRequest{ID: 4711})
			Do(s, s.Cluster.MemberRemove, &pb.MemberRemoveRequest{})
			Do(s, s.Cluster.MemberUpdate, &pb.MemberUpdateRequest{ID: 4711, PeerURLs: []string{"http://127.0.0.1:1"}})
			Do(s, s.Cluster.MemberPromote, &pb.MemberPromoteRequest{ID: 4711})
			for _, urls := range [][]string{nil, {""}, {"nonsense"}, {"127.0.0.1:1"}, {"http://"}, {"http://127.0.0.1"}, {"http://127.0.0.1:1/path"}, {"ftp://127.0.0.1:1"}} {
				Do(s, s.Cluster.MemberAdd, &pb.MemberAddRequest{PeerURLs: urls})
				Do(s, s.Cluster.MemberUpdate, &pb.MemberUpdateRequest{ID: 4711, PeerURLs: urls})
			}
			_, err = s.Cluster.MemberAdd(t.Context(), &pb.MemberAddRequest{PeerURLs: []string{s.Server.PeerURL}})
			s.Note("add the own URL", RenderError(err))
			_, err = s.Cluster.MemberAdd(t.Context(), &pb.MemberAddRequest{PeerURLs: []string{s.Server.PeerURL}, IsLearner: true})
			s.Note("add the own URL as a learner", RenderError(err))
			_, err = s.Cluster.MemberPromote(t.Context(), &pb.MemberPromoteRequest{ID: self})
			s.Note("promote a voter", RenderError(err))
			_, err = s.Cluster.MemberRemove(t.Context(), &pb.MemberRemoveRequest{ID: self})
			s.Note("remove the last voter", RenderError(err))
		}},
		{"learner", func(t *testing.T, s *Side) {
			reply, _ := DoScrubbed(s, inAnyOrder, s.Cluster.MemberAdd, &pb.MemberAddRequest{PeerURLs: []string{"http://127.0.0.1:9"}, IsLearner: true})
			DoScrubbed(s, inAnyOrder, s.Cluster.MemberList, &pb.MemberListRequest{})
			Do(s, s.Cluster.MemberAdd, &pb.MemberAddRequest{PeerURLs: []string{"http://127.0.0.1:10"}, IsLearner: true})
			Do(s, s.Cluster.MemberAdd, &pb.MemberAddRequest{PeerURLs: []string{"http://127.0.0.1:9"}})
			id := reply.GetMember().GetID()
			_, err := s.Cluster.MemberPromote(t.Context(), &pb.MemberPromoteRequest{ID: id})
			s.Note("promote a learner that never started", RenderError(err))
			updated, err := s.Cluster.MemberUpdate(t.Context(), &pb.MemberUpdateRequest{ID: id, PeerURLs: []string{"http://127.0.0.1:11"}})
			s.Note("update", Render(updated, inAnyOrder)+RenderError(err))
			_, err = s.Cluster.MemberUpdate(t.Context(), &pb.MemberUpdateRequest{ID: id, PeerURLs: []string{s.Server.PeerURL}})
			s.Note("update to another's URL", RenderError(err))
			_, err = s.Maintenance.MoveLeader(t.Context(), &pb.MoveLeaderRequest{TargetID: id})
			s.Note("move the lead to a learner", RenderError(err))
			removed, err := s.Cluster.MemberRemove(t.Context(), &pb.MemberRemoveRequest{ID: id})
			s.Note("remove", Render(removed, inAnyOrder)+RenderError(err))
			_, err = s.Cluster.MemberRemove(t.Context(), &pb.MemberRemoveRequest{ID: id})
			s.Note("remove again", RenderError(err))
			Do(s, s.KV.Put, put("still", "writes"))
		}},
	})
}

// sizes shows what depends on the storage.
var sizes = Identity.With(Scrub{
	"dbSize": Presence, "dbSizeInUse": Presence, "leader": Presence, "StatusResponse.raftTerm": Presence,
	"raftIndex": Presence, "raftAppliedIndex": Presence, "StatusResponse.errors": spaced,
})

// spaced shows texts with single blanks: Go's protobuf library puts one or two between fields, by chance of the build.
func spaced(v protoreflect.Value) string {
	var texts []string
	for i := range v.List().Len() {
		texts = append(texts, strings.Join(strings.Fields(v.List().Get(i).String()), " "))
	}
	return fmt.Sprintf("%q", texts)
}

func TestMaintenance(t *testing.T) {
	pair := NewPair(t)
	pair.AwaitVersions(t)
	pair.Each(t, []Script{
		{"status", func(t *testing.T, s *Side) {
			seed(s)
			DoScrubbed(s, sizes, s.Maintenance.Status, &pb.StatusRequest{})
			status, err := s.Maintenance.Status(t.Context(), &pb.StatusRequest{})
			Must(t, err)
			s.Note("leads itself", fmt.Sprint(status.Leader == status.Header.MemberId, status.RaftTerm == status.Header.RaftTerm))
			s.Note("applied up to the index", fmt.Sprint(status.RaftIndex-status.RaftAppliedIndex))
			s.Note("in use is no more than all", fmt.Sprint(status.DbSizeInUse <= status.DbSize))
		}},
		{"hashkv", func(_ *testing.T, s *Side) {
			for _, revision := range []int64{0, 1, 2, 7, 14, 15, 16, 17, -1, 1 << 62} {
				Do(s, s.Maintenance.HashKV, &pb.HashKVRequest{Revision: revision})
			}
		}},
		{"hash", func(_ *testing.T, s *Side) {
			DoScrubbed(s, Identity.With(Scrub{"hash": Presence}), s.Maintenance.Hash, &pb.HashRequest{})
		}},
		{"defragment", func(_ *testing.T, s *Side) {
			Do(s, s.Maintenance.Defragment, &pb.DefragmentRequest{})
			Do(s, s.Maintenance.HashKV, &pb.HashKVRequest{})
			Do(s, s.KV.Range, all())
		}},
		{"alarm", func(t *testing.T, s *Side) {
			alarms := Identity.With(Scrub{"AlarmMember.memberID": Presence})
			ask := func(r *pb.AlarmRequest) { DoScrubbed(s, alarms, s.Maintenance.Alarm, r) }
			ask(&pb.AlarmRequest{})
			ask(&pb.AlarmRequest{Alarm: pb.AlarmType_NOSPACE})
			ask(&pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE})
			ask(&pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: 5, Alarm: pb.AlarmType_NOSPACE})
			ask(&pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: 5, Alarm: pb.AlarmType_NOSPACE})
			ask(&pb.AlarmRequest{})
			ask(&pb.AlarmRequest{MemberID: 5})
			ask(&pb.AlarmRequest{MemberID: 6})
			ask(&pb.AlarmRequest{Alarm: pb.AlarmType_CORRUPT})
			DoScrubbed(s, sizes, s.Maintenance.Status, &pb.StatusRequest{})
			Do(s, s.KV.Put, put("no", "space"))
			Do(s, s.KV.Txn, succeed(opPut("no", "space")))
			Do(s, s.KV.Txn, succeed(opRange(get("a"))))
			Do(s, s.Lease.LeaseGrant, &pb.LeaseGrantRequest{ID: 1, TTL: 100})
			Do(s, s.KV.Range, get("a"))
			Do(s, s.KV.DeleteRange, &pb.DeleteRangeRequest{Key: bytesOf("a")})
			Do(s, s.KV.Txn, succeed(opDelete("b", "")))
			Do(s, s.KV.Compact, &pb.CompactionRequest{Revision: 5})
			ask(&pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: 6, Alarm: pb.AlarmType_NOSPACE})
			ask(&pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: 5, Alarm: pb.AlarmType_NOSPACE})
			ask(&pb.AlarmRequest{})
			Do(s, s.KV.Put, put("there is", "space"))
			ask(&pb.AlarmRequest{Action: pb.AlarmRequest_ACTIVATE, MemberID: 5, Alarm: pb.AlarmType_CORRUPT})
			Do(s, s.KV.Put, put("a", "corrupt"))
			Do(s, s.KV.Range, get("c"))
			Do(s, s.KV.Txn, succeed(opRange(get("c"))))
			Do(s, s.KV.DeleteRange, &pb.DeleteRangeRequest{Key: bytesOf("c")})
			Do(s, s.KV.Compact, &pb.CompactionRequest{Revision: 6})
			Do(s, s.Lease.LeaseGrant, &pb.LeaseGrantRequest{ID: 2, TTL: 100})
			Do(s, s.Lease.LeaseRevoke, &pb.LeaseRevokeRequest{ID: 2})
			ask(&pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE, MemberID: 5, Alarm: pb.AlarmType_CORRUPT})
			Do(s, s.KV.Put, put("a", "well again"))
			Do(s, s.Maintenance.HashKV, &pb.HashKVRequest{})
		}},
		{"move leader", func(t *testing.T, s *Side) {
			Do(s, s.Maintenance.MoveLeader, &pb.MoveLeaderRequest{TargetID: 4711})
			Do(s, s.Maintenance.MoveLeader, &pb.MoveLeaderRequest{})
		}},
		{"downgrade", func(_ *testing.T, s *Side) {
			downgrade(t, s)
		}},
		{"snapshot", func(t *testing.T, s *Side) {
			ctx, cancel := s.Context()
			defer cancel()
			stream, err := s.Maintenance.Snapshot(ctx, &pb.SnapshotRequest{})
			Must(t, err)
			var body []byte
			version, left := "", uint64(0)
			for {
				part, err := stream.Recv()
				if err == io.EOF {
					break
				}
				Must(t, err)
				if version == "" {
					version = part.Version
				}
				body, left = append(body, part.Blob...), part.RemainingBytes
			}
			if len(body) < sha256.Size {
				t.Errorf("a snapshot of %d bytes", len(body))
				return
			}
			content, sum := body[:len(body)-sha256.Size], body[len(body)-sha256.Size:]
			s.Note("version, remaining, sum, pages", fmt.Sprint(version, left, sha256.Sum256(content) == [32]byte(sum), len(content)%512))
		}},
	})
}

// A full store refuses what would grow it, goes on with the rest, and is well again after compaction and disarm.
func TestQuota(t *testing.T) {
	pair := NewPair(t, "--quota-backend-bytes", "2000000")
	full := Identity.With(Scrub{"ResponseHeader.revision": Presence, "AlarmMember.memberID": Presence})
	pair.Both(t, func(t *testing.T, s *Side) {
		Do(s, s.Lease.LeaseGrant, &pb.LeaseGrantRequest{ID: 5, TTL: 1000})
		value := make([]byte, 50_000)
		var refused error
		for range 200 {
			if _, refused = s.KV.Put(t.Context(), &pb.PutRequest{Key: bytesOf("same"), Value: value}); refused != nil {
				break
			}
		}
		s.Note("filled", RenderError(refused))
		ask := func(r *pb.AlarmRequest) { DoScrubbed(s, full, s.Maintenance.Alarm, r) }
		ask(&pb.AlarmRequest{})
		DoScrubbed(s, full, s.KV.Put, put("k", "v"))
		DoScrubbed(s, full, s.KV.Txn, succeed(opPut("k", "v")))
		DoScrubbed(s, full, s.KV.Txn, &pb.TxnRequest{Compare: []*pb.Compare{version("k", pb.Compare_EQUAL, 9)}, Success: []*pb.RequestOp{opPut("k", "v")}})
		DoScrubbed(s, full, s.Lease.LeaseGrant, &pb.LeaseGrantRequest{ID: 6, TTL: 1000})
		DoScrubbed(s, full, s.Lease.LeaseRevoke, &pb.LeaseRevokeRequest{ID: 5})
		DoScrubbed(s, full, s.KV.Range, get("nosuch"))
		DoScrubbed(s, full, s.KV.DeleteRange, &pb.DeleteRangeRequest{Key: bytesOf("nosuch")})
		DoScrubbed(s, full, s.KV.DeleteRange, &pb.DeleteRangeRequest{Key: bytesOf("same")})
		status, err := s.Maintenance.Status(t.Context(), &pb.StatusRequest{})
		Must(t, err)
		s.Note("quota", fmt.Sprint(status.DbSizeQuota, len(status.Errors)))
		_, err = s.KV.Compact(t.Context(), &pb.CompactionRequest{Revision: status.Header.Revision, Physical: true})
		Must(t, err)
		_, err = s.Maintenance.Defragment(t.Context(), &pb.DefragmentRequest{})
		Must(t, err)
		DoScrubbed(s, full, s.KV.Put, put("k", "v"))
		ask(&pb.AlarmRequest{Action: pb.AlarmRequest_DEACTIVATE})
		ask(&pb.AlarmRequest{})
		DoScrubbed(s, full, s.KV.Put, put("k", "v"))
	})
}
