package rest

import (
	"bytes"
	"context"
	"slices"
	"strconv"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/store"
)

// connection answers a search page by page: the page, how many there are, and
// the cursor of the next one, which is given back as the argument _cursor.
// https://hl7.org/fhir/R4/graphql.html#searching
func (g *graph) connection(ctx context.Context, f *graphField, t fhir.Type, and ...search.Param) ([]byte, error) {
	fields, err := g.parts(f)
	if err != nil {
		return nil, err
	}
	counts := slices.ContainsFunc(fields, func(f *graphField) bool { return f.Name == "count" })
	q, page, at, err := g.find(ctx, f, t, counts, and)
	if err != nil {
		return nil, err
	}
	out := []byte{'{'}
	for _, f := range fields {
		value := null
		switch f.Name {
		case "__typename":
			value = quote(nil, string(t)+"Connection")
		case "count":
			if page.Total != nil {
				value = strconv.AppendInt(nil, int64(*page.Total), 10)
			}
		case "offset":
			value = strconv.AppendInt(nil, int64(q.Offset+(at.Page-1)*q.Count), 10)
		case "pagesize":
			value = strconv.AppendInt(nil, int64(q.Count), 10)
		case "next":
			if page.Next != "" {
				value = quote(nil, page.Next)
			}
		case "first", "previous", "last": // pages lead forward alone
		case "edges":
			value, err = g.edges(ctx, f, page)
		default:
			err = unknownField(f.Name)
		}
		if err != nil {
			return nil, err
		}
		out = appendMember(out, f.Alias, value)
	}
	return append(out, '}'), nil
}

// edges answers the resources of a page, each with how it came into it.
func (g *graph) edges(ctx context.Context, f *graphField, page *store.Page) ([]byte, error) {
	fields, err := g.parts(f)
	if err != nil {
		return nil, err
	}
	out := make([][]byte, len(page.Matches))
	for i := range out {
		out[i] = []byte{'{'}
	}
	for _, f := range fields {
		values := make([][]byte, len(page.Matches))
		switch f.Name {
		case "__typename":
			fill(values, []byte(`"Edge"`))
		case "mode":
			fill(values, []byte(`"match"`))
		case "score": // a search has none
			fill(values, null)
		case "resource":
			values, err = g.matches(ctx, f, page)
		default:
			err = unknownField(f.Name)
		}
		if err != nil {
			return nil, err
		}
		for i := range out {
			out[i] = appendMember(out[i], f.Alias, values[i])
		}
	}
	for i := range out {
		out[i] = append(out[i], '}')
	}
	return jsonList(out), nil
}

// parts returns the fields that are selected of a connection or an edge.
func (g *graph) parts(f *graphField) ([]*graphField, error) {
	if len(f.selected) == 0 {
		return nil, selectsNothing()
	}
	return g.collect(nil, f.selected)
}

func fill(values [][]byte, with []byte) {
	for i := range values {
		values[i] = with
	}
}

// jsonList is the JSON of a list of values.
func jsonList(values [][]byte) []byte {
	return slices.Concat([]byte{'['}, bytes.Join(values, []byte{','}), []byte{']'})
}

// further opens a cursor, which must be of the type and of the same conditions:
// what was asked is in it.
func (g *graph) further(ctx context.Context, sealed string, t fhir.Type, and []search.Param) (store.Cursor, []search.Param, error) {
	wrong := fhir.Errorf(fhir.Invalid, "the argument _cursor is not known or no longer available")
	c, err := g.OpenCursor(ctx, sealed)
	if err != nil && !isClientError(err) {
		return c, nil, err
	}
	params, perr := search.ParseQuery(c.Query)
	if err != nil || perr != nil || c.Interaction != fhir.SearchType || c.Operation != "" || c.Ref != (fhir.Ref{Type: t}) {
		return c, nil, wrong
	}
	for _, p := range and {
		if !slices.Contains(params, p) {
			return c, nil, wrong
		}
	}
	return c, params, nil
}
