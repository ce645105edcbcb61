package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
)

// tokenCommand prints an access token for trying things.
type tokenCommand struct {
	Dir     devDir `default:"dev" env:"CORDON_DIR" placeholder:"DIR" help:"Directory of the development server. Default: dev."`
	Tenant  string `required:"" help:"Slug of the tenant."`
	Scope   string `required:"" help:"SMART scopes, separated by spaces: 'system/Patient.rs'."`
	Client  string `help:"Client to act as. Default: a demo client that may have the scopes."`
	User    string `placeholder:"LOGIN" help:"User to log in as: 'doctor'. Or a reference, 'Practitioner/dr2', for a client that acts for it without a login."`
	Patient string `placeholder:"ID" help:"Patient in context, with patient/ scopes: 'p2'."`
}

// Run earns a token at the tenant's token endpoint and prints it.
func (t *tokenCommand) Run(ctx context.Context, c console) error {
	server, err := t.Dir.server()
	if err != nil {
		return err
	}
	tenant, err := t.Dir.tenant(server, t.Tenant)
	if err != nil {
		return err
	}
	if t.User != "" && !strings.Contains(t.User, "/") {
		return t.logIn(ctx, c, tenant)
	}
	client, err := t.client(ctx, server, tenant)
	if err != nil {
		return err
	}
	l, err := newLogin(tenant, client, t.Scope)
	if err != nil {
		return err
	}
	token, err := l.Token(ctx)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.out, token)
	return err
}

// logIn gets the token by a login with the browser's pages.
func (t *tokenCommand) logIn(ctx context.Context, c console, tenant *devTenant) error {
	f := codeFlow{tenant: tenant, scope: t.Scope, patient: t.Patient}
	app := cmp.Or(t.Client, demoApp.ID)
	for _, one := range tenant.Clients {
		if one.ID == app && one.RedirectURI != "" {
			f.app = one
		}
	}
	for _, u := range tenant.Users {
		if u.Login == t.User {
			f.user = u
		}
	}
	switch {
	case f.app.ID == "":
		return fmt.Errorf("%s has no app %q that users log in to", tenant.Slug, app)
	case f.user.Login == "":
		return fmt.Errorf("the password of %q is not in %s", t.User, t.Dir)
	}
	token, err := f.token(ctx)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.out, token)
	return err
}

// client chooses who asks: the client named, else a demo client with the
// context and the launch context asked for, else one registered for those.
func (t *tokenCommand) client(ctx context.Context, server *devServer, tenant *devTenant) (devClient, error) {
	whose := "system/"
	if strings.Contains(t.Scope, "patient/") {
		whose = "patient/"
	} else if strings.Contains(t.Scope, "user/") {
		whose = "user/"
	}
	for _, c := range tenant.Clients {
		if t.Client != "" && c.ID == t.Client {
			return c, nil
		}
		serves := c.KeyFile != "" && slices.ContainsFunc(c.Scopes, func(s string) bool { return strings.HasPrefix(s, whose) })
		if t.Client == "" && serves && (t.Patient == "" || t.Patient == c.Patient) && (t.User == "" || t.User == c.User) {
			return c, nil
		}
	}
	switch {
	case t.Client != "":
		return devClient{}, fmt.Errorf("no client %q of %s has its key here", t.Client, tenant.Slug)
	case whose == "patient/" && fhir.ValidID(t.Patient):
		return t.register(ctx, server, tenant, devClient{
			ID: "patient-" + t.Patient, Scopes: []string{"patient/*.rs"}, User: "Patient/" + t.Patient, Patient: t.Patient,
		})
	case whose == "user/":
		who, err := fhir.ParseRef(t.User)
		if err != nil {
			return devClient{}, fmt.Errorf("--user %q is not a reference such as Practitioner/dr2", t.User)
		}
		return t.register(ctx, server, tenant, devClient{
			ID: "user-" + strings.ToLower(string(who.Type)) + "-" + who.ID, Scopes: []string{"user/*.cruds"}, User: t.User,
		})
	}
	return devClient{}, fmt.Errorf("no demo client of %s may have these scopes in this context", tenant.Slug)
}

// register registers c with the tenant and keeps its key for the next time.
func (t *tokenCommand) register(ctx context.Context, server *devServer, tenant *devTenant, c devClient) (devClient, error) {
	key, err := newKey()
	if err != nil {
		return c, err
	}
	api, err := server.control()
	if err != nil {
		return c, err
	}
	if _, err := api.putClient(ctx, tenant.Slug, c, key); err != nil {
		return c, err
	}
	return t.Dir.keep(tenant.Slug, c, key)
}
