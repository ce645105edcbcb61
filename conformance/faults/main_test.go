package faults

import (
	"context"
	"flag"
	"fmt"
	"os"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

var (
	rounds     = flag.Int("rounds", 1, "how many times the usual number of faults to inject")
	serverRace = flag.Bool("server-race", false, "build the server with the race detector")
)

// sys is the system whose parts fail. The tests share it, so none runs in
// parallel with another.
var sys *system

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	if list := flag.Lookup("test.list"); testing.Short() || list != nil && list.Value.String() != "" {
		return m.Run()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	s, err := startSystem(ctx)
	if s != nil {
		defer s.close()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "starting the system:", err)
		return 1
	}
	sys = s
	code := m.Run()
	printReport()
	if races := s.races(); races != "" {
		fmt.Fprintf(os.Stderr, "the server has a data race:\n%s\n", races)
		return 1
	}
	return code
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
