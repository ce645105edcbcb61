package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// The shapes that are no searches.
const (
	readPatient       = "read Patient"
	updatePatient     = "update Patient"
	createPatient     = "create Patient"
	createObservation = "create Observation"
	importBundles     = "import Bundles, per resource"
)

// poolSize is how many Patients are read and updated.
const poolSize = 512

// A suite measures Cordon mode by mode.
type suite struct {
	config
	bench
	pg       *postgres
	progress io.Writer

	ceiling *ceiling
	cordon  *server
	bodies  bodies
	bundles []bundleFile
	last    *Ceilings // the latest
	report  Report
}

// prepare makes the records and starts the servers.
func (s *suite) prepare(ctx context.Context, dir string) (err error) {
	s.report.Began, s.report.Revision = time.Now(), revision()
	if s.bodies, err = inventBodies(poolSize); err != nil {
		return err
	}
	for _, b := range s.bodies.patients {
		s.report.RowBytes += len(b) / len(s.bodies.patients)
	}
	if s.report.Bundles, s.bundles, err = readBundles(s.data); err != nil {
		return err
	}
	if s.ceiling, err = newCeiling(ctx, s.bench, s.pg, s.bodies.patients); err != nil {
		return err
	}
	s.say("starting cordon")
	if s.cordon, err = startCordon(ctx, s.config.cordon, dir, s.pg.OwnerURL(), s.profile != ""); err != nil {
		s.ceiling.close()
		return err
	}
	if used, err := s.pg.sizes(ctx); err != nil || used.total() == 0 {
		return errors.Join(errors.New("cordon does not use the PostgreSQL that is measured"), err, s.close())
	}
	return nil
}

func (s *suite) close() error {
	s.ceiling.close()
	return s.cordon.stop()
}

func (s *suite) say(format string, args ...any) { fmt.Fprintf(s.progress, format+"\n", args...) }

// revision returns the revision that this program was built from.
func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	var revision string
	for _, x := range info.Settings {
		switch {
		case x.Key == "vcs.revision":
			revision = x.Value + revision
		case x.Key == "vcs.modified" && x.Value == "true":
			revision += " with changes"
		}
	}
	return revision
}

// finish prints the goals, saves the report, and fails if an answer was wrong:
// then the figures mean nothing.
func (s *suite) finish(w io.Writer) error {
	s.report.Seconds = time.Since(s.report.Began).Seconds()
	s.report.printGoals(w)
	file, err := s.report.save(s.out)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "imported: %s; rows of the ceilings: %d bytes; %d CPUs, PostgreSQL %s; %.0f s; all figures in %s\n",
		s.report.Bundles, s.report.RowBytes, s.report.Machine.CPUs, s.report.Machine.PostgreSQL, s.report.Seconds, file)
	for _, m := range s.report.Modes {
		n, empty := m.errors()
		err = errors.Join(err, wrong("mode "+m.Mode, n, empty))
	}
	for _, c := range s.report.Policies {
		err = errors.Join(err, wrong("policy "+c.Policy, c.Under.Errors+c.Scopes.Errors, nil))
	}
	for _, x := range s.report.Sizes {
		n, empty := x.errors()
		err = errors.Join(err, wrong(fmt.Sprintf("%d residents", x.Residents), n, empty))
	}
	return err
}

// wrong says that answers were not as they should be, nil if they were.
func wrong(where string, n int, empty []string) (err error) {
	if n > 0 {
		err = fmt.Errorf("%s: %d answers were wrong", where, n)
	}
	for _, shape := range empty {
		err = errors.Join(err, fmt.Errorf("%s: %s found nothing", where, shape))
	}
	return err
}

