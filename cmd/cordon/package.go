package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"text/tabwriter"
)

// packageCommand speaks to the control API about packages of definitions.
type packageCommand struct {
	Install packageInstallCommand `cmd:"" help:"Install packages (.tgz), or single resources (.json). The same file may be installed again."`
	List    packageListCommand    `cmd:"" help:"List the packages of a tenant."`
	Remove  packageRemoveCommand  `cmd:"" help:"Remove a package from a tenant."`
}

// packageRow is a package as the control API shows it.
type packageRow struct {
	Name     string         `json:"name"`
	Version  string         `json:"version"`
	Contents map[string]int `json:"contents"`
	Missing  []string       `json:"missing"`
}

type packageInstallCommand struct {
	ofTenant
	Files []string `arg:"" type:"existingfile" help:"Files to install."`
}

func (p *packageInstallCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	for _, name := range p.Files {
		if err := p.install(ctx, api, name, c.out); err != nil {
			return fmt.Errorf("installing %s: %w", name, err)
		}
	}
	return nil
}

func (p *packageInstallCommand) install(ctx context.Context, api *controlAPI, name string, w io.Writer) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	kind := "application/gzip"
	if strings.HasSuffix(name, ".json") {
		kind = "application/fhir+json"
	}
	var row packageRow
	if err := api.send(ctx, http.MethodPost, p.path("packages"), kind, file, &row); err != nil {
		return err
	}
	return printPackages(w, row)
}

type packageListCommand struct{ ofTenant }

func (p *packageListCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	var list []packageRow
	if err := api.do(ctx, http.MethodGet, p.path("packages"), nil, &list); err != nil {
		return err
	}
	return printPackages(c.out, list...)
}

type packageRemoveCommand struct {
	ofTenant
	Package string `arg:"" placeholder:"NAME@VERSION" help:"Which package."`
}

func (p *packageRemoveCommand) Run(ctx context.Context, api *controlAPI) error {
	return api.do(ctx, http.MethodDelete, p.path("packages", p.Package), nil, nil)
}

func printPackages(w io.Writer, list ...packageRow) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PACKAGE\tPROFILES\tVALUE SETS\tSEARCH PARAMETERS\tMISSING")
	for _, x := range list {
		fmt.Fprintf(t, "%s@%s\t%d\t%d\t%d\t%s\n", x.Name, x.Version,
			x.Contents["StructureDefinition"], x.Contents["ValueSet"], x.Contents["SearchParameter"], strings.Join(x.Missing, " "))
	}
	return t.Flush()
}
