package smart

import (
	"sync"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
)

// decisions are what a policy answered of late for an access. Answers depend on
// the time, so they are kept for the second that they were made for.
type decisions struct {
	mu     sync.Mutex
	policy *Policy
	at     int64
	known  map[question]verdict
}

// of returns the answer of the policy to the question, at the time.
func (d *decisions) of(p *Policy, a *access, q question, at time.Time) verdict {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known == nil || d.policy != p || d.at != at.Unix() {
		d.policy, d.at, d.known = p, at.Unix(), map[question]verdict{}
	}
	v, ok := d.known[q]
	if !ok {
		v = p.decide(a, q, at)
		d.known[q] = v
	}
	return v
}

// within returns what of scoped, which the scopes of g allow, the policy of the
// tenant allows too; nil if that is nothing, whatever the resource. Here is
// where further conditions on what may be seen are joined.
func (g *Grant) within(scoped search.Expr, q question) search.Expr {
	if g.policy != nil && g.policy.open {
		return scoped
	}
	if q.on == "" {
		return no // each type that is reached needs a Permit of its own
	}
	if !q.on.Known() {
		return nil // never remembered: the text is the client's
	}
	allowed := g.access.judged.of(g.policy, g.access, q, g.at.Truncate(time.Second)).where
	switch {
	case nothing(allowed):
		return nil
	case everything(allowed):
		return scoped
	case everything(scoped), search.Equal(scoped, allowed):
		return allowed
	case q.on == auditEvent:
		return nil // the trail is not searched by conditions, but as a whole or for a patient
	}
	return search.And{scoped, allowed}
}

const auditEvent fhir.Type = "AuditEvent"
