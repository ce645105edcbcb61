package rest

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/store"
)

// transaction does every entry or none, in the order that the standard gives
// and whatever the order of the entries.
// https://hl7.org/fhir/R4/http.html#trules
func transaction(ctx context.Context, s *server, req *request, entries []*entry) (*response, error) {
	p := plan{server: s, outer: req, entries: entries}
	if err := p.make(ctx); err != nil {
		return nil, err
	}
	var answers []*response
	err := s.DB.Transaction(ctx, req.grant, req.asks().writing(func(tx *store.Tx) (err error) {
		answers, err = p.run(ctx, tx)
		return err
	}))
	if err != nil {
		return nil, err
	}
	b := newBundle("transaction-response", req.now())
	for _, a := range answers {
		b.answer(req.base, a)
	}
	return &response{status: http.StatusOK, body: b.bytes()}, nil
}

// A plan is a transaction of which all is known that can be without the
// database. It is not changed by running it, for it may be run again.
type plan struct {
	*server
	outer   *request
	entries []*entry

	targets  map[string]target   // by fullUrl
	refs     []fhir.Ref          // what is updated, patched and deleted by id
	taken    map[fhir.Ref]int    // the entry that writes it
	queries  map[string]criteria // conditional references
	waits    map[*entry][]string // the conditional references of an entry
	criteria map[string]bool     // of conditional creates
	nexts    map[fhir.Ref]bool   // what is referred to by its next version
	faults   []fhir.Issue
	status   int // of the first fault
}

// A target is what references to an entry become.
type target struct {
	ref     fhir.Ref
	created bool // as version 1
	// sent is the version that the client says it sends.
	sent string
}

// next stands for the version of a resource that the transaction is about to
// make, until it is known.
const next = "/_history/next"

// make reads all entries. The error tells every fault of each.
func (p *plan) make(ctx context.Context) error {
	p.targets = make(map[string]target, len(p.entries))
	p.taken = make(map[fhir.Ref]int, len(p.entries))
	p.queries, p.waits, p.criteria = map[string]criteria{}, map[*entry][]string{}, map[string]bool{}
	p.nexts = map[fhir.Ref]bool{}
	steps := []func(*entry) error{
		func(e *entry) error { return p.request(ctx, p.outer, e, p.outer.grant) },
		p.name,
		func(e *entry) error { return p.take(ctx, e) },
	}
	for _, step := range steps {
		for _, e := range p.entries {
			if e.failed {
				continue
			}
			if err := p.fault(e, step(e)); err != nil {
				return err
			}
		}
	}
	if len(p.faults) > 0 {
		return &fhir.Error{Issues: p.faults, Status: p.status}
	}
	return nil
}

// fault keeps what is wrong with an entry; any other error it returns.
func (p *plan) fault(e *entry, err error) error {
	var fe *fhir.Error
	if err == nil || !errors.As(err, &fe) {
		return err
	}
	if p.status == 0 {
		p.status = statusOf(fe)
	}
	e.failed = true
	p.faults = append(p.faults, fe.Issues...)
	return nil
}

// name gives the entry the id that it will have, and its fullUrl a meaning.
func (p *plan) name(e *entry) error {
	switch e.req.does {
	case fhir.Transaction, fhir.Capabilities:
		return fhir.Errorf(fhir.NotSupported, "this interaction cannot be part of a transaction").At(e.place() + ".request.url")
	case fhir.Operation:
		// Only what reads has a place in the order of a transaction.
		if e.route.look == nil {
			return fhir.Errorf(fhir.NotSupported, "this operation cannot be part of a transaction").At(e.place() + ".request.url")
		}
	case fhir.Create:
		e.req.ref.ID = store.NewID()
	case fhir.Update, fhir.Patch, fhir.Delete:
		if e.req.ref.ID == "" {
			// The criteria tell which. Until they do, an update has a name.
			if e.req.does == fhir.Update {
				return p.call(e, fhir.Ref{Type: e.req.ref.Type, ID: store.NewID()})
			}
			return nil
		}
		if _, ok := p.taken[e.req.ref]; ok {
			return fhir.Errorf(fhir.Invalid, "two entries write the same resource").At(e.place() + ".request.url")
		}
		p.taken[e.req.ref] = e.index
		p.refs = append(p.refs, e.req.ref)
	}
	if e.req.does == fhir.Create || e.req.does == fhir.Update {
		return p.call(e, e.req.ref)
	}
	return nil
}

