package alert

import (
	"time"

	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/tenant"
)

// FailedLogins is the rule about who tries again and again to log in at a
// tenant: from one address, or from many.
const FailedLogins smart.Rule = "failed-logins"

const (
	maxFailed     = 100  // from one address
	maxFailedAll  = 1000 // from all
	failedWithin  = 10 * time.Minute
	maxLoginsKept = 20_000
)

// A tried is where somebody failed to log in; without an address, anywhere.
type tried struct{ tenant, address string }

type failures struct {
	since time.Time
	n     int
}

// LoginFailed sees that a login failed at the tenant with the slug, which need
// not be one.
func (w *Watcher) LoginFailed(slug, address, request string) {
	if _, err := tenant.ParseSlug(slug); err != nil {
		slug = ""
	}
	if w.failed(tried{slug, address}) == maxFailed {
		w.sight(Sighting{Rule: FailedLogins, Addressed: slug, Count: maxFailed, Principal: Principal{Address: address}, Requests: []string{request}})
	}
	if w.failed(tried{tenant: slug}) == maxFailedAll {
		w.sight(Sighting{Rule: FailedLogins, Addressed: slug, Count: maxFailedAll, Requests: []string{request}})
	}
}

// failed returns how many logins failed there of late.
func (w *Watcher) failed(at tried) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.cfg.Now()
	f := w.logins[at]
	if now.Sub(f.since) > failedWithin {
		f = failures{since: now}
	}
	f.n++
	if len(w.logins) >= maxLoginsKept {
		clear(w.logins) // who has so many addresses is found by their sum
	}
	w.logins[at] = f
	return f.n
}
