// Package conformance asks real etcd and our server the same and compares the replies field by field.
//
// A script runs against both sides at once, each on a server of its own with an equal history; only identity
// (cluster, member, term) is left out of the comparison. One top-level test owns one pair of servers.
package conformance

import (
	"fmt"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	. "quorate/tests/harness"
)

func bytesOf(text string) []byte { return []byte(text) }

func put(key, value string) *pb.PutRequest {
	return &pb.PutRequest{Key: bytesOf(key), Value: bytesOf(value)}
}

func get(key string) *pb.RangeRequest { return &pb.RangeRequest{Key: bytesOf(key)} }

func span(key, end string) *pb.RangeRequest {
	return &pb.RangeRequest{Key: bytesOf(key), RangeEnd: bytesOf(end)}
}

func all() *pb.RangeRequest { return span("\x00", "\x00") }

// seed writes a history in which key order, value order, versions, creations and modifications all differ.
func seed(s *Side) {
	for _, kv := range []string{"d=1", "a=4", "c=2", "b=3", "a=9", "c=2", "a=0", "dir/x=7", "dir/y=7", "dir0=5", "e=6"} {
		key, value, _ := strings.Cut(kv, "=")
		Do(s, s.KV.Put, put(key, value))
	}
	Do(s, s.KV.DeleteRange, &pb.DeleteRangeRequest{Key: bytesOf("b")})
	Do(s, s.KV.Put, put("b", "again"))
	Do(s, s.KV.DeleteRange, &pb.DeleteRangeRequest{Key: bytesOf("e")})
	Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf("empty")})
}

func TestRange(t *testing.T) {
	pair := NewPair(t)
	pair.Each(t, []Script{
		{"empty store", func(_ *testing.T, s *Side) {
			Do(s, s.KV.Range, get("a"))
			Do(s, s.KV.Range, all())
			Do(s, s.KV.Range, &pb.RangeRequest{Key: bytesOf("a"), CountOnly: true})
		}},
		{"history", func(_ *testing.T, s *Side) { seed(s) }},
		{"bounds", func(_ *testing.T, s *Side) {
			for _, r := range []*pb.RangeRequest{
				get("a"), get("nosuch"), get("e"), get(""), span("", "z"), all(), span("a", "\x00"), span("\x00", "c"),
				span("a", "c"), span("c", "a"), span("a", "a"), span("dir/", "dir0"), span("dir/", "dir/y"),
				span("x", "y"), span("\x00", "\x01"), span("b", "\x00"), get("empty"), get("a\x00"), span("a", "a\x00"),
			} {
				Do(s, s.KV.Range, r)
			}
		}},
		{"limit and more", func(_ *testing.T, s *Side) {
			for _, limit := range []int64{-1, 0, 1, 2, 6, 7, 8, 9, 1 << 40} {
				r := all()
				r.Limit = limit
				Do(s, s.KV.Range, r)
				r = span("dir/", "dir0")
				r.Limit = limit
				Do(s, s.KV.Range, r)
			}
		}},
		{"sort", func(_ *testing.T, s *Side) {
			for _, order := range []pb.RangeRequest_SortOrder{0, 1, 2, 3, -1} {
				for _, target := range []pb.RangeRequest_SortTarget{0, 1, 2, 3, 4, 5, -1} {
					for _, limit := range []int64{0, 3} {
						r := all()
						r.SortOrder, r.SortTarget, r.Limit = order, target, limit
						Do(s, s.KV.Range, r)
					}
				}
			}
		}},
		{"keys only and count only", func(_ *testing.T, s *Side) {
			for _, limit := range []int64{0, 2} {
				for _, r := range []*pb.RangeRequest{get("a"), all(), span("dir/", "dir0"), get("nosuch"), span("c", "a")} {
					r.Limit = limit
					r.KeysOnly = true
					Do(s, s.KV.Range, r)
					r.CountOnly = true
					Do(s, s.KV.Range, r)
					r.KeysOnly = false
					Do(s, s.KV.Range, r)
				}
			}
		}},
		{"revisions", func(_ *testing.T, s *Side) {
			for revision := int64(-1); revision <= 18; revision++ {
				r := all()
				r.Revision = revision
				Do(s, s.KV.Range, r)
				r.CountOnly = true
				Do(s, s.KV.Range, r)
				r = get("a")
				r.Revision = revision
				Do(s, s.KV.Range, r)
			}
			r := get("a")
			r.Revision = 1 << 62
			Do(s, s.KV.Range, r)
		}},
		{"revision filters", func(_ *testing.T, s *Side) {
			for revision := int64(-1); revision <= 17; revision += 2 {
				for _, limit := range []int64{0, 2} {
					for _, set := range []func(*pb.RangeRequest){
						func(r *pb.RangeRequest) { r.MinModRevision = revision },
						func(r *pb.RangeRequest) { r.MaxModRevision = revision },
						func(r *pb.RangeRequest) { r.MinCreateRevision = revision },
						func(r *pb.RangeRequest) { r.MaxCreateRevision = revision },
						func(r *pb.RangeRequest) { r.MinModRevision, r.MaxCreateRevision = revision, revision+3 },
						func(r *pb.RangeRequest) { r.MinModRevision, r.MaxModRevision = revision+3, revision },
						func(r *pb.RangeRequest) { r.MinModRevision, r.CountOnly = revision, true },
						func(r *pb.RangeRequest) { r.MinModRevision, r.KeysOnly = revision, true },
						func(r *pb.RangeRequest) {
							r.MaxModRevision, r.SortOrder, r.SortTarget = revision, pb.RangeRequest_DESCEND, pb.RangeRequest_MOD
						},
					} {
						r := all()
						r.Limit = limit
						set(r)
						Do(s, s.KV.Range, r)
					}
				}
			}
		}},
		{"serializable", func(_ *testing.T, s *Side) {
			r := all()
			r.Serializable = true
			Do(s, s.KV.Range, r)
			r.Revision = 5
			Do(s, s.KV.Range, r)
			r.Revision = 500
			Do(s, s.KV.Range, r)
			Do(s, s.KV.Range, &pb.RangeRequest{Serializable: true})
		}},
		{"range stream", func(t *testing.T, s *Side) {
			for _, r := range []*pb.RangeRequest{all(), get("a"), get("nosuch"), get(""), {Key: bytesOf("a"), Revision: 500}} {
				stream(t, s, r)
			}
			limited := all()
			limited.Limit = 3
			stream(t, s, limited)
			counted := all()
			counted.CountOnly = true
			stream(t, s, counted)
		}},
	})
}

