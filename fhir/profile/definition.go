package profile

import (
	"strconv"
	"strings"

	"github.com/valyala/fastjson"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/path"
	"github.com/cordon-fhir/cordon/fhir/r4"
)

// A structure is a StructureDefinition, read.
// https://hl7.org/fhir/R4/structuredefinition.html
type structure struct {
	url, typ, kind string
	base           string // canonical URL of what it is derived from
	specialization bool
	contexts       []extensionContext
	invariants     []string // of the context, in FHIRPath
	snapshot       []*element
	differential   []*element
}

// An extensionContext is where an extension may be used.
// https://hl7.org/fhir/R4/defining-extensions.html#context
type extensionContext struct {
	kind, expression string
	selecting        *path.Expr // if it is one of FHIRPath that can be read
}

// An element is an ElementDefinition. It is part of a tree: its children and,
// if it is sliced, its slices.
// https://hl7.org/fhir/R4/elementdefinition.html
type element struct {
	id, path  string
	slice     string // its name as a slice
	slicing   *slicing
	min       int // -1 if it is not said
	max       int // unbounded, or unsaid
	types     []typeRef
	content   string // contentReference, without #
	fixed     *valueOf
	pattern   *valueOf
	minValue  *valueOf
	maxValue  *valueOf
	maxLength int // 0 for none
	binding   *binding
	must      bool // mustSupport
	modifier  bool // isModifier
	rules     []constraint

	children []*element
	slices   []*element
}

// What max is if it is no number.
const (
	unbounded = -1
	unsaid    = -2
)

type slicing struct {
	by      []discriminator
	ordered bool
	rules   string // "closed", "open" or "openAtEnd"
}

type discriminator struct{ kind, path string }

type typeRef struct {
	code        string
	profiles    []string
	targets     []string
	aggregation []string
	versioning  string
}

// A valueOf is the value of a choice such as fixed[x].
type valueOf struct {
	typ   string // "CodeableConcept", "code"
	value *fastjson.Value
}

type binding struct {
	strength, valueSet string
	maxValueSet        string
}

type constraint struct {
	key, expression string
	warning         bool
}

// name returns the last step of the path, without [x].
func (e *element) name() string {
	return strings.TrimSuffix(e.path[strings.LastIndexByte(e.path, '.')+1:], "[x]")
}

// maxElements bounds the elements of one StructureDefinition. The largest of
// R4 has about 300, those of published guides some thousands.
const maxElements = 20_000

// readStructure reads the JSON of a StructureDefinition.
func readStructure(json []byte) (*structure, error) {
	v, err := fastjson.ParseBytes(json)
	if err != nil {
		return nil, fhir.Errorf(fhir.Structure, "the StructureDefinition is not well-formed JSON")
	}
	s := &structure{
		url: text(v, "url"), typ: text(v, "type"), kind: text(v, "kind"), base: text(v, "baseDefinition"),
	}
	// A profile of a type of R4 is one, whatever it calls itself.
	s.specialization = text(v, "derivation") != "constraint" && (s.url == base+s.typ || r4.TypeOf(s.typ) == nil)
	for _, c := range v.GetArray("context") {
		s.contexts = append(s.contexts, extensionContext{kind: text(c, "type"), expression: text(c, "expression")})
	}
	s.invariants = texts(v.GetArray("contextInvariant"))
	if s.snapshot, err = readElements(v.GetArray("snapshot", "element")); err != nil {
		return nil, err
	}
	s.differential, err = readElements(v.GetArray("differential", "element"))
	return s, err
}

