package v2

import (
	"strings"
	"testing"

	"quorate/tests/harness"
)

// checkAs asks lines of the form USER METHOD PATH [BODY], "-" for nobody; empty lines are left out.
func checkAs(t *testing.T, servers [2]*harness.Server, lines string) {
	t.Helper()
	for _, line := range strings.Split(strings.TrimSpace(lines), "\n") {
		fields := strings.SplitN(line, " ", 4)
		if len(fields) < 3 {
			continue
		}
		r := request{user: fields[0], method: fields[1], path: fields[2]}
		if r.user == "-" {
			r.user = ""
		}
		if len(fields) > 3 {
			r.form = fields[3]
		}
		check(t, servers, r)
	}
}

// TestUsersAndRoles changes users and roles in every way, good and bad, while nobody needs a right for it.
func TestUsersAndRoles(t *testing.T) {
	checkAs(t, pair(t), `
- GET /v2/keys
- GET /v2/auth/users
- GET /v2/auth/roles
- GET /v2/auth/enable
- GET /v2/auth/users/none
- GET /v2/auth/roles/none
- GET /v2/auth/roles/root
- GET /v2/keys
- DELETE /v2/auth/enable
- PUT /v2/auth/enable
- DELETE /v2/auth/users/none
- GET /v2/keys
- DELETE /v2/auth/roles/none
- PUT /v2/auth/roles/r {"role":"r"}
- PUT /v2/auth/roles/r {"role":"r"}
- PUT /v2/auth/roles/r {"role":"s"}
- PUT /v2/auth/roles/r {
- PUT /v2/auth/roles/r []
- PUT /v2/auth/roles/r {"role":1}
- PUT /v2/auth/roles/r
- PUT /v2/auth/roles/root {"role":"root"}
- DELETE /v2/auth/roles/root
- PUT /v2/auth/roles/root {"role":"root","grant":{"kv":{"read":["/a"]}}}
- PUT /v2/auth/roles/s {"role":"s","permissions":{"kv":{"read":["/b","/a"],"write":["/a<&>*"]}},"grant":{},"more":1}
- PUT /v2/auth/roles/s {"role":"s","grant":{"kv":{"read":["/c"]}}}
- PUT /v2/auth/roles/s {"role":"s","grant":{"kv":{"read":["/c"]}}}
- PUT /v2/auth/roles/s {"role":"s","grant":{"kv":{"write":["/c","/d"]}},"revoke":{"kv":{"read":["/a","/none"]}}}
- PUT /v2/auth/roles/s {"role":"s","revoke":{"kv":{"read":["/none"]}}}
- PUT /v2/auth/roles/s {"role":"s","permissions":{"kv":{"read":["/x"]}},"grant":{"kv":{"read":["/y"]}}}
- PUT /v2/auth/roles/t {"role":"t","grant":{"kv":{"read":["/y"]}}}
- PUT /v2/auth/roles/T {"ROLE":"T","Permissions":{"KV":{"READ":["/y"],"write":null}}}
- GET /v2/auth/roles
- GET /v2/auth/roles/
- GET /v2/auth/roles/s
- GET /v2/auth/roles/s/
- GET /v2/auth/roles/s/t
- POST /v2/auth/roles/s {}
- PUT /v2/auth/roles {}
- PATCH /v2/auth/enable
- GET /v2/auth/enable/
- GET /v2/auth/other
- PUT /v2/auth/users/u {"user":"u"}
- PUT /v2/auth/users/u {"user":"u","password":"p"}
- PUT /v2/auth/users/u {"user":"u"}
- PUT /v2/auth/users/u {"user":"u"}
- PUT /v2/auth/users/u {"user":"u","password":"q"}
- PUT /v2/auth/users/u {"user":"u","password":"q","roles":["s"]}
- PUT /v2/auth/users/u {"user":"v","password":"q"}
- PUT /v2/auth/users/u {"user":
- PUT /v2/auth/users/u {"user":"u","grant":["s","r"]}
- PUT /v2/auth/users/u {"user":"u","grant":["s"]}
- PUT /v2/auth/users/u {"user":"u","revoke":["none"]}
- PUT /v2/auth/users/u {"user":"u","roles":["s"],"grant":["t"]}
- PUT /v2/auth/users/u {"user":"u","revoke":["r"],"grant":["none"]}
- PUT /v2/auth/users/w {"user":"w","password":"p","roles":["s","r","nobody"]}
- PUT /v2/auth/users/x {"user":"x","password":"p","roles":[]}
- PUT /v2/auth/users/y {"user":"y","grant":["s"]}
- PUT /v2/auth/users/root {"user":"root","password":"p"}
- GET /v2/auth/users/u
- GET /v2/auth/users/w
- GET /v2/auth/users/x
- GET /v2/auth/users/root
- GET /v2/auth/users
- GET /v2/auth/users/
- GET /v2/keys
- DELETE /v2/auth/users/x
- DELETE /v2/auth/users/x
- DELETE /v2/auth/roles/r
- GET /v2/auth/users
- GET /v2/keys/?recursive=true
- GET /v2/keys/../2
- PUT /v2/auth/enable
- GET /v2/auth/roles
root:p GET /v2/auth/roles
root:p GET /v2/auth/enable
root:p PUT /v2/auth/enable
root:p DELETE /v2/auth/users/root
root:p DELETE /v2/auth/enable
root:p DELETE /v2/auth/enable
- DELETE /v2/auth/users/root
- PUT /v2/auth/enable
- GET /v2/keys
`)
}

