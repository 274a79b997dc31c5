package cluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	. "quorate/tests/harness"
)

// authority issues certificates and writes them into its folder.
type authority struct {
	t           *testing.T
	dir         string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func (a *authority) issue(name string, isAuthority bool) (certificate, key string) {
	a.t.Helper()
	must := func(err error) {
		a.t.Helper()
		if err != nil {
			a.t.Fatal(err)
		}
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	wanted := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: isAuthority,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = wanted, private
	}
	der, err := x509.CreateCertificate(rand.Reader, wanted, parent, &private.PublicKey, signer)
	must(err)
	keyDER, err := x509.MarshalECPrivateKey(private)
	must(err)
	certificate, key = filepath.Join(a.dir, name+".pem"), filepath.Join(a.dir, name+".key")
	must(os.WriteFile(certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), 0o600))
	if a.certificate == nil {
		a.certificate, err = x509.ParseCertificate(der)
		must(err)
		a.key = private
	}
	return certificate, key
}

// With --client-cert-auth the common name of a client's certificate is its user, unless a token says otherwise.
func TestACertificatesNameIsAUser(t *testing.T) {
	issuer := &authority{t: t, dir: t.TempDir()}
	authorityFile, _ := issuer.issue("authority", true)
	serverFile, serverKey := issuer.issue("server", false)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	secure := "https://" + listener.Addr().String()
	listener.Close()
	plain := "http://" + Address(t)
	s := NewServer(t, Programs(t).Server, "m0", "--bcrypt-cost", "4", "--listen-client-urls", plain+","+secure, "--advertise-client-urls", plain,
		"--cert-file", serverFile, "--key-file", serverKey, "--trusted-ca-file", authorityFile, "--client-cert-auth")
	s.ClientURL = plain
	s.Start("", "new")
	s.AwaitReady()
	users(t, s)
	roots := x509.NewCertPool()
	roots.AddCert(issuer.certificate)
	certified := func(name, user, secret string) *clientv3.Client {
		certificate, key := issuer.issue(name, false)
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			t.Fatal(err)
		}
		client, err := clientv3.New(clientv3.Config{
			Endpoints: []string{secure}, DialTimeout: 5 * time.Second, Username: user, Password: secret,
			TLS: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { client.Close() })
		return client
	}
	for _, c := range []struct {
		name, user, key string
		expected        error
	}{
		{"a", "", "a/1", nil}, {"a", "", "b/1", rpctypes.ErrPermissionDenied}, {"a", "b", "b/1", nil}, {"a", "b", "a/1", rpctypes.ErrPermissionDenied},
		{"stranger", "", "a/1", rpctypes.ErrPermissionDenied}, {"root", "", "b/2", nil},
	} {
		if _, err := certified(c.name, c.user, password).Put(within(t), c.key, "v"); rpctypes.Error(err) != c.expected {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
