package rest

import (
	"net/http"
	"slices"
	"strconv"

	"github.com/cordon-fhir/cordon/oplog"
)

// write sends the answer.
func (c *call) write(resp *response) {
	h := c.writer.Header()
	c.headers(h, resp)
	if resp.file != nil {
		c.sendFile(resp.file)
		return
	}
	body := resp.body
	if len(body) > 0 {
		if c.req.pretty && resp.contentType == "" {
			body = pretty(body)
		}
		h.Set("Content-Type", contentType)
		if resp.contentType != "" {
			h.Set("Content-Type", resp.contentType)
		}
		if len(body) >= 1024 && acceptsGzip(c.http.Header.Values("Accept-Encoding")) {
			body = compress(body)
			h.Set("Content-Encoding", "gzip")
		}
	}
	if resp.status != http.StatusNotModified && resp.status != http.StatusNoContent {
		h.Set("Content-Length", strconv.Itoa(len(body)))
	}
	c.writer.WriteHeader(resp.status)
	if c.http.Method != http.MethodHead {
		// Whoever does not take the answer does not get it; it is audited.
		_, _ = c.writer.Write(body)
	}
}

// Guard sets the headers that every answer of Cordon has: which request it is
// of, and that nothing but its reader is to keep, run or frame it.
func Guard(h http.Header, requestID string) {
	h.Set("X-Request-Id", requestID)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Strict-Transport-Security", "max-age=31536000")
}

// headers sets the headers that all answers have, and those of resp.
func (c *call) headers(h http.Header, resp *response) {
	Guard(h, c.origin.RequestID)
	h.Set("Vary", "Authorization, Accept, Accept-Encoding, Prefer, Origin")
	c.cors(h)
	switch resp.status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", "Bearer")
		if c.http.Header.Get("Authorization") != "" {
			h.Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		}
	case http.StatusMethodNotAllowed:
		h.Set("Allow", c.allowed())
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		h.Set("Retry-After", c.refused.retryAfter())
	}
	if resp.version.Version != 0 {
		h.Set("ETag", resp.version.ETag())
		h.Set("Last-Modified", resp.version.Updated.UTC().Format(http.TimeFormat))
	}
	if resp.location != "" {
		h.Set("Location", resp.location)
	}
	switch resp.applied {
	case "":
	case "respond-async", "respond-async, separate-export-status":
		h.Set("Preference-Applied", resp.applied)
	default:
		h.Set("Preference-Applied", "return="+resp.applied)
	}
	if resp.contentLocation != "" {
		h.Set("Content-Location", resp.contentLocation)
	}
	if resp.progress != "" {
		h.Set("X-Progress", resp.progress)
		h.Set("Retry-After", "1")
	}
	if resp.exportStatus != 0 {
		h.Set("X-Export-Status", strconv.Itoa(resp.exportStatus)+" "+http.StatusText(resp.exportStatus))
	}
	if !resp.expires.IsZero() {
		h.Set("Expires", resp.expires.UTC().Format(http.TimeFormat))
	}
}

// allowed lists the methods for a path.
func (c *call) allowed() string {
	if c.allow != "" {
		return c.allow
	}
	return "GET, HEAD, OPTIONS" // of the audit trail
}

// isApp reports whether the origin is of a registered app. Tokens decide who
// may do what, so that it need not be one of the tenant in the path.
func (c *call) isApp(origin string) bool {
	if c.AppOrigins == nil {
		return false
	}
	origins, err := c.AppOrigins(c.http.Context())
	if err != nil {
		c.Log.Warn("looking up the origins of apps", oplog.Cause(err))
	}
	return slices.Contains(origins, origin)
}

// cors lets browsers of registered origins call, and those of any origin read
// the public documents.
// https://hl7.org/fhir/smart-app-launch/app-launch.html#considerations-for-cross-origin-resource-sharing-cors-support
func (c *call) cors(h http.Header) {
	origin := c.http.Header.Get("Origin")
	switch {
	case origin == "":
		return
	case c.place.route != nil && c.place.route.public != nil:
		h.Set("Access-Control-Allow-Origin", "*")
	case slices.Contains(c.Origins, origin), c.isApp(origin):
		h.Set("Access-Control-Allow-Origin", origin)
	default:
		return
	}
	h.Set("Access-Control-Expose-Headers", "ETag, Location, Content-Location, Expires, Last-Modified, Preference-Applied, Retry-After, X-Progress, X-Request-Id")
	if c.http.Method == http.MethodOptions {
		h.Set("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, PATCH, DELETE")
		h.Set("Access-Control-Allow-Headers", "Accept, Authorization, Content-Type, If-Match, If-Modified-Since, If-None-Exist, If-None-Match, Prefer, X-Request-Id")
		h.Set("Access-Control-Max-Age", "600")
	}
}
