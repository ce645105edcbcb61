package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A writer is a client that stores, changes and deletes resources that no
// other client touches, and repeats what got no answer.
type writer struct {
	*client
	ledger  *ledger
	name    string
	rand    *rand.Rand
	attempt int
	own     []owned
	faults  []string // answers that no fault excuses
	slowest time.Duration
}

// An owned resource is there, as far as the writer knows.
type owned struct {
	ref     string
	version int // 0 if it is not known
	// unsure says that a write which got no answer may yet be done.
	unsure bool
}

// A load is writers at work.
type load struct {
	ledger  *ledger
	writers []*writer
	stop    context.CancelFunc
	wait    sync.WaitGroup
}

// run numbers the loads, so that their names differ.
var run int

// startLoad sets eight writers to work on all tenants.
func startLoad(t *testing.T) *load {
	t.Helper()
	run++
	ctx, stop := context.WithCancel(t.Context())
	l := &load{ledger: newLedger(t), stop: stop}
	for i := range 8 {
		p := sys.tenants[i%len(sys.tenants)]
		w := &writer{
			client: &p.backend, ledger: l.ledger, name: fmt.Sprintf("r%dc%d", run, i),
			rand: rand.New(rand.NewPCG(uint64(run), uint64(i))),
		}
		l.writers = append(l.writers, w)
		l.wait.Go(func() {
			for ctx.Err() == nil {
				if err := w.step(ctx); err != nil {
					w.faults = append(w.faults, err.Error())
					return
				}
			}
		})
	}
	t.Cleanup(l.end)
	return l
}

// end waits until every writer knows how its last attempt ended, or has given up.
func (l *load) end() {
	l.stop()
	l.wait.Wait()
}

// await waits until n more attempts have been answered.
func (l *load) await(t *testing.T, n int) {
	t.Helper()
	before, _, _ := l.ledger.count()
	for began := time.Now(); ; time.Sleep(5 * time.Millisecond) {
		if now, _, _ := l.ledger.count(); now >= before+n {
			return
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("no answers for a minute\n%s", sys.server.words())
		}
	}
}

// step does one thing.
func (w *writer) step(ctx context.Context) error {
	switch n := w.rand.IntN(100); {
	case n < 40 || len(w.own) == 0:
		return w.bundle(ctx)
	case n < 60:
		return w.create(ctx)
	case n < 80:
		return w.update(ctx)
	case n < 88:
		return w.remove(ctx)
	}
	_, _, err := w.read(ctx, w.own[w.rand.IntN(len(w.own))].ref)
	return err
}

// record is a resource that says who wrote it.
func record(id, key, mark, subject string) map[string]any {
	ids := []map[string]string{{"system": "urn:ledger:mark", "value": mark}}
	if key != "" {
		ids = append(ids, map[string]string{"system": "urn:ledger:key", "value": key})
	}
	r := map[string]any{"resourceType": "Basic", "identifier": ids, "code": map[string]string{"text": "ledger"}}
	if id != "" {
		r["id"] = id
	}
	if subject != "" {
		r["subject"] = map[string]string{"reference": subject}
	}
	return r
}

func criteria(key string) string { return "identifier=urn:ledger:key|" + key }

// try sends one attempt and notes how it ends. writes gives what the answer
// says was stored. reply is nil if there was no answer.
func (w *writer) try(ctx context.Context, writes []write, method, path, body string, headers ...string) (*attempt, *reply, error) {
	w.attempt++
	a := &attempt{ID: fmt.Sprintf("%s-%d", w.name, w.attempt), Tenant: w.slug, Order: w.attempt, Writes: writes}
	if err := w.ledger.sent(a); err != nil {
		return nil, nil, err
	}
	began := time.Now()
	// A client that has sent its request does not hang up.
	r, err := w.do(context.WithoutCancel(ctx), method, path, body, append(headers, "X-Request-Id", a.ID)...)
	w.slowest = max(w.slowest, time.Since(began))
	if err != nil {
		return a, nil, w.ledger.settled(a, 0, nil)
	}
	if r.status >= 500 && r.status != http.StatusServiceUnavailable {
		w.faults = append(w.faults, fmt.Sprintf("%s %s: %d %.300s", method, path, r.status, r.body))
	}
	if r.status < 300 && len(writes) > 0 {
		if writes, err = told(writes, r, method == http.MethodPost && path == ""); err != nil {
			w.faults = append(w.faults, err.Error())
		}
	}
	return a, r, w.ledger.settled(a, r.status, writes)
}

