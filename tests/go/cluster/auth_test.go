package cluster

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	. "quorate/tests/harness"
)

// password is long and odd enough to be found wherever it should not be.
const password = "pass-w0rd-nobody-else-has"

// users makes root, and a and b with a role each on "a/" and "b/", and turns auth on.
func users(t *testing.T, s *Server) {
	t.Helper()
	client := Client(t, s)
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"root", "a", "b"} {
		must(client.UserAdd(within(t), name, password))
		must(client.RoleAdd(within(t), name))
		must(client.UserGrantRole(within(t), name, name))
	}
	for _, name := range []string{"a", "b"} {
		must(client.RoleGrantPermission(within(t), name, name+"/", name+"0", clientv3.PermissionType(clientv3.PermReadWrite)))
	}
	must(client.AuthEnable(within(t)))
}

// as is a client that logs in by itself.
func as(t *testing.T, name, secret string, members ...*Server) *clientv3.Client {
	t.Helper()
	var endpoints []string
	for _, member := range members {
		endpoints = append(endpoints, member.ClientURL)
	}
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, DialTimeout: 5 * time.Second, Username: name, Password: secret})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// token logs in by hand.
func token(t *testing.T, s *Server, name, secret string) string {
	t.Helper()
	reply, err := pb.NewAuthClient(s.Conn()).Authenticate(within(t), &pb.AuthenticateRequest{Name: name, Password: secret})
	if err != nil {
		t.Fatal(err)
	}
	return reply.Token
}

// put writes with a token: no client refreshes it.
func put(t *testing.T, s *Server, token, key string) error {
	ctx := metadata.AppendToOutgoingContext(within(t), rpctypes.TokenFieldNameGRPC, token)
	_, err := pb.NewKVClient(s.Conn()).Put(ctx, &pb.PutRequest{Key: []byte(key), Value: []byte("v")})
	return err
}

// A token is good at every member, also at one that was restarted since, and at all of them after all were.
func TestTokensAreGoodAtEveryMember(t *testing.T) {
	c := start(t, "--bcrypt-cost", "4")
	users(t, c.Members[0])
	for i, s := range c.Members {
		secret := token(t, s, "a", password)
		for _, other := range c.Members {
			if err := put(t, other, secret, fmt.Sprint("a/", i)); err != nil {
				t.Errorf("the token of %s at %s: %v", s.Name, other.Name, err)
			}
		}
	}
	secret := token(t, c.Members[0], "a", password)
	for _, s := range c.Members {
		s.Kill()
		s.CloseConn()
	}
	c.StartAll()
	c.AwaitReady()
	for _, s := range c.Members {
		if err := put(t, s, secret, "a/after"); err != nil {
			t.Errorf("after the restart, at %s: %v", s.Name, err)
		}
	}
}

// What becomes of one user is nothing to the others; what becomes of a user ends its own tokens at once, everywhere.
func TestAUsersChangeIsItsOwn(t *testing.T) {
	c := start(t, "--bcrypt-cost", "4")
	users(t, c.Members[0])
	a, b := token(t, c.Members[1], "a", password), token(t, c.Members[2], "b", password)
	root := as(t, "root", password, c.Members[0])
	if _, err := root.UserChangePassword(within(t), "b", "new"); err != nil {
		t.Fatal(err)
	}
	if _, err := root.UserAdd(within(t), "c", password); err != nil {
		t.Fatal(err)
	}
	for _, s := range c.Members {
		if err := put(t, s, a, "a/1"); err != nil {
			t.Errorf("the untouched user at %s: %v", s.Name, err)
		}
		// A member may not have heard of the change yet.
		Eventually(t, ReadyLimit, "the old token's end at "+s.Name, func() error {
			if err := rpctypes.Error(put(t, s, b, "b/1")); err != rpctypes.ErrInvalidAuthToken {
				return Wanted("%v", err)
			}
			return nil
		})
	}
	if err := put(t, c.Members[0], token(t, c.Members[1], "b", "new"), "b/1"); err != nil {
		t.Errorf("with the new password: %v", err)
	}
	// The role goes: the token stays, and permits nothing.
	if _, err := root.UserRevokeRole(within(t), "a", "a"); err != nil {
		t.Fatal(err)
	}
	if err := rpctypes.Error(put(t, c.Members[0], a, "a/1")); err != rpctypes.ErrPermissionDenied {
		t.Errorf("without the role: %v", err)
	}
	if _, err := root.UserDelete(within(t), "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := root.UserAdd(within(t), "a", password); err != nil {
		t.Fatal(err)
	}
	if err := rpctypes.Error(put(t, c.Members[0], a, "a/1")); err != rpctypes.ErrInvalidAuthToken {
		t.Errorf("the token of another user of the same name: %v", err)
	}
}

