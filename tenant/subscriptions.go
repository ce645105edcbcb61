package tenant

import (
	"errors"
	"fmt"
	"strings"
)

// Subscriptions says where subscribers are told of events.
type Subscriptions struct {
	// Endpoints are the beginnings of the URLs that may be told, each with a slash at
	// its end; none means that nobody is told anything.
	Endpoints []string `json:"endpoints,omitempty"`
}

func (s Subscriptions) check() error {
	for _, e := range s.Endpoints {
		if !serverURL(e) || !strings.HasPrefix(e, "https://") || !strings.HasSuffix(e, "/") || !plainURL(e) {
			return errors.New("subscriptions.endpoints has to be a list of https URLs with a slash at their end, without user, query or fragment")
		}
	}
	if err := checkURLs("subscriptions.endpoints", s.Endpoints); err != nil {
		return fmt.Errorf("tenant: %w", err)
	}
	return nil
}

// Admits reports whether the tenant's subscribers may be told at the URL. It has no
// query: what is secret goes into a header.
func (s Subscriptions) Admits(text string) bool {
	if !plainURL(text) || strings.Contains(text, "?") {
		return false
	}
	for _, e := range s.Endpoints {
		if strings.HasPrefix(text, e) {
			return true
		}
	}
	return false
}
