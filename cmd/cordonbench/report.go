package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"text/tabwriter"
	"time"
)

// A Report is all that a run measured.
type Report struct {
	Began    time.Time `json:"began"`
	Seconds  float64   `json:"seconds"`
	Revision string    `json:"revision"`
	Machine  Machine   `json:"machine"`
	Bundles  string    `json:"bundles"` // what was imported

	RowBytes int          `json:"row_bytes"` // mean size of the rows of the ceilings
	Modes    []ModeReport `json:"modes"`
	Sizes    []Size       `json:"sizes,omitempty"` // of a population that grows
	Policies []PolicyCost `json:"policies,omitempty"`
	Noises   []Noise      `json:"noises,omitempty"`
	Bulks    []Bulk       `json:"bulks,omitempty"`
	Goals    []Goal       `json:"goals"`
}

// A Machine is where it was measured.
type Machine struct {
	CPU        string `json:"cpu"`
	CPUs       int    `json:"cpus"`
	Kernel     string `json:"kernel"`
	Go         string `json:"go"`
	PostgreSQL string `json:"postgresql"`
}

// A ModeReport is what was measured in one partition mode. Ceilings[0] was
// taken before the first block, Ceilings[1] before the imports and Ceilings[2]
// after the last block.
type ModeReport struct {
	Mode     string     `json:"mode"`
	Tenant   string     `json:"tenant"`
	Ceilings []Ceilings `json:"ceilings"`
	Plain    []Figure   `json:"plain"` // read, update and create
	Import   *Figure    `json:"import,omitempty"`
	// Stored is what the import added to the database.
	Stored Sizes `json:"stored"`
	// ReadBeside are reads before, between and after the searches.
	ReadBeside []Figure `json:"read_beside,omitempty"`
	Pages      []Figure `json:"pages,omitempty"` // searches for a page of 20
	Ones       []Figure `json:"ones,omitempty"`  // the same for a page of one
	PeakMemory int64    `json:"peak_memory"`     // of the server so far, bytes
}

// A Goal is a figure held against what was promised.
type Goal struct {
	Name  string  `json:"name"`
	Mode  string  `json:"mode"`
	Value float64 `json:"value"`
	Limit float64 `json:"limit"`
	// AtLeast says that Limit is the least, else it is the most.
	AtLeast bool   `json:"at_least,omitempty"`
	Unit    string `json:"unit"`
	Met     bool   `json:"met"`
}

func newGoal(name, mode string, value, limit float64, unit string) Goal {
	return Goal{Name: name, Mode: mode, Value: value, Limit: limit, Unit: unit, Met: value <= limit}
}

// The goals. CPU is that of server and PostgreSQL together; times means times
// that of the ceiling, or for searches of a read, in the same minutes.
const (
	goalCreate = 6.0    // times a bare insert
	goalRead   = 5.0    // times a bare read
	goalImport = 4000.0 // resources a second
	goalStored = 1800.0 // bytes a resource
	goalSearch = 3.0    // times a read, for a page of one
	goalLong   = 4.0    // times a read, for a page of 50 of one patient and code
	goalNoise  = 1.5    // times the quiet p95, beside a tenant that is a hundred times as loud
	// Of imports and exports, with two cores for server and database together.
	goalInitial     = 15_000.0 // resources a second, of a first load
	goalIncremental = 5_000.0  // of any other import
	goalExport      = 60_000.0
	goalMemory      = 256.0 // MiB of the server

	goalGrowth = 1.3 // times the median time, of a selective search in a population that has grown tenfold
)

// goalClients is at how many clients the ratios are judged: as many as the
// ceilings have.
const goalClients = ceilingClients

// goals holds what was measured in the mode against the goals.
func (m *ModeReport) goals() []Goal {
	var all []Goal
	first, middle, last := m.Ceilings[0], m.Ceilings[1], m.Ceilings[2]
	for _, f := range m.Plain {
		if f.Clients != goalClients {
			continue
		}
		switch f.Shape {
		case createPatient, createObservation:
			bare := (middle.BareInsert.CPU() + last.BareInsert.CPU()) / 2
			all = append(all, newGoal("CPU per "+f.Shape, m.Mode, f.CPU()/bare, goalCreate, "× bare insert"))
		case readPatient:
			bare := (first.BareRead.CPU() + middle.BareRead.CPU()) / 2
			all = append(all, newGoal("CPU per "+f.Shape, m.Mode, f.CPU()/bare, goalRead, "× bare read"))
		}
	}
	if f := m.Import; f != nil {
		all = append(all,
			Goal{"import of Bundles", m.Mode, f.Rate, goalImport, true, "resources/s", f.Rate >= goalImport},
			newGoal("database per resource", m.Mode, float64(m.Stored.total())/float64(f.Ops), goalStored, "bytes"))
	}
	for _, f := range m.Ones {
		all = append(all, newGoal("CPU per page of one, "+f.Shape, m.Mode, m.timesRead(f), goalSearch, "× read"))
	}
	return all
}

