package profile

import (
	"strings"

	"github.com/valyala/fastjson"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/path"
	"github.com/cordon-fhir/cordon/fhir/terminology"
)

// bound holds v against a binding. Codes whose value set cannot be told are
// let pass with a warning.
// https://hl7.org/fhir/R4/terminologies.html#strength
func (r *run) bound(b *binding, v path.Node) {
	r.boundTo(b.valueSet, b.strength, v)
	if b.maxValueSet != "" {
		r.boundTo(b.maxValueSet, "required", v)
	}
}

func (r *run) boundTo(valueSet, strength string, v path.Node) {
	if strength != "required" && (r.options.Errors || r.trial) || strength == "preferred" || strength == "example" {
		return
	}
	in, known := r.inValueSet(valueSet, v)
	url, _, _ := strings.Cut(valueSet, "|")
	switch {
	case in:
	case !known:
		r.inform("whether the code is in the value set %s is not known here", url)
	case strength == "required":
		r.fault(fhir.CodeInvalid, "the code is not in the value set %s", url)
	default:
		r.warn(fhir.CodeInvalid, "no code is in the value set %s, which is to be used where it has one that fits", url)
	}
}

// inValueSet reports whether v has a code that is in the value set. What has
// no code at all is in every value set of a required binding only if it has
// text or is absent for a reason: that is for cardinality to say.
func (r *run) inValueSet(valueSet string, v path.Node) (in, known bool) {
	ask := func(system, code *fastjson.Value) {
		answer, err := r.v.inValueSet(r.ctx, valueSet, string(system.GetStringBytes()), string(code.GetStringBytes()))
		in = in || err == nil && answer == terminology.In
		known = known && err == nil && answer != terminology.Unknown
	}
	known = true
	switch v.Type() {
	case "CodeableConcept":
		codings := v.JSON().GetArray("coding")
		for _, c := range codings {
			if r.step() {
				ask(c.Get("system"), c.Get("code"))
			}
		}
		return in || len(codings) == 0, known || in
	case "Coding", "Quantity", "Age", "Count", "Distance", "Duration", "Money":
		if !v.JSON().Exists("code") {
			return true, true
		}
		ask(v.JSON().Get("system"), v.JSON().Get("code"))
	case "code", "string", "uri":
		if v.JSON() == nil {
			return true, true
		}
		ask(nil, v.JSON())
	default:
		return true, true
	}
	return in, known
}

// coding holds a Coding against its code system, as far as that is defined
// here. On write, at the level of the base definitions, only bindings decide.
// https://hl7.org/fhir/R4/datatypes.html#Coding
func (r *run) coding(v path.Node) {
	if !r.options.Claimed || !r.steps(4) {
		return
	}
	c := terminology.Coding{System: stringIn(v.JSON(), "system"), Version: stringIn(v.JSON(), "version"), Code: stringIn(v.JSON(), "code")}
	if !r.options.Errors {
		c.Display = stringIn(v.JSON(), "display")
	}
	switch r.v.terms.Judge(c) {
	case terminology.NoSuchCode:
		r.fault(fhir.CodeInvalid, "the code system has no such code")
	case terminology.OtherDisplay:
		r.warn(fhir.Value, "the display is none of those that the code system has for the code")
	}
}

// memberOf is memberOf() of FHIRPath.
func (r *run) memberOf(valueSet string, n path.Node) (in, known bool, err error) {
	in, known = r.inValueSet(valueSet, n)
	return in, known, nil
}
