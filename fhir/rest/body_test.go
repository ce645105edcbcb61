package rest

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/store/storetest"
)

func TestLargeBodiesWaitForRoomAndSmallOnesDoNot(t *testing.T) { // T219 F054
	a := newAPI(t, func(c *Config) { c.Limits = Limits{Bodies: 2 * small, Timeout: 2 * time.Second} })
	s := a.handler.(*server)
	token := a.token(t, storetest.A1, "system/Basic.c")
	post := func(text string) int {
		t.Helper()
		r := httptest.NewRequest("POST", "/fhir/"+storetest.A1+"/Basic", strings.NewReader(`{"resourceType":"Basic","code":{"text":"`+text+`"}}`))
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", "application/fhir+json")
		w := httptest.NewRecorder()
		a.handler.ServeHTTP(w, r)
		return w.Code
	}
	large := strings.Repeat("a", small)
	if err := s.bodies.Acquire(context.Background(), 2*small); err != nil { // as others' requests do
		t.Fatal(err)
	}
	if got := post(large); got != http.StatusServiceUnavailable {
		t.Errorf("large, without room: %d", got)
	}
	if got := post("x"); got != http.StatusCreated {
		t.Errorf("small, without room: %d", got)
	}
	s.bodies.Release(2 * small)
	for range 8 { // each gives back what it took
		if got := post(large); got != http.StatusCreated {
			t.Errorf("large, with room: %d", got)
		}
	}
	if got := post(large + large + large); got != http.StatusCreated {
		t.Errorf("larger than all the room: %d", got)
	}
}
