package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cordon-fhir/cordon/control"
	"github.com/cordon-fhir/cordon/smart"
)

// controlFlags say which control API to speak to, and as whom: that of a
// development server, or one given by its URL.
type controlFlags struct {
	Dir         devDir `default:"dev" env:"CORDON_DIR" placeholder:"DIR" help:"Directory of the development server. Default: dev."`
	ControlURL  string `env:"CORDON_CONTROL_URL" placeholder:"URL" help:"Origin of the control API, if it is not a development server's."`
	Operator    string `env:"CORDON_OPERATOR" placeholder:"ID" help:"Operator to act as there."`
	OperatorKey string `env:"CORDON_OPERATOR_KEY" placeholder:"FILE" help:"Private JWK of the operator."`
}

// ProvideAPI gives Run the control API if it asks for one.
func (f controlFlags) ProvideAPI() (*controlAPI, error) { return f.api() }

func (f controlFlags) api() (*controlAPI, error) {
	if f.ControlURL == "" {
		s, err := f.Dir.server()
		if err != nil {
			return nil, err
		}
		return s.control()
	}
	if f.Operator == "" || f.OperatorKey == "" {
		return nil, errors.New("--control-url needs --operator and --operator-key")
	}
	key, err := readKey(f.OperatorKey)
	if err != nil {
		return nil, err
	}
	return &controlAPI{url: f.ControlURL, operator: f.Operator, key: key}, nil
}

// ofTenant says which tenant a command is about.
type ofTenant struct {
	controlFlags
	Tenant string `required:"" help:"Slug of the tenant."`
}

// path is that of something of the tenant in the control API.
func (o ofTenant) path(parts ...string) string { return tenantPath(o.Tenant, parts...) }

// tenantPath is the path of a tenant in the control API, or of something of it.
func tenantPath(slug string, parts ...string) string {
	path := "/tenants/" + url.PathEscape(slug)
	for _, part := range parts {
		path += "/" + url.PathEscape(part)
	}
	return path
}

// reviewer is api for what takes a second person: a development server has one.
func (f controlFlags) reviewer() (*controlAPI, error) {
	if f.ControlURL != "" {
		return f.api()
	}
	s, err := f.Dir.server()
	if err != nil {
		return nil, err
	}
	return s.as(reviewer, f.Dir.path("reviewer.jwk"))
}

// control returns the control API of the development server.
func (s *devServer) control() (*controlAPI, error) { return s.as(s.Operator, s.OperatorKeyFile) }

func (s *devServer) as(operator, keyFile string) (*controlAPI, error) {
	key, err := readKey(keyFile)
	if err != nil {
		return nil, err
	}
	return &controlAPI{url: s.Control, operator: operator, key: key}, nil
}

// A controlAPI is a control plane, and who speaks to it.
type controlAPI struct {
	url      string
	operator string
	key      *jose.JSONWebKey
}

// newTenant is the body that makes a tenant.
type newTenant struct {
	Slug   string `json:"slug"`
	Name   string `json:"name,omitempty"`
	Mode   string `json:"mode"`
	Region string `json:"region,omitempty"`
}

// tenantRow is a tenant as the control API shows it.
type tenantRow struct {
	newTenant
	Status string `json:"status"`
}

func (a *controlAPI) createTenant(ctx context.Context, t newTenant) error {
	return a.do(ctx, http.MethodPost, "/tenants", t, nil)
}

func (a *controlAPI) tenants(ctx context.Context) (list []tenantRow, err error) {
	err = a.do(ctx, http.MethodGet, "/tenants", nil, &list)
	return list, err
}

// clientRow is a client as the control API takes and shows it.
type clientRow struct {
	ID       string              `json:"id"`
	Name     string              `json:"name,omitempty"`
	JWKS     *jose.JSONWebKeySet `json:"jwks,omitempty"`
	JWKSURI  string              `json:"jwks_uri,omitempty"`
	Scopes   []string            `json:"scopes"`
	User     string              `json:"user,omitempty"`
	Patient  string              `json:"patient,omitempty"`
	Purpose  string              `json:"purpose,omitempty"`
	Disabled bool                `json:"disabled,omitempty"`

	Method       string   `json:"method,omitempty"`
	RedirectURIs []string `json:"redirect_uris,omitempty"`
	LaunchURL    string   `json:"launch_url,omitempty"`
	Secret       string   `json:"secret,omitempty"` // in the answer

	Encounter string       `json:"encounter,omitempty"`
	Person    smart.Person `json:"person,omitzero"`
}

// clients returns the clients of the tenant.
func (a *controlAPI) clients(ctx context.Context, slug string) (list []clientRow, err error) {
	err = a.do(ctx, http.MethodGet, tenantPath(slug, "clients"), nil, &list)
	return list, err
}

