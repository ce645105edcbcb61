package limit

import (
	"math"
	"net/netip"
	"strconv"
	"time"

	"github.com/cordon-fhir/cordon/tenant"
)

// Refusals are requests that were refused and of which no entry was written.
type Refusals struct {
	Tenant  *tenant.Tenant // nil for those of an address
	Who     Who
	Address string // a network, for IPv6 a /64
	Count   int
}

// Unsaid returns the refusals of past seconds of which no entry was written, to
// be written now: nobody may come again who would tell of them. With all it
// returns those of this second too.
func (l *Limiter) Unsaid(all bool) []Refusals {
	now := l.cfg.Now()
	if all {
		now = now.Add(time.Second)
	}
	var list []Refusals
	byAddress := func(a netip.Prefix, n int) { list = append(list, Refusals{Address: a.String(), Count: n}) }
	l.strangers.takeUnsaid(now, byAddress)
	l.logins.takeUnsaid(now, byAddress)
	l.mu.Lock()
	shops := make([]*shop, 0, len(l.tenants))
	tenants := make([]*tenant.Tenant, 0, len(l.tenants))
	for _, s := range l.tenants {
		shops, tenants = append(shops, s), append(tenants, s.tenant)
	}
	l.mu.Unlock()
	for i, s := range shops {
		byClient := func(w Who, n int) { list = append(list, Refusals{Tenant: tenants[i], Who: w, Count: n}) }
		s.clients.takeUnsaid(now, byClient)
		s.tokens.takeUnsaid(now, byClient)
	}
	return list
}

// RetryAfter is the header field for a wait.
// https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
func RetryAfter(wait time.Duration) string {
	return strconv.Itoa(max(1, int(math.Ceil(wait.Seconds()))))
}
