package v2

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/client/v2"

	"quorate/tests/harness"
)

// transcript notes what a client got of one server, without what differs between two.
type transcript struct {
	strings.Builder
	names *strings.Replacer
}

var moment = regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[0-9.]* \+0000 UTC`)

func (n *transcript) note(what string, values ...any) {
	fmt.Fprint(n, what)
	for _, value := range values {
		shown := fmt.Sprint(value)
		switch value := value.(type) {
		case nil:
			continue
		case *client.Response:
			if value == nil {
				continue
			}
			shown = fmt.Sprintf("%s %s before %s at %d in %v", value.Action, node(value.Node), node(value.PrevNode), value.Index,
				value.ClusterID != "")
		case *client.ClusterError:
			shown = value.Detail()
		}
		fmt.Fprintf(n, "; %s", moment.ReplaceAllString(n.names.Replace(shown), "MOMENT"))
	}
	fmt.Fprintln(n)
}

func node(n *client.Node) string {
	if n == nil {
		return "nothing"
	}
	children := make([]string, len(n.Nodes))
	for i, child := range n.Nodes {
		children[i] = node(child)
	}
	return fmt.Sprintf("{%s dir %v %q made %d changed %d dies %v in %v s: %s}", n.Key, n.Dir, n.Value, n.CreatedIndex,
		n.ModifiedIndex, n.Expiration != nil, n.TTL > 0, strings.Join(children, " "))
}

// TestGoClient calls everything that the Go client of v2 can, at etcd 3.4 and at us.
func TestGoClient(t *testing.T) {
	servers := pair(t)
	var told [2]string
	for i, server := range servers {
		own := ids(t, server)[server.PeerURL]
		n := &transcript{names: strings.NewReplacer(own, "ID", server.ClientURL, "CLIENT", server.PeerURL, "PEER")}
		drive(t, server, own, n)
		told[i] = n.String()
	}
	if told[0] != told[1] {
		want, got := strings.Split(told[0], "\n"), strings.Split(told[1], "\n")
		for i := range want {
			if i >= len(got) || want[i] != got[i] {
				t.Errorf("etcd: %s\nours: %s", want[i], strings.Join(got[min(i, len(got)):min(i+1, len(got))], ""))
			}
		}
	}
}

func connect(t *testing.T, server *harness.Server, user, password string) client.Client {
	c, err := client.New(client.Config{
		Endpoints: []string{server.ClientURL}, Username: user, Password: password, HeaderTimeoutPerRequest: harness.CallLimit,
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func drive(t *testing.T, server *harness.Server, own string, n *transcript) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	c := connect(t, server, "", "")
	n.note("sync", c.Sync(ctx), c.Endpoints())
	_, err := c.GetVersion(ctx)
	n.note("version", err)
	keys := client.NewKeysAPI(c)
	set := func(key, value string, options *client.SetOptions) {
		reply, err := keys.Set(ctx, key, value, options)
		n.note("set "+key, reply, err)
	}
	get := func(key string, options *client.GetOptions) {
		reply, err := keys.Get(ctx, key, options)
		n.note("get "+key, reply, err)
	}
	set("/a", "1", nil)
	set("/a", "2", &client.SetOptions{PrevValue: "1"})
	set("/a", "2", &client.SetOptions{PrevValue: "1"})
	set("/a", "3", &client.SetOptions{PrevIndex: 5, PrevValue: "2"})
	set("/a", "3", &client.SetOptions{PrevIndex: 1})
	set("/a", "4", &client.SetOptions{PrevExist: client.PrevNoExist})
	set("/b", "4", &client.SetOptions{PrevExist: client.PrevExist})
	set("/b", "4", &client.SetOptions{PrevExist: client.PrevNoExist, TTL: 100 * time.Second})
	set("/b", "", &client.SetOptions{PrevExist: client.PrevExist, TTL: 200 * time.Second, Refresh: true})
	set("/b", "5", &client.SetOptions{Refresh: true, TTL: time.Second})
	set("/b", "6", &client.SetOptions{NoValueOnSuccess: true})
	set("/d", "", &client.SetOptions{Dir: true})
	set("/d", "x", nil)
	set("/d/e/f", "\u2028<&>\"", nil)
	set("/", "x", nil)
	reply, err := keys.Create(ctx, "/created", "x")
	n.note("create", reply, err)
	reply, err = keys.Create(ctx, "/created", "x")
	n.note("create again", reply, err)
	reply, err = keys.Update(ctx, "/created", "y")
	n.note("update", reply, err)
	reply, err = keys.Update(ctx, "/none", "y")
	n.note("update nothing", reply, err)
	reply, err = keys.CreateInOrder(ctx, "/queue", "x", &client.CreateInOrderOptions{TTL: 100 * time.Second})
	n.note("in order", reply, err)
	reply, err = keys.CreateInOrder(ctx, "/a", "x", nil)
	n.note("in order in a file", reply, err)
	get("/", &client.GetOptions{Recursive: true, Sort: true})
	get("/d", &client.GetOptions{Quorum: true})
	get("/none", nil)
	get("/a/b", nil)
	history := keys.Watcher("/", &client.WatcherOptions{AfterIndex: 3, Recursive: true})
	for range 8 {
		reply, err = history.Next(ctx)
		n.note("history", reply, err)
	}
	coming := make(chan struct{})
	waiting := keys.Watcher("/d", &client.WatcherOptions{Recursive: true})
	var came *client.Response
	var failed error
	go func() {
		defer close(coming)
		came, failed = waiting.Next(ctx)
	}()
	for sent := false; !sent; {
		// The same change until the watcher, which does not say when it began, has seen one.
		if _, err := keys.Set(ctx, "/d/w", "w", nil); err != nil {
			t.Fatal(err)
		}
		select {
		case <-coming:
			sent = true
		case <-time.After(20 * time.Millisecond):
		}
	}
	n.note("came", failed, came != nil && came.Node.Key == "/d/w" && came.Node.Value == "w")
	for range 1100 {
		if _, err := keys.Set(ctx, "/filler", "", &client.SetOptions{NoValueOnSuccess: true}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = keys.Watcher("/a", &client.WatcherOptions{AfterIndex: 3}).Next(ctx)
	n.note("outdated", strings.SplitN(fmt.Sprint(err), " [", 2)[0])
	for _, key := range []string{"/filler", "/d/w"} {
		if _, err := keys.Delete(ctx, key, nil); err != nil {
			t.Fatal(err)
		}
	}
	// The index that the changes above came to differs from run to run.
	count := func(what string, err error) { n.note(what, strings.SplitN(fmt.Sprint(err), " [", 2)[0]) }
	_, err = keys.Delete(ctx, "/d", nil)
	count("delete a directory", err)
	_, err = keys.Delete(ctx, "/d", &client.DeleteOptions{Dir: true})
	count("delete a full directory", err)
	_, err = keys.Delete(ctx, "/d", &client.DeleteOptions{Recursive: true})
	count("delete all", err)
	_, err = keys.Delete(ctx, "/a", &client.DeleteOptions{PrevValue: "x"})
	count("delete another", err)
	_, err = keys.Delete(ctx, "/a", &client.DeleteOptions{PrevValue: "3"})
	count("delete this", err)

	members := client.NewMembersAPI(c)
	list, err := members.List(ctx)
	n.note("members", list, err)
	leader, err := members.Leader(ctx)
	n.note("leader", leader, err)
	_, err = members.Add(ctx, server.PeerURL)
	n.note("add a member twice", err)
	n.note("remove nobody", members.Remove(ctx, "12"))
	n.note("update nobody", members.Update(ctx, "12", []string{"http://127.0.0.1:7"}))
	n.note("update", members.Update(ctx, own, []string{server.PeerURL}))

	users, roles, auth := client.NewAuthUserAPI(c), client.NewAuthRoleAPI(c), client.NewAuthAPI(c)
	n.note("disable", auth.Disable(ctx))
	n.note("enable", auth.Enable(ctx))
	n.note("add role", roles.AddRole(ctx, "r"), roles.AddRole(ctx, "r"))
	for _, kind := range []client.PermissionType{client.ReadPermission, client.WritePermission, client.ReadWritePermission} {
		role, err := roles.GrantRoleKV(ctx, "r", []string{fmt.Sprintf("/r%d/*", kind)}, kind)
		n.note("grant", role, err)
	}
	role, err := roles.RevokeRoleKV(ctx, "r", []string{"/r0/*"}, client.ReadPermission)
	n.note("revoke", role, err)
	role, err = roles.GetRole(ctx, "r")
	n.note("role", role, err)
	_, err = roles.GetRole(ctx, "none")
	n.note("no role", err)
	names, err := roles.ListRoles(ctx)
	n.note("roles", names, err)
	n.note("add user", users.AddUser(ctx, "u", "pw"), users.AddUser(ctx, "u", ""), users.AddUser(ctx, "root", "rootpw"))
	user, err := users.GrantUser(ctx, "u", []string{"r", "none"})
	n.note("grant", user, err)
	user, err = users.RevokeUser(ctx, "u", []string{"none"})
	n.note("revoke", user, err)
	user, err = users.ChangePassword(ctx, "u", "new")
	n.note("password", user, err)
	user, err = users.GetUser(ctx, "u")
	n.note("user", user, err)
	_, err = users.GetUser(ctx, "none")
	n.note("no user", err)
	names, err = users.ListUsers(ctx)
	n.note("users", names, err)
	n.note("enable", auth.Enable(ctx), auth.Enable(ctx))
	for _, who := range [][2]string{{"", ""}, {"u", "pw"}, {"u", "new"}, {"root", "rootpw"}} {
		c := connect(t, server, who[0], who[1])
		_, err := client.NewKeysAPI(c).Set(ctx, "/r1/x", "1", nil)
		count("write as "+who[0], err)
		_, err = client.NewKeysAPI(c).Get(ctx, "/r1/none", nil)
		count("read as "+who[0], err)
		_, err = client.NewAuthUserAPI(c).ListUsers(ctx)
		n.note("list as "+who[0], err)
	}
	root := connect(t, server, "root", "rootpw")
	n.note("remove root", client.NewAuthUserAPI(root).RemoveUser(ctx, "root"))
	n.note("disable", client.NewAuthAPI(root).Disable(ctx))
	n.note("remove", users.RemoveUser(ctx, "u"), users.RemoveUser(ctx, "u"), roles.RemoveRole(ctx, "r"), roles.RemoveRole(ctx, "r"))
	n.note("end")
}
