package rest

import (
	"errors"
	"io"
	"net/http/httptest"
	"testing"

	"github.com/cordon-fhir/cordon/store/storetest"
)

// unread is a body that must not be read.
type unread struct{ read bool }

func (u *unread) Read([]byte) (int, error) {
	u.read = true
	return 0, errors.New("read")
}

func TestATenantOfAnotherRegionIsRefusedBeforeItsBodyIsRead(t *testing.T) { // GOV-04
	here := newAPI(t, func(c *Config) { c.Region = "local" })
	elsewhere := newAPI(t, func(c *Config) { c.Region = "eu-north" })
	for _, slug := range []string{storetest.A1, storetest.S1, storetest.D1} {
		here.client(t, slug, "system/*.rs").must(200, "GET", "/Patient", "")
		c := elsewhere.client(t, slug, "system/*.cruds")
		c.must(421, "GET", "/Patient", "")
		c.must(421, "GET", "/Patient", "", "X-Request-Id", "pinned")
		c.must(421, "GET", "/metadata", "", "Authorization", "")
		body := &unread{}
		r := httptest.NewRequest("POST", "https://cordon.test/fhir/"+slug+"/Patient", io.NopCloser(body))
		r.Header.Set("Authorization", "Bearer "+c.bearer)
		r.Header.Set("Content-Type", "application/fhir+json")
		w := httptest.NewRecorder()
		elsewhere.handler.ServeHTTP(w, r)
		if w.Code != 421 || body.read {
			t.Errorf("%s: %d, body read: %t", slug, w.Code, body.read)
		}
	}
}
