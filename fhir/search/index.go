package search

import (
	"hash/maphash"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"github.com/valyala/fastjson"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/ucum"
)

type value = *fastjson.Value

// Index returns the terms of a resource: all that its type's search parameters
// read in it. Values that are malformed have none. The Terms share memory with
// d, and Index walks the tree of d, which no other goroutine may do meanwhile.
func (s Schema) Index(d *fhir.Document) *Terms {
	return s.index(s.Custom.table(d.Type), d)
}

func (s Schema) index(tb *table, d *fhir.Document) *Terms {
	if tb == nil {
		return &Terms{}
	}
	x := indexers.Get().(*indexer)
	x.schema, x.root, x.want = s, d.Tree, every
	x.resource(tb, d)
	x.pair(tb)
	if tb.whole {
		x.named(d.Type)
		x.standings(tb, d.Type)
		x.contained(d.Type)
		if worded[d.Type] {
			x.words(d.Type)
		}
	}
	x.terms.Time = mainDate(tb, x.terms)
	x.terms.dedupe()
	t := x.terms.fitted()
	t.tree, t.schema = d.Tree, s
	x.release()
	return t
}

// indexers are indexers at rest. The lists that they collect terms in have
// grown to what resources need, and hold nothing.
var indexers = sync.Pool{New: func() any { return &indexer{terms: &Terms{}} }}

// maxKept bounds the terms of one kind that an indexer at rest has room for.
const maxKept = 512

// release forgets the resource and gives x back.
func (x *indexer) release() {
	x.schema, x.root, x.made = Schema{}, nil, nil
	x.terms.empty()
	for _, t := range x.scratch {
		t.empty()
	}
	indexers.Put(x)
}

// empty forgets the terms and keeps the room.
func (t *Terms) empty() {
	*t = Terms{Tokens: room(t.Tokens), Refs: room(t.Refs), Dates: room(t.Dates), Numbers: room(t.Numbers), Strings: room(t.Strings), Standings: room(t.Standings)}
}

func room[T any](list []T) []T {
	if cap(list) > maxKept {
		return nil
	}
	clear(list[:cap(list)])
	return list[:0]
}

// fit returns a copy of the list, nil of an empty one.
func fit[T any](list []T) []T { return append([]T(nil), list...) }

// fitted returns a copy of t in no more room than it needs.
func (t *Terms) fitted() *Terms {
	return &Terms{
		Time: t.Time, Present: t.Present, TooMany: t.TooMany,
		Tokens: fit(t.Tokens), Refs: fit(t.Refs), Dates: fit(t.Dates),
		Numbers: fit(t.Numbers), Strings: fit(t.Strings), Standings: fit(t.Standings),
	}
}

// References returns the resources of this server that d refers to by one of
// the paths, or by any path that a search parameter reads if there are none.
func (s Schema) References(d *fhir.Document, paths []Path) []fhir.Ref {
	tb := s.Custom.table(d.Type)
	if tb == nil {
		return nil
	}
	x := indexer{schema: s, terms: &Terms{}, root: d.Tree, want: references}
	x.resource(tb, d)
	return x.terms.refs(func(r Reference) bool { return paths == nil || slices.Contains(paths, r.Path) })
}

// refs returns the targets in this server of the references that keep holds
// for, each once.
func (t *Terms) refs(keep func(Reference) bool) []fhir.Ref {
	var list []fhir.Ref
	for _, r := range t.Refs {
		if !keep(r) {
			continue
		}
		if ref, err := fhir.ParseRef(r.Target); err == nil && !slices.Contains(list, ref) {
			list = append(list, ref)
		}
	}
	return list
}

// An indexer collects the terms of one resource.
type indexer struct {
	schema Schema
	terms  *Terms
	root   value
	want   kind
	// made holds the strings that are composed. Its bytes are never changed
	// once a string is made of them.
	made []byte
	// scratch holds the components of one item of a composite.
	scratch []*Terms
}

// resource reads all that tb says of d.
func (x *indexer) resource(tb *table, d *fhir.Document) {
	x.object(tb.root, d.Tree)
	for _, dyn := range tb.dynamic {
		x.evaluate(dyn, d)
	}
}

