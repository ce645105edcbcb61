package conformance

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/alert"
	attacks "github.com/cordon-fhir/cordon/breakout"
)

// The rules of alerts about what clients do over time, and about the trail.
const (
	enumeration  = "enumeration"
	scraping     = "scraping"
	oddNetwork   = "unexpected-network"
	failedLogins = "failed-logins"
	auditFailure = "audit-failure"
)

// A hook is a webhook for alerts that notes what it is told.
type hook struct {
	*httptest.Server
	mu   sync.Mutex
	told []told
}

// A told alert is what a webhook was sent.
type told struct {
	body      []byte
	signature string
	Tenant    string
	Rule      string
}

func newHook(t *testing.T) *hook {
	t.Helper()
	h := &hook{}
	h.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		one := told{body: body, signature: r.Header.Get("Cordon-Signature")}
		if err != nil || json.Unmarshal(body, &one) != nil {
			t.Errorf("the webhook is sent %q: %v", body, err)
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.told = append(h.told, one)
	}))
	t.Cleanup(h.Close)
	return h
}

// of returns what was told of a rule and a tenant.
func (h *hook) of(tenant, rule string) (list []told) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, one := range h.told {
		if one.Tenant == tenant && one.Rule == rule {
			list = append(list, one)
		}
	}
	return list
}

var signatureForm = regexp.MustCompile(`^t=([0-9]+),v1=([0-9a-f]{64})$`)

// signed reports whether the message is signed with the secret.
func (o told) signed(secret string) bool {
	m := signatureForm.FindStringSubmatch(o.signature)
	if m == nil {
		return false
	}
	at, err := strconv.ParseInt(m[1], 10, 64)
	return err == nil && alert.Sign([]byte(secret), time.Unix(at, 0), o.body) == m[2]
}

// Each rule is set off over HTTP at a tenant of each mode, is on record for
// operators, and is told to the webhook for all and to that of the tenant, and
// to no other tenant's. OBS-08, T058
func TestAlerts(t *testing.T) {
	all := newHook(t)
	secret, err := sys.Cordon(t.Context(), "alert", "sink", "set", all.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sys.command(t, "alert", "sink", "remove") })
	neighbour := newHook(t)
	sys.command(t, "alert", "sink", "set", "--tenant", sys.A2.slug, neighbour.URL)
	t.Cleanup(func() { sys.command(t, "alert", "sink", "remove", "--tenant", sys.A2.slug) })

	for _, mode := range []string{"shared", "schema", "database"} {
		at := sys.watched(t, mode)
		own := newHook(t)
		ownSecret := strings.TrimSpace(sys.command(t, "alert", "sink", "set", "--tenant", at.slug, own.URL))
		for _, line := range alarms {
			hooks := map[*hook]string{all: secret, own: ownSecret}
			tenant := at.slug
			if line.nobodys {
				if mode != "shared" {
					continue // it would be the same alert
				}
				delete(hooks, own)
				tenant = ""
			}
			t.Run(line.rule+" at a tenant of mode "+mode, func(t *testing.T) {
				attack(t, pair{at, sys.A2}, func(p *probe) {
					p.alertsOptional(line.rule)
					line.off(p)
					listed := regexp.MustCompile(`(?m)^[0-9]+ +open +` + tenant + ` *` + line.rule + ` `)
					p.until("the alert is on record", func() bool { return listed.MatchString(p.cordon("alert", "list")) })
					for h, secret := range hooks {
						p.until("the webhook is told", func() bool { return len(h.of(tenant, line.rule)) > 0 })
						one := h.of(tenant, line.rule)[0]
						if !one.signed(secret) {
							p.Errorf("not signed: %s %s", one.signature, one.body)
						}
						if found := sys.hunter().Find(one.body); len(found) > 0 || strings.Contains(string(one.body), "Patient") {
							p.Errorf("it tells of a record: %s", one.body)
						}
					}
				})
			})
		}
	}
	for _, one := range neighbour.told {
		if one.Tenant != sys.A2.slug {
			t.Errorf("another tenant's webhook is told %s", one.body)
		}
	}
	figures := sys.metrics(t)
	for _, line := range alarms {
		if regexp.MustCompile(`(?m)^cordon_alerts_total\{rule="` + line.rule + `"\} 0$`).MatchString(figures) {
			t.Errorf("%s is not counted", line.rule)
		}
	}
	if !regexp.MustCompile(`(?m)^cordon_alert_messages_total\{result="delivered"\} [1-9]`).MatchString(figures) {
		t.Errorf("messages to webhooks are not counted")
	}
}

