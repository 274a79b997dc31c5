package conformance

import (
	"fmt"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	. "quorate/tests/harness"
)

func opPut(key, value string) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: put(key, value)}}
}

func opPutPrevious(key, value string) *pb.RequestOp {
	r := put(key, value)
	r.PrevKv = true
	return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: r}}
}

func opRange(r *pb.RangeRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: r}}
}

func opDelete(key, end string) *pb.RequestOp {
	r := &pb.DeleteRangeRequest{Key: bytesOf(key), PrevKv: true}
	if end != "" {
		r.RangeEnd = bytesOf(end)
	}
	return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: r}}
}

func opTxn(r *pb.TxnRequest) *pb.RequestOp {
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: r}}
}

func version(key string, result pb.Compare_CompareResult, number int64) *pb.Compare {
	return &pb.Compare{Key: bytesOf(key), Target: pb.Compare_VERSION, Result: result, TargetUnion: &pb.Compare_Version{Version: number}}
}

func succeed(ops ...*pb.RequestOp) *pb.TxnRequest { return &pb.TxnRequest{Success: ops} }

func TestTxnCompare(t *testing.T) {
	pair := NewPair(t)
	results := []pb.Compare_CompareResult{pb.Compare_EQUAL, pb.Compare_GREATER, pb.Compare_LESS, pb.Compare_NOT_EQUAL, 9}
	check := func(s *Side, c *pb.Compare) {
		Do(s, s.KV.Txn, &pb.TxnRequest{Compare: []*pb.Compare{c}})
	}
	pair.Each(t, []Script{
		{"history", func(_ *testing.T, s *Side) {
			Do(s, s.Lease.LeaseGrant, &pb.LeaseGrantRequest{TTL: 1000, ID: 50})
			seed(s)
			Do(s, s.KV.Put, &pb.PutRequest{Key: bytesOf("leased"), Value: bytesOf("v"), Lease: 50})
		}},
		{"numbers", func(_ *testing.T, s *Side) {
			for _, key := range []string{"a", "b", "nosuch", "leased"} {
				for _, result := range results {
					for _, n := range []int64{-1, 0, 1, 2, 3, 4, 8, 15, 17, 50} {
						check(s, &pb.Compare{Key: bytesOf(key), Result: result, Target: pb.Compare_VERSION, TargetUnion: &pb.Compare_Version{Version: n}})
						check(s, &pb.Compare{Key: bytesOf(key), Result: result, Target: pb.Compare_CREATE, TargetUnion: &pb.Compare_CreateRevision{CreateRevision: n}})
						check(s, &pb.Compare{Key: bytesOf(key), Result: result, Target: pb.Compare_MOD, TargetUnion: &pb.Compare_ModRevision{ModRevision: n}})
						check(s, &pb.Compare{Key: bytesOf(key), Result: result, Target: pb.Compare_LEASE, TargetUnion: &pb.Compare_Lease{Lease: n}})
					}
				}
			}
		}},
		{"values", func(_ *testing.T, s *Side) {
			for _, key := range []string{"a", "empty", "nosuch"} {
				for _, result := range results {
					for _, value := range []string{"", "0", "1", "00", "\xff"} {
						check(s, &pb.Compare{Key: bytesOf(key), Result: result, Target: pb.Compare_VALUE, TargetUnion: &pb.Compare_Value{Value: bytesOf(value)}})
					}
				}
			}
		}},
		{"ranges", func(_ *testing.T, s *Side) {
			for _, bounds := range [][2]string{{"a", "c"}, {"a", "\x00"}, {"dir/", "dir0"}, {"x", "z"}, {"c", "a"}, {"\x00", "\x00"}} {
				for _, result := range results {
					for _, n := range []int64{0, 1, 8, 20} {
						check(s, &pb.Compare{Key: bytesOf(bounds[0]), RangeEnd: bytesOf(bounds[1]), Result: result, Target: pb.Compare_MOD, TargetUnion: &pb.Compare_ModRevision{ModRevision: n}})
						check(s, &pb.Compare{Key: bytesOf(bounds[0]), RangeEnd: bytesOf(bounds[1]), Result: result, Target: pb.Compare_VERSION, TargetUnion: &pb.Compare_Version{Version: n}})
					}
					check(s, &pb.Compare{Key: bytesOf(bounds[0]), RangeEnd: bytesOf(bounds[1]), Result: result, Target: pb.Compare_VALUE, TargetUnion: &pb.Compare_Value{Value: bytesOf("7")}})
				}
			}
		}},
		{"target and operand that do not match", func(_ *testing.T, s *Side) {
			for target := range pb.Compare_CompareTarget(6) {
				check(s, &pb.Compare{Key: bytesOf("a"), Target: target})
				check(s, &pb.Compare{Key: bytesOf("nosuch"), Target: target})
				check(s, &pb.Compare{Key: bytesOf("a"), Target: target, TargetUnion: &pb.Compare_Version{Version: 3}})
				check(s, &pb.Compare{Key: bytesOf("a"), Target: target, TargetUnion: &pb.Compare_Value{Value: bytesOf("0")}})
				check(s, &pb.Compare{Target: target})
			}
		}},
		{"several comparisons", func(_ *testing.T, s *Side) {
			for _, other := range []int64{0, 3} {
				Do(s, s.KV.Txn, &pb.TxnRequest{
					Compare: []*pb.Compare{version("a", pb.Compare_EQUAL, 3), version("b", pb.Compare_GREATER, other)},
					Success: []*pb.RequestOp{opRange(get("a"))},
					Failure: []*pb.RequestOp{opRange(get("b"))},
				})
			}
		}},
	})
}

