package store_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/r4"
	"github.com/cordon-fhir/cordon/fhir/search"
)

// An asker makes searches of the values that the resources of a world have.
// Which elements a parameter reads it learns from how a search for anything is
// read.
type asker struct {
	*rand.Rand
	t    testing.TB
	w    *world
	base string
}

func newAsker(t testing.TB, w *world, base string, seed uint64) *asker {
	return &asker{Rand: rand.New(rand.NewPCG(seed, seed)), t: t, w: w, base: base}
}

func pick[T any](a *asker, list []T) T { return list[a.IntN(len(list))] }

// in is true n times of a hundred.
func (a *asker) in(n int) bool { return a.IntN(100) < n }

// search returns a search that can be read.
func (a *asker) search() (on fhir.Type, query string) {
	for {
		switch {
		case a.in(5):
			on, query = a.ofSystem()
		case a.in(5):
			on, query = a.ofPatients()
		default:
			on, query = a.ofType(a.someType())
		}
		params, err := search.ParseQuery(query)
		if err != nil {
			a.t.Fatal(err)
		}
		if _, err = search.Parse(on, params, search.Options{Base: a.base}); err == nil && query != "" {
			return on, query
		}
	}
}

// someType prefers types of which there are many.
func (a *asker) someType() fhir.Type {
	if a.in(50) {
		return pick(a, a.w.all).Ref.Type
	}
	return pick(a, a.w.types)
}

// ofSystem returns a search of some types by what all have in common.
func (a *asker) ofSystem() (fhir.Type, string) {
	types := []string{string(pick(a, a.w.types)), string(pick(a, a.w.types))}
	source := pick(a, a.w.byType[fhir.Type(types[0])])
	query := "_type=" + strings.Join(types, ",")
	if a.in(30) {
		query = "_count=50"
	}
	for range 1 + a.IntN(2) {
		common := pick(a, []string{"_id", "_lastUpdated", "_profile", "_tag", "_security", "_source"})
		for _, p := range search.Parameters(source.Ref.Type) {
			if p.Name == common {
				query += a.plain(p, source)
			}
		}
	}
	return "", query
}

// ofPatients returns a search of patients by what is known of them, which the
// index holds joined with them.
func (a *asker) ofPatients() (fhir.Type, string) {
	query := ""
	for _, on := range []fhir.Type{"Observation", "Patient"} {
		if len(a.w.byType[on]) == 0 {
			return "Patient", ""
		}
	}
	of := search.Parameters("Observation")
	code := of[slices.IndexFunc(of, func(p search.Parameter) bool { return p.Name == "code" })]
	if s := a.plain(code, pick(a, a.w.byType["Observation"])); s != "" {
		query = "_has:Observation:patient:" + s[1:]
	}
	if a.in(50) {
		query += a.param("Patient", pick(a, a.w.byType["Patient"]))
	}
	if a.in(50) {
		query += "&_total=accurate"
	}
	return "Patient", query
}

// ofType returns a search of one type by up to three parameters.
func (a *asker) ofType(on fhir.Type) (fhir.Type, string) {
	query := ""
	source := pick(a, a.w.byType[on])
	for range 1 + a.IntN(3) {
		if a.in(20) {
			source = pick(a, a.w.byType[on])
		}
		query += a.param(on, source)
	}
	query = strings.TrimPrefix(query, "&")
	if query == "" {
		return on, ""
	}
	if a.in(40) {
		var keys []string
		for range 1 + a.IntN(2) {
			p := pick(a, search.Parameters(on))
			keys = append(keys, pick(a, []string{"", "-"})+p.Name)
		}
		query += "&_sort=" + strings.Join(keys, ",")
	}
	if a.in(50) {
		query += "&_total=accurate"
	}
	return on, query
}

// param returns "&name=value" with a value of the source, "" if it found none.
func (a *asker) param(on fhir.Type, source *held) string {
	for range 10 {
		p := pick(a, search.Parameters(on))
		s := ""
		switch {
		case a.in(12):
			s = a.has(on, source)
		case a.in(10):
			s = a.filter(on, source)
		case a.in(4):
			s = a.words(source)
		case a.in(4) && len(a.w.byType["List"]) > 0:
			s = "&_list=" + pick(a, a.w.byType["List"]).Ref.ID
		case p.Type == "reference" && a.in(40):
			s = a.chain(p, source)
		case a.in(5):
			s = "&" + p.Name + ":missing=" + pick(a, []string{"true", "false"})
		default:
			s = a.plain(p, source)
		}
		if s != "" {
			return s
		}
	}
	return ""
}

