package rest

import (
	"cmp"
	"context"
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
	var found []personMatch
	seen := map[fhir.Ref]bool{}
	for _, q := range queries {
		left := maxCandidates
		_, err := v.Sift(ctx, q, func(r fhir.Resource) (keep, more bool) {
			left--
			if seen[r.Ref] {
				return false, left > 0
			}
			seen[r.Ref] = true
			m := asked.compare(traitsOf(r.Body)).match()
			if m.score < possible {
				return false, left > 0
			}
			m.Resource = r
			found = append(found, m)
			return true, left > 0
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(found, func(a, b personMatch) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.Ref.ID, b.Ref.ID))
	})
	if req.in.boolean("onlyCertainMatches", false) {
		found = slices.DeleteFunc(found, func(m personMatch) bool { return !m.certain })
		if len(found) > 1 { // then none of them is
			found = nil
		}
	}
	found = found[:min(len(found), req.in.number("count", 20), maxMatches)]
	b := newBundle("searchset", req.now())
	b.total(len(found))
	for _, m := range found {
		b.entry().fullURL(req.base, m.Ref).resource(m.Body).raw(`"search":{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/match-grade","valueCode":"`).
			raw(m.grade()).raw(`"}],"mode":"match","score":`).raw(strconv.FormatFloat(m.score, 'f', 4, 64)).raw(`},`).end()
	}
	return &response{status: http.StatusOK, body: b.bytes()}, nil
}

// Traits are what people are recognised by, folded so that they compare.
type traits struct {
	identifiers            []identifier
	families, givens       []string
	suffixes               []string // as "jr"
	birthDate, gender      string
	contacts               []string // phone numbers as digits, other addresses as they are
	postalCodes, cities    []string
	rawFamilies, rawGivens []string // as they are spelled, to search by
	rawContacts, rawCodes  []string
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
		for _, suffix := range list(member(name, "suffix")) {
			t.suffixes = appendText(t.suffixes, suffix)
		}
	}
	for _, contact := range list(member(patient, "telecom")) {
		t.rawContacts = appendText(t.rawContacts, member(contact, "value"))
	}
	for _, address := range list(member(patient, "address")) {
		t.rawCodes = appendText(t.rawCodes, member(address, "postalCode"))
		t.cities = appendText(t.cities, member(address, "city"))
		for _, line := range list(member(address, "line")) {
			t.lines = appendText(t.lines, line)
		}
	}
	t.families, t.givens = foldAll(t.rawFamilies), foldAll(t.rawGivens)
	t.suffixes = foldAll(t.suffixes)
	for i, s := range t.suffixes {
		t.suffixes[i] = strings.Trim(s, ". ")
	}
	t.postalCodes, t.cities, t.lines = foldAll(t.rawCodes), foldAll(t.cities), foldAll(t.lines)
	for _, c := range t.rawContacts {
		if c = foldContact(c); c != "" {
			t.contacts = append(t.contacts, c)
		}
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
	var folded []string
	for _, s := range texts {
		if s = search.Fold(s); s != "" {
			folded = append(folded, s)
		}
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
	families, givens, contacts, codes := escapeAll(t.rawFamilies), escapeAll(t.rawGivens), escapeAll(t.rawContacts), escapeAll(t.rawCodes)
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
	if len(ways) > 0 { // with something else to weigh
		way(search.Param{Name: "birthdate", Value: day}, search.Param{Name: "address-postalcode", Value: codes})
		way(search.Param{Name: "family", Value: families}, search.Param{Name: "address-postalcode", Value: codes})
		way(search.Param{Name: "family", Value: givens}, search.Param{Name: "given", Value: families})
		way(search.Param{Name: "birthdate", Value: day})
	}
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
