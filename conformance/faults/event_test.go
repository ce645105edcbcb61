package faults

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/smart/backend"
)

// AUD-16: of 2,000 requests a round, whatever they ask, and however often servers
// and PostgreSQL are killed meanwhile.
func TestEachAnsweredRequestHasExactlyOneEvent(t *testing.T) {
	whole(t)
	requests, kills := 2000**rounds, max(3, *rounds)
	c := gather(t, requests)
	part := requests / (2*kills + 1)
	for i := range kills {
		c.await(t, (2*i+1)*part)
		time.Sleep(rand.N(100 * time.Millisecond))
		sys.server.kill()
		sys.restart(t)
		if i%3 == 2 {
			c.await(t, (2*i+2)*part)
			sys.signalPostgres(t, syscall.SIGKILL)
			sys.restartPostgres(t)
		}
	}
	c.await(t, requests)
	c.end()
	f := c.check(t)
	for _, x := range f.wrong[:min(len(f.wrong), 50)] {
		t.Error(x)
	}
	measured(fmt.Sprintf("AUD-16 mixed requests, kill -9 of the server %d times, of PostgreSQL %d times", kills, kills/3), f.String(), "wrong 0")
	for _, slug := range append([]string{""}, slugs()...) {
		measured("AUD-16 the audit log afterwards", sys.verified(t, slug), "as it was signed")
	}
}

func slugs() (list []string) {
	for _, p := range sys.tenants {
		list = append(list, p.slug)
	}
	return list
}

// A crowd is clients that ask for all that clients ask for, and what they were
// answered.
type crowd struct {
	stop context.CancelFunc
	wait sync.WaitGroup

	mu       sync.Mutex
	asks     map[string]*ask // by X-Request-Id
	answered int
	got      statuses
	faults   []string
}

// An ask is one request, which is sent once.
type ask struct {
	tenant  string // in whose trail it has to be
	entries int    // of a Bundle
	whole   bool   // it is a transaction
	status  int    // 0 if there was no answer
}

// gather sets twelve clients to work on all tenants, until n of their requests
// have been answered with anything but 503.
func gather(t *testing.T, n int) *crowd {
	t.Helper()
	run++
	ctx, stop := context.WithCancel(t.Context())
	c := &crowd{stop: stop, asks: map[string]*ask{}}
	for i := range 12 {
		m := &member{
			crowd: c, name: fmt.Sprintf("e%dc%d", run, i), rand: rand.New(rand.NewPCG(uint64(run), uint64(i))),
			party: sys.tenants[i%len(sys.tenants)], next: sys.tenants[(i+1)%len(sys.tenants)],
		}
		c.wait.Go(func() {
			defer m.hangUp()
			for ctx.Err() == nil && c.count() < n {
				if err := m.step(ctx); err != nil {
					time.Sleep(20 * time.Millisecond) // the server, or its database, is coming up
				}
			}
		})
	}
	t.Cleanup(c.end)
	return c
}

func (c *crowd) end() {
	c.stop()
	c.wait.Wait()
}

func (c *crowd) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.answered
}

// await waits until n requests have been answered.
func (c *crowd) await(t *testing.T, n int) {
	t.Helper()
	for last, since := c.count(), time.Now(); last < n; time.Sleep(5 * time.Millisecond) {
		if now := c.count(); now > last {
			last, since = now, time.Now()
		}
		if time.Since(since) > time.Minute {
			t.Fatalf("no answers for a minute\n%s", sys.server.words())
		}
	}
}

// A member of a crowd speaks over one connection and sends nothing twice, which
// the client of net/http would do with a GET whose connection breaks.
type member struct {
	*crowd
	party, next *party
	name        string
	rand        *rand.Rand
	sent        int
	ids         []string // of resources that it has written
	asking      ask
	conn        net.Conn
	in          *bufio.Reader
}

// RoundTrip sends the request, and notes what comes of it.
func (m *member) RoundTrip(r *http.Request) (*http.Response, error) {
	m.sent++
	id := fmt.Sprintf("%s-%d", m.name, m.sent)
	r = r.Clone(r.Context())
	r.Header.Set("X-Request-Id", id)
	a := m.asking
	a.tenant = cmp.Or(a.tenant, m.party.slug)
	m.mu.Lock()
	m.asks[id] = &a
	m.mu.Unlock()
	resp, err := m.exchange(r)
	if err != nil {
		m.hangUp()
		return nil, err
	}
	m.got.add(resp.StatusCode)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asks[id].status = resp.StatusCode
	if resp.StatusCode == http.StatusServiceUnavailable {
		return nil, errors.New("the server has no database")
	}
	m.answered++
	if resp.StatusCode >= 500 {
		m.faults = append(m.faults, fmt.Sprintf("%s: %s %s: %d", id, r.Method, r.URL.Path, resp.StatusCode))
	}
	return resp, nil
}