// stream joins the messages of RangeStream: how a range is cut into messages is each server's own choice.
func stream(_ *testing.T, s *Side, request *pb.RangeRequest) {
	ctx, cancel := s.Context()
	defer cancel()
	joined := &pb.RangeResponse{}
	call, err := s.KV.RangeStream(ctx, request)
	for err == nil {
		var part *pb.RangeStreamResponse
		if part, err = call.Recv(); err == nil {
			part := part.RangeResponse
			joined.Kvs = append(joined.Kvs, part.Kvs...)
			if part.Header != nil {
				joined.Header, joined.Count, joined.More = part.Header, part.Count, part.More
			}
		}
	}
	s.Note("RangeStream"+Render(request, nil), Render(joined, s.Scrub)+" "+err.Error())
}

func TestRangeStreamLarge(t *testing.T) {
	pair := NewPair(t)
	pair.Both(t, func(t *testing.T, s *Side) {
		for i := range 60 {
			_, err := s.KV.Put(t.Context(), put(fmt.Sprintf("k%03d", i), strings.Repeat("x", 100_000+i)))
			Must(t, err)
		}
		stream(t, s, all())
		Do(s, s.KV.Range, all())
	})
}

func TestPut(t *testing.T) {
	pair := NewPair(t)
	pair.Each(t, []Script{
		{"plain", func(_ *testing.T, s *Side) {
			Do(s, s.KV.Put, put("k", "1"))
			Do(s, s.KV.Put, put("k", "2"))
			Do(s, s.KV.Put, put("k", ""))
			Do(s, s.KV.Put, put("", "v"))
			Do(s, s.KV.Put, put("\x00", "zero"))
			Do(s, s.KV.Put, put("\xff\xfe", "\xff\x00"))
			Do(s, s.KV.Put, put(strings.Repeat("long", 5000), "v"))
			Do(s, s.KV.Range, all())
		}},
		{"previous", func(_ *testing.T, s *Side) {
			Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf("p"), Value: bytesOf("1"), PrevKv: true})
			Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf("p"), Value: bytesOf("2"), PrevKv: true})
			Do(s, s.KV.DeleteRange, &pb.DeleteRangeRequest{Key: bytesOf("p")})
			Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf("p"), Value: bytesOf("3"), PrevKv: true})
			Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf("p"), IgnoreValue: true, PrevKv: true})
			Do(s, s.KV.Range, get("p"))
		}},
		{"ignore value", func(_ *testing.T, s *Side) {
			Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf("nosuch"), IgnoreValue: true})
			Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf("p"), IgnoreValue: true, Value: bytesOf("v")})
			Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf("p"), IgnoreValue: true})
			Do(s, s.KV.Put, &pb.PutRequest{IgnoreValue: true})
			Do(s, s.KV.Range, get("p"))
		}},
		{"lease", func(_ *testing.T, s *Side) {
			Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf("l"), Value: bytesOf("v"), Lease: 77})
			Do(s, s.Lease.LeaseGrant, &pb.LeaseGrantRequest{TTL: 1000, ID: 77})
			Do(s, s.Lease.LeaseGrant, &pb.LeaseGrantRequest{TTL: 1000, ID: 78})
			Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf("l"), Value: bytesOf("v"), Lease: 77})
			Do(s, s.KV.Range, get("l"))
			Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf("l"), Value: bytesOf("w"), IgnoreLease: true})
			Do(s, s.KV.Range, get("l"))
			Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf("l"), Value: bytesOf("w"), IgnoreLease: true, Lease: 77})
			Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf("nosuch"), Value: bytesOf("w"), IgnoreLease: true})
			Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf("l"), IgnoreLease: true, IgnoreValue: true, PrevKv: true})
			Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf("l"), Value: bytesOf("x"), Lease: 78, PrevKv: true})
			Do(s, s.KV.Range, get("l"))
			Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf("l"), Value: bytesOf("x")})
			Do(s, s.KV.Range, get("l"))
			Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf("l"), Value: bytesOf("x"), Lease: -5})
		}},
	})
}

