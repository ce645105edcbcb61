package path

import "github.com/cordon-fhir/cordon/fhir"

// viewFunctions are those that views add: keys by which their rows are joined.
// A key is "Patient/7", the type too, so that no two resources have one.
// https://sql-on-fhir.org/ig/StructureDefinition-ViewDefinition.html#required-additional-functions
var viewFunctions = map[string]function{
	"getResourceKey":  {eval: getResourceKey},
	"getReferenceKey": {max: 1, eval: getReferenceKey},
}

// ParseView is Parse for an expression of a ViewDefinition, which may call
// getResourceKey() and getReferenceKey() too.
func ParseView(text string) (*Expr, error) { return parse(text, viewFunctions) }

// getResourceKey returns the key of a resource.
func getResourceKey(r *run, c *call, in, _ []Node) ([]Node, error) {
	n, ok, err := c.single(in)
	if err != nil || !ok {
		return nil, err
	}
	id := text(n.json, "id")
	if n.typ == nil || !fhir.Type(n.typ.Path).Known() || id == "" {
		return nil, nil
	}
	return r.one(String(n.typ.Path + "/" + id)), nil
}

// getReferenceKey returns the keys of the resources that references name by type
// and id, of the type that is asked for.
func getReferenceKey(r *run, c *call, in, _ []Node) ([]Node, error) {
	want := ""
	if len(c.args) == 1 {
		want = c.args[0].(*literal).value[0].val.(string)
	}
	var out []Node
	for i := range in {
		ref, err := fhir.ParseRef(text(in[i].json, "reference"))
		if err == nil && (want == "" || want == string(ref.Type)) {
			out = append(out, String(ref.String()))
		}
	}
	return out, r.step(stepsPerItem * len(in))
}

// keyFunction reads the argument of getReferenceKey, if there is one: the name of
// a type of resource, which some write as a string.
func (p *parser) keyFunction(c *call) (expr, error) {
	if p.is(")") {
		return c, p.next()
	}
	at, name := p.start, p.value
	if p.kind == tokString {
		if err := p.next(); err != nil {
			return nil, err
		}
	} else {
		t, err := p.typeName()
		if err != nil {
			return nil, err
		}
		name = t.name
	}
	if !fhir.Type(name).Known() {
		return nil, p.fault(at, "a type of resource that R4 does not have")
	}
	c.args = []expr{&literal{[]Node{String(name)}}}
	return c, p.expect(")")
}