func TestTxnOperations(t *testing.T) {
	pair := NewPair(t)
	no := []*pb.Compare{version("a", pb.Compare_EQUAL, 99)}
	pair.Each(t, []Script{
		{"empty", func(_ *testing.T, s *Side) {
			Do(s, s.KV.Txn, &pb.TxnRequest{})
			seed(s)
			Do(s, s.KV.Txn, &pb.TxnRequest{})
			Do(s, s.KV.Txn, &pb.TxnRequest{Compare: no})
		}},
		{"reads only take no revision", func(_ *testing.T, s *Side) {
			Do(s, s.KV.Txn, succeed(opRange(all()), opRange(get("a")), opRange(get("nosuch"))))
			old := all()
			old.Revision = 6
			Do(s, s.KV.Txn, succeed(opRange(old)))
			Do(s, s.KV.Txn, succeed(opDelete("nosuch", "")))
			Do(s, s.KV.Range, get("a"))
		}},
		{"operations see what came before them", func(_ *testing.T, s *Side) {
			Do(s, s.KV.Txn, succeed(
				opRange(get("t1")), opPutPrevious("t1", "1"), opRange(get("t1")), opPutPrevious("t2", "2"), opRange(span("t", "u")),
				opDelete("dir/", "dir0"), opRange(span("dir/", "dir0")), opPutPrevious("a", "in txn"), opRange(get("a"))))
			Do(s, s.KV.Range, all())
		}},
		{"else", func(_ *testing.T, s *Side) {
			Do(s, s.KV.Txn, &pb.TxnRequest{Compare: no, Success: []*pb.RequestOp{opPut("x", "then")}, Failure: []*pb.RequestOp{opPut("x", "else"), opRange(get("x"))}})
			Do(s, s.KV.Range, get("x"))
		}},
		{"nested", func(_ *testing.T, s *Side) {
			inner := &pb.TxnRequest{
				Compare: []*pb.Compare{version("n1", pb.Compare_GREATER, 0)},
				Success: []*pb.RequestOp{opPut("n2", "yes"), opRange(span("n", "o")), opTxn(succeed(opPut("n3", "deep"), opRange(get("n3"))))},
				Failure: []*pb.RequestOp{opPut("n2", "no")},
			}
			Do(s, s.KV.Txn, succeed(opPut("n1", "1"), opTxn(inner), opRange(span("n", "o"))))
			Do(s, s.KV.Txn, succeed(opTxn(inner)))
			Do(s, s.KV.Txn, succeed(opTxn(&pb.TxnRequest{}), opTxn(&pb.TxnRequest{Compare: no})))
			Do(s, s.KV.Range, span("n", "o"))
		}},
		{"duplicate keys", func(_ *testing.T, s *Side) {
			for _, txn := range []*pb.TxnRequest{
				succeed(opPut("k", "1"), opPut("k", "2")),
				succeed(opPut("k", "1"), opDelete("k", "")),
				succeed(opDelete("k", ""), opPut("k", "1")),
				succeed(opDelete("k", ""), opDelete("k", "")),
				succeed(opDelete("a", "z"), opPut("k", "1")),
				succeed(opPut("k", "1"), opDelete("a", "\x00")),
				succeed(opPut("z", "1"), opDelete("a", "z")),
				succeed(opPut("k", "1"), opTxn(succeed(opPut("k", "2")))),
				succeed(opTxn(succeed(opPut("k", "1"))), opTxn(succeed(opPut("k", "2")))),
				succeed(opTxn(succeed(opDelete("a", "z"))), opPut("k", "2")),
				succeed(opTxn(&pb.TxnRequest{Success: []*pb.RequestOp{opPut("k", "1")}, Failure: []*pb.RequestOp{opPut("k", "2")}})),
				succeed(opTxn(&pb.TxnRequest{Success: []*pb.RequestOp{opPut("k", "1")}, Failure: []*pb.RequestOp{opPut("j", "2")}}), opPut("j", "3")),
				{Compare: no, Success: []*pb.RequestOp{opPut("k", "1"), opPut("k", "2")}},
				{Compare: no, Failure: []*pb.RequestOp{opPut("k", "1"), opPut("k", "2")}},
				{Success: []*pb.RequestOp{opPut("k", "1")}, Failure: []*pb.RequestOp{opPut("k", "2")}},
				succeed(opDelete("a", "c"), opDelete("b", "d")),
			} {
				Do(s, s.KV.Txn, txn)
			}
			Do(s, s.KV.Range, all())
		}},
		{"refused operations leave nothing behind", func(_ *testing.T, s *Side) {
			future, ignored, leased := get("a"), put("nosuch", ""), put("b", "v")
			future.Revision, ignored.IgnoreValue, leased.Lease = 1000, true, 4711
			ignoreLease := put("nosuch", "")
			ignoreLease.IgnoreLease = true
			bothValue := put("a", "v")
			bothValue.IgnoreValue = true
			bothLease := put("a", "v")
			bothLease.IgnoreLease, bothLease.Lease = true, 5
			for _, op := range []*pb.RequestOp{
				opRange(future),
				opRange(get("")),
				opRange(&pb.RangeRequest{Key: bytesOf("a"), SortOrder: 9}),
				{Request: &pb.RequestOp_RequestPut{RequestPut: ignored}},
				{Request: &pb.RequestOp_RequestPut{RequestPut: leased}},
				{Request: &pb.RequestOp_RequestPut{RequestPut: ignoreLease}},
				{Request: &pb.RequestOp_RequestPut{RequestPut: bothValue}},
				{Request: &pb.RequestOp_RequestPut{RequestPut: bothLease}},
				opPut("", "v"),
				opDelete("", ""),
				{},
				opTxn(succeed(opPut("deep", "x"), opRange(future))),
				opTxn(succeed(opPut("deep", "x"), opPut("", "x"))),
			} {
				Do(s, s.KV.Txn, succeed(opPut("left", "behind"), op))
				Do(s, s.KV.Txn, &pb.TxnRequest{Compare: no, Success: []*pb.RequestOp{op}})
				Do(s, s.KV.Range, all())
			}
		}},
		{"number of operations", func(_ *testing.T, s *Side) {
			for _, n := range []int{127, 128, 129, 300} {
				var puts []*pb.RequestOp
				var compares []*pb.Compare
				for i := range n {
					puts = append(puts, opPut(fmt.Sprintf("many/%d", i), "v"))
					compares = append(compares, version("a", pb.Compare_NOT_EQUAL, 99))
				}
				Do(s, s.KV.Txn, &pb.TxnRequest{Success: puts})
				Do(s, s.KV.Txn, &pb.TxnRequest{Failure: puts})
				Do(s, s.KV.Txn, &pb.TxnRequest{Compare: compares})
				Do(s, s.KV.Txn, succeed(opTxn(&pb.TxnRequest{Success: puts})))
				half := len(puts) / 2
				Do(s, s.KV.Txn, succeed(opTxn(succeed(puts[:half]...)), opTxn(succeed(puts[half:]...))))
				Do(s, s.KV.Txn, &pb.TxnRequest{Success: puts[:half], Failure: puts[half:]})
			}
			Do(s, s.KV.Range, &pb.RangeRequest{Key: bytesOf("many/"), RangeEnd: bytesOf("many0"), CountOnly: true})
		}},
		{"compacted read inside", func(_ *testing.T, s *Side) {
			Do(s, s.KV.Compact, &pb.CompactionRequest{Revision: 10, Physical: true})
			for _, revision := range []int64{1, 9, 10, 11} {
				old := all()
				old.Revision = revision
				Do(s, s.KV.Txn, succeed(opRange(old)))
				Do(s, s.KV.Txn, succeed(opPut("left", "behind again"), opRange(old)))
			}
			Do(s, s.KV.Range, all())
		}},
		{"mixed tree", func(_ *testing.T, s *Side) {
			Do(s, s.KV.Txn, &pb.TxnRequest{
				Compare: []*pb.Compare{version("a", pb.Compare_GREATER, 0)},
				Success: []*pb.RequestOp{
					opTxn(&pb.TxnRequest{Compare: no, Failure: []*pb.RequestOp{opPut("m1", "1"), opTxn(&pb.TxnRequest{
						Compare: []*pb.Compare{version("m1", pb.Compare_EQUAL, 1)},
						Success: []*pb.RequestOp{opDelete("m2", "m3"), opRange(span("m", "n"))},
						Failure: []*pb.RequestOp{opPut("m9", "never")},
					})}}),
					opPut("m2x", "2"),
					opRange(&pb.RangeRequest{Key: bytesOf("m"), RangeEnd: bytesOf("n"), SortOrder: pb.RangeRequest_DESCEND, Limit: 1}),
				},
			})
			Do(s, s.Maintenance.HashKV, &pb.HashKVRequest{})
		}},
	})
}
