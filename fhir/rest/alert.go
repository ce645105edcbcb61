package rest

import (
	"github.com/cordon-fhir/cordon/alert"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/tenant"
)

// tenantHeader holds X-Tenant-Id against the path: at most one, and the same.
func (c *call) tenantHeader() error {
	named := c.http.Header.Values("X-Tenant-Id")
	if len(named) == 0 || len(named) == 1 && named[0] == c.place.tenant {
		return nil
	}
	a := smart.Alert{Rule: alert.OtherInHeader, Addressed: c.place.tenant}
	for _, n := range named {
		if s, err := tenant.ParseSlug(n); err == nil && n != c.place.tenant {
			a.Addressed = s.String()
		}
	}
	c.alert(a)
	return fhir.Errorf(fhir.Invalid, "X-Tenant-Id and the path name different tenants")
}

// alert tells of what the holder of the call's Grant tried.
func (c *call) alert(a smart.Alert) {
	a.Address, a.Request = c.origin.Address, c.origin.RequestID
	c.server.alert(c.grant, a)
}

func (s *server) alert(g *smart.Grant, a smart.Alert) {
	if g != nil && g.Tenant() != nil {
		a.Tenant, a.Client, a.User = g.Tenant().Slug.String(), g.Agent().Client, g.Agent().User
		a.Address, a.Request = g.Origin().Address, g.Origin().RequestID
	}
	s.Alert(a)
}
