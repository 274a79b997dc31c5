package tls

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	. "quorate/tests/harness"
)

// Through the JSON gateway, a certificate's name is nobody's: with auth on, such a request is refused rather than made
// without a name; a certificate without a name, and a token, are as good as anywhere.
func TestAClientsNameAtTheGateway(t *testing.T) {
	programs := Programs(t)
	authority := NewAuthority(t, "authority")
	named := authority.Issue("root", nil)
	nameless := authority.Issue("nameless", func(template *x509.Certificate) { template.Subject.CommonName = "" })
	asked := map[string][]string{}
	for _, binary := range []string{programs.Peer, programs.Server} {
		s := server(t, binary, authority, "--client-cert-auth", "--trusted-ca-file", authority.File, "--bcrypt-cost=4")
		s.TLS = authority.Trusting(named)
		s.Start("", "new")
		s.AwaitReady()
		say := func(name string, shown Certificate, method, path, body, token string) string {
			client := &http.Client{Timeout: CallLimit, Transport: &http.Transport{TLSClientConfig: authority.Trusting(shown), DisableKeepAlives: true}}
			request, err := http.NewRequest(method, s.ClientURL+path, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			// Without one, etcd takes the name in its own certificate for the caller.
			request.Header.Set("Accept", "*/*")
			if token != "" {
				request.Header.Set("Authorization", token)
			}
			reply, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer reply.Body.Close()
			text, err := io.ReadAll(reply.Body)
			if err != nil {
				t.Fatal(err)
			}
			line := fmt.Sprint(name, " ", method, " ", path, ": ", reply.Status, " ", strings.Contains(string(text), `"header"`))
			if reply.StatusCode != http.StatusOK {
				line += " " + strings.ReplaceAll(string(text), `, "`, `,"`)
			}
			asked[binary] = append(asked[binary], line)
			return string(text)
		}
		askAll := func(when, token string) {
			for name, shown := range map[string]Certificate{"named": named, "nameless": nameless} {
				for _, path := range []string{"/v3/kv/range", "/v3beta/kv/range", "/v3/lease/leases", "/v3/nosuch"} {
					say(when+" "+name, shown, "POST", path, `{"key":"YQ=="}`, token)
				}
				for _, path := range []string{"/v3/kv/range", "/health", "/version", "/v3"} {
					say(when+" "+name, shown, "GET", path, "", token)
				}
			}
		}
		askAll("auth off,", "")
		conn, err := grpc.NewClient(s.Endpoint(), grpc.WithTransportCredentials(credentials.NewTLS(s.TLS)))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		auth := pb.NewAuthClient(conn)
		for _, step := range []func(context.Context) error{
			func(ctx context.Context) error {
				_, err := auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: "root", Password: "p"})
				return err
			},
			func(ctx context.Context) error {
				_, err := auth.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"})
				return err
			},
			func(ctx context.Context) error {
				_, err := auth.AuthEnable(ctx, &pb.AuthEnableRequest{})
				return err
			},
			// Over gRPC the same certificate is root.
			func(ctx context.Context) error {
				_, err := pb.NewKVClient(conn).Put(ctx, &pb.PutRequest{Key: []byte("a")})
				return err
			},
		} {
			if err := step(within(t)); err != nil {
				t.Fatal(binary, err)
			}
		}
		askAll("auth on,", "")
		_, rest, found := strings.Cut(say("log-in", nameless, "POST", "/v3/auth/authenticate", `{"name":"root","password":"p"}`, ""), `"token":"`)
		if !found {
			t.Fatal(binary, "no token")
		}
		token, _, _ := strings.Cut(rest, `"`)
		askAll("with a token,", token)
	}
	ours := strings.Join(sorted(asked[programs.Server]), "\n")
	if expected := strings.Join(sorted(asked[programs.Peer]), "\n"); ours != expected {
		t.Errorf("etcd:\n%s\nours:\n%s", expected, ours)
	}
}

func sorted(lines []string) []string {
	slices.Sort(lines)
	return lines
}
