package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/oplog"
)

// certificate writes a certificate for 127.0.0.1 and its key.
func certificate(t *testing.T) (certFile, keyFile string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{
		certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	pool.AddCert(cert)
	return certFile, keyFile, pool
}

// served runs serve with the handler and returns its address.
func served(t *testing.T, conf *tls.Config, h http.Handler) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l, err := listen(ctx, "listen", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	side, err := listen(ctx, "ops", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log := oplog.New(slog.DiscardHandler)
	done := make(chan error)
	o := newOps(log)
	go func() {
		done <- serve(ctx, log, o, endpoint{name: "test", listen: l, handler: h, tls: conf},
			endpoint{name: "ops", listen: side, handler: o.handler()})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve returned %v", err)
		}
	})
	return l.Addr().String()
}

// KMS-03
func TestNothingOlderThanTLS12IsSpoken(t *testing.T) {
	certFile, keyFile, pool := certificate(t)
	conf, err := readTLS(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	addr := served(t, conf, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	for version, works := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		conn, err := tls.Dial("tcp", addr, &tls.Config{RootCAs: pool, MinVersion: version, MaxVersion: version})
		if (err == nil) != works {
			t.Errorf("%s: got %v", tls.VersionName(version), err)
		}
		if err == nil {
			conn.Close()
		}
	}
}

func TestACertificateWithoutItsKeyIsRefused(t *testing.T) {
	certFile, _, _ := certificate(t)
	if _, err := readTLS(certFile, ""); err == nil {
		t.Error("a certificate without a key would have been served as plain HTTP")
	}
}

func TestHTTP2IsNotSpokenInClearText(t *testing.T) {
	addr := served(t, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	line, _ := bufio.NewReader(conn).ReadString('\n')
	if !strings.HasPrefix(line, "HTTP/1.1 ") && line != "" {
		t.Errorf("got %q", line)
	}
}

// T216
func TestHugeHeadersAreRefused(t *testing.T) {
	addr := served(t, nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { t.Error("the handler was called") }))
	for claim, request := range map[string]string{
		"a header of 1 MB": "GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + strings.Repeat("a", 1<<20) + "\r\n\r\n",
		"10,000 headers":   "GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X-Many: a\r\n", 10_000) + "\r\n",
		"a URL of 100 kB":  "GET /" + strings.Repeat("a", 100<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		go io.WriteString(conn, request)
		line, _ := bufio.NewReader(conn).ReadString('\n')
		if !strings.Contains(line, " 431 ") {
			t.Errorf("%s: got %q", claim, line)
		}
		conn.Close()
	}
}

func TestAPlaneThatStopsIsNotReady(t *testing.T) {
	o := newOps(oplog.New(slog.DiscardHandler))
	status := func() int {
		w := httptest.NewRecorder()
		o.handler().ServeHTTP(w, httptest.NewRequest("GET", "/readyz", nil))
		return w.Code
	}
	if got := status(); got != 200 {
		t.Errorf("got %d, want 200", got)
	}
	o.check("database", func(context.Context) error { return fmt.Errorf("gone") })
	if got := status(); got != 503 {
		t.Errorf("without its database: got %d, want 503", got)
	}
	o.check("database", func(context.Context) error { return nil })
	o.draining()
	if got := status(); got != 503 {
		t.Errorf("while it stops: got %d, want 503", got)
	}
}
