package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/fhir/go/fhirversion"
	"github.com/google/fhir/go/jsonformat"
)

// A Bulk is what imports and an export cost in one partition mode, and what a
// neighbour notices of them.
type Bulk struct {
	Mode        string `json:"mode"`
	Initial     Flow   `json:"initial"`     // a first load
	Incremental Flow   `json:"incremental"` // of as many that are new
	Export      Flow   `json:"export"`      // of both
	// Quiet are the reads of a tenant when nothing else is done, Beside those during
	// the imports and the export.
	Quiet  Pace `json:"quiet"`
	Beside Pace `json:"beside"`
}

// A Flow is one import or export. CPU is microseconds for each resource.
type Flow struct {
	Resources   int     `json:"resources"`
	Seconds     float64 `json:"seconds"` // as its client sees it, without uploads
	ServerCPU   float64 `json:"server_cpu_us"`
	DatabaseCPU float64 `json:"database_cpu_us"`
	CPUs        int     `json:"cpus"`
	Peak        int64   `json:"peak_memory"` // of the server meanwhile, bytes
}

// Rate is what the CPUs have room for, resources a second.
func (f Flow) Rate() float64 {
	return float64(f.CPUs) * 1e6 / (f.ServerCPU + f.DatabaseCPU)
}

func (b Bulk) goals() []Goal {
	goals := []Goal{newGoal("reads beside imports and exports, p95", b.Mode, b.Beside.P95/b.Quiet.P95, goalNoise, "× quiet")}
	for _, x := range []struct {
		name string
		flow Flow
		goal float64
	}{{"first load", b.Initial, goalInitial}, {"import", b.Incremental, goalIncremental}, {"export", b.Export, goalExport}} {
		rate := newGoal(x.name+", CPU's worth", b.Mode, x.flow.Rate(), x.goal, "resources/s")
		rate.AtLeast, rate.Met = true, rate.Value >= x.goal
		goals = append(goals, rate, newGoal(x.name+", memory", b.Mode, float64(x.flow.Peak)/(1<<20), goalMemory, "MiB"))
	}
	return goals
}

// bulks measures in a new tenant of each mode.
func (s *suite) bulks(ctx context.Context) error {
	if s.bulk == 0 {
		return nil
	}
	first, err := ndjsonOf(0, s.bulk)
	if err != nil {
		return err
	}
	second, err := ndjsonOf(s.bulk, s.bulk)
	if err != nil {
		return err
	}
	for _, mode := range []string{"shared", "schema", "database"} {
		b, err := s.bulkIn(ctx, mode, first, second)
		if err != nil {
			return fmt.Errorf("in mode %s: %w", mode, err)
		}
		s.report.Bulks = append(s.report.Bulks, b)
		s.report.Goals = append(s.report.Goals, b.goals()...)
	}
	return nil
}

// bulkQuiet is how long a quiet neighbour is measured, in multiples of the
// duration of a figure.
const bulkQuiet = 8

func (s *suite) bulkIn(ctx context.Context, mode string, first, second []ndjson) (b Bulk, err error) {
	b.Mode = mode
	neighbours, err := s.cordon.tenants("shared")
	if err != nil {
		return b, err
	}
	e := &endpoint{server: s.cordon, slug: "bench-bulk-" + mode, host: neighbours[0].host, client: "loader"}
	e.path = path.Join(path.Dir(neighbours[0].path), e.slug)
	for _, args := range [][]string{
		{"tenant", "create", "--mode", mode, e.slug},
		{"client", "add", "--tenant", e.slug, e.client, "--scopes", "system/*.cruds", "--roles", "service"},
	} {
		if err := s.cordon.run(ctx, args...); err != nil {
			return b, err
		}
	}
	reads, err := s.mixed(ctx, neighbours[0])
	if err != nil {
		return b, err
	}
	reads = slices.DeleteFunc(reads, func(r []byte) bool {
		return !bytes.HasPrefix(r, []byte("GET ")) || bytes.Contains(r[:100], []byte("?"))
	})
	var quiet, beside heard
	s.say("%s: quiet", e.slug)
	during, stop := context.WithTimeout(ctx, bulkQuiet*s.duration)
	quiet.ask(during, neighbours[0], reads, noiseRate)
	stop()

	during, stop = context.WithCancel(ctx)
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		beside.ask(during, neighbours[0], reads, noiseRate)
	}()
	err = s.flow(ctx, e, "initial", first, &b.Initial)
	if err == nil {
		err = s.flow(ctx, e, "upsert", second, &b.Incremental)
	}
	if err == nil {
		err = s.flow(ctx, e, "", nil, &b.Export)
	}
	stop()
	<-asked
	b.Quiet, b.Beside = quiet.pace(), beside.pace()
	if want := b.Initial.Resources + b.Incremental.Resources; err == nil && b.Export.Resources != want {
		err = fmt.Errorf("%d resources were exported, %d imported", b.Export.Resources, want)
	}
	return b, err
}

