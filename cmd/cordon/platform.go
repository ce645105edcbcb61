package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cordon-fhir/cordon/store"
)

// auditPlatformCommand reads the trail of what belongs to no tenant: what operators
// did, what was done to keys and databases, and requests of nobody.
type auditPlatformCommand struct {
	List   auditPlatformListCommand   `cmd:"" help:"List entries, the newest first."`
	Verify auditPlatformVerifyCommand `cmd:"" help:"Hold the trail against its checkpoints, as 'cordon audit verify' does without a tenant."`
}

type auditPlatformListCommand struct {
	controlFlags
	From   time.Time `placeholder:"TIME" help:"Entries of this time and after: 2026-01-31T08:00:00Z."`
	To     time.Time `placeholder:"TIME" help:"Entries of before this time."`
	Client string    `placeholder:"WHO" help:"Entries of this operator, client or role of a database."`
	About  string    `placeholder:"TEXT" help:"Entries that say this."`
	Count  int       `default:"50" help:"How many at most."`
}

// Run prints the entries that are asked for.
func (l *auditPlatformListCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	t := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NUMBER\tLEAF\tRECORDED\tSTATUS\tWHO\tFROM\tWHAT")
	path := "/audit"
	for shown := 0; shown < l.Count; {
		var page []store.PlatformEntry
		if err := api.do(ctx, http.MethodGet, path, nil, &page); err != nil {
			return err
		}
		for _, e := range page {
			if l.wants(e) && shown < l.Count {
				shown++
				leaf := "-"
				if e.Leaf != nil {
					leaf = fmt.Sprint(*e.Leaf)
				}
				fmt.Fprintf(t, "%d\t%s\t%s\t%d\t%s\t%s\t%s\n", e.Number, leaf, clock(e.Recorded.UTC()), e.Status, e.Client, e.Address, oneLine(e.Reason))
			}
		}
		if len(page) == 0 || page[len(page)-1].Recorded.Before(l.From) {
			break
		}
		path = fmt.Sprintf("/audit/before/%d", page[len(page)-1].Number)
	}
	return t.Flush()
}

// wants reports whether the entry is asked for.
func (l *auditPlatformListCommand) wants(e store.PlatformEntry) bool {
	return !e.Recorded.Before(l.From) && (l.To.IsZero() || e.Recorded.Before(l.To)) &&
		(l.Client == "" || e.Client == l.Client) && strings.Contains(e.Reason, l.About)
}

// oneLine keeps what an entry says from looking like another.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}

type auditPlatformVerifyCommand struct {
	Dir devDir `default:"dev" env:"CORDON_DIR" placeholder:"DIR" help:"Directory of the development server. Default: dev."`
	trailFlags
	Key string `required:"" placeholder:"KEY" help:"Public key of the log, as 'cordon audit key' printed it."`
}

// Run is that of auditVerifyCommand.
func (v *auditPlatformVerifyCommand) Run(ctx context.Context, c console) error {
	return (&auditVerifyCommand{Dir: v.Dir, trailFlags: v.trailFlags, Key: v.Key}).Run(ctx, c)
}