// call lets references to the fullUrl of e become ref.
func (p *plan) call(e *entry, ref fhir.Ref) error {
	if e.fullURL == "" {
		return nil
	}
	if _, ok := p.targets[e.fullURL]; ok {
		return fhir.Errorf(fhir.Invalid, "two entries have the same fullUrl").At(e.place() + ".fullUrl")
	}
	p.targets[e.fullURL] = target{
		ref: ref, created: e.req.does == fhir.Create && e.req.noneExist == "", sent: text(member(member(e.resource, "meta"), "versionId")),
	}
	return nil
}

// take rewrites the references of the entry's resource and validates it.
func (p *plan) take(ctx context.Context, e *entry) error {
	if e.resource != nil && e.req.patch == nil {
		missing := false
		base, _, absolute := restful(e.fullURL)
		if !absolute {
			base = ""
		}
		w := rewriter{target: func(url string, literal bool) string {
			with := p.resolve(url, base, literal)
			if literal && with == "" {
				missing = missing || strings.HasPrefix(url, "urn:uuid:")
				if t, _, ok := strings.Cut(url, "?"); ok && fhir.Type(t).Known() {
					p.waits[e] = append(p.waits[e], url)
				}
			}
			return with
		}}
		resource := w.rewrite(e.resource)
		if missing {
			return fhir.Errorf(fhir.Invalid, "the resource refers to a urn:uuid that is no fullUrl of the Bundle").At(e.place() + ".resource")
		}
		id := e.req.ref.ID
		if e.req.does == fhir.Create {
			e.req.ref.ID = ""
		}
		err := e.setDocument(ctx, resource)
		e.req.ref.ID = id
		if err != nil {
			return err
		}
	}
	for _, reference := range p.waits[e] {
		if err := p.query(reference); err != nil {
			return clientError(err).At(e.place() + ".resource")
		}
	}
	if e.route.parse != nil {
		if err := e.route.parse(e.req); err != nil {
			return clientError(err).At(e.place() + ".request")
		}
	}
	return p.single(e)
}

// single refuses two creates with the same criteria: the second would have to
// find what the first is about to make.
func (p *plan) single(e *entry) error {
	if e.req.does != fhir.Create || e.req.noneExist == "" {
		return nil
	}
	if p.criteria[e.req.criteria.name] {
		return fhir.Errorf(fhir.Invalid, "two entries have the same criteria").At(e.place() + ".request.ifNoneExist")
	}
	p.criteria[e.req.criteria.name] = true
	return nil
}

// resolve returns what a URL in an entry with a fullUrl below base becomes.
func (p *plan) resolve(url, base string, literal bool) string {
	if t, ok := p.targets[url]; ok {
		return t.ref.String()
	}
	if !literal {
		return ""
	}
	if base != "" && !strings.Contains(url, ":") {
		url = base + "/" + url
		if t, ok := p.targets[url]; ok {
			return t.ref.String()
		}
	}
	url, version, ok := strings.Cut(url, "/_history/")
	t, known := p.targets[url]
	switch {
	case !ok || !known:
		return ""
	case t.created: // it can only mean the one about to be made
		return t.ref.String() + "/_history/1"
	case strings.HasPrefix(url, "urn:") || version == t.sent:
		p.nexts[t.ref] = true
		return t.ref.String() + next
	}
	return "" // an older version, which stays what it is
}

// query reads a conditional reference.
// https://hl7.org/fhir/R4/http.html#trules
func (p *plan) query(reference string) error {
	if _, ok := p.queries[reference]; ok {
		return nil
	}
	t, query, _ := strings.Cut(reference, "?")
	params, err := search.ParseQuery(query)
	if err != nil {
		return err
	}
	p.queries[reference], err = parseCriteria(fhir.Type(t), params, p.outer.strict())
	return err
}

// A run is one attempt at a plan.
type run struct {
	*plan
	tx      *store.Tx
	work    []*entry // copies, to be changed
	answers []*response
	moved   map[string]string // references that the criteria of an entry change
	taken   map[fhir.Ref]int
}

// run does the plan in tx and returns the answers in the order of the entries.
func (p *plan) run(ctx context.Context, tx *store.Tx) ([]*response, error) {
	r := &run{
		plan: p, tx: tx, answers: make([]*response, len(p.entries)),
		moved: map[string]string{}, taken: maps.Clone(p.taken),
	}
	for _, e := range p.entries {
		one, req := *e, *e.req
		one.req = &req
		r.work = append(r.work, &one)
	}
	if len(p.refs) > 0 {
		if err := tx.Fetch(ctx, p.refs...); err != nil {
			return nil, err
		}
	}
	if err := r.lock(ctx); err != nil {
		return nil, err
	}
	phases := []func(context.Context) error{r.deletes, r.matches, r.move, r.writes, r.waiting, r.reads}
	for _, phase := range phases {
		if err := phase(ctx); err != nil {
			return nil, err
		}
	}
	return r.answers, nil
}

