package control_test

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cordon-fhir/cordon/store/storetest"
)

func TestPackages(t *testing.T) {
	p := newPlane(t)
	vs := `{"resourceType":"ValueSet","url":"http://guide.example.org/ValueSet/a","version":"1"}`
	file := string(storetest.PackageFile(t, "control.guide", "1.0.0", vs))
	path := func(slug string) string { return "/control/v1/tenants/" + slug + "/packages" }
	post := func(t testing.TB, slug, kind, file string) *httptest.ResponseRecorder {
		t.Helper()
		return p.do(t, "POST", path(slug), file, "Content-Type", kind, "X-Request-Id", "install-"+slug)
	}
	t.Run("a package is installed, and again without effect", func(t *testing.T) {
		for _, want := range []int{201, 200} {
			w := post(t, storetest.S1, "application/gzip", file)
			if w.Code != want {
				t.Fatalf("got %d %s", w.Code, w.Body)
			}
			got := body(t, w)
			delete(got, "installed")
			delete(got, "hash")
			if d := cmp.Diff(map[string]any{
				"name": "control.guide", "version": "1.0.0", "canonical": "http://guide.example.org",
				"contents": map[string]any{"ValueSet": 1.0}, "missing": []any{"other.guide@1.0.0"},
			}, got); d != "" {
				t.Error(d)
			}
		}
		trail := p.trail(t, "install-"+storetest.S1)
		if len(trail) != 4 || trail[0] != "102 ops begins: POST /tenants/"+storetest.S1+"/packages" ||
			!strings.HasPrefix(trail[1], "201 ops installed package control.guide@1.0.0, SHA-256 ") {
			t.Errorf("the trail has %q", trail)
		}
	})
	t.Run("a dependency that is installed is not missing", func(t *testing.T) {
		if w := post(t, storetest.S1, "application/gzip", string(storetest.PackageFile(t, "other.guide", "2.0.0"))); w.Code != 201 {
			t.Fatalf("got %d %s", w.Code, w.Body)
		}
		w := p.do(t, "GET", path(storetest.S1), "")
		var list []map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || len(list) != 2 || list[0]["missing"] != nil {
			t.Errorf("got %v %s", err, w.Body)
		}
	})
	t.Run("a single resource is a package", func(t *testing.T) {
		w := post(t, storetest.S1, "application/fhir+json", vs)
		if w.Code != 201 || body(t, w)["name"] != "valueset.guide.example.org.valueset.a" {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
	})
	t.Run("who does not have a package cannot tell whether others do", func(t *testing.T) {
		var answers []string
		for _, name := range []string{"control.guide@1.0.0", "nobody.has.it@1.0.0"} {
			w := p.do(t, "DELETE", path(storetest.S2)+"/"+name, "")
			answers = append(answers, fmt.Sprint(w.Code, w.Body))
		}
		if answers[0] != answers[1] || !strings.HasPrefix(answers[0], "404") {
			t.Errorf("got %q", answers)
		}
		if w := p.do(t, "GET", path(storetest.S2), ""); strings.TrimSpace(w.Body.String()) != "[]" {
			t.Errorf("got %s", w.Body)
		}
		if w := post(t, storetest.S2, "application/gzip", file); w.Code != 201 {
			t.Errorf("installing what another has: got %d %s", w.Code, w.Body)
		}
	})
	t.Run("what is no package is refused", func(t *testing.T) {
		for claim, tt := range map[string]struct {
			kind, file string
			want       int
		}{
			"no archive":           {"application/gzip", "hello", 400},
			"nothing":              {"application/gzip", "", 400},
			"half an archive":      {"application/gzip", file[:len(file)/2], 400},
			"a patient":            {"application/fhir+json", `{"resourceType":"Patient"}`, 400},
			"another media type":   {"text/plain", file, 415},
			"another of that name": {"application/gzip", string(storetest.PackageFile(t, "control.guide", "1.0.0")), 409},
		} {
			if w := post(t, storetest.S1, tt.kind, tt.file); w.Code != tt.want || strings.Contains(w.Body.String(), "internal") {
				t.Errorf("%s: got %d %s", claim, w.Code, w.Body)
			}
		}
	})
	t.Run("what is not known is 404", func(t *testing.T) {
		for _, path := range []string{path("nobody"), path(storetest.S1) + "/a%40b", path(storetest.S1) + "/", path(storetest.S1) + "/a"} {
			if w := p.do(t, "DELETE", path, ""); w.Code != 404 && w.Code != 405 {
				t.Errorf("%s: got %d", path, w.Code)
			}
		}
		if w := post(t, "nobody", "application/gzip", file); w.Code != 404 {
			t.Errorf("got %d", w.Code)
		}
	})
	t.Run("a package is removed", func(t *testing.T) {
		if w := p.do(t, "DELETE", path(storetest.S1)+"/control.guide@1.0.0", "", "X-Request-Id", "remove"); w.Code != 200 {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
		if got := p.trail(t, "remove"); !slices.Contains(got, "200 ops removed package control.guide@1.0.0 from tenant "+storetest.S1) {
			t.Errorf("the trail has %q", got)
		}
	})
}

func TestSettings(t *testing.T) {
	p := newPlane(t)
	path := "/control/v1/tenants/" + storetest.A2 + "/settings"
	w := p.do(t, "GET", path, "")
	if w.Code != 200 || strings.TrimSpace(w.Body.String()) != `{"version":1,"settings":{}}` {
		t.Fatalf("got %d %s", w.Code, w.Body)
	}
	want := `{"version":2,"settings":{"validation":{"level":"claimed"}}}`
	w = p.do(t, "PUT", path, `{"version":1,"settings":{"validation":{"level":"claimed"}}}`, "X-Request-Id", "set")
	if w.Code != 200 || strings.TrimSpace(w.Body.String()) != want {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	if got := p.trail(t, "set"); !slices.Contains(got, `200 ops changed the settings of tenant `+storetest.A2+` to version 2: {"validation":{"level":"claimed"}}`) {
		t.Errorf("the trail has %q", got)
	}
	for claim, tt := range map[string]struct {
		body string
		want int
		says string
	}{
		"a stale version":   {`{"version":1,"settings":{}}`, 409, "changed meanwhile"},
		"no version":        {`{"settings":{}}`, 409, "changed meanwhile"},
		"no settings":       {`{"version":2}`, 400, "JSON object"},
		"a misspelled name": {`{"version":2,"settings":{"validation":{"levels":"off"}}}`, 400, "/validation/levels"},
		"a level":           {`{"version":2,"settings":{"validation":{"level":"lax"}}}`, 400, "validation.level"},
		"another member":    {`{"version":2,"settings":{},"policy":1}`, 400, "the JSON that is asked for"},
	} {
		if w := p.do(t, "PUT", path, tt.body); w.Code != tt.want || !strings.Contains(w.Body.String(), tt.says) {
			t.Errorf("%s: got %d %s", claim, w.Code, w.Body)
		}
	}
	if w := p.do(t, "GET", path, ""); strings.TrimSpace(w.Body.String()) != want {
		t.Errorf("got %s", w.Body)
	}
	if w := p.do(t, "GET", "/control/v1/tenants/nobody/settings", ""); w.Code != 404 {
		t.Errorf("got %d", w.Code)
	}
}
