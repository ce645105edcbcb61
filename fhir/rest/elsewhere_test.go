package rest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/storetest"
	"github.com/cordon-fhir/cordon/tenant"
)

// finding is a profile of Condition that is bound to findings, which are not here.
const (
	findings       = `{"resourceType":"ValueSet","id":"findings","url":"http://example.org/findings","status":"active","compose":{"include":[{"system":"http://snomed.info/sct","filter":[{"property":"concept","op":"is-a","value":"404684003"}]}]}}`
	finding        = "http://example.org/StructureDefinition/finding"
	definesFinding = `{"resourceType":"StructureDefinition","id":"finding","url":"` + finding + `","name":"Finding","status":"active","kind":"resource",
		"abstract":false,"type":"Condition","baseDefinition":"http://hl7.org/fhir/StructureDefinition/Condition","derivation":"constraint",
		"differential":{"element":[{"id":"Condition.code","path":"Condition.code","binding":{"strength":"required","valueSet":"http://example.org/findings"}}]}}`
)

func condition(code string) string {
	return `{"resourceType":"Condition","meta":{"profile":["` + finding + `"]},"subject":{"reference":"Patient/CANARY"},"clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-clinical","code":"active"}]},
			"code":{"text":"CANARY","coding":[{"system":"http://snomed.info/sct","code":"` + code + `","display":"CANARY"}]}}`
}

// The terminology server that a tenant names answers for that tenant alone,
// decides what is stored, and is held to the setting when it fails.
func TestATenantAsksTheTerminologyServerThatItNames(t *testing.T) {
	var fails atomic.Bool
	var asked atomic.Int32
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		body, _ := io.ReadAll(r.Body)
		if strings.Contains(string(body), "CANARY") {
			t.Errorf("this left: %s", body)
		}
		if fails.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/fhir+json")
		result := "false"
		if strings.Contains(string(body), `"valueCode":"22298006"`) {
			result = "true"
		}
		io.WriteString(w, `{"resourceType":"Parameters","parameter":[{"name":"result","valueBoolean":`+result+`}]}`)
	}))
	defer other.Close()
	a := newAPI(t, func(c *Config) { c.TerminologyNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	set := func(new tenant.Settings) {
		t.Helper()
		a.settings(t, storetest.A2, func(s *tenant.Settings) { *s = new })
	}
	t.Cleanup(func() { set(tenant.Settings{}) })
	claimed := tenant.Validation{Level: tenant.Claimed}
	set(tenant.Settings{Validation: claimed, Terminology: tenant.Terminology{URL: other.URL}})

	c, neighbour := a.client(t, storetest.A2, all), a.client(t, storetest.D1, all)
	for _, c := range []*client{c, neighbour} {
		c.do("PUT", "/ValueSet/findings", findings)
		c.do("PUT", "/StructureDefinition/finding", definesFinding)
	}
	const ask = "/ValueSet/$validate-code?url=http://example.org/findings&system=http://snomed.info/sct&code="
	says := func(c *client, code, want string) {
		t.Helper()
		if w := c.must(200, "GET", ask+code, ""); !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: got %s, want %s", code, w.Body, want)
		}
	}
	says(neighbour, "22298006", "cannot be told here")
	if asked.Load() != 0 {
		t.Error("a tenant that names no server had it asked")
	}
	says(c, "22298006", `"valueBoolean":true`)
	says(c, "1", "not in the value set")
	c.must(201, "POST", "/Condition", condition("22298006"))
	c.must(422, "POST", "/Condition", condition("2"))

	// Also what is read and written in one transaction is held to the answer.
	id := fresh()
	at := "/Condition/" + id
	c.must(201, "PUT", at, strings.Replace(condition("22298006"), `"meta"`, `"id":"`+id+`","meta"`, 1))
	patched := func(code string) string {
		return `[{"op":"replace","path":"/code/coding/0/code","value":"` + code + `"}]`
	}
	before := asked.Load()
	c.must(422, "PATCH", at, patched("6"), "Content-Type", "application/json-patch+json")
	c.must(422, "PATCH", at, patched("6"), "Content-Type", "application/json-patch+json")
	if n := asked.Load() - before; n != 1 {
		t.Errorf("of a patch that was tried twice the server was asked %d times", n)
	}
	c.must(200, "PATCH", at, patched("22298006"), "Content-Type", "application/json-patch+json")
	if w := c.must(200, "GET", at+"/$validate", ""); strings.Contains(w.Body.String(), "not in the value set") {
		t.Errorf("$validate of what is stored: %s", w.Body)
	}
	if w := c.must(200, "GET", "/ValueSet/findings/$validate-code?system=http://snomed.info/sct&code=7", ""); !strings.Contains(w.Body.String(), "not in the value set") {
		t.Errorf("$validate-code of what is stored: %s", w.Body)
	}

	fails.Store(true)
	says(c, "3", "does not answer")
	c.must(201, "POST", "/Condition", condition("22298006")) // known
	c.must(422, "POST", "/Condition", condition("4"))
	set(tenant.Settings{Validation: claimed, Terminology: tenant.Terminology{URL: other.URL, OnFailure: tenant.Warn}})
	c.must(201, "POST", "/Condition", condition("5"))
}

