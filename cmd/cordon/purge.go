package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"text/tabwriter"

	"github.com/cordon-fhir/cordon/store"
)

// purgeCommand speaks to the control API about what is removed for good.
type purgeCommand struct {
	List    purgeListCommand    `cmd:"" help:"List the purges of a tenant, the youngest first."`
	Ask     purgeAskCommand     `cmd:"" help:"Ask to remove for good what a tenant has of a patient."`
	Approve purgeApproveCommand `cmd:"" help:"Approve a purge that another operator asked for. Servers then do it."`
}

func (o ofTenant) purges() string { return "/tenants/" + url.PathEscape(o.Tenant) + "/purges" }

type purgeListCommand struct{ ofTenant }

func (p *purgeListCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	var list []store.Purge
	if err := api.do(ctx, http.MethodGet, p.purges(), nil, &list); err != nil {
		return err
	}
	return printPurges(c, list...)
}

type purgeAskCommand struct {
	ofTenant
	Patient string `required:"" placeholder:"ID" help:"The patient."`
	Why     string `required:"" help:"Why, in words that name no patient. It is kept in the platform's audit trail."`
}

func (p *purgeAskCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	var asked store.Purge
	if err := api.do(ctx, http.MethodPost, p.purges(), map[string]string{"patient": p.Patient, "why": p.Why}, &asked); err != nil {
		return err
	}
	return printPurges(c, asked)
}

type purgeApproveCommand struct {
	ofTenant
	ID string `arg:"" help:"Id of the purge."`
}

func (p *purgeApproveCommand) Run(ctx context.Context, c console) error {
	api, err := p.reviewer()
	if err != nil {
		return err
	}
	var approved store.Purge
	if err := api.do(ctx, http.MethodPost, p.purges()+"/"+url.PathEscape(p.ID)+"/approve", nil, &approved); err != nil {
		return err
	}
	return printPurges(c, approved)
}

func printPurges(c console, list ...store.Purge) error {
	t := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tSTATE\tASKED\tBY\tWHY")
	for _, p := range list {
		state := "to be approved"
		switch {
		case !p.Done.IsZero():
			state = fmt.Sprintf("done: %d versions of %d resources, %d shared ones kept", p.Versions, p.Resources, p.Shared)
		case !p.Held.IsZero():
			state = "on hold; approved by " + p.ApprovedBy
		case p.ApprovedBy != "":
			state = "approved by " + p.ApprovedBy
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", p.ID, state, clock(p.Asked), p.AskedBy, p.Why)
	}
	return t.Flush()
}
