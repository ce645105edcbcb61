package terminology

import (
	"mime"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/text/currency"
	"golang.org/x/text/language"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/ucum"
)

// A grammar is a code system that has rules for its codes, kept by others, in
// place of a resource that lists them.
// https://hl7.org/fhir/R4/terminologies-systems.html
type grammar struct {
	name string
	has  func(code string) Answer
	// list returns the codes; nil if there is no end to them.
	list func() []string
	// values returns what a code has of a property; false if the system does
	// not define it. It may be nil.
	values func(code, property string) ([]string, bool)
}

var grammars = map[string]*grammar{
	"http://unitsofmeasure.org": {name: "UCUM", has: isUnit, values: unitValues},
	"urn:ietf:bcp:13":           {name: "BCP 13", has: isMediaType},
	"urn:ietf:bcp:47":           {name: "BCP 47", has: isLanguage, values: languageValues},
	"urn:ietf:rfc:3986":         {name: "RFC 3986", has: isURI},
	"urn:iso:std:iso:3166":      {name: "ISO 3166", has: isCountry, list: countries},
	"urn:iso:std:iso:4217":      {name: "ISO 4217", has: isCurrency, list: currencies},
}

// maxGrammarCode is how long a code may be for filters to look at it.
const maxGrammarCode = 1000

// filter returns the part of g that the filters leave.
func (g *grammar) filter(filters []Filter, place string) (*grammar, *fhir.Error) {
	part := *g
	for i, f := range filters {
		t, err := g.keep(f)
		if err != nil {
			return nil, err.At(place + ".filter[" + strconv.Itoa(i) + "]")
		}
		all := part.has
		part.has = func(code string) Answer {
			switch a := all(code); {
			case a == In && len(code) > maxGrammarCode:
				return Unknown
			case a != In || t(code):
				return a
			}
			return Out
		}
	}
	if g.list != nil {
		part.list = func() []string {
			return slices.DeleteFunc(g.list(), func(code string) bool { return part.has(code) != In })
		}
	}
	return &part, nil
}

// keep returns whether a code of g passes a filter.
func (g *grammar) keep(f Filter) (func(code string) bool, *fhir.Error) {
	t, err := tests(f)
	if err != nil {
		return nil, err
	}
	values := func(code string) ([]string, bool) { return []string{code}, true }
	if f.Property != "code" && f.Property != "concept" {
		values = func(code string) ([]string, bool) {
			if g.values == nil {
				return nil, false
			}
			return g.values(code, f.Property)
		}
	}
	if _, ok := values(""); !ok {
		return nil, fhir.Errorf(fhir.NotSupported, "the code system does not define the property of a filter")
	}
	return func(code string) bool {
		list, _ := values(code)
		return t.passesAll(slices.Values(list))
	}, nil
}

func answer(is bool) Answer {
	if is {
		return In
	}
	return Out
}

// isUnit leaves open what may be a unit that is not in clinical use.
// https://ucum.org/ucum
func isUnit(code string) Answer {
	if _, err := ucum.Parse(code); err == nil {
		return In
	}
	if code == "" || strings.ContainsFunc(code, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return Out
	}
	return Unknown
}

func unitValues(code, property string) ([]string, bool) {
	if property != "canonical" {
		return nil, false
	}
	u, err := ucum.Parse(code)
	if err != nil {
		return nil, true
	}
	return []string{u.Canonical()}, true
}

// isMediaType takes the short names too that R4 gives to its own formats.
// https://hl7.org/fhir/R4/valueset-mimetypes.html
func isMediaType(code string) Answer {
	switch code {
	case "xml", "json", "ttl":
		return In
	}
	t, _, err := mime.ParseMediaType(code)
	return answer(err == nil && strings.Contains(t, "/"))
}

// isLanguage tells tags that are valid, not those that are just well-formed.
// https://www.rfc-editor.org/info/bcp47
func isLanguage(code string) Answer {
	_, err := language.Parse(code)
	return answer(err == nil && !strings.Contains(code, "_") && code != "")
}

// languageValues returns the subtags of a tag.
// https://hl7.org/fhir/R4/terminologies-systems.html#bcp-47
func languageValues(code, property string) ([]string, bool) {
	t, err := language.Raw.Parse(code)
	var list []string
	part := func(s string) {
		if err == nil && s != "" {
			list = append(list, s)
		}
	}
	base, script, region := t.Raw()
	switch property {
	case "language":
		part(base.String())
	case "ext-lang":
		subtags := strings.Split(code, "-")
		if len(subtags) > 1 && len(subtags[0]) < 4 && len(subtags[1]) == 3 && subtags[1] >= "A" {
			part(subtags[1])
		}
	case "script":
		if script.String() != "Zzzz" {
			part(script.String())
		}
	case "region":
		if region.String() != "ZZ" {
			part(region.String())
		}
	case "variant":
		for _, v := range t.Variants() {
			part(v.String())
		}
	case "extension", "private-use":
		for _, x := range t.Extensions() {
			if (x.Type() == 'x') == (property == "private-use") {
				part(x.String())
			}
		}
	default:
		return nil, false
	}
	return list, true
}

// isURI takes absolute URIs.
func isURI(code string) Answer {
	u, err := url.Parse(code)
	return answer(err == nil && u.IsAbs() && !strings.ContainsAny(code, " \t\r\n"))
}

// isCountry takes the codes of two and three letters and of three digits.
func isCountry(code string) Answer {
	r, err := language.ParseRegion(code)
	if err != nil || !r.IsCountry() || strings.ToUpper(code) != code {
		return Out
	}
	switch len(code) {
	case 2:
		return answer(r.String() == code)
	case 3:
		return answer(r.ISO3() == code || strconv.Itoa(1000 + r.M49())[1:] == code)
	}
	return Out
}

var countries = func() func() []string {
	all := sync.OnceValue(func() []string {
		var two, three, digits []string
		for a := 'A'; a <= 'Z'; a++ {
			for b := 'A'; b <= 'Z'; b++ {
				code := string([]rune{a, b})
				if isCountry(code) != In {
					continue
				}
				r, _ := language.ParseRegion(code)
				two, three, digits = append(two, code), append(three, r.ISO3()), append(digits, strconv.Itoa(1000 + r.M49())[1:])
			}
		}
		return slices.Concat(two, three, digits)
	})
	return func() []string { return slices.Clone(all()) }
}()

func isCurrency(code string) Answer {
	_, err := currency.ParseISO(code)
	return answer(err == nil && len(code) == 3 && strings.ToUpper(code) == code)
}

var currencies = func() func() []string {
	all := sync.OnceValue(func() []string {
		var list []string
		for q := currency.Query(currency.NonTender, currency.Historical); q.Next(); {
			list = append(list, q.Unit().String())
		}
		slices.Sort(list)
		return slices.Compact(list)
	})
	return func() []string { return slices.Clone(all()) }
}()
