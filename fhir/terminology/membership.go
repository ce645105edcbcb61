package terminology

import (
	"context"

	"github.com/cordon-fhir/cordon/fhir"
)

// An asker asks whether codes are in value sets: by their definitions, and
// where these cannot tell, elsewhere.
type asker struct {
	ctx       context.Context
	elsewhere Elsewhere // nil if there is none
	closed    bool      // what elsewhere fails to answer is Out
	failed    bool      // elsewhere failed to answer
	turn      *turn     // of who asks for many
}

// has says whether the code is in v. An empty system stands for any.
// https://hl7.org/fhir/R4/valueset.html#compositions
func (a *asker) has(v *valueSet, system, code string) Answer {
	in := a.some(v.includes, system, code)
	if in == Out {
		return Out
	}
	switch a.some(v.excludes, system, code) {
	case In:
		return Out
	case Unknown:
		return Unknown
	}
	if in == In && v.dropsInactive() && v.isInactive(system, code) {
		return Out
	}
	return in
}

// some says whether the code is in at least one of the includes.
func (a *asker) some(list []*include, system, code string) Answer {
	answer := Out
	for _, in := range list {
		switch a.included(in, system, code) {
		case In:
			return In
		case Unknown:
			answer = Unknown
		}
	}
	return answer
}

// included says whether the code is in all that in names: its concepts, and
// each of its value sets.
func (a *asker) included(in *include, system, code string) Answer {
	a.turn.add(1)
	answer := In
	if in.System != "" {
		if system != "" && system != in.System {
			return Out
		}
		a.turn.add(stepsPerAsk)
		if answer = a.hasConcept(in, code); answer == Out {
			return Out
		}
	}
	for _, sub := range in.imports {
		switch a.imported(sub, system, code) {
		case Out:
			return Out
		case Unknown:
			answer = Unknown
		}
	}
	return answer
}

func (a *asker) imported(sub imported, system, code string) Answer {
	if sub.set != nil {
		return a.has(sub.set, system, code)
	}
	return a.ask(Part{ValueSet: sub.url}, Coding{System: system, Code: code})
}

// hasConcept says whether the code is one of those that in names of its system.
func (a *asker) hasConcept(in *include, code string) Answer {
	answer := in.hasConcept(code)
	if answer == Unknown && (in.system == nil || !in.system.complete()) {
		return a.ask(in.part(), Coding{System: in.System, Code: code})
	}
	return answer
}

// ask asks elsewhere.
func (a *asker) ask(p Part, c Coding) Answer {
	if a.elsewhere == nil || c.System == "" {
		return Unknown
	}
	defer a.turn.pause()()
	answer, err := a.elsewhere.Has(a.ctx, p, c)
	if err == nil {
		return answer
	}
	a.failed = true
	if a.closed {
		return Out
	}
	return Unknown
}

// hasConcept says whether the code is one of those that in names of its
// system, by the definitions alone.
func (in *include) hasConcept(code string) Answer {
	switch {
	case in.codes != nil:
		_, ok := in.codes[in.fold(code)]
		return answer(ok)
	case in.system == nil && (in.grammar == nil || in.fault != nil):
		return Unknown
	case in.system == nil:
		return in.grammar.has(code)
	}
	c, ok := in.system.find(code)
	switch {
	case !ok && in.system.complete():
		return Out
	case !ok, len(in.Filter) > 0 && in.only == nil:
		return Unknown
	case in.only != nil && !in.only.has(c):
		return Out
	}
	return In
}

// dropsInactive reports whether v is without concepts that are not active.
// https://hl7.org/fhir/R4/valueset-definitions.html#ValueSet.compose.inactive
func (v *valueSet) dropsInactive() bool { return v.Compose.Inactive != nil && !*v.Compose.Inactive }

// isInactive reports whether the code is known not to be active, in a system
// that v includes.
func (v *valueSet) isInactive(system, code string) bool {
	for _, in := range v.includes {
		for _, sub := range in.imports {
			if sub.set != nil && sub.set.isInactive(system, code) {
				return true
			}
		}
		if in.system == nil || system != "" && system != in.System {
			continue
		}
		if c, ok := in.system.find(code); ok && in.system.inactive.has(c) {
			return true
		}
	}
	return false
}

// Elsewhere is asked what the definitions cannot tell.
type Elsewhere interface {
	// Has says whether the code is in the part: Unknown if that is not known
	// there either. An error says that there was no answer.
	Has(context.Context, Part, Coding) (Answer, error)
	// List returns the concepts of the part. A *fhir.Error says why there are
	// none to be had: BusinessRule if it is not known there either.
	List(context.Context, Part) ([]Contains, error)
}

// A Part is a value set with a URL, or the concepts of a code system that pass
// the filters. It is all that elsewhere learns of a question, beside the code.
type Part struct {
	ValueSet        string
	System, Version string
	Filters         []Filter
}

func (in *include) part() Part {
	return Part{System: in.System, Version: in.Version, Filters: in.Filter}
}

// Asking returns a Service that asks elsewhere what the definitions cannot
// tell, until ctx ends. What fails to be answered counts as not in a value set
// if closed, else it stays unknown.
func (s *Service) Asking(ctx context.Context, elsewhere Elsewhere, closed bool) *Service {
	asking := *s
	asking.ctx, asking.elsewhere, asking.closed = ctx, elsewhere, closed
	return &asking
}

func (s *Service) asker() *asker {
	return &asker{ctx: s.ctx, elsewhere: s.elsewhere, closed: s.closed}
}

// errNoAnswer says that elsewhere failed.
func errNoAnswer() *fhir.Error {
	return fhir.Errorf(fhir.Transient, "the terminology server that is asked for this does not answer")
}