// A watcher whose user loses its right is told so, and sees nothing that was written since.
func TestALostRightEndsWatchers(t *testing.T) {
	s := Single(t, Programs(t).Server, "--bcrypt-cost", "4")
	users(t, s)
	root, client := as(t, "root", password, s), as(t, "a", password, s)
	other := as(t, "b", password, s)
	watch, kept := client.Watch(t.Context(), "a/", clientv3.WithPrefix()), other.Watch(t.Context(), "b/", clientv3.WithPrefix())
	write := func(key string) {
		t.Helper()
		if _, err := root.Put(within(t), key, "v"); err != nil {
			t.Fatal(err)
		}
	}
	write("a/before")
	if response := <-watch; len(response.Events) != 1 || string(response.Events[0].Kv.Key) != "a/before" {
		t.Fatalf("%v", response)
	}
	if _, err := root.RoleRevokePermission(within(t), "a", "a/", "a0"); err != nil {
		t.Fatal(err)
	}
	write("a/after")
	write("b/after")
	for response := range watch {
		for _, event := range response.Events {
			t.Errorf("seen without the right: %s", event.Kv.Key)
		}
		if response.Canceled && response.Err() != nil && !strings.Contains(response.Err().Error(), "permission denied") {
			t.Errorf("the reason: %v", response.Err())
		}
	}
	if response := <-kept; len(response.Events) != 1 {
		t.Errorf("the other's watcher: %v", response)
	}
}

// jwt writes an Ed25519 key pair and gives the flag's value.
func jwt(t *testing.T, ttl string) string {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, kind string, der []byte, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	publicDER, err := x509.MarshalPKIXPublicKey(public)
	publicFile := write("public.pem", "PUBLIC KEY", publicDER, err)
	privateDER, err := x509.MarshalPKCS8PrivateKey(private)
	privateFile := write("private.pem", "PRIVATE KEY", privateDER, err)
	return "jwt,pub-key=" + publicFile + ",priv-key=" + privateFile + ",sign-method=EdDSA,ttl=" + ttl
}

// A client goes on when its token ran out, and when the server was restarted; a change of others does not touch it.
func TestClientsRefreshTheirTokens(t *testing.T) {
	s := Single(t, Programs(t).Server, "--bcrypt-cost", "4", "--auth-token", jwt(t, "1s"))
	users(t, s)
	client := as(t, "a", password, s)
	if _, err := client.Put(within(t), "a/1", "v"); err != nil {
		t.Fatal(err)
	}
	old := token(t, s, "a", password)
	if _, err := as(t, "root", password, s).UserAdd(within(t), "c", password); err != nil {
		t.Fatal(err)
	}
	Eventually(t, ReadyLimit, "the token's end", func() error {
		switch err := rpctypes.Error(put(t, s, old, "a/1")); err {
		case rpctypes.ErrInvalidAuthToken:
			return nil
		case nil:
			return Wanted("it is still good")
		default:
			t.Errorf("before its end: %v", err)
			return nil
		}
	})
	if _, err := client.Put(within(t), "a/2", "v"); err != nil {
		t.Errorf("after the token ran out: %v", err)
	}
	s.Kill()
	s.CloseConn()
	s.Start("", "new")
	s.AwaitReady()
	if _, err := client.Put(within(t), "a/3", "v"); err != nil {
		t.Errorf("after the restart: %v", err)
	}
	lease, err := client.Grant(within(t), 100)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.KeepAliveOnce(within(t), lease.ID); err != nil {
		t.Errorf("keep alive: %v", err)
	}
}

// With simple tokens, too, a client outlives the server's restart, and a change of its password only with the new one.
func TestClientsOutliveARestart(t *testing.T) {
	s := Single(t, Programs(t).Server, "--bcrypt-cost", "4")
	users(t, s)
	client := as(t, "a", password, s)
	if _, err := client.Put(within(t), "a/1", "v"); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	s.CloseConn()
	s.Start("", "new")
	s.AwaitReady()
	if _, err := client.Put(within(t), "a/2", "v"); err != nil {
		t.Errorf("after the restart: %v", err)
	}
	if _, err := as(t, "root", password, s).UserChangePassword(within(t), "a", "new"); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Put(within(t), "a/3", "v"); err == nil {
		t.Error("the old password still serves")
	}
	if _, err := as(t, "a", "new", s).Put(within(t), "a/4", "v"); err != nil {
		t.Errorf("with the new password: %v", err)
	}
}

