package rest

import (
	"context"
	"slices"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/terminology"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
)

// terminologyOperations answer about codes.
// https://hl7.org/fhir/R4/terminology-service.html
var terminologyOperations = slices.Concat(expandOperations, validateCodeOperations, lookupOperations, subsumesOperations, translateOperations)

// A terminologyAnswer answers from the definitions of the tenant.
type terminologyAnswer func(context.Context, *terminology.Service, *asked) (*response, error)

// asked is a request of a terminology operation.
type asked struct {
	*request
	// resource is the one that the operation is called on, "" at the level of
	// the type.
	resource []byte
}

// ofTerminology lets an answer have its definitions: those of the tenant, of
// its packages and of R4. As parts of them can be in what it says, the client
// must be one that may read them all.
func ofTerminology(answer terminologyAnswer) func(context.Context, *server, *request) (*response, error) {
	return func(ctx context.Context, s *server, req *request) (resp *response, err error) {
		set, err := s.DB.Definitions(ctx, req.grant)
		if err != nil {
			return nil, err
		}
		terms, errands := s.terminology(ctx, req.grant, set, req.away)
		err = s.DB.View(ctx, req.grant, errands.viewing(func(v *store.View) error {
			v.Operation(req.asEntry())
			if err := mayReadTerminology(req.grant); err != nil {
				return err
			}
			a := &asked{request: req}
			if req.ref.ID != "" {
				r, err := v.Read(ctx, req.ref)
				if err != nil {
					return err
				}
				a.resource = r.Body
			}
			resp, err = answer(ctx, terms, a)
			return err
		}))
		return resp, err
	}
}

// mayReadTerminology refuses clients that may not read every resource that an
// answer can be made of.
func mayReadTerminology(g *smart.Grant) error {
	for _, t := range []fhir.Type{"CodeSystem", "ConceptMap", "ValueSet"} {
		p, err := g.Permit(fhir.Read, t)
		if err != nil {
			return err
		}
		if !everything(p.Where()) {
			return fhir.Errorf(fhir.Forbidden, "no scope of the token allows to read every %s", t)
		}
	}
	return nil
}

// source says which definition is meant: the one that the operation is called
// on, the one that was given, or the one with the URL.
func (a *asked) source(url, given, version string) (terminology.Source, error) {
	src := terminology.Source{URL: a.in.text(url), Version: a.in.text(version), Resource: a.in.json(given)}
	switch {
	case a.resource != nil && (src.URL != "" || src.Resource != nil):
		return src, fhir.Errorf(fhir.Invalid, "the operation is called on one resource, and another is given")
	case a.resource != nil:
		src.Resource = a.resource
	case src.Resource != nil && src.URL != "" && src.URL != text(member(src.Resource, "url")):
		return src, fhir.Errorf(fhir.Invalid, "parameters %s and %s name two definitions", url, given)
	}
	if src.Resource != nil && src.Version != "" && src.Version != text(member(src.Resource, "version")) {
		return src, fhir.Errorf(fhir.Invalid, "parameter %s is not the version of the definition", version)
	}
	return src, nil
}

// codings returns the code that is asked about, however it is given.
func (a *asked) codings(code, system, version string) ([]terminology.Coding, error) {
	var ways int
	var all []terminology.Coding
	if a.in.has(code) {
		ways++
		all = append(all, terminology.Coding{System: a.in.text(system), Version: a.in.text(version), Code: a.in.text(code), Display: a.in.text("display")})
	}
	if c := a.in.json("coding"); c != nil {
		ways++
		all = append(all, codingOf(c))
	}
	if c := a.in.json("codeableConcept"); c != nil {
		ways++
		for _, one := range list(member(c, "coding")) {
			all = append(all, codingOf(one))
		}
	}
	if ways != 1 {
		return nil, fhir.Errorf(fhir.Invalid, "exactly one of %s, coding and codeableConcept is to be given", code)
	}
	return all, a.goWith(code, system, version, "display")
}

// goWith refuses the parameters that say more of a code when the code is given
// in another way: they would have no effect.
func (a *asked) goWith(code string, names ...string) error {
	for _, name := range names {
		if name != "" && a.in.has(name) && !a.in.has(code) {
			return fhir.Errorf(fhir.Invalid, "parameter %s is for a code that is given as %s", name, code)
		}
	}
	return nil
}

func codingOf(b []byte) terminology.Coding {
	return terminology.Coding{
		System: text(member(b, "system")), Version: text(member(b, "version")),
		Code: text(member(b, "code")), Display: text(member(b, "display")),
	}
}

// coding adds a parameter that is a Coding.
func (r *results) coding(name string, c terminology.Coding) {
	r.value(name, "Coding", asCoding(c))
}

func asCoding(c terminology.Coding) []byte {
	b := []byte{'{'}
	for _, m := range [][2]string{{"system", c.System}, {"version", c.Version}, {"code", c.Code}, {"display", c.Display}} {
		if m[1] == "" {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = quote(append(append(append(b, '"'), m[0]...), '"', ':'), m[1])
	}
	return append(b, '}')
}