// object reads the members of an object.
func (x *indexer) object(n *node, v value) {
	o, err := v.Object()
	if err != nil {
		return
	}
	for _, c := range n.children {
		if c.below&x.want == 0 {
			continue
		}
		member := o.Get(c.Name)
		if member == nil {
			continue
		}
		if member.Type() != fastjson.TypeArray {
			x.item(c, member)
			continue
		}
		for _, item := range member.GetArray() {
			x.item(c, item)
			if c.First {
				break
			}
		}
	}
}

// item reads one value of n.
func (x *indexer) item(n *node, v value) {
	if n.Is != "" && !holds(n, v) || x.full() {
		return
	}
	for _, l := range n.leaves {
		if l.kind&x.want != 0 && l.emit(x, l, v) {
			x.terms.Present |= l.bits
			if l.present != "" {
				x.token(l.present, "true")
			}
		}
	}
	if len(n.children) > 0 {
		x.object(n, v)
	}
	if x.want == every {
		for _, j := range n.joins {
			x.join(j, v)
		}
	}
}

// full reports whether there are as many terms as may be.
func (x *indexer) full() bool {
	t := x.terms
	if len(t.Tokens)+len(t.Refs)+len(t.Dates)+len(t.Numbers)+len(t.Strings)+len(t.Standings) >= MaxTerms {
		t.TooMany = true
	}
	return t.TooMany
}

// holds reports whether v is one of the items that n is restricted to.
func holds(n *node, v value) bool {
	if n.Key != "extension" {
		return string(v.GetStringBytes(n.Key)) == n.Is
	}
	for _, e := range v.GetArray("extension") {
		if string(e.GetStringBytes("url")) == n.Is {
			return true
		}
	}
	return false
}

// only marks the parameters that read this value at l because of what it is.
func (x *indexer) only(l *leaf, is string) {
	for _, o := range l.only {
		if o.value != is {
			continue
		}
		x.terms.Present |= o.bits
		if o.present != "" {
			x.token(o.present, "true")
		}
	}
}

// pair joins what clients ask for together.
func (x *indexer) pair(tb *table) {
	t := x.terms
	for _, r := range t.Refs {
		if len(tb.pairs[r.Path]) == 0 || !strings.HasPrefix(r.Target, "Patient/") || x.full() {
			continue
		}
		for _, path := range tb.pairs[r.Path] {
			for _, tok := range t.Tokens {
				if tok.Path == path && isFull(tok.Value) {
					t.Refs = append(t.Refs, Reference{r.Path, r.Target, tok})
				}
			}
		}
	}
	for token, paths := range tb.hotNumbers {
		for _, n := range t.Numbers {
			if !slices.Contains(paths, n.Path) {
				continue
			}
			x.pairNumber(token, n)
		}
	}
}

// pairNumber joins n with the tokens at the path.
func (x *indexer) pairNumber(token Path, n NumberRange) {
	t := x.terms
	for _, tok := range t.Tokens {
		if tok.Path != token || !isFull(tok.Value) {
			continue
		}
		if x.full() {
			return
		}
		unit := tok.Value
		if n.Unit != "" {
			unit = x.compose(tok.Value, "$", n.Unit)
		}
		t.Numbers = append(t.Numbers, NumberRange{hotPath(tok.Path, n.Path), unit, n.Lo, n.Hi})
	}
}

// mainDate returns the beginning of the main clinical date of a resource with
// the terms. MainDate promises that it is that, also where it is open.
func mainDate(tb *table, t *Terms) time.Time {
	for _, path := range tb.mainDate {
		for _, d := range t.Dates {
			if d.Path == path {
				return d.Lo
			}
		}
	}
	return time.Time{}
}

// dedupe drops equal terms.
func (t *Terms) dedupe() {
	t.Tokens = unique(t.Tokens)
	t.Refs = unique(t.Refs)
	t.Dates = unique(t.Dates)
	t.Numbers = unique(t.Numbers)
	t.Strings = unique(t.Strings)
	t.Standings = unique(t.Standings)
}

var seed = maphash.MakeSeed()

