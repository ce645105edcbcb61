package breakout

import (
	"context"
	"encoding/base64"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// tokens is what of group 2 is tried with tokens that clients can make or have:
// a token must be exactly as it was signed.
func tokens() []Attack {
	return []Attack{
		{ID: "T032", Also: "T033", Group: 2, Title: "a token with other claims is no token", do: mutatedTokens, needs: []string{"backend"}},
		{ID: "T056", Group: 2, Title: "what a tenant says of itself is of no other", Steps: []Step{
			get("", "«attacker»/.well-known/smart-configuration").want(200).hide("«v»"),
			get("", "«attacker»/metadata").want(200).hide("«v»"),
		}},
	}
}

// mutatedTokens changes a token in every part.
func mutatedTokens(ctx context.Context, t *Trial) {
	token, err := t.at["attacker"].actors["backend"].token(ctx)
	mutants := t.mutations(token)
	if err != nil || len(mutants) == 0 {
		t.NotRun = "the tokens of this server cannot be looked into"
		return
	}
	for _, name := range slices.Sorted(maps.Keys(mutants)) {
		x := t.send(ctx, request{method: http.MethodGet, url: t.at["attacker"].FHIRBase + "/Patient/" + t.suite.id("p1"), bearer: mutants[name]})
		if x == nil {
			return
		}
		if x.Status != http.StatusUnauthorized {
			t.finding("answer", x, "a token with %s is answered %d, want 401", name, x.Status)
		}
		t.alike("mutants", x)
	}
}

// mutations returns tokens that nobody has signed so. It says which alerts are
// due: for those whose signature is wrong for a known issuer, or whose tenant is
// not its issuer's.
func (t *Trial) mutations(token string) map[string]string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil
	}
	text := make([]string, 2)
	for i := range text {
		b, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			return nil
		}
		text[i] = string(b)
	}
	mutants, all := map[string]string{}, true
	swap := func(name string, part int, old, with string) {
		if !strings.Contains(text[part], old) {
			all = false // tokens of another server have other claims
			return
		}
		changed := slices.Clone(parts)
		changed[part] = base64.RawURLEncoding.EncodeToString([]byte(strings.Replace(text[part], old, with, 1)))
		mutants[name] = strings.Join(changed, ".")
	}
	a, v := t.at["attacker"], t.at["victim"]
	swap("a wider scope", 1, `system/*.cruds`, `user/*.cruds system/*.cruds`)
	swap("another tenant", 1, `"tenant":"`+a.Slug+`"`, `"tenant":"`+v.Slug+`"`)
	swap("another audience", 1, `"aud":"`+a.FHIRBase+`"`, `"aud":"`+v.FHIRBase+`"`)
	swap("another issuer", 1, `"iss":"`, `"iss":"x`)
	swap("a patient", 1, `{`, `{"patient":"p1",`)
	swap("a claim twice", 1, `{`, `{"scope":"system/*.cruds",`)
	swap("a claim in other case", 1, `"scope"`, `"Scope"`)
	swap("no algorithm", 0, `ES256`, `none`)
	swap("an algorithm with HMAC", 0, `ES256`, `HS256`)
	swap("another type", 0, `at+jwt`, `JWT`)
	swap("a critical header", 0, `{`, `{"crit":["x"],"x":1,`)
	swap("a key of its own", 0, `{`, `{"jku":"http://127.0.0.1:9/jwks",`)
	swap("another key id", 0, `"kid":"`, `"kid":"x`)
	mutants["no signature"] = parts[0] + "." + parts[1] + "."
	mutants["another signature"] = parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat("x", 64)))
	mutants["a part more"] = token + ".x"
	mutants["only dots"] = strings.Repeat(".", 8000)
	if all {
		t.Alerts[MutatedClaims] += 7
	} else {
		t.MayAlert = append(t.MayAlert, MutatedClaims)
	}
	return mutants
}
