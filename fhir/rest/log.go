package rest

import (
	"context"
	"strings"
	"sync"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/oplog"
)

// log writes the request's line. It holds no path and no query, for both may
// name a patient.
func (c *call) log(ctx context.Context, resp *response) {
	took := c.Now().Sub(c.begun)
	slug := ""
	if c.grant != nil && c.grant.Tenant() != nil {
		slug = c.grant.Tenant().Slug.String()
	}
	pattern := c.place.pattern
	if pattern == "" {
		pattern = "none"
	}
	fields := []oplog.Field{
		oplog.Method(c.http.Method), oplog.Route(pattern), oplog.Tenant(slug), oplog.Status(resp.status),
		oplog.Took(took), oplog.Request(c.origin.RequestID), oplog.Params(c.req.names()),
	}
	switch {
	case c.refused.silent():
	case resp.status >= 500 && c.err != nil:
		c.Log.Error("request", append(fields, oplog.Cause(c.err))...)
	default:
		c.Log.Info("request", fields...)
	}
	c.Observe(pattern, slug, resp.status, took)
}

// method returns the method if it is one of HTTP's, for a client can send any
// word.
func method(m string) string {
	switch m {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		return m
	}
	return "other"
}

// names lists the names of the parameters, so far as they are the standard's or
// ours: a client can put anything into a name. Of a chain it has the beginning.
func (req *request) names() []string {
	var names []string
	for _, p := range req.params {
		name := p.Name
		if at := strings.IndexAny(name, ":."); at >= 0 {
			name = name[:at]
		}
		if !parameterNames()[name] {
			name = "?"
		}
		names = append(names, name)
	}
	return names
}

// parameterNames are the names of every search parameter, and of those that
// say what an answer looks like.
var parameterNames = sync.OnceValue(func() map[string]bool {
	names := map[string]bool{}
	for _, n := range []string{"_at", "_count", "_elements", "_format", "_has", "_include", "_offset", "_page", "_pretty",
		"_revinclude", "_since", "_sort", "_summary", "_total", "_type"} {
		names[n] = true
	}
	for _, t := range fhir.Types {
		for _, p := range append(search.Parameters(t), search.General(t)...) {
			names[p.Name] = true
		}
	}
	return names
})

// plainName reports whether s is made as names of search parameters are, and
// can be shown to whoever sent it.
func plainName(s string) bool {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-' && r != '_' && r != ':' && r != '.' {
			return false
		}
	}
	return len(s) > 0 && len(s) <= 64
}