// unique drops the members of list that occur earlier in it.
func unique[T comparable](list []T) []T {
	out := list[:0]
	if len(list) <= 32 {
		for _, v := range list {
			if !slices.Contains(out, v) {
				out = append(out, v)
			}
		}
		return out
	}
	// places are where in out a value is, counted from 1, by its hash.
	places := make([]int32, 1<<bits.Len(uint(2*len(list))))
next:
	for _, v := range list {
		at := maphash.Comparable(seed, v) & uint64(len(places)-1)
		for ; places[at] != 0; at = (at + 1) & uint64(len(places)-1) {
			if out[places[at]-1] == v {
				continue next
			}
		}
		out = append(out, v)
		places[at] = int32(len(out))
	}
	return out
}

// text returns the string that v is, "" if it is none. It shares the memory of
// the document, which nothing changes.
func text(v value) string {
	if v == nil {
		return ""
	}
	b, err := v.StringBytes()
	if err != nil || len(b) == 0 {
		return ""
	}
	return unsafe.String(unsafe.SliceData(b), len(b))
}

// member returns the string that the member of an object is.
func member(o *fastjson.Object, name string) string { return text(o.Get(name)) }

// compose returns the parts as one string, from few allocations.
func (x *indexer) compose(parts ...string) string {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	if cap(x.made)-len(x.made) < n {
		x.made = make([]byte, 0, max(512, n))
	}
	begin := len(x.made)
	for _, p := range parts {
		x.made = append(x.made, p...)
	}
	b := x.made[begin:]
	return unsafe.String(unsafe.SliceData(b), len(b))
}

func (x *indexer) token(path Path, value string) {
	x.terms.Tokens = append(x.terms.Tokens, Token{path, value})
}

func (x *indexer) string(path Path, s string) {
	if s != "" {
		x.terms.Strings = append(x.terms.Strings, String{path, s})
	}
}

// emitters index the values of each datatype, for each type of search
// parameter. All that the generated tables hold is here; a test says so.
var emitters = map[string]map[string]func(*indexer, *leaf, value) bool{
	"token": {
		"Coding": (*indexer).coding, "CodeableConcept": (*indexer).concept, "Identifier": (*indexer).identifier,
		"ContactPoint": (*indexer).contact, "boolean": (*indexer).boolean, "exists": (*indexer).exists,
		"code": (*indexer).code, "id": (*indexer).code, "string": (*indexer).code, "uri": (*indexer).code, "canonical": (*indexer).code,
	},
	"uri": {
		"uri": (*indexer).uri, "url": (*indexer).uri, "oid": (*indexer).uri, "uuid": (*indexer).uri, "canonical": (*indexer).canonical,
	},
	"string": {"string": (*indexer).text, "markdown": (*indexer).text},
	"reference": {
		"Reference": (*indexer).reference, "Resource": (*indexer).inline,
		"canonical": (*indexer).citation, "uri": (*indexer).citation,
	},
	"date": {
		"date": (*indexer).date, "dateTime": (*indexer).date, "instant": (*indexer).date,
		"Period": (*indexer).period, "Timing": (*indexer).timing,
	},
	"number": {
		"integer": (*indexer).number, "positiveInt": (*indexer).number, "unsignedInt": (*indexer).number, "decimal": (*indexer).number,
	},
	"quantity": {
		"Quantity": (*indexer).quantity, "Age": (*indexer).quantity, "Duration": (*indexer).quantity,
		"Money": (*indexer).money, "Range": (*indexer).quantities,
	},
	"special": {"BackboneElement": (*indexer).position},
}

func (x *indexer) code(l *leaf, v value) bool {
	s := text(v)
	if s == "" {
		return false
	}
	x.token(l.path, alone(s))
	return true
}

func (x *indexer) boolean(l *leaf, v value) bool {
	b, err := v.Bool()
	if err != nil {
		return false
	}
	x.token(l.path, strconv.FormatBool(b))
	return true
}

// exists indexes that there is a value other than false.
func (x *indexer) exists(l *leaf, v value) bool {
	if v.Type() == fastjson.TypeFalse || v.Type() == fastjson.TypeNull {
		return false
	}
	x.token(l.path, "true")
	return true
}

