package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/r4"
)

// Group 12 of the breakout suite: what errors, logs and figures tell.
func TestErrors(t *testing.T) {
	// AUTHZ-16, AUD-02
	breakout(t, "T254 nothing tells a hidden resource from none", func(p *probe) {
		gone := p.fresh("gone")
		p.want(p.send(p.as("backend", "PUT", "/Observation/"+gone, labResult(gone, "p2", "laboratory", "x"))), 201)
		p.want(p.send(p.as("backend", "DELETE", "/Observation/"+gone)), 204)
		states := map[string]string{"hidden": "o2", "another tenant's": "v-obs-" + p.victim.slug, "deleted and hidden": gone}
		verbs := map[string]func(id string) *call{
			"read":    func(id string) *call { return p.as("pA", "GET", "/Observation/"+id) },
			"head":    func(id string) *call { return p.as("pA", "HEAD", "/Observation/"+id) },
			"vread":   func(id string) *call { return p.as("pA", "GET", "/Observation/"+id+"/_history/1") },
			"history": func(id string) *call { return p.as("pA", "GET", "/Observation/"+id+"/_history") },
			"patch": func(id string) *call {
				return p.as("pA", "PATCH", "/Observation/"+id, `[{"op":"add","path":"/language","value":"en"}]`)
			},
			"delete": func(id string) *call { return p.as("pA", "DELETE", "/Observation/"+id) },
			"search": func(id string) *call { return p.as("pA", "GET", "/Observation?_id="+id+"&_elements=id&_count=0") },
			"put": func(id string) *call {
				return p.as("pA", "PUT", "/Observation/"+id, labResult(id, "p1", "laboratory", "x")).with("If-Match", `W/"1"`)
			},
			"in batch": func(id string) *call { return p.as("pA", "POST", "", batch("batch", ask("GET", "Observation/"+id))) },
		}
		plain := regexp.MustCompile(`"timestamp":"[^"]*"|"lastUpdated":"[^"]*"`)
		for verb, of := range verbs {
			for state, id := range states {
				never := strings.Repeat("z", len(id))
				a, b := p.send(of(id)), p.send(of(never))
				for _, r := range []*reply{a, b} {
					r.body = plain.ReplaceAll(bytes.ReplaceAll(bytes.ReplaceAll(r.body, []byte(id), []byte("ID")), []byte(never), []byte("ID")), nil)
				}
				p.same(verb+" of "+state, a, b)
			}
		}
	})

	breakout(t, "T256 neither size nor request id tells", func(p *probe) {
		shape := func(path string) string {
			c := p.as("backend", "GET", path).with("X-Request-Id", "not well formed")
			r := p.send(c)
			if !regexp.MustCompile(`^[A-Z2-7]{26}$`).MatchString(r.id) {
				p.Errorf("the server's own request id is %q", r.id)
			}
			return fmt.Sprintf("%d %d %d", r.status, len(r.body), len(r.id))
		}
		if a, b := shape("/Patient/"+p.victim.walkedID(6)), shape("/Patient/"+strings.Repeat("n", len(p.victim.walkedID(6)))); a != b {
			p.Errorf("%s and %s", a, b)
		}
	})

	once(t, "T257 a violated key is not shown", func(p *probe) {
		for round := range 8 {
			id := p.fresh("race")
			secret := p.attacker.canaries["ssn"]
			var g errgroup.Group
			for range 16 {
				g.Go(func() error {
					r, err := p.try(p.as("backend", "PUT", "/Patient/"+id, `{"resourceType":"Patient","id":"`+id+`","identifier":[{"value":"`+secret+`"}]}`).with("Prefer", "return=minimal"))
					if err != nil {
						return err
					}
					for _, word := range []string{"duplicate", "constraint", "Key (", "resource_", "SQLSTATE", "23505", secret} {
						if strings.Contains(string(r.body), word) {
							return fmt.Errorf("the answer holds %q: %s", word, r)
						}
					}
					if r.status != 200 && r.status != 201 && r.status != 409 {
						return fmt.Errorf("round %d: %s", round, r)
					}
					return nil
				})
			}
			if err := g.Wait(); err != nil {
				p.Error(err)
			}
		}
	})

	t.Run("T258 a refused value is not repeated", func(t *testing.T) {
		attack(t, pair{sys.A1, sys.A2}, func(p *probe) {
			cases := 0
			for _, on := range fhir.Types {
				if on == "AuditEvent" {
					continue
				}
				for _, sp := range r4.SearchParameters(on) {
					cases++
					secret := newCanary()
					r := p.get("reader", "/"+string(on)+"?"+url.QueryEscape(sp.Code)+"="+secret)
					if r.status >= 400 && bytes.Contains(bytes.ToLower(r.body), []byte(strings.ToLower(secret))) {
						p.Errorf("%s.%s: %s", on, sp.Code, r)
					}
				}
			}
			p.Logf("%d parameters", cases)
			for _, path := range []string{
				"/Patient?birthdate=SECRET", "/Patient?_lastUpdated=SECRET", "/Patient?_count=SECRET", "/Patient?_sort=SECRET", "/Patient?_elements=SECRET&x=1",
				"/Patient?_include=SECRET", "/Patient?_has:SECRET:x:y=1", "/Patient?SECRET=1", "/Patient?name:SECRET=1", "/Patient?_summary=SECRET", "/Patient?_total=SECRET",
				"/Patient/_history?_since=SECRET", "/Patient/_history?_at=SECRET", "/Patient/_history?_count=SECRET", "/SECRET", "/SECRET/1", "/Patient/p1/_history/SECRET",
				"/Patient/p1/SECRET", "/$SECRET", "/Patient/p1?_format=SECRET", "/AuditEvent?date=SECRET", "/AuditEvent?outcome=SECRET", "/AuditEvent?entity=SECRET", "/Patient?_page=SECRET",
			} {
				secret := newCanary()
				r := p.want(p.send(p.as("backend", "GET", strings.ReplaceAll(path, "SECRET", secret))), 200, 400, 404, 405, 406)
				if r.status >= 400 && bytes.Contains(r.body, []byte(secret)) {
					p.Errorf("%s: %s", path, r)
				}
			}
			for _, body := range []string{
				`{"resourceType":"Patient","birthDate":"SECRET"}`, `{"resourceType":"Patient","gender":"SECRET"}`, `{"resourceType":"Patient","SECRET":1}`,
				`{"resourceType":"SECRET"}`, `{"resourceType":"Patient","id":"SECRET !"}`, `{"resourceType":"Patient","active":"SECRET"}`, `{"resourceType":"Patient","name":"SECRET"}`,
				`{"resourceType":"Patient","text":{"status":"generated","div":"<script>SECRET</script>"}}`, `SECRET`, `{"resourceType":"Patient","name":[{"family":"SECRET"`,
				`{"resourceType":"Patient","generalPractitioner":[{"reference":"SECRET/x y"}]}`,
			} {
				secret := newCanary()
				r := p.want(p.send(p.as("backend", "POST", "/Patient", strings.ReplaceAll(body, "SECRET", secret))), 201, 400, 422)
				if r.status >= 400 && bytes.Contains(r.body, []byte(secret)) {
					p.Errorf("%s: %s", body, r)
				}
			}
			for _, header := range []string{"If-Match", "If-None-Exist", "Prefer", "Accept", "Content-Type", "Content-Encoding", "X-Tenant-Id"} {
				secret := newCanary()
				r := p.send(p.as("backend", "POST", "/Patient", `{"resourceType":"Patient"}`).with(header, secret))
				if bytes.Contains(r.body, []byte(secret)) {
					p.Errorf("%s: %s", header, r)
				}
				p.alertsOptional(otherInHeader)
			}
			log, err := os.ReadFile(sys.Log())
			if err != nil {
				p.Fatal(err)
			}
			log = log[p.before.log:]
			if i := bytes.Index(log, []byte("SQLSTATE")); i >= 0 {
				p.Errorf("a value reached the database as an error: %s", log[i:min(len(log), i+300)])
			}
		})
	})

	// BG-09
	t.Run("T261 figures name no person and no record", func(t *testing.T) {
		text := sys.metrics(t)
		for line := range strings.Lines(text) {
			if !strings.HasPrefix(line, "cordon_") {
				continue
			}
			for _, word := range []string{"p1", "never-was", "mrn", "10001", "alpha", "sigma", "delta", "_id=", "10.0"} {
				if series, _, _ := strings.Cut(line, "}"); strings.Contains(series, word) {
					t.Errorf("%q in %s", word, line)
				}
			}
		}
		if n := strings.Count(text, "cordon_requests_total{"); n > 7*40*20 {
			t.Errorf("%d series of requests", n)
		}
		for _, path := range []string{"/metrics", "/healthz", "/readyz"} {
			resp, err := sys.http.Get(sys.Ops + path)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Errorf("%s: %s %s %v", path, resp.Status, body, err)
			}
			if found := sys.hunter().find(body); len(found) > 0 {
				t.Errorf("%s shows %v", path, found)
			}
		}
		for _, path := range []string{"/fhir/" + sys.A1.slug + "/metadata", "/debug/pprof/", "/debug/vars", "/control/v1/tenants"} {
			resp, err := sys.http.Get(sys.Ops + path)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusNotFound {
				t.Errorf("the ops listener answers %s with %s", path, resp.Status)
			}
		}
	})

	once(t, "T262 the log has the names of parameters only", func(p *probe) {
		secret := newCanary()
		p.want(p.get("reader", "/Patient?"+strings.Repeat("secret", 3)+"=1"), 400) // made as a name is
		p.want(p.get("reader", "/Patient?name="+secret+"&birthdate=1970-01-02"), 200)
		p.want(p.send(p.as("reader", "POST", "/Patient/_search", "name="+secret)), 200)
		p.want(p.get("reader", "/Patient?name"+secret+"=1"), 400)
		p.want(p.get("reader", "/"+secret), 404)
		p.want(p.get("reader", "/Patient/"+secret), 404)
		log, err := os.ReadFile(sys.Log())
		if err != nil {
			p.Fatal(err)
		}
		log = log[p.before.log:]
		if bytes.Contains(log, []byte(secret)) || bytes.Contains(log, []byte("secretsecret")) || bytes.Contains(log, []byte("1970-01-02")) {
			p.Errorf("the log holds a value")
		}
		if !bytes.Contains(log, []byte(`"birthdate"`)) {
			p.Errorf("the log does not name the parameters")
		}
		for line := range bytes.Lines(log) {
			if !json.Valid(line) {
				p.Errorf("not one record on a line: %s", line)
			}
		}
	})

	once(t, "T264 statements hold no values", func(p *probe) {
		p.want(p.get("reader", "/Patient?name="+p.attacker.canaries["name"]), 200)
		p.want(p.get("reader", "/Patient/p1"), 200)
		conn, err := sys.asSuperuser(p.Context(), "postgres")
		if err != nil {
			p.Fatal(err)
		}
		rows, err := conn.Query(p.Context(), `SELECT query FROM pg_stat_activity WHERE usename LIKE 'cordon%'`)
		if err != nil {
			p.Fatal(err)
		}
		defer rows.Close()
		n := 0
		for rows.Next() {
			var query string
			if err := rows.Scan(&query); err != nil {
				p.Fatal(err)
			}
			n++
			if found := sys.hunter().find([]byte(query)); len(found) > 0 || strings.Contains(query, "'p1'") {
				p.Errorf("a statement holds a value: %s", query)
			}
		}
		if rows.Err() != nil || n == 0 {
			p.Errorf("%d statements: %v", n, rows.Err())
		}
		for setting, want := range map[string]string{
			"log_statement": "none", "log_min_duration_statement": "-1", "log_parameter_max_length": "0", "log_parameter_max_length_on_error": "0",
			"log_error_verbosity": "terse", "log_min_error_statement": "panic", "shared_preload_libraries": "", "session_preload_libraries": "",
		} {
			var got string
			if err := conn.QueryRow(p.Context(), `SELECT current_setting($1)`, setting).Scan(&got); err != nil || got != want {
				p.Errorf("%s is %q, want %q: %v", setting, got, want, err)
			}
		}
	})

	// What every answer must have is looked at in every line.
	once(t, "T269 a browser of another origin gets nothing", func(p *probe) {
		for _, path := range []string{"/Patient/p1", "/Patient", "/never-was"} {
			r := p.send(p.as("reader", "GET", path).with("Origin", "https://evil.example"))
			for name := range r.header {
				if strings.HasPrefix(name, "Access-Control-") {
					p.Errorf("%s: %s: %s", path, name, r.header.Get(name))
				}
			}
		}
		r := p.send(p.as("reader", "GET", "/metadata").with("Origin", "https://evil.example"))
		if got := r.header.Get("Access-Control-Allow-Credentials"); got != "" {
			p.Errorf("credentials are allowed to every origin")
		}
	})

	once(t, "a body in another form is refused and not repeated", func(p *probe) {
		for _, kind := range []string{"application/xml-patch+xml", "text/plain", "application/fhir+json; charset=utf-7", "multipart/form-data", "application/json, application/json"} {
			c := p.as("backend", "POST", "/Patient", `{"resourceType":"Patient"}`)
			c.header.Set("Content-Type", kind)
			p.want(p.send(c), 415)
		}
		notXML := p.as("backend", "POST", "/Patient", `{"resourceType":"Patient"}`)
		notXML.header.Set("Content-Type", "application/fhir+xml")
		p.want(p.send(notXML), 400)
		p.want(p.send(p.as("backend", "POST", "/Patient", `{"resourceType":"Patient"}`).with("Content-Encoding", "br")), 415)
		p.want(p.send(p.as("backend", "POST", "/Patient", strings.Repeat("[", 100_000))), 400)
		p.want(p.send(p.as("backend", "POST", "/Patient", strings.Repeat(`{"a":`, 100_000))), 400)
	})
}

