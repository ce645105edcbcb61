package launch_test

import (
	"strings"
	"testing"
	"time"
)

// T053
func TestAnAddressThatAsksTooOftenWaits(t *testing.T) {
	w := newWorld(t)
	for range 3000 {
		if rec := w.send("GET", "/auth/north/jwks", "", nil); rec.Code != 200 {
			t.Fatalf("%d %s", rec.Code, rec.Body)
		}
	}
	w.take()
	for range 10 {
		rec := w.post("north", form(w.assertion(t, "north", "backend", nil), "system/*.rs"))
		if rec.Code != 429 || rec.Header().Get("Retry-After") != "1" || !strings.Contains(rec.Body.String(), "temporarily_unavailable") {
			t.Fatalf("%d %s", rec.Code, rec.Body)
		}
	}
	if e := w.take(); len(e) != 1 || e[0].Status != 429 || !strings.Contains(e[0].Reason, "too many requests") {
		t.Errorf("audited: %+v", e)
	}
	w.now = w.now.Add(time.Second)
	if rec := w.post("north", form(w.assertion(t, "north", "backend", nil), "system/*.rs")); rec.Code != 200 {
		t.Errorf("a second later: %d %s", rec.Code, rec.Body)
	}
}

func TestAClientIsGivenOnlySoManyTokens(t *testing.T) {
	w := newWorld(t)
	for range 600 {
		if rec := w.post("north", form(w.assertion(t, "north", "backend", nil), "system/*.rs")); rec.Code != 200 {
			t.Fatalf("%d %s", rec.Code, rec.Body)
		}
	}
	if rec := w.post("north", form(w.assertion(t, "north", "backend", nil), "system/*.rs")); rec.Code != 429 {
		t.Errorf("one more: %d %s", rec.Code, rec.Body)
	}
	if rec := w.post("south", form(w.assertion(t, "south", "backend", nil), "system/*.rs")); rec.Code != 200 {
		t.Errorf("the same client of another tenant: %d %s", rec.Code, rec.Body)
	}
}
