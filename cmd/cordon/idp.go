package main

import (
	"context"
	"fmt"
	"net/http"
	"text/tabwriter"
)

// idpCommand speaks to the control API about identity providers.
type idpCommand struct {
	Add    idpAddCommand    `cmd:"" help:"Let users log in by an OpenID Connect provider, or change how."`
	List   idpListCommand   `cmd:"" help:"List the identity providers of a tenant."`
	Remove idpRemoveCommand `cmd:"" help:"Remove an identity provider, and end the sessions of its users."`
	Allow  idpAllowCommand  `cmd:"" help:"Let a user of an identity provider log in."`
	Block  idpBlockCommand  `cmd:"" help:"Let a user of an identity provider log in no more, and end their sessions."`
	Users  idpUsersCommand  `cmd:"" help:"List the users of an identity provider who have come or were allowed or blocked."`
}

type idpAddCommand struct {
	ofTenant
	SecretFile string `placeholder:"FILE" help:"File with the client secret, - for standard input. Default: the client has none."`
	File       string `arg:"" placeholder:"FILE" help:"JSON with name, label, issuer, client_id and mapping."`
}

func (i *idpAddCommand) Run(ctx context.Context, api *controlAPI) error {
	provider, err := readWithSecret(i.File, i.SecretFile)
	if err != nil {
		return fmt.Errorf("reading the identity provider: %w", err)
	}
	return api.do(ctx, http.MethodPost, i.path("identity-providers"), provider, nil)
}

// readWithSecret reads the JSON object in the file, and adds the client secret in
// the other, if that is given.
func readWithSecret(file, secretFile string) (map[string]any, error) {
	var object map[string]any
	if err := readJSON(file, &object); err != nil {
		return nil, err
	}
	if object == nil {
		return nil, fmt.Errorf("%s holds no JSON object", file)
	}
	secret, err := passwordFlags{secretFile}.read()
	if secret != "" {
		object["client_secret"] = secret
	}
	return object, err
}

type idpListCommand struct{ ofTenant }

func (i *idpListCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	var list []struct {
		Name, Label, Issuer string
		Open                bool
	}
	if err := api.do(ctx, http.MethodGet, i.path("identity-providers"), nil, &list); err != nil {
		return err
	}
	t := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tLABEL\tISSUER\tLETS IN")
	for _, p := range list {
		lets := "allowed users"
		if p.Open {
			lets = "all its users"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", p.Name, p.Label, p.Issuer, lets)
	}
	return t.Flush()
}

// oneIDP is what the commands on one identity provider take.
type oneIDP struct {
	ofTenant
	Name string `arg:"" help:"Name of the identity provider."`
}

func (i *oneIDP) path(parts ...string) string {
	return i.ofTenant.path(append([]string{"identity-providers", i.Name}, parts...)...)
}

type idpRemoveCommand struct{ oneIDP }

func (i *idpRemoveCommand) Run(ctx context.Context, api *controlAPI) error {
	return api.do(ctx, http.MethodDelete, i.path(), nil, nil)
}

// idpUser is a user of an identity provider, as the control API has it.
type idpUser struct {
	Subject  string `json:"subject"`
	Disabled bool   `json:"disabled,omitempty"`
}

// oneIDPUser is what the commands on one user of an identity provider take.
type oneIDPUser struct {
	oneIDP
	Subject string `arg:"" help:"The user's sub at the identity provider."`
}

func (i *oneIDPUser) put(ctx context.Context, api *controlAPI, disabled bool) error {
	return api.do(ctx, http.MethodPost, i.path("users"), idpUser{i.Subject, disabled}, nil)
}

type idpAllowCommand struct{ oneIDPUser }

func (i *idpAllowCommand) Run(ctx context.Context, api *controlAPI) error {
	return i.put(ctx, api, false)
}

type idpBlockCommand struct{ oneIDPUser }

func (i *idpBlockCommand) Run(ctx context.Context, api *controlAPI) error {
	return i.put(ctx, api, true)
}

type idpUsersCommand struct{ oneIDP }

func (i *idpUsersCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	var list []idpUser
	if err := api.do(ctx, http.MethodGet, i.path("users"), nil, &list); err != nil {
		return err
	}
	t := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SUBJECT\tSTATUS")
	for _, u := range list {
		status := "allowed"
		if u.Disabled {
			status = "blocked"
		}
		fmt.Fprintf(t, "%s\t%s\n", u.Subject, status)
	}
	return t.Flush()
}
