package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cordon-fhir/cordon/alert"
)

// alertCommand speaks to the control API about alerts.
type alertCommand struct {
	List  alertListCommand  `cmd:"" help:"List alerts, those that are not closed first."`
	Show  alertShowCommand  `cmd:"" help:"Show an alert."`
	Ack   alertAckCommand   `cmd:"" help:"Say that somebody looks into an alert."`
	Close alertCloseCommand `cmd:"" help:"Close an alert: what is seen again opens another."`
	Sink  alertSinkCommand  `cmd:"" help:"Set, list and remove webhooks that are told of alerts."`
}

type alertListCommand struct {
	controlFlags
	Tenant string `help:"Slug of a tenant. Default: all, and what no tenant was proven for."`
	All    bool   `help:"List those that are closed, too."`
}

func (a *alertListCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	path := "/alerts"
	if a.Tenant != "" {
		path = tenantPath(a.Tenant, "alerts")
	}
	var list []alert.Alert
	if err := api.do(ctx, http.MethodGet, path, nil, &list); err != nil {
		return err
	}
	t := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tSTATE\tTENANT\tRULE\tWHO\tCOUNT\tLAST SEEN")
	for _, x := range list {
		if x.State != alert.Closed || a.All {
			fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%d\t%s\n", x.ID, x.State, x.Tenant, x.Rule, who(x.Principal), x.Count, x.Last.Format(time.RFC3339))
		}
	}
	return t.Flush()
}

// who is a principal in one word.
func who(p alert.Principal) string {
	var parts []string
	for _, part := range []string{p.Client, p.User, p.Address} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		return "many"
	}
	return strings.Join(parts, ", ")
}

// alertID is what the commands on one alert take.
type alertID struct {
	controlFlags
	ID int64 `arg:"" help:"Number of the alert."`
}

type alertShowCommand struct{ alertID }

func (a *alertShowCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	return a.do(ctx, c, api, http.MethodGet, "", nil)
}

// alertWhy is what an operator says of an alert.
type alertWhy struct {
	alertID
	Why string `required:"" help:"What was found, or who looks into it. It is kept with the alert."`
}

type alertAckCommand struct{ alertWhy }

func (a *alertAckCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	return a.do(ctx, c, api, http.MethodPost, "/acknowledge", map[string]string{"why": a.Why})
}

type alertCloseCommand struct{ alertWhy }

func (a *alertCloseCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	return a.do(ctx, c, api, http.MethodPost, "/close", map[string]string{"why": a.Why})
}

func (a *alertID) do(ctx context.Context, c console, api *controlAPI, method, verb string, body any) error {
	var x alert.Alert
	if err := api.do(ctx, method, fmt.Sprintf("/alerts/%d%s", a.ID, verb), body, &x); err != nil {
		return err
	}
	return printAlert(c.out, x)
}

func printAlert(w io.Writer, a alert.Alert) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(t, "%s\t%s\n", name, value)
		}
	}
	line("alert", fmt.Sprint(a.ID))
	line("state", string(a.State))
	line("rule", string(a.Rule))
	line("tenant", a.Tenant)
	line("addressed", strings.Join(a.Addressed, " "))
	line("client", a.Client)
	line("user", a.User)
	line("address", a.Address)
	line("seen", fmt.Sprintf("%d times, from %s to %s", a.Count, a.First.Format(time.RFC3339), a.Last.Format(time.RFC3339)))
	line("requests", strings.Join(a.Requests, " "))
	line("acknowledged", told(a.Acknowledged))
	line("closed", told(a.Closed))
	return t.Flush()
}

func told(a *alert.Act) string {
	if a == nil {
		return ""
	}
	return fmt.Sprintf("by %s, %s: %s", a.By, a.At.Format(time.RFC3339), a.Why)
}

type alertSinkCommand struct {
	Set    alertSinkSetCommand    `cmd:"" help:"Set the webhook, and print the secret that signs what it is sent."`
	List   alertSinkListCommand   `cmd:"" help:"List the webhooks."`
	Remove alertSinkRemoveCommand `cmd:"" help:"Remove the webhook."`
}

// alertSink says which webhook a command is about.
type alertSink struct {
	controlFlags
	Tenant string `help:"Slug of the tenant whose alerts it is told. Default: all."`
}

func (a *alertSink) path() string {
	if a.Tenant == "" {
		return "/alert-sink"
	}
	return tenantPath(a.Tenant, "alert-sink")
}

// sinkRow is a webhook as the control API shows it.
type sinkRow struct {
	Tenant string `json:"tenant"`
	URL    string `json:"url"`
	Secret string `json:"secret"`
}

type alertSinkSetCommand struct {
	alertSink
	URL string `arg:"" help:"Where to post alerts to: https, unless it is in one of the server's --alert-networks."`
}

func (a *alertSinkSetCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	var row sinkRow
	if err := api.do(ctx, http.MethodPut, a.path(), map[string]string{"url": a.URL}, &row); err != nil {
		return err
	}
	_, err := fmt.Fprintln(c.out, row.Secret)
	return err
}

type alertSinkListCommand struct{ controlFlags }

func (a *alertSinkListCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	var list []sinkRow
	if err := api.do(ctx, http.MethodGet, "/alert-sinks", nil, &list); err != nil {
		return err
	}
	t := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "TENANT\tURL")
	for _, row := range list {
		fmt.Fprintf(t, "%s\t%s\n", row.Tenant, row.URL)
	}
	return t.Flush()
}

type alertSinkRemoveCommand struct{ alertSink }

func (a *alertSinkRemoveCommand) Run(ctx context.Context, api *controlAPI) error {
	return api.do(ctx, http.MethodDelete, a.path(), nil, nil)
}
