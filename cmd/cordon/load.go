package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"github.com/cordon-fhir/cordon/smart/backend"
)

// loadCommand sends files to a tenant.
type loadCommand struct {
	Dir      devDir   `default:"dev" env:"CORDON_DIR" placeholder:"DIR" help:"Directory of the development server. Default: dev."`
	Tenant   string   `required:"" help:"Slug of the tenant."`
	Parallel int      `default:"4" help:"Bundles that are on their way at once. With 1 they are sent in order."`
	Apart    bool     `help:"If a transaction is refused, send its entries apart, so that a faulty one keeps no other out."`
	Files    []string `arg:"" name:"file" help:"Bundles, resources, or NDJSON (.ndjson), also with gzip."`
}

// A faultsError says that some of what was sent was not taken.
type faultsError struct{ n int }

func (e *faultsError) Error() string { return fmt.Sprintf("%d faults", e.n) }

// Run sends the files and prints what became of them. It returns a
// *faultsError if any resource was refused.
func (l *loadCommand) Run(ctx context.Context, c console) error {
	server, err := l.Dir.server()
	if err != nil {
		return err
	}
	tenant, err := l.Dir.tenant(server, l.Tenant)
	if err != nil {
		return err
	}
	loader, err := newLoader(tenant, l.Parallel)
	if err != nil {
		return err
	}
	bar := progress(l.Files, c.err)
	report, err := loader.load(ctx, func(yield func(parcel, error) bool) {
		for _, file := range l.Files {
			for p, err := range parcels(file, bar) {
				p.parts = p.parts || l.Apart
				if !yield(p, err) {
					return
				}
			}
		}
	})
	bar.Finish()
	report.print(c.out, l.Files)
	if err == nil && report.refused > 0 {
		err = &faultsError{report.refused}
	}
	return err
}

// progress returns a bar over the bytes of the files. It shows itself only on
// a terminal.
func progress(files []string, w io.Writer) *progressbar.ProgressBar {
	var size int64
	for _, file := range files {
		if info, err := os.Stat(file); err == nil {
			size += info.Size()
		}
	}
	return progressbar.NewOptions64(size,
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetVisibility(isTerminal(w)),
		progressbar.OptionSetDescription("loading"),
		progressbar.OptionShowBytes(true),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
	)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// A loader posts Bundles to a tenant as its client backend.
type loader struct {
	base     string
	login    *backend.Service
	http     *http.Client
	parallel int
}

func newLoader(tenant *devTenant, parallel int) (*loader, error) {
	i := slices.IndexFunc(tenant.Clients, func(c devClient) bool { return c.ID == "backend" })
	if i < 0 {
		return nil, fmt.Errorf("the key of a client named backend of tenant %s is not here", tenant.Slug)
	}
	login, err := newLogin(tenant, tenant.Clients[i], "system/*.cruds")
	if err != nil {
		return nil, err
	}
	parallel = max(1, parallel)
	return &loader{
		base: tenant.FHIRBase, login: login, parallel: parallel,
		http: &http.Client{Timeout: 5 * time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: parallel}},
	}, nil
}

