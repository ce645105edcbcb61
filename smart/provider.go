package smart

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/cordon-fhir/cordon/fhir"
)

// A Provider is an OpenID Connect provider whose users a tenant lets log in.
// https://openid.net/specs/openid-connect-core-1_0.html
type Provider struct {
	// Name is part of URLs and of the sub of its users' tokens.
	Name string `json:"name"`
	// Label is what the login page calls it.
	Label string `json:"label"`
	// Issuer is compared byte for byte.
	Issuer string `json:"issuer"`
	// ClientID is what the provider knows the tenant by.
	ClientID string `json:"client_id"`
	// Secret is what the tenant proves itself with, "" for nothing but PKCE.
	Secret string `json:"-"`
	// Scopes are asked for beside openid.
	Scopes []string `json:"scopes,omitzero"`
	// Open lets in whom the provider vouches for, also those whom nobody has
	// registered.
	Open    bool    `json:"open,omitzero"`
	Mapping Mapping `json:"mapping,omitzero"`
}

// A Mapping says what the claims of a provider mean. What is not mapped is
// known to be nothing.
type Mapping struct {
	// User is the fhirUser: "Practitioner/dr1", or its URL at the tenant. With
	// UserType it is an id of that type.
	User     Claim     `json:"user,omitzero"`
	UserType fhir.Type `json:"userType,omitzero"`

	Roles         Claim `json:"roles,omitzero"`
	Organizations Claim `json:"organizations,omitzero"`
	Facilities    Claim `json:"facilities,omitzero"`
	Departments   Claim `json:"departments,omitzero"`
	Location      Claim `json:"location,omitzero"`

	// ShiftStart and ShiftEnd name claims with seconds since 1970.
	ShiftStart string `json:"shiftStart,omitzero"`
	ShiftEnd   string `json:"shiftEnd,omitzero"`
}

// A Claim says where a value comes from.
type Claim struct {
	// Name is that of a member of the ID token: a string, or a list of them.
	Name string `json:"claim"`
	// Values turns values of the provider into the tenant's own; others are
	// left out. Without Values all are taken as they are.
	Values map[string]string `json:"values,omitzero"`
}

// UserTypes are the types that a fhirUser may be of.
// https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html#scopes-for-requesting-identity-data
var UserTypes = []fhir.Type{"Patient", "Practitioner", "PractitionerRole", "RelatedPerson", "Person"}

// ValidUser reports whether text is a fhirUser, "Practitioner/dr1".
func ValidUser(text string) bool {
	ref, err := fhir.ParseRef(text)
	return err == nil && ref.String() == text && slices.Contains(UserTypes, ref.Type)
}

var providerName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

// ValidProvider reports whether a provider may have the name. What is not a
// provider has the name local.
func ValidProvider(name string) bool { return providerName.MatchString(name) && name != "local" }

// MaxSubject bounds the sub of a provider.
// https://openid.net/specs/openid-connect-core-1_0.html#IDToken
const MaxSubject = 255

// ValidSubject reports whether a provider may call a user so.
func ValidSubject(sub string) bool { return sub != "" && printable(sub, MaxSubject) }

func printable(s string, most int) bool {
	return len(s) <= most && !strings.ContainsFunc(s, func(c rune) bool { return c < 0x20 || c > 0x7e })
}

// The bounds of a Provider.
const (
	maxProviderText   = 512
	maxProviderScopes = 20
	maxValues         = 1000
)

// Check returns what is wrong with p, for whoever registers it.
func (p Provider) Check() error {
	u, err := url.Parse(p.Issuer)
	switch {
	case !ValidProvider(p.Name):
		return errors.New("name has to be 1 to 32 of a-z, 0-9 and hyphens, beginning with a letter, and not local")
	case p.Label == "" || len(p.Label) > 100:
		return errors.New("label has to be what people call it, 100 bytes at most")
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || len(p.Issuer) > maxProviderText:
		return errors.New("issuer has to be a URL without query and fragment")
	case p.ClientID == "" || !printable(p.ClientID, maxProviderText):
		return errors.New("client_id is missing or too long")
	case !printable(p.Secret, maxProviderText):
		return errors.New("the secret is too long or holds what cannot be sent")
	case len(p.Scopes) > maxProviderScopes || slices.ContainsFunc(p.Scopes, func(s string) bool { return s == "" || !printable(s, 100) || strings.Contains(s, " ") }):
		return errors.New("scopes holds what cannot be one")
	}
	return p.Mapping.check()
}