// TestEveryCallAsEveryUser turns auth on and asks everything as everybody.
func TestEveryCallAsEveryUser(t *testing.T) {
	servers := pair(t)
	checkAs(t, servers, `
- PUT /v2/keys/open/a value=1
- PUT /v2/keys/foo value=1
- PUT /v2/keys/foo2 value=1
- PUT /v2/keys/dir/a/b value=1
- PUT /v2/keys/exact/a value=1
- PUT /v2/auth/roles/reader {"role":"reader","permissions":{"kv":{"read":["/foo*","/dir/*","/exact"]}}}
- PUT /v2/auth/roles/writer {"role":"writer","permissions":{"kv":{"write":["/foo*","/dir/*","/exact"]}}}
- PUT /v2/auth/roles/all {"role":"all","permissions":{"kv":{"read":["*"],"write":["/*"]}}}
- PUT /v2/auth/users/root {"user":"root","password":"rootpw"}
- PUT /v2/auth/users/other {"user":"other","password":"pw","roles":["root"]}
- PUT /v2/auth/users/r {"user":"r","password":"pw","roles":["reader"]}
- PUT /v2/auth/users/w {"user":"w","password":"pw","roles":["writer"]}
- PUT /v2/auth/users/rw {"user":"rw","password":"pw","roles":["reader","writer","none"]}
- PUT /v2/auth/users/all {"user":"all","password":"pw","roles":["all"]}
- PUT /v2/auth/users/nothing {"user":"nothing","password":"pw"}
- PUT /v2/auth/enable
`)
	// In the order asked: nothing here keeps a later line from being the same for all users. etcd lists in no order unless asked to.
	calls := []string{
		"GET /v2/keys?sorted=true", "GET /v2/keys/?sorted=true", "GET /v2/keys/?recursive=true&sorted=true", "HEAD /v2/keys/foo",
		"GET /v2/keys/foo", "GET /v2/keys/foo2?quorum=true", "GET /v2/keys/foo/", "GET /v2/keys/none",
		"GET /v2/keys/dir?sorted=true", "GET /v2/keys/dir/?sorted=true", "GET /v2/keys/dir?recursive=true&sorted=true", "GET /v2/keys/dir/a?recursive=true&sorted=true",
		"GET /v2/keys/exact?sorted=true", "GET /v2/keys/exact?recursive=true&sorted=true", "GET /v2/keys/exact/a", "GET /v2/keys/open/a",
		"GET /v2/keys/foo?wait=true&waitIndex=5", "GET /v2/keys/open?wait=true&recursive=true&waitIndex=4",
		"PUT /v2/keys/foo value=2", "PUT /v2/keys/foo3 value=2", "PUT /v2/keys/dir/c value=3", "PUT /v2/keys/dir dir=true",
		"PUT /v2/keys/open/b value=1", "PUT /v2/keys/foo ttl=x", "PUT /v2/keys/foo value=3&prevValue=2",
		"POST /v2/keys/dir/q value=1", "POST /v2/keys/open value=1", "POST /v2/keys/exact value=1",
		"DELETE /v2/keys/foo3", "DELETE /v2/keys/dir/c", "DELETE /v2/keys/dir/q?recursive=true",
		"DELETE /v2/keys/exact?recursive=true", "DELETE /v2/keys/open/b", "PATCH /v2/keys/foo",
		"GET /v2/machines", "GET /v2/members/zz", "DELETE /v2/members/zz", "PUT /v2/members/zz",
		`POST /v2/members {"peerURLs":[]}`, "GET /v2/stats/self?x", "GET /v2/stats/leader?x",
		"GET /v2/auth/enable", "GET /v2/auth/users", "GET /v2/auth/users/r", "GET /v2/auth/roles", "GET /v2/auth/roles/reader",
		"GET /v2/auth/roles/guest", "PUT /v2/auth/enable", "DELETE /v2/auth/users/root",
		`PUT /v2/auth/users/new {"user":"new","password":"pw"}`, "DELETE /v2/auth/users/new",
		`PUT /v2/auth/roles/new {"role":"new"}`, "DELETE /v2/auth/roles/new", "GET /v2/auth/users/a/b", "GET /v2/auth/x",
		"POST /v2/auth/users",
	}
	everybody := []string{
		"-", "root:rootpw", "root:wrong", "other:pw", "r:pw", "w:pw", "rw:pw", "all:pw", "nothing:pw", "nobody:pw", "Basic",
		"Bearer",
	}
	askAll := func(t *testing.T) {
		for _, user := range everybody {
			for _, call := range calls {
				if strings.HasPrefix(call, "GET /v2/stats/") {
					// What the pages say is no matter of rights.
					for _, server := range servers {
						if !strings.HasPrefix(ask(server, request{user: user, method: "GET", path: call[4:]}), "200\n") {
							t.Errorf("%s is refused %s", user, call)
						}
					}
					continue
				}
				checkAs(t, servers, user+" "+call)
			}
		}
	}
	t.Run("guests may do all with keys", askAll)
	checkAs(t, servers, `root:rootpw PUT /v2/auth/roles/guest {"role":"guest","revoke":{"kv":{"read":["/*"],"write":["/*"]}},"grant":{"kv":{"read":["/exact"]}}}`)
	// Checking a password takes etcd long: only those whose rights this changes, and one beside them.
	everybody = []string{"-", "r:pw", "nobody:pw"}
	t.Run("guests may do little", askAll)
	checkAs(t, servers, `
root:rootpw DELETE /v2/auth/roles/guest
- GET /v2/keys/foo
- GET /v2/auth/roles
r:pw GET /v2/keys/foo
root:rootpw PUT /v2/auth/users/r {"user":"r","revoke":["reader"]}
r:pw GET /v2/keys/foo
root:rootpw PUT /v2/auth/users/r {"user":"r","password":"changed"}
r:pw GET /v2/keys/foo
r:changed GET /v2/keys/foo
root:rootpw DELETE /v2/auth/users/w
w:pw PUT /v2/keys/foo value=1
root:rootpw DELETE /v2/auth/enable
- GET /v2/keys/foo
`)
}
