package path

import (
	"bytes"
	"strings"

	"github.com/valyala/fastjson"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/r4"
	"github.com/cordon-fhir/cordon/fhir/validate"
)

// fhirFunctions are those that FHIR adds. Of R4's, elementDefinition and slice
// are missing: they ask for the definition that a tool is showing.
// https://hl7.org/fhir/R4/fhirpath.html#functions
var fhirFunctions = map[string]function{
	"extension":      {min: 1, max: 1, eval: extension},
	"hasValue":       {eval: hasValue},
	"getValue":       {eval: getValue},
	"resolve":        {eval: resolve},
	"memberOf":       {min: 1, max: 1, eval: memberOf},
	"subsumes":       {min: 1, max: 1, eval: subsumes(false)},
	"subsumedBy":     {min: 1, max: 1, eval: subsumes(true)},
	"conformsTo":     {min: 1, max: 1, eval: conformsTo},
	"htmlChecks":     {eval: htmlChecks},
	"checkModifiers": {min: 1, max: 64, eval: checkModifiers},
}

// extension returns the extensions of the input that have the URL.
func extension(r *run, c *call, in, focus []Node) ([]Node, error) {
	url, ok, err := c.stringArg(r, 0, focus)
	if err != nil || !ok {
		return nil, err
	}
	var out []Node
	for _, n := range in {
		for e := range n.Child("extension") {
			if err := r.step(1); err != nil {
				return nil, err
			}
			if string(e.json.GetStringBytes("url")) == url {
				out = append(out, e)
			}
		}
	}
	return out, nil
}

func hasValue(_ *run, _ *call, in, _ []Node) ([]Node, error) {
	if len(in) != 1 || in[0].primitive() == 0 {
		return boolean(false), nil
	}
	_, isText := in[0].text()
	return boolean(isText || in[0].Value() != nil), nil
}

func getValue(r *run, _ *call, in, _ []Node) ([]Node, error) {
	if len(in) != 1 || in[0].primitive() == 0 {
		return nil, nil
	}
	return r.result(in[0].Value()), r.step(in[0].weight())
}

// resolve returns the resources that the references of the input lead to, of
// those that can be found.
func resolve(r *run, _ *call, in, _ []Node) ([]Node, error) {
	var out []Node
	for _, n := range in {
		ref, ok := n.str()
		if !ok {
			ref = text(n.json, "reference")
		}
		if ref == "" {
			continue
		}
		found, ok, err := r.resolve(ref)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, found)
		}
	}
	return out, r.step(len(in))
}

func (r *run) resolve(ref string) (Node, bool, error) {
	root := r.ctx.RootResource
	if root.IsZero() {
		if c := r.resource(); len(c) == 1 {
			root = c[0]
		}
	}
	if ref == "#" {
		return root, !root.IsZero(), nil
	}
	if id, ok := strings.CutPrefix(ref, "#"); ok {
		for c := range root.Child("contained") {
			if err := r.step(1); err != nil {
				return Node{}, false, err
			}
			if string(c.json.GetStringBytes("id")) == id {
				return c, true, nil
			}
		}
		return Node{}, false, nil
	}
	if root.typ != nil && root.typ.Path == "Bundle" {
		if n, ok, err := r.entry(root, ref); ok || err != nil {
			return n, ok, err
		}
	}
	if r.ctx.Resolve == nil {
		return Node{}, false, nil
	}
	return r.ctx.Resolve(ref)
}

// entry returns the resource in a Bundle that a reference leads to.
// https://hl7.org/fhir/R4/bundle.html#references
func (r *run) entry(bundle Node, ref string) (Node, bool, error) {
	relative, end := !strings.Contains(ref, ":"), []byte("/"+ref)
	for e := range bundle.Child("entry") {
		if err := r.step(1); err != nil {
			return Node{}, false, err
		}
		full := e.json.GetStringBytes("fullUrl")
		if string(full) != ref && !(relative && bytes.HasSuffix(full, end)) {
			continue
		}
		for n := range e.Child("resource") {
			return n, true, nil
		}
	}
	return Node{}, false, nil
}

func memberOf(r *run, c *call, in, focus []Node) ([]Node, error) {
	n, ok, err := c.single(in)
	if err != nil || !ok {
		return nil, err
	}
	set, ok, err := c.stringArg(r, 0, focus)
	if err != nil || !ok {
		return nil, err
	}
	if r.ctx.MemberOf == nil {
		return nil, c.fault("memberOf has no terminology to ask")
	}
	is, known, err := r.ctx.MemberOf(set, n)
	if err != nil || !known {
		return nil, err
	}
	return boolean(is), nil
}

func subsumes(converse bool) func(*run, *call, []Node, []Node) ([]Node, error) {
	return func(r *run, c *call, in, focus []Node) ([]Node, error) {
		above, ok, err := c.single(in)
		if err != nil || !ok {
			return nil, err
		}
		below, ok, err := c.arg(r, 0, focus)
		if err != nil || !ok {
			return nil, err
		}
		if r.ctx.Subsumes == nil {
			return nil, c.fault("%s has no terminology to ask", c.name)
		}
		if converse {
			above, below = below, above
		}
		is, known, err := r.ctx.Subsumes(above, below)
		if err != nil || !known {
			return nil, err
		}
		return boolean(is), nil
	}
}

// core begins the URL of the definitions of the types of R4.
const core = "http://hl7.org/fhir/StructureDefinition/"

func conformsTo(r *run, c *call, in, focus []Node) ([]Node, error) {
	n, ok, err := c.single(in)
	if err != nil || !ok {
		return nil, err
	}
	profile, ok, err := c.stringArg(r, 0, focus)
	if err != nil || !ok {
		return nil, err
	}
	// What is evaluated has been held against its type.
	if name, ok := strings.CutPrefix(profile, core); ok && (fhir.Type(name).Known() || r4.TypeOf(name) != nil) {
		return boolean(typeName{"FHIR", name}.is(n)), nil
	}
	if r.ctx.ConformsTo == nil {
		return nil, c.fault("conformsTo has no profiles to ask")
	}
	conforms, known, err := r.ctx.ConformsTo(profile, n)
	if err != nil {
		return nil, err
	}
	if !known {
		return nil, c.fault("conformsTo names a profile that is not known")
	}
	return boolean(conforms), nil
}

// htmlChecks reports whether the input is such XHTML as a narrative may have.
// https://hl7.org/fhir/R4/narrative.html#rules
func htmlChecks(r *run, c *call, in, _ []Node) ([]Node, error) {
	n, ok, err := c.single(in)
	if err != nil || !ok {
		return nil, err
	}
	s, ok := n.str()
	if !ok {
		return boolean(false), nil
	}
	return boolean(validate.XHTML([]byte(s)) == ""), r.step(len(s) / bytesPerStep)
}

// checkModifiers returns the input, and fails if it has a modifier extension
// that is not among the arguments.
func checkModifiers(r *run, c *call, in, focus []Node) ([]Node, error) {
	known := make(map[string]bool)
	for i := range c.args {
		url, _, err := c.stringArg(r, i, focus)
		if err != nil {
			return nil, err
		}
		known[url] = true
	}
	for _, n := range in {
		for e := range n.Child("modifierExtension") {
			if e.json.Type() != fastjson.TypeObject || !known[text(e.json, "url")] {
				return nil, c.fault("an element has a modifier extension that is not expected")
			}
		}
	}
	return in, nil
}
