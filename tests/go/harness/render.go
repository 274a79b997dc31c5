package harness

import (
	"fmt"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Scrub says which fields two servers may differ in, by field name or by message.field, and how each is shown
// instead: a fixed word, or a function of the value.
type Scrub map[string]func(protoreflect.Value) string

// Word shows every value as one word.
func Word(word string) func(protoreflect.Value) string {
	return func(protoreflect.Value) string { return word }
}

// Presence shows an integer as 0, positive or negative.
func Presence(v protoreflect.Value) string {
	number, err := strconv.ParseInt(v.String(), 10, 64)
	switch {
	case err != nil: // beyond int64
		return "positive"
	case number == 0:
		return "0"
	case number < 0:
		return "negative"
	}
	return "positive"
}

// Remaining shows a rest of life to the nearest ten seconds, a long one to the nearest thousand: two servers are asked
// at slightly different times, and a long suite goes on for more than ten seconds.
func Remaining(v protoreflect.Value) string {
	switch rest := v.Int(); {
	case rest < 10:
		return v.String()
	case rest < 1000:
		return fmt.Sprintf("about %d0", (rest+5)/10)
	default:
		return fmt.Sprintf("about %d000", (rest+500)/1000)
	}
}

// Sorted shows a list of bytes or numbers in order.
func Sorted(v protoreflect.Value) string {
	var items []string
	for i := range v.List().Len() {
		switch item := v.List().Get(i).Interface().(type) {
		case []byte:
			items = append(items, quote(item))
		case protoreflect.Message:
			items = append(items, Render(item.Interface(), nil))
		default:
			items = append(items, fmt.Sprint(item))
		}
	}
	sort.Strings(items)
	return "sorted[" + strings.Join(items, " ") + "]"
}

// Identity is what always differs between two servers: who they are and how often they elected.
var Identity = Scrub{
	"ResponseHeader.cluster_id": Presence,
	"ResponseHeader.member_id":  Presence,
	"ResponseHeader.raft_term":  Presence,
}

// With is the scrub and more.
func (s Scrub) With(more Scrub) Scrub {
	all := Scrub{}
	for name, show := range s {
		all[name] = show
	}
	for name, show := range more {
		all[name] = show
	}
	return all
}

// Render writes a message field by field in the order of the field numbers, empty fields left out, unknown ones shown.
func Render(message proto.Message, scrub Scrub) string {
	var out strings.Builder
	render(&out, message.ProtoReflect(), scrub)
	return out.String()
}

// RenderError writes code, text and details of a gRPC error; "" for none.
func RenderError(err error) string {
	if err == nil {
		return ""
	}
	s := status.Convert(err)
	text := fmt.Sprintf("%s: %s", s.Code(), s.Message())
	for _, detail := range s.Details() {
		text += fmt.Sprintf(" detail(%v)", detail)
	}
	return text
}

func render(out *strings.Builder, message protoreflect.Message, scrub Scrub) {
	var fields []protoreflect.FieldDescriptor
	message.Range(func(field protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		fields = append(fields, field)
		return true
	})
	sort.Slice(fields, func(i, j int) bool { return fields[i].Number() < fields[j].Number() })
	out.WriteByte('{')
	for i, field := range fields {
		if i > 0 {
			out.WriteByte(' ')
		}
		out.WriteString(string(field.Name()))
		out.WriteByte(':')
		value := message.Get(field)
		show := scrub[string(message.Descriptor().Name())+"."+string(field.Name())]
		if show == nil {
			show = scrub[string(field.Name())]
		}
		switch {
		case show != nil:
			out.WriteString(show(value))
		case field.IsList():
			list := value.List()
			out.WriteByte('[')
			for n := range list.Len() {
				if n > 0 {
					out.WriteByte(' ')
				}
				renderValue(out, field, list.Get(n), scrub)
			}
			out.WriteByte(']')
		default:
			renderValue(out, field, value, scrub)
		}
	}
	if unknown := message.GetUnknown(); len(unknown) > 0 {
		fmt.Fprintf(out, " unknown:%x", []byte(unknown))
	}
	out.WriteByte('}')
}

func renderValue(out *strings.Builder, field protoreflect.FieldDescriptor, value protoreflect.Value, scrub Scrub) {
	switch field.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		render(out, value.Message(), scrub)
	case protoreflect.BytesKind:
		out.WriteString(quote(value.Bytes()))
	case protoreflect.StringKind:
		out.WriteString(quote([]byte(value.String())))
	case protoreflect.EnumKind:
		if known := field.Enum().Values().ByNumber(value.Enum()); known != nil {
			out.WriteString(string(known.Name()))
		} else {
			fmt.Fprintf(out, "%d", value.Enum())
		}
	default:
		out.WriteString(value.String())
	}
}

// quote shortens what is long but keeps its length and a sum, so that a difference shows.
func quote(text []byte) string {
	if len(text) > 200 {
		sum := uint32(2166136261)
		for _, b := range text {
			sum = (sum ^ uint32(b)) * 16777619
		}
		return fmt.Sprintf("%s...(%d bytes, sum %08x)", quote(text[:40]), len(text), sum)
	}
	if utf8.Valid(text) {
		return strconv.Quote(string(text))
	}
	return fmt.Sprintf("x'%x'", text)
}
