package rest

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/tenant"
)

// into puts the names in a path into a request.
func (p place) into(req *request) error {
	req.does, req.of = p.route.does, p.of
	if o := p.route.operation; o != nil {
		req.called, req.tables, req.view = o.name, o.tables, p.view
	}
	req.ref = fhir.Ref{Type: fhir.Type(p.typ)}
	if p.typ != "" && !req.ref.Type.Known() {
		return fhir.Errorf(fhir.NotSupported, "there is no such resource type").WithStatus(http.StatusNotFound)
	}
	if req.ref.Type == auditEvent && req.does != fhir.Read && req.does != fhir.SearchType && req.does != fhir.Operation {
		return fhir.Errorf(fhir.NotSupported, "the audit trail can be read and searched only").WithStatus(http.StatusMethodNotAllowed)
	}
	if p.job != "" {
		id, err := uuid.Parse(p.job)
		if err != nil {
			return fhir.Errorf(fhir.NotFound, "malformed id")
		}
		req.job, req.file = id.String(), p.file
	}
	if p.id != "" {
		if !fhir.ValidID(p.id) {
			if req.does == fhir.Update {
				return fhir.Errorf(fhir.Invalid, "malformed id")
			}
			return fhir.Errorf(fhir.NotFound, "malformed id")
		}
		req.ref.ID = p.id
	}
	if p.version != "" {
		v, err := strconv.ParseInt(p.version, 10, 64)
		if err != nil || v < 1 || p.version[0] == '+' {
			return fhir.Errorf(fhir.NotFound, "malformed version")
		}
		req.version = v
	}
	return nil
}

// shape returns the path with every segment that could not be one of this API
// as "?", and no more than eight segments.
func shape(path string) string {
	segments := strings.SplitN(path, "/", 10)
	segments = segments[:min(len(segments), 9)]
	for i, s := range segments {
		if s != "" && !fhir.ValidID(strings.Trim(s, "$_*")) && s != "*" {
			segments[i] = "?"
		}
	}
	return strings.Join(segments, "/")
}

// plainPath returns the path of a request, given in its escaped form, if it is
// spelled as the paths of this API are: segments of letters, digits and -._~$*
// that neither are empty nor dots alone. Only $ and * may be escaped, and only
// behind the tenant.
func plainPath(escaped string) (string, bool) {
	path := escaped
	if strings.Contains(path, "%") {
		rest, ok := strings.CutPrefix(path, "/fhir/")
		slug, below, found := strings.Cut(rest, "/")
		if !ok || !found {
			return "", false
		}
		below = strings.NewReplacer("%24", "$", "%2A", "*", "%2a", "*").Replace(below)
		path = "/fhir/" + slug + "/" + below
	}
	if len(path) == 0 || path[0] != '/' {
		return "", false
	}
	for segment := range strings.SplitSeq(strings.TrimSuffix(path[1:], "/"), "/") {
		if strings.Trim(segment, ".") == "" {
			return "", false
		}
		for i := 0; i < len(segment); i++ {
			c := segment[i]
			if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && strings.IndexByte("-._~$*", c) < 0 {
				return "", false
			}
		}
	}
	return path, true
}

// tenantOf returns the slug in a path that is not plain, so that a slip in the
// rest of it is answered as one. It is "" if the rest could be meant to lead
// out of the tenant.
func tenantOf(escaped string) string {
	rest, _ := strings.CutPrefix(escaped, "/fhir/")
	text, below, _ := strings.Cut(rest, "/")
	slug, err := tenant.ParseSlug(text)
	if err != nil {
		return ""
	}
	below = "/" + strings.ToLower(below)
	for _, trick := range []string{"..", "/./", "//", "%2e", "%2f", "%5c", ";"} {
		if strings.Contains(below, trick) {
			return ""
		}
	}
	return slug.String()
}
