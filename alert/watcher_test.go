package alert

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/limit"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/tenant"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// shelf keeps sightings in memory, unless it is broken.
type shelf struct {
	mu     sync.Mutex
	kept   []Sighting
	broken bool
}

func (s *shelf) Sight(_ context.Context, list []Sighting) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken {
		return errors.New("broken")
	}
	s.kept = append(s.kept, list...)
	return nil
}

func (s *shelf) setBroken(b bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = b
}

func (s *shelf) empty() []Sighting {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := s.kept
	s.kept = nil
	return kept
}

// rules of what is kept.
func (s *shelf) rules() (list []smart.Rule) {
	for _, x := range s.empty() {
		list = append(list, x.Rule)
	}
	return list
}

type source struct{ settings string }

func (s source) TenantBySlug(context.Context, string) (tenant.Row, error) {
	return tenant.Row{ID: 1, Slug: "harbor", Mode: "shared", Status: "active", Settings: []byte(s.settings)}, nil
}

// watched is a Watcher of the tenant harbor at a time that stands still.
type watched struct {
	*Watcher
	*shelf
	harbor *tenant.Tenant
	now    time.Time
}

func watch(t *testing.T, settings string) *watched {
	t.Helper()
	w := &watched{shelf: &shelf{}, now: time.Now()}
	var err error
	w.Watcher, err = New(Config{Keeper: w.shelf, Limit: limit.New(limit.Config{}), Now: func() time.Time { return w.now }})
	if err != nil {
		t.Fatal(err)
	}
	if w.harbor, err = tenant.NewRegistry(source{settings}).Tenant(t.Context(), "harbor"); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *watched) read(a audit.Agent, id string, reason fhir.IssueCode) {
	e := &audit.Entry{Interaction: fhir.Read, Type: "Patient", Entity: fhir.Ref{Type: "Patient", ID: id}, Agent: a,
		Origin: audit.Origin{Address: "192.0.2.1", RequestID: "r-" + id}}
	if reason != "" {
		e.Outcome, e.Reason = audit.MinorFailure, string(reason)
	} else {
		e.Patient = e.Entity
	}
	w.Entries(w.harbor, []*audit.Entry{e})
}

var (
	backend   = audit.Agent{Client: "nightly"}
	clinician = audit.Agent{Client: "chart", User: "Practitioner/7"}
)

// T058, API-06
func TestWhoTriesManyIdsIsSeenAndWhoAsksForOneAgainIsNot(t *testing.T) {
	w := watch(t, `{}`)
	for i := range 300 {
		w.read(audit.Agent{Client: "patient"}, "waits-for-this", fhir.NotFound)
		w.read(audit.Agent{Client: "good"}, fmt.Sprint(i), "")
		w.read(backend, fmt.Sprint("guess-", i), fhir.NotFound)
	}
	kept := w.empty()
	if len(kept) != 1 || kept[0].Rule != Enumeration || kept[0].Client != "nightly" || kept[0].Tenant != "harbor" || len(kept[0].Requests) != 1 {
		t.Fatalf("got %+v", kept)
	}
	if kept[0].Address != "192.0.2.1" || kept[0].Count != 1 {
		t.Errorf("got %+v", kept)
	}
	// API-06: it is slowed, too.
	allowed := 0
	for ; allowed < 100_000; allowed++ {
		if wait, _ := w.cfg.Limit.Take(w.harbor, limit.Who{Client: "nightly"}); wait > 0 {
			break
		}
	}
	if allowed == 100_000 {
		t.Error("it is not slowed")
	}
	w.now = w.now.Add(time.Hour)
	for i := range 100 {
		w.read(backend, fmt.Sprint("later-", i), fhir.NotFound)
	}
	if kept := w.empty(); len(kept) != 0 {
		t.Errorf("a hundred in ten minutes: %+v", kept)
	}
}