// exchange sends a request and reads the whole answer.
func (m *member) exchange(r *http.Request) (*http.Response, error) {
	if m.conn == nil {
		conn, err := net.Dial("tcp", r.URL.Host)
		if err != nil {
			return nil, err
		}
		m.conn, m.in = conn, bufio.NewReader(conn)
	}
	if err := m.conn.SetDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		return nil, err
	}
	if err := r.Write(m.conn); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(m.in, r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.Close {
		m.hangUp()
	}
	resp.Body = io.NopCloser(bytes.NewReader(text))
	return resp, nil
}

func (m *member) hangUp() {
	if m.conn != nil {
		m.conn.Close()
		m.conn = nil
	}
}

// step asks for one thing: in a hundred, as many of each kind as its number says.
func (m *member) step(ctx context.Context) error {
	known, fresh := m.known(), fmt.Sprintf("%s-r%d", m.name, m.sent)
	body := compact(record(fresh, fresh, fresh, ""))
	n := m.rand.IntN(100)
	for _, kind := range []struct {
		of  int
		ask func() error
	}{
		{22, func() error { return m.fhir(ctx, "GET", "Basic/"+known, "") }},
		{3, func() error { return m.fhir(ctx, "GET", "Basic/"+fresh, "") }}, // there is none
		{3, func() error { return m.fhir(ctx, "GET", "Basic/"+known+"/_history?_count=5", "") }},
		{10, func() error { return m.fhir(ctx, "GET", "Basic?"+criteria(known), "") }},
		{5, func() error { return m.fhir(ctx, "GET", "Patient?_count=5", "") }},
		{10, func() error { return m.fhir(ctx, "POST", "Basic", body) }},
		{14, func() error { m.ids = append(m.ids, fresh); return m.fhir(ctx, "PUT", "Basic/"+fresh, body) }},
		{4, func() error { return m.fhir(ctx, "DELETE", "Basic/"+known, "") }},
		{8, func() error { return m.bundle(ctx, "transaction", fresh, known) }},
		{6, func() error { return m.bundle(ctx, "batch", fresh, known) }},
		{2, func() error { return m.fhir(ctx, "POST", "Basic", `{"resourceType":"Basic","code":7}`) }},
		{2, func() error {
			return m.fhir(ctx, "PUT", "Basic/"+known, compact(record(known, "", fresh, "")), "If-Match", `W/"77"`)
		}},
		{1, func() error { return m.fhir(ctx, "GET", "Nothing/7", "") }},
		{2, func() error { return m.fhir(ctx, "GET", "Basic/"+known, "", "Authorization", "") }},
		{2, func() error { return m.fhir(ctx, "GET", "Basic/"+known, "", "Authorization", "Bearer of-nobody") }},
		{2, func() error { return m.stray(ctx, known) }},
		{3, func() error { return m.login(ctx, m.party.backend.Client) }},
		{1, func() error { return m.login(ctx, "nobody") }},
	} {
		if n -= kind.of; n < 0 {
			m.asking = ask{}
			return kind.ask()
		}
	}
	return errors.New("the kinds are not a hundred")
}

// known is a resource that was written, perhaps.
func (m *member) known() string {
	if len(m.ids) == 0 {
		return "none"
	}
	return m.ids[m.rand.IntN(len(m.ids))]
}

// fhir asks as the backend of the tenant, unless the headers say otherwise.
func (m *member) fhir(ctx context.Context, method, path, body string, headers ...string) error {
	token, err := m.party.backend.Token(ctx)
	if err != nil {
		return err
	}
	target := strings.TrimSuffix("http://"+sys.listen+"/fhir/"+m.party.slug+"/"+path, "/")
	// A client that has sent its request does not hang up.
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), method, target, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		req.Header.Set("Content-Type", "application/fhir+json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	_, err = m.RoundTrip(req)
	return err
}

// stray shows the token of another tenant, whose client it is that strays.
func (m *member) stray(ctx context.Context, known string) error {
	m.asking.tenant = m.next.slug
	token, err := m.next.backend.Token(ctx)
	if err != nil {
		return err
	}
	return m.fhir(ctx, "GET", "Basic/"+known, "", "Authorization", "Bearer "+token)
}

// bundle writes some resources and reads one.
func (m *member) bundle(ctx context.Context, kind, fresh, known string) error {
	entries := []map[string]any{{"request": map[string]string{"method": "GET", "url": "Basic/" + known}}}
	if kind == "transaction" { // which fails as a whole when the resource is gone
		entries = nil
	}
	for i := range 1 + m.rand.IntN(5) {
		id := fmt.Sprintf("%s-%d", fresh, i)
		entries = append(entries, map[string]any{
			"resource": record(id, "", id, ""), "request": map[string]string{"method": "PUT", "url": "Basic/" + id},
		})
	}
	m.asking.entries, m.asking.whole = len(entries), kind == "transaction"
	return m.fhir(ctx, "POST", "", compact(map[string]any{"resourceType": "Bundle", "type": kind, "entry": entries}))
}

// login asks for a token, as the client.
func (m *member) login(ctx context.Context, client string) error {
	b := &m.party.backend
	s := backend.Service{TokenURL: b.TokenURL, Client: client, Scope: b.Scope, Key: b.Key, HTTP: &http.Client{Transport: m}}
	if _, err := s.Token(context.WithoutCancel(ctx)); errors.As(err, new(*url.Error)) {
		return err
	}
	return nil // or it was refused, which is an answer
}

