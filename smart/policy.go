package smart

import (
	"regexp"
	"slices"
	"strings"
	"time"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/eval"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
)

// A Policy says what the clients and users of a tenant may do beyond what their
// scopes say: scopes and policy must both allow it. It is Cedar text, of which
// every rule has an id. A resource may be touched if some permit holds for it
// and no forbid does. The nil Policy allows nothing.
// https://docs.cedarpolicy.com/
type Policy struct {
	rules []rule
	// open says that the policy allows whatever the scopes do.
	open bool
	// masks says that some rule hides elements.
	masks bool
	// outline says that it is decided as if records held no codes.
	outline bool
}

// A rule is one permit or forbid.
type rule struct {
	id      string
	says    string // for people, from @description
	permits bool
	body    ast.IsNode
	line    int
	masks   map[fhir.Type]Mask // what a permit leaves hidden
}

// The bounds of a policy.
const (
	MaxPolicy = 32 << 10
	maxRules  = 200
)

// ruleID is what an @id may be.
var ruleID = regexp.MustCompile(`^[a-z][a-z0-9-]{0,62}$`)

// ParsePolicy reads the Cedar text of a policy and checks it: each of its rules
// must have an answer for every interaction on every type, whoever asks. The
// error is a *fhir.Error that names the rule and the part at fault.
func ParsePolicy(text string) (*Policy, error) {
	p, err := ReadPolicy(text)
	if err != nil {
		return nil, err
	}
	for _, r := range p.rules {
		if err := r.check(); err != nil {
			return nil, fhir.Errorf(fhir.Invalid, "rule %s, line %d: %s", r.id, r.line, strings.TrimPrefix(err.Error(), errUnanswerable.Error()+": "))
		}
	}
	return p, nil
}

// ReadPolicy is ParsePolicy for a text that was checked before, such as a version
// that is or was in force.
func ReadPolicy(text string) (*Policy, error) {
	if len(text) > MaxPolicy {
		return nil, fhir.Errorf(fhir.TooLong, "a policy has at most %d bytes", MaxPolicy)
	}
	list, err := cedar.NewPolicyListFromBytes("policy", []byte(text))
	if err != nil {
		return nil, fhir.Errorf(fhir.Structure, "the policy is not Cedar: %s", strings.TrimPrefix(err.Error(), "parser error: "))
	}
	if len(list) > maxRules {
		return nil, fhir.Errorf(fhir.Invalid, "a policy has at most %d rules", maxRules)
	}
	p := &Policy{open: len(list) == 1}
	for _, one := range list {
		r, err := readRule(one)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(p.rules, func(o rule) bool { return o.id == r.id }) {
			return nil, fhir.Errorf(fhir.Invalid, "rule %s, line %d: another rule has the id", r.id, r.line)
		}
		p.open = p.open && r.permits && r.masks == nil && ast.NewNode(r.body) == ast.True()
		p.masks = p.masks || r.masks != nil
		p.rules = append(p.rules, r)
	}
	return p, nil
}

func readRule(one *cedar.Policy) (rule, error) {
	r := rule{permits: one.Effect() == cedar.Permit, line: one.Position().Line}
	for key, value := range one.Annotations() {
		switch key {
		case "id":
			r.id = string(value)
		case "description":
			r.says = string(value)
		case "mask", "only":
			if !r.permits {
				return rule{}, fhir.Errorf(fhir.Invalid, "the rule at line %d is a forbid, which shows nothing that @%s could be about", r.line, key)
			}
			if err := r.mask(string(key), string(value)); err != nil {
				return rule{}, err
			}
		default:
			return rule{}, fhir.Errorf(fhir.Invalid, "the rule at line %d has an annotation that is not known: @%s", r.line, key)
		}
	}
	if !ruleID.MatchString(r.id) {
		return rule{}, fhir.Errorf(fhir.Invalid, "the rule at line %d needs an @id of a-z, 0-9 and hyphens", r.line)
	}
	r.body = eval.PolicyToNode((*ast.Policy)(one.AST())).AsIsNode()
	return r, nil
}

