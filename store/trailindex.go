package store

import (
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/store/internal/gate"
)

// A narrowing is what can be told of the entries that meet a search before they
// are opened: between which places they are, when they were recorded, and of
// each filter one term.
type narrowing struct {
	none         bool
	low, high    int64     // of seq, both excluded
	since, until time.Time // recorded; zero is open
	filters      []filter
}

// A filter is terms of which an entry has one at least.
type filter []term

// A term is the value of a column.
type term struct {
	col   column
	value int64
}

// A column is one that entries are found by. Those come first that tell most.
type column byte

const (
	bySeq column = iota
	byEntity
	byPatient
	byAgent
	byClient
	bySite
	byPurpose
	byOutcome
	byInteraction
	byTrail // the trail itself

	// byOlder are the entries whose client, site and purpose are not in
	// columns: each can have any.
	byOlder
)

// columns are how the columns are spelled, and which entries the index on each
// and seq has.
var columns = map[column]struct{ name, has gate.Clause }{
	byEntity:      {entryRow.Col("entity"), entryRow.Col("entity").With(gate.SQL(`IS NOT NULL`))},
	byPatient:     {entryRow.Col("patient"), entryRow.Col("patient").With(gate.SQL(`IS NOT NULL`))},
	byAgent:       {entryRow.Col("agent"), entryRow.Col("agent").With(gate.SQL(`IS NOT NULL`))},
	byClient:      {entryRow.Col("client"), entryRow.Col("client").With(gate.SQL(`IS NOT NULL`))},
	bySite:        {entryRow.Col("site"), entryRow.Col("site").With(gate.SQL(`<> 0`))},
	byPurpose:     {entryRow.Col("purpose"), entryRow.Col("purpose").With(gate.SQL(`IS NOT NULL`))},
	byOutcome:     {entryRow.Col("outcome"), entryRow.Col("outcome").With(gate.SQL(`<> 0`))},
	byInteraction: {entryRow.Col("interaction"), gate.SQL(`r.interaction <> 1 AND r.interaction <> 10`)},
}

// entryRow is a row of the trail in a statement.
const entryRow gate.Row = 0

var seqOf = entryRow.Col("seq")

// indexed reports whether there is an index with the entries that have t. There
// is none for what most entries have.
func (t term) indexed() bool {
	switch t.col {
	case byInteraction:
		return t.value != 1 && t.value != 10 // read and search-type
	case byOutcome:
		return t.value != int64(audit.Success)
	}
	return true
}

// maxAlong bounds the indexes that one walk goes along.
const maxAlong = 40

// split returns the filter that a walk goes along, and the others, which are
// held against each entry that it comes by.
func (n narrowing) split() (rest []filter, along filter) {
	best := -1
	for i, f := range n.filters {
		if f.rank() < byTrail && (best < 0 || f.rank() < n.filters[best].rank()) {
			best = i
		}
	}
	if best < 0 {
		return n.filters, filter{{col: byTrail}}
	}
	return slices.Delete(slices.Clone(n.filters), best, best+1), n.filters[best]
}

// rank is the column of f that tells least, byTrail if f is no way to go.
func (f filter) rank() (least column) {
	if len(f) > maxAlong {
		return byTrail
	}
	for _, t := range f {
		switch {
		case !t.indexed():
			return byTrail
		case t.col != byOlder:
			least = max(least, t.col)
		}
	}
	return least
}

// condition is that an entry has one of the terms.
func (f filter) condition() gate.Clause {
	any := gate.SQL(`(false`)
	for _, t := range f {
		switch t.col {
		case bySeq:
			any = any.With(gate.SQL(`OR r.seq = ?`, t.value))
		case byOlder:
			any = any.With(gate.SQL(`OR r.site IS NULL`))
		default:
			any = any.With(gate.SQL(`OR`), columns[t.col].name, gate.SQL(`= ?`, t.value))
		}
	}
	return any.With(gate.SQL(`)`))
}