// An account is what was found of the requests of a crowd in the audit trails.
type account struct {
	answered int
	unknown  int // not answered, or 503
	late     int // of these, with an event
	parts    int // of Bundles and searches
	wrong    []string
	got      string
}

func (f *account) String() string {
	return fmt.Sprintf("wrong %d; %d answered with one event each, and one for each of %d parts; %d unknown, of which %d have one; %s",
		len(f.wrong), f.answered, f.parts, f.unknown, f.late, f.got)
}

// check holds the requests against the audit trails.
func (c *crowd) check(t *testing.T) *account {
	t.Helper()
	f := &account{wrong: slices.Clone(c.faults), got: c.got.String()}
	trails := map[string]map[string][]event{}
	for _, p := range sys.tenants {
		events, err := p.events(t.Context())
		if err != nil {
			t.Fatalf("reading the audit trail of %s: %v", p.slug, err)
		}
		trails[p.slug] = events
	}
	platform, err := platformEvents(t.Context())
	if err != nil {
		t.Fatalf("reading the audit trail of the platform: %v", err)
	}
	for id, a := range c.asks {
		for slug, trail := range trails {
			if slug != a.tenant && len(trail[id]) > 0 {
				f.wrong = append(f.wrong, fmt.Sprintf("%s of %s is in the trail of %s", id, a.tenant, slug))
			}
		}
		f.add(id, a, trails[a.tenant][id], platform[id])
	}
	return f
}

// add holds one request against its events: those in the trail of the tenant, and
// how many are in that of the platform.
func (f *account) add(id string, a *ask, events []event, own int) {
	parts := map[string]int{}
	main := ""
	for _, e := range events {
		if e.parent == "" {
			own++
			main = e.id
		} else {
			parts[e.what]++
		}
	}
	f.parts += len(parts)
	switch {
	case a.status == 0:
		f.unknown++
		f.late += min(own, 1)
	case a.status == http.StatusServiceUnavailable:
		f.unknown++
		f.late += min(own, 1)
	default:
		f.answered++
		if own == 0 {
			f.wrong = append(f.wrong, fmt.Sprintf("%s was answered %d and has no event", id, a.status))
		}
	}
	if own > 1 {
		f.wrong = append(f.wrong, fmt.Sprintf("%s has %d events", id, own))
	}
	f.addParts(id, a, events, parts, main)
}

// addParts holds the parts of a request against what it asked.
func (f *account) addParts(id string, a *ask, events []event, parts map[string]int, main string) {
	for what, n := range parts {
		if n > 1 {
			f.wrong = append(f.wrong, fmt.Sprintf("%s has %d events for %s", id, n, what))
		}
	}
	for _, e := range events {
		if e.parent != "" && main != "" && e.parent != main {
			f.wrong = append(f.wrong, fmt.Sprintf("%s is part of another request", id))
		}
	}
	some := len(parts) > 0
	switch {
	case a.entries == 0:
	case a.status == http.StatusOK && len(parts) != a.entries, a.whole && some && len(parts) != a.entries:
		f.wrong = append(f.wrong, fmt.Sprintf("%s, answered %d, has events for %d of %d entries", id, a.status, len(parts), a.entries))
	case a.whole && some && main == "":
		f.wrong = append(f.wrong, fmt.Sprintf("%s has events for its entries and none of its own", id))
	}
}

// platformEvents counts the entries of each request in the trail of the platform.
func platformEvents(ctx context.Context) (map[string]int, error) {
	all := map[string]int{}
	err := sys.asSuperuser(ctx, "cordon_registry", func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, `SELECT request_id, count(*) FROM registry.platform_audit GROUP BY request_id`)
		if err != nil {
			return err
		}
		var id string
		var n int
		_, err = pgx.ForEachRow(rows, []any{&id, &n}, func() error { all[id] = n; return nil })
		return err
	})
	return all, err
}

// verified returns what `cordon audit verify` says of the log of a tenant, or the
// platform for "", once all of the trail is signed.
func (s *system) verified(t *testing.T, slug string) string {
	t.Helper()
	args := []string{"audit", "verify", "--key", s.logKeys[slug]}
	if slug != "" {
		args = append(args, "--tenant", slug)
	}
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Second) {
		cmd := exec.CommandContext(t.Context(), s.bin, args...)
		cmd.Env = s.env
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("the audit log of %q: %v\n%.3000s", slug, err, out)
		}
		said, _, _ := strings.Cut(string(out), ";")
		_, counts, _ := strings.Cut(said, ": ")
		var leaves, signed, waiting int
		if _, err := fmt.Sscanf(counts, "%d entries in the log, %d signed, %d yet to come", &leaves, &signed, &waiting); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if leaves == signed && waiting == 0 {
			return said
		}
		if time.Now().After(end) {
			t.Fatalf("the trail is not signed after two minutes: %s", said)
		}
	}
}
