package breakout

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"sync"
)

// errorsAndTiming is group 12: what errors tell.
func errorsAndTiming() []Attack {
	return []Attack{
		{ID: "T254", Group: 12, names: true, Title: "nothing tells a hidden resource from none", Steps: append([]Step{
			put("backend", "Observation/«fresh»", labResult("«fresh»", "«p2»", "laboratory", "x")).want(201),
			send("backend", http.MethodDelete, "/Observation/«fresh»").want(200, 204),
		}, oracles()...)},
		{ID: "T256", Group: 12, Title: "neither size nor request id tells", Steps: []Step{
			get("backend", "/Patient/«only6»").with("X-Request-Id", "not well formed").want(404).same("size"),
			get("backend", "/Patient/«never»").with("X-Request-Id", "not well formed").want(404).same("size"),
		}},
		{ID: "T257", Group: 12, Alone: true, Title: "a violated key is not shown", do: violateKey, needs: []string{"backend"}},
		{ID: "T258", Group: 12, Alone: true, Title: "a refused value is not repeated", do: refusedValues, needs: []string{"backend"}},
		{ID: "T269", Group: 12, Alone: true, Title: "a browser of another origin gets nothing, and no version is told", do: browsers, needs: []string{"reader"}},
	}
}

// oracles asks by every verb for what is hidden, another tenant's, deleted and
// hidden, and for what never was.
func oracles() []Step {
	verbs := map[string]func(id string) Step{
		"read":    func(id string) Step { return get("pA", "/Observation/"+id) },
		"head":    func(id string) Step { return send("pA", http.MethodHead, "/Observation/"+id) },
		"vread":   func(id string) Step { return get("pA", "/Observation/"+id+"/_history/1") },
		"history": func(id string) Step { return get("pA", "/Observation/"+id+"/_history") },
		"search":  func(id string) Step { return get("pA", "/Observation?_id="+id+"&_elements=id&_count=0") },
		"delete":  func(id string) Step { return send("pA", http.MethodDelete, "/Observation/"+id) },
		"patch": func(id string) Step {
			return send("pA", http.MethodPatch, "/Observation/"+id, `[{"op":"add","path":"/language","value":"en"}]`)
		},
		"put": func(id string) Step {
			return put("pA", "Observation/"+id, labResult(id, "«patient»", "laboratory", "x")).with("If-Match", `W/"1"`)
		},
		"in batch": func(id string) Step {
			return send("pA", http.MethodPost, "", Batch("batch", Ask("GET", "Observation/"+id)))
		},
	}
	var all []Step
	for verb, of := range verbs {
		all = append(all, repeated([]string{"«never»", "«o2»", "«vobs»", "«fresh»"}, func(id string) Step { return of(id).same(verb) })...)
	}
	return all
}

// violateKey makes one resource many times at once.
func violateKey(ctx context.Context, t *Trial) {
	secret := t.vars["a:ssn"]
	for round := range 8 {
		id := t.suite.id("race-" + t.vars["value"] + "-" + string(rune('a'+round)))
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() {
				x := t.take(ctx, put("backend", "Patient/"+id, `{"resourceType":"Patient","id":"`+id+`","identifier":[{"value":"`+secret+`"}]}`).with("Prefer", "return=minimal").want(200, 201, 409, 412))
				if x == nil {
					return
				}
				for _, word := range []string{"duplicate", "constraint", "Key (", "resource_", "SQLSTATE", "23505", secret} {
					if bytes.Contains(x.Body, []byte(word)) {
						t.finding("answer", x, "the answer holds words of the database, or the value")
					}
				}
			})
		}
		all.Wait()
	}
}

// refusedValues puts a word into every place of a request that could be refused.
func refusedValues(ctx context.Context, t *Trial) {
	t.MayAlert = append(t.MayAlert, OtherInHeader)
	held := func(s Step, secret string) {
		if x := t.take(ctx, s); x != nil && x.Status >= 400 && bytes.Contains(bytes.ToLower(x.Body), bytes.ToLower([]byte(secret))) {
			t.finding("answer", x, "the answer repeats the value that it refuses")
		}
	}
	for _, path := range []string{
		"/Patient?birthdate=SECRET", "/Patient?_lastUpdated=SECRET", "/Patient?_count=SECRET", "/Patient?_sort=SECRET", "/Patient?_elements=SECRET&x=1",
		"/Patient?_include=SECRET", "/Patient?_has:SECRET:x:y=1", "/Patient?SECRET=1", "/Patient?name:SECRET=1", "/Patient?_summary=SECRET&_id=x", "/Patient?_total=SECRET&_id=x",
		"/Patient/«p1»/_history?_since=SECRET", "/Patient/«p1»/_history?_at=SECRET", "/Patient/«p1»/_history?_count=SECRET", "/SECRET", "/SECRET/1", "/Patient/«p1»/_history/SECRET",
		"/Patient/«p1»/SECRET", "/$SECRET", "/Patient/«p1»?_format=SECRET", "/AuditEvent?date=SECRET", "/AuditEvent?outcome=SECRET", "/AuditEvent?entity=SECRET", "/Patient?_page=SECRET",
	} {
		secret := Canary()
		held(get("backend", strings.ReplaceAll(path, "SECRET", secret)).want(200, 400, 403, 404, 405, 406), secret)
	}
	for _, body := range []string{
		`{"resourceType":"Patient","birthDate":"SECRET"}`, `{"resourceType":"Patient","gender":"SECRET"}`, `{"resourceType":"Patient","SECRET":1}`,
		`{"resourceType":"SECRET"}`, `{"resourceType":"Patient","id":"SECRET !"}`, `{"resourceType":"Patient","active":"SECRET"}`, `{"resourceType":"Patient","name":"SECRET"}`,
		`{"resourceType":"Patient","text":{"status":"generated","div":"<script>SECRET</script>"}}`, `SECRET`, `{"resourceType":"Patient","name":[{"family":"SECRET"`,
		`{"resourceType":"Patient","generalPractitioner":[{"reference":"SECRET/x y"}]}`,
	} {
		secret := Canary()
		held(send("backend", http.MethodPost, "/Patient", strings.ReplaceAll(body, "SECRET", secret)).want(201, 400, 422), secret)
	}
	for _, header := range []string{"If-Match", "If-None-Exist", "Prefer", "Accept", "Content-Type", "Content-Encoding", "X-Tenant-Id"} {
		secret := Canary()
		held(send("backend", http.MethodPost, "/Patient", `{"resourceType":"Patient"}`).with(header, secret), secret)
	}
}

// browsers asks as a page of another origin does.
func browsers(ctx context.Context, t *Trial) {
	for _, path := range []string{"/Patient/«p1»", "/Patient?_id=«p1»", "/never-was"} {
		x := t.take(ctx, get("reader", path).with("Origin", "https://evil.example"))
		if x == nil {
			return
		}
		for name := range x.Header {
			if strings.HasPrefix(name, "Access-Control-") {
				t.finding("answer", x, "a page of any origin may read it: %s", name)
			}
		}
		for _, name := range []string{"Server", "X-Powered-By"} {
			if x.Header.Get(name) != "" {
				t.finding("answer", x, "it tells what the server is: %s", name)
			}
		}
		if x.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.finding("answer", x, "a browser may guess what it is: X-Content-Type-Options is not nosniff")
		}
	}
	x := t.take(ctx, get("reader", "/metadata").with("Origin", "https://evil.example"))
	if x != nil && x.Header.Get("Access-Control-Allow-Credentials") != "" {
		t.finding("answer", x, "credentials are allowed to every origin")
	}
}
