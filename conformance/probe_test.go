package conformance

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	attacks "github.com/cordon-fhir/cordon/breakout"
)

// A pair is an attacker and a victim.
type pair struct{ attacker, victim *party }

// full makes the suite as large as it is in make breakout-full.
var full = flag.Bool("full", false, "make each attack for every ordered pair of tenants, and scan all that was left")

// pairs are one of each two modes, in both directions, and neighbours in one mode; of
// the full suite all.
func (s *system) pairs() (list []pair) {
	if *full {
		for _, a := range s.parties {
			for _, b := range s.parties {
				if a != b {
					list = append(list, pair{a, b})
				}
			}
		}
		return list
	}
	return []pair{{s.A1, s.A2}, {s.A1, s.S1}, {s.S1, s.S2}, {s.S1, s.A1}, {s.A1, s.D1}, {s.D1, s.A1}}
}

// A probe is one line of the breakout suite, run for one pair. Whatever it
// sends is checked when it ends, by the conditions C1 to C6.
type probe struct {
	*testing.T
	attacker, victim *party

	alerts map[string]int // that must have been raised, by rule
	writes bool           // the victim itself writes during the line
	// suspended is how many requests the suspended tenant made.
	suspended int
	// mayAlert are rules by which the line may raise any number of alerts.
	mayAlert []string
	before   observation
	// lost are requests that could not be audited.
	lost []string

	mu   sync.Mutex
	sent []sent
}

// A sent request is one that must be in exactly one audit trail.
type sent struct {
	id     string
	trail  *party // nil is the platform's
	status int
	what   string // for people
	// lost says that the server was kept from its audit trail: there may be
	// an entry, in this trail or the platform's.
	lost bool
	// either is a tenant in whose trail it is instead if whoever asked has
	// proved to belong there.
	either *party
}

// breakout runs a line for the six pairs.
func breakout(t *testing.T, claim string, run func(p *probe)) {
	t.Helper()
	t.Run(claim, func(t *testing.T) {
		for _, x := range sys.pairs() {
			t.Run(x.attacker.slug+" against "+x.victim.slug, func(t *testing.T) { attack(t, x, run) })
		}
	})
}

// once runs a line that has no victim, for a tenant of each mode.
func once(t *testing.T, claim string, run func(p *probe)) {
	t.Helper()
	t.Run(claim, func(t *testing.T) {
		for _, x := range []pair{{sys.A1, sys.A2}, {sys.S1, sys.S2}, {sys.D1, sys.A1}} {
			t.Run(x.attacker.slug, func(t *testing.T) { attack(t, x, run) })
		}
	})
}

func attack(t *testing.T, x pair, run func(p *probe)) {
	// Whoever misses, or fails to log in, so often as these lines do is found by
	// these rules, in which line ever that is.
	p := &probe{T: t, attacker: x.attacker, victim: x.victim, alerts: map[string]int{}, mayAlert: []string{"enumeration", "failed-logins"}}
	p.before = sys.observe(t, x)
	run(p)
	p.poolProbe()
	p.check(p.before)
}

// alert says that the line must raise n alerts by the rule.
func (p *probe) alert(rule string, n int) { p.alerts[rule] += n }

// alertsOptional says that alerts by the rule are welcome, and not due.
func (p *probe) alertsOptional(rule string) { p.mayAlert = append(p.mayAlert, rule) }

// An observation is the state of the system before a line.
type observation struct {
	alerts   map[string]int
	log      int64
	digest   string
	trails   map[*party]int64 // the newest entry of each audit trail
	platform int64
}

