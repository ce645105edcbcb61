package rest

import (
	"net/http"
	"strings"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
)

// A preference is what Prefer asks for. The first word on a matter counts.
// https://hl7.org/fhir/R4/http.html#ops
// https://www.rfc-editor.org/rfc/rfc7240
type preference struct {
	returns  string // "minimal", "representation", "OperationOutcome" or ""
	handling string // "strict", "lenient" or ""
	async    bool   // respond-async
	separate bool   // separate-export-status
}

// parsePrefer reads the fields of Prefer. What it does not know it passes
// over, as the RFC asks.
func parsePrefer(fields []string) preference {
	var p preference
	for _, f := range fields {
		for _, word := range strings.FieldsFunc(f, func(r rune) bool { return r == ',' || r == ';' }) {
			name, value, _ := strings.Cut(word, "=")
			value = strings.Trim(strings.TrimSpace(value), `"`)
			switch strings.ToLower(strings.TrimSpace(name)) {
			case "return":
				if p.returns == "" && (value == "minimal" || value == "representation" || value == "OperationOutcome") {
					p.returns = value
				}
			case "respond-async":
				p.async = true
			case "separate-export-status":
				p.separate = true
			case "handling":
				if p.handling == "" && (value == "strict" || value == "lenient") {
					p.handling = value
				}
			}
		}
	}
	return p
}

// Conditions are the preconditions of a request, from its headers or from the
// request element of a Bundle entry.
// https://hl7.org/fhir/R4/http.html#concurrency
type conditions struct {
	match         int64 // If-Match: a version; 0 if there is none
	matchAny      bool  // If-Match: *
	noneMatch     string
	modifiedSince time.Time
	noneExist     string
}

// parseConditions reads the preconditions among h.
func parseConditions(h http.Header) (conditions, error) {
	for _, name := range []string{"If-Match", "If-None-Exist"} {
		if len(h.Values(name)) > 1 {
			return conditions{}, fhir.Errorf(fhir.Invalid, "header %s occurs more than once", name)
		}
	}
	c := conditions{noneMatch: strings.Join(h.Values("If-None-Match"), ","), noneExist: h.Get("If-None-Exist")}
	if err := c.setMatch(h.Get("If-Match")); err != nil {
		return conditions{}, err
	}
	// A malformed date is no condition: RFC 9110, 13.1.3.
	if t, err := http.ParseTime(h.Get("If-Modified-Since")); err == nil {
		c.modifiedSince = t
	}
	return c, nil
}

func (c *conditions) setMatch(s string) (err error) {
	switch strings.TrimSpace(s) {
	case "":
	case "*":
		c.matchAny = true
	default:
		c.match, err = fhir.ParseETag(s)
	}
	return err
}

// fresh reports whether the client's copy of r is current: the answer to a
// read is then 304. If-None-Match wins over If-Modified-Since.
// https://hl7.org/fhir/R4/http.html#cread
func (c *conditions) fresh(r fhir.Resource) bool {
	if c.noneMatch == "" {
		return !c.modifiedSince.IsZero() && !r.Updated.Truncate(time.Second).After(c.modifiedSince)
	}
	for tag := range strings.SplitSeq(c.noneMatch, ",") {
		if strings.TrimSpace(tag) == "*" {
			return true
		}
		if v, err := fhir.ParseETag(tag); err == nil && v == r.Version {
			return true
		}
	}
	return false
}

// requestID returns the client's request id if it is well formed: at most 64
// letters, digits, dots, hyphens and underscores.
func requestID(h http.Header) (string, bool) {
	ids := h.Values("X-Request-Id")
	if len(ids) != 1 || len(ids[0]) == 0 || len(ids[0]) > 64 {
		return "", false
	}
	for _, c := range []byte(ids[0]) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '.' && c != '_' {
			return "", false
		}
	}
	return ids[0], true
}

// bearer returns the token of Authorization. Without the header, with two, or
// with another scheme there is none.
// https://www.rfc-editor.org/rfc/rfc6750#section-2.1
func bearer(h http.Header) string {
	fields := h.Values("Authorization")
	if len(fields) != 1 {
		return ""
	}
	scheme, token, _ := strings.Cut(fields[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}
