package conformance

import (
	"strings"
	"testing"
	"time"

	attacks "github.com/cordon-fhir/cordon/breakout"
)

// The rules of alerts.
const (
	crossTenant   = attacks.CrossTenant
	otherInHeader = attacks.OtherInHeader
	otherInBundle = attacks.OtherInEntry
	adminOnData   = "admin-token-on-data" // an operator's token at a FHIR endpoint
)

// Group 1 of the breakout suite: which tenant a request is for. GOV-04
func TestRouting(t *testing.T) {
	// TEN-13, TEN-17, TEN-19, TEN-27, AUTHZ-09, OBS-10
	outside(t, 1)

	once(t, "T010 no tenant of another spelling is made", func(p *probe) {
		a := p.attacker.slug
		for _, other := range []string{strings.ToUpper(a), a + " ", a + "\x00", fullWidthText(a), "a", strings.Repeat("a", 64), "pg-temp;", "public", "registry", `"; SET role postgres`} {
			if strings.Contains(other, "\x00") {
				continue // no program can be called with it
			}
			if out, err := sys.Cordon(p.Context(), "tenant", "create", "--mode", "shared", other); err == nil {
				p.Errorf("a tenant %q was made: %s", other, out)
			}
		}
	})

	sys.earnBeforeSuspension(t)
	// TEN-35
	breakout(t, "T012 a suspended tenant is closed to its own tokens", func(p *probe) {
		for _, path := range []string{"/Patient", "/Patient/p1", "/Patient/" + sys.Z9.canaries["id"], "/_history"} {
			p.want(p.send(p.of(sys.Z9, "backend", "GET", path)), 403)
		}
		p.alert(crossTenant, 1)
		elsewhere := p.want(p.send(p.as("backend", "GET", sys.FHIR+"/"+X0+"/Patient")), 403)
		closed := p.send(p.of(sys.Z9, "backend", "GET", "/Patient"))
		p.same("a suspended tenant and one that is not there", elsewhere, closed)
		p.suspended = 5
	})
}

// fullWidthText spells a slug with one letter of full width.
func fullWidthText(s string) string { return "ａ" + s[1:] }

// earnBeforeSuspension gives the suspended tenant's backend a token that was
// earned while the tenant was served, and has not expired since.
func (s *system) earnBeforeSuspension(t *testing.T) {
	t.Helper()
	if out, err := s.Cordon(t.Context(), "tenant", "resume", s.Z9.slug); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	backend := s.Z9.actors["backend"]
	backend.Forget()
	var err error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if _, err = backend.Token(t.Context()); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := s.Cordon(t.Context(), "tenant", "suspend", s.Z9.slug); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}