func (s *system) observe(t testing.TB, x pair) observation {
	t.Helper()
	o := observation{alerts: s.alertCounts(t), digest: s.digest(t, x.victim), trails: map[*party]int64{}}
	if info, err := os.Stat(s.Log()); err == nil {
		o.log = info.Size()
	}
	for _, p := range []*party{x.attacker, x.victim, s.Z9} {
		o.trails[p] = s.lastEntry(t, p)
	}
	conn, err := s.asSuperuser(t.Context(), "cordon_registry")
	if err == nil {
		err = conn.QueryRow(t.Context(), `SELECT coalesce(max(seq), 0) FROM registry.platform_audit`).Scan(&o.platform)
	}
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// clinical are the tables whose rows a line must not change.
var clinical = []string{"resource", "history", "idx_token", "idx_ref", "idx_num", "idx_date", "idx_standing", "change"}

// digest returns a hash of all rows of the tenant but those of its audit
// trail, and of its keys.
func (s *system) digest(t testing.TB, p *party) string {
	t.Helper()
	conn, err := s.asSuperuser(t.Context(), p.database)
	if err != nil {
		t.Fatal(err)
	}
	var parts []string
	for _, table := range clinical {
		var n int
		var sum string
		err := conn.QueryRow(t.Context(), `SELECT count(*), coalesce(sum(hashtextextended(x::text, 7)), 0)::text FROM `+
			p.schema+`.`+table+` x WHERE tenant_id = $1`, p.number).Scan(&n, &sum)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, fmt.Sprintf("%s %d %s", table, n, sum))
	}
	return strings.Join(parts, ", ")
}

func (s *system) lastEntry(t testing.TB, p *party) int64 {
	t.Helper()
	conn, err := s.asSuperuser(t.Context(), p.database)
	var seq int64
	if err == nil {
		err = conn.QueryRow(t.Context(), `SELECT coalesce(max(seq), 0) FROM `+p.schema+`.audit WHERE tenant_id = $1`, p.number).Scan(&seq)
	}
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

// metrics returns the figures that operators see.
func (s *system) metrics(t testing.TB) string {
	t.Helper()
	resp, err := s.http.Get(s.Ops + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("reading metrics: %s %v", resp.Status, err)
	}
	return string(text)
}

func (s *system) alertCounts(t testing.TB) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for line := range strings.Lines(s.metrics(t)) {
		rest, ok := strings.CutPrefix(line, `cordon_alerts_total{rule="`)
		if !ok {
			continue
		}
		rule, n, _ := strings.Cut(strings.TrimSpace(rest), `"} `)
		f, err := strconv.ParseFloat(n, 64)
		if err != nil {
			t.Fatalf("reading metrics: %q", line)
		}
		counts[rule] = int(f)
	}
	return counts
}

// A reply is all that came back.
type reply struct {
	status int
	header http.Header
	body   []byte
	id     string // X-Request-Id
}

func (r *reply) String() string { return fmt.Sprintf("%d %s", r.status, r.body) }

// requests numbers all requests of the tests.
var requests atomic.Int64

// A call is one request, before it is sent.
type call struct {
	method, url string
	body        string
	header      http.Header
	// whose the token is; nil sends none, or bearer.
	actor  *actor
	bearer string
	// trail is where it will be audited: by default that of the actor's
	// tenant, or the platform's if there is no actor.
	trail *party
	// mayFail says that a status of 500 and more is one of the answers due.
	mayFail bool
	// either is the tenant that the caller may prove to belong to, or not.
	either *party
	// login says that no FHIR endpoint answers, but the authorization server.
	login bool
}

// owner is the tenant that the answer may be about, nil for none.
func (c *call) owner() *party {
	if c.actor != nil {
		return c.actor.party
	}
	return c.either
}

// as makes a call of the actor in the attacker's tenant.
func (p *probe) as(id, method, path string, body ...string) *call {
	return p.of(p.attacker, id, method, path, body...)
}

// of makes a call of the actor in their own tenant. A path that is a URL stays.
func (p *probe) of(own *party, id, method, path string, body ...string) *call {
	a := own.actors[id]
	if a == nil {
		p.Fatalf("there is no actor %s", id)
	}
	c := &call{method: method, url: path, body: strings.Join(body, ""), header: http.Header{}, actor: a, trail: own}
	if !strings.HasPrefix(path, "http") {
		c.url = own.base + path
	}
	switch {
	case c.body == "":
	case method == "PATCH":
		c.header.Set("Content-Type", "application/json-patch+json")
	case strings.Contains(path, "/_search"):
		c.header.Set("Content-Type", "application/x-www-form-urlencoded")
	default:
		c.header.Set("Content-Type", "application/fhir+json")
	}
	return c
}

