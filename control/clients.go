package control

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"

	"github.com/go-jose/go-jose/v4"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
)

// clientBody is a client as the API takes and shows it.
// https://hl7.org/fhir/smart-app-launch/client-confidential-asymmetric.html
type clientBody struct {
	ID       string          `json:"id"`
	Name     string          `json:"name"`
	JWKS     json.RawMessage `json:"jwks"`
	Scopes   []string        `json:"scopes"`
	User     string          `json:"user,omitempty"`
	Patient  string          `json:"patient,omitempty"`
	Purpose  string          `json:"purpose,omitempty"`
	Disabled bool            `json:"disabled,omitempty"`
	// Encounter and Person are for the access policy to decide by.
	Encounter string       `json:"encounter,omitempty"`
	Person    smart.Person `json:"person,omitzero"`
}

func (a *api) listClients(ctx context.Context, c call) (answer, error) {
	t, err := a.tenants.Tenant(ctx, c.slug)
	if err != nil {
		return answer{}, known(err)
	}
	clients, err := a.Registry.Clients(ctx, t)
	if err != nil {
		return answer{}, err
	}
	list := make([]clientBody, 0, len(clients))
	for _, cl := range clients {
		list = append(list, clientBody{cl.ID, cl.Name, cl.JWKS, cl.Scopes, cl.User, cl.Patient, cl.Purpose, cl.Disabled, cl.Encounter, cl.Person})
	}
	return answer{http.StatusOK, list, "listed the clients of tenant " + c.slug}, nil
}

// putClient registers a client or replaces the one with its id: 201 or 200.
func (a *api) putClient(ctx context.Context, c call) (answer, error) {
	t, err := a.tenants.Tenant(ctx, c.slug)
	if err != nil {
		return answer{}, known(err)
	}
	var b clientBody
	if err := decode(c.body, &b); err != nil {
		return answer{}, err
	}
	if err := b.check(); err != nil {
		return answer{}, err
	}
	if b.JWKS, err = publicKeys(b.JWKS); err != nil {
		return answer{}, err
	}
	created, err := a.Registry.PutClient(ctx, t, b.client())
	if err != nil {
		return answer{}, err
	}
	if created {
		return answer{http.StatusCreated, b, "registered client " + b.ID + " with tenant " + c.slug}, nil
	}
	return answer{http.StatusOK, b, "replaced client " + b.ID + " of tenant " + c.slug}, nil
}

func (b clientBody) client() smart.Client {
	return smart.Client{
		ID: b.ID, Name: b.Name, JWKS: b.JWKS, Scopes: b.Scopes,
		User: b.User, Patient: b.Patient, Purpose: b.Purpose, Disabled: b.Disabled,
		Encounter: b.Encounter, Person: b.Person,
	}
}

var (
	clientID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._~-]{0,63}$`)
	// purpose is a code of v3-ActReason.
	purpose = regexp.MustCompile(`^[A-Z]{2,20}$`)
)

// users are the types that a fhirUser may be of.
// https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html
var users = []fhir.Type{"Patient", "Practitioner", "PractitionerRole", "RelatedPerson", "Person"}

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
		if _, err := smart.ParseScope(s); err != nil {
			return fhir.Errorf(fhir.Invalid, "scopes holds what is not a SMART scope")
		}
	}
	if b.User != "" {
		ref, err := fhir.ParseRef(b.User)
		if err != nil || ref.String() != b.User || !slices.Contains(users, ref.Type) {
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

// publicKeys holds the keys to what the token endpoint will accept: public, for
// ES384 or RS384, each with a name of its own. It returns them without any
// member that is not of a public key.
func publicKeys(jwks []byte) ([]byte, error) {
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(jwks, &set); err != nil || len(set.Keys) == 0 || len(set.Keys) > 10 {
		return nil, fhir.Errorf(fhir.Invalid, "jwks has to be a JSON Web Key Set of 1 to 10 keys")
	}
	seen := map[string]bool{}
	for _, k := range set.Keys {
		if !k.IsPublic() || !k.Valid() {
			return nil, fhir.Errorf(fhir.Invalid, "jwks may hold nothing but public keys")
		}
		if k.KeyID == "" || seen[k.KeyID] {
			return nil, fhir.Errorf(fhir.Invalid, "each key of jwks needs a kid of its own")
		}
		seen[k.KeyID] = true
		switch pub := k.Key.(type) {
		case *ecdsa.PublicKey:
			if pub.Curve.Params().BitSize != 384 {
				return nil, fhir.Errorf(fhir.Invalid, "an EC key of jwks has to be on P-384, for ES384")
			}
		case *rsa.PublicKey:
			if pub.N.BitLen() < 2048 {
				return nil, fhir.Errorf(fhir.Invalid, "an RSA key of jwks needs 2048 bits")
			}
		default:
			return nil, fhir.Errorf(fhir.Invalid, "a key of jwks has to be for ES384 or RS384")
		}
	}
	text, err := json.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("writing the keys of a client: %w", err)
	}
	return text, nil
}
