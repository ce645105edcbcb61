package control_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/alert"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/storetest"
)

func TestOperatorsSayWhatBecomesOfAnAlert(t *testing.T) {
	p := newPlane(t)
	now := time.Now().UTC()
	client := fmt.Sprint("client-", now.UnixNano())
	if err := p.Registry.Sight(t.Context(), []alert.Sighting{{Tenant: storetest.A1, Rule: smart.CrossTenant, Addressed: storetest.S1,
		Principal: alert.Principal{Client: client, Address: "192.0.2.1"}, First: now, Last: now, Count: 2, Requests: []string{"r1"}}}); err != nil {
		t.Fatal(err)
	}
	list, err := p.Registry.Alerts(t.Context(), storetest.A1)
	if err != nil || len(list) == 0 || list[0].Client != client {
		t.Fatalf("got %+v, %v", list, err)
	}
	path := fmt.Sprintf("/control/v1/alerts/%d", list[0].ID)
	for _, listing := range []string{"/control/v1/alerts", "/control/v1/tenants/" + storetest.A1 + "/alerts"} {
		if w := p.do(t, "GET", listing, ""); w.Code != 200 || !strings.Contains(w.Body.String(), client) {
			t.Errorf("%s: got %d %s", listing, w.Code, w.Body)
		}
	}
	if w := p.do(t, "GET", "/control/v1/tenants/"+storetest.A2+"/alerts", ""); w.Code != 200 || strings.Contains(w.Body.String(), client) {
		t.Errorf("another tenant's list: got %d %s", w.Code, w.Body)
	}
	for _, tt := range []struct {
		method, path, body string
		want               int
		shows              string
	}{
		{"GET", path, "", 200, `"state":"open"`},
		{"POST", path + "/acknowledge", `{"why":""}`, 400, "why"},
		{"POST", path + "/acknowledge", `{"why":"Robin asks the vendor"}`, 200, `"by":"ops"`},
		{"POST", path + "/acknowledge", `{"why":"me too"}`, 409, "acknowledged already"},
		{"POST", path + "/close", `{"why":"a test of theirs"}`, 200, `"state":"closed"`},
		{"POST", path + "/close", `{"why":"again"}`, 409, "closed already"},
		{"GET", path, "", 200, "Robin asks the vendor"},
		{"GET", "/control/v1/alerts/2147483647", "", 404, "no such alert"},
		{"PUT", "/control/v1/tenants/" + storetest.A2 + "/alert-sink", `{"url":"https://soc.example/hook"}`, 200, `"secret":"`},
		{"GET", "/control/v1/alert-sinks", "", 200, `[{"tenant":"` + storetest.A2 + `","url":"https://soc.example/hook"}]`},
		{"DELETE", "/control/v1/tenants/" + storetest.A2 + "/alert-sink", "", 200, ""},
		{"GET", "/control/v1/alert-sinks", "", 200, `[]`},
		{"PUT", "/control/v1/alert-sink", `{"url":"soc"}`, 400, "url"},
		{"GET", "/control/v1/alerts/x", "", 404, "no such path"},
		{"GET", "/control/v1/tenants/nobody-there/alerts", "", 404, "no such tenant"},
	} {
		w := p.do(t, tt.method, tt.path, tt.body, "X-Request-Id", "alerts-1")
		if w.Code != tt.want || !strings.Contains(w.Body.String(), tt.shows) {
			t.Errorf("%s %s %s: got %d %s, want %d", tt.method, tt.path, tt.body, w.Code, w.Body, tt.want)
		}
	}
	if trail := strings.Join(p.trail(t, "alerts-1"), "\n"); strings.Contains(trail, "secret") {
		t.Errorf("the trail has the secret: %s", trail)
	}
	if trail := strings.Join(p.trail(t, "alerts-1"), "\n"); !strings.Contains(trail, "a test of theirs") {
		t.Errorf("the trail has %s", trail)
	}
}