// T034: who is revoked while a terminology server is asked about what they write is
// refused, and nothing is written.
func TestWhoIsRevokedWhileATerminologyServerIsAskedIsRefused(t *testing.T) {
	asked := func() {}
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked()
		w.Header().Set("Content-Type", "application/fhir+json")
		io.WriteString(w, `{"resourceType":"Parameters","parameter":[{"name":"result","valueBoolean":true}]}`)
	}))
	defer other.Close()
	here := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	a := newAPI(t, func(c *Config) { c.TerminologyNetworks = here })
	on := a.Tenant(t, storetest.A2)
	a.settings(t, storetest.A2, func(s *tenant.Settings) {
		s.Validation, s.Terminology = tenant.Validation{Level: tenant.Claimed}, tenant.Terminology{URL: other.URL}
	})
	t.Cleanup(func() { a.settings(t, storetest.A2, func(s *tenant.Settings) { *s = tenant.Settings{} }) })
	at := a.client(t, storetest.A2, all)
	at.do("PUT", "/ValueSet/findings", findings)
	at.do("PUT", "/StructureDefinition/finding", definesFinding)
	for _, patch := range []bool{false, true} {
		var ahead atomic.Int64
		now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
		jti := "asks-" + fresh()
		c := a.client(t, storetest.A2, all, func(tok *smart.Token) { tok.ID = jti }).elsewhere(now, func(cfg *smart.Config) { cfg.Revocations = a.Registry })
		s := c.handler.(*server)
		s.Now, s.TerminologyNetworks = now, here
		revoke := func() {
			if err := a.Registry.RevokeToken(t.Context(), on, jti, now().Add(time.Minute)); err != nil {
				t.Error(err)
			}
			ahead.Add(int64(smart.RevocationDelay))
		}
		id := fresh()
		path, body := "/Condition/"+id, strings.Replace(condition("22298006"), `"meta"`, `"id":"`+id+`","meta"`, 1)
		if patch {
			at.must(201, "PUT", path, strings.Replace(body, "22298006", "1", 1))
		}
		asked = revoke
		if patch { // the question comes up within the transaction
			c.must(401, "PATCH", path, `[{"op":"replace","path":"/code/coding/0/code","value":"`+id+`"}]`, "Content-Type", "application/json-patch+json")
			if w := at.must(200, "GET", path, ""); w.Header().Get("ETag") != `W/"1"` {
				t.Errorf("it was written: %s", w.Header())
			}
		} else {
			c.must(401, "PUT", path, body)
			at.must(404, "GET", path, "")
		}
		asked = func() {}
	}
}