// Each claim must be met by one of the statuses of the contract, and a token
// must be exactly as it was made. TEN-18
func TestMutatedTokens(t *testing.T) {
	breakout(t, "TEN-18 a token with other claims is no token", func(p *probe) {
		token, err := p.attacker.actors["backend"].Token(p.Context())
		if err != nil {
			p.Fatal(err)
		}
		mutants, raised := mutations(p, token)
		p.alert("mutated-claims", raised)
		var first *reply
		for name, bearer := range mutants {
			c := p.as("backend", "GET", "/Patient/p1")
			c.actor, c.trail, c.bearer = nil, nil, bearer
			r := p.send(c)
			if r.status != 401 {
				p.Errorf("%s: %s", name, r)
			}
			if first == nil {
				first = r
			}
			p.same(name, first, r)
		}
	})
}

// mutations returns tokens that nobody has signed so, and how many of them
// must raise an alert: those whose signature is wrong for a known issuer, or
// whose tenant is not its issuer's.
func mutations(p *probe, token string) (map[string]string, int) {
	p.Helper()
	parts := strings.Split(token, ".")
	swap := func(part int, old, with string) string {
		text, err := decode64(parts[part])
		if err != nil {
			p.Fatal(err)
		}
		if !strings.Contains(text, old) {
			p.Fatalf("the token holds no %s: %s", old, text)
		}
		changed := slices.Clone(parts)
		changed[part] = encode64(strings.Replace(text, old, with, 1))
		return strings.Join(changed, ".")
	}
	a, v := p.attacker, p.victim
	return map[string]string{
		"wider scope":            swap(1, `system/*.cruds`, `user/*.cruds system/*.cruds`),
		"another tenant":         swap(1, `"tenant":"`+a.slug+`"`, `"tenant":"`+v.slug+`"`),
		"another audience":       swap(1, `"aud":"`+a.base+`"`, `"aud":"`+v.base+`"`),
		"another issuer":         swap(1, `"iss":"`, `"iss":"x`),
		"a patient":              swap(1, `{`, `{"patient":"p1",`),
		"a claim twice":          swap(1, `{`, `{"scope":"system/*.cruds",`),
		"a claim in other case":  swap(1, `"scope"`, `"Scope"`),
		"no algorithm":           swap(0, `ES256`, `none`),
		"an algorithm with HMAC": swap(0, `ES256`, `HS256`),
		"another type":           swap(0, `at+jwt`, `JWT`),
		"a critical header":      swap(0, `{`, `{"crit":["x"],"x":1,`),
		"a key of its own":       swap(0, `{`, `{"jku":"http://127.0.0.1:9/jwks",`),
		"another key id":         swap(0, `"kid":"`, `"kid":"x`),
		"no signature":           parts[0] + "." + parts[1] + ".",
		"another signature":      parts[0] + "." + parts[1] + "." + encode64(strings.Repeat("x", 64)),
		"a part more":            token + ".x",
		"only dots":              strings.Repeat(".", 8000),
	}, 7
}
