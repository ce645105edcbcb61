package terminology

import (
	"slices"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
)

// A CodeRequest is a question whether a code is right. Of several codings, one
// that is will do.
// https://hl7.org/fhir/R4/valueset-operation-validate-code.html
// https://hl7.org/fhir/R4/codesystem-operation-validate-code.html
type CodeRequest struct {
	Source
	Codings []Coding
	// InferSystem takes a code without a system for one of any system.
	InferSystem bool
	// NoAbstract refuses concepts that only group others.
	NoAbstract      bool
	DisplayLanguage string
}

// A Validation is the answer to a CodeRequest. The message says why Result is
// false, in words that hold no code.
type Validation struct {
	Result  bool
	Message string
	Display string // how the code system says the code
}

// ValidateInValueSet says whether a code is in the value set. If that cannot
// be told the result is false, and the message says so. A *fhir.Error with
// code NotFound says that the value set is not known.
func (s *Service) ValidateInValueSet(req CodeRequest) (Validation, error) {
	v, err := s.find(req.Source)
	if err != nil {
		return Validation{}, err
	}
	t := &turn{ctx: s.until}
	t.take()
	defer t.give()
	found := req.first(func(c Coding) Validation {
		if err = t.goOn(); err != nil {
			return Validation{}
		}
		return s.validateIn(t, v, c, req)
	})
	return found, err
}

// first returns the validation of the first coding that is right, else that of
// the first coding.
func (req CodeRequest) first(validate func(Coding) Validation) Validation {
	found := Validation{Message: "no code was given"}
	for i, c := range req.Codings {
		if c.Code == "" {
			continue
		}
		v := validate(c)
		if v.Result {
			return v
		}
		if i == 0 {
			found = v
		}
	}
	return found
}

func (s *Service) validateIn(t *turn, v *valueSet, c Coding, req CodeRequest) Validation {
	if c.System == "" && !req.InferSystem {
		return Validation{Message: "the code has no system"}
	}
	a := s.asker()
	a.turn = t
	in, answer := a.where(v, c.System, c.Code)
	switch {
	case a.failed && answer != In:
		return Validation{Message: errNoAnswer().Issues[0].Diagnostics}
	case answer == Out:
		return Validation{Message: "the code is not in the value set"}
	case answer == Unknown:
		return Validation{Message: "it cannot be told here whether the code is in the value set: the code system, or a value set that it is made of, is not known or not complete"}
	}
	e := entry{in: in, concept: none, code: c.Code}
	if in.codes != nil {
		e.listed = &in.Concept[in.codes[in.fold(c.Code)]]
	}
	if in.system != nil {
		if concept, ok := in.system.find(c.Code); ok {
			e.concept = concept
		}
	}
	if c.Version != "" && in.system != nil && c.Version != in.system.Version {
		if other, err := s.system(in.System, c.Version); err != nil || other == nil {
			return Validation{Message: "the version of the code system is not known here"}
		}
	}
	return e.validate(c, req)
}

// validate holds what is said of the concept against what is known of it.
func (e entry) validate(c Coding, req CodeRequest) Validation {
	out := Validation{Display: e.display()}
	all := e.designations()
	if e.concept != none {
		all = append(all, Designation{Value: e.in.system.display(e.concept)})
	}
	if d, ok := inLanguage(all, req.DisplayLanguage); ok {
		out.Display = d.Value
	}
	same := func(d Designation) bool { return sameDisplay(d.Value, c.Display) }
	switch {
	case req.NoAbstract && e.isAbstract():
		out.Message = "the concept is abstract: it groups others and is not to be used itself"
	case c.Display != "" && out.Display != "" && !sameDisplay(out.Display, c.Display) && !slices.ContainsFunc(all, same):
		out.Message = "the display is not one of the code"
	default:
		out.Result = true
	}
	return out
}

// sameDisplay compares displays without case and repeated space.
func sameDisplay(a, b string) bool {
	return strings.EqualFold(strings.Join(strings.Fields(a), " "), strings.Join(strings.Fields(b), " "))
}

// where says whether the code is in v, and which include it is in by. An
// include of value sets leads on to the one of theirs.
func (a *asker) where(v *valueSet, system, code string) (*include, Answer) {
	answer := a.has(v, system, code)
	if answer != In {
		return nil, answer
	}
	for _, in := range v.includes {
		if a.included(in, system, code) != In {
			continue
		}
		if in.System == "" && in.imports[0].set != nil {
			return a.where(in.imports[0].set, system, code)
		}
		return in, In
	}
	return nil, Unknown // has found it, so it is not reached
}

// ValidateInCodeSystem says whether a code is one of the code system, which is
// that of each coding if req names none. A *fhir.Error with code NotFound says
// that the code system is not known.
func (s *Service) ValidateInCodeSystem(req CodeRequest) (Validation, error) {
	if req.URL == "" && req.Resource == nil && len(req.Codings) > 0 {
		req.URL = req.Codings[0].System
	}
	in := &include{includeJSON: &includeJSON{System: req.URL, Version: req.Version}}
	if req.Resource != nil {
		c, err := newCodeSystem(req.Resource)
		if err != nil {
			return Validation{}, err
		}
		in.system, in.System = c, c.URL
	} else {
		in.System, in.Version = splitCanonical(req.canonical())
		if fault := s.resolve(in); fault != nil && s.elsewhere == nil {
			return Validation{}, errNoSystem()
		}
	}
	a := s.asker()
	return req.first(func(c Coding) Validation {
		if c.System != "" && c.System != in.System {
			return Validation{Message: "the code is of another code system"}
		}
		return a.validate(in, c, req)
	}), nil
}

func errNoSystem() *fhir.Error {
	return fhir.Errorf(fhir.NotFound, "the code system is not known")
}

func (a *asker) validate(in *include, c Coding, req CodeRequest) Validation {
	switch answer := a.hasConcept(in, c.Code); {
	case a.failed && answer != In:
		return Validation{Message: errNoAnswer().Issues[0].Diagnostics}
	case answer == Out:
		return Validation{Message: "the code system has no such code"}
	case answer == Unknown:
		return Validation{Message: "it cannot be told here whether the code exists: not all of the code system is known"}
	}
	if in.system != nil && c.Version != "" && c.Version != in.system.Version {
		return Validation{Message: "the version of the code system is not known here"}
	}
	e := entry{in: in, concept: none, code: c.Code}
	if in.system != nil {
		if concept, ok := in.system.find(c.Code); ok {
			e.concept = concept
		}
	}
	return e.validate(c, req)
}

// splitCanonical returns the URL and the version of "url|version".
func splitCanonical(c string) (url, version string) {
	url, version, _ = strings.Cut(c, "|")
	return url, version
}
