package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
)

// issuerCommand speaks to the control API about the authorization server
// elsewhere that a tenant trusts.
type issuerCommand struct {
	Set    issuerSetCommand    `cmd:"" help:"Make a tenant trust an authorization server elsewhere instead of its own, or change what it believes."`
	Show   issuerShowCommand   `cmd:"" help:"Show the authorization server elsewhere that a tenant trusts."`
	Remove issuerRemoveCommand `cmd:"" help:"Give a tenant its own authorization server back."`
}

type issuerSetCommand struct {
	ofTenant
	SecretFile string `placeholder:"FILE" help:"File with the secret for introspection, - for standard input. Default: the issuer is not asked about tokens."`
	File       string `arg:"" placeholder:"FILE" help:"JSON with issuer and mapping, and what else is to be held."`
}

func (i *issuerSetCommand) Run(ctx context.Context, api *controlAPI) error {
	issuer, err := readWithSecret(i.File, i.SecretFile)
	if err != nil {
		return fmt.Errorf("reading the issuer: %w", err)
	}
	return api.do(ctx, http.MethodPut, i.path("issuer"), issuer, nil)
}

type issuerShowCommand struct{ ofTenant }

func (i *issuerShowCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	var issuer any
	if err := api.do(ctx, http.MethodGet, i.path("issuer"), nil, &issuer); err != nil {
		return err
	}
	text, err := json.MarshalIndent(issuer, "", "  ")
	if err != nil {
		return fmt.Errorf("printing the issuer: %w", err)
	}
	_, err = fmt.Fprintf(c.out, "%s\n", text)
	return err
}

type issuerRemoveCommand struct{ ofTenant }

func (i *issuerRemoveCommand) Run(ctx context.Context, api *controlAPI) error {
	return api.do(ctx, http.MethodDelete, i.path("issuer"), nil, nil)
}
