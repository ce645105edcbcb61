package rest

import (
	"net/http"
	"slices"
	"strconv"
	"unicode"
	"unicode/utf8"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/r4"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/fhir/validate"
)

// A parameter is one that an operation takes.
// https://hl7.org/fhir/R4/operationdefinition-definitions.html#OperationDefinition.parameter
type parameter struct {
	name string
	// typ is a datatype, "uri" or "Coding"; a resource type, or "Resource" for
	// any; or "" if it has parts.
	typ   string
	min   int
	max   int // 0 means any number of times
	parts []parameter
	inURL bool // it is a Reference, of which a URL gives the text
}

// simple reports whether p can be written in a URL.
func (p parameter) simple() bool { return p.typ != "" && unicode.IsLower(rune(p.typ[0])) }

// ofResource reports whether p is a resource.
func (p parameter) ofResource() bool { return p.typ == "Resource" || fhir.Type(p.typ).Known() }

// An argument is the value of a parameter.
type argument struct {
	name  string
	json  []byte // of the value, or of the resource
	typ   string // of the value as it was given; "Resource" if it is one
	parts arguments
}

// Arguments are what an operation was called with, checked against its table.
type arguments []argument

// maxArguments bounds the parameters of one call, parts included.
const maxArguments = 1000

// read fills req.in from the URL and from the body, which is Parameters or the
// one resource that the operation takes.
// https://hl7.org/fhir/R4/operations.html#request
func (o *operation) read(req *request) error {
	req.in = nil
	var rest []search.Param
	for _, p := range req.params {
		a, err := o.fromURL(p)
		if err != nil {
			return err
		}
		if a.name == "" {
			rest = append(rest, p)
			continue
		}
		req.in = append(req.in, a)
	}
	req.params = rest
	if d := req.document; d != nil && d.Type == "Parameters" {
		posted, err := readParameters(d)
		if err != nil {
			return err
		}
		req.in = append(req.in, posted...)
	} else if d != nil {
		at := slices.IndexFunc(o.in, func(p parameter) bool { return p.typ == string(d.Type) || p.typ == "Resource" })
		if at < 0 {
			return fhir.Errorf(fhir.Invalid, "the body of this operation is Parameters")
		}
		req.in = append(req.in, argument{name: o.in[at].name, json: d.JSON, typ: "Resource"})
	}
	if err := req.in.check(o.in); err != nil {
		return err
	}
	if o.parse != nil {
		return o.parse(req)
	}
	return nil
}

// fromURL reads a parameter of the URL. It returns none for a parameter of
// search, if o takes them.
func (o *operation) fromURL(p search.Param) (argument, error) {
	at := slices.IndexFunc(o.in, func(x parameter) bool { return x.name == p.Name })
	switch {
	case at >= 0 && o.in[at].simple():
		t := o.in[at].typ
		a := argument{name: p.Name, json: quote(nil, p.Value), typ: t}
		switch t {
		case "boolean", "integer", "positiveInt", "unsignedInt", "decimal":
			a.json = []byte(p.Value)
		}
		return a, nil
	case at >= 0 && o.in[at].inURL:
		return argument{name: p.Name, json: append(quote([]byte(`{"reference":`), p.Value), '}'), typ: o.in[at].typ}, nil
	case at >= 0:
		return argument{}, fhir.Errorf(fhir.Invalid, "parameter %s cannot be given in a URL", p.Name)
	case o.searches:
		return argument{}, nil
	}
	return argument{}, unknownParameter(p.Name)
}

func unknownParameter(name string) error {
	if !plainName(name) {
		return fhir.Errorf(fhir.NotSupported, "the operation does not have all of these parameters")
	}
	return fhir.Errorf(fhir.NotSupported, "the operation has no parameter %s", name)
}

