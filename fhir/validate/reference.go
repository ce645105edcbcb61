package validate

import (
	"slices"
	"strings"

	"github.com/valyala/fastjson"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/r4"
)

// reference holds a Reference against the types that e may refer to.
// https://hl7.org/fhir/R4/references.html#Reference
func (w *walker) reference(e *r4.Element, o *fastjson.Object) {
	literal := stringOf(o, "reference")
	if len(literal) > 0 && literal[0] == '#' {
		w.fragment(string(literal[1:]), e.Targets(), true)
	}
	target := targetType(string(literal))
	if target != "" && !mayRefer(e, target) {
		w.fault(fhir.Value, "%s must not refer to a %s", e.Name, target)
	}
	declared := fhir.Type(stringOf(o, "type"))
	if !declared.Known() {
		return // none, or the URL of a logical model
	}
	if target != "" && declared != target {
		w.fault(fhir.Value, "the type of the reference is not the type that it refers to")
	} else if !mayRefer(e, declared) {
		w.fault(fhir.Value, "%s must not refer to a %s", e.Name, declared)
	}
}

func mayRefer(e *r4.Element, to fhir.Type) bool {
	targets := e.Targets()
	return len(targets) == 0 || slices.Contains(targets, to)
}

// targetType returns the type that a literal reference names, "" if it does
// not tell: Patient/7, Patient/7/_history/2, Patient?identifier=x, and the same
// after the base of a server.
func targetType(literal string) fhir.Type {
	if t, _, ok := strings.Cut(literal, "?"); ok {
		t = t[strings.LastIndexByte(t, '/')+1:]
		if fhir.Type(t).Known() {
			return fhir.Type(t)
		}
		return ""
	}
	literal, _, _ = strings.Cut(literal, "/_history/")
	rest, id, ok := cutLast(literal)
	if !ok || !fhir.ValidID(id) {
		return ""
	}
	if _, t, ok := cutLast(rest); ok && strings.Contains(literal, "://") {
		rest = t
	}
	if fhir.Type(rest).Known() {
		return fhir.Type(rest)
	}
	return ""
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}

// A scope is a resource with what it contains.
// https://hl7.org/fhir/R4/references.html#contained
type scope struct {
	contained []contained
	byID      map[string]int // place in contained
	fragments []fragment
	current   int // the contained resource that is being walked, -1 if none
}

type contained struct {
	id    string
	typ   fhir.Type
	place string
}

// A fragment is a reference #id.
type fragment struct {
	id      string // "" for the containing resource
	from    int    // the contained resource that it is in, -1 if none
	place   string
	targets []fhir.Type // the types it may refer to, none for any
	must    bool        // must resolve; a plain uri need not
}

func (w *walker) fragment(id string, targets []fhir.Type, must bool) {
	w.scope.fragments = append(w.scope.fragments, fragment{id, w.scope.current, w.place(), targets, must})
}

// nested walks a resource inside another: contained, in an entry of a Bundle,
// or in Parameters.
func (w *walker) nested(e *r4.Element, o *fastjson.Object) {
	typ := fhir.Type(stringOf(o, "resourceType"))
	if !typ.Known() {
		w.fault(fhir.Structure, "resourceType must be the name of a resource type of R4")
		return
	}
	t := r4.TypeOf(string(typ))
	if e.Name != "contained" {
		if !w.envelope {
			w.resource(t, o)
		}
		return
	}
	if w.scope.current >= 0 {
		w.fault(fhir.Invariant, "dom-2: a contained resource must not contain others")
		return
	}
	id := string(stringOf(o, "id"))
	if id == "" {
		w.fault(fhir.Required, "a contained resource must have an id")
	}
	if _, twice := w.scope.byID[id]; twice {
		w.fault(fhir.Value, "two contained resources have one id")
	}
	meta := o.Get("meta")
	if meta.Exists("versionId") || meta.Exists("lastUpdated") {
		w.fault(fhir.Invariant, "dom-4: a contained resource must not have meta.versionId or meta.lastUpdated")
	}
	if meta.Exists("security") {
		w.fault(fhir.Invariant, "dom-5: a contained resource must not have a security label")
	}
	if w.scope.byID == nil {
		w.scope.byID = map[string]int{}
	}
	w.scope.current = len(w.scope.contained)
	if id != "" {
		w.scope.byID[id] = w.scope.current
	}
	w.scope.contained = append(w.scope.contained, contained{id, typ, w.place()})
	w.object(t, o, ofResource)
	w.scope.current = -1
}

// resolve holds the references #id of a resource against what it contains, and
// the other way round.
func (w *walker) resolve() {
	referred := make([]bool, len(w.scope.contained))
	for _, f := range w.scope.fragments {
		i, known := w.scope.byID[f.id]
		switch {
		case f.id == "":
			if f.from >= 0 {
				referred[f.from] = true
			}
		case !known && f.must:
			w.faultAt(f.place, fhir.Invariant, "ref-1: the resource contains none with the id referred to")
		case known:
			referred[i] = true
			if typ := w.scope.contained[i].typ; len(f.targets) > 0 && !slices.Contains(f.targets, typ) {
				w.faultAt(f.place, fhir.Value, "must not refer to a %s", typ)
			}
		}
	}
	for i, ok := range referred {
		if !ok && w.scope.contained[i].id != "" {
			w.faultAt(w.scope.contained[i].place, fhir.Invariant, "dom-3: nothing in the resource refers to this contained resource")
		}
	}
}

// coding holds a Coding against the value set of e.
func (w *walker) coding(e *r4.Element, o *fastjson.Object) {
	if set := e.ValueSet(); set != nil && o.Get("code") != nil && !set.Has(string(stringOf(o, "system")), string(stringOf(o, "code"))) {
		w.fault(fhir.CodeInvalid, "the coding is not in the value set %s", set.URL)
	}
}

// codeableConcept holds the codings of a CodeableConcept against the value set
// of e: one must be in it, if there are any.
// https://hl7.org/fhir/R4/terminologies.html#required
func (w *walker) codeableConcept(e *r4.Element, o *fastjson.Object) {
	set := e.ValueSet()
	codings := o.Get("coding").GetArray()
	if set == nil || len(codings) == 0 {
		return
	}
	for _, c := range codings {
		if set.Has(string(c.GetStringBytes("system")), string(c.GetStringBytes("code"))) {
			return
		}
	}
	w.fault(fhir.CodeInvalid, "no coding of %s is in the value set %s", e.Name, set.URL)
}

// stringOf returns the string that the member holds, nil if there is none.
func stringOf(o *fastjson.Object, name string) []byte {
	v := o.Get(name)
	if v == nil {
		return nil
	}
	return v.GetStringBytes()
}
