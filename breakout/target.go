package breakout

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// A Target is a running server of two or more tenants. It is read from a file;
// what `cordon dev` writes to dev.json is one.
type Target struct {
	Tenants []*Tenant `json:"tenants"`
	// Ops is the origin that serves /metrics to operators, if it can be reached:
	// then it is known which alerts were raised.
	Ops string `json:"ops,omitempty"`
	// Nowhere is the FHIR base of a tenant that never existed. By default it is
	// beside that of the first tenant.
	Nowhere string `json:"nowhere,omitempty"`
}

// A Tenant is one whose boundary is tried from both sides.
type Tenant struct {
	Slug     string `json:"slug"`
	Mode     string `json:"mode,omitempty"`   // how it is kept apart, for the report
	Region   string `json:"region,omitempty"` // the same
	FHIRBase string `json:"fhir_base"`
	// TokenURL is its token endpoint. By default it is asked for at
	// .well-known/smart-configuration.
	TokenURL string    `json:"token_url,omitempty"`
	Clients  []*Client `json:"clients"`
}

// A Client is a registered client of a tenant, which earns tokens as a SMART
// backend service or has one.
type Client struct {
	ID     string   `json:"id"`
	Scopes []string `json:"scopes"`
	// User is the fhirUser that it acts for: another makes another actor.
	User string `json:"user,omitempty"`
	// Patient is the id of the patient in its launch context.
	Patient string `json:"patient,omitempty"`
	// Actor is whom it plays in the attacks. By default that follows from its
	// scopes.
	Actor string `json:"actor,omitempty"`
	// KeyFile holds its private JWK; TokenFile an access token for a server that
	// gives no tokens to clients that sign.
	KeyFile   string `json:"key_file,omitempty"`
	TokenFile string `json:"token_file,omitempty"`
}

// Read reads a target. Names of files in it are relative to the working
// directory.
func Read(file string) (*Target, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	t := new(Target)
	if err := json.Unmarshal(text, t); err != nil {
		return nil, fmt.Errorf("reading %s: %w", filepath.Base(file), err)
	}
	return t, nil
}

// Keep leaves only the tenants with the slugs; none stands for all.
func (t *Target) Keep(slugs ...string) error {
	for _, slug := range slugs {
		if !slices.ContainsFunc(t.Tenants, func(one *Tenant) bool { return one.Slug == slug }) {
			return fmt.Errorf("the target has no tenant %q", slug)
		}
	}
	if len(slugs) > 0 {
		t.Tenants = slices.DeleteFunc(t.Tenants, func(one *Tenant) bool { return !slices.Contains(slugs, one.Slug) })
	}
	return nil
}

// usual is whom a client with the scopes plays.
var usual = []struct{ scopes, actor string }{
	{"system/*.cruds", "backend"}, {"system/*.rs", "reader"}, {"system/*.cud", "writer"}, {"system/AuditEvent.rs", "auditor"},
	{"user/*.cruds", "dr1"}, {"patient/*.cruds", "pA"}, {"patient/*.rs", "pA"}, {"system/Observation.cus system/Patient.cus", "finder"},
	{"system/Observation.cruds?category=laboratory", "lab"}, {"system/Coverage.rs system/Claim.rs", "billing"},
}

// plays returns the actor that the client is, "" for none. A client without a
// way to earn a token plays nobody.
func (c *Client) plays() string {
	if c.KeyFile == "" && c.TokenFile == "" {
		return ""
	}
	if c.Actor != "" {
		return c.Actor
	}
	for _, u := range usual {
		if strings.Join(c.Scopes, " ") == u.scopes {
			return u.actor
		}
	}
	return ""
}

// nowhere is the base of a tenant that is not there.
func (t *Target) nowhere() (string, error) {
	if t.Nowhere != "" {
		return t.Nowhere, nil
	}
	u, err := url.Parse(t.Tenants[0].FHIRBase)
	if err != nil {
		return "", err
	}
	u.Path = path.Dir(u.Path) + "/" + absent
	return u.String(), nil
}

// absent is the slug of a tenant that never existed.
const absent = "xray-zero"

// discover asks the tenant where its token endpoint is.
// https://hl7.org/fhir/smart-app-launch/conformance.html
func (t *Tenant) discover(ctx context.Context, client *http.Client) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.FHIRBase+"/.well-known/smart-configuration", nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var says struct {
		TokenEndpoint string `json:"token_endpoint"`
	}
	if err := json.NewDecoder(http.MaxBytesReader(nil, resp.Body, 1<<20)).Decode(&says); err != nil || says.TokenEndpoint == "" {
		return fmt.Errorf("%s does not say where its token endpoint is", t.Slug)
	}
	t.TokenURL = says.TokenEndpoint
	return nil
}
