package random

import (
	"fmt"
	"math/rand/v2"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
)

// generator draws requests. What it knows of the store's state comes from replies that both servers agreed on, so
// that revisions and leases are often, but not always, ones that exist.
type generator struct {
	*rand.Rand
	head      int64
	compacted int64
}

const leases = 12

func (g *generator) chance(percent int) bool { return g.IntN(100) < percent }

func (g *generator) key() []byte {
	switch n := g.IntN(100); {
	case n < 1:
		return nil
	case n < 3:
		return []byte{0}
	case n < 6:
		return []byte{0xff, byte(g.IntN(3)) + 0xfd}
	case n < 40:
		return fmt.Appendf(nil, "dir/%d/%d", g.IntN(3), g.IntN(12))
	}
	return fmt.Appendf(nil, "%c", 'a'+g.IntN(20))
}

// bounds draws a key and a range end: one key, a prefix, an interval, from the key on, everything, or nothing.
func (g *generator) bounds() (key, end []byte) {
	switch n := g.IntN(100); {
	case n < 45:
		return g.key(), nil
	case n < 60:
		return []byte("dir/"), []byte("dir0")
	case n < 70:
		digit := byte('0' + g.IntN(3))
		return []byte{'d', 'i', 'r', '/', digit}, []byte{'d', 'i', 'r', '/', digit + 1}
	case n < 90:
		return g.key(), g.key()
	case n < 95:
		return g.key(), []byte{0}
	}
	return []byte{0}, []byte{0}
}

func (g *generator) value() []byte {
	length := g.IntN(12)
	if g.chance(3) {
		length = g.IntN(4000)
	}
	value := make([]byte, length)
	for i := range value {
		value[i] = byte('a' + g.IntN(3))
	}
	return value
}

// revision draws one that is mostly readable, at times compacted, future or nonsense.
func (g *generator) revision() int64 {
	switch n := g.IntN(100); {
	case n < 80:
		return g.compacted + g.Int64N(g.head-g.compacted+1)
	case n < 90:
		return max(0, g.compacted-g.Int64N(4))
	case n < 96:
		return g.head + g.Int64N(3)
	}
	return []int64{-1, -1 << 60, 1 << 60}[g.IntN(3)]
}

func (g *generator) lease() int64 {
	if g.chance(5) {
		return 4711
	}
	return 1 + g.Int64N(leases)
}

func (g *generator) put() *pb.PutRequest {
	r := &pb.PutRequest{Key: g.key(), Value: g.value(), PrevKv: g.chance(30)}
	if g.chance(20) {
		r.Lease = g.lease()
	}
	if g.chance(5) {
		r.IgnoreLease = true
		if g.chance(80) {
			r.Lease = 0
		}
	}
	if g.chance(5) {
		r.IgnoreValue = true
		if g.chance(80) {
			r.Value = nil
		}
	}
	return r
}

func (g *generator) rangeRequest() *pb.RangeRequest {
	r := &pb.RangeRequest{Serializable: g.chance(20), KeysOnly: g.chance(15), CountOnly: g.chance(10)}
	r.Key, r.RangeEnd = g.bounds()
	if g.chance(25) {
		r.Revision = g.revision()
	}
	if g.chance(30) {
		r.Limit = g.Int64N(8) - 1
	}
	if g.chance(30) {
		r.SortOrder = pb.RangeRequest_SortOrder(g.IntN(3))
		r.SortTarget = pb.RangeRequest_SortTarget(g.IntN(5))
	}
	for _, bound := range []*int64{&r.MinModRevision, &r.MaxModRevision, &r.MinCreateRevision, &r.MaxCreateRevision} {
		if g.chance(6) {
			*bound = g.revision()
		}
	}
	return r
}

func (g *generator) deleteRange() *pb.DeleteRangeRequest {
	r := &pb.DeleteRangeRequest{PrevKv: g.chance(40)}
	r.Key, r.RangeEnd = g.bounds()
	if len(r.RangeEnd) > 0 && g.chance(70) {
		r.RangeEnd = nil // the store should not be empty most of the time
	}
	return r
}

func (g *generator) compare() *pb.Compare {
	c := &pb.Compare{Result: pb.Compare_CompareResult(g.IntN(4)), Target: pb.Compare_CompareTarget(g.IntN(5))}
	c.Key, c.RangeEnd = g.bounds()
	switch c.Target {
	case pb.Compare_VERSION:
		c.TargetUnion = &pb.Compare_Version{Version: g.Int64N(4)}
	case pb.Compare_CREATE:
		c.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: g.revision()}
	case pb.Compare_MOD:
		c.TargetUnion = &pb.Compare_ModRevision{ModRevision: g.revision()}
	case pb.Compare_VALUE:
		c.TargetUnion = &pb.Compare_Value{Value: g.value()}
	case pb.Compare_LEASE:
		c.TargetUnion = &pb.Compare_Lease{Lease: g.Int64N(leases)}
	}
	if g.chance(3) {
		c.TargetUnion = nil
	}
	return c
}

func (g *generator) operation(depth int) *pb.RequestOp {
	switch n := g.IntN(100); {
	case n < 1:
		return &pb.RequestOp{}
	case n < 45:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestPut{RequestPut: g.put()}}
	case n < 70:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestRange{RequestRange: g.rangeRequest()}}
	case n < 85 || depth == 0:
		return &pb.RequestOp{Request: &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: g.deleteRange()}}
	}
	return &pb.RequestOp{Request: &pb.RequestOp_RequestTxn{RequestTxn: g.txn(depth - 1)}}
}

func (g *generator) txn(depth int) *pb.TxnRequest {
	r := &pb.TxnRequest{}
	for range g.IntN(3) {
		r.Compare = append(r.Compare, g.compare())
	}
	for range g.IntN(4) {
		r.Success = append(r.Success, g.operation(depth))
	}
	for range g.IntN(4) {
		r.Failure = append(r.Failure, g.operation(depth))
	}
	if puts(r) {
		boundDeletes(r)
	}
	return r
}

func puts(r *pb.TxnRequest) bool {
	return slices.ContainsFunc(slices.Concat(r.Success, r.Failure), func(op *pb.RequestOp) bool {
		if txn := op.GetRequestTxn(); txn != nil {
			return puts(txn)
		}
		return op.GetRequestPut() != nil
	})
}

// boundDeletes lets no delete of a transaction with puts reach to the end of all keys. Real etcd does not see that such a
// range holds the keys that the transaction puts: it ends when one of those is to keep the value or lease of what was
// deleted before it, and a compaction at the revision of a key that was deleted and made again loses the key.
func boundDeletes(r *pb.TxnRequest) {
	for _, op := range slices.Concat(r.Success, r.Failure) {
		if deleted := op.GetRequestDeleteRange(); string(deleted.GetRangeEnd()) == "\x00" {
			deleted.RangeEnd = nil
		}
		if txn := op.GetRequestTxn(); txn != nil {
			boundDeletes(txn)
		}
	}
}

func (g *generator) watch() *pb.WatchCreateRequest {
	r := &pb.WatchCreateRequest{PrevKv: g.chance(50), Fragment: g.chance(30), StartRevision: max(1, g.compacted-1+g.Int64N(g.head-g.compacted+2))}
	r.Key, r.RangeEnd = g.bounds()
	if g.chance(30) {
		r.Filters = append(r.Filters, pb.WatchCreateRequest_FilterType(g.IntN(2)))
	}
	return r
}
