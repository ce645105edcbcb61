package search

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/go-json-experiment/json"
	"github.com/valyala/fastjson"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/path"
	"github.com/cordon-fhir/cordon/fhir/r4"
	"github.com/cordon-fhir/cordon/fhir/r4/expression"
	"github.com/cordon-fhir/cordon/fhir/ucum"
)

// A CustomParameter is a search parameter that a tenant adds to those of R4,
// compiled.
// https://hl7.org/fhir/R4/searchparameter.html
type CustomParameter struct {
	expression.Parameter
	// Print tells it from every other, and from itself with another
	// meaning: what the index holds for it is kept under this name.
	Print string
	// Shadowed are the types for which R4 has a parameter of its own with the
	// same code. That one stays.
	Shadowed []fhir.Type

	compiled map[fhir.Type]*r4.SearchParameter
	alone    map[fhir.Type]*table
	dynamic  *path.Expr // what compiled cannot say; evaluated for each resource
}

// A CustomState says what the index holds for a CustomParameter.
type CustomState string

// The states. In each of them it is known what the index may hold.
const (
	CustomBuilding CustomState = "indexing" // some of the resources are indexed, and all that are written
	CustomReady    CustomState = "ready"    // all are
	CustomRemoving CustomState = "removing" // some still are; what is written is not
)

// Limits of what a tenant adds.
const (
	// MaxCustom bounds the parameters of a tenant. US Core adds eight.
	MaxCustom = 100
	// MaxCustomOfType bounds those of one resource type.
	MaxCustomOfType = 30
	// What evaluating one costs for one resource. Who exceeds it has no value.
	// The steps decide, as they are the same each time; they take a few
	// milliseconds.
	dynamicSteps = 20_000
	dynamicTime  = time.Second
)

// ErrNotSearched says that a SearchParameter adds nothing to search: it is not
// active, or R4 has it already.
var ErrNotSearched = errors.New("search: the SearchParameter adds nothing")

// ErrComponent says that a composite has a component whose definition is not
// known.
var ErrComponent = expression.ErrComponent

