package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
	"weak"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/singleflight"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/canonical"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

const (
	// rulesRenew is how old what is known of a tenant's rules gets before
	// somebody looks whether they changed, and rulesStale how old it may be
	// while somebody looks.
	rulesRenew = 500 * time.Millisecond
	rulesStale = time.Second

	// A tenant may have this many definitions of its own, of this many bytes.
	maxRules     = 5000
	maxRuleBytes = 128 << 20
)

// Definitions returns what the tenant of g is held to: its own StructureDefinitions,
// ValueSets and such (smart.RuleTypes), over those of its packages, over those of R4.
// A change is seen at once in this process, and within a second in others.
//
// They are the same for every client of the tenant, whatever its scopes, and
// reading them leaves no audit entry: they are rules to work by. No part of a
// resource that is known from here alone may be in an answer.
//
// Within a View it has to be called before the first statement, so that nobody
// waits for a second connection while holding one.
func (db *DB) Definitions(ctx context.Context, g *smart.Grant) (*canonical.Set, error) {
	if _, err := g.PermitRules(smart.RuleTypes[0]); err != nil {
		return nil, err
	}
	t := g.Tenant()
	r := db.rules.of(t.ID)
	known, generation := r.look()
	if known != nil && known.packages >= t.Packages {
		if age := time.Since(known.read); age < rulesRenew || age < rulesStale && !r.renewing() {
			return known.set, nil
		}
	}
	// One looks for all that came since the last change.
	key := fmt.Sprint(generation, " ", t.Packages)
	ch := r.flight.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		next, err := db.readRules(ctx, g, known)
		if err == nil {
			r.learn(next, generation)
		}
		return next, err
	})
	select {
	case got := <-ch:
		if got.Err != nil {
			return nil, got.Err
		}
		return got.Val.(*ruleState).set, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// PackageDefinitions returns the definitions of the tenant's packages over
// those of R4, and which packages these are: what its CapabilityStatement
// tells anybody.
func (db *DB) PackageDefinitions(ctx context.Context, t *tenant.Tenant) (*canonical.Set, []InstalledPackage, error) {
	if db.packages == nil || t.Packages == 0 {
		return canonical.Core(), nil, nil
	}
	list, err := db.packages.Packages(ctx, t.ID)
	if err != nil || len(list) == 0 {
		return canonical.Core(), nil, err
	}
	set, err := db.rules.packageSet(list, func(h Hash) (*canonical.Pack, error) { return db.packages.packed(ctx, t.ID, h) })
	return set, list, err
}

// rules are what this process knows of the tenants' rules, and how it shares
// the packages that several have.
type rules struct {
	byTenant[tenantRules]

	sharing sync.Mutex
	sets    map[string]weak.Pointer[canonical.Set] // by the hashes of packages
	packs   map[Hash]weak.Pointer[canonical.Pack]
}

// tenantRules are those of one tenant.
type tenantRules struct {
	flight singleflight.Group

	mu         sync.Mutex
	generation int64 // counts the changes by this process
	known      *ruleState
	looking    time.Time // since when somebody looks for a change
}

// A ruleState is what was read at one time.
type ruleState struct {
	set      *canonical.Set
	packages int64
	below    *canonical.Set // of the packages
	stamp    ruleStamp
	own      map[int64]ownRule // by rid
	read     time.Time
}

// A ruleStamp differs whenever the rules differ: every write raises a version.
type ruleStamp struct{ count, versions int64 }

type ownRule struct {
	version int64
	def     *canonical.Definition
}

func newRules() *rules {
	return &rules{sets: map[string]weak.Pointer[canonical.Set]{}, packs: map[Hash]weak.Pointer[canonical.Pack]{}}
}

// forget makes the next who asks look again.
func (rs *rules) forget(id tenant.ID) {
	r := rs.of(id)
	r.mu.Lock()
	r.generation++
	if r.known != nil {
		old := *r.known
		old.read = time.Time{}
		r.known = &old
	}
	r.mu.Unlock()
}

func (r *tenantRules) look() (*ruleState, int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known, r.generation
}

// renewing reports whether the caller should look for changes, as nobody does.
func (r *tenantRules) renewing() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if now.Sub(r.looking) < rulesRenew {
		return false
	}
	r.looking = now
	return true
}