// with adds headers: names and values in turn.
func (c *call) with(header ...string) *call {
	for i := 0; i < len(header); i += 2 {
		c.header.Add(header[i], header[i+1])
	}
	return c
}

// send sends the call and holds the answer against C1 and what every answer
// must be.
func (p *probe) send(c *call) *reply {
	p.Helper()
	r, err := p.try(c)
	if err != nil {
		p.Fatal(err)
	}
	return r
}

// try is send for goroutines.
func (p *probe) try(c *call) (*reply, error) {
	ctx := p.Context()
	req, err := http.NewRequestWithContext(ctx, c.method, c.url, strings.NewReader(c.body))
	if err != nil {
		return nil, err
	}
	req.Header = c.header.Clone()
	id := "t-" + strconv.FormatInt(requests.Add(1), 10)
	if req.Header.Get("X-Request-Id") == "" {
		req.Header.Set("X-Request-Id", id)
	}
	bearer := c.bearer
	if c.actor != nil {
		if bearer, err = c.actor.Token(ctx); err != nil {
			return nil, err
		}
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	resp, err := sys.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	r := &reply{status: resp.StatusCode, header: resp.Header, body: body, id: resp.Header.Get("X-Request-Id")}
	what := fmt.Sprintf("%s %s", c.method, strings.TrimPrefix(c.url, sys.FHIR))
	p.mu.Lock()
	p.sent = append(p.sent, sent{r.id, c.trail, r.audited(), what, c.mayFail && r.status >= 500, c.either})
	p.mu.Unlock()
	p.clean(c, r)
	if !c.login {
		p.wellFormed(c, r)
	}
	return r, nil
}

// audited is the status by which the audit trail judges the answer: a browser
// that is sent back with an error was refused.
func (r *reply) audited() int {
	to, err := url.Parse(r.header.Get("Location"))
	if r.status == http.StatusSeeOther && err == nil && to.Query().Has("error") {
		return http.StatusBadRequest
	}
	return r.status
}

// clean is C1: an answer holds no canary of a tenant other than the one whose
// token was shown, except what the request itself said.
func (p *probe) clean(c *call, r *reply) {
	p.Helper()
	text := append(r.headerText(), r.body...)
	for _, w := range sys.hunter().Find(text) {
		if own := c.owner(); own != nil && w.Owner == own.slug {
			continue
		}
		if strings.Contains(c.url, w.Plain) || strings.Contains(c.body, w.Plain) {
			continue
		}
		p.Errorf("C1: %s %s answers %d with the %s of %s %s", c.method, c.url, r.status, w.Place, w.Owner, w.Disguise)
	}
}

func (r *reply) headerText() []byte {
	var b bytes.Buffer
	r.header.Write(&b)
	return b.Bytes()
}

var hunting struct {
	once sync.Once
	*attacks.Hunter
}

// hunter finds the canaries of every tenant.
func (s *system) hunter() *attacks.Hunter {
	hunting.once.Do(func() { hunting.Hunter = newHunter(s.parties) })
	return hunting.Hunter
}

// wellFormed holds what T152 and T269 ask of every answer.
func (p *probe) wellFormed(c *call, r *reply) {
	p.Helper()
	for name, want := range map[string]string{
		"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Strict-Transport-Security": "max-age=31536000",
		"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
	} {
		if got := r.header.Get(name); got != want {
			p.Errorf("T269: %s %s answers %d with %s: %q, want %q", c.method, c.url, r.status, name, got, want)
		}
	}
	for _, name := range []string{"Server", "X-Powered-By"} {
		if got := r.header.Get(name); got != "" {
			p.Errorf("T269: %s %s answers with %s: %s", c.method, c.url, name, got)
		}
	}
	if r.status >= 400 && c.method != "HEAD" && !strings.Contains(string(r.body), `"OperationOutcome"`) {
		p.Errorf("%s %s answers %d without an OperationOutcome: %s", c.method, c.url, r.status, r.body)
	}
	if r.status >= 500 && !c.mayFail {
		p.Errorf("%s %s answers %s\n%s", c.method, c.url, r, sys.logOf(r.id))
	}
}

// logOf returns what the server's log says of a request.
func (s *system) logOf(id string) (said string) {
	log, _ := os.ReadFile(s.Log())
	for line := range strings.Lines(string(log)) {
		if strings.Contains(line, `"`+id+`"`) {
			said += line
		}
	}
	return said
}

// get is the most usual call.
func (p *probe) get(id, path string) *reply {
	p.Helper()
	return p.send(p.as(id, "GET", path))
}

// want fails unless the answer has one of the statuses.
func (p *probe) want(r *reply, statuses ...int) *reply {
	p.Helper()
	if !slices.Contains(statuses, r.status) {
		p.Errorf("got %s, want status %v", r, statuses)
	}
	return r
}

// same fails unless two answers are equal but for their request ids and dates.
func (p *probe) same(what string, a, b *reply) {
	p.Helper()
	plain := func(r *reply) string {
		h := r.header.Clone()
		h.Del("Date")
		h.Del("X-Request-Id")
		var s strings.Builder
		fmt.Fprintf(&s, "%d\n", r.status)
		for _, name := range slices.Sorted(maps.Keys(h)) {
			fmt.Fprintf(&s, "%s: %s\n", name, strings.Join(h[name], ", "))
		}
		return s.String() + string(r.body)
	}
	if plain(a) != plain(b) {
		p.Errorf("%s: the answers differ:\n%s\n--- and\n%s", what, plain(a), plain(b))
	}
}

// A bundle is what the tests look at of a Bundle.
type bundle struct {
	Type  string
	Total *int
	Link  []struct{ Relation, URL string }
	Entry []struct {
		FullURL  string
		Resource json.RawMessage
		Search   struct{ Mode string }
		Response struct {
			Status, Location string
			Outcome          json.RawMessage
		}
	}
}

func (p *probe) bundle(r *reply) *bundle {
	p.Helper()
	b := new(bundle)
	if err := json.Unmarshal(r.body, b); err != nil || r.status != http.StatusOK {
		p.Fatalf("not a Bundle: %s", r)
	}
	return b
}

func (b *bundle) next() string {
	for _, l := range b.Link {
		if l.Relation == "next" {
			return l.URL
		}
	}
	return ""
}

// statuses returns the statuses of the entries of a batch-response.
func (b *bundle) statuses() []string {
	var all []string
	for _, e := range b.Entry {
		code, _, _ := strings.Cut(e.Response.Status, " ")
		all = append(all, code)
	}
	return all
}

// refs returns Type/id of the entries.
func (b *bundle) refs() []string {
	var all []string
	for _, e := range b.Entry {
		all = append(all, refOf(e.Resource))
	}
	return all
}

func refOf(resource []byte) string {
	var x struct{ ResourceType, ID string }
	if json.Unmarshal(resource, &x) != nil {
		return ""
	}
	return x.ResourceType + "/" + x.ID
}

// often is n, and a third of it under the race detector, where all takes several
// times as long.
func often(n int) int {
	if underRace {
		return n / 3
	}
	return n
}

// poolProbe is C4: over every pooled connection attacker and victim see their
// own tenant.
func (p *probe) poolProbe() {
	p.Helper()
	g, _ := errgroup.WithContext(p.Context())
	g.SetLimit(16)
	for i := range often(50) {
		own := p.attacker
		if i%2 == 1 {
			own = p.victim
		}
		g.Go(func() error {
			r, err := p.try(p.of(own, "reader", "GET", "/Patient/p1"))
			if err == nil && (r.status != http.StatusOK || !bytes.Contains(r.body, []byte(own.canaries["name"]))) {
				err = fmt.Errorf("C4: a read in %s answers %s", own.slug, r)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		p.Error(err)
	}
}

// check holds C2, C3, C5 and C6.
func (p *probe) check(before observation) {
	p.Helper()
	if after := sys.digest(p, p.victim); after != before.digest && !p.writes {
		p.Errorf("C2: the victim's rows changed\nfrom %s\nto   %s", before.digest, after)
	}
	p.checkTrails(before)
	log, err := os.ReadFile(sys.Log())
	if err != nil {
		p.Fatal(err)
	}
	if i := bytes.Index(log[min(before.log, int64(len(log))):], []byte("panic")); i >= 0 {
		line := log[int(before.log)+i:]
		p.Errorf("C5: the log tells of a panic: %s", line[:min(len(line), 400)])
	}
	console, err := os.ReadFile(sys.Console())
	if err != nil {
		p.Fatal(err)
	}
	for _, word := range []string{"DATA RACE", "panic:", "fatal error:"} {
		if i := bytes.Index(console, []byte(word)); i >= 0 {
			p.Fatalf("C5: the server says: %s", console[i:min(len(console), i+3000)])
		}
	}
	raised := sys.alertCounts(p)
	for rule, n := range raised {
		if raised[rule] = n - before.alerts[rule]; raised[rule] == 0 || slices.Contains(p.mayAlert, rule) {
			delete(raised, rule)
		}
	}
	maps.DeleteFunc(p.alerts, func(_ string, n int) bool { return n == 0 })
	if !maps.Equal(raised, p.alerts) {
		p.Errorf("C6: the line raised alerts %v, want %v", raised, p.alerts)
	}
}

// checkTrails is C3: each request has one entry, in the right trail and with
// the right outcome, and the trails hold nothing else.
func (p *probe) checkTrails(before observation) {
	p.Helper()
	bySent := map[*party]map[string]sent{}
	trails := map[*party][]entry{nil: sys.platformTrail(p, before.platform)}
	for own, since := range before.trails {
		if own != sys.Z9 {
			trails[own] = sys.trail(p, own, since)
		}
	}
	for _, s := range p.sent {
		if s.lost {
			p.lost = append(p.lost, s.id)
			continue
		}
		if s.either != nil && slices.ContainsFunc(trails[s.either], func(e entry) bool { return e.request == s.id }) {
			s.trail = s.either
		}
		if bySent[s.trail] == nil {
			bySent[s.trail] = map[string]sent{}
		}
		bySent[s.trail][s.id] = s
	}
	for own, since := range before.trails {
		if own == sys.Z9 {
			if n := sys.suspendedEntries(p, since); n != p.suspended {
				p.Errorf("C3: the suspended tenant made %d requests, and its trail has %d entries of them", p.suspended, n)
			}
			continue
		}
		p.compare(own.slug, bySent[own], trails[own])
	}
	p.compare("the platform", bySent[nil], trails[nil])
}

func (p *probe) compare(trail string, sent map[string]sent, entries []entry) {
	p.Helper()
	found := map[string]int{}
	for _, e := range entries {
		if e.observer() || slices.Contains(p.lost, e.request) {
			continue
		}
		found[e.request]++
		s, ok := sent[e.request]
		switch {
		case !ok:
			p.Errorf("C3: the trail of %s has an entry of a request that is not its own: %+v", trail, e)
		case e.outcome != outcomeOf(s.status):
			p.Errorf("C3: %s answered %d, but the trail of %s says outcome %d", s.what, s.status, trail, e.outcome)
		}
	}
	for id, s := range sent {
		if found[id] != 1 {
			p.Errorf("C3: %s answered %d, and the trail of %s has %d entries of it", s.what, s.status, trail, found[id])
		}
	}
}

// outcomeOf is what AuditEvent.outcome says of a status.
// https://hl7.org/fhir/R4/valueset-audit-event-outcome.html
func outcomeOf(status int) int {
	switch {
	case status < 400:
		return 0
	case status == 401 || status == 403:
		return 8
	case status < 500:
		return 4
	}
	return 12
}

// An entry is one of a request in an audit trail.
type entry struct {
	request string
	outcome int
	linked  bool // to that of a request
	job     bool // of the server's own work: on an index or keys, or to hand out deferred requests
}

// observer reports whether the entry is of what the tests do to observe, or of
// no request.
func (e entry) observer() bool {
	return e.linked || e.job || strings.HasPrefix(e.request, "observer-")
}

// trail returns the entries of the tenant's audit trail after since, read as
// its auditor reads them.
func (s *system) trail(t testing.TB, p *party, since int64) []entry {
	t.Helper()
	var entries []entry
	if s.lastEntry(t, p) == since {
		return nil
	}
	next := p.base + "/AuditEvent?_count=1000&date=ge" + time.UnixMicro(since>>10+1577836800e6-1).UTC().Format("2006-01-02T15:04:05.000Z")
	for next != "" {
		body := s.auditPage(t, p, next)
		var b bundle
		if err := json.Unmarshal(body, &b); err != nil {
			t.Fatalf("reading the audit trail of %s: %v: %s", p.slug, err, body)
		}
		for _, e := range b.Entry {
			got, seq := readEvent(t, e.Resource)
			if seq <= since {
				return entries
			}
			entries = append(entries, got)
		}
		next = b.next()
	}
	return entries
}

func (s *system) auditPage(t testing.TB, p *party, url string) []byte {
	t.Helper()
	token, err := p.actors["auditor"].Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("X-Request-Id", "observer-"+strconv.FormatInt(requests.Add(1), 10))
	resp, err := s.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("reading the audit trail of %s: %s %s %v", p.slug, resp.Status, body, err)
	}
	return body
}

// suspendedEntries counts the entries of refused requests of the suspended
// tenant after since: no auditor can read them.
func (s *system) suspendedEntries(t testing.TB, since int64) (n int) {
	t.Helper()
	conn, err := s.asSuperuser(t.Context(), s.Z9.database)
	if err == nil {
		err = conn.QueryRow(t.Context(), `SELECT count(*) FROM `+s.Z9.schema+`.audit
			WHERE tenant_id = $1 AND seq > $2 AND outcome = 8`, s.Z9.number, since).Scan(&n)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// platformTrail returns the entries of the platform's log after since, but for
// those of operators.
func (s *system) platformTrail(t testing.TB, since int64) []entry {
	t.Helper()
	conn, err := s.asSuperuser(t.Context(), "cordon_registry")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := conn.Query(t.Context(), `
		SELECT request_id, outcome, client = 'cordon-keys' FROM registry.platform_audit WHERE seq > $1 AND server <> 'control'`, since)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var entries []entry
	for rows.Next() {
		var e entry
		if err := rows.Scan(&e.request, &e.outcome, &e.job); err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return entries
}

// readEvent reads an AuditEvent as far as the tests need it.
// https://profiles.ihe.net/ITI/BALP/
func readEvent(t testing.TB, resource []byte) (entry, int64) {
	t.Helper()
	var x struct {
		ID      string
		Outcome string
		Entity  []struct {
			Type, Role struct{ Code string }
			What       struct{ Identifier struct{ Value string } }
		}
	}
	if err := json.Unmarshal(resource, &x); err != nil {
		t.Fatalf("reading an AuditEvent: %v: %s", err, resource)
	}
	seq, err := strconv.ParseInt(x.ID, 16, 64)
	if err != nil {
		t.Fatalf("the id of an AuditEvent: %v", err)
	}
	n, err := strconv.Atoi(cmp.Or(x.Outcome, "-1"))
	if err != nil {
		t.Fatalf("the outcome of an AuditEvent: %v", err)
	}
	e := entry{outcome: n, job: bytes.Contains(resource, []byte(`"cordon-index"`)) || bytes.Contains(resource, []byte(`"cordon-later"`)) || bytes.Contains(resource, []byte(`"cordon-subscriptions"`))}
	for _, y := range x.Entity {
		if y.Type.Code == "XrequestId" {
			e.request = y.What.Identifier.Value
		}
		e.linked = e.linked || y.Role.Code == "20"
	}
	return e, seq
}
