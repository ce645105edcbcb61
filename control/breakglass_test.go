package control_test

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/store/storetest"
)

// glass puts a broken glass of the user into the registry, which began and goes on
// as long as the intervals say, and returns its id. Nobody here could open it.
func (p *plane) glass(t testing.TB, slug, user, began, goesOn string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), p.URLs.Registry)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	id := rand.Text()
	if _, err := conn.Exec(t.Context(), `
		INSERT INTO registry.glass (tenant_id, id, fhir_user, subject, client, session, patient, alone, request, requested, begins, until, signed)
		SELECT id, $2, $3, 'dr', 'chart', 'session-1', 4711, true, 'of whom, and why', now() - $4::interval, now() - $4::interval, now() + $5::interval, 'signed'
		FROM   registry.tenant WHERE slug = $1`, slug, id, user, began, goesOn); err != nil {
		t.Fatal(err)
	}
	return id
}

// Operators see who broke a glass and end it, and are not told of
// whom the record is.
func TestOperatorsSeeWhoBrokeAGlassAndEndItWithoutLearningOfWhom(t *testing.T) {
	p := newPlane(t)
	over := p.glass(t, storetest.A1, "Practitioner/over", "2 hours", "-1 hour")
	open := p.glass(t, storetest.A1, "Practitioner/open", "3 hours", "1 hour")
	path := "/control/v1/tenants/" + storetest.A1 + "/break-glass"
	list := p.do(t, "GET", path, "").Body.String()
	if strings.Index(list, open) > strings.Index(list, over) || !strings.Contains(list, `"state":"active"`) || !strings.Contains(list, `"state":"ended"`) {
		t.Errorf("got %s", list)
	}
	if w := p.do(t, "GET", "/control/v1/tenants/"+storetest.A2+"/break-glass", ""); w.Body.String() != "[]\n" {
		t.Errorf("another tenant's list: got %d %s", w.Code, w.Body)
	}
	for _, tt := range []struct {
		method, path, body string
		want               int
		shows              string
	}{
		{"GET", path + "/" + open, "", 200, `"user":"Practitioner/open"`},
		{"GET", "/control/v1/tenants/" + storetest.A2 + "/break-glass/" + open, "", 404, "no such request"},
		{"GET", path + "/" + rand.Text(), "", 404, "no such request"},
		{"GET", path + "/x", "", 404, "no such path"},
		{"GET", "/control/v1/tenants/nobody-there/break-glass", "", 404, "no such tenant"},
		{"POST", path + "/" + open + "/end", "", 400, ""},
		{"POST", path + "/" + open + "/end", `{"why":" "}`, 400, "why"},
		{"POST", "/control/v1/tenants/" + storetest.A2 + "/break-glass/" + open + "/end", `{"why":"x"}`, 404, "no such request"},
		{"POST", path + "/" + open + "/end", `{"why":"asked for by mistake"}`, 200, `"endedBy":"operator ops"`},
		{"POST", path + "/" + open + "/end", `{"why":"again"}`, 409, "ended already"},
		{"POST", path + "/" + over + "/end", `{"why":"late"}`, 409, "ended already"},
	} {
		w := p.do(t, tt.method, tt.path, tt.body, "X-Request-Id", "glass-1")
		got := w.Body.String()
		if w.Code != tt.want || !strings.Contains(got, tt.shows) {
			t.Errorf("%s %s %s: got %d %s, want %d", tt.method, tt.path, tt.body, w.Code, got, tt.want)
		}
		for _, secret := range []string{"4711", "of whom", "session-1", "signed"} {
			if strings.Contains(got, secret) {
				t.Errorf("%s %s: it has %s: %s", tt.method, tt.path, secret, got)
			}
		}
	}
	trail := strings.Join(p.trail(t, "glass-1"), "\n")
	for _, want := range []string{
		fmt.Sprintf("102 ops begins: POST /tenants/%s/break-glass/%s/end", storetest.A1, open),
		fmt.Sprintf("200 ops ended broken glass %s of tenant %s: asked for by mistake", open, storetest.A1),
	} {
		if !strings.Contains(trail, want) {
			t.Errorf("the trail has not %q: %s", want, trail)
		}
	}
}
