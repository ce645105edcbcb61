package terminology

import (
	"context"
	"runtime"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/regex"
)

// Within returns a Service that works for whoever asks, and asks elsewhere, only
// until ctx ends.
func (s *Service) Within(ctx context.Context) *Service {
	within := *s
	within.until, within.ctx = ctx, ctx
	return &within
}

// maxSteps bounds what one request takes, to compile a value set and then to
// list it. A step is some 10 ns at most, which makes one second.
const maxSteps = 100_000_000

// What things cost, in steps.
const (
	stepsPerConcept = 10    // to have a value of a concept
	stepsPerAsk     = 20    // to find a code in an include
	stepsPerPattern = 1_000 // for each byte, to compile it
	statesPerStep   = 4     // of its program, for each byte of a text
)

// atWork has whoever compiles or lists a value set. Half of the processors are
// left to others.
var atWork = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))

// turnLength is after how many steps others have their turn.
const turnLength = 1_000_000

// A turn is the right to work. Whoever has it must not wait for others, who
// may wait for it. A nil turn is that of questions too small to count.
type turn struct {
	ctx   context.Context
	held  bool
	steps int // altogether
	since int // steps since it was taken
}

// take waits for the turn. It reports false if ctx has ended.
func (t *turn) take() bool {
	if t.ctx.Err() != nil {
		return false
	}
	select {
	case atWork <- struct{}{}:
		t.held, t.since = true, 0
	case <-t.ctx.Done():
	}
	return t.held
}

func (t *turn) give() {
	if t.held {
		<-atWork
		t.held = false
	}
}

// pause gives the turn away until the function that it returns is called.
func (t *turn) pause() (resume func()) {
	if t == nil || !t.held {
		return func() {}
	}
	t.give()
	return func() { t.take() }
}

// add counts steps.
func (t *turn) add(steps int) {
	if t != nil {
		t.steps += steps
		t.since += steps
	}
}

// goOn returns an error if the work is to end: that of ctx, or a *fhir.Error
// with code TooCostly.
func (t *turn) goOn() error {
	if t.steps > maxSteps {
		return errTooMuch()
	}
	return t.share()
}

// share lets others have their turn when it is time. It returns an error if ctx
// has ended.
func (t *turn) share() error {
	if t.since >= turnLength {
		t.give()
		t.take()
	}
	if !t.held {
		return t.ctx.Err()
	}
	return nil
}

func errTooMuch() *fhir.Error {
	return fhir.Errorf(fhir.TooCostly, "the value set, with those it is made of, is too much to work out")
}

// Bounds of the regular expressions of filters.
const (
	maxPattern = 500
	// maxStates is how large the program of one may be. Repeats unfold: RE2
	// takes time in proportion to the program and the text.
	maxStates = 500
)

// states returns how large the program of a regular expression is, without
// making it. A *fhir.Error says that it is malformed, or too large.
func states(pattern string) (int, *fhir.Error) {
	if len(pattern) > maxPattern {
		return 0, fhir.Errorf(fhir.TooCostly, "a regular expression is longer than %d characters", maxPattern)
	}
	n, err := regex.States(anchored(pattern))
	if err != nil {
		return 0, fhir.Errorf(fhir.Value, "a regular expression is malformed, or not one of RE2")
	}
	if n > maxStates {
		return 0, fhir.Errorf(fhir.TooCostly, "a regular expression unfolds to more than %d states", maxStates)
	}
	return n, nil
}

// anchored returns the pattern of the whole of a text.
func anchored(pattern string) string { return "^(?:" + pattern + ")$" }

// An extent is what a filter of a property looks at in a code system.
type extent struct{ values, bytes int }

// extent returns that of the property.
func (s *codeSystem) extent(property string) extent {
	n := int(s.size())
	switch property {
	case "inactive", "notSelectable":
		return extent{n, n * len("false")}
	case "parent", "child":
		e := extent{values: len(s.parents.to) + len(s.children.to)}
		for _, l := range []links{s.parents, s.children} {
			for _, c := range l.to {
				e.bytes += len(s.bytes(c, 0))
			}
		}
		return e
	}
	if which, ok := map[string]uint32{"code": 0, "concept": 0, "display": 1, "definition": 2}[property]; ok {
		e := extent{values: n}
		for c := range s.size() {
			e.bytes += len(s.bytes(c, which))
		}
		return e
	}
	var e extent
	for _, p := range s.properties {
		if s.names[p.name] == property {
			e.values++
			e.bytes += len(s.valueOf(p))
		}
	}
	return e
}

// filterSteps returns what a filter takes of a code system, or, if s is nil, of
// a grammar. A regular expression that is refused takes nothing: it becomes a
// fault of the include.
func (w *walk) filterSteps(s *codeSystem, f Filter) int {
	e := extent{values: maxGrammarCode, bytes: maxGrammarCode} // one long code, or all of a list
	steps := 0
	if s != nil {
		steps = int(s.size())
		switch f.Op {
		case "is-a", "descendent-of", "is-not-a", "generalizes":
			return steps
		}
		key := extentKey{s, f.Property}
		known, ok := w.extents[key]
		if !ok {
			w.turn.add(len(s.properties) + steps)
			known = s.extent(f.Property)
			w.extents[key] = known
		}
		e = known
	}
	steps = stepsPerConcept*(steps+e.values) + e.bytes/8
	if f.Op != "regex" || len(f.Value) > maxPattern {
		return steps
	}
	w.turn.add(stepsPerPattern * len(f.Value))
	if n, err := states(f.Value); err == nil {
		steps += stepsPerPattern*len(f.Value) + n*(e.bytes+8*e.values)/statesPerStep
	}
	return steps
}

type extentKey struct {
	of       *codeSystem
	property string
}
