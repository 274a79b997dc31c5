package harness

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
)

// Authority signs certificates and keeps them, and itself, as PEM files.
type Authority struct {
	File string // its own certificate

	t           testing.TB
	folder      string
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// Certificate is a signed certificate with its key.
type Certificate struct {
	CertFile, KeyFile string
	Serial            *big.Int
	t                 testing.TB
}

// NewAuthority makes an authority that lasts as long as the test.
func NewAuthority(t testing.TB, name string) *Authority {
	t.Helper()
	a := &Authority{t: t, folder: t.TempDir()}
	template := template(name)
	template.IsCA, template.BasicConstraintsValid = true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	a.certificate, a.key = template, newKey(t)
	der := a.sign(template, a.key)
	parsed, err := x509.ParseCertificate(der)
	a.must(err)
	a.certificate = parsed
	a.File = a.write(name+"-ca.pem", "CERTIFICATE", der)
	return a
}

// Issue signs a certificate that is good for 127.0.0.0/8 as it is used here, servers and clients, unless edit says otherwise.
func (a *Authority) Issue(name string, edit func(*x509.Certificate)) Certificate {
	a.t.Helper()
	template := template(name)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	if edit != nil {
		edit(template)
	}
	key := newKey(a.t)
	der := a.sign(template, key)
	bytes, err := x509.MarshalPKCS8PrivateKey(key)
	a.must(err)
	return Certificate{
		CertFile: a.write(name+".pem", "CERTIFICATE", der),
		KeyFile:  a.write(name+"-key.pem", "PRIVATE KEY", bytes),
		Serial:   template.SerialNumber,
		t:        a.t,
	}
}

// For lets a certificate be valid for the hosts of addresses.
func For(addresses ...string) func(*x509.Certificate) {
	return func(template *x509.Certificate) {
		for _, address := range addresses {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				host = address
			}
			if ip := net.ParseIP(host); ip != nil {
				template.IPAddresses = append(template.IPAddresses, ip)
			} else {
				template.DNSNames = append(template.DNSNames, host)
			}
		}
	}
}

// Revoke writes the list of revoked certificates.
func (a *Authority) Revoke(name string, revoked ...Certificate) string {
	a.t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
	for _, certificate := range revoked {
		entry := x509.RevocationListEntry{SerialNumber: certificate.Serial, RevocationTime: time.Now()}
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, entry)
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.certificate, a.key)
	a.must(err)
	return a.put(name, der)
}

// Trusting is how a client that trusts this authority connects; it shows the certificates, if any.
func (a *Authority) Trusting(shown ...Certificate) *tls.Config {
	a.t.Helper()
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	config.RootCAs.AddCert(a.certificate)
	for _, certificate := range shown {
		config.Certificates = append(config.Certificates, certificate.Pair())
	}
	return config
}

// Pair reads a certificate and its key.
func (c Certificate) Pair() tls.Certificate {
	c.t.Helper()
	pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
	if err != nil {
		c.t.Fatal(err)
	}
	return pair
}

func template(name string) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		panic(err)
	}
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-48 * time.Hour),
		NotAfter:     time.Now().Add(48 * time.Hour),
	}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *Authority) sign(template *x509.Certificate, key *ecdsa.PrivateKey) []byte {
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, &key.PublicKey, a.key)
	a.must(err)
	return der
}

func (a *Authority) write(name, kind string, der []byte) string {
	return a.put(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// put replaces a file as a whole.
func (a *Authority) put(name string, bytes []byte) string {
	path := filepath.Join(a.folder, name)
	a.must(os.WriteFile(path+".new", bytes, 0o600))
	a.must(os.Rename(path+".new", path))
	return path
}

func (a *Authority) must(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}
