package conformance

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"go.etcd.io/etcd/api/v3/authpb"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/metadata"

	. "quorate/tests/harness"
)

// tokenKey is a key with its files.
type tokenKey struct {
	private         any
	privFile, pubIn string
}

func newTokenKey(t *testing.T, private, public any) tokenKey {
	folder := t.TempDir()
	write := func(name, kind string, der []byte, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key := tokenKey{private: private}
	der, err := x509.MarshalPKIXPublicKey(public)
	key.pubIn = write("public.pem", "PUBLIC KEY", der, err)
	switch private := private.(type) {
	case *ecdsa.PrivateKey:
		der, err = x509.MarshalECPrivateKey(private)
		key.privFile = write("private.pem", "EC PRIVATE KEY", der, err)
	case *rsa.PrivateKey:
		key.privFile = write("private.pem", "RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(private), nil)
	default:
		der, err = x509.MarshalPKCS8PrivateKey(private)
		key.privFile = write("private.pem", "PRIVATE KEY", der, err)
	}
	return key
}

// enableAuth makes root, and a user "a" with a role on "a", and turns auth on.
func enableAuth(t *testing.T, s *Side) {
	for _, step := range []func(context.Context) error{
		func(ctx context.Context) error {
			_, err := s.Auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: "root", Password: "p"})
			return err
		},
		func(ctx context.Context) error {
			_, err := s.Auth.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"})
			return err
		},
		func(ctx context.Context) error {
			_, err := s.Auth.UserAdd(ctx, &pb.AuthUserAddRequest{Name: "a", Password: "p"})
			return err
		},
		func(ctx context.Context) error {
			_, err := s.Auth.RoleAdd(ctx, &pb.AuthRoleAddRequest{Name: "a"})
			return err
		},
		func(ctx context.Context) error {
			_, err := s.Auth.RoleGrantPermission(ctx, &pb.AuthRoleGrantPermissionRequest{Name: "a", Perm: &authpb.Permission{PermType: authpb.READWRITE, Key: []byte("a")}})
			return err
		},
		func(ctx context.Context) error {
			_, err := s.Auth.UserGrantRole(ctx, &pb.AuthUserGrantRoleRequest{User: "a", Role: "a"})
			return err
		},
		func(ctx context.Context) error {
			_, err := s.Auth.AuthEnable(ctx, &pb.AuthEnableRequest{})
			return err
		},
	} {
		ctx, cancel := s.Context()
		Must(t, step(ctx))
		cancel()
	}
}

// use notes what a token is good for.
func use(s *Side, name, token string) {
	for _, key := range []string{"a", "b"} {
		ctx, cancel := s.Context()
		ctx = metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, token)
		_, err := s.KV.Put(ctx, put(key, "1"))
		s.Note(name+": put "+key, errorText(err))
		_, err = s.KV.Range(ctx, get(key))
		s.Note(name+": get "+key, errorText(err))
		cancel()
	}
}