// flow measures an import of the files in the mode, or an export if there are none.
func (s *suite) flow(ctx context.Context, e *endpoint, mode string, files []ndjson, f *Flow) (err error) {
	s.say("%s: %s", e.slug, map[string]string{"initial": "first load", "upsert": "import", "": "export"}[mode])
	// Writing 5 begins the peak of resident memory anew.
	// https://docs.kernel.org/filesystems/proc.html
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.cordon.pid()), []byte("5"), 0); err != nil {
		return fmt.Errorf("forgetting the server's peak of memory: %w", err)
	}
	var job string
	method, target, body := http.MethodGet, "$export", []byte(nil)
	if files != nil {
		method, target, body = http.MethodPost, "$import", importOf(mode, files)
	}
	before, begun := cpuTimes{}, time.Time{}
	start := func() error {
		before, err = readCPU(s.cordon.pid(), s.pg.PID())
		begun = time.Now()
		return err
	}
	if err := start(); err != nil {
		return err
	}
	answer, err := e.ask(ctx, method, target, body, http.StatusAccepted)
	if err != nil {
		return err
	}
	job = answer.header.Get("Content-Location")
	for i, file := range files {
		if i == len(files)-1 { // with the last one it begins
			if err := start(); err != nil {
				return err
			}
		}
		if _, err := e.ask(ctx, http.MethodPut, job+"/"+strconv.Itoa(i+1), file.text, http.StatusOK); err != nil {
			return err
		}
	}
	manifest, err := e.await(ctx, job)
	if err != nil {
		return err
	}
	f.Seconds = time.Since(begun).Seconds()
	after, err := readCPU(s.cordon.pid(), s.pg.PID())
	if err != nil {
		return err
	}
	if f.Peak, err = peakMemory(s.cordon.pid()); err != nil {
		return err
	}
	f.CPUs, f.Resources = s.cpus, manifest.count()
	if len(manifest.Error) > 0 || f.Resources == 0 {
		return fmt.Errorf("%d resources, %d files of errors", f.Resources, len(manifest.Error))
	}
	used := after.sub(before)
	f.ServerCPU = float64(used.server.Microseconds()) / float64(f.Resources)
	f.DatabaseCPU = float64(used.database.Microseconds()) / float64(f.Resources)
	_, err = e.ask(ctx, http.MethodDelete, job, nil, http.StatusAccepted)
	return err
}

// ndjson are resources of one type, one a line.
type ndjson struct {
	typ  string
	text []byte
}

// ndjsonOf writes the records of residents, each type in two files, since two are
// worked on at a time, and the smallest last, since the import begins with it.
func ndjsonOf(from, n int) ([]ndjson, error) {
	m, err := jsonformat.NewMarshaller(false, "", "", fhirversion.R4)
	if err != nil {
		return nil, fmt.Errorf("making a marshaller: %w", err)
	}
	var files []ndjson
	for i := range n {
		half := 2 * i / n
		for _, x := range resident(from + i).records() {
			typ := string(x.ProtoReflect().Descriptor().Name())
			name := typ + strconv.Itoa(half)
			at := slices.IndexFunc(files, func(f ndjson) bool { return f.typ == name })
			if at < 0 {
				at, files = len(files), append(files, ndjson{typ: name})
			}
			record, err := m.MarshalResource(x)
			if err != nil {
				return nil, fmt.Errorf("writing a %s: %w", typ, err)
			}
			files[at].text = append(append(files[at].text, record...), '\n')
		}
	}
	for i := range files {
		files[i].typ = strings.TrimRight(files[i].typ, "01")
	}
	slices.SortStableFunc(files, func(a, b ndjson) int { return len(b.text) - len(a.text) })
	return files, nil
}