// systemCode indexes a code in both spellings.
func (x *indexer) systemCode(path Path, system, code string) {
	code = alone(code)
	x.token(path, code)
	x.token(path, x.compose(escape(system), "|", code))
}

func (x *indexer) coding(l *leaf, v value) bool {
	o, err := v.Object()
	if err != nil {
		return false
	}
	system, code, display := member(o, "system"), member(o, "code"), member(o, "display")
	x.string(l.text, display)
	x.string(l.sys, system)
	switch {
	case code == "":
	case isTag(l.path):
		x.token(l.path, alone(code))
		x.string(l.full, full(system, code))
	default:
		x.systemCode(l.path, system, code)
	}
	return code != "" || system != "" || display != ""
}

func (x *indexer) concept(l *leaf, v value) bool {
	o, err := v.Object()
	if err != nil {
		return false
	}
	s := member(o, "text")
	x.string(l.text, s)
	found := s != ""
	if list := o.Get("coding"); list != nil {
		for _, c := range list.GetArray() {
			found = x.coding(l, c) || found
		}
	}
	return found
}

func (x *indexer) identifier(l *leaf, v value) bool {
	if !x.systemValue(l.path, v) {
		return false
	}
	system, value := text(v.Get("system")), text(v.Get("value"))
	if system != "" {
		x.token(l.path, x.compose(escape(system), "|"))
	}
	x.string(l.text, text(v.Get("type", "text")))
	for _, c := range v.GetArray("type", "coding") {
		x.string(l.text, text(c.Get("display")))
		if value != "" {
			x.string(l.of, x.compose(full(text(c.Get("system")), text(c.Get("code"))), "|", alone(value)))
		}
	}
	return true
}

// systemValue indexes the system and value of an Identifier.
func (x *indexer) systemValue(path Path, v value) bool {
	system, value := text(v.Get("system")), text(v.Get("value"))
	if value != "" {
		x.systemCode(path, system, value)
	}
	return value != "" || system != ""
}

func (x *indexer) contact(l *leaf, v value) bool {
	system, value := text(v.Get("system")), text(v.Get("value"))
	if value == "" {
		return false
	}
	x.systemCode(l.path, system, foldContact(value))
	x.string(l.sys, system)
	x.only(l, system)
	return true
}

// uri indexes a URI as it stands, and what names a source also without its
// fragment.
// https://hl7.org/fhir/R4/search.html#uri
func (x *indexer) uri(l *leaf, v value) bool {
	s := text(v)
	if s == "" {
		return false
	}
	x.token(l.path, s)
	x.string(l.path, s)
	if u, _, ok := strings.Cut(s, "#"); ok && strings.HasSuffix(string(l.path), ".meta.source") {
		x.token(l.path, u)
	}
	return true
}

// canonical indexes a canonical URL with and without its version.
// https://hl7.org/fhir/R4/references.html#canonical
func (x *indexer) canonical(l *leaf, v value) bool {
	s := text(v)
	if s == "" {
		return false
	}
	x.token(l.path, s)
	url, _, versioned := strings.Cut(s, "|")
	if versioned {
		x.token(l.path, url)
	}
	x.string(l.path, url)
	return true
}

func (x *indexer) text(l *leaf, v value) bool {
	s := text(v)
	if s == "" {
		return false
	}
	x.string(l.path, s)
	folded := fold(s)
	n := 0
	for i := range folded {
		if slices.Contains(prefixes[:], n) {
			x.token(l.start, folded[:i])
		}
		if n == prefixes[len(prefixes)-1] {
			break
		}
		n++
	}
	if slices.Contains(prefixes[:], n) {
		x.token(l.start, prefix(folded, n))
	}
	if l.gramless {
		return true
	}
	grams(folded, func(g string) { x.token(l.gram, g) })
	if len(prefix(folded, grammed)) < len(folded) {
		x.token(l.gram, beyond)
	}
	return true
}

