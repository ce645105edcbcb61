package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
)

// issuerCommand speaks to the control API about the authorization server
// elsewhere that a tenant trusts.
type issuerCommand struct {
	Set    issuerSetCommand    `cmd:"" help:"Make a tenant trust an authorization server elsewhere instead of its own, or change what it believes."`
	Show   issuerShowCommand   `cmd:"" help:"Show the authorization server elsewhere that a tenant trusts."`
	Remove issuerRemoveCommand `cmd:"" help:"Give a tenant its own authorization server back."`
}

// issuers is what the commands about issuers have in common.
type issuers struct {
	controlFlags
	Tenant string `required:"" help:"Slug of the tenant."`
}

func (i *issuers) do(ctx context.Context, method string, in, out any) error {
	api, err := i.api()
	if err != nil {
		return err
	}
	return api.do(ctx, method, "/tenants/"+url.PathEscape(i.Tenant)+"/issuer", in, out)
}

type issuerSetCommand struct {
	issuers
	SecretFile string `placeholder:"FILE" help:"File with the secret for introspection, - for standard input. Default: the issuer is not asked about tokens."`
	File       string `arg:"" placeholder:"FILE" help:"JSON with issuer and mapping, and what else is to be held."`
}

func (i *issuerSetCommand) Run(ctx context.Context) error {
	text, err := os.ReadFile(i.File)
	if err != nil {
		return fmt.Errorf("reading the issuer: %w", err)
	}
	var issuer map[string]any
	if err := json.Unmarshal(text, &issuer); err != nil {
		return fmt.Errorf("reading the issuer: %w", err)
	}
	secret, err := passwordFlags{i.SecretFile}.read()
	if err != nil {
		return err
	}
	if secret != "" {
		issuer["client_secret"] = secret
	}
	return i.do(ctx, http.MethodPut, issuer, nil)
}

type issuerShowCommand struct{ issuers }

func (i *issuerShowCommand) Run(ctx context.Context, c console) error {
	var issuer any
	if err := i.do(ctx, http.MethodGet, nil, &issuer); err != nil {
		return err
	}
	text, err := json.MarshalIndent(issuer, "", "  ")
	if err != nil {
		return fmt.Errorf("printing the issuer: %w", err)
	}
	_, err = fmt.Fprintf(c.out, "%s\n", text)
	return err
}

type issuerRemoveCommand struct{ issuers }

func (i *issuerRemoveCommand) Run(ctx context.Context) error {
	return i.do(ctx, http.MethodDelete, nil, nil)
}