var location = regexp.MustCompile(`(Basic/[^/]+)/_history/(\d+)$`)

// told returns the writes with what the answer says of them.
func told(writes []write, r *reply, bundle bool) ([]write, error) {
	type answer struct{ Location, Etag string }
	answers := []answer{{r.header.Get("Location"), r.header.Get("ETag")}}
	if bundle {
		var b struct{ Entry []struct{ Response answer } }
		if err := json.Unmarshal(r.body, &b); err != nil {
			return nil, err
		}
		answers = nil
		for _, e := range b.Entry {
			answers = append(answers, e.Response)
		}
	}
	if len(answers) != len(writes) {
		return nil, fmt.Errorf("%d answers to %d entries", len(answers), len(writes))
	}
	writes = slices.Clone(writes)
	for i, a := range answers {
		if m := location.FindStringSubmatch(a.Location); m != nil {
			writes[i].Ref = m[1]
			writes[i].Version, _ = strconv.Atoi(m[2]) // only digits match
		} else if v := strings.Trim(a.Etag, `W/"`); v != "" {
			n, err := strconv.Atoi(v)
			if err != nil {
				return nil, fmt.Errorf("an ETag is not a version: %w", err)
			}
			writes[i].Version = n
		}
		if writes[i].Ref == "" {
			return nil, fmt.Errorf("the answer to a create does not say where the resource is: %d %q %q", r.status, a.Location, a.Etag)
		}
	}
	return writes, nil
}

// pause lets some time pass before something is tried again, and reports
// whether to go on: for half a minute after the load was told to end.
func (w *writer) pause(ctx context.Context, tries int) bool {
	select {
	case <-ctx.Done():
		time.Sleep(50 * time.Millisecond)
		return tries < 100
	case <-time.After(20 * time.Millisecond):
		return true
	}
}

// bundle sends a transaction until it is answered: conditional creates,
// updates that create, updates and deletes of what the writer owns.
func (w *writer) bundle(ctx context.Context) error {
	first := w.attempt + 1
	n := 1 + w.rand.IntN(8)
	if w.rand.IntN(10) == 0 {
		n = 50
	}
	var old []owned
	for len(old) < n/4 && len(w.own) > 0 {
		i := w.rand.IntN(len(w.own))
		old = append(old, w.own[i])
		w.own = slices.Delete(w.own, i, i+1)
	}
	removed := len(old) / 3
	for tries := 1; ; tries++ {
		var entries []map[string]any
		var writes []write
		add := func(wr write, url string, resource map[string]any, fullURL string) {
			request := map[string]string{"method": wr.Verb, "url": url}
			if wr.Key != "" {
				request["ifNoneExist"] = criteria(wr.Key)
			}
			e := map[string]any{"request": request}
			if resource != nil {
				e["resource"], e["fullUrl"] = resource, fullURL
			}
			entries, writes = append(entries, e), append(writes, wr)
		}
		for i := range n {
			name := fmt.Sprintf("%s-%d-%d", w.name, first, i) // the same at each try
			mark := fmt.Sprintf("%s-%d-%d", w.name, w.attempt+1, i)
			full := fmt.Sprintf("urn:uuid:00000000-0000-4000-8000-%012d", i)
			subject := ""
			if i > 0 {
				subject = "urn:uuid:00000000-0000-4000-8000-000000000000"
			}
			switch {
			case i > 0 && i <= removed:
				add(write{Verb: "DELETE", Ref: old[i-1].ref}, old[i-1].ref, nil, "")
			case i > 0 && i <= len(old):
				ref := old[i-1].ref
				add(write{Verb: "PUT", Ref: ref, Mark: mark}, ref, record(ref[len("Basic/"):], "", mark, subject), full)
			case i%2 == 0:
				add(write{Verb: "POST", Key: name, Mark: mark}, "Basic", record("", name, mark, subject), full)
			default:
				add(write{Verb: "PUT", Ref: "Basic/" + name, Mark: mark}, "Basic/"+name, record(name, "", mark, subject), full)
			}
		}
		a, r, err := w.try(ctx, writes, http.MethodPost, "", compact(map[string]any{"resourceType": "Bundle", "type": "transaction", "entry": entries}))
		if err != nil {
			return err
		}
		if r != nil && a.answered() {
			for _, wr := range a.Writes {
				if wr.Verb != "DELETE" {
					w.own = append(w.own, owned{ref: wr.Ref, version: wr.Version})
				}
			}
			return nil
		}
		if r != nil && a.refused() && r.status != http.StatusConflict && r.status != http.StatusTooManyRequests {
			return fmt.Errorf("a transaction was refused: %d %.500s", r.status, r.body)
		}
		if !w.pause(ctx, tries) {
			return nil
		}
	}
}