// reference indexes a literal reference, and the identifier of a logical one.
// References to contained resources lead nowhere else.
// https://hl7.org/fhir/R4/references.html
func (x *indexer) reference(l *leaf, v value) bool {
	if v.Type() != fastjson.TypeObject {
		return false
	}
	ref := text(v.Get("reference"))
	if id := v.Get("identifier"); id != nil {
		x.systemValue(l.ident, id)
	}
	if ref == "" {
		x.only(l, text(v.Get("type")))
		return v.Get("identifier") != nil || v.Get("display") != nil
	}
	if ref[0] != '#' {
		ref = relative(ref, x.schema.Base)
		x.terms.Refs = append(x.terms.Refs, Reference{Path: l.path, Target: ref})
		x.only(l, string(typeIn(ref)))
	}
	return true
}

// inline indexes a resource that is the value itself, in a Bundle.
func (x *indexer) inline(l *leaf, v value) bool {
	t, id := text(v.Get("resourceType")), text(v.Get("id"))
	if id == "" || !slices.ContainsFunc(l.only, func(o onlyBits) bool { return o.value == t }) {
		return false
	}
	x.only(l, t)
	x.terms.Refs = append(x.terms.Refs, Reference{Path: l.path, Target: x.compose(t, "/", id)})
	return true
}

func (x *indexer) date(l *leaf, v value) bool {
	lo, hi, ok := parseDate(text(v))
	if ok {
		x.terms.Dates = append(x.terms.Dates, DateRange{l.path, lo, hi})
	}
	return ok
}

func (x *indexer) period(l *leaf, v value) bool {
	lo, hi, ok := periodOf(v)
	if ok {
		x.terms.Dates = append(x.terms.Dates, DateRange{l.path, lo, hi})
	}
	return ok
}

// periodOf returns the extent of a Period, whose missing ends are open.
func periodOf(v value) (lo, hi time.Time, ok bool) {
	lo, _, begins := parseDate(text(v.Get("start")))
	_, hi, ends := parseDate(text(v.Get("end")))
	if !begins {
		lo = time.Time{}
	}
	if !ends {
		hi = Forever
	}
	return lo, hi, begins || ends
}

// timing indexes the outer limits of a Timing.
// https://hl7.org/fhir/R4/search.html#date
func (x *indexer) timing(l *leaf, v value) bool {
	lo, hi, ok := periodOf(v.Get("repeat", "boundsPeriod"))
	for _, e := range v.GetArray("event") {
		if a, b, is := parseDate(text(e)); is {
			if !ok || a.Before(lo) {
				lo = a
			}
			if !ok || b.After(hi) {
				hi = b
			}
			ok = true
		}
	}
	if ok {
		x.terms.Dates = append(x.terms.Dates, DateRange{l.path, lo, hi})
	}
	return ok
}

// spelled returns the number that v is as the resource spells it, "" if it is
// none.
func (x *indexer) spelled(v value) string {
	if v == nil || v.Type() != fastjson.TypeNumber {
		return ""
	}
	if cap(x.made)-len(x.made) < 32 {
		x.made = make([]byte, 0, 512)
	}
	begin := len(x.made)
	x.made = v.MarshalTo(x.made)
	b := x.made[begin:]
	return unsafe.String(unsafe.SliceData(b), len(b))
}

// decimal returns the number that is spelled so, rounded as the numbers of
// searches are.
func decimal(spelled string) (float64, bool) {
	f, err := strconv.ParseFloat(spelled, 64)
	return f, err == nil
}

func (x *indexer) number(l *leaf, v value) bool {
	f, ok := decimal(x.spelled(v))
	if ok {
		x.terms.Numbers = append(x.terms.Numbers, NumberRange{l.path, "", f, f})
	}
	return ok
}

// quantity indexes a Quantity; its comparator leaves one end open.
// https://hl7.org/fhir/R4/datatypes.html#Quantity
func (x *indexer) quantity(l *leaf, v value) bool {
	number, comparator := x.spelled(v.Get("value")), text(v.Get("comparator"))
	f, ok := decimal(number)
	if !ok {
		return false
	}
	lo, hi := compared(f, comparator)
	x.terms.Numbers = append(x.terms.Numbers, NumberRange{l.path, "", lo, hi})
	base, u, inBase := x.base(number, v)
	if inBase {
		from, to := compared(base, comparator)
		x.baseUnit(l, from, to, u)
	}
	x.units(l, lo, hi, v, inBase)
	return true
}