// learn keeps what was read, unless it was changed meanwhile.
func (r *tenantRules) learn(s *ruleState, generation int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.generation == generation && (r.known == nil || s.packages >= r.known.packages) {
		r.known = s
	}
}

// packageSet returns the Set of packages, which tenants with equal packages share.
func (rs *rules) packageSet(list []InstalledPackage, load func(Hash) (*canonical.Pack, error)) (*canonical.Set, error) {
	var key strings.Builder
	for _, p := range list {
		key.Write(p.Hash[:])
	}
	rs.sharing.Lock()
	w := rs.sets[key.String()]
	rs.sharing.Unlock()
	if set := w.Value(); set != nil {
		return set, nil
	}
	defs := make([][]*canonical.Definition, len(list))
	for i, p := range list {
		pack, err := rs.pack(p.Hash, load)
		if err != nil {
			return nil, err
		}
		defs[i] = pack.Definitions
	}
	set := canonical.NewSet(canonical.Core(), defs...)
	rs.sharing.Lock()
	defer rs.sharing.Unlock()
	if other := rs.sets[key.String()].Value(); other != nil {
		return other, nil // someone was faster
	}
	share(rs.sets, key.String(), set)
	return set, nil
}

func (rs *rules) pack(h Hash, load func(Hash) (*canonical.Pack, error)) (*canonical.Pack, error) {
	rs.sharing.Lock()
	w := rs.packs[h]
	rs.sharing.Unlock()
	if p := w.Value(); p != nil {
		return p, nil
	}
	p, err := load(h)
	if err != nil {
		return nil, err
	}
	rs.sharing.Lock()
	defer rs.sharing.Unlock()
	share(rs.packs, h, p)
	return p, nil
}

// share keeps x in the map for as long as somebody holds it, and drops what
// nobody holds any more.
func share[K comparable, T any](m map[K]weak.Pointer[T], key K, x *T) {
	maps.DeleteFunc(m, func(_ K, w weak.Pointer[T]) bool { return w.Value() == nil })
	m[key] = weak.Make(x)
}

// readRules reads what differs from what is known, which may be nil.
func (db *DB) readRules(ctx context.Context, g *smart.Grant, known *ruleState) (*ruleState, error) {
	t := g.Tenant()
	next := &ruleState{packages: t.Packages, read: time.Now()}
	if known != nil && known.packages == t.Packages {
		next.below = known.below
	} else {
		var err error
		if next.below, _, err = db.PackageDefinitions(ctx, t); err != nil {
			return nil, err
		}
	}
	err := db.gate.Rules(ctx, g, func(tx *gate.Tx) error { return db.readOwnRules(ctx, tx, known, next) })
	if err != nil {
		return nil, err
	}
	switch {
	case known != nil && next.below == known.below && next.stamp == known.stamp:
		next.set = known.set
	case len(next.own) == 0:
		next.set = next.below
	default:
		next.set = canonical.NewSet(next.below, next.sorted())
	}
	return next, nil
}

