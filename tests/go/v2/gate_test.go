package v2

import (
	"context"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"quorate/tests/harness"
)

// TestV3AuthClosesV2 holds what etcd has not: while v3's auth is on and v2's is off, the v2 API is v3's root's alone.
func TestV3AuthClosesV2(t *testing.T) {
	server := harness.NewServer(t, harness.Programs(t).Server, "m0")
	server.Start("", "new")
	server.AwaitReady()
	awaitIndex(t, server)
	client := harness.Client(t, server)
	ctx, cancel := context.WithTimeout(context.Background(), harness.CallLimit)
	defer cancel()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(client.UserAdd(ctx, "root", "rootpw"))
	must(client.UserGrantRole(ctx, "root", "root"))
	must(client.RoleAdd(ctx, "all"))
	must(client.RoleGrantPermission(ctx, "all", "\x00", "\x00", clientv3.PermissionType(clientv3.PermReadWrite)))
	must(client.UserAdd(ctx, "user", "pw"))
	must(client.UserGrantRole(ctx, "user", "all"))
	expect := func(user, call, want string) {
		t.Helper()
		fields := append(strings.SplitN(call, " ", 3), "")
		answer := ask(server, request{user: user, method: fields[0], path: fields[1], form: fields[2]})
		if !strings.HasPrefix(answer, want+"\n") {
			t.Errorf("%s as %q: wanted %s, answered\n%s", call, user, want, answer)
		}
	}
	expect("", "PUT /v2/keys/a value=1", "201")
	must(client.AuthEnable(ctx))
	calls := []string{
		"GET /v2/keys/a", "GET /v2/keys/a?wait=true&waitIndex=4", "PUT /v2/keys/a value=2", "POST /v2/keys/q value=2",
		"DELETE /v2/keys/a", "GET /v2/machines", "GET /v2/members", "DELETE /v2/members/12", "GET /v2/stats/self",
		"GET /v2/stats/leader", "GET /v2/stats/store", "GET /v2/auth/users", "GET /v2/auth/enable", "PUT /v2/auth/enable",
		`PUT /v2/auth/users/root {"user":"root","password":"mine"}`,
	}
	for _, user := range []string{"", "root:wrong", "user:pw", "nobody:pw", "Basic", "Bearer x"} {
		for _, call := range calls {
			expect(user, call, "401")
		}
	}
	answer := ask(server, request{method: "GET", path: "/v2/keys/a"})
	if want := `{"errorCode":110,"message":"The request requires user authentication","cause":"Insufficient credentials","index":0}`; !strings.Contains(answer, want) {
		t.Errorf("wanted %s, answered\n%s", want, answer)
	}
	expect("root:rootpw", "GET /v2/keys/a", "200")
	expect("root:rootpw", "PUT /v2/keys/a value=3", "200")
	expect("root:rootpw", "GET /v2/members", "200")
	expect("root:rootpw", "GET /v2/stats/store", "200")
	expect("root:rootpw", `PUT /v2/auth/users/root {"user":"root","password":"v2pw"}`, "201")
	expect("root:rootpw", "PUT /v2/auth/enable", "200")
	// From here on v2's users have the say, as in etcd: guests may use keys, and v2's root the rest.
	expect("", "GET /v2/keys/a", "200")
	expect("root:rootpw", "GET /v2/keys/a", "401")
	expect("root:v2pw", "DELETE /v2/auth/enable", "200")
	expect("", "GET /v2/keys/a", "401")
	expect("root:v2pw", "GET /v2/keys/a", "401")
}
