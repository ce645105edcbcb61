package launch

import (
	"context"

	"github.com/cordon-fhir/cordon/tenant"
)

// brands is who the tenant is, for apps that let patients look for it.
// https://hl7.org/fhir/smart-app-launch/brands.html
func (s *Server) brands(ctx context.Context, c *call) error {
	t, _, err := s.tenant(ctx, c)
	if err != nil {
		return err
	}
	if t == nil {
		return noSuchTenant()
	}
	c.answer = s.brandBundle(t)
	c.header.Set("Content-Type", "application/fhir+json; charset=utf-8")
	c.public()
	return nil
}

type object = map[string]any

func (s *Server) brandBundle(t *tenant.Tenant) object {
	slug := t.Slug.String()
	base := s.cfg.Base(slug)
	const profile = "http://hl7.org/fhir/smart-app-launch/StructureDefinition/user-access-"
	organization := object{
		"resourceType": "Organization", "id": slug, "meta": object{"profile": []string{profile + "brand"}},
		"active": true, "name": t.Name,
		"identifier": []object{{"system": "urn:ietf:rfc:3986", "value": s.cfg.Issuer(slug)}},
		"endpoint":   []object{{"reference": "Endpoint/" + slug}},
	}
	endpoint := object{
		"resourceType": "Endpoint", "id": slug, "meta": object{"profile": []string{profile + "endpoint"}},
		"extension": []object{{"url": "http://hl7.org/fhir/StructureDefinition/endpoint-fhir-version", "valueCode": "4.0.1"}},
		"status":    "active", "name": t.Name, "address": base,
		"connectionType":       object{"system": "http://terminology.hl7.org/CodeSystem/endpoint-connection-type", "code": "hl7-fhir-rest"},
		"payloadType":          []object{{"coding": []object{{"system": "http://terminology.hl7.org/CodeSystem/endpoint-payload-type", "code": "none"}}}},
		"managingOrganization": object{"reference": "Organization/" + slug},
	}
	return object{
		"resourceType": "Bundle", "meta": object{"profile": []string{profile + "brands-bundle"}}, "type": "collection",
		"timestamp": s.cfg.Now().UTC().Format("2006-01-02T15:04:05Z"),
		"entry": []object{
			{"fullUrl": base + "/Organization/" + slug, "resource": organization},
			{"fullUrl": base + "/Endpoint/" + slug, "resource": endpoint},
		},
	}
}
