package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/parser"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/r4"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/store"
)

// graphqlOperations answer GraphQL queries over resources: reading alone.
// https://hl7.org/fhir/R4/graphql.html
var graphqlOperations = []operation{
	{
		name: "graphql", url: definition("Resource-graphql"), level: onSystem | onInstance, bare: true,
		in:    []parameter{{name: "query", typ: "string", min: 1, max: 1}, {name: "operationName", typ: "string", max: 1}, {name: "variables", typ: "string", max: 1}},
		parse: parseGraphQL, look: graphql,
	},
}

// graphqlType is the media type of a query that is posted bare.
const graphqlType = "application/graphql"

// Limits of one query.
const (
	maxGraphText   = 32 << 10
	maxGraphTokens = 5000
	maxGraphDepth  = 12
	maxGraphFields = 100_000 // in the answer
	maxGraphReads  = 1000    // resources
	maxGraphFinds  = 50      // searches
	maxGraphPage   = 100
	maxGraphBytes  = 16 << 20
)

// A graphQuery is a query that was read.
type graphQuery struct {
	operation *ast.OperationDefinition
	fragments ast.FragmentDefinitionList
	variables map[string]any
}

// takeGraphQL reads a posted query: text, or JSON with the members query,
// operationName and variables.
func (req *request) takeGraphQL(mediaType string, body []byte) error {
	one := struct {
		Query         string          `json:"query"`
		OperationName string          `json:"operationName"`
		Variables     json.RawMessage `json:"variables"`
	}{Query: string(body)}
	if strings.TrimSpace(before(mediaType, ";")) != graphqlType {
		one.Query = ""
		if json.Unmarshal(body, &one) != nil {
			return fhir.Errorf(fhir.Structure, "the body is not the JSON of a GraphQL request")
		}
	}
	for _, p := range []search.Param{{Name: "query", Value: one.Query}, {Name: "operationName", Value: one.OperationName}, {Name: "variables", Value: string(one.Variables)}} {
		if p.Value != "" && p.Value != "null" {
			req.params = append(req.params, p)
			req.query += "&" + p.Name + "=" + url.QueryEscape(p.Value) // for the audit trail
		}
	}
	return nil
}

// parseGraphQL reads the query.
func parseGraphQL(req *request) error {
	q := req.in.text("query")
	if len(q) > maxGraphText {
		return fhir.Errorf(fhir.TooLong, "a query has at most %d bytes", maxGraphText)
	}
	doc, err := parser.ParseQueryWithTokenLimit(&ast.Source{Input: q}, maxGraphTokens)
	if err != nil {
		where := ""
		if e, ok := err.(*gqlerror.Error); ok && len(e.Locations) > 0 {
			where = " at line " + strconv.Itoa(e.Locations[0].Line) + ", column " + strconv.Itoa(e.Locations[0].Column)
		}
		return fhir.Errorf(fhir.Invalid, "the query is malformed or too long%s", where)
	}
	g := graphQuery{fragments: doc.Fragments}
	if name := req.in.text("operationName"); name != "" || len(doc.Operations) == 1 {
		g.operation = doc.Operations.ForName(name)
	}
	if g.operation == nil {
		return fhir.Errorf(fhir.Invalid, "parameter operationName must name one of the operations of the query")
	}
	if g.operation.Operation != ast.Query {
		return fhir.Errorf(fhir.NotSupported, "GraphQL reads only: mutations and subscriptions are not served")
	}
	if err := g.setVariables(req.in.text("variables")); err != nil {
		return err
	}
	if g.depth(g.operation.SelectionSet, map[string]int{}) > maxGraphDepth {
		return fhir.Errorf(fhir.TooCostly, "a query nests at most %d deep, and no fragment is part of itself", maxGraphDepth)
	}
	req.graph = &g
	return nil
}

// setVariables reads the values of the variables, over their defaults.
func (q *graphQuery) setVariables(text string) error {
	q.variables = map[string]any{}
	if text != "" {
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		if d.Decode(&q.variables) != nil {
			return fhir.Errorf(fhir.Invalid, "parameter variables is no JSON object")
		}
	}
	for _, v := range q.operation.VariableDefinitions {
		if _, ok := q.variables[v.Variable]; !ok && v.DefaultValue != nil {
			value, err := v.DefaultValue.Value(nil)
			if err != nil {
				return fhir.Errorf(fhir.Invalid, "the default of a variable is malformed")
			}
			q.variables[v.Variable] = value
		}
	}
	return nil
}

