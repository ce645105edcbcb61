package rest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// trustSinks makes this process trust the certificate of test servers, as operators do
// whose endpoints have certificates of their own. It comes before anything is trusted.
func trustSinks() {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	f, err := os.Create(filepath.Join(os.TempDir(), "cordon-test-roots.pem"))
	if err == nil {
		err = pem.Encode(f, &pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
		f.Close()
	}
	if err != nil {
		panic(err)
	}
	os.Setenv("SSL_CERT_FILE", f.Name())
}

// foreignTLS has a certificate that nobody trusts.
func foreignTLS(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}
