package profile

import (
	"slices"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/canonical"
	"github.com/cordon-fhir/cordon/fhir/path"
)

// extension holds x, an extension of n, against the definition that its URL
// names. Those without a definition may be used, unless they modify.
// https://hl7.org/fhir/R4/extensibility.html
func (r *run) extension(n, x path.Node) {
	url := stringIn(x.JSON(), "url")
	if !strings.Contains(url, ":") {
		// A part of another, whose definition says what it is.
		if n.Type() != "Extension" {
			r.fault(fhir.Value, "the url of an extension must be absolute")
		}
		return
	}
	modifies := x.Element().Name == "modifierExtension"
	d, ok := r.v.set.Find("StructureDefinition", url)
	if !ok {
		if modifies {
			r.fault(fhir.Value, "the definition of a modifierExtension is not known here, so what it modifies cannot be understood")
			return
		}
		r.inform("the definition of the extension is not known here")
		return
	}
	if r.options.Base {
		if _, ofR4 := canonical.Core().Find(d.Type, url); !ofR4 {
			return
		}
	}
	p := r.find(d.Canonical())
	if p == nil {
		return
	}
	if p.typ != "Extension" {
		r.fault(fhir.Value, "the url of the extension is that of a definition of something else")
		return
	}
	if p.modifier != modifies {
		r.fault(fhir.Structure, "the extension %s must %sbe in modifierExtension", p.url, map[bool]string{true: "", false: "not "}[p.modifier])
	}
	if !r.options.Base && !r.mayBeIn(p, n) {
		r.fault(fhir.Structure, "the extension %s must not be used here", p.url)
	}
	r.evaluate(n, p.invariants)
	r.against(p, x)
}

// mayBeIn reports whether the contexts of the extension allow it in n.
// https://hl7.org/fhir/R4/defining-extensions.html#context
func (r *run) mayBeIn(p *profile, n path.Node) bool {
	if len(p.contexts) == 0 || alsoIn[p.url] == n.Type() {
		return true
	}
	return slices.ContainsFunc(p.contexts, func(c extensionContext) bool {
		if !r.step() {
			return true
		}
		switch c.kind {
		case "element":
			return r.isElement(c.expression, n)
		case "extension":
			if e := n.Element(); e != nil && e.Choice() == "value" && stringIn(n.Parent(), "url") == c.expression {
				return true // of the value of that extension
			}
			return n.Type() == "Extension" && stringIn(n.JSON(), "url") == c.expression
		case "fhirpath":
			return c.selecting == nil || r.selects(c.selecting, n)
		}
		return true
	})
}

// selects reports whether n is among what x finds in the resource.
func (r *run) selects(x *path.Expr, n path.Node) bool {
	found, err := x.Eval(&r.scope.context, r.scope.resource)
	return err != nil || slices.ContainsFunc(found, func(f path.Node) bool {
		return f.JSON() == n.JSON() && f.Sibling() == n.Sibling()
	})
}

// isElement reports whether an expression of a context, "Patient.contact",
// "HumanName" or "Element", means n.
func (r *run) isElement(expression string, n path.Node) bool {
	expression = strings.TrimPrefix(expression, base)
	if of := n.Type(); expression == of || expression == "Element" || expression == "Resource" && isResource(n) {
		return true
	}
	if expression == "DomainResource" || expression == "CanonicalResource" || expression == "MetadataResource" {
		return isResource(n) && n.ComplexType().Element("text") != nil
	}
	if expression == "BackboneElement" {
		return n.ComplexType() != nil && n.ComplexType().Element("modifierExtension") != nil && !isResource(n)
	}
	return slices.Contains(r.pathsTo(n), strings.TrimSuffix(expression, "[x]"))
}

func isResource(n path.Node) bool { return n.ComplexType() != nil && fhir.Type(n.Type()).Known() }

// pathsTo returns the ways to name the element n: from its resource, and from
// the datatypes that it is in.
func (r *run) pathsTo(n path.Node) []string {
	// r is at the extension in n.
	at := r.at[:max(len(r.at)-1, 0)]
	var out []string
	suffix := ""
	for i := len(at) - 1; i >= -1; i-- {
		of := r.scope.resource.Type()
		if i >= 0 {
			of = at[i].Type()
		}
		if suffix != "" {
			out = append(out, of+suffix)
			if fhir.Type(of).Known() {
				out = append(out, "DomainResource"+suffix, "Resource"+suffix)
			}
		}
		if i < 0 || fhir.Type(of).Known() {
			break
		}
		e := at[i].Element()
		name := e.Choice()
		if name == "" {
			name = e.Name
		}
		suffix = "." + name + suffix
	}
	if t := n.ComplexType(); t != nil {
		out = append(out, t.Path)
	}
	return out
}

// alsoIn are types of elements in which the definitions of R4 themselves use
// extensions, although the definitions of those extensions do not say so.
var alsoIn = map[string]string{
	base + "structuredefinition-fhir-type":         "ElementDefinition.type",
	base + "regex":                                 "ElementDefinition.type",
	base + "structuredefinition-normative-version": "ElementDefinition",
}
