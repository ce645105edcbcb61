package main

import (
	"context"
	"fmt"
	"net/http"
	"text/tabwriter"
	"time"

	"github.com/cordon-fhir/cordon/store"
)

// breakGlassCommand speaks to the control API about broken glasses. Of whom the
// records are, it is not told.
type breakGlassCommand struct {
	List breakGlassListCommand `cmd:"" help:"List who broke a glass or asks to, those that are open first."`
	Show breakGlassShowCommand `cmd:"" help:"Show one."`
	End  breakGlassEndCommand  `cmd:"" help:"End one at once."`
}

type breakGlassListCommand struct{ ofTenant }

func (b *breakGlassListCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	var list []store.GlassOutline
	if err := api.do(ctx, http.MethodGet, b.path("break-glass"), nil, &list); err != nil {
		return err
	}
	t := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tSTATE\tUSER\tCLIENT\tREQUESTED\tUNTIL")
	for _, g := range list {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", g.ID, g.State, g.User, g.Client, clock(g.Requested), clock(g.Until))
	}
	return t.Flush()
}

// clock is a time as operators read it, "" for none.
func clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.RFC3339)
}

// glassID is what the commands on one broken glass take.
type glassID struct {
	ofTenant
	ID string `arg:"" help:"Id of the broken glass."`
}

type breakGlassShowCommand struct{ glassID }

func (b *breakGlassShowCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	var g store.GlassOutline
	if err := api.do(ctx, http.MethodGet, b.path("break-glass", b.ID), nil, &g); err != nil {
		return err
	}
	return printGlass(c, g)
}

type breakGlassEndCommand struct {
	glassID
	Why string `required:"" help:"Why it ends. It is kept in the platform's audit trail."`
}

func (b *breakGlassEndCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	var g store.GlassOutline
	if err := api.do(ctx, http.MethodPost, b.path("break-glass", b.ID, "end"), map[string]string{"why": b.Why}, &g); err != nil {
		return err
	}
	return printGlass(c, g)
}

func printGlass(c console, g store.GlassOutline) error {
	t := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, value)
		}
	}
	line("id", g.ID)
	line("state", string(g.State))
	line("user", g.User)
	line("client", g.Client)
	line("requested", clock(g.Requested))
	if g.Alone {
		line("approved", "nobody had to")
	}
	line("decided by", g.DecidedBy)
	line("from", clock(g.Begins))
	line("until", clock(g.Until))
	line("ended", clock(g.Ended))
	line("ended by", g.EndedBy)
	line("reviewed by", g.ReviewedBy)
	return t.Flush()
}
