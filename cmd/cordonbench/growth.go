package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"text/tabwriter"
)

// A Size is what was measured among so many residents of one tenant.
type Size struct {
	Residents int    `json:"residents"`
	Load      Figure `json:"load"` // of those who came since the size before
	// ReadBeside are reads before, between and after the searches.
	ReadBeside []Figure `json:"read_beside"`
	Searches   []Figure `json:"searches"` // by one client, who queues behind nobody
	// Long is a page of 50, between LongReads, by as many clients as ratios of
	// CPU are judged at.
	Long      *Figure  `json:"long,omitempty"`
	LongReads []Figure `json:"long_reads,omitempty"`
}

func (x *Size) errors() (n int, empty []string) {
	searches := x.Searches
	if x.Long != nil {
		searches = append(slices.Clone(searches), *x.Long)
	}
	return faults(slices.Concat([]Figure{x.Load}, x.ReadBeside, x.LongReads), searches)
}

// grow measures searches in a tenant whose population grows from size to size.
// The values are those of residents who were there from the beginning.
func (s *suite) grow(ctx context.Context) error {
	if len(s.sizes) == 0 {
		return nil
	}
	tenants, err := s.cordon.tenants("shared")
	if err != nil {
		return err
	}
	e := tenants[len(tenants)-1] // the first is measured by itself
	values := known(s.sizes[0])
	from := 0
	for _, n := range s.sizes {
		x := Size{Residents: n}
		if err := s.settle(ctx, e, &x, from); err != nil {
			return err
		}
		if err := s.searchAmong(ctx, e, &x, values); err != nil {
			return err
		}
		s.report.Sizes = append(s.report.Sizes, x)
		from = n
	}
	return nil
}

// perBundle is how many residents come with one transaction.
const perBundle = 20

// settle loads residents, through transactions.
func (s *suite) settle(ctx context.Context, e *endpoint, x *Size, from int) error {
	if err := e.authorize(ctx); err != nil {
		return err
	}
	s.say("%s: loading residents up to %d", e.slug, x.Residents)
	next := atomic.Int64{}
	next.Store(int64(from))
	w := func(int) (op, func(), error) {
		c := newClient(e.host)
		return func() (counts, error) {
			first := int(next.Add(perBundle)) - perBundle
			if first >= x.Residents || ctx.Err() != nil {
				return counts{}, errDone
			}
			var some []resident
			for r := first; r < min(first+perBundle, x.Residents); r++ {
				some = append(some, resident(r))
			}
			body, n, err := bundleOf(some)
			if err != nil {
				return counts{}, err
			}
			r, err := c.do(e.request("POST", "", body, "Prefer: return=minimal"))
			if err != nil {
				return counts{}, err
			}
			if r.status != http.StatusOK {
				return counts{}, unexpected(r)
			}
			return counts{ops: n, bytes: len(r.body)}, refused(r.body, n)
		}, c.close, nil
	}
	var err error
	if x.Load, err = s.exhaust(ctx, "load of residents, per resource", s.cordon.pid(), s.posters, w); err != nil {
		return err
	}
	if x.Load.Errors > 0 {
		return fmt.Errorf("loading residents: %s", x.Load.Problem)
	}
	return s.pg.vacuum(ctx)
}

