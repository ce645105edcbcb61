package rest

import (
	"context"
	"log/slog"
	"strings"
	"sync"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
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
	attrs := []slog.Attr{
		slog.String("method", method(c.http.Method)), slog.String("route", pattern), slog.String("tenant", slug),
		slog.Int("status", resp.status), slog.Duration("took", took), slog.String("request", c.origin.RequestID),
		slog.Any("params", c.req.names()),
	}
	level := slog.LevelInfo
	if resp.status >= 500 && c.err != nil {
		level = slog.LevelError
		attrs = append(attrs, slog.String("error", c.err.Error()))
	}
	if !c.refused.silent() {
		c.Log.LogAttrs(ctx, level, "request", attrs...)
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