// importOf asks for an import of the files.
func importOf(mode string, files []ndjson) []byte {
	type part struct {
		Name      string `json:"name"`
		ValueCode string `json:"valueCode,omitempty"`
		ValueURI  string `json:"valueUri,omitempty"`
		Part      []part `json:"part,omitempty"`
	}
	list := []part{{Name: "mode", ValueCode: mode}}
	for i, f := range files {
		list = append(list, part{Name: "input", Part: []part{{Name: "type", ValueCode: f.typ}, {Name: "url", ValueURI: strconv.Itoa(i) + ".ndjson"}}})
	}
	text, _ := json.Marshal(map[string]any{"resourceType": "Parameters", "parameter": list}) // of strings
	return text
}

// An answer is what was said of a bulk request.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// ask sends a request whose answer must have the status, unless that is 0. target
// is relative to the base or a URL.
func (e *endpoint) ask(ctx context.Context, method, target string, body []byte, status int) (a answer, err error) {
	if err := e.authorize(ctx); err != nil {
		return a, err
	}
	if !strings.HasPrefix(target, "http") {
		target = "http://" + e.host + e.path + "/" + target
	}
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return a, fmt.Errorf("asking %s: %w", target, err)
	}
	req.Header.Set("Authorization", "Bearer "+e.token)
	req.Header.Set("Prefer", "respond-async")
	switch method {
	case http.MethodPost:
		req.Header.Set("Content-Type", "application/fhir+json")
	case http.MethodPut:
		req.Header.Set("Content-Type", "application/fhir+ndjson")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return a, fmt.Errorf("asking %s: %w", target, err)
	}
	defer resp.Body.Close()
	a.status, a.header = resp.StatusCode, resp.Header
	if a.body, err = io.ReadAll(resp.Body); err != nil {
		return a, fmt.Errorf("asking %s: %w", target, err)
	}
	if status != 0 && a.status != status {
		return a, unexpected(&response{status: a.status, body: a.body})
	}
	return a, nil
}

// A manifest is what came of an import or export.
type manifest struct {
	Output []struct{ Count int }
	Error  []struct{ Count int }
}

func (m *manifest) count() (n int) {
	for _, f := range m.Output {
		n += f.Count
	}
	return n
}

// pollEvery is how often a job is asked about: as often as the server lets one.
const pollEvery = 550 * time.Millisecond

// await waits for the manifest of a job.
func (e *endpoint) await(ctx context.Context, job string) (m manifest, err error) {
	for {
		select {
		case <-ctx.Done():
			return m, ctx.Err()
		case <-time.After(pollEvery):
		}
		a, err := e.ask(ctx, http.MethodGet, job, nil, 0)
		switch {
		case err != nil:
			return m, err
		case a.status == http.StatusOK:
			return m, json.Unmarshal(a.body, &m)
		case a.status != http.StatusAccepted && a.status != http.StatusTooManyRequests:
			return m, unexpected(&response{status: a.status, body: a.body})
		}
	}
}

// printBulks writes what imports and exports cost.
func printBulks(w io.Writer, list []Bulk) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(w, "\n== bulk: CPU per resource in µs, and resources a second that %d CPUs have room for\n\n", list[0].Initial.CPUs)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "mode\t\tresources\tserver\tdatabase\troom/s\tby the clock/s\tpeak MiB\t")
	for _, b := range list {
		for _, x := range []struct {
			name string
			f    Flow
		}{{"first load", b.Initial}, {"import", b.Incremental}, {"export", b.Export}} {
			fmt.Fprintf(t, "%s\t%s\t%d\t%.1f\t%.1f\t%.0f\t%.0f\t%d\t\n", b.Mode, x.name, x.f.Resources, x.f.ServerCPU, x.f.DatabaseCPU,
				x.f.Rate(), float64(x.f.Resources)/x.f.Seconds, x.f.Peak>>20)
		}
		fmt.Fprintf(t, "%s\tneighbour's p95\t\t%.2f ms quiet\t%.2f beside\t%.2f ×\t%d of %d errors\t\t\n", b.Mode, b.Quiet.P95, b.Beside.P95, b.Beside.P95/b.Quiet.P95,
			b.Beside.Errors, b.Beside.Requests)
	}
	t.Flush()
}
