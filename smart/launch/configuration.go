package launch

import (
	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"

	"github.com/cordon-fhir/cordon/keys"
)

// configuration is the discovery document of a tenant.
// https://hl7.org/fhir/smart-app-launch/conformance.html#using-well-known
type configuration struct {
	TokenEndpoint string   `json:"token_endpoint"`
	KeysURI       string   `json:"jwks_uri"`
	GrantTypes    []string `json:"grant_types_supported"`
	AuthMethods   []string `json:"token_endpoint_auth_methods_supported"`
	Algorithms    []string `json:"token_endpoint_auth_signing_alg_values_supported"`
	Scopes        []string `json:"scopes_supported"`
	// The standard requires the member, and S256 in it, of every server.
	ChallengeMethods []string `json:"code_challenge_methods_supported"`
	Capabilities     []string `json:"capabilities"`
}

// Configuration returns the discovery document of the tenant with the slug,
// JSON, for [base]/.well-known/smart-configuration. It claims what runs.
func (s *Server) Configuration(slug string) []byte {
	issuer := s.cfg.Issuer(slug)
	c := configuration{
		TokenEndpoint:    issuer + "/token",
		KeysURI:          issuer + "/jwks",
		GrantTypes:       []string{"client_credentials"},
		AuthMethods:      []string{"private_key_jwt"},
		Scopes:           []string{"system/*.cruds", "user/*.cruds", "patient/*.cruds", "system/*.read", "user/*.read", "patient/*.read"},
		ChallengeMethods: []string{"S256"},
		Capabilities:     []string{"client-confidential-asymmetric", "permission-patient", "permission-user", "permission-v1", "permission-v2"},
	}
	for _, a := range algorithms {
		c.Algorithms = append(c.Algorithms, string(a))
	}
	doc, err := json.Marshal(c)
	if err != nil {
		panic("launch: " + err.Error()) // strings are always JSON
	}
	return doc
}

// publicKeys returns the public part of what the set signs tokens with.
func publicKeys(set *keys.Set) any {
	key, kid := set.SigningKey()
	jwk := jose.JSONWebKey{Key: &key.PublicKey, KeyID: kid, Algorithm: string(jose.ES256), Use: "sig"}
	return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{jwk}}
}
