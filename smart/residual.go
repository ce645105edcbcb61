package smart

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	publicast "github.com/cedar-policy/cedar-go/ast"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/eval"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
)

// A residual makes the condition on resources that is left of a policy once
// who asks, for what, of which type and when is known. What is not about the
// resource Cedar evaluates; what is, becomes a condition that the search index
// and a single resource answer alike.
type residual struct {
	env eval.Env
	on  fhir.Type
	now time.Time
	// checks goes into every part, also into what cannot matter for the
	// principal at hand: for a policy that is proposed.
	checks bool
	// outline finds no code in any record.
	outline bool
}

var (
	yes search.Expr = search.And{}
	no  search.Expr = search.Or{}
)

func constant(b bool) search.Expr {
	if b {
		return yes
	}
	return no
}

func nothing(e search.Expr) bool {
	or, ok := e.(search.Or)
	return ok && len(or) == 0
}

// condition returns the condition that n sets, which has to be true or false.
func (r *residual) condition(n ast.IsNode) (search.Expr, error) {
	switch n := n.(type) {
	case ast.NodeTypeAnd:
		return r.and(n.Left, n.Right)
	case ast.NodeTypeOr:
		left, err := r.condition(n.Left)
		if err != nil || everything(left) && !r.checks {
			return left, err
		}
		right, err := r.condition(n.Right)
		return search.Simplify(search.Or{left, right}), err
	case ast.NodeTypeNot:
		e, err := r.condition(n.Arg)
		return search.Simplify(search.Not{X: e}), err
	case ast.NodeTypeIfThenElse:
		return r.choice(n)
	}
	if !aboutResource(n) {
		return r.known(n)
	}
	switch n := n.(type) {
	case ast.NodeTypeEquals:
		return r.equals(n.BinaryNode)
	case ast.NodeTypeNotEquals:
		e, err := r.equals(n.BinaryNode)
		return search.Simplify(search.Not{X: e}), err
	case ast.NodeTypeContains:
		return r.contains(n.BinaryNode)
	case ast.NodeTypeContainsAny:
		return r.containsSome(n.BinaryNode, func(list []search.Expr) search.Expr { return search.Or(list) })
	case ast.NodeTypeContainsAll:
		return r.containsSome(n.BinaryNode, func(list []search.Expr) search.Expr { return search.And(list) })
	}
	return nil, unanswerable(n, "resources cannot be found by this")
}

func (r *residual) and(a, b ast.IsNode) (search.Expr, error) {
	left, err := r.condition(a)
	if err != nil || nothing(left) && !r.checks {
		return left, err
	}
	right, err := r.condition(b)
	return search.Simplify(search.And{left, right}), err
}

func (r *residual) choice(n ast.NodeTypeIfThenElse) (search.Expr, error) {
	cond, err := r.condition(n.If)
	if err != nil {
		return nil, err
	}
	then, err := r.condition(n.Then)
	if err != nil {
		return nil, err
	}
	other, err := r.condition(n.Else)
	return search.Simplify(search.Or{search.And{cond, then}, search.And{search.Not{X: cond}, other}}), err
}

// known evaluates what is not about the resource.
func (r *residual) known(n ast.IsNode) (search.Expr, error) {
	v, err := r.value(n)
	if err != nil {
		return nil, err
	}
	b, ok := v.(types.Boolean)
	if !ok {
		return nil, unanswerable(n, "this is neither true nor false")
	}
	return constant(bool(b)), nil
}

func (r *residual) value(n ast.IsNode) (types.Value, error) {
	v, err := eval.Eval(n, r.env)
	if err != nil {
		return nil, unanswerable(n, "this has no value: "+err.Error())
	}
	return v, nil
}

// equals is for resource.id.
func (r *residual) equals(n ast.BinaryNode) (search.Expr, error) {
	at, other := asked(n.Left), n.Right
	if at == nil {
		at, other = asked(n.Right), n.Left
	}
	if at == nil || at.Name != "id" || aboutResource(other) {
		return nil, unanswerable(ast.NodeTypeEquals{BinaryNode: n}, "of a resource only id and type can be compared; what is a set is asked with contains")
	}
	return r.holds(at, other)
}