// putClient registers the client, with the public half of key if it has one,
// and returns its secret, if it has that.
func (a *controlAPI) putClient(ctx context.Context, slug string, c devClient, key *jose.JSONWebKey) (secret string, err error) {
	row := clientRow{
		ID: c.ID, Name: c.Name, Scopes: c.Scopes, User: c.User, Patient: c.Patient, Method: c.Method, LaunchURL: c.LaunchURL, JWKSURI: c.JWKSURI,
		Encounter: c.Encounter, Person: c.Person,
	}
	if key != nil {
		row.JWKS = &jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key.Public()}}
	}
	if c.RedirectURI != "" {
		row.RedirectURIs = strings.Fields(c.RedirectURI)
	}
	var made clientRow
	err = a.do(ctx, http.MethodPost, tenantPath(slug, "clients"), row, &made)
	return made.Secret, err
}

// do sends a request with a token made for it, and decodes the answer into
// out, if that is not nil.
func (a *controlAPI) do(ctx context.Context, method, path string, in, out any) error {
	if in == nil {
		return a.send(ctx, method, path, "application/json", nil, out)
	}
	text, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("asking the control plane: %w", err)
	}
	return a.send(ctx, method, path, "application/json", bytes.NewReader(text), out)
}

// send is do for a body of the type.
func (a *controlAPI) send(ctx context.Context, method, path, contentType string, body io.Reader, out any) error {
	token, err := control.Token(a.key, a.operator, a.url)
	if err != nil {
		return fmt.Errorf("asking the control plane: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.url+"/control/v1"+path, body)
	if err != nil {
		return fmt.Errorf("asking the control plane: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", contentType)
	resp, err := (&http.Client{Timeout: 2 * time.Minute}).Do(req)
	if err != nil {
		return fmt.Errorf("asking the control plane: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return fmt.Errorf("asking the control plane: %w", err)
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("the control plane answered %s: %s", resp.Status, issues(text))
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("reading the answer of the control plane: %w", err)
	}
	return nil
}

// tenantCommand speaks to the control API about tenants.
type tenantCommand struct {
	Create  tenantCreateCommand  `cmd:"" help:"Make a tenant. The same request may be repeated."`
	List    tenantListCommand    `cmd:"" help:"List the tenants."`
	Show    tenantShowCommand    `cmd:"" help:"Show a tenant."`
	Suspend tenantSuspendCommand `cmd:"" help:"Stop serving a tenant."`
	Resume  tenantResumeCommand  `cmd:"" help:"Serve a suspended tenant again."`

	Rotate tenantRotateCommand `cmd:"" help:"Make the next keys that tokens are signed with; those before them are believed for a day."`

	Settings tenantSettingsCommand `cmd:"" help:"Show what is set for a tenant."`
	Set      tenantSetCommand      `cmd:"" help:"Change what is set for a tenant."`
}

type tenantCreateCommand struct {
	controlFlags
	Slug   string `arg:"" help:"Name in URLs; never changes."`
	Mode   string `required:"" enum:"shared,schema,database" help:"What isolates it: shared, schema or database."`
	Name   string `help:"Name for people."`
	Region string `help:"Where its data may be processed."`
}

func (t *tenantCreateCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	if err := api.createTenant(ctx, newTenant{Slug: t.Slug, Name: t.Name, Mode: t.Mode, Region: t.Region}); err != nil {
		return err
	}
	return api.show(ctx, c.out, t.Slug)
}

type tenantListCommand struct{ controlFlags }

func (t *tenantListCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	list, err := api.tenants(ctx)
	if err != nil {
		return err
	}
	return printTenants(c.out, list...)
}

// tenantSlug is what the commands on one tenant take.
type tenantSlug struct {
	controlFlags
	Slug string `arg:"" help:"Slug of the tenant."`
}

type tenantShowCommand struct{ tenantSlug }

func (t *tenantShowCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	return api.show(ctx, c.out, t.Slug)
}

type tenantSuspendCommand struct{ tenantSlug }

func (t *tenantSuspendCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	return api.become(ctx, c.out, t.Slug, "suspend")
}

type tenantRotateCommand struct {
	tenantSlug
	Compromised bool `help:"Believe the keys before no more, and so none of the tokens that they have signed."`
}

func (t *tenantRotateCommand) Run(ctx context.Context, api *controlAPI) error {
	return api.do(ctx, http.MethodPost, tenantPath(t.Slug, "signing-keys"), map[string]bool{"alone": t.Compromised}, nil)
}

type tenantResumeCommand struct{ tenantSlug }

func (t *tenantResumeCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	return api.become(ctx, c.out, t.Slug, "resume")
}

// become suspends or resumes a tenant, and prints it.
func (a *controlAPI) become(ctx context.Context, w io.Writer, slug, verb string) error {
	if err := a.do(ctx, http.MethodPost, tenantPath(slug, verb), nil, nil); err != nil {
		return err
	}
	return a.show(ctx, w, slug)
}

// show prints a tenant.
func (a *controlAPI) show(ctx context.Context, w io.Writer, slug string) error {
	var row tenantRow
	if err := a.do(ctx, http.MethodGet, tenantPath(slug), nil, &row); err != nil {
		return err
	}
	return printTenants(w, row)
}

func printTenants(w io.Writer, list ...tenantRow) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "TENANT\tMODE\tSTATUS\tREGION\tNAME")
	for _, x := range list {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", x.Slug, x.Mode, x.Status, x.Region, x.Name)
	}
	return t.Flush()
}

// clientCommand speaks to the control API about clients.
type clientCommand struct {
	Add  clientAddCommand  `cmd:"" help:"Register a client of a tenant."`
	List clientListCommand `cmd:"" help:"List the clients of a tenant."`

	Disable clientDisableCommand `cmd:"" help:"Void the tokens of a client, and give it no more."`
	Enable  clientEnableCommand  `cmd:"" help:"Let a disabled client, or one that has registered itself, have tokens."`
}

// personFlags say what a login would tell of a user.
type personFlags struct {
	Roles         []string      `placeholder:"ROLE" help:"Roles of the user, or of the client: 'nurse,billing'. The access policy says what they may do."`
	Organizations []string      `placeholder:"ID" help:"Organizations that the user works for."`
	Facilities    []string      `placeholder:"ID" help:"Locations at which the user may work."`
	Departments   []string      `placeholder:"ID" help:"Departments of the user, ids of Organizations."`
	Location      string        `placeholder:"ID" help:"Location at which the user is."`
	Shift         time.Duration `placeholder:"DURATION" help:"For how long the user is on shift, from now on: 8h."`
}

func (f personFlags) person(now time.Time) smart.Person {
	p := smart.Person{Roles: f.Roles, Organizations: f.Organizations, Facilities: f.Facilities, Departments: f.Departments, Location: f.Location}
	if f.Shift > 0 {
		p.ShiftStart, p.ShiftEnd = now.Unix(), now.Add(f.Shift).Unix()
	}
	return p
}

type clientAddCommand struct {
	ofTenant
	ID      string   `arg:"" help:"client_id."`
	Scopes  []string `required:"" sep:" " help:"SMART scopes it may have at most, separated by spaces."`
	User    string   `placeholder:"REF" help:"fhirUser that it acts for: 'Practitioner/dr1'."`
	Patient string   `placeholder:"ID" help:"Patient in its launch context."`

	Encounter string `placeholder:"ID" help:"Encounter in its launch context."`
	personFlags

	Key string `xor:"key" placeholder:"FILE" help:"JWK of the client, private or public; only its public half is sent. Default: one is made and kept in DIR/clients."`

	JWKSURI string `name:"jwks-uri" xor:"key" placeholder:"URL" help:"Where the client publishes its keys, instead of --key: it can replace them by itself."`

	Name        string   `help:"Name that users see."`
	Method      string   `enum:"private_key_jwt,client_secret,none" default:"private_key_jwt" help:"How it proves who it is: private_key_jwt, client_secret (one is made and printed) or none, for an app that runs where its users are."`
	RedirectURI []string `sep:" " placeholder:"URL" help:"Where its users come back to."`
	LaunchURL   string   `placeholder:"URL" help:"Where an EHR opens it."`
}

func (a *clientAddCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	client := devClient{
		ID: a.ID, Name: a.Name, Scopes: a.Scopes, User: a.User, Patient: a.Patient, KeyFile: a.Key,
		Encounter: a.Encounter, Person: a.person(time.Now()),
		Method: a.Method, RedirectURI: strings.Join(a.RedirectURI, " "), LaunchURL: a.LaunchURL, JWKSURI: a.JWKSURI,
	}
	if a.Method != smart.PrivateKeyJWT || a.JWKSURI != "" {
		secret, err := api.putClient(ctx, a.Tenant, client, nil)
		if err == nil && secret != "" {
			_, err = fmt.Fprintln(c.out, secret)
		}
		return err
	}
	if a.Key != "" {
		key, err := readJWK(a.Key)
		if err != nil {
			return err
		}
		_, err = api.putClient(ctx, a.Tenant, client, key)
		return err
	}
	key, err := newKey()
	if err != nil {
		return err
	}
	if _, err := api.putClient(ctx, a.Tenant, client, key); err != nil {
		return err
	}
	client, err = a.Dir.keep(a.Tenant, client, key)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.out, client.KeyFile)
	return err
}

// oneClient is what the commands on one client take.
type oneClient struct {
	ofTenant
	ID string `arg:"" help:"client_id."`
}

func (o *oneClient) become(ctx context.Context, api *controlAPI, verb string) error {
	return api.do(ctx, http.MethodPost, o.path("clients", o.ID, verb), nil, nil)
}

type clientDisableCommand struct{ oneClient }

func (o *clientDisableCommand) Run(ctx context.Context, api *controlAPI) error {
	return o.become(ctx, api, "disable")
}

type clientEnableCommand struct{ oneClient }

func (o *clientEnableCommand) Run(ctx context.Context, api *controlAPI) error {
	return o.become(ctx, api, "enable")
}

type clientListCommand struct{ ofTenant }

func (l *clientListCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	list, err := api.clients(ctx, l.Tenant)
	if err != nil {
		return err
	}
	t := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CLIENT\tSCOPES\tUSER\tPATIENT")
	for _, x := range list {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", x.ID, strings.Join(x.Scopes, " "), x.User, x.Patient)
	}
	return t.Flush()
}
