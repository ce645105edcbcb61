package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/cordon-fhir/cordon/breakout"
)

// breakoutCommand attacks the tenants of a running server from outside.
type breakoutCommand struct {
	Dir    devDir   `default:"dev" env:"CORDON_DIR" placeholder:"DIR" help:"Directory of the development server. Default: dev."`
	Target string   `placeholder:"FILE" help:"What to attack: tenants and clients. Default: dev.json of the directory."`
	Tenant []string `placeholder:"SLUG" help:"Tenants to attack between. Default: all of the target."`
	Only   []string `placeholder:"ATTACK" help:"Attacks to make: T001, group=3. Default: all."`
	Rate   float64  `default:"200" help:"Requests per second, at most."`
	JSON   string   `placeholder:"FILE" help:"Where to write the score sheet."`
	Report string   `placeholder:"FILE" help:"Where to write it for people: as a page if the name ends in .html, else as Markdown."`
	List   bool     `help:"Print the attacks and make none."`
}

// cannotRun is an error that says that a command could not do its work, and so
// found nothing.
type cannotRun struct{ error }

// Run returns a *faultsError if anything did not hold.
func (b *breakoutCommand) Run(ctx context.Context, c console) error {
	if b.List {
		return b.list(c.out)
	}
	if b.Rate <= 0 {
		return cannotRun{errors.New("--rate is not above 0")}
	}
	target, err := breakout.Read(cmp.Or(b.Target, b.Dir.path("dev.json")))
	if err == nil {
		err = target.Keep(b.Tenant...)
	}
	if err != nil {
		return cannotRun{err}
	}
	sheet, err := breakout.Run(ctx, target, breakout.Options{Rate: b.Rate, Only: b.Only, Progress: progressOf(c.err)})
	if sheet != nil {
		if werr := b.write(sheet); werr != nil {
			err = errors.Join(err, werr)
		}
	}
	if err != nil {
		return cannotRun{err}
	}
	tried, held := sheet.Score()
	fmt.Fprintf(c.out, "%d of %d attacks held between %d tenants\n", held, tried, len(sheet.Tenants))
	if n := sheet.Missed(); n > 0 {
		fmt.Fprintf(c.out, "%d could not be made everywhere: the report says why\n", n)
	}
	if n := len(sheet.Left); n > 0 {
		fmt.Fprintf(c.err, "%d records of the run could not be removed: the report names them\n", n)
	}
	if tried == 0 {
		return cannotRun{errors.New("no attack could be made")}
	}
	if held < tried {
		return &faultsError{tried - held}
	}
	return nil
}

func (b *breakoutCommand) write(sheet *breakout.Sheet) error {
	if b.JSON != "" {
		if err := writeJSON(b.JSON, sheet); err != nil {
			return err
		}
	}
	if b.Report == "" {
		return nil
	}
	f, err := os.OpenFile(b.Report, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	form := sheet.Markdown
	if strings.HasSuffix(b.Report, ".html") {
		form = sheet.HTML
	}
	return errors.Join(form(f), f.Close())
}

// progressOf prints each trial in which something did not hold, and on a terminal
// how far the run is.
func progressOf(w io.Writer) func(done, of int, t *breakout.Trial) {
	tty := isTerminal(w)
	return func(done, of int, t *breakout.Trial) {
		if tty {
			fmt.Fprintf(w, "\r\x1b[K%d of %d: %s %s against %s", done, of, t.Attack.ID, t.Attacker, t.Victim)
			if done == of {
				fmt.Fprint(w, "\r\x1b[K")
			}
		}
		for _, f := range t.Findings {
			fmt.Fprintf(w, "%s %s against %s: %s: %s %s\n", t.Attack.ID, t.Attacker, t.Victim, f.Condition, f.What, f.Request)
		}
	}
}

// list prints the attacks and what they send.
func (b *breakoutCommand) list(w io.Writer) error {
	chosen, err := breakout.Choose(b.Only...)
	if err != nil {
		return cannotRun{err}
	}
	enc := json.NewEncoder(w) // one attack a line
	enc.SetEscapeHTML(false)
	for _, a := range chosen {
		steps := make([]string, len(a.Steps))
		for i, s := range a.Steps {
			steps[i] = s.String()
		}
		if err := enc.Encode(map[string]any{"id": a.ID, "group": a.Group, "title": a.Title, "alone": a.Alone, "steps": steps}); err != nil {
			return err
		}
	}
	return nil
}
