package conformance

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	attacks "github.com/cordon-fhir/cordon/breakout"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/r4"
)

// Group 12 of the breakout suite: what errors, logs and figures tell.
func TestErrors(t *testing.T) {
	// AUTHZ-16, AUD-02
	outside(t, 12)

	t.Run("T258 a refused value is not repeated", func(t *testing.T) {
		attack(t, pair{sys.A1, sys.A2}, func(p *probe) {
			cases := 0
			for _, on := range fhir.Types {
				if on == "AuditEvent" {
					continue
				}
				for _, sp := range r4.SearchParameters(on) {
					cases++
					secret := attacks.Canary()
					r := p.get("reader", "/"+string(on)+"?"+url.QueryEscape(sp.Code)+"="+secret)
					if r.status >= 400 && bytes.Contains(bytes.ToLower(r.body), []byte(strings.ToLower(secret))) {
						p.Errorf("%s.%s: %s", on, sp.Code, r)
					}
				}
			}
			p.Logf("%d parameters", cases)
			refused, err := attacks.Choose("T258")
			if err != nil {
				p.Fatal(err)
			}
			p.make(refused[0])
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
			if found := sys.hunter().Find(body); len(found) > 0 {
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
		secret := attacks.Canary()
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
			if found := sys.hunter().Find([]byte(query)); len(found) > 0 || strings.Contains(query, "'p1'") {
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

// A token must be exactly as it was made, and a tenant names no other. TEN-18
func TestMutatedTokens(t *testing.T) { outside(t, 2) }