// timesRead returns the CPU of a search as a multiple of that of a read: the
// mean of the last before it and the first after it.
func (m *ModeReport) timesRead(f Figure) float64 {
	return f.CPU() / beside(m.ReadBeside, f, Figure.CPU)
}

// beside returns the mean, by what of says, of the last read before f and the
// first after it.
func beside(reads []Figure, f Figure, of func(Figure) float64) float64 {
	return (of(reads[f.Reads-1]) + of(reads[f.Reads])) / 2
}

// errors returns how many operations went wrong, and shapes that found nothing
// where something was there.
func (m *ModeReport) errors() (n int, empty []string) {
	plain := slices.Concat(m.Plain, m.ReadBeside)
	if m.Import != nil {
		plain = append(plain, *m.Import)
	}
	return faults(plain, slices.Concat(m.Pages, m.Ones))
}

// faults returns how many operations went wrong, and the searches that found
// nothing.
func faults(plain, searches []Figure) (n int, empty []string) {
	for _, f := range slices.Concat(plain, searches) {
		n += f.Errors
	}
	for _, f := range searches {
		if f.Entries < 1 {
			empty = append(empty, f.Shape)
		}
	}
	return n, empty
}

// print writes the report of a mode as tables.
func (m *ModeReport) print(w io.Writer) {
	fmt.Fprintf(w, "\n== mode %s, tenant %s\n\n", m.Mode, m.Tenant)
	t := newTable(w)
	for i, c := range m.Ceilings {
		when := [...]string{"first", "before imports", "last"}[i]
		for _, f := range []Figure{c.BareInsert, c.BareRead, c.ThinInsert, c.ThinRead} {
			f.Shape += ", " + when
			t.row(f, "")
		}
	}
	for _, f := range m.Plain {
		t.row(f, "")
	}
	if m.Import != nil {
		t.row(*m.Import, "")
	}
	for _, f := range m.ReadBeside {
		f.Shape += ", beside searches"
		t.row(f, "")
	}
	for _, f := range m.Pages {
		t.row(f, fmt.Sprintf("%.1f× read", m.timesRead(f)))
	}
	for _, f := range m.Ones {
		f.Shape += ", page of one"
		t.row(f, fmt.Sprintf("%.1f× read", m.timesRead(f)))
	}
	t.Flush()
	if m.Import != nil {
		n := float64(m.Import.Ops)
		s := m.Stored
		fmt.Fprintf(w, "\nbytes per imported resource: %.0f = current %.0f + history %.0f + index %.0f + change %.0f + audit %.0f + other %.0f\n",
			float64(s.total())/n, float64(s.Current)/n, float64(s.History)/n, float64(s.Index)/n,
			float64(s.Change)/n, float64(s.Audit)/n, float64(s.Other)/n)
	}
	fmt.Fprintf(w, "peak memory of the server so far: %d MiB\n", m.PeakMemory>>20)
}

// A table is lines of figures.
type table struct{ *tabwriter.Writer }

func newTable(w io.Writer) table {
	t := table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	fmt.Fprintln(t, "shape\tclients\trate/s\tp50 ms\tp95\tp99\tCPU ms\t= server\t+ database\tentries\tforeign\t")
	return t
}

func (t table) row(f Figure, note string) {
	entries := ""
	if f.Entries > 0 {
		entries = fmt.Sprintf("%.1f", f.Entries)
	}
	if f.Errors > 0 {
		note += fmt.Sprintf(" %d ERRORS: %.120s", f.Errors, f.Problem)
	}
	fmt.Fprintf(t, "%s\t%d\t%.0f\t%.2f\t%.2f\t%.2f\t%.3f\t%.3f\t%.3f\t%s\t%.0f %%\t%s\n",
		f.Shape, f.Clients, f.Rate, f.P50, f.P95, f.P99, f.CPU(), f.ServerCPU, f.DatabaseCPU, entries, 100*f.Foreign, note)
}

// printGoals writes each goal with what was reached.
func (r *Report) printGoals(w io.Writer) {
	fmt.Fprintf(w, "\n== goals\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "figure\tmode\treached\tgoal\t\t")
	met := 0
	for _, g := range r.Goals {
		verdict, limit := "MISSED", "at most"
		if g.Met {
			verdict = "met"
			met++
		}
		if g.AtLeast {
			limit = "at least"
		}
		fmt.Fprintf(t, "%s\t%s\t%.4g\t%s %g %s\t%s\t\n", g.Name, g.Mode, g.Value, limit, g.Limit, g.Unit, verdict)
	}
	t.Flush()
	fmt.Fprintf(w, "\n%d of %d goals met\n", met, len(r.Goals))
}

// save writes the report as JSON into dir and returns the file's name.
func (r *Report) save(dir string) (string, error) {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return "", fmt.Errorf("writing the report: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("writing the report: %w", err)
	}
	file := filepath.Join(dir, r.Began.UTC().Format("20060102T150405Z")+".json")
	if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
		return "", fmt.Errorf("writing the report: %w", err)
	}
	return file, nil
}
