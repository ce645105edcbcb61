package terminology

import (
	"slices"

	"github.com/go-json-experiment/json"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/canonical"
)

// A conceptMap is a ConceptMap made for translating.
// https://hl7.org/fhir/R4/conceptmap.html
type conceptMap struct {
	URL             string  `json:"url"`
	Version         string  `json:"version"`
	SourceURI       string  `json:"sourceUri"`
	SourceCanonical string  `json:"sourceCanonical"`
	TargetURI       string  `json:"targetUri"`
	TargetCanonical string  `json:"targetCanonical"`
	Group           []group `json:"group"`
}

type group struct {
	Source        string    `json:"source"`
	SourceVersion string    `json:"sourceVersion"`
	Target        string    `json:"target"`
	TargetVersion string    `json:"targetVersion"`
	Element       []element `json:"element"`
	Unmapped      *struct {
		Mode    string `json:"mode"`
		Code    string `json:"code"`
		Display string `json:"display"`
		URL     string `json:"url"`
	} `json:"unmapped"`

	bySource, byTarget map[string][]int // elements
}

type element struct {
	Code    string   `json:"code"`
	Display string   `json:"display"`
	Target  []target `json:"target"`
}

type target struct {
	Code        string       `json:"code"`
	Display     string       `json:"display"`
	Equivalence string       `json:"equivalence"`
	DependsOn   []Dependency `json:"dependsOn"`
	Product     []Dependency `json:"product"`
}

// A Dependency is an element with the code that it has, or is to have, beside
// the one that is translated.
// https://hl7.org/fhir/R4/conceptmap-definitions.html#ConceptMap.group.element.target.dependsOn
type Dependency struct {
	Property string `json:"property"`
	System   string `json:"system"`
	Value    string `json:"value"`
	Display  string `json:"display"`
}

func parseConceptMap(resource []byte) (*conceptMap, error) {
	var m conceptMap
	if err := json.Unmarshal(resource, &m); err != nil {
		return nil, fhir.Errorf(fhir.Structure, "the ConceptMap has an element that is not of its type")
	}
	for i := range m.Group {
		g := &m.Group[i]
		g.bySource, g.byTarget = map[string][]int{}, map[string][]int{}
		for j, e := range g.Element {
			g.bySource[e.Code] = append(g.bySource[e.Code], j)
			for _, t := range e.Target {
				if list := g.byTarget[t.Code]; len(list) == 0 || list[len(list)-1] != j {
					g.byTarget[t.Code] = append(list, j)
				}
			}
		}
	}
	return &m, nil
}

// joins reports whether m is between the value sets. An empty one may be any.
func (m *conceptMap) joins(source, target string) bool {
	is := func(want, uri, canonical string) bool {
		url, _ := splitCanonical(canonical)
		return want == "" || want == uri || want == canonical || want == url
	}
	return is(source, m.SourceURI, m.SourceCanonical) && is(target, m.TargetURI, m.TargetCanonical)
}

// A TranslateRequest asks for the codes that say the same elsewhere.
// https://hl7.org/fhir/R4/conceptmap-operation-translate.html
type TranslateRequest struct {
	// Source is the map to use. Without one, all that join the value sets are
	// used.
	Source
	Codings        []Coding
	SourceValueSet string
	TargetValueSet string
	TargetSystem   string
	Dependencies   []Dependency
	Reverse        bool

	led *int // maps that one led to, from another
}

// A Match is a code that was found.
type Match struct {
	Equivalence string
	Concept     Coding // without a code, if there is none
	Products    []Dependency
	Source      string // the canonical of the map
}

// Found reports whether the match is of a code that says something in common
// with the one that was asked for.
func (m Match) Found() bool { return m.Equivalence != "unmatched" && m.Equivalence != "disjoint" }

// maxLed bounds how many maps may lead from one to another.
const maxLed = 100

// Translate returns the matches of the codings, none if the maps hold nothing
// for them. A *fhir.Error with code NotFound says that the map is not known.
func (s *Service) Translate(req TranslateRequest) ([]Match, error) {
	if req.led == nil {
		req.led = new(int)
	}
	maps, err := s.mapsFor(req)
	if err != nil {
		return nil, err
	}
	var list []Match
	for _, m := range maps {
		for _, c := range req.Codings {
			for i := range m.Group {
				found, err := s.translate(m, &m.Group[i], c, req)
				if err != nil {
					return nil, err
				}
				list = append(list, found...)
			}
		}
	}
	return list, nil
}