// depth returns how deep a selection nests, more than maxGraphDepth if a
// fragment is part of itself. known holds what is known of fragments.
func (q *graphQuery) depth(set ast.SelectionSet, known map[string]int) int {
	deepest := 0
	for _, s := range set {
		below := 0
		switch s := s.(type) {
		case *ast.Field:
			below = 1 + q.depth(s.SelectionSet, known)
		case *ast.InlineFragment:
			below = q.depth(s.SelectionSet, known)
		case *ast.FragmentSpread:
			f := q.fragments.ForName(s.Name)
			if f == nil {
				continue // collect says so
			}
			if _, ok := known[s.Name]; !ok {
				known[s.Name] = maxGraphDepth + 1 // until it is known
				known[s.Name] = q.depth(f.SelectionSet, known)
			}
			below = known[s.Name]
		}
		deepest = max(deepest, below)
	}
	return deepest
}

// graphql answers with what the query selects.
func graphql(ctx context.Context, v *store.View, req *request) (*response, error) {
	g := &graph{View: v, graphQuery: *req.graph, req: req}
	var data []byte
	var err error
	if req.ref.ID == "" {
		data, err = g.system(ctx)
	} else {
		data, err = g.instance(ctx)
	}
	if err != nil {
		return nil, err
	}
	body := slices.Concat([]byte(`{"data":`), data)
	if g.missed > 0 {
		body = append(body, `,"errors":[{"message":`...)
		body = append(quote(body, strconv.Itoa(g.missed)+" of what the query refers to: "+notFound), `}]`...)
	}
	return &response{status: http.StatusOK, body: append(body, '}'), contentType: "application/json"}, nil
}

// A graph is one answer in the making. A field is looked up for all objects at
// once, so that what many refer to is read in one statement.
type graph struct {
	*store.View
	graphQuery
	req    *request
	fields int
	reads  int
	finds  int
	bytes  int
	missed int
}

// A spot is an object of which fields are selected.
type spot struct {
	t    *r4.Type
	json []byte
	// in is the resource that it is part of, and ref its name.
	in  []byte
	ref fhir.Ref
}

func resourceSpot(r fhir.Resource) spot {
	return spot{r4.TypeOf(string(r.Ref.Type)), r.Body, r.Body, r.Ref}
}

var null = []byte("null")