// along reads the first n entries with t that are within the places. That a row
// lies between two others in the order of the index pins the column to its
// value, and only that index has this order: so the database cannot choose to
// go through the trail instead, for which it may have reasons in what it knows
// of the column, and none in what it knows of these entries.
func (t term) along(within narrowing, rising bool, n int) gate.Clause {
	stmt := gate.SQL(`SELECT r.* FROM ~audit r WHERE r.tenant_id = $1`)
	between := gate.SQL(`AND r.seq > ? AND r.seq < ?`, within.low, within.high)
	switch t.col {
	case bySeq:
		return stmt.With(gate.SQL(`AND r.seq = ?`, t.value), between)
	case byOlder:
		return stmt.With(between, gate.SQL(`AND r.site IS NULL`), inOrder(rising, seqOf, n))
	case byTrail:
		return stmt.With(between, inOrder(rising, seqOf, n))
	}
	c := columns[t.col]
	at := gate.SQL(`(`).With(c.name, gate.SQL(`, r.seq)`))
	return stmt.With(gate.SQL(`AND`), at, gate.SQL(`> (?, ?) AND`, t.value, within.low), at, gate.SQL(`< (?, ?) AND`, t.value, within.high),
		c.has, inOrder(rising, c.name, n))
}

// inOrder orders n entries by a column and seq.
func inOrder(rising bool, by gate.Clause, n int) gate.Clause {
	if rising {
		return gate.SQL(`ORDER BY`).With(by, gate.SQL(`, r.seq LIMIT ?`, n))
	}
	return gate.SQL(`ORDER BY`).With(by, gate.SQL(`DESC, r.seq DESC LIMIT ?`, n))
}

// anywhere narrows nothing.
func anywhere() narrowing { return narrowing{low: 0, high: math.MaxInt64} }

func narrowTo(f ...term) narrowing {
	n := anywhere()
	n.none, n.filters = len(f) == 0, []filter{f}
	return n
}

// conditions are what an entry has to meet besides its place and the filter that
// the walk goes along.
func (n narrowing) conditions(rest []filter) gate.Clause {
	met := gate.SQL(`true`)
	if !n.since.IsZero() {
		met = met.With(gate.SQL(`AND r.recorded >= ?`, stamp(n.since)))
	}
	if !n.until.IsZero() {
		met = met.With(gate.SQL(`AND r.recorded <= ?`, stamp(n.until)))
	}
	for _, f := range rest {
		met = met.With(gate.SQL(`AND`), f.condition())
	}
	return met
}

// and narrows to what meets both.
func (n narrowing) and(o narrowing) narrowing {
	both := narrowing{none: n.none || o.none, low: max(n.low, o.low), high: min(n.high, o.high), since: n.since, until: n.until}
	if o.since.After(n.since) {
		both.since = o.since
	}
	if n.until.IsZero() || !o.until.IsZero() && o.until.Before(n.until) {
		both.until = o.until
	}
	both.filters = slices.Concat(n.filters, o.filters)
	return both
}

// or narrows to what meets one of the two.
func (n narrowing) or(o narrowing) narrowing {
	switch {
	case n.none:
		return o
	case o.none:
		return n
	}
	either := narrowing{low: min(n.low, o.low), high: max(n.high, o.high)}
	if len(n.filters) > 0 && len(o.filters) > 0 {
		_, a := n.split()
		_, b := o.split()
		if a[0].col != byTrail && b[0].col != byTrail {
			either.filters = []filter{slices.Concat(a, b)}
		}
	}
	return either
}

// narrowing returns what e says of entries before they are opened. It is never
// more than e says: what it cannot tell it leaves to the opened entry.
func (v *View) narrowing(e search.Expr) narrowing {
	switch e := e.(type) {
	case search.And:
		n := anywhere()
		for _, m := range e {
			n = n.and(v.narrowing(m))
		}
		return n
	case search.Or:
		n := narrowing{none: true}
		for _, m := range e {
			n = n.or(v.narrowing(m))
		}
		return n
	case search.HasID:
		var f filter
		for _, id := range e {
			if seq, err := audit.ParseID(id); err == nil {
				f = append(f, term{bySeq, seq})
			}
		}
		return narrowTo(f...)
	case search.Updated:
		return recorded(e)
	case search.InDate:
		if e.Path == recordedPath {
			return recorded(e.Bounds)
		}
	case search.HasReference:
		return v.referring(e)
	case search.HasToken:
		return v.having(search.Token(e))
	}
	return anywhere()
}

