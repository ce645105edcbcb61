package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"text/tabwriter"

	"github.com/cordon-fhir/cordon/store"
)

// auditHoldCommand speaks to the control API about legal holds.
type auditHoldCommand struct {
	List  auditHoldListCommand  `cmd:"" help:"List the legal holds of a tenant, those in force first."`
	Place auditHoldPlaceCommand `cmd:"" help:"Keep what a tenant has, or what it has of a patient, from being removed."`
	Lift  auditHoldLiftCommand  `cmd:"" help:"Ask to lift a legal hold; or lift it, if another operator asked."`
}

func (o ofTenant) holds() string { return "/tenants/" + url.PathEscape(o.Tenant) + "/legal-holds" }

type auditHoldListCommand struct{ ofTenant }

func (a *auditHoldListCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	var list []store.Hold
	if err := api.do(ctx, http.MethodGet, a.holds(), nil, &list); err != nil {
		return err
	}
	return printHolds(c, list...)
}

type auditHoldPlaceCommand struct {
	ofTenant
	Patient string `placeholder:"ID" help:"Only what is of this patient. Default: all that the tenant has."`
	Why     string `required:"" help:"Why, in words that name no patient. It is kept in the platform's audit trail."`
}

func (a *auditHoldPlaceCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	var h store.Hold
	if err := api.do(ctx, http.MethodPost, a.holds(), map[string]string{"patient": a.Patient, "why": a.Why}, &h); err != nil {
		return err
	}
	return printHolds(c, h)
}

type auditHoldLiftCommand struct {
	ofTenant
	ID  string `arg:"" help:"Id of the legal hold."`
	Why string `required:"" help:"Why, in words that name no patient. It is kept in the platform's audit trail."`
}

func (a *auditHoldLiftCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	var h store.Hold
	if err := api.do(ctx, http.MethodPost, a.holds()+"/"+url.PathEscape(a.ID)+"/lift", map[string]string{"why": a.Why}, &h); err != nil {
		return err
	}
	return printHolds(c, h)
}

func printHolds(c console, list ...store.Hold) error {
	t := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tOF\tSTATE\tPLACED\tBY\tWHY")
	for _, h := range list {
		of, state := "all", "in force"
		if h.OfPatient {
			of = "a patient"
		}
		switch {
		case h.LiftedBy != "":
			state = "lifted by " + h.AskedBy + " and " + h.LiftedBy
		case h.AskedBy != "":
			state = "in force; " + h.AskedBy + " asks to lift it"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", h.ID, of, state, clock(h.Placed), h.PlacedBy, h.Why)
	}
	return t.Flush()
}
