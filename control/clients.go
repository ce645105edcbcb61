package control

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
)

// clientBody is a client as the API takes and shows it.
// https://hl7.org/fhir/smart-app-launch/client-confidential-asymmetric.html
type clientBody struct {
	ID     string          `json:"id"`
	Name   string          `json:"name"`
	JWKS   json.RawMessage `json:"jwks,omitempty"`
	Scopes []string        `json:"scopes"`
	// JWKSURI is where it publishes its keys, instead of JWKS.
	JWKSURI string `json:"jwks_uri,omitempty"`

	// Method is private_key_jwt, client_secret or none; the first is the default.
	Method       string   `json:"method,omitempty"`
	RedirectURIs []string `json:"redirect_uris,omitempty"`
	LaunchURL    string   `json:"launch_url,omitempty"`
	// Secret is in the answer that a client with one is registered by, and
	// nowhere else.
	Secret string `json:"secret,omitempty"`

	User     string `json:"user,omitempty"`
	Patient  string `json:"patient,omitempty"`
	Purpose  string `json:"purpose,omitempty"`
	Disabled bool   `json:"disabled,omitempty"`
	// Encounter and Person are for the access policy to decide by.
	Encounter string       `json:"encounter,omitempty"`
	Person    smart.Person `json:"person,omitzero"`
}

func (a *api) listClients(ctx context.Context, c call) (answer, error) {
	t, err := a.tenants.Tenant(ctx, c.slug)
	if err != nil {
		return answer{}, err
	}
	clients, err := a.Registry.Clients(ctx, t)
	if err != nil {
		return answer{}, err
	}
	list := make([]clientBody, 0, len(clients))
	for _, cl := range clients {
		list = append(list, clientBody{
			ID: cl.ID, Name: cl.Name, JWKS: cl.JWKS, JWKSURI: cl.JWKSURI, Scopes: cl.Scopes, User: cl.User, Patient: cl.Patient, Purpose: cl.Purpose, Disabled: cl.Disabled,
			Method: cl.Method, RedirectURIs: cl.RedirectURIs, LaunchURL: cl.LaunchURL, Encounter: cl.Encounter, Person: cl.Person,
		})
	}
	return answer{http.StatusOK, list, "listed the clients of tenant " + c.slug}, nil
}

// putClient registers a client or replaces the one with its id: 201 or 200.
func (a *api) putClient(ctx context.Context, c call) (answer, error) {
	var b clientBody
	t, err := a.asked(ctx, c, &b)
	if err != nil {
		return answer{}, err
	}
	if err := b.check(); err != nil {
		return answer{}, err
	}
	client, err := b.client()
	if err != nil {
		return answer{}, err
	}
	created, err := a.Registry.PutClient(ctx, t, client)
	if err != nil {
		return answer{}, err
	}
	if created {
		return answer{http.StatusCreated, b, "registered client " + b.ID + " with tenant " + c.slug}, nil
	}
	return answer{http.StatusOK, b, "replaced client " + b.ID + " of tenant " + c.slug}, nil
}

func (a *api) disableClient(ctx context.Context, c call) (answer, error) {
	return a.setClient(ctx, c, true, "disabled")
}

func (a *api) enableClient(ctx context.Context, c call) (answer, error) {
	return a.setClient(ctx, c, false, "enabled")
}

func (a *api) setClient(ctx context.Context, c call, disabled bool, did string) (answer, error) {
	t, err := a.tenants.Tenant(ctx, c.slug)
	if err != nil {
		return answer{}, err
	}
	err = a.Registry.DisableClient(ctx, t, c.item, disabled)
	if errors.Is(err, smart.ErrUnknownClient) {
		return answer{}, fhir.Errorf(fhir.NotFound, "there is no such client")
	}
	return answer{http.StatusOK, struct{}{}, did + " client " + c.item + " of tenant " + c.slug}, err
}

// client returns the client to store. One with a secret gets a new one.
func (b *clientBody) client() (smart.Client, error) {
	c := smart.Client{
		ID: b.ID, Name: b.Name, Scopes: b.Scopes, User: b.User, Patient: b.Patient, Purpose: b.Purpose, Disabled: b.Disabled,
		Method: b.Method, RedirectURIs: b.RedirectURIs, LaunchURL: b.LaunchURL, JWKS: []byte{},
		Encounter: b.Encounter, Person: b.Person,
	}
	switch b.Method {
	case smart.PublicClient:
	case smart.ClientSecret:
		b.Secret = rand.Text() + rand.Text()
		sum := sha256.Sum256([]byte(b.Secret))
		c.Secret = sum[:]
	default:
		if b.JWKSURI != "" {
			c.JWKSURI = b.JWKSURI
			break
		}
		set, err := smart.PublicKeys(b.JWKS)
		if err != nil {
			return c, fhir.Errorf(fhir.Invalid, "%s", err)
		}
		b.JWKS, c.JWKS = set, set
	}
	return c, nil
}

