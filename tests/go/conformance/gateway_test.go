package conformance

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	. "quorate/tests/harness"
)

// The JSON gateway: the same HTTP requests to both, answers compared byte for byte but for identities.
func TestGateway(t *testing.T) {
	pair := NewPair(t)
	post := func(paths ...string) func(*testing.T, *Side) {
		return func(t *testing.T, s *Side) {
			for i := 0; i < len(paths); i += 2 {
				page(t, s, "POST", paths[i], paths[i+1])
			}
		}
	}
	pair.Each(t, []Script{
		{"key and value", post(
			"/v3/kv/put", `{"key":"Zm9v","value":"YmFy"}`,
			"/v3/kv/put", `{"key":"Zm9v","value":"YmFyMg==","prev_kv":true}`,
			"/v3/kv/put", `{"key":"Zm9v","value":"YmFyMw==","prevKv":true}`,
			"/v3/kv/put", `{"key":"Zm9v","value":"-_-_"}`,
			"/v3/kv/put", `{"key":"Zm9","value":"YQ"}`,
			"/v3/kv/put", `{"key":"Zm9v","lease":"12"}`,
			"/v3/kv/put", `{"key":"Zm9v","lease":12}`,
			"/v3/kv/put", `{}`,
			"/v3/kv/range", `{"key":"Zm9v"}`,
			"/v3/kv/range", `{"key":"AA==","range_end":"AA==","limit":"1"}`,
			"/v3/kv/range", `{"key":"AA==","rangeEnd":"AA==","limit":1}`,
			"/v3/kv/range", `{"key":"AA==","range_end":"AA==","sort_order":"DESCEND","sort_target":"MOD"}`,
			"/v3/kv/range", `{"key":"AA==","range_end":"AA==","sort_order":2,"sort_target":3,"keys_only":true}`,
			"/v3/kv/range", `{"key":"AA==","range_end":"AA==","count_only":true}`,
			"/v3/kv/range", `{"key":"AA==","range_end":"AA==","sort_order":"NONSENSE"}`,
			"/v3/kv/range", `{"key":"Zm9v","nosuch":1,"revision":null}`,
			"/v3/kv/range", `{"key":"Zm9v","revision":"3"}`,
			"/v3/kv/range", `{"key":"Zm9v","revision":300}`,
			"/v3/kv/deleterange", `{"key":"Zm9v","prev_kv":true}`,
			"/v3/kv/deleterange", `{"key":"Zm9v"}`,
			"/v3/kv/compaction", `{"revision":"2"}`,
			"/v3/kv/compaction", `{"revision":"2"}`,
			"/v3/kv/compaction", `{"revision":"200"}`,
			"/v3beta/kv/range", `{"key":"Zm9v"}`,
			"/v3alpha/kv/range", `{"key":"Zm9v"}`,
			"/v3/kv/nosuch", `{}`,
		)},
		{"transactions", post(
			"/v3/kv/txn", `{"compare":[{"key":"Zm9v","target":"CREATE","create_revision":"0"}],"success":[{"request_put":{"key":"Zm9v","value":"YQ=="}},{"requestRange":{"key":"Zm9v"}}],"failure":[{"request_delete_range":{"key":"Zm9v"}}]}`,
			"/v3/kv/txn", `{"compare":[{"key":"Zm9v","target":"CREATE","createRevision":"0"}],"success":[{"request_put":{"key":"Zm9v","value":"YQ=="}}],"failure":[{"request_delete_range":{"key":"Zm9v"}}]}`,
			"/v3/kv/txn", `{"compare":[{"key":"Zm9v","target":"VALUE","result":"EQUAL","value":"YQ=="}],"failure":[{"request_txn":{"success":[{"request_range":{"key":"Zm9v"}}]}}]}`,
			"/v3/kv/txn", `{"success":[{}]}`,
			"/v3/kv/txn", `{"success":[{"request_put":{"key":"YQ=="}},{"request_put":{"key":"YQ=="}}]}`,
			"/v3/kv/txn", `{}`,
		)},
		{"leases", post(
			"/v3/lease/grant", `{"TTL":100,"ID":5}`,
			"/v3/lease/grant", `{"TTL":"100","ID":"5"}`,
			"/v3/lease/grant", `{"TTL":"0","ID":"6"}`,
			"/v3/lease/grant", `{"TTL":"90000000000","ID":"7"}`,
			"/v3/kv/lease/timetolive", `{"ID":"4711"}`,
			"/v3/lease/timetolive", `{"ID":4711,"keys":true}`,
			"/v3/lease/keepalive", `{"ID":4711}`,
			"/v3/lease/keepalive", `{"ID":5}`,
			"/v3/lease/revoke", `{"ID":4711}`,
			"/v3/kv/lease/revoke", `{"ID":"5"}`,
			"/v3/kv/lease/leases", `{}`,
			"/v3/lease/leases", ``,
		)},
		{"maintenance and cluster", post(
			"/v3/maintenance/hashkv", `{}`,
			"/v3/maintenance/hashkv", `{"revision":"300"}`,
			"/v3/maintenance/defragment", `{}`,
			"/v3/maintenance/alarm", `{}`,
			"/v3/maintenance/alarm", `{"action":"ACTIVATE"}`,
			"/v3/maintenance/alarm", `{"action":"ACTIVATE","memberID":5,"alarm":"NOSPACE"}`,
			"/v3/maintenance/alarm", `{"action":"DEACTIVATE","memberID":5,"alarm":"NOSPACE"}`,
			"/v3/maintenance/transfer-leadership", `{"targetID":4711}`,
			"/v3/maintenance/downgrade", `{"action":"VALIDATE","version":"9.9"}`,
			"/v3/cluster/member/remove", `{"ID":"4711"}`,
			"/v3/cluster/member/add", `{"peerURLs":["nonsense"]}`,
			"/v3/cluster/member/promote", `{"ID":4711}`,
		)},
		{"auth", post(
			"/v3/auth/status", `{}`,
			"/v3/auth/enable", `{}`,
			"/v3/auth/user/add", `{"name":"u","password":"p"}`,
			"/v3/auth/user/add", `{"name":"u","password":"p"}`,
			"/v3/auth/user/get", `{"name":"u"}`,
			"/v3/auth/user/get", `{"name":"nosuch"}`,
			"/v3/auth/user/list", `{}`,
			"/v3/auth/role/add", `{"name":"r"}`,
			"/v3/auth/role/grant", `{"name":"r","perm":{"permType":"READWRITE","key":"YQ==","range_end":"Yg=="}}`,
			"/v3/auth/role/grant", `{"name":"r","perm":{"key":"YQ=="}}`,
			"/v3/auth/role/get", `{"role":"r"}`,
			"/v3/auth/role/list", ``,
			"/v3/auth/user/grant", `{"user":"u","role":"r"}`,
			"/v3/auth/user/get", `{"name":"u"}`,
			"/v3/auth/role/revoke", `{"role":"r","key":"YQ==","range_end":"Yg=="}`,
			"/v3/auth/user/revoke", `{"name":"u","role":"r"}`,
			"/v3/auth/user/changepw", `{"name":"u","password":"q"}`,
			"/v3/auth/authenticate", `{"name":"u","password":"q"}`,
			"/v3/auth/user/delete", `{"name":"u"}`,
			"/v3/auth/role/delete", `{"role":"r"}`,
			"/v3/auth/role/delete", `{"role":"r"}`,
		)},
		{"locks and elections", post(
			"/v3/lock/lock", `{"name":"bG9jaw==","lease":"4711"}`,
			"/v3/lock/unlock", `{"key":"bm9zdWNo"}`,
			"/v3/election/leader", `{"name":"bm9ib2R5"}`,
			"/v3/election/proclaim", `{}`,
			"/v3/election/resign", `{}`,
			"/v3/election/campaign", `{"name":"bm9ib2R5","lease":4711}`,
			"/v3/lease/grant", `{"TTL":100,"ID":99}`,
			"/v3/lock/lock", `{"name":"bG9jaw==","lease":"99"}`,
			"/v3/lock/lock", `{"name":"bG9jaw==","lease":"99"}`,
			"/v3/lock/unlock", `{"key":"bG9jay82Mw=="}`,
			"/v3/election/campaign", `{"name":"bm9ib2R5","lease":99,"value":"bWU="}`,
			"/v3/election/leader", `{"name":"bm9ib2R5"}`,
		)},
		{"bodies and methods", func(t *testing.T, s *Side) {
			for _, body := range []string{
				``, ` `, `{`, `[]`, `null`, `"text"`, `12`, `tru`, `x`, `{"key"}`, `{"key":}`, `{"key":"Zm9v",}`, `{"key":"Zm9v"`, `{,}`, `{"a":1 "b"}`, `[1 2]`, `{"key":'a'}`, "{\"key\":\"\x01\"}",
				`{"key":"\x"}`, `{"key":"\u12x4"}`, `{"limit":01}`, `{"limit":-}`, `{"limit":1.}`, `{"limit":1e}`, `{"limit":+1}`, `{"limit":.5}`, "\xff", "{\"key\":\"\xff\"}", `{"key":"\ud800"}`,
				`{"key":"\ud800\u0041aaaaaa"}`, `{"\ud83d\ude00":1}`, `{"\u006bey":"Zm9v"}`, "\u00e4", "{\"\u00e4\":1,\n\"key\":2}", "'", "\"", `\`, "\x7f", "\x00", "\xa0",
				`{"key":1}`, `{"key":"!"}`, `{"key":"Zm9v="}`, `{"key":"Zg=="}`, `{"key":"Zg="}`, `{"key":"-+"}`, `{"key":"Zm9\nv"}`, `{"key":"Zh=="}`, `{"key":["Zm9v"]}`, `{"key":{}}`, `{"key":true}`,
				`{"limit":"x"}`, `{"limit":1.5}`, `{"limit":"1.5"}`, `{"limit":9223372036854775808}`, `{"limit":true}`, `{"limit":" 1"}`, `{"limit":""}`, `{"limit":[1]}`,
				`{"key":"Zm9v","limit":1e3}`, `{"key":"Zm9v","limit":"1e3"}`, `{"key":"Zm9v","limit":"1 2"}`, `{"key":"Zm9v","limit":10e-1}`, `{"key":"Zm9v","limit":-0}`,
				`{"serializable":"yes"}`, `{"serializable":1}`, `{"serializable":null,"key":"Zm9v"}`, `{"sort_order":1.5}`, `{"sort_order":2147483648}`, `{"sort_order":true}`, `{"key":"Zm9v","sort_order":"NONSENSE"}`,
				`{"key":"Zm9v","sort_target":9}`, `{"key":"Zm9v","sort_order":-1}`,
				`{"key":"Zm9v"} trailing`, `{"key":"Zm9v"}{`, `{"key":"Zm9v","key":"Zm9v"}`, `{"range_end":"","rangeEnd":""}`, `{"key":null,"key":"Zm9v"}`, `{"key":"Zm9v","Key":"YQ=="}`,
				`{"key":"Zm9v","[ext]":1,"x":{"y":[{},[],"z",1e9,null,true]}}`, strings.Repeat("[", 10_001), `{"x":` + strings.Repeat("[", 9_999) + strings.Repeat("]", 9_999) + `,"key":"Zm9v"}`,
			} {
				page(t, s, "POST", "/v3/kv/range", body)
			}
			for _, body := range []string{
				`{"compare":{}}`, `{"compare":[null]}`, `{"compare":[1]}`, `{"compare":null}`, `{"compare":[{"version":1,"value":"YQ=="}]}`, `{"compare":[{"version":null,"value":"YQ==","key":"YQ=="}]}`,
				`{"success":[{"request_put":{},"request_range":{}}]}`, `{"success":[{"request_put":null}]}`, `{"success":[{"requestPut":[]}]}`,
				strings.Repeat(`{"success":[{"request_txn":`, 200) + "{}" + strings.Repeat("}]}", 200), strings.Repeat(`{"success":[{"request_txn":`, 3_333) + "{}" + strings.Repeat("}]}", 3_333),
				strings.Repeat(`{"success":[{"request_txn":`, 3_334) + "{}" + strings.Repeat("}]}", 3_334),
			} {
				page(t, s, "POST", "/v3/kv/txn", body)
			}
			for _, method := range []string{"GET", "PUT", "DELETE", "HEAD", "PATCH"} {
				page(t, s, method, "/v3/kv/range", `{"key":"Zm9v"}`)
			}
			page(t, s, "POST", "/v3/kv/range", `{"key":"Zm9v"}`, "Content-Type=text/plain")
			page(t, s, "POST", "/v3/kv/range", `{"key":"Zm9v"}`, "Content-Type=application/x-www-form-urlencoded")
			page(t, s, "POST", "/v3/kv/range", `{"key":"Zm9v"}`, "Content-Type=application/x-www-form-urlencoded", "X-HTTP-Method-Override=GET")
			page(t, s, "POST", "/v3/kv/range", `{"key":"Zm9v"}`, "X-HTTP-Method-Override=GET")
			for _, path := range []string{"/v3/kv/range/", "/v3", "/v3/", "/v3?a=b", "/v3//kv/range", "/v3/./kv/range?a=1&b", "/v3/kv/r%61nge", "/v3/kv%2Frange", "/V3/kv/range", "/v3/kv/range:x", "/v3x/kv/range", "//health"} {
				page(t, s, "POST", path, `{"key":"Zm9v"}`)
				page(t, s, "GET", path, "")
			}
		}},
		{"sizes", func(t *testing.T, s *Side) {
			for _, size := range []int{1_500_000, 1_572_864, 1_600_000, 2_097_140, 2_100_000, 3_000_000} {
				value := base64.StdEncoding.EncodeToString(make([]byte, size))
				code, _, text := ask(t, s, "POST", "/v3/kv/put", `{"key":"Zm9v","value":"`+value+`"}`)
				s.Note(fmt.Sprint("put of ", size), fmt.Sprint(code, " ", identities.ReplaceAllString(compact(text), `"$1":"*"`)))
			}
			value := base64.StdEncoding.EncodeToString(make([]byte, 1_500_000))
			page(t, s, "POST", "/v3/kv/put", `{"key":"Zm9v","value":"`+value+`","prev_kv":true}`)
			page(t, s, "POST", "/v3/kv/range", `{"key":"Zm9v"}`)
			page(t, s, "POST", "/v3/kv/deleterange", `{"key":"Zm9v"}`)
		}},
		{"metadata", func(t *testing.T, s *Side) {
			for _, pair := range []string{"Grpc-Timeout=x", "Grpc-Timeout=1n", "Grpc-Timeout=-1S", "Grpc-Timeout=0S", "Grpc-Timeout=100000000000S", "Grpc-Timeout=1", "Grpc-Metadata-hasleader=true", "Grpc-Metadata-x-Bin=!!",
				"Authorization=nonsense", "Grpc-Metadata-token=nonsense"} {
				page(t, s, "POST", "/v3/kv/range", `{"key":"Zm9v"}`, pair)
			}
			page(t, s, "POST", "/v3/lease/keepalive", `{"ID":5}`, "Grpc-Timeout=1n")
			page(t, s, "POST", "/v3/watch", `{}`, "Grpc-Timeout=500m")
			page(t, s, "POST", "/v3/watch", `{"create_request":{"key":"bm8="}}`, "Grpc-Timeout=500m")
			page(t, s, "POST", "/v3/watch", `{`, "Grpc-Timeout=500m")
			page(t, s, "POST", "/v3/election/observe", `{"name":"bm9ib2R5MQ=="}`, "Grpc-Timeout=500m")
			page(t, s, "POST", "/v3/election/observe", `{`)
			code, _, text := ask(t, s, "POST", "/v3/maintenance/snapshot", `[]`)
			s.Note("a snapshot asked for in no JSON of its type", fmt.Sprint(code, " ", compact(text)))
		}},
		{"keep-alives", func(t *testing.T, s *Side) {
			for _, body := range []string{``, `{}`, `{"ID":4711}{"ID":"4712"}`, `{"ID":4711}[]{"ID":"4712"}`, `[]`, `{"ID":4711} x`} {
				page(t, s, "POST", "/v3/lease/keepalive", body)
			}
		}},
		{"headers", func(t *testing.T, s *Side) {
			for _, path := range []string{"/v3/kv/range", "/v3/kv/nosuch"} {
				_, headers, _ := ask(t, s, "POST", path, `{"key":"Zm9v"}`, "Origin=http://elsewhere")
				for _, name := range []string{"Content-Type", "Grpc-Metadata-Content-Type", "Access-Control-Allow-Origin", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers"} {
					s.Note(path+" "+name, headers.Get(name))
				}
			}
			page(t, s, "OPTIONS", "/v3/kv/range", "", "Origin=http://elsewhere")
		}},
		{"watch", func(t *testing.T, s *Side) {
			request, err := http.NewRequestWithContext(t.Context(), "POST", s.Server.ClientURL+"/v3/watch", bytes.NewBufferString(`{"create_request":{"key":"dw==","range_end":"eA==","start_revision":"1000000","prev_kv":true}}`+"\n"))
			Must(t, err)
			_, err = http.Post(s.Server.ClientURL+"/v3/kv/put", "application/json", strings.NewReader(`{"key":"dw=="}`))
			Must(t, err)
			request.Body = io.NopCloser(strings.NewReader(`{"create_request":{"key":"dw==","range_end":"eA==","prev_kv":true}}`))
			request.ContentLength = -1
			reply, err := http.DefaultClient.Do(request)
			Must(t, err)
			defer reply.Body.Close()
			lines := bufio.NewReader(reply.Body)
			next := func(what string) {
				line, err := lines.ReadString('\n')
				Must(t, err)
				s.Note(what, identities.ReplaceAllString(compact(line), `"$1":"*"`))
			}
			s.Note("head", fmt.Sprint(reply.StatusCode, reply.Header.Get("Content-Type"), reply.TransferEncoding))
			next("created")
			page(t, s, "POST", "/v3/kv/put", `{"key":"dzE=","value":"MQ=="}`)
			next("put")
			page(t, s, "POST", "/v3/kv/deleterange", `{"key":"dzE="}`)
			next("delete")
		}},
		{"watch requests", func(t *testing.T, s *Side) {
			for _, body := range []string{
				`{"create_request":{"key":"bm8=","watch_id":"7"}}{"cancelRequest":{"watch_id":7}}`,
				`{"create_request":{"key":"bm8=","watch_id":7}} {"create_request":{"key":"bm8=","watch_id":7}}`,
				`{"create_request":{"key":"Yg==","range_end":"YQ=="}}`,
				`{"create_request":{"key":"bm8=","start_revision":-1}}`,
				`{"create_request":{"key":"bm8=","filters":["NOPUT",1]}}[]{"cancel_request":{}}`,
				`{"progress_request":{}}`,
			} {
				page(t, s, "POST", "/v3/watch", body, "Grpc-Timeout=700m")
			}
		}},
	})
}

// Tokens in the gateway's headers stand for users, as in gRPC's metadata.
func TestGatewayTokens(t *testing.T) {
	pair := NewPair(t)
	pair.Both(t, func(t *testing.T, s *Side) {
		for _, asked := range [][2]string{
			{"/v3/kv/put", `{"key":"YQ==","value":"MQ=="}`},
			{"/v3/auth/user/add", `{"name":"root","password":"p"}`}, {"/v3/auth/user/grant", `{"user":"root","role":"root"}`},
			{"/v3/auth/user/add", `{"name":"u","password":"p"}`}, {"/v3/auth/role/add", `{"name":"r"}`},
			{"/v3/auth/role/grant", `{"name":"r","perm":{"permType":"READ","key":"YQ=="}}`}, {"/v3/auth/user/grant", `{"user":"u","role":"r"}`},
			{"/v3/auth/enable", `{}`},
		} {
			page(t, s, "POST", asked[0], asked[1])
		}
		tokenOf := func(user string) string {
			var reply struct{ Token string }
			code, _, text := ask(t, s, "POST", "/v3/auth/authenticate", `{"name":"`+user+`","password":"p"}`)
			Must(t, json.Unmarshal([]byte(text), &reply))
			s.Note("a token for "+user, fmt.Sprint(code, " ", strings.Count(reply.Token, ".")))
			return reply.Token
		}
		page(t, s, "POST", "/v3/auth/authenticate", `{"name":"u","password":"wrong"}`)
		for _, caller := range [][2]string{{"nobody", ""}, {"a stranger", "nonsense"}, {"u", tokenOf("u")}, {"root", tokenOf("root")}} {
			user, token := caller[0], caller[1]
			for _, header := range []string{"Authorization=", "Authorization=Bearer ", "Grpc-Metadata-token="} {
				for _, asked := range [][2]string{
					{"/v3/kv/range", `{"key":"YQ=="}`}, {"/v3/kv/range", `{"key":"Yg=="}`}, {"/v3/kv/put", `{"key":"YQ==","value":"MQ=="}`}, {"/v3/auth/user/list", `{}`},
					{"/v3/maintenance/hashkv", `{}`}, {"/v3/cluster/member/list", `{}`}, {"/v3/lease/keepalive", `{"ID":1}`},
				} {
					code, headers, text := ask(t, s, "POST", asked[0], asked[1], header+token)
					shown := addresses.ReplaceAllString(identities.ReplaceAllString(compact(text), `"$1":"*"`), "*")
					s.Note(fmt.Sprint(user, " with ", header, " asks ", asked), fmt.Sprintf("%d %s %s", code, headers.Get("Www-Authenticate"), shown))
				}
			}
		}
		// Its token is each server's own, so it stays out of what is compared.
		code, _, text := ask(t, s, "POST", "/v3/auth/disable", `{}`, "Authorization="+tokenOf("root"))
		s.Note("root disables auth", fmt.Sprint(code, " ", identities.ReplaceAllString(compact(text), `"$1":"*"`)))
		page(t, s, "POST", "/v3/kv/range", `{"key":"YQ==","count_only":true}`, "Authorization=nonsense")
	})
}

// A snapshot through the gateway: its pieces are lines, and together they are a database of etcd's.
func TestGatewaySnapshot(t *testing.T) {
	pair := NewPair(t)
	pair.Both(t, func(t *testing.T, s *Side) {
		page(t, s, "POST", "/v3/kv/put", `{"key":"YQ==","value":"`+base64.StdEncoding.EncodeToString(make([]byte, 300_000))+`"}`)
		code, headers, text := ask(t, s, "POST", "/v3/maintenance/snapshot", `{}`)
		var database []byte
		var version string
		for line := range strings.Lines(text) {
			var reply struct {
				Result struct {
					Blob    []byte
					Version string
				}
			}
			Must(t, json.Unmarshal([]byte(line), &reply))
			database = append(database, reply.Result.Blob...)
			version = reply.Result.Version
		}
		sum := sha256.Sum256(database[:max(0, len(database)-sha256.Size)])
		s.Note("snapshot", fmt.Sprint(code, headers.Get("Content-Type"), version, bytes.HasSuffix(database, sum[:]), len(database) > 300_000, database[16:20]))
	})
}

// Both ends of a stream at once: what is said later is answered later, on the same request.
func TestGatewayStreamBothWays(t *testing.T) {
	server := Single(t, Programs(t).Server)
	body, say := io.Pipe()
	request, err := http.NewRequestWithContext(t.Context(), "POST", server.ClientURL+"/v3/watch", body)
	if err != nil {
		t.Fatal(err)
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		reply, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Error(err)
			return
		}
		defer reply.Body.Close()
		for scanner := bufio.NewScanner(reply.Body); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	for number := range 3 {
		fmt.Fprintf(say, `{"create_request":{"key":"a2V5","watch_id":%d}}`, number+1)
		if line := <-lines; !strings.Contains(line, fmt.Sprintf(`"watch_id":"%d","created":true`, number+1)) {
			t.Errorf("watcher %d: %s", number+1, line)
		}
	}
	fmt.Fprint(say, `{"cancel_request":{"watch_id":2}}`)
	if line := <-lines; !strings.Contains(line, `"watch_id":"2","canceled":true`) {
		t.Errorf("cancelled: %s", line)
	}
	say.Close()
}

// A client that goes away leaves nothing behind: its watcher is gone, and what it waited for is given to the next.
func TestGatewayClientGoesAway(t *testing.T) {
	server := Single(t, Programs(t).Server)
	post := func(ctx context.Context, path, body string) (*http.Response, error) {
		request, err := http.NewRequestWithContext(ctx, "POST", server.ClientURL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		return http.DefaultClient.Do(request)
	}
	must := func(path, body string) string {
		reply, err := post(t.Context(), path, body)
		if err != nil {
			t.Fatal(err)
		}
		defer reply.Body.Close()
		text, _ := io.ReadAll(reply.Body)
		if reply.StatusCode != http.StatusOK {
			t.Fatalf("%s %s: %d %s", path, body, reply.StatusCode, text)
		}
		return string(text)
	}
	side := NewSide(server)
	watchers := func(wanted string) {
		Eventually(t, ReadyLimit, wanted+" watch streams", func() error {
			if found := samples(t, side)["etcd_debugging_mvcc_watch_stream_total"]; found != wanted {
				return Wanted("%s", found)
			}
			return nil
		})
	}
	watching, leave := context.WithCancel(t.Context())
	reply, err := post(watching, "/v3/watch", `{"create_request":{"key":"a2V5"}}`)
	if err != nil {
		t.Fatal(err)
	}
	watchers("1")
	leave()
	reply.Body.Close()
	watchers("0")

	must("/v3/lease/grant", `{"TTL":100,"ID":1}`)
	must("/v3/lease/grant", `{"TTL":100,"ID":2}`)
	must("/v3/lease/grant", `{"TTL":100,"ID":3}`)
	must("/v3/lock/lock", `{"name":"bG9jaw==","lease":1}`)
	waiting, giveUp := context.WithCancel(t.Context())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		if reply, err := post(waiting, "/v3/lock/lock", `{"name":"bG9jaw==","lease":2}`); err == nil {
			reply.Body.Close()
			t.Error("two holders")
		}
	}()
	waiters := func(wanted string) {
		Eventually(t, ReadyLimit, "keys of the lock", func() error {
			if text := must("/v3/kv/range", `{"key":"bG9jay8=","range_end":"bG9jazA=","count_only":true}`); !strings.HasSuffix(text, `"count":"`+wanted+`"}`) {
				return Wanted("%s", text)
			}
			return nil
		})
	}
	waiters("2")
	giveUp()
	<-gone
	waiters("1")
}

// More than any message: refused, and the connection goes on.
func TestGatewayBodyTooLarge(t *testing.T) {
	server := Single(t, Programs(t).Server)
	connection, err := net.Dial("tcp", server.Endpoint())
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	replies := bufio.NewReader(connection)
	for _, size := range []int{40 << 20, 10, 9 << 20, 10} {
		body := `{"key":"` + strings.Repeat("A", size/4*4) + `"}`
		fmt.Fprintf(connection, "POST /v3/kv/range HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		reply, err := http.ReadResponse(replies, nil)
		if err != nil {
			t.Fatal(size, err)
		}
		text, err := io.ReadAll(reply.Body)
		if err != nil {
			t.Fatal(size, err)
		}
		expected := fmt.Sprintf(`{"code":8,"message":"grpc: received message larger than max (%d vs. 2097152)"}`, len(body))
		if size > 10 && (reply.StatusCode != http.StatusTooManyRequests || string(text) != expected) || size == 10 && reply.StatusCode != http.StatusOK {
			t.Errorf("%d: %d %s", size, reply.StatusCode, text)
		}
	}
}

// Who may ask: host names, origins, and a gateway that is switched off.
func TestHTTPAccess(t *testing.T) {
	for _, flags := range [][]string{
		{"--host-whitelist", "localhost,good.example", "--cors", "http://a.example:80,https://b.example:443"},
		{"--host-whitelist", "localhost", "--cors", "*"},
		{"--enable-grpc-gateway=false"},
	} {
		t.Run(strings.Join(flags, " "), func(t *testing.T) {
			pair := NewPair(t, flags...)
			pair.Both(t, func(t *testing.T, s *Side) {
				for _, host := range []string{"localhost", "localhost:2379", "good.example", "evil.example:80", "[::1]:80", "a:b:c", "Good.example"} {
					for _, origin := range []string{"", "http://a.example:80", "http://a.example", "http://evil.example:80"} {
						for _, asked := range []string{"POST /v3/kv/range", "GET /health", "OPTIONS /v3/kv/range", "GET /nosuch", "GET /v3/kv/range"} {
							method, path, _ := strings.Cut(asked, " ")
							page(t, s, method, path, "{}", "Host="+host, "Origin="+origin)
						}
					}
				}
			})
		})
	}
}