// do does one entry.
func (r *run) do(ctx context.Context, e *entry) (err error) {
	switch {
	case e.route.look != nil:
		r.answers[e.index], err = e.route.look(ctx, &r.tx.View, e.req)
	case e.route.change != nil:
		r.answers[e.index], err = e.route.change(ctx, r.tx, e.req)
	default:
		r.answers[e.index], err = e.route.whole(ctx, r.server, e.req)
	}
	return named(e, err)
}

// named says in err of which entry it is.
func named(e *entry, err error) error {
	var fe *fhir.Error
	if !errors.As(err, &fe) {
		return err
	}
	out := &fhir.Error{Issues: slices.Clone(fe.Issues), Status: fe.Status}
	for i := range out.Issues {
		if !slices.ContainsFunc(out.Issues[i].Expression, func(x string) bool { return strings.HasPrefix(x, "Bundle.entry[") }) {
			out.Issues[i].Expression = append([]string{e.place()}, out.Issues[i].Expression...)
		}
	}
	return out
}

// lock locks all criteria in one order, so that Bundles that share some wait
// for each other in turn and not in a circle.
func (r *run) lock(ctx context.Context) error {
	var conditional []*entry
	for _, e := range r.work {
		if e.req.criteria.name != "" {
			conditional = append(conditional, e)
		}
	}
	slices.SortFunc(conditional, func(a, b *entry) int { return strings.Compare(a.req.criteria.name, b.req.criteria.name) })
	for _, e := range conditional {
		if err := r.tx.Lock(ctx, e.req.does, e.req.criteria.on, e.req.criteria.name); err != nil {
			return named(e, err)
		}
	}
	return nil
}

func (r *run) deletes(ctx context.Context) error {
	for _, e := range r.work {
		if e.req.does != fhir.Delete {
			continue
		}
		if err := r.do(ctx, e); err != nil {
			return err
		}
		deleted := r.answers[e.index].version.Ref
		if e.req.ref.ID != "" || deleted.IsZero() {
			continue // it was taken before, or there was none
		}
		if err := r.claim(e, deleted); err != nil {
			return err
		}
	}
	return nil
}

// claim notes that an entry writes what its criteria found.
func (r *run) claim(e *entry, ref fhir.Ref) error {
	if _, ok := r.taken[ref]; ok {
		return named(e, fhir.Errorf(fhir.Invalid, "two entries write the same resource"))
	}
	r.taken[ref] = e.index
	return nil
}

// matches finds out what conditional creates, updates and patches are about.
func (r *run) matches(ctx context.Context) error {
	for _, e := range r.work {
		if e.req.criteria.name == "" || e.req.does == fhir.Delete {
			continue
		}
		ref, err := existing(ctx, r.tx, e.req.does, e.req.criteria)
		if err == nil {
			err = r.match(ctx, e, ref)
		}
		if err != nil {
			return named(e, err)
		}
	}
	return nil
}

// match turns a conditional entry into one that is not.
func (r *run) match(ctx context.Context, e *entry, ref fhir.Ref) (err error) {
	name := r.targets[e.fullURL].ref
	switch {
	case e.req.does == fhir.Create && ref.IsZero():
		e.req.noneExist = ""
		return nil
	case e.req.does == fhir.Create:
		r.answers[e.index], err = matched(ctx, r.tx, e.req, ref)
	default:
		if ref, err = r.concrete(e, ref, name); err != nil {
			return err
		}
	}
	if !name.IsZero() && name != ref {
		r.moved[name.String()] = ref.String()
	}
	return err
}

// concrete gives a conditional update or patch the resource that it is about.
func (r *run) concrete(e *entry, ref, name fhir.Ref) (fhir.Ref, error) {
	found := !ref.IsZero()
	if e.req.does == fhir.Patch {
		if !found {
			return ref, fhir.Errorf(fhir.NotFound, "no resource meets the criteria")
		}
		e.route = r.route("PATCH")
	} else {
		id := e.req.document.ID
		switch {
		case found && id != "" && id != ref.ID:
			return ref, fhir.Errorf(fhir.Invalid, "the resource has another id than the one that meets the criteria")
		case found:
		case e.req.match != 0 || e.req.matchAny:
			return ref, fhir.Errorf(fhir.Conflict, "no resource meets the criteria").WithStatus(http.StatusPreconditionFailed)
		case id != "":
			ref = fhir.Ref{Type: e.req.ref.Type, ID: id}
			e.req.createOnly = true
		case name.IsZero():
			ref = fhir.Ref{Type: e.req.ref.Type, ID: store.NewID()}
		default:
			ref = name
		}
		e.route = r.route("PUT")
	}
	e.req.ref = ref
	return ref, r.claim(e, ref)
}

