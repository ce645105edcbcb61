package profile

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/valyala/fastjson"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/path"
)

// Bounds on one validation.
const (
	maxIssues = 200
	// maxSteps is for all that is looked at, tried, evaluated and compiled. A
	// resource of usual size takes some hundred, a StructureDefinition of 3,000
	// elements, each with all that a snapshot has, two million.
	maxSteps  = 3_000_000
	maxNested = 64 // profiles in profiles

	bytesPerStep = 64 // of text

	maxWords = 2000 // bytes of what is said of one issue
	maxLabel = 200  // of the name of an element in it
)

// A run is one validation of one document.
type run struct {
	v       *Validator
	ctx     context.Context
	options Options

	place string      // of the document
	at    []path.Node // the way from there
	nodes []path.Node // children of what is walked, at each level
	scope *scope

	issues  []fhir.Issue
	full    bool // nothing more is looked for
	work    *path.Work
	nested  int
	checked map[checkedKey]bool

	// trial says that it is tried whether something conforms; failed is the
	// answer so far.
	trial, failed bool
	trying        map[checkedKey]bool
	wants         map[wantedKey][]want
}

// A checkedKey is a value that was held against a profile.
type checkedKey struct {
	value   *fastjson.Value
	profile *profile
}

// step counts a step of work. It returns false if validation is to stop.
func (r *run) step() bool { return r.steps(1) }

// steps counts n steps.
func (r *run) steps(n int) bool {
	if r.full || r.trial && r.failed {
		return false
	}
	if r.work.Do(n) {
		return true
	}
	r.trial = false
	r.fault(fhir.TooCostly, "validation would take too much work and was stopped")
	r.full = true
	return false
}

// fault adds an error at the current place.
func (r *run) fault(code fhir.IssueCode, format string, args ...any) {
	if r.trial {
		r.failed = true
		return
	}
	r.add("error", code, format, args...)
}

// warn adds a warning at the current place.
func (r *run) warn(code fhir.IssueCode, format string, args ...any) {
	if !r.trial && !r.options.Errors {
		r.add("warning", code, format, args...)
	}
}

// inform adds information at the current place.
func (r *run) inform(format string, args ...any) {
	if !r.trial && !r.options.Errors {
		r.add("information", fhir.Informational, format, args...)
	}
}

func (r *run) add(severity string, code fhir.IssueCode, format string, args ...any) {
	if r.full {
		return
	}
	words := clipped(fmt.Sprintf(format, args...), maxWords)
	place := r.where()
	for _, i := range r.issues {
		if i.Severity == severity && i.Diagnostics == words && i.Expression[0] == place {
			return
		}
	}
	r.issues = append(r.issues, fhir.Issue{Severity: severity, Code: code, Diagnostics: words, Expression: []string{place}})
	if len(r.issues) == maxIssues {
		r.full = true
		r.issues = append(r.issues, fhir.Issue{Severity: "information", Code: fhir.Informational,
			Diagnostics: "validation stopped after " + strconv.Itoa(maxIssues) + " issues", Expression: []string{r.place}})
	}
}

// clipped returns s, of which so many bytes at most: definitions name things as
// long as they like.
func clipped(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}

// some returns the first of the names in words.
func some(names []string, between string) string {
	const most = 10
	if len(names) <= most {
		return strings.Join(names, between)
	}
	return strings.Join(names[:most], between) + between + "others"
}

// where returns the FHIRPath of the element that r is at. A choice is named
// without its type there.
// https://hl7.org/fhir/R4/fhirpath.html#polymorphism
func (r *run) where() string {
	var b strings.Builder
	b.WriteString(r.place)
	for _, n := range r.at {
		e := n.Element()
		name := e.Choice()
		if name == "" {
			name = e.Name
		}
		b.WriteString("." + name)
		if n.Index() >= 0 {
			b.WriteString("[" + strconv.Itoa(n.Index()) + "]")
		}
	}
	return b.String()
}

// in calls fn at a child of where r is.
func (r *run) in(n path.Node, fn func()) {
	r.at = append(r.at, n)
	fn()
	r.at = r.at[:len(r.at)-1]
}

// enter calls fn in the scope of another resource.
func (r *run) enter(s *scope, fn func()) {
	outer := r.scope
	r.scope = s
	if s.bundle != nil && s.context.Resolve == nil {
		s.context.Resolve = s.resolver()
	}
	s.context.Work = r.work
	s.context.MemberOf = r.memberOf
	s.context.ConformsTo = r.conformsTo
	fn()
	r.scope = outer
}

// try reports whether fn finds no fault.
func (r *run) try(fn func()) bool {
	trial, failed := r.trial, r.failed
	r.trial, r.failed = true, false
	fn()
	ok := !r.failed
	r.trial, r.failed = trial, failed
	return ok
}

// evaluate holds n against invariants.
func (r *run) evaluate(n path.Node, rules []invariant) {
	for i := range rules {
		rule := &rules[i]
		if rule.warning && (r.options.Errors || r.trial) || !r.step() {
			continue
		}
		if rule.rule == nil {
			r.warn(fhir.NotSupported, "%s is not FHIRPath that can be evaluated here, and was not checked", rule.key)
			continue
		}
		holds, err := rule.rule.Holds(&r.scope.context, n)
		switch {
		case fhir.IsCode(err, fhir.TooCostly):
			r.fault(fhir.TooCostly, "%s would take too much work to check", rule.key)
		case err != nil:
			r.warn(fhir.NotSupported, "%s cannot be evaluated on this value, and was not checked", rule.key)
		case holds:
		case rule.warning:
			r.warn(fhir.Invariant, "%s: should hold: %s", rule.key, rule.rule)
		default:
			r.fault(fhir.Invariant, "%s: must hold: %s", rule.key, rule.rule)
		}
	}
}

// conformsTo is conformsTo() of FHIRPath.
func (r *run) conformsTo(canonical string, n path.Node) (conforms, known bool, err error) {
	p, err := r.profile(canonical)
	if errors.Is(err, errUnknown) {
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	return r.meets(p, n), true, nil
}

// meets reports whether n meets the profile.
func (r *run) meets(p *profile, n path.Node) bool {
	if n.ComplexType() == nil || n.ComplexType().Path != p.typ && p.typ != "Resource" && p.typ != "DomainResource" && p.typ != "Element" {
		return false
	}
	return r.try(func() { r.against(p, n) })
}