// readOwnRules fills in the tenant's own.
func (db *DB) readOwnRules(ctx context.Context, tx *gate.Tx, known, next *ruleState) error {
	var p smart.Permit
	var types []int16
	for _, on := range smart.RuleTypes {
		var err error
		if p, err = tx.Grant().PermitRules(on); err != nil {
			return err
		}
		types = append(types, on.Number())
	}
	stamp, err := one(tx.Query(ctx, p, gate.SQL(`
		SELECT count(*), coalesce(sum(version), 0)
		FROM   ~resource
		WHERE  tenant_id = $1 AND type = ANY (?::smallint[])`, types)))
	if err != nil {
		return fmt.Errorf("looking for changed rules: %w", err)
	}
	next.stamp = stamp
	if known != nil && stamp == known.stamp {
		next.own = known.own
		return nil
	}
	if stamp == (ruleStamp{}) {
		return nil
	}
	rows, err := tx.Query(ctx, p, gate.SQL(`
		SELECT rid, type, id, version
		FROM   ~resource
		WHERE  tenant_id = $1 AND type = ANY (?::smallint[]) AND NOT deleted
		LIMIT  ?`, types, maxRules+1))
	if err != nil {
		return fmt.Errorf("listing rules: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(c pgx.CollectableRow) (r row, err error) {
		var number int16
		err = c.Scan(&r.rid, &number, &r.ref.ID, &r.version)
		r.ref.Type = fhir.TypeNumbered(number)
		return r, err
	})
	if err != nil {
		return fmt.Errorf("listing rules: %w", err)
	}
	if len(list) > maxRules {
		return tooManyRules()
	}
	return db.openRules(ctx, tx, p, list, known, next)
}

func one(rows pgx.Rows, err error) (s ruleStamp, _ error) {
	if err != nil {
		return s, err
	}
	return pgx.CollectExactlyOneRow(rows, func(c pgx.CollectableRow) (ruleStamp, error) {
		err := c.Scan(&s.count, &s.versions)
		return s, err
	})
}

func tooManyRules() error {
	return fhir.Errorf(fhir.TooCostly, "the tenant has more than %d resources that define something, or more than %d bytes of them", maxRules, maxRuleBytes)
}

// openRules takes over those of list that are known, and reads the others.
func (db *DB) openRules(ctx context.Context, tx *gate.Tx, p smart.Permit, list []row, known, next *ruleState) error {
	next.own = make(map[int64]ownRule, len(list))
	changed := map[int64]row{}
	var rids []int64
	for _, r := range list {
		if known != nil {
			if old, ok := known.own[r.rid]; ok && old.version == r.version {
				next.own[r.rid] = old
				continue
			}
		}
		changed[r.rid] = r
		rids = append(rids, r.rid)
	}
	if len(rids) == 0 {
		return nil
	}
	set, err := db.keys.Of(ctx, tx.Grant().Tenant().ID)
	if err != nil {
		return err
	}
	rows, err := tx.Query(ctx, p, gate.SQL(`
		SELECT rid, body
		FROM   ~resource
		WHERE  tenant_id = $1 AND rid = ANY (?::bigint[])`, rids))
	if err != nil {
		return fmt.Errorf("reading rules: %w", err)
	}
	packer, size := canonical.NewPacker(false), 0
	var packed []row
	var rid int64
	var body []byte
	_, err = pgx.ForEachRow(rows, []any{&rid, &body}, func() error {
		r := changed[rid]
		json, err := db.codec.open(set, tx.Grant().Tenant().ID.Int(), r.ref, r.version, body)
		if err != nil {
			return err
		}
		if size += len(json); size > maxRuleBytes {
			return tooManyRules()
		}
		// Without a URL nothing can name it; what cannot be read as a
		// definition was not stored as a valid resource, and defines nothing.
		d, err := canonical.New(json)
		if err != nil || d.URL == "" {
			next.own[rid] = ownRule{version: r.version}
			return nil
		}
		packer.Add(d)
		packed = append(packed, r)
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading rules: %w", err)
	}
	for i, d := range packer.Pack().Definitions {
		next.own[packed[i].rid] = ownRule{packed[i].version, d}
	}
	return nil
}

// sorted returns the definitions in an order that is the same in all servers.
func (s *ruleState) sorted() []*canonical.Definition {
	rids := slices.Sorted(maps.Keys(s.own))
	list := make([]*canonical.Definition, 0, len(rids))
	for _, rid := range rids {
		if d := s.own[rid].def; d != nil {
			list = append(list, d)
		}
	}
	return list
}
