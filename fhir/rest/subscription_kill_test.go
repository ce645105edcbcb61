package rest

import (
	"context"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
	"github.com/cordon-fhir/cordon/subscriptions"
	"github.com/cordon-fhir/cordon/tenant"
)

// tellingWorker names the variable that makes the test binary a server that tells the
// subscribers of one tenant until it is killed.
const tellingWorker = "CORDON_TEST_TELLING_WORKER"

func tellSubscribers() {
	ctx := context.Background()
	cfg, on := atWork(ctx, tellingWorker)
	w := &subscriptions.Worker{DB: cfg.DB, Verifier: cfg.Verifier, Base: baseOf, Networks: loopback, Tenants: func(context.Context) ([]*tenant.Tenant, error) { return []*tenant.Tenant{on}, nil }}
	w.Run(ctx)
}

// F007, N-08: servers that are killed at any moment between a write and the mark that it
// was told, of which two work at a time, lose no event and number none twice; an event
// is told again only where one was killed, under its number.
func TestKillingServersLosesNoEvent(t *testing.T) {
	s := newSink(t)
	f := storetest.New(t)
	const slug, times = "subs-killed", 10
	if _, _, err := f.Migrator.Provision(t.Context(), store.NewTenant{Slug: slug, Mode: tenant.Shared}); err != nil {
		t.Fatal(err)
	}
	a := newAPI(t)
	a.endpoints(t, slug, s.URL+"/hook/")
	start := a.worker(t, tellingWorker, slug)
	c := a.client(t, slug, all)
	workers := []*exec.Cmd{start(), start()}
	c.subscribe(subscribing("patient-change", s.URL+"/hook/x", "id-only"))
	written := 0
	for i := range times {
		before := len(s.numbers("/hook/x"))
		eventually(t, "the servers get on", func() bool {
			c.must(201, "POST", "/Patient", patient("", "x"))
			written++
			return len(s.numbers("/hook/x")) > before
		})
		time.Sleep(rand.N(20 * time.Millisecond))
		workers[i%2].Process.Kill()
		workers[i%2].Wait()
		workers[i%2] = start()
	}
	last := func() int {
		most := 0
		for _, n := range s.numbers("/hook/x") {
			i, _ := strconv.Atoi(n)
			most = max(most, i)
		}
		return most
	}
	eventually(t, "all is told", func() bool { return last() >= written })
	got := s.numbers("/hook/x")
	told := len(got)
	seen, again := map[string]string{}, 0
	for _, n := range s.heard("/hook/x", "event-notification") {
		for i, number := range n.numbers {
			if focus, ok := seen[number]; ok {
				if again++; focus != n.focus[i] {
					t.Errorf("the number %s is of two events", number)
				}
			}
			seen[number] = n.focus[i]
		}
	}
	var foci []string
	for _, f := range seen {
		foci = append(foci, f)
	}
	slices.Sort(foci)
	if len(seen) != written || last() != written || len(slices.Compact(foci)) != written {
		t.Errorf("%d were written, %d numbers told, the last %d", written, len(seen), last())
	}
	t.Logf("killed %d times: %d written, %d told, %d of them again", times, written, told, again)
}