func TestDeleteRange(t *testing.T) {
	pair := NewPair(t)
	pair.Each(t, []Script{
		{"single", func(_ *testing.T, s *Side) {
			seed(s)
			Do(s, s.KV.DeleteRange, &pb.DeleteRangeRequest{Key: bytesOf("a")})
			Do(s, s.KV.DeleteRange, &pb.DeleteRangeRequest{Key: bytesOf("a")})
			Do(s, s.KV.DeleteRange, &pb.DeleteRangeRequest{Key: bytesOf("c"), PrevKv: true})
			Do(s, s.KV.DeleteRange, &pb.DeleteRangeRequest{Key: bytesOf("c"), PrevKv: true})
			Do(s, s.KV.DeleteRange, &pb.DeleteRangeRequest{})
			Do(s, s.KV.Range, all())
		}},
		{"ranges", func(_ *testing.T, s *Side) {
			seed(s)
			for _, r := range []*pb.DeleteRangeRequest{
				{Key: bytesOf("c"), RangeEnd: bytesOf("a")},
				{Key: bytesOf("a"), RangeEnd: bytesOf("a")},
				{Key: bytesOf("a"), RangeEnd: bytesOf("c"), PrevKv: true},
				{Key: bytesOf("dir/"), RangeEnd: bytesOf("dir0"), PrevKv: true},
				{Key: bytesOf("dir/"), RangeEnd: bytesOf("dir0"), PrevKv: true},
				{Key: bytesOf("d"), RangeEnd: bytesOf("\x00"), PrevKv: true},
				{Key: bytesOf("\x00"), RangeEnd: bytesOf("\x00"), PrevKv: true},
				{Key: bytesOf("\x00"), RangeEnd: bytesOf("\x00")},
			} {
				Do(s, s.KV.DeleteRange, r)
				Do(s, s.KV.Range, all())
			}
			r := all()
			r.Revision = 5
			Do(s, s.KV.Range, r)
		}},
	})
}

func TestCompaction(t *testing.T) {
	pair := NewPair(t)
	pair.Each(t, []Script{
		{"nothing written", func(_ *testing.T, s *Side) {
			Do(s, s.KV.Compact, &pb.CompactionRequest{Revision: 2})
			Do(s, s.Maintenance.HashKV, &pb.HashKVRequest{})
			Do(s, s.KV.Compact, &pb.CompactionRequest{Revision: 0})
			Do(s, s.KV.Compact, &pb.CompactionRequest{Revision: 1})
			Do(s, s.KV.Compact, &pb.CompactionRequest{Revision: 1})
		}},
		{"history and compaction", func(_ *testing.T, s *Side) {
			seed(s)
			for _, revision := range []int64{-1, 0, 5, 5, 4, 6, 100, 1 << 62} {
				for _, physical := range []bool{true, false} {
					Do(s, s.KV.Compact, &pb.CompactionRequest{Revision: revision, Physical: physical})
				}
			}
		}},
		{"reads around the compacted revision", func(_ *testing.T, s *Side) {
			for revision := int64(0); revision <= 9; revision++ {
				r := all()
				r.Revision = revision
				Do(s, s.KV.Range, r)
				r.Serializable, r.CountOnly = true, true
				Do(s, s.KV.Range, r)
				Do(s, s.Maintenance.HashKV, &pb.HashKVRequest{Revision: revision})
			}
		}},
		{"compaction at the head, over tombstones", func(_ *testing.T, s *Side) {
			Do(s, s.KV.DeleteRange, &pb.DeleteRangeRequest{Key: bytesOf("a"), RangeEnd: bytesOf("d")})
			reply, _ := Do(s, s.KV.Range, all())
			Do(s, s.KV.Compact, &pb.CompactionRequest{Revision: reply.GetHeader().GetRevision(), Physical: true})
			Do(s, s.KV.Range, all())
			Do(s, s.Maintenance.HashKV, &pb.HashKVRequest{})
			Do(s, s.KV.Put, put("a", "back"))
			Do(s, s.KV.Range, all())
			Do(s, s.Maintenance.HashKV, &pb.HashKVRequest{})
		}},
	})
}