// create sends a conditional create until it is answered.
func (w *writer) create(ctx context.Context) error {
	key := fmt.Sprintf("%s-%d", w.name, w.attempt+1)
	for tries := 1; ; tries++ {
		mark := fmt.Sprintf("%s-%d", w.name, w.attempt+1)
		a, r, err := w.try(ctx, []write{{Verb: "POST", Key: key, Mark: mark}}, http.MethodPost, "Basic",
			compact(record("", key, mark, "")), "If-None-Exist", criteria(key))
		if err != nil {
			return err
		}
		if r != nil && a.answered() {
			w.own = append(w.own, owned{ref: a.Writes[0].Ref, version: a.Writes[0].Version})
			return nil
		}
		if r != nil && a.refused() && r.status != http.StatusConflict && r.status != http.StatusTooManyRequests {
			return fmt.Errorf("a conditional create was refused: %d %.500s", r.status, r.body)
		}
		if !w.pause(ctx, tries) {
			return nil
		}
	}
}

// update changes a resource if it is at the version that the writer knows. If
// there is no answer, reading tells.
func (w *writer) update(ctx context.Context) error {
	i := w.rand.IntN(len(w.own))
	o := w.own[i]
	mark := fmt.Sprintf("%s-%d", w.name, w.attempt+1)
	var headers []string
	if o.version != 0 {
		headers = []string{"If-Match", fmt.Sprintf(`W/"%d"`, o.version)}
	}
	a, r, err := w.try(ctx, []write{{Verb: "PUT", Ref: o.ref, Mark: mark}}, http.MethodPut, o.ref,
		compact(record(o.ref[len("Basic/"):], "", mark, "")), headers...)
	if err != nil {
		return err
	}
	if r != nil && a.answered() {
		w.own[i].version, w.own[i].unsure = a.Writes[0].Version, false
		return nil
	}
	if r != nil && r.status == http.StatusPreconditionFailed && !o.unsure {
		w.faults = append(w.faults, fmt.Sprintf("%s is not at version %d, which its only writer was told", o.ref, o.version))
	}
	return w.find(ctx, i)
}

// remove deletes a resource.
func (w *writer) remove(ctx context.Context) error {
	i := w.rand.IntN(len(w.own))
	o := w.own[i]
	a, r, err := w.try(ctx, []write{{Verb: "DELETE", Ref: o.ref}}, http.MethodDelete, o.ref, "")
	if err != nil {
		return err
	}
	if r != nil && a.answered() {
		w.own = slices.Delete(w.own, i, i+1)
		return nil
	}
	return w.find(ctx, i)
}

// find reads the i-th resource until it is known whether it is there, and at
// which version.
func (w *writer) find(ctx context.Context, i int) error {
	for tries := 1; ; tries++ {
		status, version, err := w.read(ctx, w.own[i].ref)
		switch {
		case err != nil:
			return err
		case status == http.StatusOK:
			// What got no answer may still be on its way to its end, and
			// this was before it.
			w.own[i].version, w.own[i].unsure = version, true
			return nil
		case status == http.StatusGone:
			w.own = slices.Delete(w.own, i, i+1)
			return nil
		case status == http.StatusNotFound:
			return fmt.Errorf("%s is not known, and was stored", w.own[i].ref)
		}
		if !w.pause(ctx, tries) {
			w.own = slices.Delete(w.own, i, i+1)
			return nil
		}
	}
}

// read returns the status, 0 if there is none, and the version.
func (w *writer) read(ctx context.Context, ref string) (status, version int, err error) {
	_, r, err := w.try(ctx, nil, http.MethodGet, ref, "")
	if err != nil || r == nil {
		return 0, 0, err
	}
	if r.status == http.StatusOK {
		version, err = strconv.Atoi(strings.Trim(r.header.Get("ETag"), `W/"`))
	}
	return r.status, version, err
}
