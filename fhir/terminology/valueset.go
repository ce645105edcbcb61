package terminology

import (
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/cordon-fhir/cordon/fhir"
)

// A valueSetJSON is the JSON of a ValueSet, so far as it is understood.
// https://hl7.org/fhir/R4/valueset.html
type valueSetJSON struct {
	URL       string       `json:"url,omitzero"`
	Version   string       `json:"version,omitzero"`
	Name      string       `json:"name,omitzero"`
	Title     string       `json:"title,omitzero"`
	Status    string       `json:"status,omitzero"`
	Compose   *composeJSON `json:"compose,omitzero"`
	Expansion *struct {
		Contains []containsJSON `json:"contains"`
	} `json:"expansion,omitzero"`
}

type composeJSON struct {
	Inactive *bool         `json:"inactive,omitzero"`
	Include  []includeJSON `json:"include,omitzero"`
	Exclude  []includeJSON `json:"exclude,omitzero"`
}

type includeJSON struct {
	System   string   `json:"system,omitzero"`
	Version  string   `json:"version,omitzero"`
	Concept  []listed `json:"concept,omitzero"`
	Filter   []Filter `json:"filter,omitzero"`
	ValueSet []string `json:"valueSet,omitzero"`
}

// A Filter chooses concepts of a code system by what they are.
// https://hl7.org/fhir/R4/valueset.html#filters
type Filter struct {
	Property string `json:"property"`
	Op       string `json:"op"`
	Value    string `json:"value"`
}

// A listed concept is one that a ValueSet names itself.
type listed struct {
	Code        string        `json:"code"`
	Display     string        `json:"display,omitzero"`
	Designation []Designation `json:"designation,omitzero"`
}

type containsJSON struct {
	Coding   `json:",inline"`
	Contains []containsJSON `json:"contains"`
}

// parseValueSet reads the JSON of a ValueSet. The error is a *fhir.Error.
func parseValueSet(resource []byte) (*valueSetJSON, error) {
	var v valueSetJSON
	if err := json.Unmarshal(resource, &v); err != nil {
		return nil, fhir.Errorf(fhir.Structure, "the ValueSet has an element that is not of its type")
	}
	if v.Compose == nil && v.Expansion != nil {
		v.Compose = composed(v.Expansion.Contains)
	}
	if v.Compose == nil {
		v.Compose = &composeJSON{}
	}
	return &v, v.check()
}

// Bounds of what one ValueSet may ask for. Concepts are bounded by the size of
// the resource.
const (
	maxIncludes = 2000
	maxFilters  = 20  // of one include
	maxImports  = 100 // of one include
)

// check holds v against the bounds.
func (v *valueSetJSON) check() error {
	c := v.Compose
	if len(c.Include)+len(c.Exclude) > maxIncludes {
		return fhir.Errorf(fhir.TooCostly, "the ValueSet has more than %d includes and excludes", maxIncludes)
	}
	for in := range c.all() {
		switch {
		case len(in.Filter) > maxFilters || len(in.ValueSet) > maxImports:
			return fhir.Errorf(fhir.TooCostly, "an include has more than %d filters or %d value sets", maxFilters, maxImports)
		case in.System == "" && len(in.ValueSet) == 0:
			return fhir.Errorf(fhir.Value, "an include names neither a system nor a value set")
		case in.System == "" && (len(in.Concept) > 0 || len(in.Filter) > 0):
			return fhir.Errorf(fhir.Value, "an include with concepts or filters names no system")
		case slices.ContainsFunc(in.Concept, func(l listed) bool { return l.Code == "" }):
			return fhir.Errorf(fhir.Value, "a concept of an include has no code")
		case len(in.Concept) > 0 && len(in.Filter) > 0:
			return fhir.Errorf(fhir.Value, "an include has both concepts and filters")
		}
	}
	return nil
}

// all yields the includes and the excludes.
func (c *composeJSON) all() func(func(*includeJSON) bool) {
	return func(yield func(*includeJSON) bool) {
		for _, list := range [][]includeJSON{c.Include, c.Exclude} {
			for i := range list {
				if !yield(&list[i]) {
					return
				}
			}
		}
	}
}

// composed returns what would expand to the concepts of a stored expansion.
func composed(contains []containsJSON) *composeJSON {
	c := &composeJSON{}
	at := map[[2]string]int{}
	var walk func([]containsJSON)
	walk = func(list []containsJSON) {
		for _, x := range list {
			if x.Code != "" {
				key := [2]string{x.System, x.Version}
				i, ok := at[key]
				if !ok {
					i = len(c.Include)
					at[key] = i
					c.Include = append(c.Include, includeJSON{System: x.System, Version: x.Version})
				}
				c.Include[i].Concept = append(c.Include[i].Concept, listed{Code: x.Code, Display: x.Display})
			}
			walk(x.Contains)
		}
	}
	walk(contains)
	return c
}

// implicit returns the value set that a code system defines by its URL alone.
// https://hl7.org/fhir/R4/snomedct.html#implicit
// https://hl7.org/fhir/R4/loinc.html#implicit
func implicit(canonical string) (*valueSetJSON, bool) {
	in := includeJSON{}
	if rest, ok := strings.CutPrefix(canonical, "http://loinc.org/vs"); ok {
		in.System = "http://loinc.org"
		if part := strings.TrimPrefix(rest, "/"); part != "" {
			in.Filter = []Filter{{"parent", "=", part}}
		}
	} else if edition, what, ok := strings.Cut(canonical, "?fhir_vs"); ok && strings.HasPrefix(edition, "http://snomed.info/sct") {
		in.System = "http://snomed.info/sct"
		if edition != in.System {
			in.Version = edition
		}
		if concept, ok := strings.CutPrefix(what, "=isa/"); ok {
			in.Filter = []Filter{{"concept", "is-a", concept}}
		} else if what != "" {
			return nil, false
		}
	} else {
		return nil, false
	}
	return &valueSetJSON{URL: canonical, Compose: &composeJSON{Include: []includeJSON{in}}}, true
}

// A valueSet is a ValueSet made for asking whether codes are in it, and for
// listing them. It does not change once it is made.
type valueSet struct {
	*valueSetJSON
	includes, excludes []*include
}

// An include is a part of a valueSet: the concepts of a system, or of other
// value sets, or what they have in common.
// https://hl7.org/fhir/R4/valueset.html#compositions
type include struct {
	*includeJSON
	place   string         // its FHIRPath in the ValueSet
	system  *codeSystem    // nil if it is not known, or has no content
	grammar *grammar       // of a system that has one in place of content; else nil
	only    bits           // with filters, the concepts that they leave; else nil
	codes   map[string]int // of concepts that are listed, by code
	imports []imported

	// fault says why the concepts of the system cannot be told; nil if they
	// can.
	fault *fhir.Error
}

// An imported value set is one that an include names.
type imported struct {
	url string
	set *valueSet   // nil if it cannot be told
	why *fhir.Error // that it cannot
}
