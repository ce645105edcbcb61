package smart

import (
	"bytes"
	"context"
	"fmt"
	"sync"

	"github.com/cordon-fhir/cordon/tenant"
)

// A KeptGlass is a Glass as the registry keeps it.
type KeptGlass struct {
	Tenant int32
	ID     string
	Kept   []byte // by KeepSigned
}

// Glasses is the record of broken glasses. store.Registry is one.
type Glasses interface {
	// GlassesInForce returns those of all tenants that were approved and have
	// not ended.
	GlassesInForce(ctx context.Context) ([]KeptGlass, error)
}

// glasses are those that the record says are in force. Each is opened when
// somebody of its tenant asks, once.
type glasses struct {
	leased[map[int32][]KeptGlass]
	opened opened
}

func newGlasses(record Glasses, cfg Config) *glasses {
	if record == nil {
		return nil
	}
	g := &glasses{opened: opened{known: map[glassName]openedGlass{}}}
	g.now = cfg.Now
	g.read = func(ctx context.Context, _ *map[int32][]KeptGlass) (*map[int32][]KeptGlass, error) {
		list, err := record.GlassesInForce(ctx)
		if err != nil {
			return nil, err
		}
		byTenant := map[int32][]KeptGlass{}
		for _, k := range list {
			byTenant[k.Tenant] = append(byTenant[k.Tenant], k)
		}
		g.opened.keep(list)
		return &byTenant, nil
	}
	return g
}

// throughGlass gives g the glasses that its user has broken. Whose row does not
// open, or is of somebody else, gets nothing by it.
func (v *Verifier) throughGlass(ctx context.Context, g *Grant) error {
	if v.glasses == nil || !g.tenant.Settings.BreakGlass.On() || g.token.claims.Session == "" || !g.access.isStaff() {
		return nil
	}
	all, err := v.glasses.get(ctx)
	if err != nil {
		return fmt.Errorf("looking up broken glasses: %w", err)
	}
	for _, k := range (*all)[g.tenant.ID.Int()] {
		b, err := v.openGlass(ctx, g.tenant, k)
		if err != nil {
			return err
		}
		if b.holds(g.token.claims, g.access.user, g.at) {
			g.glasses = append(g.glasses, b)
		}
	}
	return nil
}

// openGlass returns the glass, zero if it is none of the tenant's, or signed with a
// key that is not believed any more.
func (v *Verifier) openGlass(ctx context.Context, t *tenant.Tenant, k KeptGlass) (Glass, error) {
	set, err := v.cfg.Keys.Of(ctx, t.ID)
	if err != nil {
		return Glass{}, err
	}
	o, ok := v.glasses.opened.get(k)
	if !ok {
		o.kept = k.Kept
		_, p, err := readSigned(set, t, k.ID, GlassBroken, k.Kept, &o.glass)
		if err != nil || p.holds(set) != nil || !o.glass.good(t, k.ID) {
			o.glass = Glass{}
		}
		o.kid = p.kid
		v.glasses.opened.put(k, o)
	}
	if set.VerifyingKey(o.kid) == nil {
		return Glass{}, nil
	}
	return o.glass, nil
}

// opened are glasses that were opened, so that a signature is verified once.
type opened struct {
	mu    sync.Mutex
	known map[glassName]openedGlass
}

type glassName struct {
	tenant int32
	id     string
}

type openedGlass struct {
	kept  []byte // that it was opened from
	kid   string // of the key that signed
	glass Glass
}

func (o *opened) get(k KeptGlass) (openedGlass, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	was, ok := o.known[glassName{k.Tenant, k.ID}]
	if !ok || !bytes.Equal(was.kept, k.Kept) {
		return openedGlass{}, false
	}
	return was, true
}

func (o *opened) put(k KeptGlass, g openedGlass) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.known[glassName{k.Tenant, k.ID}] = g
}

// keep forgets all but those of the list.
func (o *opened) keep(list []KeptGlass) {
	o.mu.Lock()
	defer o.mu.Unlock()
	known := make(map[glassName]openedGlass, len(list))
	for _, k := range list {
		if was, ok := o.known[glassName{k.Tenant, k.ID}]; ok {
			known[glassName{k.Tenant, k.ID}] = was
		}
	}
	o.known = known
}
