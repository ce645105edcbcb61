package limit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/tenant"
)

// A shift is turns of two for each tenant, at a time of ours.
type shift struct {
	*turns
	at time.Time
}

func newShift() *shift {
	s := &shift{at: time.Now()}
	s.turns = newTurns(2, func() time.Time { return s.at })
	return s
}

// try takes a turn if there is one at once.
func (s *shift) try(t *testing.T, id tenant.ID, later bool) (done func()) {
	t.Helper()
	w, done := s.ask(id, later)
	if w != nil && !s.leave(id, later, w) {
		t.Fatal("a turn came while nobody gave one back")
	}
	return done
}

// fill takes all turns that the tenant can have, and returns them.
func (s *shift) fill(t *testing.T, id tenant.ID) (all []func()) {
	t.Helper()
	for done := s.try(t, id, false); done != nil; done = s.try(t, id, false) {
		all = append(all, done)
	}
	return all
}

// H-66 F051: whatever one tenant asks, others have their turns.
func TestATenantAmongOthersHasItsShareAndAloneAllTurns(t *testing.T) {
	loud, quiet := tenants(t)[0], tenants(t)[1]
	s := newShift()
	alone := s.fill(t, loud)
	if len(alone) != shares*2 {
		t.Errorf("who is alone has %d turns", len(alone))
	}
	if done := s.try(t, quiet, false); done != nil {
		t.Error("there are more turns than there are")
	}
	alone[0]()
	done := s.try(t, quiet, false)
	if done == nil {
		t.Fatal("a turn that is free is not that of who has none")
	}
	for _, end := range alone[1:] {
		end()
	}
	if n := len(s.fill(t, loud)); n != 2 {
		t.Errorf("beside another it has %d turns", n)
	}
	done()
	if n := len(s.fill(t, loud)); n != 0 {
		t.Errorf("after another asked it has %d turns more", n)
	}
	s.at = s.at.Add(company + time.Second)
	if n := len(s.fill(t, loud)); n != shares*2-2 {
		t.Errorf("alone again it has %d turns more", n)
	}
}

func TestTheNextTurnIsThatOfWhoHasTheFewest(t *testing.T) {
	ids := tenants(t)
	s := newShift()
	held := s.fill(t, ids[0]) // all there are
	var order []string
	var mu sync.Mutex
	var wait sync.WaitGroup
	next := make(chan func(), 100)
	for i, id := range []tenant.ID{ids[0], ids[0], ids[1], ids[1], ids[1], ids[2]} {
		w, _ := s.ask(id, false)
		wait.Go(func() {
			<-w.turn
			mu.Lock()
			order = append(order, fmt.Sprint(i))
			mu.Unlock()
			next <- func() { s.end(id, false) }
		})
	}
	var begun []func()
	for _, end := range held[:3] { // three turns, one after the other
		end()
		begun = append(begun, <-next)
	}
	mu.Lock()
	// Of those who have none the first that came, the other, then who has one.
	// After that nobody may begin: who waits has more than the share.
	if want := []string{"2", "5", "3"}; !slices.Equal(order, want) {
		t.Errorf("in turn were %v, want %v", order, want)
	}
	mu.Unlock()
	for _, end := range append(held[3:], begun...) {
		end()
	}
	for len(next) > 0 || len(s.queues) > 0 {
		select {
		case end := <-next:
			end()
		case <-time.After(time.Minute):
			t.Fatal("somebody never has a turn")
		}
	}
	wait.Wait()
}

// What nobody waits for leaves turns to what somebody does.
func TestWhatIsAnsweredLaterLeavesHalfOfTheShare(t *testing.T) {
	ids := tenants(t)
	s := newShift()
	s.try(t, ids[1], false)
	if s.try(t, ids[0], true) == nil {
		t.Error("there is no turn")
	}
	if s.try(t, ids[0], true) != nil {
		t.Error("what is answered later has all turns")
	}
	if s.try(t, ids[0], false) == nil {
		t.Error("what somebody waits for has none")
	}
}

func TestTheQueueOfATenantIsBoundedAndOthersAreNotInIt(t *testing.T) {
	ids := tenants(t)
	s := newShift()
	s.try(t, ids[1], false)()
	s.fill(t, ids[0])
	ctx, leave := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	for range maxQueue {
		w, _ := s.ask(ids[0], false)
		wait.Go(func() {
			<-ctx.Done()
			s.leave(ids[0], false, w)
		})
	}
	if w, done := s.ask(ids[0], false); w != nil || done != nil {
		t.Error("one more may wait")
	}
	if s.try(t, ids[1], false) == nil {
		t.Error("another tenant has no turn")
	}
	leave()
	wait.Wait()
	if w, _ := s.ask(ids[0], false); w == nil {
		t.Error("nobody waits, and nobody may")
	}
}

func TestWhoLeavesTheQueueTakesNoTurn(t *testing.T) {
	ids := tenants(t)
	s := newShift()
	s.try(t, ids[1], false)()
	held := s.fill(t, ids[0])
	gone, leave := context.WithCancel(t.Context())
	leave()
	if done, err := s.take(gone, ids[0], false); done != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("who has gone has a turn: %v", err)
	}
	for _, end := range held {
		end()
	}
	if s.used != 0 || len(s.queues) != 0 {
		t.Errorf("%d turns are not given back, %d queues remembered", s.used, len(s.queues))
	}
}

// Many tenants at once, for the race detector: all are served, and nothing is left.
func TestEverybodyHasATurn(t *testing.T) {
	ids := tenants(t)
	s := newShift()
	s.turns.now = time.Now
	var all sync.WaitGroup
	for i := range 600 {
		all.Go(func() {
			done, err := s.take(t.Context(), ids[i%len(ids)], i%7 == 0)
			if err != nil {
				t.Errorf("somebody has no turn: %v", err)
				return
			}
			done()
		})
	}
	all.Wait()
	if s.used != 0 || len(s.queues) != 0 {
		t.Errorf("%d turns are not given back, %d queues remembered", s.used, len(s.queues))
	}
}

// tenants are three.
func tenants(t *testing.T) (ids []tenant.ID) {
	t.Helper()
	for i := range 3 {
		tn, err := tenant.NewRegistry(numbered(i+1)).Tenant(t.Context(), "harbor")
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, tn.ID)
	}
	return ids
}

// numbered is a registry of the tenant with the number.
type numbered int32

func (n numbered) TenantBySlug(context.Context, string) (tenant.Row, error) {
	return tenant.Row{ID: int32(n), Slug: "harbor", Mode: "shared", Status: "active"}, nil
}
