// Package s3test starts a real S3 server for tests, versitygw, behind a proxy that
// can fail as object stores do.
package s3test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/cordon-fhir/cordon/store/blob"
)

const accessKey, secretKey = "cordon-test", "cordon-test-secret"

// A Server is an S3 server.
type Server struct {
	dir    string
	direct string // its address, past the proxy
	front  *httptest.Server
	fault  atomic.Pointer[Fault]
}

// A Fault is what the server does instead of answering.
type Fault struct {
	// Method is of the requests that fail; "" is any.
	Method string
	// Status is an answer: 503 of a server with too much to do, 507 of a full
	// one. 0 is none: the connection is cut.
	Status int
	// Wait is how long it waits before it does what it was asked, and Rate how many
	// bytes a second it takes of that then; 0 is any.
	Wait time.Duration
	Rate int
	// Bytes are those of the body that come before the connection is cut.
	Bytes int
	// After lets the server do what it was asked first.
	After bool
	// Times bounds how often; 0 does not.
	Times int32
	// seen is how often it happened.
	seen atomic.Int32
}

// Start starts a server, which ends with the test. It is built if it was not yet.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{dir: t.TempDir()}
	for _, dir := range []string{"data", "versions"} {
		if err := os.Mkdir(filepath.Join(s.dir, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	bin, err := build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.run(t, bin)
	s.front = httptest.NewServer(s.proxy())
	t.Cleanup(s.front.Close)
	return s
}

// build returns the program of the server.
func build(ctx context.Context) (string, error) {
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("looking for the module: %w", err)
	}
	bin := filepath.Join(strings.TrimSpace(string(root)), "bin", "versitygw")
	if _, err := os.Stat(bin); err == nil {
		return bin, nil
	}
	mine := fmt.Sprintf("%s.%d", bin, os.Getpid()) // others may be building it too
	cmd := exec.CommandContext(ctx, "go", "build", "-o", mine, "github.com/versity/versitygw/cmd/versitygw")
	cmd.Dir = filepath.Join(filepath.Dir(filepath.Dir(bin)), "tools")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building versitygw: %w\n%s", err, out)
	}
	return bin, os.Rename(mine, bin)
}

// run starts the program and waits until it answers.
func (s *Server) run(t testing.TB, bin string) {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.direct = free.Addr().String()
	free.Close()
	cmd := exec.Command(bin, "--port", s.direct, "--quiet", "posix",
		"--sidecar", s.dir, "--versioning-dir", filepath.Join(s.dir, "versions"), filepath.Join(s.dir, "data"))
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+accessKey, "ROOT_SECRET_KEY="+secretKey)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
	})
	for until := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", s.direct)
		if err == nil {
			c.Close()
			return
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("versitygw ended: %v\n%s", err, said.String())
		default:
		}
		if time.Now().After(until) {
			t.Fatalf("versitygw does not answer: %v", err)
		}
	}
}

func (s *Server) proxy() http.Handler {
	to := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: s.direct})
			r.Out.Host = r.In.Host // which is signed
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f := s.fault.Load()
		if f == nil || f.Method != "" && f.Method != r.Method || f.Times > 0 && f.seen.Load() >= f.Times {
			to.ServeHTTP(w, r)
			return
		}
		f.seen.Add(1)
		if f.After {
			to.ServeHTTP(httptest.NewRecorder(), r)
		}
		if f.Wait > 0 || f.Rate > 0 {
			time.Sleep(f.Wait)
			r.Body = &slowBody{r.Body, f.Rate}
			to.ServeHTTP(w, r)
			return
		}
		if f.Bytes > 0 {
			to.ServeHTTP(&cutWriter{w, f.Bytes}, r)
			return
		}
		if f.Status == 0 {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(f.Status)
	})
}

// A slowBody takes its time.
type slowBody struct {
	io.ReadCloser
	rate int
}

func (b *slowBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p[:min(len(p), 4<<10)])
	if b.rate > 0 {
		time.Sleep(time.Duration(n) * time.Second / time.Duration(b.rate))
	}
	return n, err
}

// A cutWriter cuts the connection off when so many bytes are written.
type cutWriter struct {
	http.ResponseWriter
	left int
}

func (w *cutWriter) Write(b []byte) (int, error) {
	if w.left -= len(b); w.left >= 0 {
		return w.ResponseWriter.Write(b)
	}
	_, err := w.ResponseWriter.Write(b[:len(b)+w.left])
	if err == nil {
		err = http.NewResponseController(w.ResponseWriter).Flush()
	}
	if err != nil {
		return 0, err
	}
	panic(http.ErrAbortHandler)
}

// Fail makes the server fail until it is told another fault; nil ends that.
func (s *Server) Fail(f *Fault) { s.fault.Store(f) }

// Seen returns how often the fault happened.
func (f *Fault) Seen() int { return int(f.seen.Load()) }

// Bucket makes a bucket and says how to open it. One that is locked keeps every
// version of what is put into it for a day, whoever asks to remove it.
func (s *Server) Bucket(t testing.TB, name string, locked bool) blob.S3Config {
	t.Helper()
	c, err := minio.New(s.direct, &minio.Options{Creds: credentials.NewStaticV4(accessKey, secretKey, "")})
	if err != nil {
		t.Fatal(err)
	}
	err = c.MakeBucket(t.Context(), name, minio.MakeBucketOptions{ObjectLocking: locked})
	if locked {
		mode, days, unit := minio.Compliance, uint(1), minio.Days
		err = errors.Join(err, c.SetBucketObjectLockConfig(t.Context(), name, &mode, &days, &unit))
	}
	if err != nil {
		t.Fatal(err)
	}
	return blob.S3Config{URL: "s3://" + name, Endpoint: s.front.URL, Region: "us-east-1", AccessKey: accessKey, SecretKey: secretKey}
}