var customCode = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{0,63}$`)

// CompileCustom compiles a SearchParameter from its JSON. find returns the JSON
// of another one by its canonical URL, for composites. The error is a
// *fhir.Error that says what is wrong and where, or ErrNotSearched.
func CompileCustom(definition []byte, find func(url string) ([]byte, bool)) (*CustomParameter, error) {
	var sp struct {
		expression.Parameter
		Status string
	}
	if err := json.Unmarshal(definition, &sp, json.MatchCaseInsensitiveNames(true)); err != nil {
		return nil, fhir.Errorf(fhir.Structure, "the SearchParameter cannot be read")
	}
	c := &CustomParameter{Parameter: sp.Parameter, compiled: map[fhir.Type]*r4.SearchParameter{}}
	if sp.Status != "active" || len(sp.Base) == 0 || sp.Expression == "" {
		return nil, ErrNotSearched
	}
	bases := sp.Bases()
	for _, t := range bases {
		if !t.Known() {
			return nil, fault("base", "names a type that is not known")
		}
		if tableOf(t).byCode[sp.Code] != nil {
			c.Shadowed = append(c.Shadowed, t)
		}
	}
	if len(c.Shadowed) == len(bases) {
		return nil, ErrNotSearched
	}
	if !customCode.MatchString(sp.Code) {
		return nil, fault("code", "begins with a letter and has letters, digits and hyphens, 64 at most")
	}
	if len(expression.Searchable(sp.Type)) == 0 && sp.Type != "composite" {
		return nil, fault("type", "is one that no parameter of a tenant can have")
	}
	compiler := expression.Compiler{Find: func(url string) (expression.Parameter, bool) {
		var part expression.Parameter
		body, ok := find(url)
		if ok {
			ok = json.Unmarshal(body, &part, json.MatchCaseInsensitiveNames(true)) == nil
		}
		return part, ok
	}}
	c.Print = printOf(c)
	for _, t := range bases {
		if slices.Contains(c.Shadowed, t) {
			continue
		}
		compiled, err := compiler.Compile(sp.Parameter, t)
		if errors.Is(err, expression.ErrBeyond) && sp.Type != "composite" {
			compiled, err = c.beyond(t)
		}
		var fe *fhir.Error
		if errors.As(err, &fe) {
			return nil, fe
		}
		if errors.Is(err, ErrComponent) {
			return nil, fmt.Errorf("%w: %w", err, fault("component", err.Error()))
		}
		if err != nil {
			return nil, fault("expression", err.Error())
		}
		c.name(&compiled, t)
		c.compiled[t] = &compiled
	}
	c.alone = map[fhir.Type]*table{}
	for t := range c.compiled {
		tb := &table{t: t, byCode: map[string]*parameter{}, root: &node{}, single: map[Path]bool{}}
		tb.addCustom(stated{c, CustomBuilding})
		tb.root.close()
		c.alone[t] = tb
	}
	return c, nil
}

func fault(element, words string) *fhir.Error {
	return fhir.Errorf(fhir.Value, "SearchParameter.%s %s", element, words).At("SearchParameter." + element)
}

// printOf is a digest of all that decides what the index holds.
func printOf(c *CustomParameter) string {
	h := sha256.New()
	fmt.Fprintf(h, "1 %q %q %q %q %q", c.URL, c.Code, c.Type, c.Expression, slices.Sorted(slices.Values(c.Base)))
	fmt.Fprintf(h, "%q %q", c.Target, c.Component)
	return hex.EncodeToString(h.Sum(nil)[:12])
}

// beyond prepares c for evaluation by FHIRPath.
func (c *CustomParameter) beyond(t fhir.Type) (r4.SearchParameter, error) {
	if c.dynamic == nil {
		e, err := path.Parse(c.Expression)
		if err != nil {
			var fe *fhir.Error
			if errors.As(err, &fe) {
				return r4.SearchParameter{}, fhir.Errorf(fhir.Value, "SearchParameter.expression: %s", fe.Issues[0].Diagnostics).At("SearchParameter.expression")
			}
			return r4.SearchParameter{}, err
		}
		c.dynamic = e
	}
	sp := r4.SearchParameter{Code: c.Code, Type: c.Type, URL: c.URL}
	for _, target := range c.Target {
		if fhir.Type(target).Known() {
			sp.Targets = append(sp.Targets, fhir.Type(target))
		}
	}
	slices.Sort(sp.Targets)
	// Which datatypes there will be nobody knows: each has a place of its own.
	for _, datatype := range expression.Searchable(c.Type) {
		if datatype != "Resource" {
			sp.Branches = append(sp.Branches, r4.SearchBranch{Path: string(t) + "." + datatype, Leaves: []r4.SearchLeaf{{Name: datatype, Type: datatype}}})
		}
	}
	return sp, nil
}

// name gives what c reads of the type a name that nothing else in the index has.
func (c *CustomParameter) name(sp *r4.SearchParameter, t fhir.Type) {
	rename := func(list []r4.SearchBranch) {
		for i := range list {
			list[i].Path = string(c.prefix(t)) + strings.TrimPrefix(list[i].Path, string(t))
		}
	}
	rename(sp.Branches)
	for _, base := range sp.Composites {
		for _, part := range base.Components {
			rename(part.Branches)
		}
	}
}

func (c *CustomParameter) prefix(t fhir.Type) Path { return Path(string(t) + ".@" + c.Print) }

// present is the token of the resources that have a value.
func (c *CustomParameter) present(t fhir.Type) Path { return c.prefix(t) + ".present" }

// evaluated reports whether FHIRPath evaluates c, so that what it reads may be of
// several datatypes.
func (c *CustomParameter) evaluated() bool { return c != nil && c.dynamic != nil }

// Types returns the types that c is a parameter of, in order.
func (c *CustomParameter) Types() []fhir.Type {
	var list []fhir.Type
	for _, t := range fhir.Types {
		if c.compiled[t] != nil {
			list = append(list, t)
		}
	}
	return list
}

// Custom are the search parameters of one tenant besides those of R4, as they
// are in one generation. It is immutable; nil is that of a tenant without any.
type Custom struct {
	// Generation rises whenever a parameter comes, goes or changes its state.
	Generation int64

	list   []stated
	tables map[fhir.Type]*table // with what is searched and written
	past   map[fhir.Type]*table // with all that the index may hold
}

type stated struct {
	*CustomParameter
	state CustomState
}

// NewCustom returns the parameters with their states. Of two with one code for
// one type, the first is searched.
func NewCustom(generation int64, list []*CustomParameter, states []CustomState) *Custom {
	c := &Custom{Generation: generation, tables: map[fhir.Type]*table{}, past: map[fhir.Type]*table{}}
	for i, p := range list {
		c.list = append(c.list, stated{p, states[i]})
	}
	for _, t := range fhir.Types {
		var now, all []stated
		for _, s := range c.list {
			if s.compiled[t] == nil {
				continue
			}
			if all = append(all, s); s.state != CustomRemoving {
				now = append(now, s)
			}
		}
		if len(all) > 0 {
			c.tables[t] = newTable(t, now...)
			c.past[t] = c.tables[t]
		}
		if len(all) > len(now) {
			c.past[t] = newTable(t, all...)
		}
	}
	return c
}

// table returns the table of t, nil if R4 does not define t.
func (c *Custom) table(t fhir.Type) *table {
	if c != nil && c.tables[t] != nil {
		return c.tables[t]
	}
	return tableOf(t)
}

// Parameters returns the parameters of the tenant that clients can use, in
// order of name.
func (c *Custom) Parameters(t fhir.Type) []Parameter {
	var list []Parameter
	if c == nil || c.tables[t] == nil {
		return nil
	}
	for _, p := range c.tables[t].parameters {
		if p.custom != nil && p.state == CustomReady {
			list = append(list, Parameter{p.Code, p.Type, p.URL, p.Targets})
		}
	}
	slices.SortFunc(list, func(a, b Parameter) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Adds reports whether parameters of the tenant read resources of the type.
// They may read what the server sets: id and meta.
func (c *Custom) Adds(t fhir.Type) bool { return c != nil && c.past[t] != nil }

// IndexPast returns the terms that the index may hold of a version that was
// stored in this or an earlier generation. They are at least those of Index.
func (s Schema) IndexPast(d *fhir.Document) *Terms {
	if !s.Custom.Adds(d.Type) {
		return s.Index(d)
	}
	return s.index(s.Custom.past[d.Type], d)
}

// IndexCustom returns the terms of d by the parameter alone. They have no Time.
func (s Schema) IndexCustom(c *CustomParameter, d *fhir.Document) *Terms {
	return s.index(c.alone[d.Type], d)
}

// addCustom adds a parameter of the tenant to tb.
func (tb *table) addCustom(s stated) {
	p := &parameter{SearchParameter: s.compiled[tb.t], bit: -1, custom: s.CustomParameter, state: s.state}
	for _, c := range p.Composites {
		p.composites = append(p.composites, tb.composite(p.Code, c))
	}
	at := tb.root
	if s.dynamic != nil {
		at = &node{}
	}
	if p.Type != "composite" {
		p.elements = at.add(p.SearchParameter, -1)
		for _, e := range p.elements {
			at.mark(e, s.present(tb.t))
		}
	}
	if s.dynamic != nil {
		at.close()
		tb.dynamic = append(tb.dynamic, dynamic{s.dynamic, p.Type, at})
	}
	if tb.byCode[p.Code] == nil && s.state != CustomRemoving {
		tb.byCode[p.Code] = p
		tb.parameters = append(tb.parameters, p)
	}
}

// mark makes the leaves of e, below n, tell by a token that there is a value.
func (n *node) mark(e element, present Path) {
	for _, l := range n.leaves {
		switch {
		case l.path != e.path:
		case e.only == "":
			l.present = present
		default:
			l.only = append(l.only, onlyBits{value: e.only, present: present})
		}
	}
	for _, c := range n.children {
		c.mark(e, present)
	}
}

// A dynamic parameter is evaluated by FHIRPath. Below tree is a child for each
// datatype.
type dynamic struct {
	expr *path.Expr
	kind string // of search parameter
	tree *node
}

// evaluate reads what d selects.
func (x *indexer) evaluate(d dynamic, doc *fhir.Document) {
	if d.tree.below&x.want == 0 {
		return
	}
	ctx := &path.Context{Steps: dynamicSteps, Time: dynamicTime, Resolve: resolveType, Now: versionTime(doc)}
	nodes, err := d.expr.Eval(ctx, path.Root(doc))
	if err != nil {
		return // as what is malformed, it has no value
	}
	for _, n := range nodes {
		v, datatype := n.JSON(), n.Type()
		if v == nil {
			if v, datatype = computed(n.Value()), computedAs[d.kind][datatype]; v == nil {
				continue
			}
			if datatype == "Reference" {
				v = referring(v)
			}
		}
		for _, c := range d.tree.children {
			if c.Name == datatype {
				x.item(c, v)
			}
		}
	}
}

// versionTime returns meta.lastUpdated: the time that now() and today() are in
// a search parameter. The index of a version must not depend on when it is made.
func versionTime(doc *fhir.Document) time.Time {
	at, err := time.Parse(time.RFC3339Nano, string(doc.Tree.GetStringBytes("meta", "lastUpdated")))
	if err != nil {
		return time.Unix(0, 0)
	}
	return at
}

// computedAs is the datatype that a value is indexed as which is no element, for
// each type of search parameter. What is not here has no value: which type an
// expression yields is known when it is evaluated.
var computedAs = map[string]map[string]string{
	"string":   {"System.String": "string"},
	"token":    {"System.String": "string", "System.Boolean": "boolean"},
	"uri":      {"System.String": "uri"},
	"number":   {"System.Integer": "integer", "System.Decimal": "decimal"},
	"date":     {"System.Date": "date", "System.DateTime": "dateTime"},
	"quantity": {"System.Quantity": "Quantity"},

	"reference": {"System.String": "Reference"},
}

// computed returns a value that is no element as JSON has it, nil if it is none.
func computed(value any) *fastjson.Value {
	var a fastjson.Arena
	switch value := value.(type) {
	case string:
		return a.NewString(value)
	case bool:
		if value {
			return a.NewTrue()
		}
		return a.NewFalse()
	case int64:
		return a.NewNumberString(strconv.FormatInt(value, 10))
	case *apd.Decimal:
		return a.NewNumberString(value.String())
	case path.Time:
		return a.NewString(value.String())
	case *path.Quantity:
		q := a.NewObject()
		q.Set("value", a.NewNumberString(value.Value.String()))
		if value.Calendar { // its unit is a word, such as year
			q.Set("unit", a.NewString(value.Unit))
			return q
		}
		q.Set("system", a.NewString(ucum.System))
		q.Set("code", a.NewString(value.Unit))
		return q
	}
	return nil
}

// referring returns a Reference with the text.
func referring(text *fastjson.Value) *fastjson.Value {
	var a fastjson.Arena
	o := a.NewObject()
	o.Set("reference", text)
	return o
}

// resolveType returns nothing of a resource but its type, which the reference
// says: an index holds what the resource itself says.
func resolveType(reference string) (path.Node, bool, error) {
	t := r4.TypeOf(string(typeIn(reference)))
	if t == nil {
		return path.Node{}, false, nil
	}
	var a fastjson.Arena
	return path.Complex(t, a.NewObject()), true, nil
}