// readParameters reads a resource of type Parameters. What is in it, but for
// whole resources, is valid by the rules of R4.
// https://hl7.org/fhir/R4/parameters.html
func readParameters(d *fhir.Document) (arguments, error) {
	var r parametersReader
	list, err := r.list(member(d.JSON, "parameter"), d.JSON)
	if err != nil {
		return nil, err
	}
	bare, err := fhir.Reopen(splice(d.JSON, r.resources))
	if err != nil {
		return nil, err
	}
	if err := validate.Resource(bare); err != nil {
		return nil, clientError(err).WithStatus(http.StatusBadRequest)
	}
	return list, nil
}

// A parametersReader reads Parameters and cuts the resources out of it.
type parametersReader struct {
	resources []edit
	n         int
}

// list reads a list of parameters, which is a part of whole.
func (r *parametersReader) list(b, whole []byte) (arguments, error) {
	var list arguments
	if len(b) == 0 || b[0] != '[' {
		return nil, nil
	}
	var failed error
	elements(b, func(one []byte) bool {
		if r.n++; r.n > maxArguments {
			failed = fhir.Errorf(fhir.TooCostly, "an operation takes at most %d parameters", maxArguments)
			return false
		}
		var a argument
		if one[0] == '{' {
			a, failed = r.argument(one, whole)
		}
		list = append(list, a)
		return failed == nil
	})
	return list, failed
}

func (r *parametersReader) argument(b, whole []byte) (a argument, err error) {
	members(b, func(name string, value []byte) bool {
		switch {
		case name == "name":
			a.name = text(value)
		case name == "resource":
			a.json, a.typ = value, "Resource"
			at := offset(whole, value)
			r.resources = append(r.resources, edit{at, at + len(value), []byte(`{"resourceType":"Basic","code":{"text":"x"}}`)})
		case name == "part":
			a.parts, err = r.list(value, whole)
		default:
			if e := r4.ElementOf("Parameters.parameter", name); e != nil && e.Choice() == "value" {
				a.json, a.typ = value, e.Type()
			}
		}
		return err == nil
	})
	return a, err
}

// offset returns where part, a slice of whole, begins in it.
func offset(whole, part []byte) int { return cap(whole) - cap(part) }

// check holds the arguments against what the operation takes.
func (in arguments) check(takes []parameter) error {
	given := make([]int, len(takes))
	for _, a := range in {
		at := slices.IndexFunc(takes, func(p parameter) bool { return p.name == a.name })
		if at < 0 {
			return unknownParameter(a.name)
		}
		p := takes[at]
		if given[at]++; p.max > 0 && given[at] > p.max {
			return fhir.Errorf(fhir.Invalid, "parameter %s is given too often", p.name)
		}
		if !p.admits(a) {
			return fhir.Errorf(fhir.Invalid, "parameter %s is not of type %s", p.name, p.kind())
		}
		if err := a.parts.check(p.parts); err != nil {
			return err
		}
	}
	for i, p := range takes {
		if given[i] < p.min {
			return fhir.Errorf(fhir.Required, "parameter %s is missing", p.name).WithStatus(http.StatusBadRequest)
		}
	}
	return nil
}

func (p parameter) kind() string {
	if p.typ == "" {
		return "parts"
	}
	return p.typ
}

// admits reports whether a is of the type of p. One text is as good as another:
// clients write uri for canonical, and string for code.
func (p parameter) admits(a argument) bool {
	switch {
	case p.typ == "":
		return a.json == nil
	case a.json == nil || len(a.parts) > 0:
		return false
	case p.ofResource():
		return a.typ == "Resource" && (p.typ == "Resource" || text(member(a.json, "resourceType")) == p.typ)
	case !p.simple():
		return a.typ == p.typ
	}
	n, isNumber := strconv.Atoi(string(a.json))
	switch p.typ {
	case "boolean":
		return string(a.json) == "true" || string(a.json) == "false"
	case "integer":
		return isNumber == nil
	case "unsignedInt":
		return isNumber == nil && n >= 0
	case "positiveInt":
		return isNumber == nil && n > 0
	case "decimal":
		_, err := strconv.ParseFloat(string(a.json), 64)
		return err == nil
	case "dateTime", "date", "instant":
		_, err := parseTime(text(a.json))
		return err == nil
	}
	return a.json[0] == '"' && len(a.json) > 2 && utf8.Valid(a.json)
}