// mode measures one partition mode. Every block is between two readings of
// the ceilings.
func (s *suite) mode(ctx context.Context, name string) (*ModeReport, error) {
	tenants, err := s.cordon.tenants(name)
	if err != nil {
		return nil, err
	}
	e := tenants[0]
	m := &ModeReport{Mode: name, Tenant: e.slug}
	pool, err := s.fill(ctx, e)
	if err != nil {
		return nil, err
	}
	if err := s.pg.vacuum(ctx); err != nil {
		return nil, fmt.Errorf("vacuuming: %w", err)
	}
	steps := []func(context.Context) error{
		func(ctx context.Context) error { return s.bracket(ctx, m, s.last) },
		func(ctx context.Context) error { return s.readAndUpdate(ctx, m, e, pool) },
		func(ctx context.Context) error { return s.bracket(ctx, m, nil) },
		func(ctx context.Context) error { return s.importAndSearch(ctx, m, e, pool) },
		func(ctx context.Context) error { return s.create(ctx, m, e) },
		func(ctx context.Context) error { return s.bracket(ctx, m, nil) },
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	m.PeakMemory, err = peakMemory(s.cordon.pid())
	return m, err
}

// bracket takes the ceilings, or takes over those that were just taken.
func (s *suite) bracket(ctx context.Context, m *ModeReport, taken *Ceilings) error {
	if taken == nil {
		s.say("%s: ceilings", m.Mode)
		c, err := s.ceiling.take(ctx, s.duration)
		if err != nil {
			return err
		}
		taken = &c
		s.last = taken
	}
	m.Ceilings = append(m.Ceilings, *taken)
	return nil
}

// fill creates the pool of Patients and returns their ids.
func (s *suite) fill(ctx context.Context, e *endpoint) ([]string, error) {
	if err := e.authorize(ctx); err != nil {
		return nil, err
	}
	c := newClient(e.host)
	defer c.close()
	ids := make([]string, poolSize)
	for i := range ids {
		r, err := c.do(e.request("POST", "Patient", s.bodies.patients[i%len(s.bodies.patients)]))
		if err != nil {
			return nil, err
		}
		if r.status != http.StatusCreated {
			return nil, fmt.Errorf("creating a Patient: %w", unexpected(r))
		}
		ids[i] = idOf(r.location)
	}
	return ids, nil
}

// figure measures one shape, and profiles it if that is asked for.
func (s *suite) figure(ctx context.Context, m *ModeReport, e *endpoint, shape string, clients int, requests [][]byte, status int) (Figure, error) {
	w := send(e.host, requests, status, nil)
	return s.measured(ctx, m, e, shape, clients, w)
}

func (s *suite) measured(ctx context.Context, m *ModeReport, e *endpoint, shape string, clients int, w workload) (Figure, error) {
	s.say("%s: %s, %d clients", m.Mode, shape, clients)
	f, err := s.measure(ctx, shape, s.cordon.pid(), clients, s.duration, w)
	f.Mode = m.Mode
	if err == nil && s.profile != "" && clients == goalClients {
		err = s.look(ctx, m.Mode+" "+shape, w)
	}
	return f, err
}

// notInNames are runs of what is better not in the name of a file.
var notInNames = regexp.MustCompile(`[^A-Za-z0-9]+`)

// look runs the workload again and writes a CPU profile of the server, the
// plans of the statements that it sends and what they cost.
func (s *suite) look(ctx context.Context, name string, w workload) error {
	file := filepath.Join(s.profile, strings.Trim(notInNames.ReplaceAllString(name, "-"), "-"))
	do, closing, err := w(0)
	if err != nil {
		return err
	}
	defer closing()
	plans, err := s.pg.plans(ctx, func() error {
		var err error
		for range 3 { // each by another session, perhaps
			_, failed := do()
			err = errors.Join(err, failed)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("taking the plans of %s: %w", name, err)
	}
	if err := os.WriteFile(file+".plans", plans, 0o644); err != nil {
		return err
	}
	const seconds = 4
	failed := make(chan error, 1)
	go func() { failed <- s.cordon.profile(ctx, seconds, file+".pprof") }()
	spent, err := s.pg.statements(ctx, func() error {
		_, err := s.measure(ctx, name, s.cordon.pid(), goalClients, seconds*time.Second+500*time.Millisecond, w)
		return err
	})
	if err = errors.Join(err, <-failed); err != nil {
		return err
	}
	if err := os.WriteFile(file+".statements", spent, 0o644); err != nil {
		return err
	}
	top := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-cum", "-nodecount=60", s.config.cordon, file+".pprof")
	text, err := top.Output()
	if err != nil {
		return fmt.Errorf("reading the profile of %s: %w", name, err)
	}
	return os.WriteFile(file+".top", text, 0o644)
}

// readAndUpdate measures reads and updates of the pool.
func (s *suite) readAndUpdate(ctx context.Context, m *ModeReport, e *endpoint, pool []string) error {
	for _, clients := range s.clients {
		if err := e.authorize(ctx); err != nil {
			return err
		}
		if s.wants(readPatient) || clients == goalClients {
			f, err := s.figure(ctx, m, e, readPatient, clients, reads(e, pool), http.StatusOK)
			if err != nil {
				return err
			}
			m.Plain = append(m.Plain, f)
		}
		if s.wants(updatePatient) {
			w, err := s.updates(e, pool, clients)
			if err != nil {
				return err
			}
			f, err := s.measured(ctx, m, e, updatePatient, clients, w)
			if err != nil {
				return err
			}
			m.Plain = append(m.Plain, f)
		}
	}
	return nil
}

func reads(e *endpoint, pool []string) [][]byte {
	requests := make([][]byte, len(pool))
	for i, id := range pool {
		requests[i] = e.request("GET", "Patient/"+id, nil)
	}
	return requests
}

// updates gives each client Patients of its own, so that none is in the way of
// another. Each update changes something.
func (s *suite) updates(e *endpoint, pool []string, clients int) (workload, error) {
	mine := make([][][]byte, clients)
	for round := range 2 {
		for i, id := range pool {
			body, err := withID(s.bodies.patients[i%len(s.bodies.patients)], id, fmt.Sprintf("555-555-%d1%02d", round, i%100))
			if err != nil {
				return nil, err
			}
			mine[i%clients] = append(mine[i%clients], e.request("PUT", "Patient/"+id, body))
		}
	}
	return func(i int) (op, func(), error) { return send(e.host, mine[i], http.StatusOK, nil)(0) }, nil
}

// create measures creates.
func (s *suite) create(ctx context.Context, m *ModeReport, e *endpoint) error {
	for _, clients := range s.clients {
		for _, x := range []struct {
			shape, resourceType string
			bodies              [][]byte
		}{
			{createPatient, "Patient", s.bodies.patients},
			{createObservation, "Observation", s.bodies.observations},
		} {
			if !s.wants(x.shape) {
				continue
			}
			if err := e.authorize(ctx); err != nil {
				return err
			}
			requests := make([][]byte, len(x.bodies))
			for i, body := range x.bodies {
				requests[i] = e.request("POST", x.resourceType, body)
			}
			f, err := s.figure(ctx, m, e, x.shape, clients, requests, http.StatusCreated)
			if err != nil {
				return err
			}
			m.Plain = append(m.Plain, f)
		}
	}
	return nil
}

// importAndSearch measures the import of Bundles and searches in what came.
func (s *suite) importAndSearch(ctx context.Context, m *ModeReport, e *endpoint, pool []string) error {
	if err := e.authorize(ctx); err != nil {
		return err
	}
	before, err := s.pg.sizes(ctx)
	if err != nil {
		return err
	}
	found, err := s.importAll(ctx, m, e)
	if err != nil {
		return err
	}
	after, err := s.pg.sizes(ctx)
	if err != nil {
		return err
	}
	m.Stored = after.sub(before)
	if m.Import.Errors > 0 {
		return fmt.Errorf("importing Bundles: %d of them failed: %s", m.Import.Errors, m.Import.Problem)
	}
	if s.profile != "" && s.wants(importBundles) {
		// More of the same: what searches find becomes more, not different.
		w := s.imports(ctx, e, 1000, make([][]byte, len(s.bundles)))
		if err := s.look(ctx, m.Mode+" import", w); err != nil {
			return err
		}
	}
	if err := s.pg.vacuum(ctx); err != nil {
		return fmt.Errorf("vacuuming: %w", err)
	}
	return s.search(ctx, m, e, found, pool)
}

// importAll imports the Bundles and returns what is in them.
func (s *suite) importAll(ctx context.Context, m *ModeReport, e *endpoint) (*catalog, error) {
	s.say("%s: importing", m.Mode)
	answers := make([][]byte, len(s.bundles)) // to the first copy
	w := s.imports(ctx, e, s.copies, answers)
	f, err := s.exhaust(ctx, importBundles, s.cordon.pid(), s.posters, w)
	f.Mode = m.Mode
	m.Import = &f
	if err != nil || f.Errors > 0 {
		return nil, err
	}
	c := newCataloger()
	for i, answer := range answers {
		if err := c.add(s.bundles[i].text, answer); err != nil {
			return nil, err
		}
	}
	return c.finish()
}

// imports is a workload that sends each Bundle as often as copies says, and
// keeps the first answer to each.
func (s *suite) imports(ctx context.Context, e *endpoint, copies int, answers [][]byte) workload {
	var next atomic.Int64
	requests := make([][]byte, len(s.bundles))
	for i, b := range s.bundles {
		requests[i] = e.request("POST", "", b.text, "Prefer: return=minimal")
	}
	return func(int) (op, func(), error) {
		c := newClient(e.host)
		return func() (counts, error) {
			i := int(next.Add(1)) - 1
			if i >= copies*len(requests) || ctx.Err() != nil {
				return counts{}, errDone
			}
			k := i % len(requests)
			r, err := c.do(requests[k])
			if err != nil {
				return counts{}, err
			}
			if r.status != http.StatusOK {
				return counts{}, unexpected(r)
			}
			if err := refused(r.body, s.bundles[k].entries); err != nil {
				return counts{}, err
			}
			if i == k {
				answers[k] = bytes.Clone(r.body)
			}
			return counts{ops: s.bundles[k].entries, bytes: len(r.body)}, nil
		}, c.close, nil
	}
}

// perShape is how many different queries each search shape is measured with.
const perShape = 64

// searchesPerRead is how many shapes of search are between two reads.
const searchesPerRead = 3

// search measures every shape for a page of 20 and for a page of one, with
// reads before, between and after.
func (s *suite) search(ctx context.Context, m *ModeReport, e *endpoint, found *catalog, pool []string) error {
	shapes := append(slices.Clone(searches), search{nextPage, byCode})
	shapes = slices.DeleteFunc(shapes, func(x search) bool { return !s.wants(x.name) })
	for some := range slices.Chunk(shapes, searchesPerRead) {
		if err := s.readBeside(ctx, m, e, pool); err != nil {
			return err
		}
		for _, x := range some {
			targets := make([]string, perShape)
			for i := range targets {
				targets[i] = x.query(found)
			}
			if err := s.pages(ctx, m, e, x.name, targets); err != nil {
				return err
			}
		}
	}
	return s.readBeside(ctx, m, e, pool)
}

// readBeside measures reads, for searches to be held against.
func (s *suite) readBeside(ctx context.Context, m *ModeReport, e *endpoint, pool []string) error {
	if err := e.authorize(ctx); err != nil {
		return err
	}
	s.say("%s: %s beside searches", m.Mode, readPatient)
	f, err := s.measure(ctx, readPatient, s.cordon.pid(), goalClients, s.duration, send(e.host, reads(e, pool), http.StatusOK, nil))
	f.Mode = m.Mode
	m.ReadBeside = append(m.ReadBeside, f)
	return err
}

// pages measures the queries for a page of 20 and for a page of one.
func (s *suite) pages(ctx context.Context, m *ModeReport, e *endpoint, shape string, targets []string) error {
	for _, x := range []struct {
		count string
		into  *[]Figure
	}{{"20", &m.Pages}, {"1", &m.Ones}} {
		if err := e.authorize(ctx); err != nil {
			return err
		}
		requests := make([][]byte, len(targets))
		for i, target := range targets {
			requests[i] = e.request("GET", target+"&_count="+x.count, nil)
			if shape != nextPage {
				continue
			}
			next, err := follow(e, requests[i])
			if err != nil {
				return fmt.Errorf("%s: %w", shape, err)
			}
			requests[i] = e.request("GET", next, nil)
		}
		f, err := s.figure(ctx, m, e, shape, goalClients, requests, http.StatusOK)
		if err != nil {
			return err
		}
		f.Reads = len(m.ReadBeside)
		*x.into = append(*x.into, f)
	}
	return nil
}

// follow sends a search and returns the link to its next page.
func follow(e *endpoint, request []byte) (string, error) {
	c := newClient(e.host)
	defer c.close()
	r, err := c.do(request)
	if err != nil {
		return "", err
	}
	if r.status != http.StatusOK {
		return "", unexpected(r)
	}
	var page struct {
		Link []struct{ Relation, URL string } `json:"link"`
	}
	if err := json.Unmarshal(r.body, &page); err != nil {
		return "", fmt.Errorf("reading a page: %w", err)
	}
	for _, l := range page.Link {
		if l.Relation == "next" {
			return l.URL, nil
		}
	}
	return "", errors.New("there is no next page")
}
