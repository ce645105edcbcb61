package terminology

import (
	"iter"

	"github.com/cordon-fhir/cordon/fhir"
)

// An entry is a concept that a value set lists.
type entry struct {
	in      *include
	concept uint32 // of in.system; none if it is not known there
	listed  *listed
	code    string // of a grammar
}

// entryCode returns the code of e.
func (e entry) entryCode() string {
	switch {
	case e.listed != nil:
		return e.listed.Code
	case e.concept != none:
		return e.in.system.code(e.concept)
	}
	return e.code
}

func (e entry) isInactive() bool { return e.concept != none && e.in.system.inactive.has(e.concept) }
func (e entry) isAbstract() bool { return e.concept != none && e.in.system.abstract.has(e.concept) }

// A lister lists the concepts of a value set. It ends with fault or err set if
// they cannot all be told.
type lister struct {
	*asker
	// skip says which includes are passed over; nil for none.
	skip func(*include) bool
	err  error
}

// each yields the concepts of v in the order in which it names them, each once.
// https://hl7.org/fhir/R4/valueset.html#expansion
func (l *lister) each(v *valueSet) iter.Seq[entry] {
	return func(yield func(entry) bool) {
		seen := newSeen(v)
		for _, in := range v.includes {
			if l.skip != nil && l.skip(in) {
				continue
			}
			for e := range l.include(in) {
				l.turn.add(stepsPerConcept)
				keep := !(v.dropsInactive() && e.isInactive()) && !seen.before(e) && l.not(v.excludes, e)
				if keep && !yield(e) {
					return
				}
				if !l.goOn() {
					return
				}
			}
			if l.err != nil {
				return
			}
		}
	}
}

// goOn reports whether the listing may go on: the client still waits, and it
// has not taken too much.
func (l *lister) goOn() bool {
	l.turn.add(1)
	if l.err == nil {
		l.err = l.turn.goOn()
	}
	return l.err == nil
}

// fail ends the listing.
func (l *lister) fail(err *fhir.Error) bool {
	if l.err == nil {
		l.err = cloned(err)
	}
	return false
}

// include yields the concepts of one include.
func (l *lister) include(in *include) iter.Seq[entry] {
	return func(yield func(entry) bool) {
		source, others := l.concepts(in), in.imports
		if in.System == "" {
			source, others = l.imported(in, in.imports[0]), in.imports[1:]
		}
		for e := range source {
			if l.all(others, e) && !yield(e) {
				return
			}
			if !l.goOn() {
				return
			}
		}
	}
}

// imported yields the concepts of a value set that in names.
func (l *lister) imported(in *include, sub imported) iter.Seq[entry] {
	if sub.set == nil {
		return l.others(in, Part{ValueSet: sub.url}, sub.why)
	}
	return l.each(sub.set)
}

// others yields the concepts of a part that is listed elsewhere. Without an
// elsewhere the listing ends for the reason why it is not known here.
func (l *lister) others(in *include, p Part, why *fhir.Error) iter.Seq[entry] {
	return func(yield func(entry) bool) {
		if l.elsewhere == nil {
			l.fail(why)
			return
		}
		resume := l.turn.pause()
		list, err := l.elsewhere.List(l.ctx, p)
		resume()
		if err != nil {
			l.err = err
			return
		}
		from := map[string]*include{in.System: in}
		for _, c := range list {
			if from[c.System] == nil {
				from[c.System] = &include{includeJSON: &includeJSON{System: c.System}, place: in.place}
			}
			e := entry{in: from[c.System], concept: none, listed: &listed{Code: c.Code, Display: c.Display, Designation: c.Designation}}
			if !yield(e) {
				return
			}
		}
	}
}

// concepts yields the concepts that in names of its system.
func (l *lister) concepts(in *include) iter.Seq[entry] {
	return func(yield func(entry) bool) {
		switch {
		case in.fault != nil && in.system == nil:
			for e := range l.others(in, in.part(), in.fault) {
				if !yield(e) {
					return
				}
			}
		case in.fault != nil:
			l.fail(in.fault)
		case in.codes != nil:
			for i := range in.Concept {
				e := entry{in: in, concept: none, listed: &in.Concept[i]}
				if in.system != nil {
					if c, ok := in.system.find(e.listed.Code); ok {
						e.concept = c
					}
				}
				if !yield(e) {
					return
				}
			}
		case in.system != nil:
			for c := range in.system.size() {
				if (in.only == nil || in.only.has(c)) && len(in.system.bytes(c, 0)) > 0 && !yield(entry{in: in, concept: c}) {
					return
				}
				if in.only != nil && !l.goOn() {
					return
				}
			}
		case in.grammar.list == nil:
			l.fail(fhir.Errorf(fhir.TooCostly, "the codes of %s have no end, and cannot be listed", in.grammar.name).At(in.place))
		default:
			for _, code := range in.grammar.list() {
				if !yield(entry{in: in, concept: none, code: code}) {
					return
				}
			}
		}
	}
}

// all reports whether e is in each of the value sets.
func (l *lister) all(sets []imported, e entry) bool {
	for _, sub := range sets {
		switch l.asker.imported(sub, e.in.System, e.entryCode()) {
		case Out:
			return false
		case Unknown:
			return l.fail(untold(e))
		}
	}
	return true
}

// not reports whether e is in none of the excludes.
func (l *lister) not(excludes []*include, e entry) bool {
	if len(excludes) == 0 {
		return true
	}
	switch l.some(excludes, e.in.System, e.entryCode()) {
	case In:
		return false
	case Unknown:
		for _, in := range excludes {
			if in.fault != nil && in.fault.Code() == fhir.TooCostly {
				return l.fail(in.fault)
			}
		}
		return l.fail(untold(e))
	}
	return true
}

func untold(e entry) *fhir.Error {
	return fhir.Errorf(fhir.BusinessRule, "it cannot be told here which concepts are excluded or in other value sets too").At(e.in.place)
}

// seen remembers which concepts were listed. A value set of one include has
// no need of it.
type seen struct {
	concepts map[*codeSystem]bits
	codes    map[[2]string]bool
}

func newSeen(v *valueSet) *seen {
	if len(v.includes) == 1 && v.includes[0].codes == nil {
		return nil
	}
	return &seen{map[*codeSystem]bits{}, map[[2]string]bool{}}
}

// before reports whether e was seen before, and remembers it.
func (s *seen) before(e entry) bool {
	if s == nil {
		return false
	}
	if e.concept == none {
		key := [2]string{e.in.System, e.entryCode()}
		was := s.codes[key]
		s.codes[key] = true
		return was
	}
	b := s.concepts[e.in.system]
	if b == nil {
		b = newBits(e.in.system.size())
		s.concepts[e.in.system] = b
	}
	was := b.has(e.concept)
	b.add(e.concept)
	return was
}