// Neither the log, at its most talkative, nor the data folder shows a password or a token; the log shows no value either.
func TestSecretsStaySecret(t *testing.T) {
	const value = "value-nobody-else-has"
	s := Single(t, Programs(t).Server, "--bcrypt-cost", "4", "--log-level", "debug")
	users(t, s)
	secret := token(t, s, "a", password)
	if err := put(t, s, secret, "a/1"); err != nil {
		t.Fatal(err)
	}
	client := as(t, "a", password, s)
	if _, err := client.Put(within(t), "a/2", value); err != nil {
		t.Fatal(err)
	}
	if _, err := client.UserChangePassword(within(t), "a", password+"2"); err == nil {
		t.Error("a user changed its password without being root")
	}
	if _, err := as(t, "root", password, s).UserChangePassword(within(t), "a", password+"3"); err != nil {
		t.Fatal(err)
	}
	if err := put(t, s, secret, "a/1"); rpctypes.Error(err) != rpctypes.ErrInvalidAuthToken {
		t.Errorf("the old token: %v", err)
	}
	ctx := metadata.AppendToOutgoingContext(within(t), rpctypes.TokenFieldNameGRPC, "token-nobody-else-has")
	if _, err := pb.NewKVClient(s.Conn()).Range(ctx, &pb.RangeRequest{Key: []byte("a/1")}); err == nil {
		t.Error("a wrong token was let through")
	}
	if _, err := pb.NewAuthClient(s.Conn()).Authenticate(within(t), &pb.AuthenticateRequest{Name: "a", Password: "wrong-" + password}); err == nil {
		t.Error("a wrong password was let through")
	}
	s.Kill()
	for what, text := range map[string]string{"password": password, "token": secret, "token's seal": secret[strings.IndexByte(secret, '.')+1:], "wrong token": "token-nobody-else-has", "value": value} {
		if strings.Contains(s.LogText(), text) {
			t.Errorf("the log shows the %s", what)
		}
		if what == "value" {
			continue
		}
		err := filepath.WalkDir(s.DataDir, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			content, err := os.ReadFile(path)
			if strings.Contains(string(content), text) {
				t.Errorf("%s shows the %s", path, what)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}

// Keys that do not fit stop the start, and name their flag's trouble.
func TestBadTokenSettingsStopTheStart(t *testing.T) {
	for _, setting := range []string{"jwt,sign-method=RS256,priv-key=/nonexistent", "jwt,sign-method=RS256", "jwt,sign-method=nonsense", "nonsense"} {
		s := NewServer(t, Programs(t).Server, "m0", "--auth-token", setting)
		s.Start("", "new")
		if code := s.AwaitExit(ReadyLimit); code != 1 {
			t.Errorf("%s: exit %d", setting, code)
		}
		if !strings.Contains(s.LogText(), "auth: ") {
			t.Errorf("%s: %s", setting, s.LogText())
		}
	}
}

// A flood of log-ins is bounded: whoever does not fit is refused and may come again, and the others are served meanwhile.
func TestLogInsAreBounded(t *testing.T) {
	s := Single(t, Programs(t).Server, "--bcrypt-cost", "12")
	client := Client(t, s)
	for _, name := range []string{"root"} {
		if _, err := client.UserAdd(within(t), name, password); err != nil {
			t.Fatal(err)
		}
		if _, err := client.UserGrantRole(within(t), name, "root"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.AuthEnable(within(t)); err != nil {
		t.Fatal(err)
	}
	secret := token(t, s, "root", password)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	answers := make(chan error, 1_300)
	for i := range cap(answers) {
		go func() {
			_, err := pb.NewAuthClient(s.Conn()).Authenticate(ctx, &pb.AuthenticateRequest{Name: fmt.Sprint("nobody", i), Password: "p"})
			answers <- rpctypes.Error(err)
		}()
	}
	// The first refusals come at once: the queue is full.
	for err := range answers {
		if err == rpctypes.ErrTooManyRequests {
			break
		}
		if err != rpctypes.ErrAuthFailed {
			t.Fatalf("a log-in: %v", err)
		}
	}
	if err := put(t, s, secret, "k"); err != nil {
		t.Errorf("a write beside the flood: %v", err)
	}
}

// All clients of one user come at once, as after a restart, and stay: nobody is thrown back, and every token goes on being
// good for longer than it would unused.
func TestTenThousandClientsOfOneUser(t *testing.T) {
	const clients, ttl = 10_000, 20 * time.Second
	s := Single(t, Programs(t).Server, "--bcrypt-cost", "10", "--auth-token-ttl", fmt.Sprint(int(ttl/time.Second)))
	users(t, s)
	connections := make([]*grpc.ClientConn, 50)
	for i := range connections {
		connection, err := grpc.NewClient(s.Endpoint(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer connection.Close()
		connections[i] = connection
	}
	each := func(what string, ask func(number int, connection *grpc.ClientConn) error) {
		t.Helper()
		failed := make(chan error, clients)
		var wait sync.WaitGroup
		for number := range clients {
			wait.Go(func() {
				if err := ask(number, connections[number%len(connections)]); err != nil {
					failed <- err
				}
			})
		}
		wait.Wait()
		if len(failed) > 0 {
			t.Fatalf("%s: %d of %d clients: %v", what, len(failed), clients, <-failed)
		}
	}
	tokens := make([]string, clients)
	began := time.Now()
	each("log-in", func(number int, connection *grpc.ClientConn) error {
		reply, err := pb.NewAuthClient(connection).Authenticate(within(t), &pb.AuthenticateRequest{Name: "a", Password: password})
		if err == nil {
			tokens[number] = reply.Token
		}
		return err
	})
	// Every token is used again and again, until each has lived for longer than it would have unused.
	for rounds := 0; time.Since(began) < ttl+5*time.Second || rounds == 0; rounds++ {
		each("use", func(number int, connection *grpc.ClientConn) error {
			ctx := metadata.AppendToOutgoingContext(within(t), rpctypes.TokenFieldNameGRPC, tokens[number])
			_, err := pb.NewKVClient(connection).Range(ctx, &pb.RangeRequest{Key: []byte("a/1")})
			return err
		})
	}
}