// compared returns the extent of a number with a comparator.
func compared(f float64, comparator string) (lo, hi float64) {
	switch comparator {
	case "<":
		return math.Inf(-1), math.Nextafter(f, math.Inf(-1))
	case "<=":
		return math.Inf(-1), f
	case ">":
		return math.Nextafter(f, math.Inf(1)), math.Inf(1)
	case ">=":
		return f, math.Inf(1)
	}
	return f, f
}

// quantities indexes a Range, whose missing ends are open.
func (x *indexer) quantities(l *leaf, v value) bool {
	low, high := v.Get("low"), v.Get("high")
	begin, end := x.spelled(v.Get("low", "value")), x.spelled(v.Get("high", "value"))
	lo, begins := decimal(begin)
	hi, ends := decimal(end)
	from, fromUnit, inBase := x.base(begin, low)
	to, toUnit, toBase := x.base(end, high)
	if !begins {
		lo, from, fromUnit, inBase, low = math.Inf(-1), math.Inf(-1), toUnit, true, high
	}
	if !ends {
		hi, to, toUnit, toBase = math.Inf(1), math.Inf(1), fromUnit, true
	}
	if !begins && !ends {
		return false
	}
	inBase = inBase && toBase && fromUnit.Canonical() == toUnit.Canonical()
	x.terms.Numbers = append(x.terms.Numbers, NumberRange{l.path, "", lo, hi})
	if inBase {
		x.baseUnit(l, from, to, fromUnit)
	}
	x.units(l, lo, hi, low, inBase)
	return true
}

// money indexes an amount with its currency.
// https://hl7.org/fhir/R4/datatypes.html#Money
func (x *indexer) money(l *leaf, v value) bool {
	f, ok := decimal(x.spelled(v.Get("value")))
	if !ok {
		return false
	}
	x.terms.Numbers = append(x.terms.Numbers, NumberRange{l.path, "", f, f})
	if currency := text(v.Get("currency")); currency != "" {
		x.unit(l, f, f, unitOf("urn:iso:std:iso:4217", currency))
		x.unit(l, f, f, unitOf("", currency))
	}
	return true
}

// base returns the number in base units if it has a unit of UCUM, that of the
// Quantity q, which is understood.
func (x *indexer) base(number string, q value) (f float64, u ucum.Unit, ok bool) {
	if number == "" || text(q.Get("system")) != ucum.System {
		return 0, u, false
	}
	u, err := ucum.Parse(text(q.Get("code")))
	if err != nil {
		return 0, u, false
	}
	f, ok = u.Float(number)
	return f, u, ok
}

// baseUnit indexes an extent in base units.
func (x *indexer) baseUnit(l *leaf, lo, hi float64, u ucum.Unit) {
	unit := x.compose(ucum.System, "|", escape(u.Canonical()))
	x.terms.Numbers = append(x.terms.Numbers, NumberRange{l.path, unit, lo, hi})
}

// units indexes an extent with the unit of the Quantity q as it is spelled,
// but for its code if that is indexed in base units.
func (x *indexer) units(l *leaf, lo, hi float64, q value, inBase bool) {
	system, code, unit := text(q.Get("system")), text(q.Get("code")), text(q.Get("unit"))
	if code != "" && system != "" && !inBase {
		x.unit(l, lo, hi, x.compose(escape(system), "|", escape(code)))
	}
	if code != "" && system != ucum.System {
		x.unit(l, lo, hi, x.compose("|", escape(code)))
	}
	if unit != "" && unit != code {
		x.unit(l, lo, hi, x.compose("|", escape(unit)))
	}
}

// unit indexes an extent with a unit. Where there is but one extent, its unit
// is checked on the opened body: the number alone has found few by then.
func (x *indexer) unit(l *leaf, lo, hi float64, unit string) {
	if l.single {
		x.string(l.unit, unit)
		return
	}
	x.terms.Numbers = append(x.terms.Numbers, NumberRange{l.path, unit, lo, hi})
}
