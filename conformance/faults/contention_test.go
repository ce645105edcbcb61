package faults

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// statuses counts answers.
type statuses struct {
	mu sync.Mutex
	n  map[int]int
}

func (s *statuses) add(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n == nil {
		s.n = map[int]int{}
	}
	s.n[status]++
}

func (s *statuses) String() string {
	var list []string
	for _, status := range slices.Sorted(maps.Keys(s.n)) {
		list = append(list, fmt.Sprintf("%d: %d", status, s.n[status]))
	}
	return strings.Join(list, ", ")
}

// F026
func TestTransactionsInOppositeOrderAreNeverHalfDone(t *testing.T) {
	whole(t)
	const workers, each = 8, 15
	for _, p := range sys.tenants {
		t.Run(p.mode, func(t *testing.T) {
			run++
			ids := []string{fmt.Sprintf("left%d", run), fmt.Sprintf("right%d", run)}
			var got statuses
			var mu sync.Mutex
			done := map[string]int{} // by mark, the answer
			var wait sync.WaitGroup
			for w := range workers {
				wait.Go(func() {
					for i := range each {
						mark := fmt.Sprintf("t%dw%di%d", run, w, i)
						r, err := p.backend.do(t.Context(), http.MethodPost, "", pair(ids, mark, w%2 == 1))
						if err != nil {
							t.Error(err)
							return
						}
						got.add(r.status)
						mu.Lock()
						done[mark] = r.status
						mu.Unlock()
					}
				})
			}
			wait.Wait()
			shelves, err := p.read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			half := 0
			for mark, status := range done {
				n := 0
				for _, id := range ids {
					if slices.ContainsFunc(shelves["Basic/"+id], func(v version) bool { return v.mark == mark }) {
						n++
					}
				}
				if n == 1 || n == 2 && status != http.StatusOK || n == 0 && status == http.StatusOK {
					half++
					t.Errorf("%s was answered %d, and %d of 2 are there", mark, status, n)
				}
			}
			for status := range got.n {
				if status >= 500 {
					t.Errorf("%d answers were %d", got.n[status], status)
				}
			}
			measured(fmt.Sprintf("F026 %d transactions in opposite order, %s", workers*each, p.mode), fmt.Sprintf("half done %d; %s", half, &got), "half done 0, 500 0")
		})
	}
}

// pair is a transaction that updates two resources.
func pair(ids []string, mark string, backwards bool) string {
	var entries []map[string]any
	for _, id := range ids {
		entries = append(entries, map[string]any{
			"resource": record(id, "", mark, ""),
			"request":  map[string]string{"method": "PUT", "url": "Basic/" + id},
		})
	}
	if backwards {
		slices.Reverse(entries)
	}
	return compact(map[string]any{"resourceType": "Bundle", "type": "transaction", "entry": entries})
}

// A register is a resource that many change: an update names the version that
// it replaces, a read tells the version and who wrote it.
type register struct {
	version int
	mark    string
}

type registerInput struct {
	ifMatch int    // 0 for a read
	mark    string // to be written
}

type registerOutput struct {
	status int
	register
}

var registerModel = porcupine.Model{
	Init: func() any { return register{1, "first"} },
	Step: func(state, input, output any) (bool, any) {
		at, in, out := state.(register), input.(registerInput), output.(registerOutput)
		switch {
		case in.ifMatch == 0:
			return out.status == http.StatusOK && out.register == at, at
		case in.ifMatch == at.version:
			next := register{at.version + 1, in.mark}
			return out.status == http.StatusOK && out.version == next.version, next
		}
		return out.status == http.StatusPreconditionFailed, at
	},
	Equal: func(a, b any) bool { return a == b },
}

// F064, H-23
func TestUpdatesOfOneResourceAreLinearizable(t *testing.T) {
	whole(t)
	for _, p := range sys.tenants {
		for _, writers := range []int{50, 8} {
			t.Run(fmt.Sprintf("%s, %d writers", p.mode, writers), func(t *testing.T) {
				h := newHotspot(t, p)
				var wait sync.WaitGroup
				for w := range writers {
					wait.Go(func() {
						for i := range 4 {
							if now, ok := h.do(t, w, registerInput{}); ok {
								h.do(t, w, registerInput{ifMatch: now.version, mark: fmt.Sprintf("%s-%d-%d", h.ref, w, i)})
							}
						}
					})
				}
				wait.Wait()
				took := time.Since(h.began)
				last, ok := h.do(t, 0, registerInput{})
				if !ok {
					t.Fatal("the resource cannot be read")
				}
				winners := h.got.n[http.StatusOK]
				if last.version != winners+1 {
					t.Errorf("%d updates won, and the version is %d", winners, last.version)
				}
				verdict := "in order"
				if x := disorder(h.history); x != "" {
					verdict = "out of order"
					t.Error(x)
				}
				if writers <= 8 { // its search doubles with each that is at work
					r := porcupine.CheckOperationsTimeout(registerModel, h.history, time.Minute)
					verdict += ", linearizable: " + string(r)
					if r != porcupine.Ok {
						t.Errorf("the history is not linearizable: %s", r)
					}
				}
				measured(fmt.Sprintf("F064 %d writers of one resource, %s", writers, p.mode),
					fmt.Sprintf("%s; updates %s; %.0f/s", verdict, &h.got, float64(writers*4)/took.Seconds()), "lost updates 0")
			})
		}
	}
}

// A hotspot is a resource that many clients read and update at once.
type hotspot struct {
	*party
	ref   string
	began time.Time

	mu      sync.Mutex
	history []porcupine.Operation
	got     statuses // of the updates
}