// Tokens that are signed here: both servers take the same ones.
func TestSignedTokens(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []struct {
		method, other jwt.SigningMethod
		key           tokenKey
	}{
		{jwt.SigningMethodRS256, jwt.SigningMethodRS384, newTokenKey(t, rsaKey, rsaKey.Public())},
		{jwt.SigningMethodPS512, jwt.SigningMethodRS512, newTokenKey(t, rsaKey, rsaKey.Public())},
		{jwt.SigningMethodES256, nil, newTokenKey(t, ecKey, ecKey.Public())},
		{jwt.SigningMethodEdDSA, nil, newTokenKey(t, edKey, public)},
	} {
		t.Run(kind.method.Alg(), func(t *testing.T) {
			setting := "--auth-token=jwt,sign-method=" + kind.method.Alg() + ",pub-key=" + kind.key.pubIn
			signing := NewPair(t, "--bcrypt-cost=4", setting+",priv-key="+kind.key.privFile+",ttl=3s")
			verifying := NewPair(t, "--bcrypt-cost=4", setting)
			signing.Both(t, enableAuthNoted)
			verifying.Both(t, enableAuthNoted)
			sign := func(method jwt.SigningMethod, key any, claims jwt.MapClaims) string {
				token, err := jwt.NewWithClaims(method, claims).SignedString(key)
				if err != nil {
					t.Fatal(err)
				}
				return token
			}
			now := time.Now().Unix()
			good := func(changes ...any) jwt.MapClaims {
				claims := jwt.MapClaims{"username": "a", "revision": 7, "exp": now + 3600}
				for i := 0; i < len(changes); i += 2 {
					if changes[i+1] == nil {
						delete(claims, changes[i].(string))
					} else {
						claims[changes[i].(string)] = changes[i+1]
					}
				}
				return claims
			}
			tokens := map[string]string{}
			for name, claims := range map[string]jwt.MapClaims{
				"good": good(), "root": good("username", "root"), "nobody": good("username", "nobody"), "no name": good("username", nil),
				"empty name": good("username", ""), "name is a number": good("username", 5), "no revision": good("revision", nil),
				"revision is a text": good("revision", "7"), "revision is a fraction": good("revision", 7.5), "revision is zero": good("revision", 0),
				"over": good("exp", now-10), "over long ago": good("exp", 1), "without end": good("exp", nil), "end is a text": good("exp", "never"),
				"end is a fraction": good("exp", float64(now)+3600.5), "not yet": good("nbf", now+3600), "since a while": good("nbf", now-10),
				"start is a text": good("nbf", "x"), "issued later": good("iat", now+3600), "issued before": good("iat", now-10),
				"more claims": good("iss", "x", "aud", []string{"y"}, "sub", "z", "extra", map[string]any{"a": 1}),
			} {
				tokens[name] = sign(kind.method, kind.key.private, claims)
			}
			_, strange, err := ed25519.GenerateKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			pub, err := os.ReadFile(kind.key.pubIn)
			if err != nil {
				t.Fatal(err)
			}
			tokens["another's key"] = sign(jwt.SigningMethodEdDSA, strange, good())
			tokens["public key as secret"] = sign(jwt.SigningMethodHS256, pub, good())
			tokens["unsigned"] = sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, good())
			if kind.other != nil {
				tokens["another method"] = sign(kind.other, kind.key.private, good())
			}
			parts := strings.Split(tokens["good"], ".")
			tokens["no signature"] = parts[0] + "." + parts[1] + "."
			tokens["two parts"] = parts[0] + "." + parts[1]
			tokens["four parts"] = tokens["good"] + ".x"
			tokens["another's claims"] = parts[0] + "." + strings.Split(tokens["root"], ".")[1] + "." + parts[2]
			tokens["bearer"] = "Bearer " + tokens["good"]
			tokens["empty"], tokens["nonsense"] = "", "nonsense"
			for what, pair := range map[string]*Pair{"signing": signing, "verifying": verifying} {
				t.Run(what, func(t *testing.T) {
					for name, token := range tokens {
						pair.Both(t, func(_ *testing.T, s *Side) { use(s, name, token) })
					}
					pair.Both(t, func(_ *testing.T, s *Side) {
						ctx, cancel := s.Context()
						defer cancel()
						for _, password := range []string{"p", "wrong"} {
							reply, err := s.Auth.Authenticate(ctx, &pb.AuthenticateRequest{Name: "a", Password: password})
							s.Note("log-in with "+password, fmt.Sprint(shownToken(t, kind.key.private, reply.GetToken()), errorText(err)))
						}
					})
				})
			}
			// What the one server signed is good at the other, and at those that only check, until it is over.
			signing.Both(t, func(t *testing.T, s *Side) {
				ctx, cancel := s.Context()
				defer cancel()
				reply, err := s.Auth.Authenticate(ctx, &pb.AuthenticateRequest{Name: "a", Password: "p"})
				Must(t, err)
				for _, pair := range []*Pair{signing, verifying} {
					for _, at := range []*Side{pair.Peer, pair.Ours} {
						ctx := metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, reply.Token)
						_, err = at.KV.Put(ctx, put("a", "1"))
						s.Note("at another", errorText(err))
					}
				}
				Eventually(t, ReadyLimit, "the token's end", func() error {
					ctx, cancel := s.Context()
					defer cancel()
					_, err := s.KV.Put(metadata.AppendToOutgoingContext(ctx, rpctypes.TokenFieldNameGRPC, reply.Token), put("a", "1"))
					if err == nil {
						return Wanted("a refusal")
					}
					s.Note("over", errorText(err))
					return nil
				})
			})
		})
	}
}

func enableAuthNoted(t *testing.T, s *Side) {
	enableAuth(t, s)
	s.Note("auth", "enabled")
}

// shownToken is a token's header and claims, its end as the time from now in seconds.
func shownToken(t *testing.T, private any, token string) string {
	if token == "" {
		return "none"
	}
	parsed, _, err := jwt.NewParser().ParseUnverified(token, jwt.MapClaims{})
	Must(t, err)
	claims := parsed.Claims.(jwt.MapClaims)
	end, err := claims.GetExpirationTime()
	Must(t, err)
	left := time.Until(end.Time).Seconds()
	delete(claims, "exp")
	return fmt.Sprintf("%v %v %v", parsed.Header, claims, left > 0 && left <= 3)
}
