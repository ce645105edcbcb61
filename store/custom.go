package store

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/canonical"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

// Search parameters of a tenant become part of its index in two steps. First
// they are written down as being built, which makes a new generation: each
// write says in its own transaction by which generation it went, and is run
// again if that is past (hold_generation). When the last transaction is over
// that can have gone by the one before, whatever is written from then on is
// indexed, in every process; the index job adds what was there already, and
// makes them ready. They are removed in the same way, backwards.

// customRenew is how old what is known of a tenant's parameters gets before it
// is read again, beside the request that noticed.
const customRenew = time.Second

// customs are the search parameters of the tenants, as this process knows them.
type customs struct {
	byTenant[tenantCustom]

	compiled sync.Map // digest of a keptParameter → *search.CustomParameter
	count    atomic.Int64
}

// maxCompiled bounds how many compiled parameters are remembered.
const maxCompiled = 2000

type tenantCustom struct {
	reading sync.Mutex // held by who reads from the database

	mu       sync.Mutex
	known    *search.Custom // nil: none in generation 0
	read     time.Time      // zero: known is past
	due      bool           // the index lacks standings
	renewing bool
}

// forget makes the next who asks read them again.
func (c *customs) forget(id tenant.ID) {
	x := c.of(id)
	x.mu.Lock()
	x.read = time.Time{}
	x.mu.Unlock()
}

// look returns what is known. renew says that the caller should read it anew
// beside its work.
func (x *tenantCustom) look() (known *search.Custom, fresh, renew bool) {
	now := time.Now()
	x.mu.Lock()
	defer x.mu.Unlock()
	if fresh = !x.read.IsZero(); fresh && !x.renewing && now.Sub(x.read) > customRenew {
		x.renewing, renew = true, true
	}
	return x.known, fresh, renew
}

// standings reports whether the index of the tenant has those of all resources. Once it
// has, it always does.
func (x *tenantCustom) standings() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return !x.read.IsZero() && !x.due
}

// Custom returns the search parameters that the tenant of g adds to those of
// R4, nil if it never had any. They can be a second old: a write that goes by
// past ones is run again, and a search by them is refused.
func (db *DB) Custom(ctx context.Context, g *smart.Grant) (*search.Custom, error) {
	if _, err := g.PermitRules("SearchParameter"); err != nil {
		return nil, nil // of nobody, who searches nothing
	}
	x := db.customs.of(g.Tenant().ID)
	known, fresh, renew := x.look()
	if renew {
		go db.renewCustom(x, g.Tenant())
	}
	if fresh {
		return known, nil
	}
	x.reading.Lock()
	defer x.reading.Unlock()
	if known, fresh, _ = x.look(); fresh { // someone was faster
		return known, nil
	}
	return db.readCustom(ctx, x, g)
}

// renewCustom reads them again for those who come next.
func (db *DB) renewCustom(x *tenantCustom, t *tenant.Tenant) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	x.reading.Lock()
	// If it fails the next who notices tries again; until then writes are held
	// to the generation by the database.
	_, _ = db.readCustom(ctx, x, smart.IndexJob(t))
	x.reading.Unlock()
	x.mu.Lock()
	x.renewing = false
	x.mu.Unlock()
}