var (
	clientID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._~-]{0,63}$`)
	// purpose is a code of v3-ActReason.
	purpose = regexp.MustCompile(`^[A-Z]{2,20}$`)
)

func (b clientBody) check() error {
	if !clientID.MatchString(b.ID) {
		return fhir.Errorf(fhir.Invalid, "id has to be 1 to 64 of letters, digits and ._~-, beginning with a letter or digit")
	}
	if len(b.Name) > 200 {
		return fhir.Errorf(fhir.Invalid, "name has at most 200 bytes")
	}
	if len(b.Scopes) == 0 || len(b.Scopes) > 256 {
		return fhir.Errorf(fhir.Invalid, "scopes has to be a list of 1 to 256 SMART scopes")
	}
	for _, s := range b.Scopes {
		if _, err := smart.ParseScope(s); err != nil && !smart.IsWord(s) {
			return fhir.Errorf(fhir.Invalid, "scopes holds what is not a SMART scope")
		}
	}
	if err := b.checkApp(); err != nil {
		return err
	}
	if b.User != "" {
		if !smart.ValidUser(b.User) {
			return fhir.Errorf(fhir.Invalid, "user has to be a reference like Practitioner/dr1")
		}
	}
	if b.Patient != "" && !fhir.ValidID(b.Patient) {
		return fhir.Errorf(fhir.Invalid, "patient has to be the id of a Patient")
	}
	if b.Encounter != "" && !fhir.ValidID(b.Encounter) {
		return fhir.Errorf(fhir.Invalid, "encounter has to be the id of an Encounter")
	}
	if err := b.Person.Check(); err != nil {
		return fhir.Errorf(fhir.Invalid, "person: %s", err)
	}
	if b.Purpose != "" && !purpose.MatchString(b.Purpose) {
		return fhir.Errorf(fhir.Invalid, "purpose has to be a code of v3-ActReason")
	}
	return nil
}

// checkApp holds to the standard how a client proves itself and where its users
// come back.
func (b clientBody) checkApp() error {
	switch b.Method {
	case "", smart.PrivateKeyJWT:
		if b.JWKSURI != "" && (len(b.JWKS) > 0 && string(b.JWKS) != "null" || !smart.ValidKeysURL(b.JWKSURI)) {
			return fhir.Errorf(fhir.Invalid, "jwks_uri has to be an https URL, or http on this machine, and takes the place of jwks")
		}
	case smart.ClientSecret, smart.PublicClient:
		if len(b.JWKS) > 0 && string(b.JWKS) != "null" || b.JWKSURI != "" {
			return fhir.Errorf(fhir.Invalid, "jwks and jwks_uri are for the method private_key_jwt")
		}
		if b.User != "" || b.Patient != "" {
			return fhir.Errorf(fhir.Invalid, "user and patient are for the method private_key_jwt")
		}
		own := smart.Client{Scopes: b.Scopes}
		if len(b.RedirectURIs) == 0 && (b.Method == smart.PublicClient || !own.MayOpenLaunches() && !own.MayIntrospect()) {
			return fhir.Errorf(fhir.Invalid, "the method needs redirect_uris: without its users the client can do nothing")
		}
	default:
		return fhir.Errorf(fhir.Invalid, "method has to be private_key_jwt, client_secret or none")
	}
	if b.Secret != "" {
		return fhir.Errorf(fhir.Invalid, "a secret is made here, not chosen")
	}
	if len(b.RedirectURIs) > 20 {
		return fhir.Errorf(fhir.Invalid, "redirect_uris has at most 20 entries")
	}
	for _, u := range b.RedirectURIs {
		if !smart.ValidRedirectURI(u) {
			return fhir.Errorf(fhir.Invalid, "redirect_uris has to be absolute URLs: https, http on this machine, or a scheme of the app's own with a dot; without user and fragment")
		}
	}
	if b.LaunchURL != "" && !smart.ValidAppURL(b.LaunchURL) {
		return fhir.Errorf(fhir.Invalid, "launch_url has to be an https URL, or http on this machine")
	}
	return nil
}
