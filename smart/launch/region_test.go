package launch_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/smart/launch"
)

// unread is a body that must not be read.
type unread struct{ read bool }

func (u *unread) Read([]byte) (int, error) {
	u.read = true
	return 0, errors.New("read")
}

// Nobody logs in, registers or gets a token of a tenant at a server of another
// region: each endpoint refuses, whoever asks, before it reads what is asked. TEN-05
func TestATenantOfAnotherRegionHasNoEndpointHere(t *testing.T) {
	s := newSite(t)
	var entries []entry
	ask := func(method, path string) (*httptest.ResponseRecorder, *unread) {
		body := &unread{}
		r := httptest.NewRequest(method, strings.NewReplacer(":client", "app", ":provider", "outside").Replace(path), io.NopCloser(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.SetBasicAuth("server-app", "s3cret")
		w := httptest.NewRecorder()
		entries = nil
		s.server.ServeHTTP(w, r)
		return w, body
	}
	in := func(region string) {
		s.again(t, func(c *launch.Config) {
			c.Region = region
			c.Record = func(_ context.Context, g *smart.Grant, e audit.Entry) error {
				got := entry{Entry: e}
				if g != nil {
					got.Tenant = g.Tenant().Slug.String()
				}
				entries = append(entries, got)
				return nil
			}
		})
	}

	in("eu-north")
	endpoints := s.server.Endpoints()
	for _, e := range endpoints {
		w, body := ask(e[0], strings.Replace(e[1], ":tenant", s.slug, 1))
		if w.Code != 421 || !bytes.Contains(w.Body.Bytes(), []byte("the tenant is not served from this region")) {
			t.Errorf("%s: %d %s", e, w.Code, w.Body)
		}
		if cookies := w.Result().Cookies(); body.read || len(cookies) > 0 {
			t.Errorf("%s: body read: %t, cookies %v", e, body.read, cookies)
		}
		if len(entries) != 1 || entries[0].Tenant != "" || entries[0].Status != 421 || entries[0].Outcome != audit.MinorFailure {
			t.Errorf("%s: audited %+v", e, entries)
		}
		if w, _ := ask(e[0], strings.Replace(e[1], ":tenant", "nobody", 1)); w.Code == 421 {
			t.Errorf("%s: there is no such tenant, and its region is told", e)
		}
	}

	in("local")
	for _, e := range endpoints {
		if w, _ := ask(e[0], strings.Replace(e[1], ":tenant", s.slug, 1)); w.Code == 421 {
			t.Errorf("%s in its region: %d %s", e, w.Code, w.Body)
		}
	}
}
