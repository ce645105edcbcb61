package main

import (
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
	User    string `placeholder:"REF" help:"fhirUser to act for, with user/ scopes: 'Practitioner/dr2'."`
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
		serves := slices.ContainsFunc(c.Scopes, func(s string) bool { return strings.HasPrefix(s, whose) })
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
	if err := api.putClient(ctx, tenant.Slug, c, key); err != nil {
		return c, err
	}
	return t.Dir.keep(tenant.Slug, c, key)
}