// instance selects from the resource in the path.
func (g *graph) instance(ctx context.Context) ([]byte, error) {
	r, err := g.Read(ctx, g.req.ref)
	if err != nil {
		return nil, err
	}
	all, err := g.objects(ctx, []spot{resourceSpot(r)}, g.operation.SelectionSet)
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// system selects resources: Patient(id: …) reads one, PatientList(…) and
// PatientConnection(…) search.
func (g *graph) system(ctx context.Context) ([]byte, error) {
	fields, err := g.collect(nil, g.operation.SelectionSet)
	if err != nil {
		return nil, err
	}
	out := []byte{'{'}
	for _, f := range fields {
		var value []byte
		name, answer := g.listed(f.Name)
		switch t := fhir.Type(name); {
		case f.Name == "__typename":
			value = []byte(`"Query"`)
		case !t.Known() || t == auditEvent:
			return nil, unknownField(f.Name)
		case answer != nil:
			value, err = answer(ctx, f, t)
		default:
			value, err = g.one(ctx, f, t)
		}
		if err != nil {
			return nil, err
		}
		out = appendMember(out, f.Alias, value)
	}
	return append(out, '}'), nil
}

// listed returns the type of which a field lists resources, and what answers it;
// nil if it lists none.
func (g *graph) listed(name string) (string, func(context.Context, *graphField, fhir.Type, ...search.Param) ([]byte, error)) {
	if t, many := strings.CutSuffix(name, "List"); many && t != "" {
		return t, g.search
	}
	if t, many := strings.CutSuffix(name, "Connection"); many {
		return t, g.connection
	}
	return name, nil
}

func appendMember(out []byte, name string, value []byte) []byte {
	if len(out) > 1 {
		out = append(out, ',')
	}
	return append(append(quote(out, name), ':'), value...)
}

func unknownField(name string) error {
	if !plainName(name) {
		name = "of that name"
	}
	return fhir.Errorf(fhir.NotSupported, "there is no field %s where the query selects it", name)
}

// one reads one resource.
func (g *graph) one(ctx context.Context, f *graphField, t fhir.Type) ([]byte, error) {
	args, err := g.arguments(f)
	if err != nil {
		return nil, err
	}
	if len(args) != 1 || args[0].Name != "id" || !fhir.ValidID(args[0].Value) {
		return nil, fhir.Errorf(fhir.Invalid, "field %s has the argument id", t)
	}
	ref := fhir.Ref{Type: t, ID: args[0].Value}
	found, err := g.fetch(ctx, []fhir.Ref{ref})
	if err != nil {
		return nil, err
	}
	r, ok := found[ref]
	if !ok {
		g.missed++
		return null, nil
	}
	all, err := g.objects(ctx, []spot{resourceSpot(r)}, f.selected)
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// fetch reads resources. What the token does not allow is missing, like what is
// hidden or is not there.
func (g *graph) fetch(ctx context.Context, refs []fhir.Ref) (map[fhir.Ref]fhir.Resource, error) {
	if g.reads += len(refs); g.reads > maxGraphReads {
		return nil, fhir.Errorf(fhir.TooCostly, "a query reads at most %d resources", maxGraphReads)
	}
	return g.ReadAll(ctx, refs...)
}

// search answers a list of resources, with more conditions.
func (g *graph) search(ctx context.Context, f *graphField, t fhir.Type, and ...search.Param) ([]byte, error) {
	_, page, _, err := g.find(ctx, f, t, false, and)
	if err != nil {
		return nil, err
	}
	all, err := g.matches(ctx, f, page)
	if err != nil {
		return nil, err
	}
	return jsonList(all), nil
}

// matches selects from the resources of a page.
func (g *graph) matches(ctx context.Context, f *graphField, page *store.Page) ([][]byte, error) {
	spots := make([]spot, len(page.Matches))
	for i, r := range page.Matches {
		spots[i] = resourceSpot(r)
	}
	return g.objects(ctx, spots, f.selected)
}

// find runs the search that the arguments of a field ask for, with more
// conditions, from the cursor on that is among them.
func (g *graph) find(ctx context.Context, f *graphField, t fhir.Type, counts bool, and []search.Param) (*search.Query, *store.Page, store.Cursor, error) {
	at := store.Cursor{Page: 1}
	params, err := g.arguments(f)
	if err != nil {
		return nil, nil, at, err
	}
	if g.finds++; g.finds > maxGraphFinds {
		return nil, nil, at, fhir.Errorf(fhir.TooCostly, "a query searches at most %d times", maxGraphFinds)
	}
	if len(params) == 1 && params[0].Name == "_cursor" && strings.HasSuffix(f.Name, "Connection") {
		at, params, err = g.further(ctx, params[0].Value, t, and)
	} else {
		params, err = searchArguments(params)
		params = append(params, and...)
	}
	if err != nil {
		return nil, nil, at, err
	}
	sub := *g.req
	sub.params, sub.cursor, sub.prefer = params, nil, preference{}
	q, err := searchQuery(t, &sub)
	if err != nil {
		return nil, nil, at, err
	}
	if q.Count = min(max(q.Count, 1), maxGraphPage); counts {
		q.Total = search.TotalAccurate
	}
	page, err := g.SearchFrom(ctx, q, at)
	if err != nil {
		return nil, nil, at, err
	}
	if g.reads += len(page.Matches); g.reads > maxGraphReads {
		return nil, nil, at, fhir.Errorf(fhir.TooCostly, "a query reads at most %d resources", maxGraphReads)
	}
	return q, page, at, nil
}

// searchArguments makes parameters of search of the arguments of a field. A
// hyphen and a colon cannot be part of a name in GraphQL: they are written _ and
// __, as in birthdate__missing or code_value_quantity.
func searchArguments(args []search.Param) ([]search.Param, error) {
	for i, p := range args {
		if p.Name != "_count" && p.Name != "_sort" && p.Name != "_offset" && slices.Contains(notCriteria, p.Name) || p.Name == "_cursor" {
			return nil, fhir.Errorf(fhir.NotSupported, "a search has no argument %s here", p.Name)
		}
		if len(p.Name) > 1 {
			name, modifier, modified := strings.Cut(p.Name[1:], "__")
			if name = p.Name[:1] + strings.ReplaceAll(name, "_", "-"); modified {
				name += ":" + strings.ReplaceAll(modifier, "_", "-")
			}
			args[i].Name = name
		}
	}
	return args, nil
}

// arguments are those of a field, as texts.
func (g *graph) arguments(f *graphField) ([]search.Param, error) {
	var list []search.Param
	for _, a := range f.Arguments {
		value, err := a.Value.Value(g.variables)
		if err != nil {
			return nil, fhir.Errorf(fhir.Invalid, "an argument of the query is malformed")
		}
		text, ok := argumentText(value)
		if !ok {
			return nil, fhir.Errorf(fhir.Invalid, "an argument of the query is neither a value nor a list of values")
		}
		list = append(list, search.Param{Name: a.Name, Value: text})
	}
	return list, nil
}

// argumentText writes a value as search takes it. Those of a list are
// alternatives.
func argumentText(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	case json.Number:
		return v.String(), true
	case []any:
		var texts []string
		for _, x := range v {
			if _, nested := x.([]any); nested {
				return "", false
			}
			s, ok := argumentText(x)
			if !ok {
				return "", false
			}
			texts = append(texts, s)
		}
		return strings.Join(texts, ","), true
	}
	return "", false
}

// A graphField is a field of an object, with all that is selected of it.
type graphField struct {
	*ast.Field
	selected ast.SelectionSet
}

// collect returns the fields that are selected of objects of the type; of the
// system, if it is nil.
// https://spec.graphql.org/October2021/#sec-Field-Collection
func (g *graph) collect(t *r4.Type, set ast.SelectionSet) ([]*graphField, error) {
	var fields []*graphField
	var err error
	walked := map[string]bool{} // fragments
	var walk func(ast.SelectionSet)
	walk = func(set ast.SelectionSet) {
		for _, s := range set {
			if err != nil {
				return
			}
			switch s := s.(type) {
			case *ast.Field:
				if g.skips(s.Directives, &err) {
					continue
				}
				at := slices.IndexFunc(fields, func(f *graphField) bool { return f.Alias == s.Alias })
				switch {
				case at < 0:
					fields = append(fields, &graphField{s, slices.Clone(s.SelectionSet)})
				case fields[at].Name != s.Name || len(fields[at].Arguments)+len(s.Arguments) > 0:
					err = fhir.Errorf(fhir.Invalid, "two fields of the query have one name; give one an alias")
				default:
					fields[at].selected = append(fields[at].selected, s.SelectionSet...)
				}
			case *ast.InlineFragment:
				if !g.skips(s.Directives, &err) && covers(s.TypeCondition, t) {
					walk(s.SelectionSet)
				}
			case *ast.FragmentSpread:
				f := g.fragments.ForName(s.Name)
				if walked[s.Name] {
					continue
				}
				if f == nil {
					err = fhir.Errorf(fhir.Invalid, "the query uses a fragment that it does not define")
				} else if !g.skips(s.Directives, &err) && covers(f.TypeCondition, t) {
					walked[s.Name] = true
					walk(f.SelectionSet)
				}
			}
		}
	}
	walk(set)
	return fields, err
}

// covers reports whether a fragment on condition is about objects of the type.
func covers(condition string, t *r4.Type) bool {
	if t == nil {
		return condition == "" || condition == "Query"
	}
	return condition == "" || condition == t.Path || fhir.Type(t.Path).Known() && (condition == "Resource" || condition == "DomainResource")
}

// skips reads @skip and @include. There are no other directives.
func (g *graph) skips(list ast.DirectiveList, err *error) bool {
	for _, d := range list {
		a := d.Arguments.ForName("if")
		if d.Name != "skip" && d.Name != "include" || a == nil {
			*err = fhir.Errorf(fhir.NotSupported, "the directives of a query are @skip and @include")
			return true
		}
		value, verr := a.Value.Value(g.variables)
		is, ok := value.(bool)
		if verr != nil || !ok {
			*err = fhir.Errorf(fhir.Invalid, "the argument of a directive is true or false")
			return true
		}
		if is == (d.Name == "skip") {
			return true
		}
	}
	return false
}

// objects answers what is selected of each spot.
func (g *graph) objects(ctx context.Context, spots []spot, set ast.SelectionSet) ([][]byte, error) {
	if len(set) == 0 {
		return nil, selectsNothing()
	}
	out := make([][]byte, len(spots))
	byType := map[*r4.Type][]int{}
	var types []*r4.Type
	for i, s := range spots {
		if byType[s.t] == nil {
			types = append(types, s.t)
		}
		byType[s.t] = append(byType[s.t], i)
		out[i] = []byte{'{'}
	}
	for _, t := range types {
		fields, err := g.collect(t, set)
		if err != nil {
			return nil, err
		}
		some := make([]spot, len(byType[t]))
		for k, i := range byType[t] {
			some[k] = spots[i]
		}
		for _, f := range fields {
			if g.fields += len(some); g.fields > maxGraphFields {
				return nil, fhir.Errorf(fhir.TooCostly, "the answer has more than %d fields", maxGraphFields)
			}
			values, err := g.field(ctx, f, t, some)
			if err != nil {
				return nil, err
			}
			for k, i := range byType[t] {
				if g.bytes += len(values[k]); g.bytes > maxGraphBytes*maxGraphDepth {
					return nil, fhir.Errorf(fhir.TooCostly, "the answer is longer than %d bytes", maxGraphBytes)
				}
				out[i] = appendMember(out[i], f.Alias, values[k])
			}
		}
	}
	for i := range out {
		out[i] = append(out[i], '}')
	}
	return out, nil
}

func selectsNothing() error {
	return fhir.Errorf(fhir.Invalid, "the query selects nothing of an object")
}

// field answers one field of each spot, all of which are of the type.
func (g *graph) field(ctx context.Context, f *graphField, t *r4.Type, spots []spot) ([][]byte, error) {
	ofResource := fhir.Type(t.Path).Known()
	list, answer := g.listed(f.Name)
	switch e := t.Element(strings.TrimPrefix(f.Name, "_")); {
	case f.Name == "__typename" || f.Name == "resourceType" && ofResource:
		return each(spots, func(spot) ([]byte, error) { return quote(nil, t.Path), nil })
	case f.Name == "resource" && t.Path == "Reference":
		return g.referred(ctx, f, spots)
	case e == nil && answer != nil && ofResource && fhir.Type(list).Known() && fhir.Type(list) != auditEvent:
		return each(spots, func(s spot) ([]byte, error) { return g.referring(ctx, f, s, fhir.Type(list)) })
	case e == nil:
		return nil, unknownField(f.Name)
	case f.Name[0] == '_':
		if e.Complex() != nil {
			return nil, unknownField(f.Name)
		}
		return g.elements(ctx, f, r4.TypeOf("Element"), spots)
	case e.Complex() != nil:
		return g.elements(ctx, f, e.Complex(), spots)
	}
	if len(f.selected) > 0 || len(f.Arguments) > 0 {
		return nil, fhir.Errorf(fhir.Invalid, "field %s is a primitive: nothing can be selected of it", f.Name)
	}
	return each(spots, func(s spot) ([]byte, error) {
		if v := member(s.json, f.Name); v != nil {
			return v, nil
		}
		return null, nil
	})
}

func each(spots []spot, fn func(spot) ([]byte, error)) ([][]byte, error) {
	out := make([][]byte, len(spots))
	for i, s := range spots {
		var err error
		if out[i], err = fn(s); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// elements answers an element that is an object, or a list of objects of which
// the arguments choose some.
func (g *graph) elements(ctx context.Context, f *graphField, t *r4.Type, spots []spot) ([][]byte, error) {
	args, err := g.arguments(f)
	if err != nil {
		return nil, err
	}
	type span struct {
		from, to int
		list     bool
	}
	var inner []spot
	spans := make([]span, len(spots))
	for i, s := range spots {
		value := member(s.json, f.Name)
		spans[i] = span{from: len(inner), list: len(value) > 0 && value[0] == '['}
		items := list(value)
		if !spans[i].list && value != nil {
			items = [][]byte{value}
		}
		if items, err = choose(items, args, t); err != nil {
			return nil, err
		}
		for _, item := range items {
			of := t
			if t.Path == "Resource" {
				of = r4.TypeOf(text(member(item, "resourceType")))
			}
			if of != nil && item[0] == '{' {
				inner = append(inner, spot{of, item, s.in, s.ref})
			}
		}
		spans[i].to = len(inner)
	}
	all, err := g.objects(ctx, inner, f.selected)
	if err != nil {
		return nil, err
	}
	out := make([][]byte, len(spots))
	for i, s := range spans {
		switch {
		case s.list:
			out[i] = slices.Concat([]byte{'['}, bytes.Join(all[s.from:s.to], []byte{','}), []byte{']'})
		case s.to > s.from:
			out[i] = all[s.from]
		default:
			out[i] = null
		}
	}
	return out, nil
}

// choose keeps the items of a list whose elements are as the arguments say, and
// of those _count from _offset on.
// https://hl7.org/fhir/R4/graphql.html#list
func choose(items [][]byte, args []search.Param, t *r4.Type) ([][]byte, error) {
	from, count := 0, len(items)
	for _, a := range args {
		n, err := strconv.Atoi(a.Value)
		number := err == nil && n >= 0
		switch e := t.Element(a.Name); {
		case a.Name == "_offset" && number:
			from = n
		case a.Name == "_count" && number:
			count = n
		case e != nil && e.Complex() == nil && !e.Many():
			items = slices.DeleteFunc(items, func(item []byte) bool {
				v := member(item, a.Name)
				return text(v) != a.Value && string(v) != a.Value
			})
		default:
			return nil, fhir.Errorf(fhir.NotSupported, "a list is narrowed by _count, _offset and the primitive elements of its items")
		}
	}
	from = min(from, len(items))
	return items[from:min(from+min(count, len(items)), len(items))], nil
}

// referred answers what References refer to: resources of this tenant, and
// contained ones.
func (g *graph) referred(ctx context.Context, f *graphField, spots []spot) ([][]byte, error) {
	args, err := g.arguments(f)
	if err != nil {
		return nil, err
	}
	optional, only := false, ""
	for _, a := range args {
		switch a.Name {
		case "optional":
			optional = a.Value == "true"
		case "type":
			only = a.Value
		default:
			return nil, fhir.Errorf(fhir.NotSupported, "field resource has the arguments optional and type")
		}
	}
	refs := make([]fhir.Ref, len(spots))
	inner := make([]*spot, len(spots))
	var wanted []fhir.Ref
	for i, s := range spots {
		reference := text(member(s.json, "reference"))
		if id, local := strings.CutPrefix(reference, "#"); local {
			inner[i] = s.contained(id)
			continue
		}
		plain, _, _ := strings.Cut(strings.TrimPrefix(reference, g.req.base+"/"), "/_history/")
		if ref, err := fhir.ParseRef(plain); err == nil && ref.Type != auditEvent {
			if refs[i] = ref; !slices.Contains(wanted, ref) {
				wanted = append(wanted, ref)
			}
		}
	}
	found, err := g.fetch(ctx, wanted)
	if err != nil {
		return nil, err
	}
	var some []spot
	at := make([]int, len(spots))
	for i := range spots {
		if r, ok := found[refs[i]]; ok {
			s := resourceSpot(r)
			inner[i] = &s
		}
		at[i] = -1
		switch {
		case inner[i] == nil && !optional && member(spots[i].json, "reference") != nil:
			g.missed++
		case inner[i] != nil && (only == "" || only == inner[i].t.Path):
			at[i] = len(some)
			some = append(some, *inner[i])
		}
	}
	all, err := g.objects(ctx, some, f.selected)
	if err != nil {
		return nil, err
	}
	out := make([][]byte, len(spots))
	for i, k := range at {
		if out[i] = null; k >= 0 {
			out[i] = all[k]
		}
	}
	return out, nil
}

// contained returns the contained resource with the id, nil if there is none.
func (s spot) contained(id string) *spot {
	for _, c := range list(member(s.in, "contained")) {
		t := r4.TypeOf(text(member(c, "resourceType")))
		if t != nil && text(member(c, "id")) == id {
			return &spot{t, c, s.in, s.ref}
		}
	}
	return nil
}

// referring answers the resources that refer to a resource by the search
// parameter that the argument _reference names.
func (g *graph) referring(ctx context.Context, f *graphField, s spot, t fhir.Type) ([]byte, error) {
	if !bytes.Equal(s.json, s.in) {
		return nil, fhir.Errorf(fhir.NotSupported, "nothing refers to a contained resource")
	}
	one := *f.Field
	by := one.Arguments.ForName("_reference")
	if by == nil {
		return nil, fhir.Errorf(fhir.Invalid, "a list within a resource has the argument _reference")
	}
	value, err := by.Value.Value(g.variables)
	name, ok := value.(string)
	if err != nil || !ok || !slices.ContainsFunc(search.Parameters(t), func(p search.Parameter) bool { return p.Type == "reference" && p.Name == name }) {
		return nil, fhir.Errorf(fhir.Invalid, "the argument _reference names a search parameter of type reference")
	}
	one.Arguments = slices.DeleteFunc(slices.Clone(one.Arguments), func(a *ast.Argument) bool { return a == by })
	_, answer := g.listed(f.Name)
	return answer(ctx, &graphField{&one, f.selected}, t, search.Param{Name: name, Value: s.ref.String()})
}
