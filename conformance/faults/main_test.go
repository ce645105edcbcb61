package faults

import (
	"context"
	"flag"
	"fmt"
	"os"
	"sync"
	"testing"
	"text/tabwriter"

	"github.com/cordon-fhir/cordon/conformance/harness"
)

var (
	rounds     = flag.Int("rounds", 1, "how many times the usual number of faults to inject")
	serverRace = flag.Bool("server-race", false, "build the server with the race detector")
)

// sys is the system whose parts fail. The tests share it, so none runs in
// parallel with another.
var sys *system

func TestMain(m *testing.M) {
	harness.Main(m, func(ctx context.Context) (func() error, error) {
		if testing.Short() {
			return nil, nil
		}
		s, err := startSystem(ctx)
		sys = s
		return s.close, err
	})
}

// whole skips a test that needs the system when there is none.
func whole(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts PostgreSQL and a server")
	}
}

// report is what was measured, a row for each fault.
var report struct {
	sync.Mutex
	rows []string
}

// measured adds a row to the report: what was done, what came of it, and what
// was asked for.
func measured(fault, got, bar string) {
	report.Lock()
	defer report.Unlock()
	report.rows = append(report.rows, fault+"\t"+got+"\t"+bar)
}

func printReport() {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "FAULT\tMEASURED\tBAR")
	for _, row := range report.rows {
		fmt.Fprintln(w, row)
	}
	w.Flush()
}