// readCustom reads them from the database. The caller holds x.reading.
func (db *DB) readCustom(ctx context.Context, x *tenantCustom, g *smart.Grant) (*search.Custom, error) {
	begun := time.Now()
	is, err := db.indexState(ctx, g)
	if err != nil {
		return nil, err
	}
	x.mu.Lock()
	known := x.known
	x.mu.Unlock()
	if (search.Schema{Custom: known}).Generation() != is.generation {
		var list []*search.CustomParameter
		var states []search.CustomState
		for _, j := range is.jobs {
			if j.parameter != nil {
				list, states = append(list, j.parameter), append(states, j.state)
			}
		}
		known = search.NewCustom(is.generation, list, states)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.known, x.read, x.due = known, begun, is.due
	return known, nil
}

// An indexJob is a row of the table.
type indexJob struct {
	name      string
	state     search.CustomState
	parameter *search.CustomParameter // nil for the index made again, of which
	request   IndexRequest            // says what was asked for
	done, of  int64
}

// allJob names the index made again.
const allJob = "all"

var jobStates = map[string]search.CustomState{"b": search.CustomBuilding, "r": search.CustomReady, "d": search.CustomRemoving}

// An indexState is what is to be done for the index of a tenant.
type indexState struct {
	jobs       []indexJob // in order of name
	generation int64
	due        bool // standings of what was there before the index had them
}

func (db *DB) indexState(ctx context.Context, g *smart.Grant) (is indexState, err error) {
	p, err := g.PermitRules("SearchParameter")
	if err != nil {
		return is, err
	}
	set, err := db.keys.Of(ctx, g.Tenant().ID)
	if err != nil {
		return is, err
	}
	err = db.gate.Rules(ctx, g, func(tx *gate.Tx) error {
		is = indexState{}
		rows, err := tx.Query(ctx, p, gate.SQL(`
			SELECT coalesce((SELECT generation FROM ~index_generation WHERE tenant_id = $1), 0),
			       EXISTS (SELECT FROM ~index_due WHERE tenant_id = $1), j.name, j.state, j.done, j.of, j.sealed
			FROM   (SELECT $1::int AS tenant_id) one LEFT JOIN ~index_job j ON j.tenant_id = one.tenant_id
			ORDER  BY j.name`))
		if err != nil {
			return err
		}
		var name, state *string
		var done, of *int64
		var sealed []byte
		_, err = pgx.ForEachRow(rows, []any{&is.generation, &is.due, &name, &state, &done, &of, &sealed}, func() error {
			if name == nil {
				return nil
			}
			j := indexJob{name: *name, state: jobStates[*state], done: *done, of: *of}
			if j.name == allJob {
				j.request, err = openRequest(set, g.Tenant(), sealed)
			} else {
				j.parameter, err = db.customs.openParameter(set, g.Tenant(), j.name, sealed)
			}
			is.jobs = append(is.jobs, j)
			return err
		})
		return err
	})
	if err != nil {
		return is, fmt.Errorf("reading the search parameters of tenant %s: %w", g.Tenant().ID, err)
	}
	return is, nil
}

// A keptParameter is what a job keeps of its parameter: all that it is compiled
// from, so that the index can be told of what is no longer defined anywhere.
type keptParameter struct {
	Parameter  jsontext.Value            `json:"parameter"`
	Components map[string]jsontext.Value `json:"components,omitempty"`
}

func (k keptParameter) compile() (*search.CustomParameter, error) {
	return search.CompileCustom(k.Parameter, func(url string) ([]byte, bool) {
		body, ok := k.Components[url]
		return body, ok
	})
}

func jobPlace(t *tenant.Tenant, name string) []byte {
	return fmt.Appendf(nil, "index job %s %s", t.ID, name)
}

func (k keptParameter) seal(set *keys.Set, t *tenant.Tenant, name string) ([]byte, error) {
	plain, err := json.Marshal(k, json.Deterministic(true))
	if err != nil {
		return nil, err
	}
	return set.Seal(nil, recordKey, plain, jobPlace(t, name))
}

// openParameter compiles the parameter of a job, or remembers having done so.
func (c *customs) openParameter(set *keys.Set, t *tenant.Tenant, name string, sealed []byte) (*search.CustomParameter, error) {
	plain, err := set.Open(recordKey, sealed, jobPlace(t, name))
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(plain)
	if known, ok := c.compiled.Load(digest); ok {
		return known.(*search.CustomParameter), nil
	}
	var k keptParameter
	if err := json.Unmarshal(plain, &k); err != nil {
		return nil, err
	}
	p, err := k.compile()
	if err != nil {
		return nil, err
	}
	if p.Print != name {
		return nil, errors.New("store: the search parameter has another print than before")
	}
	if c.count.Add(1) <= maxCompiled {
		c.compiled.Store(digest, p)
	}
	return p, nil
}

// wantedParameters are what the definitions of a tenant add to search.
type wantedParameters struct {
	list    []*search.CustomParameter
	kept    map[string]keptParameter // by print
	refused []SearchParameterStatus
}

type wantedKey struct{}

// wanted compiles the SearchParameters of set that R4 does not have itself.
func wanted(set *canonical.Set) (*wantedParameters, error) {
	w, err := set.Memo(wantedKey{}, func() (any, error) {
		w := &wantedParameters{kept: map[string]keptParameter{}}
		taken := map[string]bool{} // type and code
		perType := map[fhir.Type]int{}
		for d := range set.All("SearchParameter") {
			if newest, _ := set.Find("SearchParameter", d.URL); newest != d {
				continue
			}
			if _, ofR4 := canonical.Core().Find("SearchParameter", d.URL); ofR4 {
				continue
			}
			w.add(set, d, taken, perType)
		}
		slices.SortFunc(w.refused, func(a, b SearchParameterStatus) int { return strings.Compare(a.URL, b.URL) })
		return w, nil
	})
	if err != nil {
		return nil, err
	}
	return w.(*wantedParameters), nil
}

func (w *wantedParameters) add(set *canonical.Set, d *canonical.Definition, taken map[string]bool, perType map[fhir.Type]int) {
	k := keptParameter{Parameter: d.JSON(), Components: map[string]jsontext.Value{}}
	c, err := search.CompileCustom(k.Parameter, func(url string) ([]byte, bool) {
		part, ok := set.Find("SearchParameter", url)
		if ok {
			k.Components[url] = part.JSON()
			return k.Components[url], true
		}
		return nil, false
	})
	refuse := func(why string) {
		s := SearchParameterStatus{URL: d.URL, State: "refused", Why: why}
		if c != nil {
			s.Code, s.Types = c.Code, c.Types()
		}
		w.refused = append(w.refused, s)
	}
	if errors.Is(err, search.ErrNotSearched) {
		return
	}
	if err != nil {
		refuse(words(err))
		return
	}
	for _, t := range c.Types() {
		switch {
		case taken[string(t)+"?"+c.Code]:
			refuse("another search parameter has its code, for " + string(t))
			return
		case perType[t] == search.MaxCustomOfType:
			refuse(fmt.Sprintf("%s has %d search parameters of its own already", t, search.MaxCustomOfType))
			return
		}
	}
	if len(w.list) == search.MaxCustom {
		refuse(fmt.Sprintf("the tenant has %d search parameters of its own already", search.MaxCustom))
		return
	}
	for _, t := range c.Types() {
		taken[string(t)+"?"+c.Code] = true
		perType[t]++
	}
	w.list, w.kept[c.Print] = append(w.list, c), k
}

// words returns what the first issue of a *fhir.Error says.
func words(err error) string {
	var fe *fhir.Error
	if errors.As(err, &fe) && len(fe.Issues) > 0 {
		return fe.Issues[0].Diagnostics
	}
	return "it cannot be compiled"
}

// A SearchParameterStatus says how far a search parameter of a tenant is.
type SearchParameterStatus struct {
	URL   string      `json:"url"`
	Code  string      `json:"code,omitempty"`
	Types []fhir.Type `json:"types,omitempty"`
	// State is "waiting", "indexing", "ready", "removing" or "refused".
	State   string `json:"state"`
	Percent int    `json:"percent"` // of the resources that are indexed
	Why     string `json:"why,omitempty"`
}

// SearchParameters returns the search parameters of the tenant of g besides
// those of R4, also those that are refused, in order of URL.
func (db *DB) SearchParameters(ctx context.Context, g *smart.Grant) ([]SearchParameterStatus, error) {
	set, err := db.Definitions(ctx, g)
	if err != nil {
		return nil, err
	}
	w, err := wanted(set)
	if err != nil {
		return nil, err
	}
	is, err := db.indexState(ctx, g)
	if err != nil {
		return nil, err
	}
	return w.status(is.jobs), nil
}

// status says how far the parameters are.
func (w *wantedParameters) status(jobs []indexJob) []SearchParameterStatus {
	list := slices.Clone(w.refused)
	known := map[string]bool{}
	for _, j := range jobs {
		if j.parameter == nil {
			continue
		}
		known[j.name] = true
		c := j.parameter
		list = append(list, SearchParameterStatus{URL: c.URL, Code: c.Code, Types: c.Types(), State: string(j.state), Percent: j.percent()})
	}
	for _, c := range w.list {
		if !known[c.Print] {
			list = append(list, SearchParameterStatus{URL: c.URL, Code: c.Code, Types: c.Types(), State: "waiting"})
		}
	}
	slices.SortStableFunc(list, func(a, b SearchParameterStatus) int { return strings.Compare(a.URL, b.URL) })
	return list
}

func (j indexJob) percent() int {
	switch {
	case j.state == search.CustomReady:
		return 100
	case j.of == 0:
		return 0
	}
	return int(min(99, 100*j.done/j.of))
}

// hold refuses a search by parameters of the tenant that are not those of the
// snapshot: their index may be incomplete, or be gone.
func (v *View) hold(ctx context.Context, q *search.Query, plans []plan) error {
	if q.Custom == nil || len(plans) == 0 {
		return nil
	}
	rows, err := v.query(ctx, plans[0].permit, gate.SQL(`SELECT generation FROM ~index_generation WHERE tenant_id = $1`))
	if err != nil {
		return fmt.Errorf("looking for changed search parameters: %w", err)
	}
	generation, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[int64])
	if err != nil {
		return fmt.Errorf("looking for changed search parameters: %w", err)
	}
	if generation == q.Custom.Generation && generation == v.schema.Generation() {
		return nil
	}
	v.db.customs.forget(v.grant.Tenant().ID)
	return fhir.Errorf(fhir.Transient, "the search parameters of the tenant are being changed, try again")
}

// checkParameter refuses a SearchParameter that could never be searched. A
// composite is not held to its components, which may come after it.
func checkParameter(body []byte) error {
	_, err := search.CompileCustom(body, func(url string) ([]byte, bool) {
		d, ok := canonical.Core().Find("SearchParameter", url)
		if !ok {
			return nil, false
		}
		return d.JSON(), true
	})
	if errors.Is(err, search.ErrNotSearched) || errors.Is(err, search.ErrComponent) {
		return nil
	}
	return err
}
