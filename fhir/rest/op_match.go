package rest

import (
	"cmp"
	"context"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/store"
)

// matchOperations find who a person may be among the patients.
// https://hl7.org/fhir/R4/patient-operation-match.html
var matchOperations = []operation{
	{
		name: "match", url: definition("Patient-match"), level: onType, on: []fhir.Type{"Patient"},
		in: []parameter{
			{name: "resource", typ: "Patient", min: 1, max: 1},
			{name: "onlyCertainMatches", typ: "boolean", max: 1},
			{name: "count", typ: "positiveInt", max: 1},
		},
		look: match,
	},
}

// maxCandidates bounds the patients that each way of looking weighs, and
// maxMatches those of an answer.
const (
	maxCandidates = 200
	maxMatches    = 100
)

// match answers with the patients that may be the one in the request, the
// likeliest first. Who is weighed, and who is found, is who the caller may see.
func match(ctx context.Context, v *store.View, req *request) (*response, error) {
	asked := traitsOf(req.in.json("resource"))
	queries, err := asked.queries(req.base)
	if err != nil {
		return nil, err
	}
	if len(queries) == 0 {
		return nil, fhir.Errorf(fhir.Invalid, "a match needs an identifier, a phone or mail address, or two of family name, given name and birth date").At("Patient")
	}
	var found []matchFound
	seen := map[fhir.Ref]bool{}
	for _, q := range queries {
		left := maxCandidates
		_, err := v.Sift(ctx, q, func(r fhir.Resource) (keep, more bool) {
			left--
			if seen[r.Ref] {
				return false, left > 0
			}
			seen[r.Ref] = true
			score := asked.weigh(traitsOf(r.Body))
			if score < possible {
				return false, left > 0
			}
			found = append(found, matchFound{r, score})
			return true, left > 0
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(found, func(a, b matchFound) int { return cmp.Compare(b.score, a.score) })
	if req.in.boolean("onlyCertainMatches", false) {
		found = slices.DeleteFunc(found, func(m matchFound) bool { return m.score < certain })
		if len(found) > 1 { // then none of them is
			found = nil
		}
	}
	found = found[:min(len(found), req.in.number("count", 20), maxMatches)]
	b := newBundle("searchset", req.now())
	b.total(len(found))
	for _, m := range found {
		b.entry().fullURL(req.base, m.Ref).resource(m.Body).raw(`"search":{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/match-grade","valueCode":"`).
			raw(m.grade()).raw(`"}],"mode":"match","score":`).raw(strconv.FormatFloat(m.score, 'f', 2, 64)).raw(`},`).end()
	}
	return &response{status: http.StatusOK, body: b.bytes()}, nil
}

// matchFound is a patient who may be the one.
type matchFound struct {
	fhir.Resource
	score float64
}

// The least scores of the grades. Only an identifier makes a match certain, or
// agreement in everything.
// https://hl7.org/fhir/R4/valueset-match-grade.html
const (
	certain  = 0.95
	probable = 0.8
	possible = 0.5
)

func (m matchFound) grade() string {
	switch {
	case m.score >= certain:
		return "certain"
	case m.score >= probable:
		return "probable"
	}
	return "possible"
}

// Traits are what people are recognised by, folded so that they compare.
type traits struct {
	identifiers            []identifier
	families, givens       []string
	birthDate, gender      string
	contacts               []string // phone numbers as digits, other addresses as they are
	postalCodes, cities    []string
	rawFamilies, rawGivens []string // as they are spelled, to search by
	rawContacts            []string
	lines                  []string
}

type identifier struct{ system, value string }

// traitsOf reads a Patient. What is malformed in it has no traits.
func traitsOf(patient []byte) traits {
	t := traits{birthDate: text(member(patient, "birthDate")), gender: text(member(patient, "gender"))}
	for _, id := range list(member(patient, "identifier")) {
		one := identifier{text(member(id, "system")), text(member(id, "value"))}
		if one.value != "" && text(member(id, "use")) != "old" {
			t.identifiers = append(t.identifiers, one)
		}
	}
	for _, name := range list(member(patient, "name")) {
		t.rawFamilies = appendText(t.rawFamilies, member(name, "family"))
		for _, given := range list(member(name, "given")) {
			t.rawGivens = appendText(t.rawGivens, given)
		}
	}
	for _, contact := range list(member(patient, "telecom")) {
		t.rawContacts = appendText(t.rawContacts, member(contact, "value"))
	}
	for _, address := range list(member(patient, "address")) {
		t.postalCodes = appendText(t.postalCodes, member(address, "postalCode"))
		t.cities = appendText(t.cities, member(address, "city"))
		for _, line := range list(member(address, "line")) {
			t.lines = appendText(t.lines, line)
		}
	}
	t.families, t.givens = foldAll(t.rawFamilies), foldAll(t.rawGivens)
	t.postalCodes, t.cities, t.lines = foldAll(t.postalCodes), foldAll(t.cities), foldAll(t.lines)
	for _, c := range t.rawContacts {
		t.contacts = append(t.contacts, foldContact(c))
	}
	return t
}

// maxTraits bounds the values of one kind: who has more is not looked for by
// all of them.
const maxTraits = 10

func appendText(to []string, b []byte) []string {
	if s := text(b); strings.TrimSpace(s) != "" && len(to) < maxTraits {
		return append(to, s)
	}
	return to
}

func foldAll(texts []string) []string {
	folded := make([]string, len(texts))
	for i, s := range texts {
		folded[i] = search.Fold(s)
	}
	return folded
}

// foldContact makes phone numbers alike: their last nine digits, which a
// country's prefix leaves as they are.
func foldContact(s string) string {
	if strings.Contains(s, "@") {
		return strings.ToLower(strings.TrimSpace(s))
	}
	digits := strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, s)
	return digits[max(0, len(digits)-9):]
}

// queries are the ways to find candidates through the index: each is narrow.
func (t traits) queries(base string) ([]*search.Query, error) {
	var ids []string
	for _, id := range t.identifiers[:min(len(t.identifiers), maxTraits)] {
		if id.system != "" {
			ids = append(ids, escapeValue(id.system)+"|"+escapeValue(id.value))
		}
	}
	families, givens, contacts := escapeAll(t.rawFamilies), escapeAll(t.rawGivens), escapeAll(t.rawContacts)
	var ways [][]search.Param
	way := func(params ...search.Param) {
		for _, p := range params {
			if p.Value == "" {
				return
			}
		}
		ways = append(ways, params)
	}
	day := ""
	if _, _, err := span(t.birthDate); err == nil && len(t.birthDate) == len("2006-01-02") {
		day = t.birthDate
	}
	way(search.Param{Name: "identifier", Value: strings.Join(ids, ",")})
	way(search.Param{Name: "telecom", Value: contacts})
	way(search.Param{Name: "birthdate", Value: day}, search.Param{Name: "family", Value: families})
	way(search.Param{Name: "birthdate", Value: day}, search.Param{Name: "given", Value: givens})
	way(search.Param{Name: "family", Value: families}, search.Param{Name: "given", Value: givens})
	var queries []*search.Query
	for _, params := range ways {
		c, err := parseCriteria("Patient", params, search.Options{Base: base})
		if err != nil {
			return nil, fhir.Errorf(fhir.Invalid, "parameter resource holds what cannot be searched for")
		}
		queries = append(queries, c.query())
	}
	return queries, nil
}

// escapeValue writes a text so that search takes it literally.
// https://hl7.org/fhir/R4/search.html#escaping
func escapeValue(s string) string {
	return strings.NewReplacer(`\`, `\\`, `,`, `\,`, `|`, `\|`, `$`, `\$`).Replace(s)
}

func escapeAll(texts []string) string {
	escaped := make([]string, len(texts))
	for i, s := range texts {
		escaped[i] = escapeValue(s)
	}
	return strings.Join(escaped, ",")
}

// The weights of what agrees.
const (
	ofFamily    = 0.22
	ofGiven     = 0.16
	ofBirthDate = 0.28
	ofGender    = 0.06
	ofContact   = 0.16
	ofAddress   = 0.12
)

// weigh says how likely it is that t and other are one person, from 0 to 1:
// what agrees in proportion to what both say. What contradicts counts against.
// Too few traits in common make no sure match.
func (t traits) weigh(other traits) float64 {
	var agrees, said float64
	add := func(weight, agreement float64) {
		agrees, said = agrees+weight*agreement, said+weight
	}
	if len(t.families) > 0 && len(other.families) > 0 {
		add(ofFamily, alike(t.families, other.families))
	}
	if len(t.givens) > 0 && len(other.givens) > 0 {
		add(ofGiven, alike(t.givens, other.givens))
	}
	if t.birthDate != "" && other.birthDate != "" {
		add(ofBirthDate, sameDate(t.birthDate, other.birthDate))
	}
	if t.gender != "" && other.gender != "" && t.gender != "unknown" && other.gender != "unknown" {
		add(ofGender, equal(t.gender == other.gender))
	}
	if len(t.contacts) > 0 && len(other.contacts) > 0 {
		add(ofContact, equal(share(t.contacts, other.contacts)))
	}
	if len(t.postalCodes)+len(t.cities) > 0 && len(other.postalCodes)+len(other.cities) > 0 {
		add(ofAddress, t.sameAddress(other))
	}
	const enough = 0.66 // names and birth date
	score := 0.0
	if said > 0 {
		score = agrees / max(said, enough)
	}
	if t.sameIdentifier(other) {
		// The number can be mistyped or reused: what contradicts it shows.
		contradicts := said >= enough-ofBirthDate && agrees/said < 0.5
		if contradicts {
			return round(max(score, probable))
		}
		return round(max(score, 0.97))
	}
	if t.otherIdentifier(other) {
		score -= 0.15
	}
	if said < ofFamily+ofGiven+ofBirthDate+ofGender+ofContact-0.01 {
		score = min(score, certain-0.01)
	}
	return round(min(max(score, 0), 0.96))
}

func round(score float64) float64 { return math.Round(score*100) / 100 }

func equal(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// sameIdentifier reports whether one value of one system is of both.
func (t traits) sameIdentifier(other traits) bool {
	return slices.ContainsFunc(t.identifiers, func(id identifier) bool { return id.system != "" && slices.Contains(other.identifiers, id) })
}

// otherIdentifier reports whether a system knows the two by different values.
func (t traits) otherIdentifier(other traits) bool {
	return slices.ContainsFunc(t.identifiers, func(a identifier) bool {
		return a.system != "" && slices.ContainsFunc(other.identifiers, func(b identifier) bool { return a.system == b.system })
	})
}

func share(a, b []string) bool {
	return slices.ContainsFunc(a, func(x string) bool { return x != "" && slices.Contains(b, x) })
}

// alike says how alike the likest two of the names are: 1 if they are equal, a
// half if one begins the other or a letter is mistyped.
func alike(a, b []string) float64 {
	best := 0.0
	for _, x := range a {
		for _, y := range b {
			switch {
			case x == y:
				return 1
			case len(x) > 1 && len(y) > 1 && (strings.HasPrefix(x, y) || strings.HasPrefix(y, x)), oneOff(x, y):
				best = 0.5
			}
		}
	}
	return best
}

// oneOff reports whether the longer of two words differs from the other in one
// letter, which is changed, missing, or swapped with its neighbour.
func oneOff(x, y string) bool {
	a, b := []rune(x), []rune(y)
	if len(a) < len(b) {
		a, b = b, a
	}
	if len(b) < 4 || len(a)-len(b) > 1 {
		return false
	}
	i := 0
	for i < len(b) && a[i] == b[i] {
		i++
	}
	if len(a) > len(b) {
		return slices.Equal(a[i+1:], b[i:])
	}
	swapped := i+1 < len(a) && a[i] == b[i+1] && a[i+1] == b[i] && slices.Equal(a[i+2:], b[i+2:])
	return i < len(a) && (slices.Equal(a[i+1:], b[i+1:]) || swapped)
}

// sameDate says how far two dates agree: a year or month as far as it goes,
// and day and month in the other order.
func sameDate(a, b string) float64 {
	switch {
	case a == b:
		return 1
	case strings.HasPrefix(a, b), strings.HasPrefix(b, a):
		return 0.6
	case len(a) == len("2006-01-02") && len(b) == len(a) && a[:4] == b[:4] && a[5:7] == b[8:] && a[8:] == b[5:7]:
		return 0.6
	}
	return 0
}

// sameAddress says how far two addresses agree.
func (t traits) sameAddress(other traits) float64 {
	switch {
	case share(t.postalCodes, other.postalCodes) && (len(t.lines) == 0 || len(other.lines) == 0 || share(t.lines, other.lines)):
		return 1
	case share(t.postalCodes, other.postalCodes), share(t.cities, other.cities):
		return 0.5
	}
	return 0
}
