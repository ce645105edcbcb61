package breakout

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// A Condition is one that holds after every attack, whatever it was.
type Condition struct {
	ID    string `json:"id"`
	Title string `json:"title"`
	// Looked is after how many trials it could be observed, Broken how often it
	// did not hold.
	Looked int `json:"looked"`
	Broken int `json:"broken"`
	// Unseen says why it cannot be observed here, or not always.
	Unseen string `json:"not_observable_here,omitempty"`
}

var conditions = []Condition{
	{ID: "C1", Title: "no answer holds a word of another tenant, in whatever disguise", Unseen: "logs, files and what the server sends elsewhere"},
	{ID: "C2", Title: "the victim's records are as they were, read as the victim"},
	{ID: "C3", Title: "each request is in the audit trail of who asked, once and with the right outcome, and not in the victim's"},
	{ID: "C4", Title: "right after it, over every pooled connection, attacker and victim see their own tenant"},
	{ID: "C5", Title: "no panic, no leaked goroutine, no memory kept", Unseen: "it is inside the server"},
	{ID: "C6", Title: "the alerts that are due were raised"},
}

// A before is what is looked at before an attack.
type before struct {
	state  string         // of the victim, "" if it cannot be seen
	alerts map[string]int // nil if they cannot be seen
}

func (s *Suite) before(ctx context.Context, victim *party) (b before) {
	if b.state = s.states[victim.Slug]; b.state == "" {
		b.state = s.state(ctx, victim)
	}
	b.alerts = s.alertCounts(ctx)
	return b
}

// check holds the conditions after a trial, and returns those that it could.
func (s *Suite) check(ctx context.Context, t *Trial, b before) []string {
	looked := []string{"C1"}
	attacker, victim := s.parties[t.Attacker], s.parties[t.Victim]
	s.poolProbe(ctx, t, attacker, victim)
	looked = append(looked, "C4")
	after := s.state(ctx, victim)
	s.states[victim.Slug] = after
	if b.state != "" && !t.Attack.moves {
		looked = append(looked, "C2")
		if after != b.state {
			t.finding("C2", nil, "the records of %s are not as they were", victim.Slug)
		}
	}
	if attacker.actors["auditor"] != nil && victim.actors["auditor"] != nil {
		looked = append(looked, "C3")
		s.checkTrails(ctx, t, attacker, victim)
	}
	if b.alerts != nil {
		looked = append(looked, "C6")
		s.checkAlerts(ctx, t, b.alerts)
	}
	return looked
}

// state is what the tenant's own backend reads of the run's records, "" if it
// cannot be read.
func (s *Suite) state(ctx context.Context, p *party) string {
	var entries []string
	for _, ref := range append([]string{"Observation/" + s.id(fmt.Sprintf("vobs-%d", p.index)), "Patient/" + p.canaries["id"], "Patient/" + s.onlyID(p, 0), "Patient/" + s.onlyID(p, s.walk-1)},
		"Patient/"+s.id("p1"), "Patient/"+s.id("p2"), "Observation/"+s.id("o1"), "Observation/"+s.id("o2"), "DocumentReference/"+s.id("d1"), "Group/"+s.id("g2")) {
		entries = append(entries, Ask(http.MethodGet, ref))
	}
	entries = append(entries, Ask(http.MethodGet, "Patient?identifier=urn:breakout:run|"+s.run+"&_elements=id&_sort=_id&_count=1000"))
	x, err := s.post(ctx, p, Batch("batch", entries...))
	if err != nil {
		return ""
	}
	b, ok := x.bundle()
	if !ok {
		return ""
	}
	var all bytes.Buffer
	for i, e := range b.Entry {
		var inner bundle
		if json.Unmarshal(e.Resource, &inner) == nil && inner.ResourceType == "Bundle" { // the search
			refs := inner.refs()
			slices.Sort(refs)
			fmt.Fprintln(&all, refs)
			continue
		}
		fmt.Fprintln(&all, i, e.Response.Status, string(e.Resource))
	}
	return all.String()
}