func (s *Service) mapsFor(req TranslateRequest) ([]*conceptMap, error) {
	if req.Resource != nil {
		m, err := parseConceptMap(req.Resource)
		return []*conceptMap{m}, err
	}
	if req.URL != "" {
		d, ok := s.set.Find("ConceptMap", req.canonical())
		if !ok {
			return nil, fhir.Errorf(fhir.NotFound, "the concept map is not known")
		}
		m, err := s.conceptMap(d)
		return []*conceptMap{m}, err
	}
	var list []*conceptMap
	for d := range s.set.All("ConceptMap") {
		m, err := s.conceptMap(d)
		if err == nil && m.joins(req.SourceValueSet, req.TargetValueSet) {
			list = append(list, m)
		}
	}
	return list, nil
}

type mapKey struct{ of *canonical.Definition }

func (s *Service) conceptMap(d *canonical.Definition) (*conceptMap, error) {
	return memo(s, mapKey{d}, func() (*conceptMap, error) { return parseConceptMap(d.JSON()) })
}

func (s *Service) translate(m *conceptMap, g *group, c Coding, req TranslateRequest) ([]Match, error) {
	from, to, known := g.Source, g.Target, g.bySource
	if req.Reverse {
		from, to, known = g.Target, g.Source, g.byTarget
	}
	if c.System != "" && c.System != from || req.TargetSystem != "" && req.TargetSystem != to {
		return nil, nil
	}
	var list []Match
	for _, i := range known[c.Code] {
		list = append(list, g.matches(m, &g.Element[i], c, req)...)
	}
	if len(list) > 0 || req.Reverse || g.Unmapped == nil || len(known[c.Code]) > 0 {
		return list, nil
	}
	return s.unmapped(m, g, c, req)
}

// matches returns the targets of an element, or the element itself if the map
// is read backwards.
func (g *group) matches(m *conceptMap, e *element, c Coding, req TranslateRequest) []Match {
	var list []Match
	for _, t := range e.Target {
		if !t.applies(req.Dependencies) || req.Reverse && t.Code != c.Code {
			continue
		}
		found := Match{Equivalence: t.Equivalence, Products: t.Product, Source: m.URL}
		if req.Reverse {
			found.Equivalence = reversed(t.Equivalence)
			found.Products = nil
			found.Concept = Coding{System: g.Source, Version: g.SourceVersion, Code: e.Code, Display: e.Display}
		} else if t.Code != "" {
			found.Concept = Coding{System: g.Target, Version: g.TargetVersion, Code: t.Code, Display: t.Display}
		}
		list = append(list, found)
	}
	return list
}

// applies reports whether each dependency of t is among those given.
func (t target) applies(given []Dependency) bool {
	for _, d := range t.DependsOn {
		if !slices.ContainsFunc(given, func(g Dependency) bool {
			return g.Property == d.Property && g.Value == d.Value && (d.System == "" || g.System == d.System)
		}) {
			return false
		}
	}
	return true
}

// reversed is the equivalence seen from the other side.
// https://hl7.org/fhir/R4/valueset-concept-map-equivalence.html
func reversed(equivalence string) string {
	switch equivalence {
	case "wider":
		return "narrower"
	case "narrower":
		return "wider"
	case "subsumes":
		return "specializes"
	case "specializes":
		return "subsumes"
	}
	return equivalence
}

// unmapped answers for a code that the group does not hold.
// https://hl7.org/fhir/R4/conceptmap-definitions.html#ConceptMap.group.unmapped
func (s *Service) unmapped(m *conceptMap, g *group, c Coding, req TranslateRequest) ([]Match, error) {
	switch g.Unmapped.Mode {
	case "provided":
		return []Match{{Equivalence: "equal", Source: m.URL, Concept: Coding{System: g.Target, Version: g.TargetVersion, Code: c.Code, Display: c.Display}}}, nil
	case "fixed":
		return []Match{{Equivalence: "inexact", Source: m.URL, Concept: Coding{System: g.Target, Version: g.TargetVersion, Code: g.Unmapped.Code, Display: g.Unmapped.Display}}}, nil
	case "other-map":
		if *req.led++; *req.led > maxLed {
			return nil, fhir.Errorf(fhir.TooCostly, "more than %d concept maps lead from one to another", maxLed)
		}
		req.Source, req.Codings = Source{URL: g.Unmapped.URL}, []Coding{c}
		list, err := s.Translate(req)
		if fhir.IsCode(err, fhir.NotFound) {
			err = fhir.Errorf(fhir.BusinessRule, "a concept map that this one leads to is not known here")
		}
		return list, err
	}
	return nil, nil
}