// check holds r against every interaction and type, for somebody of whom all is
// known and for somebody of whom nothing is.
func (r rule) check() error {
	if err := checkNames(r.body); err != nil {
		return err
	}
	acts := asksAction(r.body)
	for _, a := range []*access{{}, everybody} {
		who := a.principal()
		for _, on := range fhir.Types {
			for i, do := range actions {
				if i > 0 && !acts {
					break // what is true of one is true of all
				}
				q := question{letter: do.letter, on: on}
				left := residual{env: who.env(q, time.Unix(0, 0)), on: on, now: time.Unix(0, 0), checks: true}
				if _, err := left.condition(r.body); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// asksAction reports whether the answer of a condition can depend on the interaction.
func asksAction(body ast.IsNode) (asks bool) {
	ast.Inspect(ast.NewNode(body), func(n ast.IsNode) bool {
		v, ok := n.(ast.NodeTypeVariable)
		asks = asks || ok && v.Name == "action"
		return !asks
	})
	return asks
}

// checkNames refuses what could never match, which is sooner misspelled than
// meant.
func checkNames(body ast.IsNode) (err error) {
	ast.Inspect(ast.NewNode(body), func(n ast.IsNode) bool {
		if err == nil {
			err = checkName(n)
		}
		return err == nil
	})
	return err
}

func checkName(n ast.IsNode) error {
	switch n := n.(type) {
	case ast.NodeValue:
		return checkEntities(n, n.Value)
	case ast.NodeTypeIs:
		known := fhir.Type(n.EntityType).Known()
		if !isResource(n.Left) {
			known = n.EntityType == userType || n.EntityType == clientType
		}
		if !known {
			return unanswerable(n, "there is no such type")
		}
	case ast.NodeTypeAccess:
		if isResource(n.Arg) && n.Value != "type" && attributeNamed(string(n.Value)) == nil {
			return unanswerable(n, "resources have no such attribute")
		}
	case ast.NodeTypeContains:
		return checkTypes(n.Right, n.Left)
	case ast.NodeTypeEquals:
		if err := checkTypes(n.Left, n.Right); err != nil {
			return err
		}
		return checkTypes(n.Right, n.Left)
	}
	return nil
}

// checkEntities refuses values that are no entities of ours.
func checkEntities(n ast.IsNode, v types.Value) error {
	switch v := v.(type) {
	case types.EntityUID:
		switch v.Type {
		case roleType, userType, clientType:
			return nil
		case actionType:
			if isAction(v) {
				return nil
			}
		}
		return unanswerable(n, "there is no such entity; there are Role, User, Client and these Actions: "+strings.Join(actionNames(), ", "))
	case types.Set:
		for one := range v.All() {
			if err := checkEntities(n, one); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkTypes refuses texts that are compared with the resource's type and are
// none.
func checkTypes(n, with ast.IsNode) error {
	access, ok := n.(ast.NodeTypeAccess)
	if !ok || !isResource(access.Arg) || access.Value != "type" {
		return nil
	}
	var fault error
	ast.Inspect(ast.NewNode(with), func(m ast.IsNode) bool {
		if v, ok := m.(ast.NodeValue); ok {
			if s, ok := v.Value.(types.String); ok && !fhir.Type(s).Known() && fault == nil {
				fault = unanswerable(m, "there is no such type of resource")
			}
		}
		return true
	})
	return fault
}

// A verdict is what a policy says to a question: on which resources the
// interaction is allowed, and what stays hidden of them.
type verdict struct {
	where  search.Expr
	hidden Mask
}

// decide returns the verdict of p on the question of a: some permit has to hold
// and no forbid. What fails allows nothing.
func (p *Policy) decide(a *access, q question, now time.Time) verdict {
	if p == nil {
		return verdict{where: no}
	}
	if p.open {
		return verdict{where: yes}
	}
	r := residual{env: a.principal().env(q, now), on: q.on, now: now, outline: p.outline}
	permits, forbids := search.Or{}, search.Or{}
	var masks masks
	for _, one := range p.rules {
		e, err := r.condition(one.body)
		switch {
		case err != nil:
			return verdict{where: no}
		case !one.permits:
			forbids = append(forbids, e)
		case !nothing(e):
			permits = append(permits, e)
			masks.add(one.masks[q.on], everything(e))
		}
	}
	return verdict{search.Simplify(search.And{permits, search.Not{X: forbids}}), masks.hidden()}
}
