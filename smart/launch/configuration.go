package launch

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"

	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/tenant"
)

// configuration is the discovery document of a tenant.
// https://hl7.org/fhir/smart-app-launch/conformance.html#using-well-known
type configuration struct {
	Issuer                string   `json:"issuer,omitzero"`
	AuthorizationEndpoint string   `json:"authorization_endpoint,omitzero"`
	TokenEndpoint         string   `json:"token_endpoint"`
	ManagementEndpoint    string   `json:"management_endpoint,omitzero"`
	IntrospectionEndpoint string   `json:"introspection_endpoint,omitzero"`
	RegistrationEndpoint  string   `json:"registration_endpoint,omitzero"`
	RevocationEndpoint    string   `json:"revocation_endpoint,omitzero"`
	KeysURI               string   `json:"jwks_uri"`
	BrandBundle           string   `json:"user_access_brand_bundle,omitzero"`
	ResponseTypes         []string `json:"response_types_supported,omitzero"`
	ResponseModes         []string `json:"response_modes_supported,omitzero"`
	GrantTypes            []string `json:"grant_types_supported"`
	AuthMethods           []string `json:"token_endpoint_auth_methods_supported"`
	Algorithms            []string `json:"token_endpoint_auth_signing_alg_values_supported"`
	Scopes                []string `json:"scopes_supported"`
	// The standard requires the member, and S256 in it, of every server.
	ChallengeMethods []string `json:"code_challenge_methods_supported"`
	Capabilities     []string `json:"capabilities"`

	// https://openid.net/specs/openid-connect-discovery-1_0.html
	SubjectTypes      []string `json:"subject_types_supported,omitzero"`
	IDTokenAlgorithms []string `json:"id_token_signing_alg_values_supported,omitzero"`
	NamesIssuer       bool     `json:"authorization_response_iss_parameter_supported,omitzero"`
}

// Configuration returns the discovery document of the tenant with the slug,
// JSON, for [base]/.well-known/smart-configuration. It claims what runs. It is nil
// while the authorization server that the tenant trusts does not answer.
func (s *Server) Configuration(slug string) []byte {
	ctx, cancel := context.WithTimeout(context.Background(), configurationTime)
	defer cancel()
	conf := s.configuration(slug)
	if t, err := s.cfg.Tenants.Tenant(ctx, slug); err == nil && t.Issuer != 0 {
		if conf, err = s.outside(ctx, t); err != nil {
			s.cfg.Log.Warn("asking an outside issuer about itself", oplog.Tenant(slug), oplog.Cause(err))
			return nil
		}
	}
	doc, err := json.Marshal(conf)
	if err != nil {
		panic("launch: " + err.Error()) // strings are always JSON
	}
	return doc
}

// configurationTime bounds what has to be looked up for a document.
const configurationTime = 10 * time.Second

// outside returns what the authorization server says of itself that the tenant
// trusts instead of its own, and what we do with its tokens.
func (s *Server) outside(ctx context.Context, t *tenant.Tenant) (configuration, error) {
	if s.cfg.Outside == nil {
		return configuration{}, errors.New("launch: nobody knows the authorization servers of others")
	}
	text, err := s.cfg.Outside.Document(ctx, t)
	if err != nil {
		return configuration{}, err
	}
	var c configuration
	if err := json.Unmarshal(text, &c); err != nil {
		return c, errors.New("launch: an outside issuer describes itself in a way that is none")
	}
	for _, does := range accepting {
		if !slices.Contains(c.Capabilities, does) {
			c.Capabilities = append(c.Capabilities, does)
		}
	}
	return c, nil
}

// accepting are the capabilities of who takes tokens, whoever gives them.
var accepting = []string{"permission-patient", "permission-user", "permission-v1", "permission-v2"}

func (s *Server) configuration(slug string) configuration {
	issuer := s.cfg.Issuer(slug)
	c := configuration{
		TokenEndpoint:    issuer + "/token",
		KeysURI:          issuer + "/jwks",
		GrantTypes:       []string{"client_credentials"},
		AuthMethods:      []string{"private_key_jwt"},
		Scopes:           []string{"system/*.cruds", "user/*.cruds", "patient/*.cruds", "system/*.read", "user/*.read", "patient/*.read"},
		ChallengeMethods: []string{"S256"},
		Capabilities:     append([]string{"client-confidential-asymmetric"}, accepting...),
	}
	for _, a := range algorithms {
		c.Algorithms = append(c.Algorithms, string(a))
	}
	if s.cfg.Registry == nil {
		return c
	}
	c.Issuer = issuer
	c.AuthorizationEndpoint, c.ManagementEndpoint = issuer+"/authorize", issuer+"/account"
	c.IntrospectionEndpoint, c.RevocationEndpoint = issuer+"/introspect", issuer+"/revoke"
	c.BrandBundle = issuer + "/brands"
	if s.lets(slug) {
		c.RegistrationEndpoint = issuer + "/register"
	}
	c.ResponseTypes, c.ResponseModes = []string{"code"}, []string{"query"}
	c.GrantTypes = []string{"authorization_code", "refresh_token", "client_credentials"}
	c.AuthMethods = []string{"private_key_jwt", "client_secret_basic", "client_secret_post", "none"}
	c.Scopes = append([]string{"openid", "fhirUser", "profile", "launch", "launch/patient", "launch/encounter", "online_access", "offline_access"}, c.Scopes...)
	c.Capabilities = append(c.Capabilities, "launch-ehr", "launch-standalone", "authorize-post", "client-public",
		"client-confidential-symmetric", "sso-openid-connect", "context-banner", "context-style", "context-ehr-patient",
		"context-ehr-encounter", "context-standalone-patient", "context-standalone-encounter", "permission-offline", "permission-online")
	c.SubjectTypes, c.IDTokenAlgorithms, c.NamesIssuer = []string{"public"}, []string{string(jose.RS256)}, true
	return c
}

// lets reports whether apps may register themselves at the tenant with the slug.
func (s *Server) lets(slug string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	t, err := s.cfg.Tenants.Tenant(ctx, slug)
	return err == nil && t.Status == tenant.Active && t.Settings.Registration.Policy != ""
}

// openID is the same document under the issuer, where clients of OpenID Connect
// look for it.
// https://openid.net/specs/openid-connect-discovery-1_0.html#ProviderConfig
func (s *Server) openID(ctx context.Context, c *call) error {
	t, _, err := s.tenant(ctx, c)
	if err != nil {
		return err
	}
	if t == nil {
		return noSuchTenant()
	}
	c.answer = s.configuration(c.slug)
	c.public()
	return nil
}

// public lets anyone read and keep the answer, from whatever page.
func (c *call) public() {
	c.header.Set("Cache-Control", "public, max-age=60")
	c.header.Set("Access-Control-Allow-Origin", "*")
}

// publicKeys returns the public part of what tokens are signed with, access tokens
// and ID tokens.
func publicKeys(set *keys.Set, ids []store.SigningKey) any {
	var all []jose.JSONWebKey
	for _, k := range set.PublicKeys() {
		all = append(all, jose.JSONWebKey{Key: k.Key, KeyID: k.ID, Algorithm: string(jose.ES256), Use: "sig"})
	}
	for _, k := range ids {
		all = append(all, jose.JSONWebKey{Key: &k.Key.PublicKey, KeyID: k.ID, Algorithm: string(jose.RS256), Use: "sig"})
	}
	return jose.JSONWebKeySet{Keys: all}
}
