// Package consent says what the privacy consent of a patient keeps from whom.
//
// https://hl7.org/fhir/R4/consent.html
package consent

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/valyala/fastjson"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
)

// A Verdict is what a consent says to somebody about a resource.
type Verdict byte

// The verdicts.
const (
	Silent Verdict = iota
	Permit
	Deny
)

// A Consent is a Consent in force, read.
type Consent struct {
	ID string // of the resource
	// Unclear says why it cannot be followed, "" if it can. It denies then.
	Unclear string
	root    provision
}

// A provision is a rule, with exceptions to it below.
type provision struct {
	permits    bool
	unclear    bool // holds a condition that cannot be told
	period     extent
	actors     []string
	actions    []string
	purposes   []string
	classes    []coding
	codes      [][]coding
	labels     []coding
	dataPeriod extent
	data       []datum
	nested     []provision
}

type coding struct{ system, code string }

type extent struct {
	given  bool
	lo, hi time.Time
}

type datum struct{ meaning, ref string }

// maxNested bounds how deep provisions are followed.
const maxNested = 8

// Read reads a Consent. It returns nil if it says nothing of privacy or is not
// in force: https://hl7.org/fhir/R4/valueset-consent-state-codes.html
func Read(s search.Schema, d *fhir.Document) *Consent {
	t := d.Tree
	if text(t, "status") != "active" || !slices.ContainsFunc(codings(t.Get("scope")), func(c coding) bool { return c.code == "patient-privacy" }) {
		return nil
	}
	if t.Exists("modifierExtension") || t.Exists("implicitRules") {
		return &Consent{ID: strings.Clone(d.ID), Unclear: "an extension modifies it"}
	}
	c := &Consent{ID: strings.Clone(d.ID)}
	p := t.Get("provision")
	given := text(p, "type")
	if given == "" {
		given = basis(t)
	}
	if given == "" {
		c.Unclear = "neither provision.type nor policyRule says whether it permits or denies"
		return c
	}
	c.root, c.Unclear = readProvision(s, p, given, 0)
	return c
}

// basis returns what the policy of a consent is where no provision says so.
// http://terminology.hl7.org/CodeSystem/v3-ActCode has the codes.
func basis(t *fastjson.Value) string {
	for _, c := range codings(t.Get("policyRule")) {
		switch c.code {
		case "OPTIN", "OPTINR":
			return "permit"
		case "OPTOUT", "OPTOUTE":
			return "deny"
		}
	}
	return ""
}

// readProvision reads a provision and those below it. It returns why they
// cannot be followed, if so.
func readProvision(s search.Schema, v *fastjson.Value, kind string, depth int) (p provision, unclear string) {
	switch {
	case kind != "permit" && kind != "deny":
		return p, "the type of a provision is neither permit nor deny"
	case depth > maxNested:
		return p, "its provisions are nested too deep"
	case v.Exists("modifierExtension"):
		return p, "an extension modifies a provision"
	}
	p.permits = kind == "permit"
	p.period, p.unclear = period(v.Get("period"), p.unclear)
	p.dataPeriod, p.unclear = period(v.Get("dataPeriod"), p.unclear)
	for _, a := range v.GetArray("actor") {
		p.actors = append(p.actors, s.Relative(text(a, "reference", "reference")))
	}
	for _, a := range v.GetArray("action") {
		for _, c := range codings(a) {
			p.actions = append(p.actions, c.code)
		}
		p.unclear = p.unclear || len(codings(a)) == 0
	}
	for _, c := range v.GetArray("purpose") {
		p.purposes = append(p.purposes, text(c, "code"))
	}
	for _, c := range v.GetArray("class") {
		p.classes = append(p.classes, asCoding(c))
	}
	for _, c := range v.GetArray("code") {
		p.codes = append(p.codes, codings(c))
	}
	for _, c := range v.GetArray("securityLabel") {
		p.labels = append(p.labels, asCoding(c))
	}
	for _, c := range v.GetArray("data") {
		p.data = append(p.data, datum{text(c, "meaning"), s.Relative(text(c, "reference", "reference"))})
	}
	for _, n := range v.GetArray("provision") {
		below, unclear := readProvision(s, n, text(n, "type"), depth+1)
		if unclear != "" {
			return p, unclear
		}
		p.nested = append(p.nested, below)
	}
	return p, ""
}

func period(v *fastjson.Value, unclear bool) (extent, bool) {
	if v == nil {
		return extent{}, unclear
	}
	lo, hi, ok := search.Period(text(v, "start"), text(v, "end"))
	return extent{true, lo, hi}, unclear || !ok
}