const recordedPath search.Path = "AuditEvent.recorded"

// recorded narrows to entries of the time, and to where they are: their places
// follow the clock when what they tell of begins, and they are written when it is
// done. An AuditEvent says the time less exactly than the trail.
func recorded(bounds []search.DateBound) narrowing {
	n := anywhere()
	for _, b := range bounds {
		if b.Op != search.LT && b.Op != search.LE {
			n = n.and(narrowing{low: seqAt(b.T.Add(-time.Hour)), high: math.MaxInt64, since: b.T.Add(-time.Second)})
		}
		if b.Op != search.GT && b.Op != search.GE {
			n = n.and(narrowing{high: seqAt(b.T.Add(time.Minute)), until: b.T.Add(time.Second)})
		}
	}
	return n
}

// seqAt is audit.SeqAt for any time.
func seqAt(t time.Time) int64 {
	switch {
	case t.Year() < 2021:
		return 0
	case t.Year() > 2200:
		return math.MaxInt64
	}
	return audit.SeqAt(t)
}

// referring narrows by a reference of the AuditEvent.
func (v *View) referring(e search.HasReference) narrowing {
	of, _ := fhir.ParseRef(e.Target)
	switch {
	case e.Path == "AuditEvent.agent.who":
		return narrowTo(term{byAgent, v.keys.Hash("a", e.Target)})
	case e.Path == "AuditEvent.entity.what" && of.Type != auditEvent:
		return narrowTo(term{byEntity, v.target(e.Target)}, term{byPatient, v.target(e.Target)})
	}
	return anywhere()
}

// having narrows by a code of the AuditEvent.
func (v *View) having(t search.Token) narrowing {
	code := codeIn(t.Value)
	older := term{col: byOlder}
	switch t.Path {
	case "AuditEvent.agent.who:identifier":
		if code == "" || code == strings.ToLower(v.schema.Base) { // every entry names the server
			return anywhere()
		}
		return narrowTo(term{byAgent, v.keys.Hash("a", code)}, term{byClient, int64(shortHash(v.keys, "i", code))}, older)
	case "AuditEvent.source.site":
		if code == "" || code == strings.ToLower(v.schema.Base) {
			return anywhere()
		}
		return narrowTo(term{bySite, int64(shortHash(v.keys, "l", code))}, older)
	case "AuditEvent.purposeOfEvent":
		return narrowTo(term{byPurpose, v.keys.Hash("u", strings.ToUpper(code))}, older)
	case "AuditEvent.type", "AuditEvent.subtype", "AuditEvent.action", "AuditEvent.outcome":
		return narrowTo(inClear()[t]...)
	}
	return anywhere()
}

// codeIn returns the code of a token, as search spells it.
func codeIn(token string) string {
	code := []byte{}
	for i := 0; i < len(token); i++ {
		switch {
		case token[i] == '|':
			code = code[:0]
			continue
		case token[i] == '\\' && i+1 < len(token):
			i++
		}
		code = append(code, token[i])
	}
	return string(code)
}

// inClear returns what interactions and outcomes read as: the terms of each of the
// codes that they give an AuditEvent.
var inClear = sync.OnceValue(func() map[search.Token]filter {
	codes := map[search.Token]filter{}
	add := func(e audit.Entry, t term) {
		err := fhir.Peek(audit.Render(e, ""), func(d *fhir.Document) error {
			for _, token := range (search.Schema{}).Index(d).Tokens {
				if (token.Path == "AuditEvent.outcome") == (t.col == byOutcome) {
					codes[search.Token{Path: token.Path, Value: strings.Clone(token.Value)}] = append(codes[token], t)
				}
			}
			return nil
		})
		if err != nil {
			panic(err) // what Render makes can be read
		}
	}
	add(audit.Entry{}, term{byInteraction, 0})
	for i, do := range interactions {
		add(audit.Entry{Interaction: do}, term{byInteraction, int64(i + 1)})
	}
	for _, o := range []audit.Outcome{audit.Success, audit.MinorFailure, audit.Serious, audit.MajorFailure} {
		add(audit.Entry{Outcome: o}, term{byOutcome, int64(o)})
	}
	return codes
})
