package faults

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// times are durations, for a report.
type times []time.Duration

// String gives the median and the longest.
func (d times) String() string {
	if len(d) == 0 {
		return "none"
	}
	s := slices.Sorted(slices.Values(d))
	return fmt.Sprintf("p50 %s, max %s", s[len(s)/2].Round(time.Millisecond), s[len(s)-1].Round(time.Millisecond))
}

// answersAgain returns how long it takes from now until the tenant's server
// has stored something.
func answersAgain(t *testing.T, p *party) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		r, err := p.backend.do(t.Context(), http.MethodPost, "Basic", compact(record("", "", fmt.Sprintf("probe-%d", rand.Uint64()), "")))
		if err == nil && r.status == http.StatusCreated {
			return time.Since(began)
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("nothing is stored after a minute: %v\n%s", err, sys.server.words())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// F001, F003
func TestKillingTheServerLosesNothing(t *testing.T) {
	whole(t)
	l := startLoad(t)
	var recovery times
	n := 10 * *rounds
	for range n {
		l.await(t, 10)
		time.Sleep(rand.N(400 * time.Millisecond))
		began := time.Now()
		sys.server.kill()
		sys.restart(t)
		answersAgain(t, sys.tenants[0])
		recovery = append(recovery, time.Since(began))
	}
	l.await(t, 10)
	f := l.check(t)
	answered, refused, unknown := l.ledger.count()
	measured(fmt.Sprintf("F001 kill -9 of the server, %d times", n), f.String(), zero)
	measured("F003 from kill -9 to the first write", fmt.Sprintf("%s; %d answered, %d refused, %d unknown", recovery, answered, refused, unknown), "max 2s")
}

// F004
func TestStoppingTheServerCutsNoAnswer(t *testing.T) {
	whole(t)
	const n = 200
	p := sys.tenants[0]
	token, err := p.backend.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var begun, done sync.WaitGroup
	begun.Add(n)
	release := make(chan struct{})
	results := make([]string, n)
	for i := range n {
		done.Go(func() {
			results[i] = halfway(p, token, i, begun.Done, release)
		})
	}
	begun.Wait() // the server has begun to read every body
	began := time.Now()
	sys.server.cmd.Process.Signal(syscall.SIGTERM)
	time.Sleep(100 * time.Millisecond)
	if _, err := net.DialTimeout("tcp", sys.listen, time.Second); err == nil {
		t.Error("a server that is stopping takes new connections")
	}
	sys.server.cmd.Process.Signal(syscall.SIGTERM) // changes nothing
	close(release)
	done.Wait()
	cut := 0
	for _, r := range results {
		if r != "201" {
			cut++
			t.Errorf("got %s", r)
		}
	}
	select {
	case <-sys.server.done:
		if sys.server.err != nil {
			t.Errorf("the server ended with %v\n%s", sys.server.err, sys.server.words())
		}
	case <-time.After(30 * time.Second):
		t.Error("the server does not end")
		sys.server.kill()
	}
	took := time.Since(began)
	sys.restart(t)
	measured(fmt.Sprintf("F004 SIGTERM with %d requests half way", n), fmt.Sprintf("cut %d, ended after %s", cut, took.Round(time.Millisecond)), "cut 0, 20s")
}

// halfway sends a create whose body follows when release is closed, and
// returns the status, or what went wrong. begun is called when the server reads
// the body.
func halfway(p *party, token string, i int, begun func(), release <-chan struct{}) string {
	once := sync.OnceFunc(begun)
	defer once()
	conn, err := net.Dial("tcp", sys.listen)
	if err != nil {
		return err.Error()
	}
	defer conn.Close()
	body := compact(record("", "", fmt.Sprintf("drain-%d", i), ""))
	fmt.Fprintf(conn, "POST /fhir/%s/Basic HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/fhir+json\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", p.slug, token, len(body))
	in := bufio.NewReader(conn)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return err.Error()
		}
		if strings.TrimSpace(line) == "" {
			break
		}
	}
	io.WriteString(conn, body[:10])
	once()
	<-release
	io.WriteString(conn, body[10:])
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err.Error()
	}
	return fmt.Sprint(resp.StatusCode)
}
