package control_test

import (
	"crypto/rand"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/store/storetest"
)

// AUD-09, CP-06: one operator places a legal hold, two lift it, and the trail of the
// platform has what each did and why, without the patient.
func TestALegalHoldIsPlacedByOneOperatorAndLiftedByTwo(t *testing.T) {
	p := newPlane(t)
	path := "/control/v1/tenants/" + storetest.S2 + "/legal-holds"
	patient := rand.Text()
	w := p.do(t, "POST", path, `{"patient":"Patient/`+patient+`","why":"case 24-117"}`, "X-Request-Id", "hold-1")
	id, _ := body(t, w)["id"].(string)
	if w.Code != 201 || id == "" || strings.Contains(w.Body.String(), patient) {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	for _, tt := range []struct {
		method, path, body string
		want               int
		shows              string
	}{
		{"POST", path, `{"why":" "}`, 400, "why"},
		{"POST", path, `{"patient":"a b","why":"x"}`, 400, "patient"},
		{"POST", path, `{"of":"x","why":"x"}`, 400, ""},
		{"POST", "/control/v1/tenants/nobody-there/legal-holds", `{"why":"x"}`, 404, "no such tenant"},
		{"GET", path, "", 200, `"ofPatient":true`},
		{"GET", "/control/v1/tenants/" + storetest.S1 + "/legal-holds", "", 200, `[]`},
		{"POST", path + "/" + rand.Text() + "/lift", `{"why":"x"}`, 404, "no such legal hold"},
		{"POST", "/control/v1/tenants/" + storetest.S1 + "/legal-holds/" + id + "/lift", `{"why":"x"}`, 404, "no such legal hold"},
		{"POST", path + "/" + id + "/lift", `{}`, 400, "why"},
		{"POST", path + "/" + id + "/lift", `{"why":"closed"}`, 202, `"askedBy":"ops"`},
		{"POST", path + "/" + id + "/lift", `{"why":"closed"}`, 403, "somebody else"},
	} {
		w := p.do(t, tt.method, tt.path, tt.body, "X-Request-Id", "hold-1")
		if got := w.Body.String(); w.Code != tt.want || !strings.Contains(got, tt.shows) || strings.Contains(got, patient) {
			t.Errorf("%s %s %s: got %d %s, want %d", tt.method, tt.path, tt.body, w.Code, got, tt.want)
		}
	}
	if code, got := p.by(t, "chief", "POST", path+"/"+id+"/lift", `{"why":"settled"}`); code != 200 || got["liftedBy"] != "chief" {
		t.Errorf("%d %v", code, got)
	}
	trail := strings.Join(p.acts(t, "reason LIKE '%' || $1 || '%'", id), "\n")
	for _, want := range []string{
		"201 ops placed legal hold " + id + " on what is of a patient of tenant " + storetest.S2 + ": case 24-117",
		"202 ops asked to lift legal hold " + id + " of tenant " + storetest.S2 + ": closed",
		"200 chief lifted legal hold " + id + " of tenant " + storetest.S2 + ", as ops asked: settled",
	} {
		if !strings.Contains(trail, want) {
			t.Errorf("the trail has not %q: %s", want, trail)
		}
	}
	if strings.Contains(trail, patient) {
		t.Errorf("the trail of the platform names the patient: %s", trail)
	}
}