// text returns a copy of the string at the path.
func text(v *fastjson.Value, path ...string) string { return string(v.GetStringBytes(path...)) }

func asCoding(v *fastjson.Value) coding { return coding{text(v, "system"), text(v, "code")} }

func codings(concept *fastjson.Value) []coding {
	var list []coding
	for _, c := range concept.GetArray("coding") {
		list = append(list, asCoding(c))
	}
	return list
}

// Needed reports whether the tenant wants a consent to permit what by asks:
// what the purpose is not known of may be for any.
func Needed(by *search.Asker) bool {
	return slices.ContainsFunc(by.OptIn, func(code string) bool {
		return by.Purpose == "" || under(purposes, by.Purpose, code)
	})
}

// A Resource is what somebody wants to see.
type Resource struct {
	fhir.Resource
	Document *fhir.Document
	Schema   search.Schema
}

// Says returns what c says to by about r, of whose patient c is. What cannot be
// told is taken to be met by what denies and not to be met by what permits.
func (c *Consent) Says(by *search.Asker, r Resource) Verdict {
	v, _ := c.says(by, r)
	return v
}

// Why is Says with the element that says it, "" if c is silent or Unclear.
func (c *Consent) Why(by *search.Asker, r Resource) (v Verdict, element string) {
	v, p := c.says(by, r)
	return v, c.root.find(p, "Consent.provision")
}

func (c *Consent) says(by *search.Asker, r Resource) (Verdict, *provision) {
	if c.Unclear != "" {
		return Deny, nil
	}
	return c.root.says(by, r)
}

// says returns the verdict of p, and which provision gives it: p or one below.
func (p *provision) says(by *search.Asker, r Resource) (Verdict, *provision) {
	met := p.met(by, r)
	if met == no {
		return Silent, nil
	}
	speaks, permits := p, p.permits
	for i := range p.nested {
		v, below := p.nested[i].says(by, r)
		switch v {
		case Deny:
			return Deny, below
		case Permit:
			speaks, permits = below, true
		}
	}
	switch {
	case permits && met == yes:
		return Permit, speaks
	case permits:
		return Silent, nil
	}
	return Deny, p
}

// find returns the path of the provision, which is p or below it, "" if it is not.
func (p *provision) find(which *provision, path string) string {
	if p == which {
		return path
	}
	for i := range p.nested {
		if at := p.nested[i].find(which, fmt.Sprintf("%s.provision[%d]", path, i)); at != "" {
			return at
		}
	}
	return ""
}

// A truth is what is known of a condition.
type truth byte

const (
	no truth = iota
	maybe
	yes
)

// met returns whether all conditions of p are.
func (p *provision) met(by *search.Asker, r Resource) truth {
	all := yes
	if p.unclear {
		all = maybe
	}
	for _, f := range []func(*search.Asker, Resource) truth{
		p.inForce, p.isActor, p.isAction, p.isPurpose, p.isClass, p.isLabelled, p.isData, p.isCoded, p.isDated,
	} {
		if all = min(all, f(by, r)); all == no {
			return no
		}
	}
	return all
}

// some returns whether the condition is met by one of the list; an empty list
// sets none.
func some[T any](list []T, f func(T) truth) truth {
	if len(list) == 0 {
		return yes
	}
	best := no
	for _, x := range list {
		best = max(best, f(x))
	}
	return best
}

func is(b bool) truth {
	if b {
		return yes
	}
	return no
}

func (p *provision) inForce(by *search.Asker, _ Resource) truth {
	return is(!p.period.given || !by.At.Before(p.period.lo) && by.At.Before(p.period.hi))
}

// isActor holds the actors against who asks, and whom they work for. Who is
// meant by a group, or in another role of theirs, is not known.
func (p *provision) isActor(by *search.Asker, _ Resource) truth {
	return some(p.actors, func(a string) truth {
		ref, err := fhir.ParseRef(a)
		switch {
		case err != nil:
			return maybe
		case ref == by.User || ref.Type == "Organization" && slices.Contains(by.Organizations, ref.ID):
			return yes
		case ref.Type == "Organization":
			return unless(len(by.Organizations) > 0)
		case ref.Type == "Group" || ref.Type == "CareTeam":
			return maybe
		}
		return unless(by.User.IsZero() || by.User.Type == ref.Type || !isRole(ref.Type) && !isRole(by.User.Type))
	})
}

// isRole reports whether the type can be another name for a Practitioner.
func isRole(t fhir.Type) bool { return t == "Practitioner" || t == "PractitionerRole" }

