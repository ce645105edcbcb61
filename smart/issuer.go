package smart

import (
	"errors"
	"net/url"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/cordon-fhir/cordon/fhir"
)

// An Issuer is an authorization server outside of Cordon that a tenant trusts
// instead of its own. Its access tokens are JWTs.
// https://www.rfc-editor.org/rfc/rfc9068
type Issuer struct {
	// URL is the iss of its tokens, byte for byte, and where it describes itself.
	URL string `json:"issuer"`
	// Audience is the aud of tokens for the tenant; "" is its FHIR base.
	Audience string `json:"audience,omitzero"`
	// Algorithms are those that it may sign with, of IssuerAlgorithms; none means
	// all of them.
	Algorithms []string `json:"algorithms,omitzero"`
	// Type is the typ of its tokens: "" is at+jwt, and JWT lets those pass as well
	// that have no type of their own.
	Type string `json:"type,omitzero"`
	// Clients are the client_ids whose tokens are taken; none means all.
	Clients []string `json:"clients,omitzero"`
	// Require are claims that have to be there, with these values.
	Require map[string]string `json:"require,omitzero"`
	// Introspection says that the issuer is asked whether a token is still good,
	// and as whom: then a revocation counts, and a token may live for longer.
	// https://www.rfc-editor.org/rfc/rfc7662
	Introspection Introspection  `json:"introspection,omitzero"`
	Mapping       ContextMapping `json:"mapping,omitzero"`
	// Secret is what proves us when we ask.
	Secret string `json:"-"`
}

// Introspection says who asks the issuer of tokens.
type Introspection struct {
	ClientID string `json:"client_id,omitzero"`
}

// A ContextMapping is a Mapping that also says where the launch context is.
type ContextMapping struct {
	Mapping
	// Patient and Encounter are ids, or relative references.
	Patient   Claim `json:"patient,omitzero"`
	Encounter Claim `json:"encounter,omitzero"`
}

// IssuerAlgorithms are those that an Issuer may sign with: none that works with
// a shared secret or without a key.
var IssuerAlgorithms = []string{string(jose.RS256), string(jose.RS384), string(jose.ES256), string(jose.ES384)}

// plainJWT is the Type of an issuer whose access tokens are not told from other
// JWTs.
const plainJWT = "JWT"

// maxIssuerList bounds the lists of an Issuer.
const maxIssuerList = 100

// Check returns what is wrong with is, for whoever sets it.
func (is Issuer) Check() error {
	u, err := url.Parse(is.URL)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || len(is.URL) > maxProviderText:
		return errors.New("issuer has to be a URL without query and fragment")
	case !printable(is.Audience, maxProviderText):
		return errors.New("audience is too long or holds what cannot be sent")
	case slices.ContainsFunc(is.Algorithms, func(a string) bool { return !slices.Contains(IssuerAlgorithms, a) }):
		return errors.New("algorithms are RS256, RS384, ES256 and ES384")
	case is.Type != "" && is.Type != "at+jwt" && is.Type != plainJWT:
		return errors.New("type has to be at+jwt or JWT")
	case len(is.Clients) > maxIssuerList || slices.ContainsFunc(is.Clients, func(c string) bool { return c == "" || !printable(c, maxClientID) }):
		return errors.New("clients holds what cannot be a client_id")
	case len(is.Require) > maxIssuerList:
		return errors.New("require has too many claims")
	case !printable(is.Introspection.ClientID, maxProviderText) || !printable(is.Secret, maxProviderText):
		return errors.New("introspection.client_id or its secret is too long or holds what cannot be sent")
	case (is.Introspection.ClientID == "") != (is.Secret == ""):
		return errors.New("introspection takes a client_id and a secret")
	}
	if err := checkClaims(is.Mapping.Patient, is.Mapping.Encounter); err != nil {
		return err
	}
	return is.Mapping.check()
}

// maxClientID bounds a client_id.
const maxClientID = 128

// algorithms are those that the issuer may sign with here.
func (is Issuer) algorithms() []jose.SignatureAlgorithm {
	allowed := is.Algorithms
	if len(allowed) == 0 {
		allowed = IssuerAlgorithms
	}
	list := make([]jose.SignatureAlgorithm, len(allowed))
	for i, a := range allowed {
		list[i] = jose.SignatureAlgorithm(a)
	}
	return list
}

// introspects reports whether the issuer is asked about its tokens.
func (is Issuer) introspects() bool { return is.Introspection.ClientID != "" }

// in returns what the claims say of the context of a launch.
func (m ContextMapping) in(claims map[string]jsontext.Value, base string) (patient, encounter string, err error) {
	if patient, err = m.Patient.id(claims, "Patient", base); err != nil {
		return "", "", err
	}
	encounter, err = m.Encounter.id(claims, "Encounter", base)
	return patient, encounter, err
}

// id returns the id that the claim has of a resource of the type: as it is, as a
// reference, or as a URL at the tenant.
func (c Claim) id(claims map[string]jsontext.Value, on fhir.Type, base string) (string, error) {
	text, err := c.one(claims, string(on))
	if err != nil || text == "" {
		return "", err
	}
	text = strings.TrimPrefix(strings.TrimPrefix(text, base+"/"), string(on)+"/")
	if !fhir.ValidID(text) {
		return "", errClaims(string(on))
	}
	return text, nil
}
