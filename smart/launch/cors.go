package launch

import (
	"context"
	"net/http"
	"net/url"
	"slices"

	"github.com/cordon-fhir/cordon/smart"
)

// An app in a browser may read the answers of its own requests: the pages at
// the origins of its redirect URIs are it. No answer depends on cookies there.
// https://hl7.org/fhir/smart-app-launch/app-launch.html#considerations-for-cross-origin-resource-sharing-cors-support
func cors(h http.Header, r *http.Request, client *smart.Client) {
	origin := r.Header.Get("Origin")
	if origin == "" || client == nil {
		return
	}
	h.Add("Vary", "Origin")
	if slices.ContainsFunc(client.RedirectURIs, func(uri string) bool { return originOf(uri) == origin }) {
		h.Set("Access-Control-Allow-Origin", origin)
	}
}

// preflight tells a browser that a page may ask. Which client it asks for, and
// so whether it may read the answer, is known only then.
func (s *Server) preflight(_ context.Context, c *call) error {
	c.answer = struct{}{}
	c.header.Set("Access-Control-Allow-Origin", "*")
	c.header.Set("Access-Control-Allow-Methods", "POST")
	c.header.Set("Access-Control-Allow-Headers", "Authorization, Content-Type")
	c.header.Set("Access-Control-Max-Age", "600")
	return nil
}

// originOf returns the origin of a URL as browsers write it, "" if it has none.
func originOf(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return ""
	}
	return u.Scheme + "://" + u.Host
}
