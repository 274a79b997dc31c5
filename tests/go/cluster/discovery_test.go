package cluster

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	. "quorate/tests/harness"
)

// place makes a discovery URL for so many members at a store with the v2 API.
func place(t *testing.T, service *Server, token, size string) string {
	t.Helper()
	at := service.ClientURL + "/v2/keys/discovery/" + token
	request, err := http.NewRequest(http.MethodPut, at+"/_config/size", strings.NewReader(url.Values{"value": {size}}.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	reply, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	reply.Body.Close()
	if reply.StatusCode != http.StatusCreated {
		t.Fatalf("the size is answered with %s", reply.Status)
	}
	return at
}

// Members that know nothing of each other but one URL of the v2 API, which another Quorate serves, become a cluster.
func TestDiscoveryByAService(t *testing.T) {
	service := Single(t, Programs(t).Server)
	at := place(t, service, "three", "3")
	member := func(name string, flags ...string) *Server {
		s := NewServer(t, Programs(t).Server, name, append([]string{"--discovery", at}, flags...)...)
		s.NoCluster = true
		return s
	}
	c := ClusterOf(t)
	for n := range 3 {
		c.Members = append(c.Members, member(fmt.Sprint("d", n)))
	}
	// The size is not there yet for one that is mistyped.
	stray := NewServer(t, Programs(t).Server, "stray", "--discovery", service.ClientURL+"/v2/keys/discovery/nosuch")
	stray.NoCluster = true
	stray.Start("", "new")
	if code := stray.AwaitExit(ReadyLimit); code != 1 || !strings.Contains(stray.LogText(), "discovery: size key not found") {
		t.Errorf("without a size it ended with %d", code)
	}
	for _, s := range c.Members {
		s.Start("", "new")
	}
	c.AwaitReady()
	client := Client(t, c.Members...)
	if _, err := client.Put(within(t), "k", "v"); err != nil {
		t.Fatal(err)
	}
	list, err := client.MemberList(within(t))
	if err != nil || len(list.Members) != 3 {
		t.Fatalf("%v, %v", list, err)
	}
	late := member("late")
	late.Start("", "new")
	if code := late.AwaitExit(ReadyLimit); code != 1 || !strings.Contains(late.LogText(), "discovery: cluster is full") {
		t.Errorf("a fourth one ended with %d", code)
	}
	// With data nobody asks any more.
	service.Kill()
	again := c.Followers()[0]
	again.Kill()
	again.CloseConn()
	again.Start("", "new")
	again.AwaitReady()
	equal(t, c)
}

// What cannot become a cluster is said: two members of one name, proxies, two ways at once, a wrong size.
func TestDiscoveryThatCannotBe(t *testing.T) {
	service := Single(t, Programs(t).Server)
	twins := place(t, service, "twins", "2")
	for _, wrong := range []struct {
		said  string
		names []string
		flags []string
	}{
		{"discovery: found duplicate name", []string{"twin", "twin"}, []string{"--discovery", twins}},
		{"discovery: size key is bad", []string{"a"}, []string{"--discovery", place(t, service, "bad", "many")}},
		{"v2 proxy is deprecated", []string{"a"}, []string{"--discovery", twins, "--discovery-fallback", "proxy"}},
		{"multiple discovery or bootstrap flags are set", []string{"a"}, []string{"--discovery", twins, "--initial-cluster", "a=http://127.0.0.1:1"}},
		{"is no URL of the form", []string{"a"}, []string{"--discovery", "nonsense"}},
	} {
		var members []*Server
		for _, name := range wrong.names {
			s := NewServer(t, Programs(t).Server, name, wrong.flags...)
			s.NoCluster = true
			s.Start("", "new")
			members = append(members, s)
		}
		for _, s := range members {
			if code := s.AwaitExit(ReadyLimit); code != 1 || !strings.Contains(s.LogText(), wrong.said) {
				t.Errorf("%v: ended with %d and says nothing of %q", wrong.flags, code, wrong.said)
			}
		}
	}
}
