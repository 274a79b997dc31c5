// Package scripts runs the store's golden scripts (crates/store/testdata) against servers: real etcd, which thereby
// vouches for every expected line, and ours, whole.
//
// The notation is described in crates/store/tests/scripts/notation.rs; both readers of it must agree.
package scripts

import (
	"fmt"
	"strconv"
	"strings"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// words are those of a command that are left to read; reading past the end or a wrong word panics with the line.
type words struct {
	line string
	left []string
}

func split(line string) *words { return &words{line: line, left: strings.Fields(line)} }

func (w *words) peek() string {
	if len(w.left) == 0 {
		return ""
	}
	return w.left[0]
}

func (w *words) word() string {
	if len(w.left) == 0 {
		panic(fmt.Sprintf("%q lacks a word", w.line))
	}
	word := w.left[0]
	w.left = w.left[1:]
	return word
}

func (w *words) number() int64 { return w.parse(w.word()) }

func (w *words) parse(word string) int64 {
	number, err := strconv.ParseInt(word, 10, 64)
	if err != nil {
		panic(fmt.Sprintf("%q in %q is no number", word, w.line))
	}
	return number
}

func (w *words) option() (name, argument string, found bool) {
	switch w.peek() {
	case "", ";", "else", ")":
		return "", "", false
	}
	name, argument, _ = strings.Cut(w.word(), "=")
	return name, argument, true
}

func (w *words) unknown(word string) { panic(fmt.Sprintf("%q in %q is unknown", word, w.line)) }

func literal(word string) []byte {
	if word == `""` {
		return nil
	}
	var out []byte
	for {
		before, after, found := strings.Cut(word, `\x`)
		out = append(out, before...)
		if !found {
			return out
		}
		number, err := strconv.ParseUint(after[:2], 16, 8)
		if err != nil {
			panic(err)
		}
		out = append(out, byte(number))
		word = after[2:]
	}
}

func value(word string) []byte {
	if count, piece, found := strings.Cut(word, "*"); found {
		if number, err := strconv.Atoi(count); err == nil {
			return []byte(strings.Repeat(piece, number))
		}
	}
	return literal(word)
}

func keys(word string) (key, end []byte) {
	if word == "*" {
		return []byte{0}, []byte{0}
	}
	if prefix, found := strings.CutSuffix(word, "*"); found {
		key = literal(prefix)
		end = append(end, key...)
		for len(end) > 0 && end[len(end)-1] == 0xff {
			end = end[:len(end)-1]
		}
		if len(end) == 0 {
			return key, []byte{0}
		}
		end[len(end)-1]++
		return key, end
	}
	start, stop, found := strings.Cut(word, "..")
	switch {
	case !found:
		return literal(word), nil
	case stop == "":
		return literal(start), []byte{0}
	}
	return literal(start), literal(stop)
}

func putOf(w *words) *pb.PutRequest {
	r := &pb.PutRequest{Key: literal(w.word()), Value: value(w.word())}
	for {
		name, argument, found := w.option()
		if !found {
			break
		}
		switch name {
		case "lease":
			r.Lease = w.parse(argument)
		case "prev":
			r.PrevKv = true
		case "ignore-value":
			r.IgnoreValue = true
		case "ignore-lease":
			r.IgnoreLease = true
		default:
			w.unknown(name)
		}
	}
	if r.IgnoreValue {
		r.Value = nil
	}
	return r
}

func deleteOf(w *words) *pb.DeleteRangeRequest {
	r := &pb.DeleteRangeRequest{}
	r.Key, r.RangeEnd = keys(w.word())
	for {
		name, _, found := w.option()
		if !found {
			return r
		}
		if name != "prev" {
			w.unknown(name)
		}
		r.PrevKv = true
	}
}

var sortTargets = map[string]pb.RangeRequest_SortTarget{
	"key": pb.RangeRequest_KEY, "version": pb.RangeRequest_VERSION, "create": pb.RangeRequest_CREATE,
	"mod": pb.RangeRequest_MOD, "value": pb.RangeRequest_VALUE,
}

var sortOrders = map[string]pb.RangeRequest_SortOrder{
	"none": pb.RangeRequest_NONE, "asc": pb.RangeRequest_ASCEND, "desc": pb.RangeRequest_DESCEND,
}

func rangeOf(w *words) *pb.RangeRequest {
	r := &pb.RangeRequest{}
	r.Key, r.RangeEnd = keys(w.word())
	for {
		name, argument, found := w.option()
		if !found {
			return r
		}
		switch name {
		case "rev":
			r.Revision = w.parse(argument)
		case "limit":
			r.Limit = w.parse(argument)
		case "sort":
			r.SortTarget = sortTargets[argument]
		case "order":
			r.SortOrder = sortOrders[argument]
		case "count":
			r.CountOnly = true
		case "keys":
			r.KeysOnly = true
		case "min-mod":
			r.MinModRevision = w.parse(argument)
		case "max-mod":
			r.MaxModRevision = w.parse(argument)
		case "min-create":
			r.MinCreateRevision = w.parse(argument)
		case "max-create":
			r.MaxCreateRevision = w.parse(argument)
		default:
			w.unknown(name)
		}
	}
}

func txnOf(w *words) *pb.TxnRequest {
	r := &pb.TxnRequest{}
	if w.peek() == "if" {
		w.word()
		for w.peek() != "" && w.peek() != "then" && w.peek() != "else" && w.peek() != ")" {
			r.Compare = append(r.Compare, compareOf(w, w.word()))
		}
	}
	if w.peek() == "then" {
		w.word()
		r.Success = operationsOf(w)
	}
	if w.peek() == "else" {
		w.word()
		r.Failure = operationsOf(w)
	}
	return r
}

func operationsOf(w *words) (operations []*pb.RequestOp) {
	for w.peek() != "" && w.peek() != "else" && w.peek() != ")" {
		operation := &pb.RequestOp{}
		switch word := w.word(); word {
		case ";":
			continue
		case "put":
			operation.Request = &pb.RequestOp_RequestPut{RequestPut: putOf(w)}
		case "del":
			operation.Request = &pb.RequestOp_RequestDeleteRange{RequestDeleteRange: deleteOf(w)}
		case "get":
			operation.Request = &pb.RequestOp_RequestRange{RequestRange: rangeOf(w)}
		case "(":
			operation.Request = &pb.RequestOp_RequestTxn{RequestTxn: txnOf(w)}
			if w.word() != ")" {
				w.unknown(")")
			}
		default:
			w.unknown(word)
		}
		operations = append(operations, operation)
	}
	return operations
}

func compareOf(w *words, word string) *pb.Compare {
	target, rest, _ := strings.Cut(word, "(")
	key, rest, _ := strings.Cut(rest, ")")
	c := &pb.Compare{}
	c.Key, c.RangeEnd = keys(key)
	var argument string
	switch {
	case strings.HasPrefix(rest, "!="):
		c.Result, argument = pb.Compare_NOT_EQUAL, rest[2:]
	case strings.HasPrefix(rest, "="):
		c.Result, argument = pb.Compare_EQUAL, rest[1:]
	case strings.HasPrefix(rest, "<"):
		c.Result, argument = pb.Compare_LESS, rest[1:]
	case strings.HasPrefix(rest, ">"):
		c.Result, argument = pb.Compare_GREATER, rest[1:]
	default:
		w.unknown(word)
	}
	switch target {
	case "version":
		c.Target, c.TargetUnion = pb.Compare_VERSION, &pb.Compare_Version{Version: w.parse(argument)}
	case "create":
		c.Target, c.TargetUnion = pb.Compare_CREATE, &pb.Compare_CreateRevision{CreateRevision: w.parse(argument)}
	case "mod":
		c.Target, c.TargetUnion = pb.Compare_MOD, &pb.Compare_ModRevision{ModRevision: w.parse(argument)}
	case "lease":
		c.Target, c.TargetUnion = pb.Compare_LEASE, &pb.Compare_Lease{Lease: w.parse(argument)}
	case "value":
		c.Target, c.TargetUnion = pb.Compare_VALUE, &pb.Compare_Value{Value: literal(argument)}
	default:
		w.unknown(word)
	}
	return c
}

// shown is bytes as a script shows them.
func shown(bytes []byte) string {
	if len(bytes) == 0 {
		return `""`
	}
	if len(bytes) > 40 && strings.Count(string(bytes), string(bytes[:1])) == len(bytes) {
		return fmt.Sprintf("%d*%c", len(bytes), bytes[0])
	}
	var text strings.Builder
	for _, c := range bytes {
		switch {
		case c == '\t':
			text.WriteString(`\t`)
		case c == '\r':
			text.WriteString(`\r`)
		case c == '\n':
			text.WriteString(`\n`)
		case c == '\'' || c == '"' || c == '\\':
			text.WriteByte('\\')
			text.WriteByte(c)
		case c >= 0x20 && c < 0x7f:
			text.WriteByte(c)
		default:
			fmt.Fprintf(&text, `\x%02x`, c)
		}
	}
	return text.String()
}

func keyValue(kv *mvccpb.KeyValue) string {
	text := fmt.Sprintf("%s=%s create %d mod %d version %d", shown(kv.Key), shown(kv.Value), kv.CreateRevision, kv.ModRevision, kv.Version)
	if kv.Lease != 0 {
		text += fmt.Sprintf(" lease %d", kv.Lease)
	}
	return text
}

func event(e *mvccpb.Event) string {
	text := "put "
	if e.Type == mvccpb.Event_DELETE {
		text = "delete "
	}
	text += keyValue(e.Kv)
	if e.PrevKv != nil {
		text += ", before " + keyValue(e.PrevKv)
	}
	return text
}

func putLines(r *pb.PutResponse) []string {
	lines := []string{fmt.Sprintf("revision %d", r.Header.GetRevision())}
	if r.PrevKv != nil {
		lines = append(lines, "before "+keyValue(r.PrevKv))
	}
	return lines
}

func deleteLines(r *pb.DeleteRangeResponse) []string {
	lines := []string{fmt.Sprintf("deleted %d, revision %d", r.Deleted, r.Header.GetRevision())}
	for _, kv := range r.PrevKvs {
		lines = append(lines, "before "+keyValue(kv))
	}
	return lines
}

func rangeLines(r *pb.RangeResponse) (lines []string) {
	for _, kv := range r.Kvs {
		lines = append(lines, keyValue(kv))
	}
	more := ""
	if r.More {
		more = ", more"
	}
	return append(lines, fmt.Sprintf("count %d%s, revision %d", r.Count, more, r.Header.GetRevision()))
}

func txnLines(r *pb.TxnResponse) []string {
	branch := "else"
	if r.Succeeded {
		branch = "then"
	}
	lines := []string{fmt.Sprintf("%s, revision %d", branch, r.Header.GetRevision())}
	for _, operation := range r.Responses {
		name, inner := "nothing", []string(nil)
		switch response := operation.Response.(type) {
		case *pb.ResponseOp_ResponsePut:
			name, inner = "put", putLines(response.ResponsePut)
		case *pb.ResponseOp_ResponseDeleteRange:
			name, inner = "del", deleteLines(response.ResponseDeleteRange)
		case *pb.ResponseOp_ResponseRange:
			name, inner = "get", rangeLines(response.ResponseRange)
		case *pb.ResponseOp_ResponseTxn:
			name, inner = "txn", txnLines(response.ResponseTxn)
		}
		lines = append(lines, "- "+name)
		for _, line := range inner {
			lines = append(lines, "    "+line)
		}
	}
	return lines
}