// route returns the route of a method on one resource.
func (r *run) route(method string) *route { return r.routes.table[method+" "+root+"/:type/:id"] }

// move rewrites the references to entries whose criteria found another name.
func (r *run) move(ctx context.Context) error {
	if err := r.versions(ctx); err != nil {
		return err
	}
	if len(r.moved) == 0 {
		return nil
	}
	for _, e := range r.work {
		if d := e.content(); d == nil || !r.mentions(d.JSON) {
			continue
		}
		if err := e.replace(func(url string) string { return r.moved[url] }); err != nil {
			return err
		}
	}
	return nil
}

// versions finds out which versions are about to be made, where references ask
// for them.
func (r *run) versions(ctx context.Context) error {
	for i, e := range r.work {
		name := r.targets[e.fullURL].ref
		if name.IsZero() || !r.nexts[name] {
			continue
		}
		ref, version := e.req.ref, int64(1)
		switch {
		case r.answers[i] != nil: // a conditional create that found one
			ref, version = r.answers[i].version.Ref, r.answers[i].version.Version
		case e.req.does == fhir.Update:
			var err error
			if version, err = r.tx.Next(ctx, fhir.Update, ref); err != nil {
				return named(e, err)
			}
		}
		r.moved[name.String()+next] = ref.String() + "/_history/" + strconv.FormatInt(version, 10)
	}
	return nil
}

func (r *run) mentions(b []byte) bool {
	for name := range r.moved {
		if bytes.Contains(b, []byte(name)) {
			return true
		}
	}
	return false
}

// content returns the resource that e has references in: what is to be
// written, or the Parameters of a FHIRPath Patch; nil if there is none.
func (e *entry) content() *fhir.Document {
	if e.req.parameters != nil {
		return e.req.parameters
	}
	return e.req.document
}

// replace rewrites references in the content of e.
func (e *entry) replace(with func(url string) string) error {
	w := rewriter{target: func(url string, _ bool) string { return with(url) }}
	d, err := fhir.Reopen(w.rewrite(e.content().JSON))
	if err != nil {
		return err
	}
	if e.req.parameters != nil {
		e.req.parameters = d
		return parsePatch(e.req)
	}
	e.req.document = d
	return nil
}

// writes does the creates, then the updates and patches, but for those that
// wait for a conditional reference.
func (r *run) writes(ctx context.Context) error {
	for _, does := range [][]fhir.Interaction{{fhir.Create}, {fhir.Update, fhir.Patch}} {
		for i, e := range r.work {
			if r.answers[i] != nil || !slices.Contains(does, e.req.does) || len(r.waits[r.entries[i]]) > 0 {
				continue
			}
			if err := r.do(ctx, e); err != nil {
				return err
			}
		}
	}
	return nil
}

// waiting resolves the conditional references against what was written by now,
// and writes the entries that have them. An entry may wait for one that waits.
func (r *run) waiting(ctx context.Context) error {
	known := map[string]string{}
	for {
		var left *entry
		wrote := false
		for i, e := range r.work {
			waits := r.waits[r.entries[i]]
			if len(waits) == 0 || r.answers[i] != nil {
				continue
			}
			ok, err := r.known(ctx, waits, known)
			if err != nil {
				return named(e, err)
			}
			if !ok {
				left = e
				continue
			}
			if err := e.replace(func(url string) string { return known[url] }); err != nil {
				return err
			}
			if err := r.do(ctx, e); err != nil {
				return err
			}
			wrote = true
		}
		if left == nil {
			return nil
		}
		if !wrote {
			return named(left, fhir.Errorf(fhir.BusinessRule, "a conditional reference meets no resource").WithStatus(http.StatusPreconditionFailed))
		}
	}
}

// known resolves references and reports whether all are.
func (r *run) known(ctx context.Context, references []string, known map[string]string) (bool, error) {
	for _, reference := range references {
		if known[reference] != "" {
			continue
		}
		refs, err := r.tx.Match(ctx, r.queries[reference].query())
		if err != nil {
			return false, err
		}
		switch len(refs) {
		case 0:
			return false, nil
		case 1:
			known[reference] = refs[0].String()
		default:
			return false, fhir.Errorf(fhir.MultipleMatch, "a conditional reference meets more than one resource")
		}
	}
	return true, nil
}

func (r *run) reads(ctx context.Context) error {
	for i, e := range r.work {
		if r.answers[i] != nil {
			continue
		}
		if err := r.do(ctx, e); err != nil {
			return err
		}
	}
	return nil
}
