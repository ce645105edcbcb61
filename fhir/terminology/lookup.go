package terminology

import (
	"slices"
	"strconv"
	"strings"
)

// A Concept is what a code system knows of one of its codes.
// https://hl7.org/fhir/R4/codesystem-operation-lookup.html
type Concept struct {
	Name, Version string // of the code system
	Display       string
	Designations  []Designation
	Properties    []Property
}

// A Property is one that a concept has. Its value is a Coding if Type is
// "Coding", else what Value says.
type Property struct {
	Code        string
	Type        string // the datatype
	Value       string
	Coding      Coding
	Description string // of a concept that the value is the code of
}

// A LookupRequest asks for a Concept.
type LookupRequest struct {
	Coding
	DisplayLanguage string
	// Properties are those wanted; none means all.
	Properties []string
}

// Lookup returns what is known of a code. A *fhir.Error with code NotFound says
// that the code system is not known, or that it has no such code.
func (s *Service) Lookup(req LookupRequest) (*Concept, error) {
	sys, err := s.system(req.System, req.Version)
	if err != nil {
		return nil, err
	}
	if sys == nil {
		return lookupInGrammar(req)
	}
	c, ok := sys.find(req.Code)
	if !ok {
		return nil, errNoSystem()
	}
	out := &Concept{Name: sys.Name, Version: sys.Version, Display: sys.display(c), Designations: sys.designations(c)}
	if out.Name == "" {
		out.Name = sys.URL
	}
	if d, ok := inLanguage(out.Designations, req.DisplayLanguage); ok {
		out.Display = d.Value
	}
	if out.Display == "" { // the operation must answer one
		out.Display = sys.code(c)
	}
	for _, p := range sys.describe(c) {
		if req.wants(p.Code) {
			out.Properties = append(out.Properties, p)
		}
	}
	out.Designations = slices.DeleteFunc(out.Designations, func(d Designation) bool {
		return !req.wants("designation") && !req.wants("lang."+d.Language)
	})
	return out, nil
}

// wants reports whether the property is asked for.
func (req LookupRequest) wants(property string) bool {
	return len(req.Properties) == 0 || slices.Contains(req.Properties, property)
}

func lookupInGrammar(req LookupRequest) (*Concept, error) {
	g := grammars[req.System]
	if g == nil || req.Version != "" || g.has(req.Code) != In {
		return nil, errNoSystem()
	}
	return &Concept{Name: g.name, Display: req.Code}, nil
}

// describe returns the properties of a concept, those included that every code
// system has.
func (s *codeSystem) describe(c uint32) []Property {
	var list []Property
	add := func(p Property) { list = append(list, p) }
	if text := s.definition(c); text != "" {
		add(Property{Code: "definition", Type: "string", Value: text})
	}
	add(Property{Code: "inactive", Type: "boolean", Value: strconv.FormatBool(s.inactive.has(c))})
	if s.abstract.has(c) {
		add(Property{Code: "notSelectable", Type: "boolean", Value: "true"})
	}
	for _, p := range s.parents.of(c) {
		add(Property{Code: "parent", Type: "code", Value: s.code(p), Description: s.display(p)})
	}
	for _, p := range s.children.of(c) {
		add(Property{Code: "child", Type: "code", Value: s.code(p), Description: s.display(p)})
	}
	for _, p := range s.propertiesOf(c) {
		switch name := s.names[p.name]; name {
		case "inactive", "notSelectable", "parent", "child":
		default:
			add(s.property(name, p))
		}
	}
	return list
}

func (s *codeSystem) property(name string, p property) Property {
	out := Property{Code: name, Type: strings.TrimPrefix(kinds[p.kind], "value")}
	if p.kind == aCoding {
		out.Coding = s.codings[p.value.from]
		return out
	}
	out.Type = strings.ToLower(out.Type[:1]) + out.Type[1:]
	out.Value = s.valueOf(p)
	if p.kind == aCode {
		if other, ok := s.find(out.Value); ok {
			out.Description = s.display(other)
		}
	}
	return out
}
