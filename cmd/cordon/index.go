package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
)

// indexCommand speaks to the control API about search indexes.
type indexCommand struct {
	Show  indexShowCommand  `cmd:"" help:"Show the search parameters of a tenant besides those of R4, and how far they are indexed."`
	Again indexAgainCommand `cmd:"" help:"Make the search index of a tenant again while it is served, as after an upgrade that reads more of resources."`
}

// indexReport is the work on an index as the control API shows it.
type indexReport struct {
	Requested  reindexRow `json:"requested"`
	Parameters []struct {
		URL     string   `json:"url"`
		Code    string   `json:"code"`
		Types   []string `json:"types"`
		State   string   `json:"state"`
		Percent int      `json:"percent"`
		Why     string   `json:"why"`
	} `json:"parameters"`
	Reindex *reindexRow `json:"reindex"`
}

type reindexRow struct {
	Number  int64    `json:"number"`
	Types   []string `json:"types"`
	State   string   `json:"state"`
	Percent int      `json:"percent"`
}

type indexShowCommand struct{ ofTenant }

func (i *indexShowCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	var report indexReport
	if err := api.do(ctx, http.MethodGet, i.path("index"), nil, &report); err != nil {
		return err
	}
	return report.print(c.out)
}

func (r indexReport) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "SEARCH PARAMETER\tTYPES\tSTATE\tURL")
	for _, p := range r.Parameters {
		state := p.State
		switch {
		case p.Why != "":
			state += ": " + p.Why
		case p.State == "indexing", p.State == "removing":
			state = fmt.Sprintf("%s %d %%", p.State, p.Percent)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", p.Code, strings.Join(p.Types, " "), state, p.URL)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	switch last := r.Reindex; {
	case last != nil && last.Number == r.Requested.Number && last.State == "indexing":
		fmt.Fprintf(w, "The index is being made again: %d %%.\n", last.Percent)
	case last != nil && last.Number == r.Requested.Number:
		fmt.Fprintln(w, "The index was made again.")
	case r.Requested.Number > 0:
		fmt.Fprintln(w, "The index is to be made again.")
	}
	return nil
}

type indexAgainCommand struct {
	ofTenant
	Type []string `placeholder:"TYPE" help:"Resource types to index again. Default: all."`
}

func (i *indexAgainCommand) Run(ctx context.Context, api *controlAPI) error {
	body := struct {
		Types []string `json:"types"`
	}{i.Type}
	return api.do(ctx, http.MethodPost, i.path("reindex"), body, nil)
}