// command runs a command of the program that must work.
func (s *system) command(t testing.TB, args ...string) string {
	t.Helper()
	out, err := s.Cordon(context.WithoutCancel(t.Context()), args...) // also to clean up
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// watched makes a tenant of the mode at which nothing has happened yet.
func (s *system) watched(t *testing.T, mode string) *party {
	t.Helper()
	slug := fmt.Sprintf("watched-%s-%d", mode, requests.Add(1))
	at := &party{sys: s, slug: slug, mode: mode, base: s.FHIR + "/" + slug, actors: map[string]*actor{}}
	for _, step := range []func() error{
		func() error { return at.provision(t.Context()) }, func() error { return at.place(t.Context()) }, func() error { return at.seed(t.Context()) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	return at
}

// alarms set each rule off. Where nobody has proved to be of a tenant, the alert
// is nobody's.
var alarms = []struct {
	rule    string
	off     func(p *probe)
	nobodys bool
}{
	{crossTenant, func(p *probe) { p.want(p.send(p.as("reader", "GET", p.victim.base+"/Patient/p1")), 403) }, false},
	{otherInHeader, func(p *probe) {
		p.want(p.send(p.as("reader", "GET", "/Patient/p1").with("X-Tenant-Id", p.victim.slug)), 400)
	}, false},
	{otherInBundle, func(p *probe) {
		p.want(p.send(p.as("backend", "POST", "", attacks.Batch("batch", attacks.Ask("GET", p.victim.base+"/Patient/p1")))), 200)
	}, false},
	{adminOnData, func(p *probe) {
		p.want(p.send(&call{method: "GET", url: p.attacker.base + "/Patient/p1", header: http.Header{}, bearer: operatorToken(p)}), 403)
	}, true},
	{mutatedClaims, func(p *probe) {
		token, err := p.attacker.actors["reader"].Token(p.Context())
		if err != nil {
			p.Fatal(err)
		}
		p.want(p.send(&call{method: "GET", url: p.attacker.base + "/Patient/p1", header: http.Header{}, bearer: token[:len(token)-8] + "AAAAAAAA"}), 401)
	}, false},
	{tokenReuse, func(p *probe) {
		first := p.granted(p.attacker)
		p.want(p.refresh(p.attacker, first.RefreshToken).reply, 200)
		p.want(p.refresh(p.attacker, first.RefreshToken).reply, 400)
	}, false},
	{foreignAudience, func(p *probe) {
		v := p.visitor(p.attacker)
		v.want(v.asks("aud", "https://fhir.evil.example/r4"), 400)
	}, false},
	{oddNetwork, func(p *probe) {
		p.cordon("tenant", "set", p.attacker.slug, `alerts.networks={"billing":["198.51.100.0/24"]}`)
		p.until("a client is elsewhere", func() bool {
			p.want(p.get("billing", "/Coverage/k1"), 200)
			return sys.alertCounts(p)[oddNetwork] > p.before.alerts[oddNetwork]
		})
	}, false},
	{scraping, func(p *probe) {
		p.want(p.send(p.as("backend", "POST", "", attacks.Batch("transaction", slices.Repeat([]string{attacks.Give("POST", "Patient", `{"resourceType":"Patient"}`)}, 30)...))), 200)
		p.cordon("tenant", "set", p.attacker.slug, "alerts.patients=20")
		p.until("a client is told of many", func() bool {
			p.want(p.get("reader", "/Patient?_count=50"), 200)
			return sys.alertCounts(p)[scraping] > p.before.alerts[scraping]
		})
		p.cordon("tenant", "set", p.attacker.slug, "alerts.patients=25000")
	}, false},
	{enumeration, func(p *probe) { // of what another tenant has
		for i := range 300 {
			p.want(p.get("backend", "/Patient/"+p.victim.walkedID(i)), 404)
		}
	}, false},
	{failedLogins, func(p *probe) {
		form := url.Values{"grant_type": {"client_credentials"}, "scope": {"system/*.rs"}, "client_assertion_type": {bearerType}, "client_assertion": {"a.b.c"}}
		for range 110 {
			p.want(p.token(p.attacker, form).reply, 401)
		}
	}, true},
	{auditFailure, func(p *probe) {
		if _, err := p.attacker.actors["dr1"].Token(p.Context()); err != nil { // a login is audited too
			p.Fatal(err)
		}
		defer p.deaf(p.attacker)()
		r := p.broken("dr1", "/Patient/p1")
		if r.status != http.StatusServiceUnavailable {
			p.Errorf("without a trail: %s", r)
		}
	}, false},
}