// poolProbe is C4.
func (s *Suite) poolProbe(ctx context.Context, t *Trial, attacker, victim *party) {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i := range s.opt.Pool {
		own := []*party{attacker, victim}[i%2]
		g.Go(func() error {
			x, err := s.do(gctx, request{method: http.MethodGet, url: own.FHIRBase + "/Patient/" + s.id("p1"), actor: own.reader()})
			if err != nil {
				return err
			}
			t.clean(x)
			if x.Status != http.StatusOK || !bytes.Contains(x.Body, []byte(own.canaries["name"])) {
				t.finding("C4", x, "a read in %s is answered %d, and is not its own record", own.Slug, x.Status)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil && ctx.Err() == nil {
		t.finding("C4", nil, "there is no answer: %s", plain(err))
	}
}

// reader is who reads for the suite itself.
func (p *party) reader() *actor {
	if a := p.actors["reader"]; a != nil {
		return a
	}
	return p.actors["backend"]
}

// until tries again for as long as what was done may take to show.
func (s *Suite) until(ctx context.Context, done func() bool) bool {
	for end := time.Now().Add(s.opt.Settle); ; {
		if done() {
			return true
		}
		if time.Now().After(end) || sleep(ctx, 200*time.Millisecond) != nil {
			return false
		}
	}
}

// checkTrails is C3. A request that showed no good token is in no tenant's trail;
// where it is then only operators see.
func (s *Suite) checkTrails(ctx context.Context, t *Trial, attacker, victim *party) {
	if len(t.Exchanges) == 0 {
		return
	}
	since, err := http.ParseTime(t.Exchanges[0].Header.Get("Date"))
	if err != nil {
		since = time.Now().Add(-time.Minute)
	}
	since = since.Add(-time.Second)
	var faults []Finding
	s.until(ctx, func() bool {
		faults = faults[:0]
		for _, own := range []*party{attacker, victim} {
			found, err := s.trail(ctx, own, since)
			if err != nil {
				faults = append(faults, Finding{Condition: "C3", What: "the audit trail of " + own.Slug + " cannot be read"})
				continue
			}
			for _, x := range t.Exchanges {
				if what := x.audited(own, found[x.ID]); what != "" {
					faults = append(faults, Finding{"C3", what, x.Method + " " + x.URL})
				}
			}
		}
		return len(faults) == 0
	})
	t.Findings = append(t.Findings, faults...)
}

// audited says what is wrong with the entries of the exchange in a trail.
func (x *Exchange) audited(trail *party, outcomes []string) string {
	switch {
	case x.Owner != trail.Slug && len(outcomes) > 0:
		return "the audit trail of " + trail.Slug + " has an entry of a request that is not its own"
	case x.Owner != trail.Slug || x.Unread:
		return ""
	case len(outcomes) != 1:
		return fmt.Sprintf("the audit trail of %s has %d entries of it, want 1", trail.Slug, len(outcomes))
	case (outcomes[0] == "0") != (x.Status < 400):
		return fmt.Sprintf("it was answered %d, and the audit trail of %s says outcome %s", x.Status, trail.Slug, outcomes[0])
	}
	return ""
}

// trail returns the outcomes of the requests in the tenant's audit trail since a
// moment, by request id, read as its auditor reads them.
// https://profiles.ihe.net/ITI/BALP/
func (s *Suite) trail(ctx context.Context, p *party, since time.Time) (map[string][]string, error) {
	outcomes := map[string][]string{}
	next := p.FHIRBase + "/AuditEvent?_count=1000&date=ge" + url.QueryEscape(since.UTC().Format(time.RFC3339))
	for pages := 0; next != "" && pages < 100; pages++ {
		x, err := s.do(ctx, request{method: http.MethodGet, url: next, actor: p.actors["auditor"]})
		if err != nil {
			return nil, err
		}
		b, ok := x.bundle()
		if !ok {
			return nil, fmt.Errorf("status %d", x.Status)
		}
		for _, e := range b.Entry {
			if id, outcome := readEvent(e.Resource); id != "" {
				outcomes[id] = append(outcomes[id], outcome)
			}
		}
		next = b.next()
	}
	return outcomes, nil
}

// readEvent returns the request and the outcome of an AuditEvent; of one that is
// linked to that of a request, as that of an entry of a Bundle is, none.
func readEvent(resource []byte) (id, outcome string) {
	var x struct {
		Outcome string
		Entity  []struct {
			Type, Role struct{ Code string }
			What       struct{ Identifier struct{ Value string } }
		}
	}
	if json.Unmarshal(resource, &x) != nil {
		return "", ""
	}
	for _, e := range x.Entity {
		if e.Role.Code == "20" {
			return "", ""
		}
		if e.Type.Code == "XrequestId" {
			id = e.What.Identifier.Value
		}
	}
	return id, x.Outcome
}

// checkAlerts is C6. Others use the server too, so that more alerts than are due
// say nothing.
func (s *Suite) checkAlerts(ctx context.Context, t *Trial, before map[string]int) {
	var now map[string]int
	s.until(ctx, func() bool {
		now = s.alertCounts(ctx)
		for rule, n := range t.Alerts {
			if now[rule]-before[rule] < n {
				return false
			}
		}
		return true
	})
	for _, rule := range slices.Sorted(maps.Keys(t.Alerts)) {
		if got := now[rule] - before[rule]; got < t.Alerts[rule] {
			t.finding("C6", nil, "%d alerts by the rule %s, want %d", got, rule, t.Alerts[rule])
		}
	}
}

// alertCounts returns how many alerts were raised so far, by rule, nil if that
// cannot be seen.
func (s *Suite) alertCounts(ctx context.Context) map[string]int {
	if s.ops == "" {
		return nil
	}
	x, err := s.do(ctx, request{method: http.MethodGet, url: s.ops + "/metrics"})
	if err != nil || x.Status != http.StatusOK {
		return nil
	}
	counts := map[string]int{}
	for line := range strings.Lines(string(x.Body)) {
		rest, ok := strings.CutPrefix(line, `cordon_alerts_total{rule="`)
		if !ok {
			continue
		}
		rule, n, _ := strings.Cut(strings.TrimSpace(rest), `"} `)
		if f, err := strconv.ParseFloat(n, 64); err == nil {
			counts[rule] = int(f)
		}
	}
	return counts
}