// find returns the first argument with the name.
func (in arguments) find(name string) (argument, bool) {
	for _, a := range in {
		if a.name == name {
			return a, true
		}
	}
	return argument{}, false
}

// has reports whether the parameter was given.
func (in arguments) has(name string) bool {
	_, ok := in.find(name)
	return ok
}

// text returns the text of the parameter, "" if it was not given.
func (in arguments) text(name string) string {
	a, _ := in.find(name)
	return text(a.json)
}

// texts returns the texts of a parameter that repeats.
func (in arguments) texts(name string) []string {
	var list []string
	for _, a := range in {
		if a.name == name {
			list = append(list, text(a.json))
		}
	}
	return list
}

// boolean returns the parameter, or what holds without it.
func (in arguments) boolean(name string, otherwise bool) bool {
	a, ok := in.find(name)
	if !ok {
		return otherwise
	}
	return string(a.json) == "true"
}

// number returns the parameter, or what holds without it.
func (in arguments) number(name string, otherwise int) int {
	a, ok := in.find(name)
	if !ok {
		return otherwise
	}
	n, _ := strconv.Atoi(string(a.json)) // checked when it was read
	return n
}

// json returns the JSON of the parameter, nil if it was not given.
func (in arguments) json(name string) []byte {
	a, _ := in.find(name)
	return a.json
}

// resource returns the resource that the parameter is, nil if it was not
// given. It is well-formed; whether it is valid is not known.
func (in arguments) resource(name string) (*fhir.Document, error) {
	a, ok := in.find(name)
	if !ok {
		return nil, nil
	}
	return fhir.Reopen(a.json)
}

// Results are what an operation answers with, as Parameters in the making.
// https://hl7.org/fhir/R4/operations.html#response
type results struct {
	json []byte
	n    int
}

// begin begins a parameter.
func (r *results) begin(name string) *results {
	if r.json == nil {
		r.json = append(r.json, `{"resourceType":"Parameters","parameter":[`...)
	}
	if r.n > 0 {
		r.json = append(r.json, ',')
	}
	r.n++
	r.json = append(r.json, `{"name":`...)
	r.json = quote(r.json, name)
	return r
}

// value adds a parameter with the JSON of a value of the type.
func (r *results) value(name, typ string, json []byte) {
	r.begin(name)
	first, size := utf8.DecodeRuneInString(typ)
	r.json = append(r.json, `,"value`+string(unicode.ToUpper(first))+typ[size:]+`":`...)
	r.json = append(append(r.json, json...), '}')
}

// text adds a parameter of one of the types that are texts.
func (r *results) text(name, typ, value string) { r.value(name, typ, quote(nil, value)) }

// boolean adds a parameter.
func (r *results) boolean(name string, value bool) {
	r.value(name, "boolean", strconv.AppendBool(nil, value))
}

// resource adds a parameter that is a resource.
func (r *results) resource(name string, json []byte) {
	r.begin(name)
	r.json = append(append(append(r.json, `,"resource":`...), json...), '}')
}

// parts adds a parameter with the parts that fn adds.
func (r *results) parts(name string, fn func(*results)) {
	r.begin(name)
	r.json = append(r.json, `,"part":[`...)
	inner := results{json: r.json}
	fn(&inner)
	r.json = append(inner.json, `]}`...)
}

// response answers with the results.
func (r *results) response() *response {
	if r.json == nil {
		return &response{status: http.StatusOK, body: []byte(`{"resourceType":"Parameters"}`)}
	}
	return &response{status: http.StatusOK, body: append(r.json, `]}`...)}
}
