package smart

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"slices"
	"time"
)

// ErrUnknownClient says that a tenant has no client of an id. The outside
// world must not be able to tell it from a client that may not log in.
var ErrUnknownClient = errors.New("smart: unknown client")

// The ways in which a client proves who it is.
// https://hl7.org/fhir/smart-app-launch/app-launch.html#register-with-your-ehr
const (
	PrivateKeyJWT = "private_key_jwt" // a signed assertion
	ClientSecret  = "client_secret"   // a secret, by header or in the form
	PublicClient  = "none"            // it cannot: it runs where its users are
)

// A Client is an application that a tenant has registered to ask for tokens.
//
// One with RedirectURIs gets them for users who log in and agree. A Client with
// a User or Patient acts in that launch context: it may be
// granted user/ or patient/ scopes by its own assertion. It stands for a
// person who has agreed at registration, not at a login.
// https://hl7.org/fhir/smart-app-launch/client-confidential-asymmetric.html
type Client struct {
	ID   string
	Name string // for people
	// Method is how it proves who it is; "" is PrivateKeyJWT.
	Method string
	// Secret is the SHA-256 of the secret of a ClientSecret, which is random.
	Secret []byte
	// RedirectURIs are where its users may be sent back to.
	RedirectURIs []string
	// LaunchURL is where an EHR opens it, "" for nowhere.
	LaunchURL string
	// JWKS is the JSON Web Key Set of its public keys. Without, JWKSURI is where it
	// publishes them.
	JWKS    []byte
	JWKSURI string
	// Scopes are those that it may be granted at most.
	Scopes []string
	// User is the fhirUser it acts for, "Practitioner/7", "" for none.
	User string
	// Patient is the id of the patient in its context, "" for none.
	Patient string
	// Encounter is the id of the Encounter in its context, "" for none.
	Encounter string
	// Person is what a login would tell of the user; of a client that has none,
	// what is known of it.
	Person Person
	// Purpose of use of all it does, a code of v3-ActReason, "" for none.
	Purpose string
	// Registration is the SHA-256 of what lets a client that has registered itself
	// change that; nil for one that an operator has registered.
	Registration []byte
	// Disabled clients get no tokens, and those that they hold are void.
	Disabled bool
	// Updated is when it was last registered, set by the record of clients.
	// Tokens from before then are void.
	Updated time.Time
}

// Allowed returns the scopes that c may be granted at most. Scopes for a user
// or a patient need one; what cannot be read is not allowed.
func (c Client) Allowed() []Scope {
	var allowed []Scope
	for _, text := range c.Scopes {
		sc, err := ParseScope(text)
		switch {
		case err != nil, sc.whose == ofUser && c.User == "", sc.whose == ofPatient && c.Patient == "":
			continue
		}
		allowed = append(allowed, sc)
	}
	return allowed
}

// AllowedToUsers returns what c may be granted at most for a user who agrees:
// words that are not for resources, and scopes for the user and for a patient.
func (c Client) AllowedToUsers() (words []string, scopes []Scope) {
	for _, text := range c.Scopes {
		if slices.Contains(LaunchWords, text) {
			words = append(words, text)
		} else if sc, err := ParseScope(text); err == nil && !sc.OfSystem() {
			scopes = append(scopes, sc)
		}
	}
	return words, scopes
}

// MayOpenLaunches reports whether c is an EHR that opens apps.
func (c Client) MayOpenLaunches() bool { return slices.Contains(c.Scopes, OpenLaunchWord) }

// MayIntrospect reports whether c may ask of tokens that are not its own.
func (c Client) MayIntrospect() bool { return slices.Contains(c.Scopes, IntrospectWord) }

// IsRegistration reports whether the token lets its bearer change the registration
// of c.
func (c Client) IsRegistration(token string) bool {
	sum := sha256.Sum256([]byte(token))
	return c.Registration != nil && subtle.ConstantTimeCompare(sum[:], c.Registration) == 1
}

// IsSecret reports whether c proves itself by a secret and this is it.
func (c Client) IsSecret(secret string) bool {
	sum := sha256.Sum256([]byte(secret))
	return c.Method == ClientSecret && secret != "" && subtle.ConstantTimeCompare(sum[:], c.Secret) == 1
}
