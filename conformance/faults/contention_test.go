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
	const writers, each = 50, 4
	for _, p := range sys.tenants {
		t.Run(p.mode, func(t *testing.T) {
			run++
			ref := fmt.Sprintf("Basic/hot%d", run)
			put := func(mark string, headers ...string) (*reply, error) {
				return p.backend.do(t.Context(), http.MethodPut, ref, compact(record(ref[len("Basic/"):], "", mark, "")), headers...)
			}
			if r, err := put("first"); err != nil || r.status != http.StatusCreated {
				t.Fatalf("creating %s: %v %v", ref, r, err)
			}
			var mu sync.Mutex
			var history []porcupine.Operation
			var got statuses
			began := time.Now()
			do := func(client int, in registerInput) (registerOutput, bool) {
				call := time.Since(began)
				var r *reply
				var err error
				if in.ifMatch == 0 {
					r, err = p.backend.do(t.Context(), http.MethodGet, ref, "")
				} else {
					r, err = put(in.mark, "If-Match", fmt.Sprintf(`W/"%d"`, in.ifMatch))
				}
				if err != nil {
					t.Error(err)
					return registerOutput{}, false
				}
				if r.status == http.StatusConflict || r.status == http.StatusServiceUnavailable {
					got.add(r.status) // nothing was done
					return registerOutput{}, false
				}
				out := registerOutput{status: r.status}
				if r.status < 300 {
					out.version, _ = strconv.Atoi(strings.Trim(r.header.Get("ETag"), `W/"`))
					out.mark = markOf(r.body)
				}
				mu.Lock()
				history = append(history, porcupine.Operation{ClientId: client, Input: in, Call: int64(call), Output: out, Return: int64(time.Since(began))})
				mu.Unlock()
				if in.ifMatch != 0 {
					got.add(r.status)
				}
				return out, true
			}
			var wait sync.WaitGroup
			for w := range writers {
				wait.Go(func() {
					for i := range each {
						if now, ok := do(w, registerInput{}); ok {
							do(w, registerInput{ifMatch: now.version, mark: fmt.Sprintf("h%dw%di%d", run, w, i)})
						}
					}
				})
			}
			wait.Wait()
			took := time.Since(began)
			last, ok := do(0, registerInput{})
			if !ok {
				t.Fatal("the resource cannot be read")
			}
			winners := got.n[http.StatusOK]
			if last.version != winners+1 {
				t.Errorf("%d updates won, and the version is %d", winners, last.version)
			}
			if winners+got.n[412]+got.n[409]+got.n[503] < writers*each-got.n[503]-got.n[409] {
				t.Errorf("answers are missing or strange: %s", &got)
			}
			verdict := porcupine.CheckOperationsTimeout(registerModel, history, time.Minute)
			if verdict != porcupine.Ok {
				t.Errorf("the history is not linearizable: %s", verdict)
			}
			measured(fmt.Sprintf("F064 %d writers of one resource, %s", writers, p.mode),
				fmt.Sprintf("linearizable: %s; updates %s; %.0f/s", verdict, &got, float64(writers*each)/took.Seconds()), "lost updates 0")
		})
	}
}

func markOf(body []byte) string {
	var r struct{ Identifier []struct{ System, Value string } }
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
			if got.n[http.StatusOK]+got.n[http.StatusCreated]+got.n[http.StatusServiceUnavailable] != n {
				t.Errorf("answers %s", &got)
			}
			measured(fmt.Sprintf("H-25 %d equal conditional creates, %s", n, p.mode), fmt.Sprintf("resources %d; %s; %s", rows, &got, took.Round(time.Millisecond)), "resources 1")
		})
	}
}
