package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A Figure is what one shape of work cost.
type Figure struct {
	Shape   string  `json:"shape"`
	Mode    string  `json:"mode,omitempty"`
	Clients int     `json:"clients"`
	Seconds float64 `json:"seconds"`
	Ops     int     `json:"ops"` // resources, for imports
	Errors  int     `json:"errors"`
	Problem string  `json:"problem,omitempty"` // the first error

	Rate float64 `json:"rate"` // ops per second
	P50  float64 `json:"p50_ms"`
	P95  float64 `json:"p95_ms"`
	P99  float64 `json:"p99_ms"`

	// CPU time per op, in milliseconds. Database is PostgreSQL with all its
	// processes.
	ServerCPU   float64 `json:"server_cpu_ms"`
	DatabaseCPU float64 `json:"database_cpu_ms"`

	Entries float64 `json:"entries,omitempty"` // mean entries of an answer
	Bytes   float64 `json:"bytes"`             // mean size of an answer

	// Foreign is the share of the machine that processes not ours used
	// meanwhile. Above a few percent the figure is disturbed.
	Foreign float64 `json:"foreign"`

	// Reads is, for a search, how many of the reads beside the searches were
	// taken before it.
	Reads int `json:"reads,omitempty"`
}

// CPU returns the CPU time per op of server and database, in milliseconds.
func (f Figure) CPU() float64 { return f.ServerCPU + f.DatabaseCPU }

// An op does one operation and checks its answer. ops is what it counts for.
type op func() (done counts, err error)

type counts struct{ ops, entries, bytes int }

// A workload makes the op of each client. closing is called when it is done.
type workload func(client int) (do op, closing func(), err error)

// A bench is what every measurement needs to know.
type bench struct {
	postmaster int // process id of PostgreSQL
	cpus       int
}

// errDone ends a client: there is no more work.
var errDone = errors.New("no more work")

// warmup is how long a shape runs before it is measured.
const warmup = 200 * time.Millisecond

// measure runs the workload from several clients at once for the duration,
// after a warm-up, and accounts the CPU that the server process used.
func (b *bench) measure(ctx context.Context, shape string, server, clients int, d time.Duration, w workload) (Figure, error) {
	return b.run(ctx, Figure{Shape: shape, Clients: clients}, server, d, w)
}

// exhaust is measure until the workload says errDone, without a warm-up.
func (b *bench) exhaust(ctx context.Context, shape string, server, clients int, w workload) (Figure, error) {
	return b.run(ctx, Figure{Shape: shape, Clients: clients}, server, 0, w)
}

// A tally is what one client counts.
type tally struct {
	counts
	errors  int
	problem error
	times   []time.Duration
}

func (b *bench) run(ctx context.Context, f Figure, server int, d time.Duration, w workload) (Figure, error) {
	tallies := make([]tally, f.Clients)
	ops := make([]op, f.Clients)
	for i := range ops {
		do, closing, err := w(i)
		if err != nil {
			return f, fmt.Errorf("preparing %s: %w", f.Shape, err)
		}
		defer closing()
		ops[i] = do
	}
	var measuring, stopped atomic.Bool
	measuring.Store(d == 0)
	before, err := readCPU(server, b.postmaster)
	if err != nil {
		return f, err
	}
	began := time.Now()
	var wg sync.WaitGroup
	for i := range tallies {
		wg.Go(func() { tallies[i].work(ops[i], &measuring, &stopped) })
	}
	if d > 0 {
		sleep(ctx, warmup)
		if before, err = readCPU(server, b.postmaster); err != nil {
			return f, err
		}
		began = time.Now()
		measuring.Store(true)
		sleep(ctx, d)
		measuring.Store(false)
	} else {
		wg.Wait()
	}
	took := time.Since(began)
	after, err := readCPU(server, b.postmaster)
	stopped.Store(true)
	wg.Wait()
	if err = errors.Join(err, ctx.Err()); err != nil {
		return f, err
	}
	f.sum(tallies, took, after.sub(before), b.cpus)
	return f, nil
}

// work repeats the op until it is stopped or has nothing more to do.
func (t *tally) work(do op, measuring, stopped *atomic.Bool) {
	t.times = make([]time.Duration, 0, 1<<12)
	for !stopped.Load() {
		began := time.Now()
		done, err := do()
		if errors.Is(err, errDone) {
			return
		}
		took := time.Since(began)
		if !measuring.Load() {
			if err != nil && t.problem == nil {
				t.problem = err
			}
			continue
		}
		if err != nil {
			t.errors++
			t.problem = err
			// A server that refuses at once must not be hammered.
			time.Sleep(time.Millisecond)
			continue
		}
		t.ops += done.ops
		t.entries += done.entries
		t.bytes += done.bytes
		t.times = append(t.times, took)
	}
}

// sum makes the figure of what the clients counted.
func (f *Figure) sum(tallies []tally, took time.Duration, used cpuTimes, cpus int) {
	var times []time.Duration
	var entries, bytes int
	for _, t := range tallies {
		f.Ops += t.ops
		f.Errors += t.errors
		entries += t.entries
		bytes += t.bytes
		times = append(times, t.times...)
		if t.problem != nil && f.Problem == "" {
			f.Problem = t.problem.Error()
		}
	}
	f.Seconds = took.Seconds()
	f.Foreign = max(0, (used.busy-used.own-used.server-used.database).Seconds()/(f.Seconds*float64(cpus)))
	if len(times) == 0 {
		return
	}
	slices.Sort(times)
	f.P50, f.P95, f.P99 = percentile(times, 50), percentile(times, 95), percentile(times, 99)
	n := float64(f.Ops)
	f.Rate = n / f.Seconds
	f.ServerCPU, f.DatabaseCPU = milliseconds(used.server)/n, milliseconds(used.database)/n
	f.Entries, f.Bytes = float64(entries)/n, float64(bytes)/n
}

// percentile returns the p-th percentile of sorted times, by nearest rank, in
// milliseconds.
func percentile(sorted []time.Duration, p int) float64 {
	rank := (len(sorted)*p + 99) / 100
	return milliseconds(sorted[max(rank, 1)-1])
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