func newHotspot(t *testing.T, p *party) *hotspot {
	t.Helper()
	run++
	h := &hotspot{party: p, ref: fmt.Sprintf("Basic/hot%d", run), began: time.Now()}
	if r, err := h.put(t, "first"); err != nil || r.status != http.StatusCreated {
		t.Fatalf("creating %s: %v %v", h.ref, r, err)
	}
	return h
}

func (h *hotspot) put(t *testing.T, mark string, headers ...string) (*reply, error) {
	return h.backend.do(t.Context(), http.MethodPut, h.ref, compact(record(h.ref[len("Basic/"):], "", mark, "")), headers...)
}

// do reads or updates and keeps it in the history. false means that nothing
// was done.
func (h *hotspot) do(t *testing.T, client int, in registerInput) (registerOutput, bool) {
	call := time.Since(h.began)
	var r *reply
	var err error
	if in.ifMatch == 0 {
		r, err = h.backend.do(t.Context(), http.MethodGet, h.ref, "")
	} else {
		r, err = h.put(t, in.mark, "If-Match", fmt.Sprintf(`W/"%d"`, in.ifMatch))
	}
	if err != nil {
		t.Error(err)
		return registerOutput{}, false
	}
	if in.ifMatch != 0 {
		h.got.add(r.status)
	}
	out := registerOutput{status: r.status}
	switch r.status {
	case http.StatusOK:
		out.mark = markOf(r.body)
		if out.version, err = strconv.Atoi(strings.Trim(r.header.Get("ETag"), `W/"`)); err != nil {
			t.Error(err)
		}
	case http.StatusPreconditionFailed:
	case http.StatusConflict, http.StatusServiceUnavailable:
		return out, false
	default:
		t.Errorf("an answer was %d %.300s", r.status, r.body)
		return out, false
	}
	op := porcupine.Operation{ClientId: client, Input: in, Call: int64(call), Output: out, Return: int64(time.Since(h.began))}
	h.mu.Lock()
	h.history = append(h.history, op)
	h.mu.Unlock()
	return out, true
}

// disorder returns what in a history contradicts that each version was there
// from its update to the next: two that made the same version, one that was
// seen before its update was sent, or after the next had been answered.
func disorder(history []porcupine.Operation) string {
	made := map[int]porcupine.Operation{}
	for _, op := range history {
		out := op.Output.(registerOutput)
		if op.Input.(registerInput).ifMatch == 0 || out.status != http.StatusOK {
			continue
		}
		if _, twice := made[out.version]; twice {
			return fmt.Sprintf("version %d was made twice", out.version)
		}
		made[out.version] = op
	}
	for _, op := range history {
		in, out := op.Input.(registerInput), op.Output.(registerOutput)
		if out.status != http.StatusOK {
			// A refused update must have met another version.
			by, made1 := made[in.ifMatch]
			next, replaced := made[in.ifMatch+1]
			if (!made1 || by.Return < op.Call) && (!replaced || next.Call > op.Return) {
				return fmt.Sprintf("an update of version %d was refused while it was current", in.ifMatch)
			}
			continue
		}
		if by, ok := made[out.version]; ok && op.Return < by.Call {
			return fmt.Sprintf("version %d was read before it was sent", out.version)
		}
		if by, ok := made[out.version]; ok && out.mark != by.Input.(registerInput).mark {
			return fmt.Sprintf("version %d was read with the content of %s", out.version, out.mark)
		}
		if next, ok := made[out.version+1]; ok && in.ifMatch == 0 && next.Return < op.Call {
			return fmt.Sprintf("version %d was read after the next had been answered", out.version)
		}
	}
	return ""
}

func markOf(body []byte) string {
	var r struct {
		Identifier []struct{ System, Value string }
	}
	if err := json.Unmarshal(body, &r); err != nil {
		return err.Error()
	}
	for _, id := range r.Identifier {
		if id.System == "urn:ledger:mark" {
			return id.Value
		}
	}
	return ""
}

// H-25
func TestAThousandEqualConditionalCreatesMakeOneResource(t *testing.T) {
	whole(t)
	const n = 1000
	for _, p := range sys.tenants {
		t.Run(p.mode, func(t *testing.T) {
			key := fmt.Sprintf("race-%d", rand.Uint64())
			var got statuses
			var wait sync.WaitGroup
			began := time.Now()
			for i := range n {
				wait.Go(func() {
					r, err := p.backend.do(t.Context(), http.MethodPost, "Basic",
						compact(record("", key, fmt.Sprintf("%s-%d", key, i), "")), "If-None-Exist", criteria(key))
					if err != nil {
						t.Error(err)
						return
					}
					got.add(r.status)
				})
			}
			wait.Wait()
			took := time.Since(began)
			shelves, err := p.read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			rows := 0
			for _, s := range shelves {
				if s[0].key == key {
					rows++
				}
			}
			if rows != 1 || got.n[http.StatusCreated] != 1 {
				t.Errorf("%d resources, answers %s", rows, &got)
			}
			// Who waited too long for a connection of the tenant's share, or of
			// its database, is told to come again.
			if got.n[http.StatusOK]+got.n[http.StatusCreated]+got.n[http.StatusTooManyRequests]+got.n[http.StatusServiceUnavailable] != n {
				t.Errorf("answers %s", &got)
			}
			measured(fmt.Sprintf("H-25 %d equal conditional creates, %s", n, p.mode), fmt.Sprintf("resources %d; %s; %s", rows, &got, took.Round(time.Millisecond)), "resources 1")
		})
	}
}
