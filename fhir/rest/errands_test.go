package rest

import (
	"context"
	"errors"
	"testing"

	"github.com/cordon-fhir/cordon/fhir/terminology"
	"github.com/cordon-fhir/cordon/store"
)

// counted is a terminology server that counts.
type counted struct{ asked int }

func (c *counted) Has(context.Context, terminology.Part, terminology.Coding) (terminology.Answer, error) {
	c.asked++
	return terminology.In, nil
}

func (c *counted) List(context.Context, terminology.Part) ([]terminology.Contains, error) {
	c.asked++
	return nil, nil
}

// Nobody else is asked while a connection may be held: what has to be known is
// asked afterwards, once, and the work is done again.
func TestNobodyIsAskedWhileAConnectionIsHeld(t *testing.T) {
	other := &counted{}
	e := &errands{to: other, away: here}
	part, code := terminology.Part{ValueSet: "http://example.org/vs"}, terminology.Coding{System: "urn:s", Code: "a"}
	ask := func() (terminology.Answer, error) { return e.Has(t.Context(), part, code) }
	err := e.holding(func() error {
		if _, err := ask(); !errors.Is(err, errLater) || other.asked != 0 {
			t.Errorf("while it is held: %v, asked %d times", err, other.asked)
		}
		return nil
	})
	var waiting *store.Waiting
	if !errors.As(err, &waiting) {
		t.Fatalf("got %v, want Waiting", err)
	}
	if err := waiting.For(t.Context()); err != nil || other.asked != 1 {
		t.Errorf("%v, asked %d times", err, other.asked)
	}
	err = e.holding(func() error {
		if is, err := ask(); is != terminology.In || err != nil {
			t.Errorf("once it is known: %v, %v", is, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	code.Code = "b"
	if is, err := ask(); is != terminology.In || err != nil || other.asked != 2 {
		t.Errorf("when none is held: %v, %v, asked %d times", is, err, other.asked)
	}
}

// here does work where it is.
func here(_ context.Context, work func()) error { work(); return nil }