// searchAmong measures the shapes with the values.
func (s *suite) searchAmong(ctx context.Context, e *endpoint, x *Size, values *catalog) error {
	shapes := slices.DeleteFunc(slices.Clone(searches), func(q search) bool { return !s.wants(q.name) })
	measure := func(into *[]Figure, shape string, clients int, target func(*catalog) string) error {
		if err := e.authorize(ctx); err != nil {
			return err
		}
		requests := make([][]byte, perShape)
		for i := range requests {
			requests[i] = e.request("GET", target(values), nil)
		}
		s.say("%s: %s among %d residents, %d clients", e.slug, shape, x.Residents, clients)
		w := send(e.host, requests, http.StatusOK, nil)
		f, err := s.measure(ctx, shape, s.cordon.pid(), clients, s.duration, w)
		f.Mode, f.Reads = "shared", len(x.ReadBeside)
		*into = append(*into, f)
		if err == nil && s.profile != "" && shape != readPatient {
			err = s.look(ctx, fmt.Sprintf("%s among %d", shape, x.Residents), w)
		}
		return err
	}
	resident := func(c *catalog) string { return "Patient/" + pick(c.patients).id }
	for some := range slices.Chunk(shapes, searchesPerRead) {
		if err := measure(&x.ReadBeside, readPatient, 1, resident); err != nil {
			return err
		}
		for _, q := range some {
			page := func(c *catalog) string { return q.query(c) + "&_count=20" }
			if err := measure(&x.Searches, q.name, 1, page); err != nil {
				return err
			}
		}
	}
	if err := measure(&x.ReadBeside, readPatient, 1, resident); err != nil || !s.wants(longPage) {
		return err
	}
	var long []Figure
	for _, step := range []struct {
		into   *[]Figure
		shape  string
		target func(*catalog) string
	}{{&x.LongReads, readPatient, resident}, {&long, longPage, newest}, {&x.LongReads, readPatient, resident}} {
		if err := measure(step.into, step.shape, goalClients, step.target); err != nil {
			return err
		}
	}
	long[0].Reads = 1
	x.Long = &long[0]
	return nil
}

// median returns the median time.
func median(f Figure) float64 { return f.P50 }

// growth returns how many times its median time at the size a a shape takes at
// the size b. What a read takes is the measure, since the machine drifts between
// the sizes, and a read does not depend on them.
func growth(a, b *Size, i int) float64 {
	before, after := a.Searches[i], b.Searches[i]
	return (after.P50 / beside(b.ReadBeside, after, median)) / (before.P50 / beside(a.ReadBeside, before, median))
}

// growthGoals holds the last size against the first.
func growthGoals(sizes []Size) (all []Goal) {
	if len(sizes) == 0 {
		return nil
	}
	first, last := &sizes[0], &sizes[len(sizes)-1]
	if f := last.Long; f != nil {
		all = append(all, newGoal("CPU per "+longPage, "shared", f.CPU()/beside(last.LongReads, *f, Figure.CPU), goalLong, "× read"))
	}
	for i, f := range last.Searches {
		if len(sizes) > 1 && !slices.Contains(growing, f.Shape) {
			all = append(all, newGoal(fmt.Sprintf("median among %d, %s", last.Residents, f.Shape), "shared",
				growth(first, last, i), goalGrowth, fmt.Sprintf("× among %d", first.Residents)))
		}
	}
	return all
}

// printSizes writes what each shape costs at each size.
func printSizes(w io.Writer, sizes []Size) {
	if len(sizes) == 0 {
		return
	}
	fmt.Fprintf(w, "\n== one tenant that grows, mode shared, 1 client\n\n")
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprint(t, "shape\t")
	for _, x := range sizes {
		fmt.Fprintf(t, "p50 ms of %d\tCPU ms\tentries\tforeign\t", x.Residents)
	}
	fmt.Fprintln(t, "growth by reads\t")
	for i, f := range sizes[0].Searches {
		fmt.Fprintf(t, "%s\t", f.Shape)
		for _, x := range sizes {
			f := x.Searches[i]
			fmt.Fprintf(t, "%.2f\t%.3f\t%.1f\t%.0f %%\t", f.P50, f.CPU(), f.Entries, 100*f.Foreign)
		}
		fmt.Fprintf(t, "%.2f\t\n", growth(&sizes[0], &sizes[len(sizes)-1], i))
	}
	t.Flush()
	for _, x := range sizes {
		fmt.Fprintf(w, "%d residents: loaded %.0f resources/s, %.3f ms CPU each", x.Residents, x.Load.Rate, x.Load.CPU())
		if x.Long != nil {
			fmt.Fprintf(w, "; %s %.3f ms CPU, %.1f entries, a read %.3f", longPage, x.Long.CPU(), x.Long.Entries, beside(x.LongReads, *x.Long, Figure.CPU))
		}
		fmt.Fprintln(w)
	}
}
