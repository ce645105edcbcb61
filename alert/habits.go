package alert

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/limit"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/tenant"
)

// A rule about habits looks at one entry of the audit trail and at what it knows
// of whoever made it. It reports whether that is the moment to alert.
type habitRule struct {
	name  smart.Rule
	see   func(h *habits, t *tenant.Tenant, e *audit.Entry, now time.Time) bool
	slows bool // who is seen has few requests left for a while
}

var habitRules = []habitRule{
	{Enumeration, (*habits).enumerates, true},
	{Scraping, (*habits).scrapes, true},
	{Elsewhere, (*habits).isElsewhere, false},
}

// habits are what is known of a principal.
type habits struct {
	missed    window // ids that answered nothing
	met       window // patients whose records were told
	hours     int    // in which there were any
	most      int    // patients in one of those hours
	elsewhere time.Time
}

// A window counts different things since it was opened.
type window struct {
	opened time.Time
	things *distinct
	told   bool // an alert was raised
}

// see notes a thing. It reports how many there are, and, if this window has just
// been opened, how many there were in the one before, unless they were too many.
func (w *window) see(thing uint64, long time.Duration, now time.Time) (n, before int) {
	if w.things == nil || now.Sub(w.opened) > long {
		if w.things != nil && !w.told {
			before = w.things.count()
		}
		*w = window{opened: now, things: newDistinct()}
	}
	w.things.add(thing)
	return w.things.count(), before
}

// tell reports, once for each window, that there are too many.
func (w *window) tell(tooMany bool) bool {
	tell := tooMany && !w.told
	w.told = w.told || tooMany
	return tell
}

// seed keeps strangers from choosing ids that count as one.
var seed = maphash.MakeSeed()

func hashOf(parts ...string) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	for _, p := range parts {
		h.WriteString(p)
		h.WriteByte(0)
	}
	return h.Sum64()
}

// maxPrincipals bounds the principals of one tenant whose habits are known.
const maxPrincipals = 4096

// A crowd are the principals of a tenant. Those who are not seen for long are
// forgotten, or sooner if there are too many.
type crowd struct {
	mu         sync.Mutex
	fresh, old map[Principal]*habits
	turned     time.Time
}

func (c *crowd) with(p Principal, now time.Time, fn func(*habits)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.fresh[p]
	if h == nil {
		if len(c.fresh) >= maxPrincipals/2 || now.Sub(c.turned) > 2*time.Hour {
			c.fresh, c.old, c.turned = map[Principal]*habits{}, c.fresh, now
		}
		if h = c.old[p]; h == nil {
			h = &habits{}
		}
		c.fresh[p] = h
	}
	fn(h)
}

// slowFor is how long whoever does what looks like an attack has few requests.
const slowFor = 5 * time.Minute

// Entries sees what was written to the audit trail of the tenant, before the
// answer leaves.
func (w *Watcher) Entries(t *tenant.Tenant, entries []*audit.Entry) {
	c, now := w.crowd(t), w.cfg.Now()
	for _, e := range entries {
		w.glass(t, e)
		if e.Agent.Client == "" {
			continue
		}
		who := Principal{Client: e.Agent.Client, User: e.Agent.User}
		var seen []habitRule
		c.with(who, now, func(h *habits) {
			for _, r := range habitRules {
				if r.see(h, t, e, now) {
					seen = append(seen, r)
				}
			}
		})
		for _, r := range seen {
			w.sight(Sighting{Tenant: t.Slug.String(), Rule: r.name, Count: 1, Requests: []string{e.Origin.RequestID},
				Principal: Principal{Client: who.Client, User: who.User, Address: e.Origin.Address}})
			if r.slows && w.cfg.Limit != nil {
				w.cfg.Limit.Slow(t, limit.Who{Client: who.Client, User: who.User}, now.Add(slowFor))
			}
		}
	}
}

func (w *Watcher) crowd(t *tenant.Tenant) *crowd {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.crowds[t.ID]
	if c == nil {
		c = &crowd{fresh: map[Principal]*habits{}, old: map[Principal]*habits{}}
		w.crowds[t.ID] = c
	}
	return c
}
