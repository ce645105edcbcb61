package canonical

import (
	"bytes"
	"errors"
	"io"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/cordon-fhir/cordon/fhir"
)

// maxDepth bounds the nesting of a definition; each level of a code system's
// hierarchy takes two.
const maxDepth = 250

// Members that hold words for people, or that say how a definition came to be.
// What they are in depends on where they stand.
var (
	// anywhere are dropped wherever they are.
	anywhere = set("comment", "description", "documentation", "keyword", "mapping", "requirements")
	// ofResource are dropped from the resource itself, and from contained ones.
	ofResource = set("contact", "copyright", "date", "experimental", "jurisdiction", "meta", "publisher", "purpose",
		"text", "title", "useContext")
	// within are dropped from the objects of a name.
	within = map[string]map[string]bool{
		"concept":    set("definition"),
		"constraint": set("human", "source", "xpath"),
		"element": set("alias", "condition", "definition", "example", "isModifierReason", "isSummaryReason", "label",
			"meaningWhenMissing", "short"),
	}
)

// asides are extensions for authors and publishers of definitions.
var asides = set(
	"codesystem-concept-comments", "elementdefinition-bestpractice-explanation", "elementdefinition-bindingName",
	"elementdefinition-isCommonBinding", "elementdefinition-translatable", "structuredefinition-category",
	"structuredefinition-codegen-super", "structuredefinition-display-hint", "structuredefinition-explicit-type-name",
	"structuredefinition-fmm", "structuredefinition-hierarchy", "structuredefinition-normative-version",
	"structuredefinition-security-category", "structuredefinition-standards-status", "structuredefinition-summary",
	"structuredefinition-wg", "valueset-concept-comments", "valueset-concept-definition",
)

func set(names ...string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[n] = true
	}
	return m
}

// prune copies a definition without its prose, and reads its names on the way.
func prune(body []byte) (*Definition, []byte, error) {
	p := &pruner{dec: jsontext.NewDecoder(bytes.NewReader(body)), out: make([]byte, 0, len(body)/2)}
	if p.dec.PeekKind() != '{' {
		return nil, nil, fhir.Errorf(fhir.Structure, "a resource is a JSON object")
	}
	err := p.value("", true)
	if err == nil {
		if _, end := p.dec.ReadToken(); !errors.Is(end, io.EOF) {
			err = fhir.Errorf(fhir.Structure, "text follows the resource")
		}
	}
	var known *fhir.Error
	switch {
	case errors.As(err, &known):
		return nil, nil, err
	case err != nil:
		return nil, nil, fhir.Errorf(fhir.Structure, "the resource is not well-formed JSON")
	}
	if p.derivation != "constraint" {
		p.def.Constrains = ""
	}
	return &p.def, bytes.Clone(p.out), nil
}

type pruner struct {
	dec *jsontext.Decoder
	out []byte
	def Definition
	// derivation is that of a StructureDefinition.
	derivation string
	// snapshot is whether one was seen, which makes a differential needless.
	snapshot bool
}

// value copies the next value, which is in a member of the name. resource is
// whether it is a resource.
func (p *pruner) value(name string, resource bool) error {
	if p.dec.StackDepth() > maxDepth {
		return fhir.Errorf(fhir.Structure, "arrays and objects are nested more than %d deep", maxDepth)
	}
	switch p.dec.PeekKind() {
	case '{':
		return p.object(name, resource)
	case '[':
		return p.array(name)
	}
	v, err := p.dec.ReadValue()
	p.out = append(p.out, v...)
	return err
}

func (p *pruner) array(name string) error {
	if _, err := p.dec.ReadToken(); err != nil {
		return err
	}
	p.out = append(p.out, '[')
	for first := true; p.dec.PeekKind() != ']'; first = false {
		if !first {
			p.out = append(p.out, ',')
		}
		if err := p.value(name, name == "contained"); err != nil {
			return err
		}
	}
	p.out = append(p.out, ']')
	_, err := p.dec.ReadToken()
	return err
}

