package rest

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// refsOf calls fn with each $ref in JSON.
func refsOf(v any, fn func(string)) {
	switch v := v.(type) {
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok {
			fn(ref)
		}
		for _, x := range v {
			refsOf(x, fn)
		}
	case []any:
		for _, x := range v {
			refsOf(x, fn)
		}
	}
}

// The OpenAPI document names every interaction, operation and search
// parameter that is served, and is whole.
func TestTheOpenAPIDocumentIsWholeAndOfThisTenant(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.S1, all)
	w := c.must(200, "GET", "/openapi.json", "")
	c.must(401, "GET", "/openapi.json", "", "Authorization", "")
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type %s", got)
	}
	if file := os.Getenv("CORDON_TEST_OPENAPI"); file != "" { // for a validator
		if err := os.WriteFile(file, w.Body.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var doc map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes", w.Body.Len())
	refsOf(doc, func(ref string) {
		var path []any
		for _, name := range strings.Split(strings.TrimPrefix(ref, "#/"), "/") {
			path = append(path, name)
		}
		if at(doc, path...) == nil {
			t.Errorf("%s leads nowhere", ref)
		}
	})
	if at(doc, "servers", 0, "url") != baseOf(storetest.S1) || strings.Contains(w.Body.String(), storetest.S2) {
		t.Errorf("servers: %v", at(doc, "servers"))
	}
	paths := doc["paths"].(map[string]any)
	ids := map[string]bool{}
	braces := regexp.MustCompile(`\{(\w+)\}`)
	for path, item := range paths {
		for method, does := range item.(map[string]any) {
			id := at(does, "operationId").(string)
			if ids[id] {
				t.Errorf("%s occurs twice", id)
			}
			ids[id] = true
			list, _ := at(does, "parameters").([]any)
			for _, m := range braces.FindAllStringSubmatch(path, -1) {
				if !slices.ContainsFunc(list, func(p any) bool { return at(p, "$ref") == "#/components/parameters/"+m[1] }) {
					t.Errorf("%s %s does not declare %s", method, path, m[1])
				}
			}
			seen := map[any]bool{}
			for _, p := range list {
				if name := at(p, "name"); name != nil && seen[name] {
					t.Errorf("%s %s declares %s twice", method, path, name)
				} else {
					seen[name] = name != nil
				}
			}
		}
	}
	has := func(method, path string) {
		t.Helper()
		if at(paths, path, strings.ToLower(method)) == nil {
			t.Errorf("%s %s is missing", method, path)
		}
	}
	for _, rt := range table() {
		if rt.does == fhir.Operation && rt.whole == nil {
			continue
		}
		path, _ := template(rt.path, "Patient")
		has(rt.method, path)
	}
	for _, o := range operations() {
		for l, path := range map[level]string{onSystem: "", onType: "/:type", onInstance: "/:type/:id", onVersion: "/:type/:id/_history/:version"} {
			on := fhir.Type("Patient")
			if len(o.on) > 0 {
				on = o.on[0]
			}
			if o.level&l != 0 {
				path, _ := template(path+"/$"+o.name, on)
				has("POST", path)
			}
		}
	}
	for _, p := range append(search.Parameters("Observation"), search.General("Observation")...) {
		list := at(paths, "/Observation", "get", "parameters").([]any)
		if !slices.ContainsFunc(list, func(x any) bool { return at(x, "name") == p.Name }) {
			t.Errorf("Observation?%s is missing", p.Name)
		}
	}
	for _, m := range []string{"post", "put", "delete", "patch"} {
		if at(paths, "/AuditEvent", m) != nil || at(paths, "/AuditEvent/{id}", m) != nil {
			t.Errorf("%s of the audit trail", m)
		}
	}
}
