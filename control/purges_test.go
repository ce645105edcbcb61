package control_test

import (
	"crypto/rand"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/store/storetest"
)

// CP-06: one operator asks for a purge, another approves it, and the trail of the
// platform has what each did and why, without the patient.
func TestAPurgeIsAskedForByOneOperatorAndApprovedByAnother(t *testing.T) {
	p := newPlane(t)
	path := "/control/v1/tenants/" + storetest.S2 + "/purges"
	patient := rand.Text()
	w := p.do(t, "POST", path, `{"patient":"Patient/`+patient+`","why":"request 24-311"}`, "X-Request-Id", "purge-1")
	id, _ := body(t, w)["id"].(string)
	if w.Code != 201 || id == "" || strings.Contains(w.Body.String(), patient) {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	for _, tt := range []struct {
		method, path, body string
		want               int
		shows              string
	}{
		{"POST", path, `{"patient":"7","why":" "}`, 400, "why"},
		{"POST", path, `{"why":"x"}`, 400, "patient"},
		{"POST", path, `{"patient":"a b","why":"x"}`, 400, "patient"},
		{"POST", "/control/v1/tenants/nobody-there/purges", `{"patient":"7","why":"x"}`, 404, "no such tenant"},
		{"GET", path, "", 200, id},
		{"POST", path + "/" + rand.Text() + "/approve", "", 404, "no such purge"},
		{"POST", "/control/v1/tenants/" + storetest.S1 + "/purges/" + id + "/approve", "", 404, "no such purge"},
		{"POST", path + "/" + id + "/approve", "", 403, "somebody else"},
	} {
		w := p.do(t, tt.method, tt.path, tt.body, "X-Request-Id", "purge-1")
		if got := w.Body.String(); w.Code != tt.want || !strings.Contains(got, tt.shows) || strings.Contains(got, patient) {
			t.Errorf("%s %s %s: got %d %s, want %d", tt.method, tt.path, tt.body, w.Code, got, tt.want)
		}
	}
	if code, got := p.by(t, "chief", "POST", path+"/"+id+"/approve", ""); code != 200 || got["approvedBy"] != "chief" {
		t.Errorf("%d %v", code, got)
	}
	trail := strings.Join(p.acts(t, "reason LIKE '%' || $1 || '%'", id), "\n")
	for _, want := range []string{
		"201 ops asked for purge " + id + " of what tenant " + storetest.S2 + " has of a patient: request 24-311",
		"200 chief approved purge " + id + " of what tenant " + storetest.S2 + " has of a patient, as ops asked: request 24-311",
	} {
		if !strings.Contains(trail, want) {
			t.Errorf("the trail has not %q: %s", want, trail)
		}
	}
	if strings.Contains(trail, patient) {
		t.Errorf("the trail of the platform names the patient: %s", trail)
	}
}
