// Package path evaluates FHIRPath, the language of invariants, search
// parameters and patches, over the resources of R4.
//
// http://hl7.org/fhirpath/N1/
// https://hl7.org/fhir/R4/fhirpath.html
package path

import (
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
)

// An Expr is a FHIRPath expression, parsed. It never changes, so that many
// goroutines may evaluate it at a time.
type Expr struct {
	text      string
	root      expr
	states    int
	constants []string
}

// Bounds on the text of an expression. The longest invariant of R4 has 1,100
// bytes; the deepest nests twelve levels.
const (
	maxText  = 16 << 10
	maxDepth = 100
)

// Parse reads an expression. A *fhir.Error says what is wrong and at which
// character, without repeating the text. Names of functions and of types must
// be known, and functions must have as many arguments as they take.
func Parse(text string) (*Expr, error) { return parse(text, nil) }

// parse reads an expression that may call the functions of more too.
func parse(text string, more map[string]function) (*Expr, error) {
	if len(text) > maxText {
		return nil, fhir.Errorf(fhir.TooLong, "the FHIRPath expression is longer than %d bytes", maxText)
	}
	p := parser{lexer: lexer{text: text}, more: more}
	root, err := p.parse()
	if err != nil {
		return nil, err
	}
	hoist(root, false)
	return &Expr{text: text, root: root, states: p.states, constants: p.constants}, nil
}

// MustParse is Parse for expressions known when the program is written. It
// panics if text is no expression.
func MustParse(text string) *Expr {
	e, err := Parse(text)
	if err != nil {
		panic("path: " + err.Error())
	}
	return e
}

// String returns the text that e was parsed from.
func (e *Expr) String() string { return e.text }

// States returns how large the regular expressions of e are together.
func (e *Expr) States() int { return e.states }

// Unknown returns whether e has a %name that neither FHIRPath, nor FHIR nor the
// table has.
func (e *Expr) Unknown(table map[string][]Node) bool {
	return slices.ContainsFunc(e.constants, func(name string) bool {
		return table[name] == nil && !knownConstant(name)
	})
}

// A Context is what an evaluation may know besides its focus. The zero Context
// knows nothing: resolve() finds only contained resources and entries of a
// Bundle, and memberOf() and conformsTo() are errors. It must not change while
// it is in use, and as evaluating reads the trees of documents, only one
// goroutine may evaluate over one document at a time.
type Context struct {
	// Resource is %resource: the resource that holds the focus. It is the
	// focus itself if it is not given.
	Resource Node
	// RootResource is %rootResource: the container of a contained resource. It
	// is Resource if it is not given.
	RootResource Node
	// Constants are the values of further %names.
	Constants map[string][]Node

	// Resolve returns the resource that a reference leads to, for references
	// that lead out of RootResource. ok is false if there is none.
	Resolve func(reference string) (n Node, ok bool, err error)
	// MemberOf reports whether a code, Coding or CodeableConcept is in the
	// value set. known is false if that cannot be said.
	MemberOf func(valueSet string, n Node) (in, known bool, err error)
	// Subsumes reports whether the first Coding is, or is above, the second in
	// their code system.
	Subsumes func(above, below Node) (subsumes, known bool, err error)
	// ConformsTo reports whether n is valid by the profile. known is false if
	// there is no such profile.
	ConformsTo func(profile string, n Node) (conforms, known bool, err error)
	// Trace receives what passes through trace(). It holds clinical content.
	Trace func(name string, nodes []Node)

	// Now is the time of now() and today(). Default: the present.
	Now time.Time
	// Steps bounds the work: about one step for each element visited. Default
	// 1,000,000, which takes less than a second.
	Steps int
	// Time bounds how long an evaluation takes. Default 2 seconds.
	Time time.Duration
	// Work, if it is given, is what evaluations take their steps from together.
	// It takes the place of Time.
	Work *Work
	// Strict makes errors of what N1 forbids and expressions of R4 rely on, or
	// what it allows an engine to refuse: a child that its element cannot have,
	// as() on several items, and a criterion of iif() that is no boolean.
	Strict bool
}

// runs are the states of evaluations that have ended.
var runs = sync.Pool{New: func() any { return new(run) }}

// Eval evaluates e with the focus as input and returns the collection that it
// yields. A *fhir.Error says at which character of the expression evaluation
// failed; TooCostly is its code if a bound of ctx was reached. It holds no
// value of a resource. Other errors are those of the functions of ctx.
func (e *Expr) Eval(ctx *Context, focus ...Node) ([]Node, error) {
	r := runs.Get().(*run)
	defer r.end()
	r.begin(ctx, focus)
	out, err := e.root.eval(r, focus)
	if err != nil {
		return nil, e.placed(err)
	}
	return slices.Clone(out), nil
}

// Holds evaluates e as a condition on the focus, as invariants are: it reports
// whether e yields true, or one element that is not a boolean. No result is
// false; more than one is an error.
func (e *Expr) Holds(ctx *Context, focus Node) (bool, error) {
	r := runs.Get().(*run)
	defer r.end()
	r.input[0] = focus
	r.begin(ctx, r.input[:])
	out, err := e.root.eval(r, r.focus)
	if err != nil {
		return false, e.placed(err)
	}
	holds, known, err := truth(out)
	return holds && known, e.placed(err)
}

// placed returns err with its place in the text of e, if it has one.
func (e *Expr) placed(err error) error {
	var f *faultAt
	if errors.As(err, &f) {
		f.err.Issues[0].Diagnostics = position(e.text, f.at) + f.err.Issues[0].Diagnostics
		return f.err
	}
	return err
}
