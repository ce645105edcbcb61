package control_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/store"
)

// AUD-03: operators read the trail of the platform, and that they do is in it.
func TestOperatorsReadTheTrailOfThePlatform(t *testing.T) {
	p := newPlane(t)
	p.do(t, "GET", "/control/v1/tenants", "", "X-Request-Id", "read-1")
	page := func(path string) (list []store.PlatformEntry) {
		t.Helper()
		w := p.do(t, "GET", "/control/v1"+path, "", "X-Request-Id", "read-2")
		if err := json.Unmarshal(w.Body.Bytes(), &list); w.Code != 200 || err != nil {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		return list
	}
	page("/audit")
	list := page("/audit")
	if len(list) < 2 || list[0].RequestID != "read-2" || list[0].Client != "ops" || !strings.Contains(list[0].Reason, "showed the audit trail of the platform") || list[1].RequestID != "read-1" {
		t.Errorf("got %+v", list[:min(len(list), 3)])
	}
	number, err := json.Marshal(list[1].Number)
	if err != nil {
		t.Fatal(err)
	}
	if older := page("/audit/before/" + string(number)); len(older) == 0 || older[0].Number >= list[1].Number {
		t.Errorf("the page before has %+v", older[:min(len(older), 2)])
	}
	if w := p.send(t, "GET", "/control/v1/audit", ""); w.Code != 401 {
		t.Errorf("a stranger gets %d", w.Code)
	}
}