// chain returns a chain to what the source refers to.
func (a *asker) chain(p search.Parameter, source *held) string {
	var found []fhir.Ref
	a.leaves(source.Ref.Type, p.Name, "x/x:x", func(e search.Expr) {
		if e, ok := e.(search.HasReference); ok {
			found = append(found, a.w.schema.References(source.doc, []search.Path{e.Path})...)
		}
	})
	for _, ref := range found {
		target := a.w.byRef[ref]
		if target == nil {
			continue
		}
		if s := a.inner(pick(a, search.Parameters(ref.Type)), target); s != "" {
			name := p.Name + ":" + string(ref.Type)
			if len(p.Targets) == 1 && a.in(50) {
				name = p.Name
			}
			return "&" + name + "." + s[1:]
		}
	}
	return ""
}

// inner returns the end of a chain: one more link, or a condition.
func (a *asker) inner(p search.Parameter, target *held) string {
	switch {
	case a.in(10):
		return "&" + p.Name + ":missing=" + pick(a, []string{"true", "false"})
	case p.Type == "reference" && a.in(20):
		return a.chain(p, target)
	case a.in(5):
		return a.has(target.Ref.Type, target)
	}
	return a.plain(p, target)
}

// filterOps are the operators of _filter for a type of parameter.
var filterOps = map[string][]string{
	"string": {"eq", "ne", "co", "sw", "ew"}, "token": {"eq", "ne"}, "reference": {"eq", "ne", "re"}, "uri": {"eq", "ne"},
	"date": {"eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "po"}, "number": {"eq", "ne", "gt", "lt", "ge", "le"}, "quantity": {"eq", "gt", "le", "ap"},
}

var unescapeAll = strings.NewReplacer(`\\`, `\`, `\,`, `,`, `\$`, `$`, `\|`, `|`)

// filter returns _filter of one to three comparisons with values of the source.
func (a *asker) filter(on fhir.Type, source *held) string {
	text := ""
	for range 1 + a.IntN(3) {
		p := pick(a, search.Parameters(on))
		value := a.value(p, "", source)
		if len(filterOps[p.Type]) == 0 || value == "" {
			continue
		}
		op := pick(a, filterOps[p.Type])
		if slices.Contains(prefixes[2:], value[:min(2, len(value))]) && p.Type != "token" && p.Type != "string" {
			value = value[2:]
		}
		quoted, _ := json.Marshal(unescapeAll.Replace(value))
		one := p.Name + " " + op + " " + string(quoted)
		if a.in(10) {
			one = p.Name + " pr " + pick(a, []string{"true", "false"})
		}
		if a.in(20) {
			one = "not (" + one + ")"
		}
		if text != "" {
			one = text + pick(a, []string{" and ", " or "}) + one
		}
		text = one
	}
	if text == "" {
		return ""
	}
	return "&_filter=" + url.QueryEscape(text)
}

// words returns _text or _content with words of the source.
func (a *asker) words(source *held) string {
	words := strings.FieldsFunc(string(source.Body), func(r rune) bool { return !unicode.IsLetter(r) })
	some := pick(a, words)
	if a.in(40) {
		some += " " + pick(a, words)
	}
	return pick(a, []string{"&_text=", "&_content="}) + url.QueryEscape(some)
}

// include returns _include or _revinclude of the type, "" if it has none.
func (a *asker) include(on fhir.Type) string {
	name, all := "&_include=", search.Includes(on)
	if a.in(50) {
		name, all = "&_revinclude=", search.RevIncludes(on)
		all = slices.DeleteFunc(all, func(s string) bool {
			from, _, _ := strings.Cut(s, ":")
			return len(a.w.byType[fhir.Type(from)]) == 0
		})
	}
	if len(all) == 0 {
		return ""
	}
	return name + pick(a, all)
}

// has returns _has by something that refers to the source.
func (a *asker) has(on fhir.Type, source *held) string {
	reverse := search.RevIncludes(on)
	for range 30 {
		if len(reverse) == 0 {
			return ""
		}
		name := pick(a, reverse)
		from, _, _ := strings.Cut(name, ":")
		if len(a.w.byType[fhir.Type(from)]) == 0 {
			continue
		}
		var e search.ReverseChain
		a.leaves(on, "_has:"+name+":_id", "x", func(x search.Expr) { e, _ = x.(search.ReverseChain) })
		for _, h := range a.w.byType[fhir.Type(from)] {
			if slices.Contains(a.w.schema.References(h.doc, e.Paths), source.Ref) {
				if s := a.inner(pick(a, search.Parameters(h.Ref.Type)), h); s != "" {
					return "&_has:" + name + ":" + s[1:]
				}
			}
		}
	}
	return ""
}

// modifiers are what a type of parameter takes besides :missing.
var modifiers = map[string][]string{
	"string": {"", "", ":exact", ":contains"}, "token": {"", "", "", ":not", ":text", ":of-type"},
	"reference": {"", "", ":identifier", ":Type"}, "uri": {"", ":below", ":above"},
	"date": {""}, "number": {""}, "quantity": {""}, "composite": {""}, "special": {""},
}

// plain returns "&name=value", or several values, of the source and of others
// of its type; "" if the source has no value.
func (a *asker) plain(p search.Parameter, source *held) string {
	modifier := pick(a, modifiers[p.Type])
	if modifier == ":Type" {
		if len(p.Targets) == 0 {
			return ""
		}
		modifier = ":" + string(pick(a, p.Targets))
	}
	value := a.value(p, modifier, source)
	if value == "" {
		return ""
	}
	for a.in(25) {
		if other := a.value(p, modifier, pick(a, a.w.byType[source.Ref.Type])); other != "" {
			value += "," + other
		}
	}
	return "&" + p.Name + modifier + "=" + url.QueryEscape(value)
}

var probes = map[string][]string{
	"string": {"probe"}, "token": {"probe", "true", "a|b|c"}, "reference": {"probe", "Patient/probe", "http://probe/x"},
	"uri": {"http://probe"}, "date": {"2020"}, "number": {"1"}, "quantity": {"1", "1|a|b"}, "special": {"0|0|1"},
}

// value returns a value of the source for a parameter, "" if it has none.
func (a *asker) value(p search.Parameter, modifier string, source *held) string {
	if p.Type == "composite" {
		return a.composite(p, source)
	}
	for _, probe := range probes[p.Type] {
		var list []search.Expr
		a.leaves(source.Ref.Type, p.Name+modifier, probe, func(e search.Expr) { list = append(list, e) })
		a.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		for _, e := range list {
			if text := a.text(p.Type, e, source); text != "" {
				return text
			}
		}
	}
	return ""
}

// leaves calls fn for each condition that a search for the probe sets.
func (a *asker) leaves(on fhir.Type, name, probe string, fn func(search.Expr)) {
	q, err := search.Parse(on, []search.Param{{Name: name, Value: probe}}, search.Options{Base: a.base})
	if err != nil {
		return
	}
	var walk func(search.Expr)
	walk = func(e search.Expr) {
		switch e.(type) {
		case search.And, search.Or, search.Not:
			for _, m := range search.Members(e) {
				walk(m)
			}
		default:
			fn(e)
		}
	}
	walk(q.Where)
}

var (
	escapeAll  = strings.NewReplacer(`\`, `\\`, `,`, `\,`, `|`, `\|`, `$`, `\$`)
	escapeRest = strings.NewReplacer(`,`, `\,`, `$`, `\$`) // of what is spelled as in the index
)

// text returns what a client would write to find the source by the condition.
func (a *asker) text(kind string, e search.Expr, source *held) string {
	terms := source.terms
	var list []string
	switch e := e.(type) {
	case search.HasToken:
		for _, tok := range terms.Tokens {
			switch {
			case tok.Path != e.Path:
			case kind == "token":
				list = append(list, escapeRest.Replace(tok.Value))
			default:
				list = append(list, escapeAll.Replace(tok.Value))
			}
		}
		if len(list) > 0 && kind == "token" && a.in(20) {
			return strings.ToUpper(pick(a, list))
		}
	case search.HasText:
		for _, s := range terms.Strings {
			switch {
			case s.Path != e.Path:
			case strings.HasSuffix(string(e.Path), ":of-type"):
				list = append(list, escapeRest.Replace(s.Text))
			case len(s.Text) < 1000:
				list = append(list, escapeAll.Replace(a.part(s.Text, e.Op)))
			}
		}
	case search.HasReference:
		for _, r := range terms.Refs {
			if r.Path == e.Path && r.Pair == (search.Token{}) {
				target := r.Target
				if ref, err := fhir.ParseRef(target); err == nil {
					target = pick(a, []string{target, ref.ID, a.base + "/" + target, target + "/_history/1"})
				}
				list = append(list, escapeAll.Replace(target))
			}
		}
	case search.InDate:
		for _, d := range terms.Dates {
			if d.Path == e.Path {
				list = append(list, a.date(d))
			}
		}
	case search.InNumber:
		list = a.numbers(e, terms)
	case search.Within:
		list = a.near(e, terms)
	case search.HasID:
		return source.Ref.ID
	case search.Updated:
		// ap is a part of the time since, which passes while both sides search.
		return strings.TrimPrefix(a.date(search.DateRange{Lo: source.Updated, Hi: source.Updated}), "ap")
	}
	if len(list) == 0 {
		return ""
	}
	return pick(a, list)
}

// part returns a part of a text that the operator can find it by.
func (a *asker) part(s string, op search.TextOp) string {
	runes := []rune(s)
	switch op {
	case search.Equals:
		if a.in(20) {
			return strings.ToLower(s)
		}
		return s
	case search.Below:
		if at := strings.LastIndexByte(s, '/'); at > len("https://") && a.in(50) {
			return s[:at+a.IntN(2)]
		}
		return s
	case search.Contains, search.ContainsBeyond:
		runes = runes[a.IntN(len(runes)):]
	}
	if a.in(70) {
		runes = runes[:1+a.IntN(len(runes))]
	}
	if a.in(30) {
		return strings.ToUpper(string(runes))
	}
	return string(runes)
}

var prefixes = []string{"", "", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"}

// date returns a time at or near an end of the range, with a prefix.
func (a *asker) date(d search.DateRange) string {
	at := d.Lo
	if (at.IsZero() || a.in(40)) && d.Hi.Before(search.Forever) {
		at = d.Hi
	}
	if at.IsZero() {
		return ""
	}
	at = at.Add(pick(a, []time.Duration{0, 0, 0, 24 * time.Hour, -24 * time.Hour, time.Second, -time.Millisecond}))
	layout := pick(a, []string{"2006", "2006-01", "2006-01-02", "2006-01-02", "2006-01-02T15:04Z", "2006-01-02T15:04:05Z", "2006-01-02T15:04:05.000Z", "2006-01-02T15:04:05-05:00"})
	return pick(a, prefixes) + at.Format(layout)
}

// numbers returns numbers at or near the ends of the ranges of e's element,
// some with the unit.
func (a *asker) numbers(e search.InNumber, terms *search.Terms) (list []string) {
	for _, n := range terms.Numbers {
		if n.Path != e.Path {
			continue
		}
		if kilo, ok := thousands[n.Unit]; ok && a.in(50) { // asked for in another unit
			n.Lo, n.Hi, n.Unit = n.Lo/1000, n.Hi/1000, kilo
		}
		text := a.number(n)
		if text == "" {
			continue
		}
		units := []string{n.Unit}
		if n.Unit == "" {
			for _, s := range terms.Strings {
				if s.Path == e.Path+":unit" {
					units = append(units, s.Text)
				}
			}
		}
		if unit := pick(a, units); unit != "" {
			text += "|" + escapeRest.Replace(unit)
		}
		list = append(list, text)
	}
	return list
}

// thousands are units of a thousand of another.
var thousands = map[string]string{
	"http://unitsofmeasure.org|g": "http://unitsofmeasure.org|kg", "http://unitsofmeasure.org|m": "|km", "http://unitsofmeasure.org|g.m-3": "http://unitsofmeasure.org|mg/mL",
	"http://unitsofmeasure.org|g.m-1.s-2": "|Pa", "http://unitsofmeasure.org|m-3": "http://unitsofmeasure.org|/L",
}

// near returns a point about the position of the source, and a distance.
func (a *asker) near(e search.Within, terms *search.Terms) []string {
	var at [2]float64
	found := false
	for _, n := range terms.Numbers {
		switch n.Path {
		case e.Path + ".latitude":
			at[0], found = n.Lo, true
		case e.Path + ".longitude":
			at[1] = n.Lo
		}
	}
	if !found {
		return nil
	}
	off := pick(a, []float64{0, 0.01, 0.5, 5})
	at[0], at[1] = max(-90, at[0]-off), min(180, at[1]+off)
	return []string{fmt.Sprintf("%v|%v|%v|%s", at[0], at[1], off*pick(a, []float64{0, 50, 150, 300}), pick(a, []string{"km", "[mi_us]", "km"}))}
}

func (a *asker) number(n search.NumberRange) string {
	v := n.Lo
	if math.IsInf(v, 0) || a.in(40) && !math.IsInf(n.Hi, 0) {
		v = n.Hi
	}
	if math.Abs(v) > 1e15 { // more digits than a search takes
		return ""
	}
	v += pick(a, []float64{0, 0, 0, 1, -1, 0.5})
	format, digits := byte('f'), -1
	if a.in(30) {
		digits = a.IntN(3)
	}
	if a.in(10) {
		format = 'e'
	}
	return pick(a, prefixes) + strconv.FormatFloat(v, format, digits, 64)
}

// composite returns a value for each component of a composite.
func (a *asker) composite(p search.Parameter, source *held) string {
	on := source.Ref.Type
	all := r4.SearchParameters(on)
	of := pick(a, all[slices.IndexFunc(all, func(sp r4.SearchParameter) bool { return sp.Code == p.Name })].Composites)
	var list []string
	for i, c := range of.Components {
		if i > 0 {
			list = append(list, "$")
		}
		list = append(list, probes[c.Type][0])
	}
	var out []string
	joined := map[search.Path]bool{}
	a.leaves(on, p.Name, strings.Join(list, ""), func(e search.Expr) {
		switch e := e.(type) {
		case search.HasToken:
			joined[e.Path] = strings.Contains(e.Value, "$")
		case search.InNumber:
			joined[e.Path] = e.Unit != ""
		}
	})
	for _, tok := range source.terms.Tokens {
		if joined[tok.Path] {
			first, second := halves(tok.Value)
			out = append(out, strings.ReplaceAll(first, ",", `\,`)+"$"+escapeRest.Replace(second))
		}
	}
	for _, n := range source.terms.Numbers {
		if joined[n.Path] {
			first, unit := halves(n.Unit)
			text := strings.ReplaceAll(first, ",", `\,`) + "$" + a.number(n)
			if unit != "" && a.in(50) {
				text += "|" + escapeRest.Replace(unit)
			}
			if len(of.Components) == 3 {
				text += "$" + a.number(n)
			}
			out = append(out, text)
		}
	}
	if len(out) > 0 {
		return pick(a, out)
	}
	if of.Repeats {
		return ""
	}
	return a.single(of, source)
}

// single returns a value of a composite whose components are single: each is a
// condition of its own.
func (a *asker) single(of r4.SearchComposite, source *held) string {
	var values []string
	for _, c := range of.Components {
		var list []string
		for _, b := range c.Branches {
			path := search.Path(b.Path)
			var e search.Expr
			switch c.Type {
			case "token", "uri":
				e = search.HasToken{Path: path}
			case "string":
				e = search.HasText{Path: path}
			case "date":
				e = search.InDate{Path: path}
			case "reference":
				e = search.HasReference{Path: path}
			default:
				e = search.InNumber{Path: path}
			}
			if text := a.text(c.Type, e, source); text != "" {
				list = append(list, text)
			}
		}
		if len(list) == 0 {
			return ""
		}
		values = append(values, pick(a, list))
	}
	return strings.Join(values, "$")
}

// halves splits what the index holds joined.
func halves(s string) (first, second string) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '$':
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}