// contains is for a set of the resource and a text, or a set of texts and the
// resource's id.
func (r *residual) contains(n ast.BinaryNode) (search.Expr, error) {
	if at := asked(n.Left); at != nil && at.Name != "id" && !aboutResource(n.Right) {
		return r.holds(at, n.Right)
	}
	if at := asked(n.Right); at != nil && at.Name == "id" && !aboutResource(n.Left) {
		list, err := r.each(at, n.Left)
		return search.Simplify(search.Or(list)), err
	}
	return nil, unanswerable(ast.NodeTypeContains{BinaryNode: n}, "contains asks a set of the resource for a text, or a set of texts for resource.id")
}

func (r *residual) containsSome(n ast.BinaryNode, join func([]search.Expr) search.Expr) (search.Expr, error) {
	at := asked(n.Left)
	if at == nil || at.Name == "id" || aboutResource(n.Right) {
		return nil, unanswerable(ast.NodeTypeContainsAny{BinaryNode: n}, "containsAny and containsAll ask a set of the resource for texts")
	}
	list, err := r.each(at, n.Right)
	return search.Simplify(join(list)), err
}

// holds returns the condition that the attribute holds the text that n is.
func (r *residual) holds(at *attribute, n ast.IsNode) (search.Expr, error) {
	v, err := r.value(n)
	if err != nil {
		return nil, err
	}
	text, ok := v.(types.String)
	if !ok {
		return nil, unanswerable(n, "resource."+at.Name+" is compared with a text")
	}
	return search.Simplify(r.has(at, string(text))), nil
}

func (r *residual) has(at *attribute, text string) search.Expr {
	if r.outline && at.told {
		return no
	}
	return at.has(r.on, text, r.now)
}

// each returns the conditions that the attribute holds each of the texts that n
// is.
func (r *residual) each(at *attribute, n ast.IsNode) ([]search.Expr, error) {
	v, err := r.value(n)
	if err != nil {
		return nil, err
	}
	set, ok := v.(types.Set)
	if !ok || set.Len() > maxTexts {
		return nil, unanswerable(n, fmt.Sprintf("resource.%s is compared with a set of at most %d texts", at.Name, maxTexts))
	}
	texts := make([]string, 0, set.Len())
	for v := range set.All() {
		text, ok := v.(types.String)
		if !ok {
			return nil, unanswerable(n, "resource."+at.Name+" is compared with texts")
		}
		texts = append(texts, string(text))
	}
	slices.Sort(texts) // a set has no order, but one policy makes one condition
	list := make([]search.Expr, len(texts))
	for i, text := range texts {
		list[i] = r.has(at, text)
	}
	return list, nil
}

// maxTexts bounds what an attribute is compared with at a time.
const maxTexts = 100

// asked returns the attribute that n asks of the resource, nil if it is
// something else.
func asked(n ast.IsNode) *attribute {
	access, ok := n.(ast.NodeTypeAccess)
	if !ok || !isResource(access.Arg) {
		return nil
	}
	return attributeNamed(string(access.Value))
}

func isResource(n ast.IsNode) bool {
	v, ok := n.(ast.NodeTypeVariable)
	return ok && v.Name == "resource"
}

// aboutResource reports whether n asks more of the resource than its type,
// which is known.
func aboutResource(n ast.IsNode) bool {
	about := false
	ast.Inspect(ast.NewNode(n), func(n ast.IsNode) bool {
		switch n := n.(type) {
		case ast.NodeTypeIs:
			if isResource(n.Left) {
				return false
			}
		case ast.NodeTypeAccess:
			if isResource(n.Arg) && n.Value == "type" {
				return false
			}
		case ast.NodeTypeVariable:
			about = about || n.Name == "resource"
		}
		return !about
	})
	return about
}

// errUnanswerable is the kind of fault that a policy cannot be in force with.
var errUnanswerable = errors.New("smart: not a policy that can be answered")

// unanswerable says what is wrong with a part of a policy. Policies hold no
// patients, so the part can be shown.
func unanswerable(n ast.IsNode, why string) error {
	return fmt.Errorf("%w: %s: %s", errUnanswerable, cedarText(n), why)
}

// cedarText spells n as Cedar does, on one line and shortened.
func cedarText(n ast.IsNode) string {
	p := ast.Permit().When(ast.NewNode(n))
	_, text, _ := strings.Cut(string((*publicast.Policy)(p).MarshalCedar()), "when")
	text = strings.Join(strings.Fields(strings.Trim(text, " \n{};")), " ")
	if len(text) > 120 {
		text = text[:120] + "…"
	}
	return text
}
