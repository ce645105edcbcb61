package tenant

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Import says from where imports fetch what they store.
type Import struct {
	// Sources are the beginnings of the URLs that may be fetched, each with a slash
	// at its end: of servers, or s3://BUCKET/PREFIX/ of an object store; none means
	// that everything is uploaded.
	Sources []string `json:"sources,omitempty"`
}

func (i Import) check() error {
	for _, s := range i.Sources {
		if !serverURL(s) && !objectURL(s) || !strings.HasSuffix(s, "/") || !plainURL(s) {
			return errors.New("import.sources has to be a list of http, https or s3 URLs with a slash at their end, without user, query or fragment")
		}
	}
	if err := checkURLs("import.sources", i.Sources); err != nil {
		return fmt.Errorf("tenant: %w", err)
	}
	return nil
}

// Source returns the source of a URL that may be fetched. It has a query if the
// server at the source wants one.
func (i Import) Source(text string) (source string, ok bool) {
	if !plainURL(text) || strings.HasPrefix(text, "s3:") && !objectURL(text) {
		return "", false
	}
	for _, s := range i.Sources {
		if len(text) > len(s) && strings.HasPrefix(text, s) {
			return s, true
		}
	}
	return "", false
}

// objectURL reports whether text is s3://BUCKET/ and what begins the name of an
// object, as it is: nothing in it is escaped.
func objectURL(text string) bool {
	name, ok := strings.CutPrefix(text, "s3://")
	bucket, _, below := strings.Cut(name, "/")
	return ok && below && len(bucket) >= 3 && len(bucket) <= 63 &&
		strings.Trim(bucket, "abcdefghijklmnopqrstuvwxyz0123456789.-") == "" && !strings.ContainsAny(name, "%?")
}

// maxSourceURL bounds the bytes of a URL that is fetched.
const maxSourceURL = 2048

// plainURL reports whether text is a URL whose path leads nowhere but down, however
// the server at its end reads it.
func plainURL(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || len(text) > maxSourceURL || strings.ContainsAny(text, "\\#@ \t\r\n") {
		return false
	}
	path := strings.ToLower(u.EscapedPath())
	for _, trick := range []string{"//", "%2e", "%2f", "%5c", "%25", ";"} {
		if strings.Contains(path, trick) {
			return false
		}
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return false
		}
	}
	return true
}
