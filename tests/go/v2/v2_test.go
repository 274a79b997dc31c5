// Package v2 holds our v2 API against that of etcd 3.4 (Debian's etcd-server): status, headers and body of each answer.
package v2

import (
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"quorate/tests/harness"
)

// oldEtcd is the newest etcd that has the v2 API.
func oldEtcd(t testing.TB) string {
	if path := os.Getenv("OLD_ETCD"); path != "" {
		return path
	}
	t.Fatal("OLD_ETCD names no program: give etcd 3.4 of Debian's package etcd-server")
	return ""
}

// pair starts real etcd 3.4 and our server; the answers of both are compared.
func pair(t testing.TB) [2]*harness.Server {
	servers := [2]*harness.Server{
		harness.NewServer(t, oldEtcd(t), "m0", "--enable-v2=true"),
		harness.NewServer(t, harness.Programs(t).Server, "m0"),
	}
	for _, server := range servers {
		server.Start("", "new")
	}
	for _, server := range servers {
		server.AwaitReady()
		awaitIndex(t, server)
	}
	return servers
}

// awaitIndex waits until the member is published and the cluster has a version: a fresh member is at index 3.
func awaitIndex(t testing.TB, server *harness.Server) {
	deadline := time.Now().Add(harness.ReadyLimit)
	for {
		response, err := http.Get(server.ClientURL + "/v2/keys")
		if err == nil {
			response.Body.Close()
			if response.Header.Get("X-Etcd-Index") == "3" {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s never came to index 3: %v", server.Name, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// request is one line: METHOD PATH[?QUERY] [FORM]; asked as user:password, or as nobody.
type request struct{ method, path, form, user string }

func (r request) String() string {
	return strings.TrimSpace(r.user + " " + r.method + " " + r.path + " " + r.form)
}

var httpClient = &http.Client{
	Timeout:       harness.CallLimit,
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

// What differs between any two servers: their clocks, ids and addresses.
var (
	expiration = regexp.MustCompile(`"expiration":"[0-9T:.Z-]+"`)
	ttl        = regexp.MustCompile(`"ttl":(\d+)`)
)

// ask answers what a client sees, in text.
func ask(server *harness.Server, r request) string {
	body := io.Reader(nil)
	if r.form != "" {
		body = strings.NewReader(r.form)
	}
	asked, err := http.NewRequest(r.method, server.ClientURL+r.path, body)
	if err != nil {
		return err.Error()
	}
	if r.form != "" {
		asked.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if strings.HasPrefix(r.form, "{") {
			asked.Header.Set("Content-Type", "application/json")
		}
	}
	if name, password, found := strings.Cut(r.user, ":"); found {
		asked.SetBasicAuth(name, password)
	} else if r.user != "" {
		asked.Header.Set("Authorization", r.user)
	}
	response, err := httpClient.Do(asked)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	var out strings.Builder
	fmt.Fprintln(&out, response.StatusCode)
	for _, name := range []string{"Content-Type", "X-Etcd-Index", "Allow", "Location", "X-Content-Type-Options",
		"Access-Control-Allow-Origin"} {
		fmt.Fprintf(&out, "%s: %s\n", name, response.Header.Get(name))
	}
	for _, name := range []string{"X-Etcd-Cluster-Id", "X-Raft-Index", "X-Raft-Term"} {
		fmt.Fprintf(&out, "%s: %v\n", name, response.Header.Get(name) != "")
	}
	shown := strings.NewReplacer(server.ClientURL, "CLIENT", server.PeerURL, "PEER").Replace(string(text))
	shown = expiration.ReplaceAllString(shown, `"expiration":"SOON"`)
	out.WriteString(shown)
	return out.String()
}

// check asks both and compares.
func check(t *testing.T, servers [2]*harness.Server, r request) {
	t.Helper()
	want, got := ask(servers[0], r), ask(servers[1], r)
	// A second may pass between the two.
	if want != got && ttl.ReplaceAllString(want, "") != ttl.ReplaceAllString(got, "") {
		t.Errorf("%s\netcd answers\n%s\nwe answer\n%s", r, want, got)
	}
}

// TestEveryField sends every method, field and error.
func TestEveryField(t *testing.T) {
	servers := pair(t)
	for _, line := range strings.Split(strings.TrimSpace(requests), "\n") {
		fields := strings.SplitN(line, " ", 3)
		r := request{method: fields[0], path: fields[1]}
		if len(fields) > 2 {
			r.form = fields[2]
		}
		check(t, servers, r)
	}
}

const requests = `
GET /v2/keys
GET /v2/keys/none
PUT /v2/keys/a value=1
PUT /v2/keys/a value=2&ttl=100
PUT /v2/keys/a refresh=true&ttl=50
PUT /v2/keys/a prevExist=true&refresh=true&ttl=50
PUT /v2/keys/d dir=true
PUT /v2/keys/d dir=true&prevExist=true&ttl=100
PUT /v2/keys/d prevExist=true&value=x
PUT /v2/keys/d dir=true
PUT /v2/keys/d value=1
PUT /v2/keys/d/e/f value=%ff%3c%26%3e%e2%80%a8
GET /v2/keys/d?recursive=true&sorted=true
POST /v2/keys/q value=a
POST /v2/keys/q dir=true
PUT /v2/keys/q prevValue=
PUT /v2/keys/a prevValue=zz&value=3
PUT /v2/keys/a prevValue=zz&prevIndex=1&value=3
PUT /v2/keys/a prevValue=2&value=3
DELETE /v2/keys/a?prevIndex=1
DELETE /v2/keys/d
DELETE /v2/keys/d?dir=true
DELETE /v2/keys/d?recursive=true&prevIndex=3
DELETE /v2/keys/
PUT /v2/keys/ value=1
PUT /v2/keys/ dir=true&prevExist=true
PUT /v2/keys/a/b value=1
GET /v2/keys/a/b
PATCH /v2/keys/a
OPTIONS /v2/keys/a
HEAD /v2/keys/a
GET /v2/keys/a?wait=true&waitIndex=2
GET /v2/keys/a?wait=x
GET /v2/keys/a?recursive=TRUE&wait=maybe
PUT /v2/keys/a?wait=true value=1
PUT /v2/keys/a ttl=x&value=1
PUT /v2/keys/a ttl=-1&value=1
PUT /v2/keys/a prevIndex=x&value=1
PUT /v2/keys/a prevExist=x&value=1
PUT /v2/keys/a refresh=x&value=1
PUT /v2/keys/a refresh=true&value=1
PUT /v2/keys/a refresh=true
PUT /v2/keys/a noValueOnSuccess=x
PUT /v2/keys/a noValueOnSuccess=true&value=5
GET /v2/keys/a?noValueOnSuccess=true
PUT /v2/keys/a value=%zz
PUT /v2/keys/a?value=%zz
PUT /v2/keys/a {}
PUT /v2/keys/_h/x value=1
GET /v2/keys/_h
GET /v2/keys/?recursive=true&sorted=true
GET /v2/keys//d//e/
DELETE /v2/keys//d//e/
GET /v2/keys/d%2fe
GET /v2/keysx
GET /v2
GET /v2/
GET /v2/foo
GET /v2/machines
HEAD /v2/machines
POST /v2/machines
GET /v2/members/zz
GET /v2/members/leader/
DELETE /v2/members/zz
DELETE /v2/members/12
DELETE /v2/members
DELETE /v2/members/leader
PUT /v2/members/12 {"peerURLs":["http://1.1.1.1:23"]}
PUT /v2/members {"peerURLs":["http://1.1.1.1:23"]}
POST /v2/members x
POST /v2/members {"peerURLs":[]}
POST /v2/members {"peerURLs":["foo"]}
POST /v2/members {"peerURLs":["http://a/b"]}
POST /v2/members {"peerURLs":"a"}
PATCH /v2/members
GET /v2/stats/
POST /v2/stats/self
GET /v2/leader
PUT /v2/keys/big ttl=99999999999&value=1
PUT /v2/keys/big ttl=999999999999999999999&value=1
DELETE /v2/keys/big?noValueOnSuccess=true
GET /v2/keys/a;b
GET /v2/keys/a?x;y
DELETE /v2/keys/a prevIndex=1
PUT /v2/keys/a?value=query value=body
GET /v2/keys?recursive=yes
GET /v2/keys/%00%01%7f%e2%80%a8%22%5c
PUT /v2/keys/e prevExist=false&value=1
PUT /v2/keys/e prevExist=false&value=1
PUT /v2/keys/e prevExist=true&prevValue=x&value=1
POST /v2/keys/e value=1
POST /v2/keys value=1
PUT /v2/keys/nope refresh=true&ttl=5
GET /v2/keys/e?quorum=true
GET /v2/auth/enable
GET /v2/auth/users
GET /v2/auth/roles
GET /v2/auth/users/none
GET /v2/auth/roles/none
PUT /v2/auth/enable
DELETE /v2/auth/enable
DELETE /v2/auth/users/none
POST /v2/auth/users/none
GET /v2/auth
GET /v2/auth/
GET /v2/auth/users/
`

// TestRandomRequests draws requests from a seed.
func TestRandomRequests(t *testing.T) {
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewSource(seed))
	pick := func(from ...string) string { return from[random.Intn(len(from))] }
	servers := pair(t)
	for range 600 {
		path := "/v2/keys"
		for range 1 + random.Intn(3) {
			path += "/" + pick("a", "b", "_c")
		}
		fields := url.Values{}
		maybe := func(name string, values ...string) {
			if random.Intn(4) == 0 {
				fields.Set(name, pick(values...))
			}
		}
		maybe("value", "1", "2", "")
		maybe("prevValue", "1", "2", "")
		maybe("prevIndex", "1", "5", "9", "x", fmt.Sprint(random.Intn(600)))
		maybe("prevExist", "true", "false")
		maybe("dir", "true", "false")
		maybe("recursive", "true", "false")
		maybe("refresh", "true", "false")
		maybe("ttl", "1000", "")
		method := pick("PUT", "PUT", "PUT", "POST", "DELETE", "GET")
		if method == "GET" || method == "DELETE" {
			fields.Set("sorted", "true")
			check(t, servers, request{method: method, path: path + "?" + fields.Encode()})
		} else {
			check(t, servers, request{method: method, path: path, form: fields.Encode()})
		}
		if t.Failed() {
			return
		}
	}
	check(t, servers, request{method: "GET", path: "/v2/keys?recursive=true&sorted=true"})
}
