package limit

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/tenant"
)

func TestAllOfAnIPv6NetworkIsOneAddress(t *testing.T) {
	now := time.Now()
	l := New(Config{Strangers: 1, Now: func() time.Time { return now }})
	for i := range 31 {
		l.Failed(fmt.Sprintf("2001:db8::%d", i+1))
	}
	if l.Stranger("2001:db8::ffff") == 0 {
		t.Error("another address of the network has room")
	}
	if l.Stranger("2001:db8:0:1::1") != 0 {
		t.Error("another network has none")
	}
}

// Whoever makes up addresses does not make this process grow.
func TestWhatIsRememberedIsBounded(t *testing.T) {
	now := time.Now()
	p := newPeople[netip.Prefix](100)
	for i := range 10_000 {
		p.with(network(fmt.Sprintf("10.0.%d.%d", i/256, i%256)), now, func(one *person) { one.refuse(now); one.refuse(now) })
	}
	if n := len(p.fresh) + len(p.old); n > 100 || len(p.owing) > 100 {
		t.Errorf("%d are remembered, %d owed for", n, len(p.owing))
	}
}

func TestARefusalIsReportedOncePerSecondWithTheOthersCounted(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	l := New(Config{Strangers: 1, Now: func() time.Time { return now }})
	for i := range 5 {
		if r := l.Refused("192.0.2.1"); r.Write != (i == 0) {
			t.Errorf("refusal %d: %+v", i, r)
		}
	}
	if owed := l.Unsaid(false); len(owed) != 0 {
		t.Errorf("the second is not over, and %+v", owed)
	}
	now = now.Add(time.Second)
	if r := l.Refused("192.0.2.1"); !r.Write || r.Unsaid != 4 {
		t.Errorf("a second later: %+v", r)
	}
	l.Refused("192.0.2.1")
	now = now.Add(time.Second)
	if owed := l.Unsaid(false); len(owed) != 1 || owed[0].Count != 1 || owed[0].Address != "192.0.2.1/32" {
		t.Errorf("owed: %+v", owed)
	}
	if owed := l.Unsaid(true); len(owed) != 0 {
		t.Errorf("owed twice: %+v", owed)
	}
}

func TestWhoeverIsSlowedHasFewRequestsLeftForAWhile(t *testing.T) {
	now := time.Now()
	l := New(Config{Now: func() time.Time { return now }})
	tn := tenantOf(t)
	w := Who{Client: "odd"}
	l.Slow(tn, w, now.Add(time.Minute))
	allowed := 0
	for wait := time.Duration(0); wait == 0; allowed++ {
		wait, _ = l.Take(tn, w)
	}
	if allowed-1 != slowed*burst {
		t.Errorf("%d requests", allowed-1)
	}
	if wait, _ := l.Take(tn, Who{Client: "other"}); wait != 0 {
		t.Error("another client is slowed")
	}
	now = now.Add(2 * time.Minute)
	for range 10_000 {
		if wait, _ := l.Take(tn, w); wait != 0 {
			t.Fatal("it is slowed for good")
		}
	}
}

// source is a registry of one tenant.
type source struct{}

func (source) TenantBySlug(context.Context, string) (tenant.Row, error) {
	return tenant.Row{ID: 1, Slug: "harbor", Mode: "shared", Status: "active"}, nil
}

func tenantOf(t *testing.T) *tenant.Tenant {
	tn, err := tenant.NewRegistry(source{}).Tenant(t.Context(), "harbor")
	if err != nil {
		t.Fatal(err)
	}
	return tn
}
