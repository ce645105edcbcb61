package smart_test

import (
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
)

func TestAGrantIsLentForOneThingAndSomeMinutes(t *testing.T) {
	w := newWorld(t)
	g, err := w.grant(t, "north", w.sign(t, w.token("north")))
	if err != nil {
		t.Fatal(err)
	}
	text, err := w.verifier.Lend(t.Context(), g, "file 1", w.now.Add(5*time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	borrow := func(slug, what, text string) (*smart.Grant, error) {
		return w.verifier.Borrow(t.Context(), slug, what, text, audit.Origin{RequestID: "r2", Trail: audit.NewTrail()})
	}
	lent, err := borrow("north", "file 1", text)
	if err != nil || lent.Principal() != g.Principal() || lent.Agent() != g.Agent() {
		t.Fatalf("%+v %v, want %+v", lent, err, g)
	}
	for name, ask := range map[string][3]string{
		"for another thing": {"north", "file 2", text}, "at another tenant": {"south", "file 1", text}, "at none": {"nowhere", "file 1", text},
		"changed": {"north", "file 1", text[:len(text)-2] + "AA"}, "empty": {"north", "file 1", ""}, "what is no text of ours": {"north", "file 1", "%%%"},
	} {
		if g, err := borrow(ask[0], ask[1], ask[2]); g != nil || !fhir.IsCode(err, fhir.Login) {
			t.Errorf("%s: %v %v", name, g, err)
		}
	}
	w.now = w.now.Add(5 * time.Minute)
	if g, err := borrow("north", "file 1", text); g != nil || !fhir.IsCode(err, fhir.Login) {
		t.Errorf("after its time: %v %v", g, err)
	}
	if _, err := w.verifier.Lend(t.Context(), nil, "file 1", w.now); err == nil {
		t.Error("the Grant of nobody was lent")
	}
}
