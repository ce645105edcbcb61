package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"text/tabwriter"
	"time"
)

// A Noise is what neighbours notice of a tenant that asks a hundred times as much
// as they do.
type Noise struct {
	Mode    string `json:"mode"`  // of the tenant that is loud
	Quiet   Pace   `json:"quiet"` // of the neighbours, together
	Flooded Pace   `json:"flooded"`
	// What is answered to the loud tenant per second, and refused with 429.
	Answered float64 `json:"answered"`
	Refused  float64 `json:"refused"`
	Problem  string  `json:"problem,omitempty"` // the first thing that went wrong
}

// A Pace is how long answers took, in milliseconds.
type Pace struct {
	Requests int     `json:"requests"`
	Errors   int     `json:"errors"`
	P50      float64 `json:"p50_ms"`
	P95      float64 `json:"p95_ms"`
	P99      float64 `json:"p99_ms"`
}

func (n Noise) goal() Goal {
	return newGoal("p95 beside a tenant that is a hundred times as loud", n.Mode, n.Flooded.P95/n.Quiet.P95, goalNoise, "× quiet")
}

const (
	noiseRate     = 25  // requests a second of each neighbour
	noiseTimes    = 100 // what the loud one asks in multiples of that
	noiseClients  = 64  // its connections
	noiseRounds   = 3   // quiet and flooded, in turn
	noiseSeconds  = 4   // each, in multiples of the duration of a figure
	noisePatients = 20
)

// noises lets a tenant of each mode be loud, and asks its neighbours meanwhile.
func (s *suite) noises(ctx context.Context) error {
	if !s.noise {
		return nil
	}
	var all []*endpoint
	for _, mode := range []string{"shared", "schema", "database"} {
		tenants, err := s.cordon.tenants(mode)
		if err != nil {
			return err
		}
		all = append(all, tenants...)
	}
	for _, mode := range []string{"shared", "schema", "database"} {
		loud, err := s.cordon.tenants(mode)
		if err != nil {
			return err
		}
		s.say("%s is loud", loud[0].slug)
		neighbours := slices.DeleteFunc(slices.Clone(all), func(e *endpoint) bool { return e.slug == loud[0].slug })
		n, err := s.compareNoise(ctx, loud[0], neighbours)
		if err != nil {
			return err
		}
		n.Mode = mode
		s.report.Noises = append(s.report.Noises, n)
		s.report.Goals = append(s.report.Goals, n.goal())
	}
	return nil
}

// compareNoise measures the neighbours while the loud one asks as much as they
// do, and while it asks a hundred times as much, in turn.
func (s *suite) compareNoise(ctx context.Context, loud *endpoint, neighbours []*endpoint) (n Noise, err error) {
	asks := map[*endpoint][][]byte{}
	for _, e := range append(neighbours, loud) {
		if asks[e], err = s.mixed(ctx, e); err != nil {
			return n, err
		}
	}
	var quiet, flooded, flood, whisper heard
	for range noiseRounds {
		for _, phase := range []struct {
			rate, clients    int
			loud, neighbours *heard
		}{{noiseRate, 1, &whisper, &quiet}, {noiseRate * noiseTimes, noiseClients, &flood, &flooded}} {
			during, stop := context.WithTimeout(ctx, noiseSeconds*s.duration)
			var all sync.WaitGroup
			for range phase.clients {
				all.Go(func() { phase.loud.ask(during, loud, asks[loud], float64(phase.rate)/float64(phase.clients)) })
			}
			for _, e := range neighbours {
				all.Go(func() { phase.neighbours.ask(during, e, asks[e], noiseRate) })
			}
			all.Wait()
			stop()
		}
	}
	seconds := noiseRounds * noiseSeconds * s.duration.Seconds()
	n.Quiet, n.Flooded = quiet.pace(), flooded.pace()
	n.Answered, n.Refused = float64(len(flood.took))/seconds, float64(flood.refused)/seconds
	n.Problem = quiet.problem + flooded.problem + flood.problem
	return n, ctx.Err()
}

// mixed returns what a tenant asks for: six reads, two searches and two updates
// in ten, of Patients that it makes.
func (s *suite) mixed(ctx context.Context, e *endpoint) (list [][]byte, err error) {
	if err := e.authorize(ctx); err != nil {
		return nil, err
	}
	c := newClient(e.host)
	defer c.close()
	for i := range noisePatients {
		ref := "Patient/noise-" + strconv.Itoa(i)
		update := e.request("PUT", ref, fmt.Appendf(nil, `{"resourceType":"Patient","id":"noise-%d","name":[{"family":"Noise%d","given":["Ada"]}],"birthDate":"1980-01-%02d"}`, i, i, 1+i))
		answer, err := c.do(update)
		if err != nil {
			return nil, err
		}
		if answer.status >= 300 {
			return nil, unexpected(answer)
		}
		read := e.request("GET", ref, nil)
		search := e.request("GET", "Patient?family=noise"+strconv.Itoa(i)+"&_count=10", nil)
		list = append(list, read, read, search, read, update)
	}
	return list, nil
}

// heard is what askers were answered.
type heard struct {
	mu      sync.Mutex
	took    []time.Duration
	refused int
	errors  int
	problem string
}

// ask sends the requests over one connection, so many a second whatever the
// answers, as long as there is time.
func (h *heard) ask(ctx context.Context, e *endpoint, requests [][]byte, rate float64) {
	c := newClient(e.host)
	defer c.close()
	pause := func() time.Duration { return time.Duration((0.5 + rand.Float64()) / rate * float64(time.Second)) }
	at := time.Now().Add(pause())
	for i := rand.IntN(len(requests)); ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(at)):
		}
		sent := time.Now()
		answer, err := c.do(requests[i%len(requests)])
		h.add(time.Since(sent), answer, err)
		at = at.Add(pause())
		if time.Since(at) > time.Second { // it cannot be made up for
			at = time.Now()
		}
	}
}

func (h *heard) add(took time.Duration, answer *response, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err == nil && answer.status < 300:
		h.took = append(h.took, took)
		return
	case err == nil && answer.status == http.StatusTooManyRequests:
		h.refused++
		return
	case err == nil:
		err = unexpected(answer)
	}
	h.errors++
	h.problem = err.Error()
}

func (h *heard) pace() Pace {
	if len(h.took) == 0 {
		return Pace{Errors: h.errors + h.refused}
	}
	slices.Sort(h.took)
	return Pace{len(h.took), h.errors + h.refused, percentile(h.took, 50), percentile(h.took, 95), percentile(h.took, 99)}
}

// printNoises writes what neighbours notice.
func printNoises(w io.Writer, list []Noise) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(w, "\n== noise: four neighbours ask %d times a second each, one tenant %d times\n\n", noiseRate, noiseRate*noiseTimes)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "loud\tquiet p50\tp95\tp99 ms\tflooded p50\tp95\tp99 ms\tp95 ×\terrors\tanswered/s\trefused/s\t")
	for _, n := range list {
		fmt.Fprintf(t, "%s\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%d of %d\t%.0f\t%.0f\t%.200s\n", n.Mode, n.Quiet.P50, n.Quiet.P95, n.Quiet.P99,
			n.Flooded.P50, n.Flooded.P95, n.Flooded.P99, n.Flooded.P95/n.Quiet.P95, n.Flooded.Errors, n.Flooded.Requests, n.Answered, n.Refused, n.Problem)
	}
	t.Flush()
}
