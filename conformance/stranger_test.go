package conformance

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/cordon-fhir/cordon/conformance/harness"
	"github.com/cordon-fhir/cordon/control"
)

// methods are all that a stranger may try.
var methods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "BREW"}

// routes returns the paths of the table of fhir/rest as its source has them, so
// that a route that is added is covered from its first day.
func routes(t testing.TB) []string {
	t.Helper()
	root, err := harness.Root()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(root, "fhir", "rest", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			pair, ok := n.(*ast.KeyValueExpr)
			if !ok {
				return true
			}
			name, ok := pair.Key.(*ast.Ident)
			value, isText := pair.Value.(*ast.BasicLit)
			if !ok || !isText || name.Name != "path" || value.Kind != token.STRING {
				return true
			}
			path, err := strconv.Unquote(value.Value)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Contains(paths, path) {
				paths = append(paths, path)
			}
			return true
		})
	}
	if len(paths) < 15 {
		t.Fatalf("the table of routes has %d paths: %v", len(paths), paths)
	}
	return paths
}

// filled puts names into a pattern.
func filled(pattern string) string {
	return strings.NewReplacer(":type", "Patient", ":id", "p1", ":version", "1", ":of", "Observation", ":op", "everything").Replace(pattern)
}

// Every route as a stranger, by every method. Only the two public documents
// answer without a token.
func TestStranger(t *testing.T) {
	public := []string{"/metadata", "/.well-known/smart-configuration"}
	paths := append(routes(t), "/nonsense", "/Patient/p1/nonsense/x", "/:type/:id/_history/:version/x", "/_nonsense")

	// CP-13, INT-03, AUD-02
	breakout(t, "INT-03 no route answers without a token", func(p *probe) {
		var first *reply
		for _, path := range paths {
			for _, method := range methods {
				r := p.send(&call{method: method, url: p.victim.base + filled(path), header: http.Header{}})
				switch {
				case method == "OPTIONS":
					p.want(r, 204)
				case slices.Contains(public, path) && (method == "GET" || method == "HEAD"):
					p.want(r, 200)
				default:
					if p.want(r, 401); method == "GET" {
						if first == nil {
							first = r
						}
						p.same(method+" "+path, first, r)
					}
				}
			}
		}
	})

	// TEN-19, TEN-27, AUTHZ-09, CP-13, AUD-02
	breakout(t, "TEN-19 no route answers a token of another tenant", func(p *probe) {
		var first *reply
		for _, path := range paths {
			for _, method := range methods {
				if method == "OPTIONS" {
					continue
				}
				c := p.as("backend", method, p.victim.base+filled(path))
				if method == "POST" || method == "PUT" || method == "PATCH" {
					c.body = `{"resourceType":"Patient","id":"p1"}`
				}
				p.alert(crossTenant, 1)
				r := p.want(p.send(c), 403)
				if method == "GET" {
					if first == nil {
						first = r
					}
					p.same(method+" "+path, first, r)
				}
			}
		}
	})

	// TEN-28
	breakout(t, "TEN-28 no tenant is guessed", func(p *probe) {
		host := strings.TrimSuffix(sys.FHIR, "/fhir")
		for _, url := range []string{host, host + "/", host + "/fhir", host + "/fhir/", host + "/Patient", host + "/metadata", host + "/fhir/metadata", host + "/fhir/Patient/p1"} {
			r := p.send(&call{method: "GET", url: url, header: http.Header{"Cookie": {"tenant=" + p.victim.slug}, "Referer": {p.victim.base + "/Patient"}}})
			p.want(r, 400, 401, 404)
			p.alert(crossTenant, 1)
			p.want(p.send(p.as("backend", "GET", url).with("Cookie", "tenant="+p.attacker.slug)), 400, 403, 404)
		}
	})

	// CP-05
	t.Run("CP-05 T362 an operator reads no record", func(t *testing.T) {
		attack(t, pair{sys.A1, sys.S1}, func(p *probe) {
			for _, path := range []string{"/Patient/p1", "/Patient", "/AuditEvent", "/_history", "", "/metadata"} {
				p.alert(adminOnData, 1)
				p.want(p.send(&call{method: "GET", url: p.victim.base + path, header: http.Header{}, bearer: operatorToken(p)}), 403)
			}
		})
	})

	t.Run("INT-03 no route of the control plane answers without an operator", func(t *testing.T) {
		attack(t, pair{sys.A1, sys.A2}, func(p *probe) {
			access, err := p.attacker.actors["backend"].Token(p.Context())
			if err != nil {
				p.Fatal(err)
			}
			for _, path := range []string{"/tenants", "/tenants/" + sys.A2.slug, "/tenants/" + sys.A2.slug + "/suspend", "/tenants/" + sys.A2.slug + "/clients", "/migrations", "/nonsense"} {
				for _, method := range []string{"GET", "POST", "PUT", "DELETE"} {
					for _, bearer := range []string{"", access, "x.y.z"} {
						req, err := http.NewRequestWithContext(p.Context(), method, sys.Control+"/control/v1"+path, strings.NewReader("{}"))
						if err != nil {
							p.Fatal(err)
						}
						if bearer != "" {
							req.Header.Set("Authorization", "Bearer "+bearer)
						}
						resp, err := sys.http.Do(req)
						if err != nil {
							p.Fatal(err)
						}
						resp.Body.Close()
						if resp.StatusCode != http.StatusUnauthorized {
							p.Errorf("%s %s answers %s", method, path, resp.Status)
						}
					}
				}
			}
			// A token of an operator is good once.
			once := operatorToken(p)
			for i, want := range []int{200, 401} {
				req, err := http.NewRequestWithContext(p.Context(), "GET", sys.Control+"/control/v1/tenants", nil)
				if err != nil {
					p.Fatal(err)
				}
				req.Header.Set("Authorization", "Bearer "+once)
				resp, err := sys.http.Do(req)
				if err != nil {
					p.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode != want {
					p.Errorf("use %d of an operator's token is answered %s, want %d", i+1, resp.Status, want)
				}
			}
		})
	})

	// AUTHZ-17, AUD-04
	outside(t, 11)
	outside(t, 13)
}

// operatorToken signs a token as the operator of the development server.
func operatorToken(p *probe) string {
	p.Helper()
	text, err := os.ReadFile(sys.OperatorKeyFile)
	if err != nil {
		p.Fatal(err)
	}
	key := new(jose.JSONWebKey)
	if err := key.UnmarshalJSON(text); err != nil {
		p.Fatal(err)
	}
	bearer, err := control.Token(key, sys.Operator, sys.Control)
	if err != nil {
		p.Fatal(err)
	}
	return bearer
}

// A tenant is there within seconds, in any mode, and twice is once. TEN-33
func TestProvisioning(t *testing.T) {
	for _, mode := range []string{"shared", "schema", "database"} {
		t.Run("TEN-33 a tenant of mode "+mode+" is there in seconds, and made once", func(t *testing.T) {
			slug := fmt.Sprintf("made-%s-%d", mode, requests.Add(1))
			first, err := sys.Cordon(t.Context(), "tenant", "create", "--mode", mode, slug)
			if err != nil {
				t.Fatal(err)
			}
			again, err := sys.Cordon(t.Context(), "tenant", "create", "--mode", mode, slug)
			if err != nil || again != first {
				t.Errorf("made again: %v\n%s\nwas\n%s", err, again, first)
			}
			other := map[string]string{"shared": "schema", "schema": "database", "database": "shared"}[mode]
			if _, err := sys.Cordon(t.Context(), "tenant", "create", "--mode", other, slug); err == nil {
				t.Errorf("made again in mode %s", other)
			}
			resp, err := sys.http.Get(sys.FHIR + "/" + slug + "/metadata")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Errorf("its CapabilityStatement answers %s", resp.Status)
			}
			// Acts of operators are in the platform's log.
			conn, err := sys.asSuperuser(t.Context(), "cordon_registry")
			if err != nil {
				t.Fatal(err)
			}
			var n int
			if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM registry.platform_audit WHERE server = 'control' AND client = $1 AND reason LIKE '%' || $2 || '%'`, sys.Operator, slug).Scan(&n); err != nil || n < 3 {
				t.Errorf("%d entries of the operator's acts on %s: %v", n, slug, err)
			}
		})
	}
}
