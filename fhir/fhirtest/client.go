package fhirtest

import (
	"net/http"
	"strings"
)

// SetHeaders sets those that a client with the bearer sends, and then those of
// the pairs, of which an empty value takes a header away.
func SetHeaders(r *http.Request, bearer string, pairs ...string) {
	r.Header.Set("Authorization", "Bearer "+bearer)
	switch {
	case r.Method == http.MethodPatch:
		r.Header.Set("Content-Type", "application/json-patch+json")
	case strings.Contains(r.URL.Path, "/_search"):
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	case r.Method == http.MethodPost || r.Method == http.MethodPut:
		r.Header.Set("Content-Type", "application/fhir+json")
	}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			r.Header.Del(pairs[i])
		} else {
			r.Header.Set(pairs[i], pairs[i+1])
		}
	}
}

// At walks into JSON: names of members and places in lists. It is nil where
// there is nothing.
func At(v any, path ...any) any {
	for _, p := range path {
		switch p := p.(type) {
		case string:
			m, _ := v.(map[string]any)
			v = m[p]
		case int:
			l, _ := v.([]any)
			if p >= len(l) {
				return nil
			}
			v = l[p]
		}
	}
	return v
}