// load posts the parcels. What is refused is in the report; an error means
// that it stopped before the end.
func (l *loader) load(ctx context.Context, parcels iter.Seq2[parcel, error]) (*loadReport, error) {
	report := &loadReport{began: time.Now(), files: map[string]*fileReport{}}
	g, ctx := errgroup.WithContext(ctx)
	work := make(chan parcel)
	g.Go(func() error {
		defer close(work)
		for p, err := range parcels {
			if err != nil {
				return err
			}
			select {
			case work <- p:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range l.parallel {
		g.Go(func() error {
			for p := range work {
				answer, err := l.post(ctx, p)
				if err != nil {
					return fmt.Errorf("%s: %w", p.name, err)
				}
				report.add(p, answer)
			}
			return nil
		})
	}
	err := g.Wait()
	report.took = time.Since(report.began)
	return report, err
}

// An answer says how many entries were taken and why the others were not.
type answer struct {
	taken  int
	faults []fault
}

// A fault is why an entry, or the whole Bundle, was refused.
type fault struct {
	entry  int // -1 for the whole Bundle
	status string
	issues string // codes, places and words of the OperationOutcome
}

// post sends the parcel. A transaction that is made of parts and is refused
// goes again as a batch, so that one faulty resource keeps none of its
// neighbours out.
func (l *loader) post(ctx context.Context, p parcel) (answer, error) {
	status, body, err := l.send(ctx, p)
	if err != nil {
		return answer{}, err
	}
	refused := status >= 400 && status < 500 && status != http.StatusUnauthorized && status != http.StatusForbidden
	if refused && p.parts && p.entries > 1 {
		if p.body, err = asBatch(p.body); err != nil {
			return answer{}, err
		}
		if status, body, err = l.send(ctx, p); err != nil {
			return answer{}, err
		}
	}
	if status != http.StatusOK {
		return answer{faults: []fault{{-1, strconv.Itoa(status), issues(body)}}}, nil
	}
	var b struct {
		Entry []struct {
			Response struct {
				Status  string          `json:"status"`
				Outcome json.RawMessage `json:"outcome"`
			} `json:"response"`
		} `json:"entry"`
	}
	if err := json.Unmarshal(body, &b); err != nil {
		return answer{}, fmt.Errorf("reading the answer: %w", err)
	}
	var a answer
	for i, e := range b.Entry {
		if strings.HasPrefix(e.Response.Status, "2") {
			a.taken++
		} else {
			a.faults = append(a.faults, fault{i, e.Response.Status, issues(e.Response.Outcome)})
		}
	}
	return a, nil
}

// tries is how often a parcel is sent before we give up; with doubling waits
// that is about a minute.
const tries = 9

// send posts the parcel until there is a last word on it: 429 is asked again,
// for nothing has been done; 503 and a lost connection may have left it done,
// so only a parcel that may go twice is sent again.
func (l *loader) send(ctx context.Context, p parcel) (status int, body []byte, err error) {
	wait := 100 * time.Millisecond
	for try := 1; ; try++ {
		var after time.Duration
		status, after, body, err = l.sendOnce(ctx, p.body)
		var network net.Error
		lost := errors.As(err, &network) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
		again := err == nil && status == http.StatusTooManyRequests ||
			p.again && (lost || err == nil && status == http.StatusServiceUnavailable)
		if !again || try == tries || ctx.Err() != nil {
			return status, body, err
		}
		select {
		case <-time.After(max(after, wait/2+rand.N(wait))):
		case <-ctx.Done():
			return 0, nil, ctx.Err()
		}
		wait *= 2
	}
}

// sendOnce posts the Bundle; after is what the answer's Retry-After says.
func (l *loader) sendOnce(ctx context.Context, bundle []byte) (status int, after time.Duration, body []byte, err error) {
	token, err := l.login.Token(ctx)
	if err != nil {
		return 0, 0, nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.base, bytes.NewReader(bundle))
	if err != nil {
		return 0, 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/fhir+json")
	req.Header.Set("Accept", "application/fhir+json")
	req.Header.Set("Prefer", "return=minimal")
	resp, err := l.http.Do(req)
	if err != nil {
		return 0, 0, nil, err
	}
	defer resp.Body.Close()
	seconds, _ := strconv.Atoi(resp.Header.Get("Retry-After"))
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, min(time.Duration(seconds)*time.Second, time.Minute), body, err
}

// issues writes the issues of an OperationOutcome on one line. They hold no
// value of a resource: the server promises it.
func issues(outcome []byte) string {
	var o struct {
		Issue []struct {
			Code        string   `json:"code"`
			Diagnostics string   `json:"diagnostics"`
			Expression  []string `json:"expression"`
		} `json:"issue"`
	}
	if json.Unmarshal(outcome, &o) != nil || len(o.Issue) == 0 {
		return "no OperationOutcome"
	}
	var words []string
	for _, i := range o.Issue {
		text := i.Code + ": " + i.Diagnostics
		if len(i.Expression) > 0 {
			text += " (" + strings.Join(i.Expression, ", ") + ")"
		}
		words = append(words, text)
	}
	return strings.Join(words, "; ")
}

// A loadReport sums up what became of the parcels.
type loadReport struct {
	began time.Time
	took  time.Duration

	mu      sync.Mutex
	files   map[string]*fileReport
	taken   int
	refused int
	faults  []string // the first of them
}

type fileReport struct{ taken, refused int }

// maxFaults bounds the faults that are printed.
const maxFaults = 50

func (r *loadReport) add(p parcel, a answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.files[p.file]
	if f == nil {
		f = &fileReport{}
		r.files[p.file] = f
	}
	refused := len(a.faults)
	if refused == 1 && a.faults[0].entry < 0 {
		refused = p.entries
	}
	f.taken, f.refused = f.taken+a.taken, f.refused+refused
	r.taken, r.refused = r.taken+a.taken, r.refused+refused
	for _, x := range a.faults {
		if len(r.faults) == maxFaults {
			return
		}
		where := p.name
		if x.entry >= 0 {
			where += fmt.Sprintf(" entry[%d]", x.entry)
		}
		r.faults = append(r.faults, fmt.Sprintf("%s: %s %s", where, x.status, x.issues))
	}
}

// print writes the table of files, in the order given, and the faults.
func (r *loadReport) print(w io.Writer, files []string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "FILE\tRESOURCES\tREFUSED")
	for _, name := range files {
		if f := r.files[name]; f != nil {
			fmt.Fprintf(t, "%s\t%d\t%d\n", name, f.taken, f.refused)
		}
	}
	rate := float64(r.taken) / max(r.took.Seconds(), 1e-3)
	fmt.Fprintf(t, "total of %d files\t%d\t%d\n", len(r.files), r.taken, r.refused)
	t.Flush()
	fmt.Fprintf(w, "%d resources in %.1f s, %.0f a second\n", r.taken, r.took.Seconds(), rate)
	if len(r.faults) > 0 {
		fmt.Fprintln(w, "\nRefused:")
		for _, f := range r.faults {
			fmt.Fprintln(w, " ", f)
		}
		if len(r.faults) == maxFaults {
			fmt.Fprintf(w, "  (the first %d are shown)\n", maxFaults)
		}
	}
}
