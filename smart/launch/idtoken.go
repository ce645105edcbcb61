package launch

import (
	"context"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json"

	"github.com/cordon-fhir/cordon/store"
)

// idClaims are what an app is told of the login.
// https://openid.net/specs/openid-connect-core-1_0.html#IDToken
type idClaims struct {
	Issuer        string `json:"iss"`
	Subject       string `json:"sub"`
	Audience      string `json:"aud"`
	Expires       int64  `json:"exp"`
	Issued        int64  `json:"iat"`
	Authenticated int64  `json:"auth_time"`
	Nonce         string `json:"nonce,omitzero"`
	User          string `json:"fhirUser,omitzero"` // absolute
	Profile       string `json:"profile,omitzero"`
	Name          string `json:"preferred_username,omitzero"`
	// How the user logged in, as an identity provider says.
	ACR string   `json:"acr,omitzero"`
	AMR []string `json:"amr,omitempty"`
}

// idToken says who the user is, signed with the tenant's RSA key.
// https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html#scopes-for-requesting-identity-data
func (s *Server) idToken(ctx context.Context, c *call, l login, a store.Approval, words []string) (string, error) {
	now := s.cfg.Now()
	claims := idClaims{
		Issuer: s.cfg.Issuer(c.slug), Subject: subjectOf(a.Identity), Audience: l.client.ID, Nonce: a.Nonce,
		Issued: now.Unix(), Expires: now.Add(userTokenLife).Unix(), Authenticated: a.Time.Unix(),
		ACR: a.ACR, AMR: a.AMR,
	}
	if a.User != "" && slices.Contains(words, "fhirUser") {
		claims.User = s.cfg.Base(c.slug) + "/" + a.User
	}
	if slices.Contains(words, "profile") {
		claims.Name = a.Subject
		if a.User != "" {
			claims.Profile = s.cfg.Base(c.slug) + "/" + a.User
		}
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("signing an ID token: %w", err)
	}
	signing, err := s.cfg.Registry.SigningKeys(ctx, l.tenant)
	if err != nil {
		return "", err
	}
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: signing[0].Key, KeyID: signing[0].ID}},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", fmt.Errorf("signing an ID token: %w", err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("signing an ID token: %w", err)
	}
	return jws.CompactSerialize()
}

// subjectOf names a user among all of the tenant, whatever vouches for them, and
// a service, for which nothing does but its client_id.
func subjectOf(who store.Identity) string {
	if who.Source == store.LocalSource || who.Source == "" {
		return who.Subject
	}
	return who.Source + "|" + who.Subject
}
