package smart

import (
	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/tenant"
)

// An Alert is something that people should look at: it cannot happen by chance.
type Alert struct {
	Rule Rule
	// Tenant is the slug of whose token it is, as it claims or has proved;
	// "" if it has none.
	Tenant string
	// Addressed is the slug in the request, "" if it cannot be one.
	Addressed string
	// Client is the client_id that the token claims, User the fhirUser that it
	// has proved.
	Client, User string
	// Address and Request say where it came from, and in which request.
	Address, Request string
}

// A Rule names what an Alert is about.
type Rule string

// The rules.
const (
	CrossTenant   Rule = "cross-tenant-token" // a good token of one tenant used at another
	MutatedClaims Rule = "mutated-claims"     // a token that its issuer has not signed so
	AdminOnData   Rule = "admin-token-on-data"
	TokenReuse    Rule = "token-reuse"      // a code or refresh token used again
	ForeignServer Rule = "foreign-audience" // an app was led here that means another server
)

func (v *Verifier) alert(rule Rule, own, addressed, client string, o audit.Origin) {
	if _, err := tenant.ParseSlug(addressed); err != nil {
		addressed = ""
	}
	if len(client) > 64 {
		client = client[:64]
	}
	v.cfg.Alert(Alert{Rule: rule, Tenant: own, Addressed: addressed, Client: client, Address: o.Address, Request: o.RequestID})
}