func (m Mapping) check() error {
	if m.UserType != "" && !slices.Contains(UserTypes, m.UserType) {
		return errors.New("mapping.userType is none that a fhirUser may be of")
	}
	// A provider that a role could be had of by naming it would decide what it
	// opens, and its groups are not ours.
	if m.Roles.Name != "" && len(m.Roles.Values) == 0 {
		return errors.New("mapping.roles needs values: which of the provider's become which roles")
	}
	if err := checkClaims(m.User, m.Roles, m.Organizations, m.Facilities, m.Departments, m.Location); err != nil {
		return err
	}
	for _, user := range m.User.Values {
		if !ValidUser(m.typed(user)) {
			return errors.New("mapping.user has a value that cannot be a fhirUser")
		}
	}
	lists := Person{}
	for to, c := range map[*[]string]Claim{&lists.Roles: m.Roles, &lists.Organizations: m.Organizations, &lists.Facilities: m.Facilities, &lists.Departments: m.Departments} {
		for _, v := range c.Values {
			*to = []string{v}
			if err := lists.Check(); err != nil {
				return fmt.Errorf("mapping: %w", err)
			}
		}
	}
	for _, v := range m.Location.Values {
		if !fhir.ValidID(v) {
			return errors.New("mapping.location has a value that cannot be an id")
		}
	}
	return nil
}

func checkClaims(list ...Claim) error {
	for _, c := range list {
		if len(c.Name) > 200 || len(c.Values) > maxValues || c.Name == "" && len(c.Values) > 0 {
			return errors.New("mapping has a claim without a name, or with too many values")
		}
	}
	return nil
}

// typed returns the fhirUser that a value stands for.
func (m Mapping) typed(value string) string {
	if m.UserType == "" {
		return value
	}
	return string(m.UserType) + "/" + value
}

// errClaims says that a provider said what cannot be. What it said is for
// nobody's log.
func errClaims(of string) error { return fmt.Errorf("the claim for %s is not one", of) }

// Of returns what the claims of an ID token, JSON, say of a user of the tenant
// with the FHIR base. A claim that is not what it should be is an error, as the
// rest may not be either; one that is missing says nothing.
func (m Mapping) Of(token []byte, base string) (user string, p Person, err error) {
	var claims map[string]jsontext.Value
	if err := json.Unmarshal(token, &claims); err != nil {
		return "", Person{}, errors.New("the claims are not an object with each name once")
	}
	return m.of(claims, base)
}

func (m Mapping) of(claims map[string]jsontext.Value, base string) (user string, p Person, err error) {
	if user, err = m.user(claims, base); err != nil {
		return "", Person{}, err
	}
	for _, l := range []struct {
		to *[]string
		of string
		c  Claim
	}{
		{&p.Roles, "roles", m.Roles}, {&p.Organizations, "organizations", m.Organizations},
		{&p.Facilities, "facilities", m.Facilities}, {&p.Departments, "departments", m.Departments},
	} {
		if *l.to, err = l.c.list(claims, l.of); err != nil {
			return "", Person{}, err
		}
	}
	if p.Location, err = m.Location.one(claims, "location"); err != nil {
		return "", Person{}, err
	}
	if p.ShiftStart, err = seconds(claims, m.ShiftStart); err != nil {
		return "", Person{}, err
	}
	if p.ShiftEnd, err = seconds(claims, m.ShiftEnd); err != nil {
		return "", Person{}, err
	}
	return user, p, p.Check()
}

func (m Mapping) user(claims map[string]jsontext.Value, base string) (string, error) {
	text, err := m.User.one(claims, "fhirUser")
	if err != nil || text == "" {
		return "", err
	}
	if m.UserType == "" && strings.Contains(text, "://") {
		name, here := strings.CutPrefix(text, base+"/")
		if !here {
			return "", errors.New("the fhirUser is not of this tenant")
		}
		text = name
	}
	if text = m.typed(text); !ValidUser(text) {
		return "", errClaims("fhirUser")
	}
	return text, nil
}

// list returns the values of the claim, each once.
func (c Claim) list(claims map[string]jsontext.Value, of string) (list []string, err error) {
	raw, ok := claims[c.Name]
	if c.Name == "" || !ok || raw.Kind() == 'n' {
		return nil, nil
	}
	said := make([]string, 1)
	if raw.Kind() == '"' {
		err = json.Unmarshal(raw, &said[0])
	} else {
		err = json.Unmarshal(raw, &said)
	}
	if err != nil || len(said) > maxValues {
		return nil, errClaims(of)
	}
	for _, v := range said {
		if c.Values != nil {
			if v, ok = c.Values[v]; !ok {
				continue
			}
		}
		if !slices.Contains(list, v) {
			list = append(list, v)
		}
	}
	return list, nil
}

// one returns the value of the claim, "" if there is none.
func (c Claim) one(claims map[string]jsontext.Value, of string) (string, error) {
	list, err := c.list(claims, of)
	switch {
	case err != nil:
		return "", err
	case len(list) > 1:
		return "", errClaims(of)
	case len(list) == 0:
		return "", nil
	}
	return list[0], nil
}

func seconds(claims map[string]jsontext.Value, name string) (n int64, err error) {
	raw, ok := claims[name]
	if name == "" || !ok || raw.Kind() == 'n' {
		return 0, nil
	}
	if err := json.Unmarshal(raw, &n); err != nil {
		return 0, errClaims("the shift")
	}
	return n, nil
}