func (p *pruner) object(name string, resource bool) error {
	if _, err := p.dec.ReadToken(); err != nil {
		return err
	}
	top := p.dec.StackDepth() == 1
	p.out = append(p.out, '{')
	for first := true; p.dec.PeekKind() != '}'; {
		raw, err := p.dec.ReadValue()
		if err != nil {
			return err
		}
		quoted := string(raw)
		member := strings.Trim(quoted, `"`)
		if p.drop(member, name, resource) {
			if err := p.dec.SkipValue(); err != nil {
				return err
			}
			continue
		}
		before := len(p.out)
		if !first {
			p.out = append(p.out, ',')
		}
		p.out = append(append(p.out, quoted...), ':')
		start := len(p.out)
		if err := p.member(member, top); err != nil {
			return err
		}
		if len(p.out) == start { // nothing is left of it
			p.out = p.out[:before]
			continue
		}
		first = false
	}
	p.out = append(p.out, '}')
	_, err := p.dec.ReadToken()
	return err
}

func (p *pruner) drop(member, of string, resource bool) bool {
	member = strings.TrimPrefix(member, "_")
	switch {
	case member == "differential":
		return p.snapshot
	case member == "definition" && resource: // the list of files of an ImplementationGuide
		return true
	}
	return anywhere[member] || resource && ofResource[member] || within[of][member]
}

// member copies the value of one member. Values that are data of users of the
// definition are copied as they are.
func (p *pruner) member(name string, top bool) error {
	switch {
	case name == "extension":
		return p.extensions()
	case strings.HasPrefix(name, "fixed"), strings.HasPrefix(name, "pattern"), strings.HasPrefix(name, "defaultValue"):
		v, err := p.dec.ReadValue()
		if err != nil {
			return err
		}
		if err := v.Compact(); err != nil {
			return err
		}
		p.out = append(p.out, v...)
		return nil
	case !top:
		return p.value(name, false)
	}
	p.snapshot = p.snapshot || name == "snapshot"
	start := len(p.out)
	if err := p.value(name, false); err != nil {
		return err
	}
	return p.about(name, p.out[start:])
}

// about notes what a member of the resource says about it.
func (p *pruner) about(name string, value []byte) error {
	var s *string
	switch name {
	case "resourceType":
		s = (*string)(&p.def.Type)
	case "id":
		s = &p.def.ID
	case "url":
		s = &p.def.URL
	case "version":
		s = &p.def.Version
	case "name":
		s = &p.def.Name
	case "type":
		if value[0] != '"' { // only a StructureDefinition's is a string that names a type
			return nil
		}
		s = &p.def.Constrains
	case "derivation":
		s = &p.derivation
	default:
		return nil
	}
	if err := json.Unmarshal(value, s); err != nil {
		return fhir.Errorf(fhir.Structure, "%s must be a string", name)
	}
	return nil
}

// extensions copies those that are not asides.
func (p *pruner) extensions() error {
	v, err := p.dec.ReadValue()
	if err != nil {
		return err
	}
	var list []jsontext.Value
	if err := json.Unmarshal(v, &list); err != nil {
		return fhir.Errorf(fhir.Structure, "extension must be an array")
	}
	n := 0
	for _, x := range list {
		var about struct {
			URL string `json:"url"`
		}
		if err := json.Unmarshal(x, &about); err != nil {
			return fhir.Errorf(fhir.Structure, "an extension must be an object with a url")
		}
		name, ok := strings.CutPrefix(about.URL, "http://hl7.org/fhir/StructureDefinition/")
		if ok && asides[name] || strings.HasPrefix(about.URL, "http://hl7.org/fhir/tools/") {
			continue
		}
		if err := x.Compact(); err != nil {
			return err
		}
		sep := byte(',')
		if n == 0 {
			sep = '['
		}
		p.out = append(append(p.out, sep), x...)
		n++
	}
	if n > 0 {
		p.out = append(p.out, ']')
	}
	return nil
}