func readElements(list []*fastjson.Value) ([]*element, error) {
	if len(list) > maxElements {
		return nil, fhir.Errorf(fhir.TooLong, "the StructureDefinition has more than %d elements", maxElements)
	}
	out := make([]*element, 0, len(list))
	for _, v := range list {
		e, err := readElement(v)
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

func readElement(v *fastjson.Value) (*element, error) {
	e := &element{
		id: text(v, "id"), path: text(v, "path"), slice: text(v, "sliceName"), min: -1, max: unsaid,
		content: text(v, "contentReference"), maxLength: v.GetInt("maxLength"), must: v.GetBool("mustSupport"),
		modifier: v.GetBool("isModifier"),
	}
	e.content = e.content[strings.IndexByte(e.content, '#')+1:]
	if e.path == "" {
		return nil, fhir.Errorf(fhir.Required, "an element of the StructureDefinition has no path")
	}
	if v.Exists("min") {
		e.min = v.GetInt("min")
	}
	switch max := text(v, "max"); max {
	case "":
	case "*":
		e.max = unbounded
	default:
		n, err := strconv.Atoi(max)
		if err != nil || n < 0 {
			return nil, fhir.Errorf(fhir.Value, "max of an element of the StructureDefinition is neither a number nor *")
		}
		e.max = n
	}
	for _, t := range v.GetArray("type") {
		e.types = append(e.types, typeRef{typeCode(t), profilesOf(t), texts(t.GetArray("targetProfile")),
			texts(t.GetArray("aggregation")), text(t, "versioning")})
	}
	if s := v.Get("slicing"); s != nil {
		e.slicing = &slicing{ordered: s.GetBool("ordered"), rules: text(s, "rules")}
		for _, d := range s.GetArray("discriminator") {
			e.slicing.by = append(e.slicing.by, discriminator{text(d, "type"), text(d, "path")})
		}
	}
	if b := v.Get("binding"); b != nil && b.Exists("valueSet") {
		e.binding = &binding{strength: text(b, "strength"), valueSet: text(b, "valueSet")}
		for _, x := range b.GetArray("extension") {
			if text(x, "url") == maxValueSet {
				e.binding.maxValueSet = text(x, "valueCanonical")
			}
		}
	}
	for _, c := range v.GetArray("constraint") {
		if x := text(c, "expression"); x != "" {
			e.rules = append(e.rules, constraint{text(c, "key"), x, text(c, "severity") == "warning"})
		}
	}
	e.readValues(v)
	return e, nil
}

const (
	maxValueSet    = "http://hl7.org/fhir/StructureDefinition/elementdefinition-maxValueSet"
	profileElement = "http://hl7.org/fhir/StructureDefinition/elementdefinition-profile-element"
	fhirType       = "http://hl7.org/fhir/StructureDefinition/structuredefinition-fhir-type"
)

// profilesOf returns the canonicals of the profiles of a type, with # and the id
// of an element where one of these is meant.
// https://hl7.org/fhir/R4/extension-elementdefinition-profile-element.html
func profilesOf(t *fastjson.Value) []string {
	list := texts(t.GetArray("profile"))
	for i, beside := range t.GetArray("_profile") {
		for _, x := range beside.GetArray("extension") {
			if i < len(list) && text(x, "url") == profileElement {
				list[i] += "#" + text(x, "valueString")
			}
		}
	}
	return list
}

// readValues reads the members of v that are choices.
func (e *element) readValues(v *fastjson.Value) {
	for prefix, to := range map[string]**valueOf{"fixed": &e.fixed, "pattern": &e.pattern, "minValue": &e.minValue, "maxValue": &e.maxValue} {
		o, err := v.Object()
		if err != nil {
			return
		}
		o.Visit(func(key []byte, value *fastjson.Value) {
			name, beside := strings.CutPrefix(string(key), "_")
			typ, ok := strings.CutPrefix(name, prefix)
			if !ok || typ == "" || typ[0] < 'A' || typ[0] > 'Z' {
				return
			}
			if beside {
				return // the id and the extensions of a value are not compared
			}
			settle(value)
			*to = &valueOf{typ: typeName(typ), value: value}
		})
	}
}

// settle unescapes everything in v now, so that many goroutines may read it.
func settle(v *fastjson.Value) {
	switch v.Type() { // which unescapes a string
	case fastjson.TypeObject:
		if o, err := v.Object(); err == nil {
			o.Visit(func(_ []byte, v *fastjson.Value) { settle(v) })
		}
	case fastjson.TypeArray:
		for _, item := range v.GetArray() {
			settle(item)
		}
	}
}

// typeName returns the type that the end of a choice's name stands for:
// "code" for "Code".
func typeName(suffix string) string {
	lower := strings.ToLower(suffix[:1]) + suffix[1:]
	if isPrimitive(lower) {
		return lower
	}
	return suffix
}

// typeCode returns the FHIR type of one type of an element. Ids and values of
// primitives have a FHIRPath type and say in an extension what it stands for.
func typeCode(t *fastjson.Value) string {
	code := text(t, "code")
	if !strings.HasPrefix(code, "http://hl7.org/fhirpath/") {
		return code
	}
	for _, x := range t.GetArray("extension") {
		if text(x, "url") == fhirType {
			return text(x, "valueUrl") + text(x, "valueUri")
		}
	}
	return "string"
}

func text(v *fastjson.Value, name string) string { return string(v.GetStringBytes(name)) }

func texts(list []*fastjson.Value) []string {
	var out []string
	for _, v := range list {
		if s, err := v.StringBytes(); err == nil {
			out = append(out, string(s))
		}
	}
	return out
}
