package rest

import (
	"context"
	"log/slog"
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
	c.Log.LogAttrs(ctx, level, "request", attrs...)
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

// names lists the names of the parameters, so far as they look like names.
func (req *request) names() []string {
	var names []string
	for _, p := range req.params {
		if !plainName(p.Name) {
			p.Name = "?"
		}
		names = append(names, p.Name)
	}
	return names
}

// plainName reports whether s is made as names of search parameters are, and
// can be shown.
func plainName(s string) bool {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-' && r != '_' && r != ':' && r != '.' {
			return false
		}
	}
	return len(s) > 0 && len(s) <= 64
}