// T059
func TestWhoIsToldOfTooManyPatientsIsSeen(t *testing.T) {
	for _, tt := range []struct {
		claim, settings string
		agent           audit.Agent
		patients        int
		want            bool
	}{
		{"a user by default", `{}`, clinician, 1200, true},
		{"a user in an ordinary hour", `{}`, clinician, 800, false},
		{"a client by default", `{}`, backend, 30_000, true},
		{"a client in an ordinary hour", `{}`, backend, 20_000, false},
		{"a client whose tenant says so", `{"alerts":{"patients":50}}`, backend, 60, true},
		{"a user whose tenant says so", `{"alerts":{"userPatients":50}}`, clinician, 60, true},
		{"a user whose tenant allows it", `{"alerts":{"userPatients":5000}}`, clinician, 1200, false},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			w := watch(t, tt.settings)
			for i := range tt.patients {
				w.read(tt.agent, fmt.Sprint(i), "")
				w.read(tt.agent, "one that is read again and again", "")
			}
			if got := w.rules(); slices.Contains(got, Scraping) != tt.want || len(got) > 1 {
				t.Errorf("got %v", got)
			}
		})
	}
}

func TestWhoDoesFarMoreThanEverIsSeen(t *testing.T) {
	w := watch(t, `{}`)
	hour := func(patients int) {
		w.now = w.now.Add(61 * time.Minute)
		for i := range patients {
			w.read(backend, fmt.Sprint(i), "")
		}
	}
	for range 4 {
		hour(50)
	}
	if got := w.rules(); len(got) != 0 {
		t.Fatalf("on ordinary days: %v", got)
	}
	hour(8000)
	if got := w.rules(); !slices.Equal(got, []smart.Rule{Scraping}) {
		t.Errorf("a hundred and sixty times the usual: %v", got)
	}
}

func TestAClientOutsideItsNetworksIsSeen(t *testing.T) {
	w := watch(t, `{"alerts":{"networks":{"nightly":["198.51.100.0/24"]}}}`)
	w.read(audit.Agent{Client: "other"}, "1", "")
	if got := w.rules(); len(got) != 0 {
		t.Errorf("a client without networks: %v", got)
	}
	for range 10 {
		w.read(backend, "1", "")
	}
	if got := w.rules(); !slices.Equal(got, []smart.Rule{Elsewhere}) {
		t.Errorf("got %v", got)
	}
	w = watch(t, `{"alerts":{"networks":{"nightly":["192.0.2.0/24"]}}}`)
	w.read(backend, "1", "")
	if got := w.rules(); len(got) != 0 {
		t.Errorf("within its network: %v", got)
	}
}

func TestFailedLoginsAreCountedByAddressAndByTenant(t *testing.T) {
	w := watch(t, `{}`)
	for range maxFailed - 1 {
		w.LoginFailed("harbor", "192.0.2.1", "r1")
	}
	if got := w.rules(); len(got) != 0 {
		t.Errorf("too early: %v", got)
	}
	w.LoginFailed("harbor", "192.0.2.1", "r1")
	if got := w.empty(); len(got) != 1 || got[0].Rule != FailedLogins || got[0].Addressed != "harbor" || got[0].Address != "192.0.2.1" || got[0].Count != maxFailed {
		t.Errorf("got %+v", got)
	}
	for i := range maxFailedAll {
		w.LoginFailed("harbor", netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}).String(), "r2")
	}
	if got := w.empty(); len(got) != 1 || got[0].Principal != (Principal{}) || got[0].Addressed != "harbor" {
		t.Errorf("from many addresses: %+v", got)
	}
}

