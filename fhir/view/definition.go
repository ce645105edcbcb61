package view

import (
	"errors"
	"regexp"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/path"
	"github.com/cordon-fhir/cordon/fhir/validate"
)

// A definition is the JSON of a ViewDefinition. What is not here is refused, for
// what is passed over could have narrowed the view.
// https://sql-on-fhir.org/ig/StructureDefinition-ViewDefinition-definitions.html
type definition struct {
	ResourceType string           `json:"resourceType"`
	URL          string           `json:"url"`
	Name         string           `json:"name"`
	Title        string           `json:"title"`
	Resource     fhir.Type        `json:"resource"`
	FHIRVersion  []string         `json:"fhirVersion"`
	Constant     []jsontext.Value `json:"constant"`
	Select       []selectJSON     `json:"select"`
	Where        []whereJSON      `json:"where"`

	passed
	ID           jsontext.Value `json:"id"`
	Meta         jsontext.Value `json:"meta"`
	Language     jsontext.Value `json:"language"`
	Text         jsontext.Value `json:"text"`
	Identifier   jsontext.Value `json:"identifier"`
	Version      jsontext.Value `json:"version"`
	Status       jsontext.Value `json:"status"`
	Experimental jsontext.Value `json:"experimental"`
	Date         jsontext.Value `json:"date"`
	Publisher    jsontext.Value `json:"publisher"`
	Contact      jsontext.Value `json:"contact"`
	UseContext   jsontext.Value `json:"useContext"`
	Jurisdiction jsontext.Value `json:"jurisdiction"`
	Purpose      jsontext.Value `json:"purpose"`
	Copyright    jsontext.Value `json:"copyright"`
	Label        jsontext.Value `json:"copyrightLabel"`
	Profile      jsontext.Value `json:"profile"`
}

// passed are elements that change nothing of the rows.
type passed struct {
	Description jsontext.Value `json:"description"`
	Extension   jsontext.Value `json:"extension"`
}

type selectJSON struct {
	Column        []columnJSON `json:"column"`
	Select        []selectJSON `json:"select"`
	UnionAll      []selectJSON `json:"unionAll"`
	ForEach       *string      `json:"forEach"`
	ForEachOrNull *string      `json:"forEachOrNull"`
	Repeat        []string     `json:"repeat"`
	passed
}

type columnJSON struct {
	Path       string         `json:"path"`
	Name       string         `json:"name"`
	Type       string         `json:"type"`
	Collection bool           `json:"collection"`
	Tag        jsontext.Value `json:"tag"`
	passed
}

type whereJSON struct {
	Path string `json:"path"`
	passed
}

// decode reads a definition.
func decode(b []byte) (*definition, error) {
	d := &definition{}
	err := json.Unmarshal(b, d, json.RejectUnknownMembers(true))
	if err == nil {
		return d, nil
	}
	at := "ViewDefinition"
	var wrong *json.SemanticError
	if errors.As(err, &wrong) {
		at = placeOf(wrong.JSONPointer)
	}
	return nil, invalid(at, "an element that it does not have, or of another form")
}

// plain is a name that elements could have.
var plain = regexp.MustCompile(`^[A-Za-z]{1,30}$`)

// placeOf returns the place that a JSON pointer names, as far as it is one of FHIR.
func placeOf(p jsontext.Pointer) string {
	var at strings.Builder
	at.WriteString("ViewDefinition")
	for token := range p.Tokens() {
		if n, err := strconv.Atoi(token); err == nil {
			at.WriteString("[" + strconv.Itoa(n) + "]")
		} else if plain.MatchString(token) {
			at.WriteString("." + token)
		} else {
			break
		}
	}
	return at.String()
}

// check returns what is wrong with the head of a definition.
func (d *definition) check() error {
	switch {
	case d.ResourceType != "" && d.ResourceType != "ViewDefinition":
		return invalid("ViewDefinition.resourceType", "it is of another type")
	case !d.Resource.Known() || d.Resource == "AuditEvent" || d.Resource == "OperationOutcome" || d.Resource == "Parameters":
		return invalid("ViewDefinition.resource", "it names no type of resources that are here")
	case d.Name != "" && !ValidName(d.Name):
		return invalid("ViewDefinition.name", "a name is letters, digits and underscores, begins with a letter, and has at most %d bytes", maxName)
	case len(d.Select) == 0:
		return invalid("ViewDefinition.select", "it selects nothing")
	case len(d.Constant) > maxConstants:
		return fhir.Errorf(fhir.TooCostly, "a ViewDefinition has at most %d constants", maxConstants)
	}
	for _, v := range d.FHIRVersion {
		if v == "4.0" || strings.HasPrefix(v, "4.0.") {
			return nil
		}
	}
	if len(d.FHIRVersion) > 0 {
		return invalid("ViewDefinition.fhirVersion", "it is for other versions of FHIR than R4")
	}
	return nil
}

// rowIndex is the constant that says at which of the items of a select a row is.
const rowIndex = "rowIndex"

// constants returns the constants as Parameters, which have the same types, and
// the names that expressions may use.
func (d *definition) constants() (params []byte, known map[string][]path.Node, err error) {
	known = map[string][]path.Node{rowIndex: {path.Integer(0)}}
	if len(d.Constant) == 0 {
		return nil, known, nil
	}
	list, err := json.Marshal(d.Constant)
	if err != nil {
		return nil, nil, err
	}
	params = append(append([]byte(`{"resourceType":"Parameters","parameter":`), list...), '}')
	doc, err := fhir.Parse(params, fhir.Limits{})
	if err == nil {
		err = validate.Resource(doc)
	}
	if err != nil {
		return nil, nil, invalid("ViewDefinition.constant", "not each has a name and a value of its type")
	}
	n := 0
	for p := range path.Root(doc).Child("parameter") {
		at := "ViewDefinition.constant[" + strconv.Itoa(n) + "]"
		name := string(p.JSON().GetStringBytes("name"))
		value := valuesOf(p)
		switch {
		case !ValidName(name) || known[name] != nil:
			return nil, nil, invalid(at+".name", "it is another's, or no name")
		case len(value) != 1 || value[0].Value() == nil || value[0].ComplexType() != nil:
			return nil, nil, invalid(at+".value", "a constant has one primitive value")
		}
		known[name] = value
		n++
	}
	return params, known, nil
}

func valuesOf(parameter path.Node) []path.Node { return parameter.AppendChild(nil, "value") }
