package tenant

import (
	"errors"

	"github.com/go-json-experiment/json/jsontext"
)

// Registration says whether apps may register themselves at the tenant's
// authorization server.
// https://www.rfc-editor.org/rfc/rfc7591
type Registration struct {
	// Policy is who may; "" is nobody.
	Policy RegistrationPolicy `json:"policy,omitzero"`
	// Scopes are the most that such an app may get.
	Scopes []string `json:"scopes,omitempty"`
	// Issuers are those whose software statements are believed.
	Issuers []StatementIssuer `json:"issuers,omitempty"`
}

// A RegistrationPolicy says who may register an app.
type RegistrationPolicy string

// The policies.
const (
	// Approved lets anyone ask; an operator enables the client, or does not.
	Approved RegistrationPolicy = "approved"
	// Statement lets in at once whom an issuer vouches for, and nobody else.
	Statement RegistrationPolicy = "statement"
)

// A StatementIssuer vouches for software.
type StatementIssuer struct {
	Issuer string         `json:"issuer"`
	JWKS   jsontext.Value `json:"jwks"` // its public keys
}

// maxRegistration bounds the lists of a Registration.
const maxRegistration = 100

func (r Registration) check() error {
	if len(r.Scopes) > maxRegistration || len(r.Issuers) > maxRegistration {
		return errors.New("the lists of registration have at most 100 entries")
	}
	switch r.Policy {
	case "":
		if len(r.Scopes) > 0 || len(r.Issuers) > 0 {
			return errors.New("registration.scopes and registration.issuers need registration.policy")
		}
		return nil
	case Approved, Statement:
	default:
		return errors.New("registration.policy has to be approved or statement")
	}
	if len(r.Scopes) == 0 {
		return errors.New("registration.policy needs registration.scopes, the most that an app may get")
	}
	if (r.Policy == Statement) != (len(r.Issuers) > 0) {
		return errors.New("registration.issuers are for registration.policy statement, which needs them")
	}
	for _, i := range r.Issuers {
		if !serverURL(i.Issuer) || i.JWKS.Kind() != '{' {
			return errors.New("registration.issuers have an issuer, a URL, and jwks, an object with keys")
		}
	}
	return nil
}