func TestTheFirstOfItsKindIsKeptAtOnceAndTheOthersAreCounted(t *testing.T) {
	w := watch(t, `{}`)
	a := smart.Alert{Rule: smart.CrossTenant, Tenant: "harbor", Addressed: "lakeside", Client: "nightly", Request: "r1"}
	w.Alert(a)
	if got := w.empty(); len(got) != 1 || got[0].Addressed != "lakeside" || got[0].Requests[0] != "r1" {
		t.Fatalf("got %+v", got)
	}
	for range 1000 {
		w.Alert(a)
	}
	if got := w.empty(); len(got) != 0 {
		t.Errorf("each was kept by itself: %d", len(got))
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	w.Run(stopped)
	if got := w.empty(); len(got) != 1 || got[0].Count != 1000 || len(got[0].Requests) != maxRequests {
		t.Errorf("got %+v", got)
	}
}

func TestWhatCannotBeKeptIsKeptLater(t *testing.T) {
	w := watch(t, `{}`)
	w.setBroken(true)
	w.Alert(smart.Alert{Rule: smart.CrossTenant, Tenant: "harbor", Client: "nightly"})
	w.NotAudited(w.harbor)
	w.setBroken(false)
	stopped, stop := context.WithCancel(t.Context())
	stop()
	w.Run(stopped)
	if got := w.empty(); len(got) != 2 {
		t.Errorf("got %+v", got)
	}
}

// Whoever makes up names makes neither this process nor the registry grow.
func TestManyNamesAreOnePrincipal(t *testing.T) {
	w := watch(t, `{}`)
	for i := range 10_000 {
		w.Alert(smart.Alert{Rule: smart.MutatedClaims, Tenant: "harbor", Client: fmt.Sprint("c", i)})
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	w.Run(stopped)
	subjects, count := map[Principal]bool{}, 0
	for _, s := range w.empty() {
		subjects[s.Principal] = true
		count += s.Count
	}
	if len(subjects) != maxSubjects+1 || count != 10_000 {
		t.Errorf("%d principals, %d sightings", len(subjects), count)
	}
}

// C6, C3: what is claimed may be anything.
func TestAnAlertHoldsNoTextOfItsSenderAndNoPatient(t *testing.T) {
	w := watch(t, `{}`)
	w.Alert(smart.Alert{Rule: smart.MutatedClaims, Tenant: "harbor", Client: "Alma Canary has HIV", User: "Patient/7", Request: "Alma Canary"})
	got := w.empty()
	if len(got) != 1 || got[0].Client != "?" || got[0].User != "a patient" || len(got[0].Requests) != 0 {
		t.Errorf("got %+v", got)
	}
	if text := fmt.Sprintf("%+v", got); strings.Contains(text, "Canary") || strings.Contains(text, "Patient/") {
		t.Errorf("got %s", text)
	}
}

func TestManyAtOnceAreKeptOnce(t *testing.T) {
	w := watch(t, `{}`)
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			for range 20 {
				w.Alert(smart.Alert{Rule: smart.CrossTenant, Tenant: "harbor", Client: fmt.Sprint("c", i%5)})
				w.read(backend, fmt.Sprint(i), fhir.NotFound)
				w.LoginFailed("harbor", "192.0.2.9", "r")
			}
		})
	}
	all.Wait()
	stopped, stop := context.WithCancel(t.Context())
	stop()
	w.Run(stopped)
	counts := map[smart.Rule]int{}
	for _, s := range w.empty() {
		counts[s.Rule] += s.Count
	}
	if counts[smart.CrossTenant] != 1000 || counts[FailedLogins] != maxFailed+maxFailedAll {
		t.Errorf("got %v", counts)
	}
}

func TestDifferentThingsAreCountedWithinAFewPercent(t *testing.T) {
	for _, n := range []int{10, 250, 1000, 10_000, 100_000} {
		d := newDistinct()
		for i := range n {
			d.add(hashOf(fmt.Sprint(i)))
			d.add(hashOf(fmt.Sprint(i)))
		}
		if got := d.count(); got < n*85/100 || got > n*115/100 {
			t.Errorf("%d are counted as %d", n, got)
		}
	}
}

func BenchmarkARead(b *testing.B) {
	w, _ := New(Config{Keeper: &shelf{}, Limit: limit.New(limit.Config{})})
	harbor, _ := tenant.NewRegistry(source{`{}`}).Tenant(b.Context(), "harbor")
	e := &audit.Entry{Interaction: fhir.Read, Type: "Patient", Entity: fhir.Ref{Type: "Patient", ID: "7"}, Patient: fhir.Ref{Type: "Patient", ID: "7"},
		Agent: backend, Origin: audit.Origin{Address: "192.0.2.1", RequestID: "r"}}
	entries := []*audit.Entry{e}
	for b.Loop() {
		w.cfg.Limit.Stranger("192.0.2.1")
		w.cfg.Limit.Take(harbor, limit.Who{Client: "nightly"})
		w.Entries(harbor, entries)
		w.cfg.Limit.Spend(harbor, limit.Who{Client: "nightly"}, 1)
	}
}