// unless returns no where that is known, else maybe.
func unless(known bool) truth {
	if known {
		return no
	}
	return maybe
}

// isAction is for what shows a resource. That something is written down about a
// patient no consent keeps from happening.
// https://hl7.org/fhir/R4/valueset-consent-action.html
func (p *provision) isAction(*search.Asker, Resource) truth {
	return some(p.actions, func(code string) truth {
		switch code {
		case "access", "use", "disclose":
			return yes
		case "collect", "correct":
			return no
		}
		return maybe
	})
}

// isPurpose holds the purposes against that of the request. One that is
// narrower may be it.
func (p *provision) isPurpose(by *search.Asker, _ Resource) truth {
	return some(p.purposes, func(code string) truth {
		switch {
		case by.Purpose == "" || code == "":
			return maybe
		case under(purposes, by.Purpose, code):
			return yes
		case under(purposes, code, by.Purpose):
			return maybe
		}
		return no
	})
}

// isClass holds the classes against the type of the resource; others than
// types of resources are not known.
func (p *provision) isClass(_ *search.Asker, r Resource) truth {
	return some(p.classes, func(c coding) truth {
		if !strings.HasSuffix(c.system, "/resource-types") {
			return maybe
		}
		return is(c.code == string(r.Ref.Type))
	})
}

// isLabelled holds the labels against those of the resource. A confidentiality
// is a mark: what permits it permits what is below, and what denies it denies
// what is above. What bears none is normal.
func (p *provision) isLabelled(_ *search.Asker, r Resource) truth {
	if len(p.labels) == 0 {
		return yes
	}
	var has []string
	level := -1
	for _, c := range r.Document.Tree.GetArray("meta", "security") {
		code := text(c, "code")
		has = append(has, code)
		level = max(level, slices.Index(confidentiality, code))
	}
	if level < 0 {
		level = slices.Index(confidentiality, "N")
	}
	return some(p.labels, func(l coding) truth {
		mark := slices.Index(confidentiality, l.code)
		switch {
		case l.code == "":
			return maybe
		case mark >= 0 && p.permits:
			return is(level <= mark)
		case mark >= 0:
			return is(level >= mark)
		}
		return is(slices.ContainsFunc(has, func(code string) bool { return under(sensitivities, code, l.code) }))
	})
}

// isData holds the resources that are named against this one. What is related
// to one of them may be meant.
// https://hl7.org/fhir/R4/valueset-consent-data-meaning.html
func (p *provision) isData(_ *search.Asker, r Resource) truth {
	return some(p.data, func(d datum) truth {
		ref, err := fhir.ParseRef(d.ref)
		switch {
		case err != nil:
			return maybe
		case ref == r.Ref:
			return yes
		case d.meaning == "instance":
			return no
		}
		return unless(!slices.Contains(r.Schema.References(r.Document, nil), ref))
	})
}

// isCoded holds the codes against the code of the resource, as a search for it
// would. Of a type that has none it is not known.
func (p *provision) isCoded(_ *search.Asker, r Resource) truth {
	return some(p.codes, func(list []coding) truth {
		if len(list) == 0 {
			return maybe
		}
		return some(list, func(c coding) truth {
			value := escape.Replace(c.code)
			if c.system != "" {
				value = escape.Replace(c.system) + "|" + value
			}
			q, err := search.Parse(r.Ref.Type, []search.Param{{Name: "code", Value: value}}, search.Options{})
			if err != nil || c.code == "" || len(q.Applied) == 0 {
				return maybe
			}
			ok, err := search.Match(q.Where, &r.Resource, r.Schema.Index(r.Document))
			if err != nil {
				return maybe
			}
			return is(ok)
		})
	})
}

var escape = strings.NewReplacer(`\`, `\\`, `,`, `\,`, `$`, `\$`, `|`, `\|`)

// isDated holds the period of data against the main date of the resource.
func (p *provision) isDated(_ *search.Asker, r Resource) truth {
	if !p.dataPeriod.given {
		return yes
	}
	main, _ := search.MainDate(r.Ref.Type)
	for _, d := range r.Schema.Index(r.Document).Dates {
		if d.Path != main {
			continue
		}
		switch {
		case !d.Lo.Before(p.dataPeriod.lo) && !d.Hi.After(p.dataPeriod.hi):
			return yes
		case d.Hi.After(p.dataPeriod.lo) && d.Lo.Before(p.dataPeriod.hi):
			return maybe
		}
		return no
	}
	return maybe
}
