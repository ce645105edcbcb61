// Package profile says what is wrong with a resource by the definitions that a
// tenant sees: profiles, extensions, invariants and value sets.
//
// https://hl7.org/fhir/R4/profiling.html
// https://hl7.org/fhir/R4/validation.html
package profile

import (
	"context"
	"errors"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/canonical"
	"github.com/cordon-fhir/cordon/fhir/path"
	"github.com/cordon-fhir/cordon/fhir/terminology"
)

// A Validator validates by the definitions of one Set. It is safe for
// concurrent use.
type Validator struct {
	set        *canonical.Set
	inValueSet InValueSet
	terms      *terminology.Service
}

// InValueSet says whether a code is in a value set, as terminology.Service
// does, and works it out only until ctx ends.
type InValueSet func(ctx context.Context, valueSet, system, code string) (terminology.Answer, error)

// New returns a Validator by the definitions of the set. It costs nothing to
// make: what it compiles stays with the set. inValueSet says whether a code is
// in a value set; by default the definitions of the set do.
func New(set *canonical.Set, inValueSet InValueSet) *Validator {
	terms := terminology.New(set)
	if inValueSet == nil {
		inValueSet = func(ctx context.Context, valueSet, system, code string) (terminology.Answer, error) {
			return terms.Within(ctx).InValueSet(valueSet, system, code)
		}
	}
	return &Validator{set, inValueSet, terms}
}

// Options are what a resource is held against, beyond what fhir/validate holds.
// The zero Options are the base definitions: invariants, bindings and
// extensions of R4.
type Options struct {
	// Claimed are the profiles that the resource, and those in it, name in
	// meta.profile.
	Claimed bool
	// Profiles are canonical URLs of profiles that the resource must meet.
	Profiles []string
	// Any are canonical URLs of profiles of which the resource must meet one,
	// if some of them are about its type.
	Any []string
	// Errors leaves out warnings and information, and what only they need.
	Errors bool
	// MustSupport adds information on elements that a profile says must be
	// supported, and that have no value.
	MustSupport bool
	// Base leaves alone what only definitions beyond R4 say: an extension that
	// R4 does not define needs a definition where it modifies, but is not held
	// against it. So a package that is installed refuses nothing by itself. Nor
	// are contexts of extensions held, which published guides overstep.
	Base bool
	// Place is where the client knows the resource by, "Bundle.entry[2].resource".
	// Default: its type.
	Place string
}

// Validate returns what is wrong with d, with the place of each fault, and no
// value of d. The structure of d is for fhir/validate; where it is broken
// there may be faults more or fewer. It fails when ctx ends.
func (v *Validator) Validate(ctx context.Context, d *fhir.Document, o Options) ([]fhir.Issue, error) {
	r := &run{v: v, ctx: ctx, options: o, place: o.Place, work: path.NewWork(ctx, maxSteps)}
	if r.place == "" {
		r.place = string(d.Type)
	}
	root := path.Root(d)
	r.enter(scopeOf(root, nil, ""), func() {
		r.resource(root)
		for _, canonical := range o.Profiles {
			r.named(canonical, root, true)
		}
		r.any(o.Any, root)
	})
	r.steps(0) // if the last of the work was too much, nobody has said so yet
	return r.issues, ctx.Err()
}

// Error returns the issues as an error if one of them is an error, else nil.
func Error(issues []fhir.Issue) error {
	for _, i := range issues {
		if i.Severity == "error" {
			return &fhir.Error{Issues: issues}
		}
	}
	return nil
}

// A profileKey is the canonical of a profile that was compiled for a Set, and
// the element of it that is meant, if it is one.
type profileKey struct{ canonical, part string }

// errUnknown says that there is no such StructureDefinition.
var errUnknown = errors.New("profile: not known")

// structure reads the StructureDefinition with the canonical.
func (v *Validator) structure(canonical string) (*structure, int, error) {
	d, ok := v.set.Find("StructureDefinition", canonical)
	if !ok {
		return nil, 0, errUnknown
	}
	json := d.JSON()
	s, err := readStructure(json)
	return s, len(json), err
}

// profile returns the profile with the canonical, compiled: "url#id" is what a
// profile says of one element. It fails with
// errUnknown, or with a *fhir.Error that says why it cannot be used. Who is the
// first to need it has the work of it.
func (r *run) profile(canonical string) (*profile, error) {
	if !r.steps(4) {
		return nil, errUnknown
	}
	url, part, _ := strings.Cut(canonical, "#")
	d, ok := r.v.set.Find("StructureDefinition", url)
	if !ok {
		return nil, errUnknown
	}
	c := compiler{find: r.v.structure}
	made, err := r.v.set.Memo(profileKey{d.Canonical(), part}, func() (any, error) { return c.profile(url, part) })
	r.steps(c.spent / 4) // they are smaller
	if err != nil {
		return nil, err
	}
	return made.(*profile), nil
}
