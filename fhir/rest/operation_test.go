package rest

import (
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// H-53
func TestAnOperationIsCalledAsItsTableSays(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.A1, all)
	id := fresh()
	c.must(201, "PUT", "/Patient/"+id, patient(id, "x"))
	adds := `{"resourceType":"Parameters","parameter":[{"name":"meta","valueMeta":{"tag":[{"system":"s","code":"c"}]}}]}`
	for _, tt := range []struct {
		claim, method, path, body string
		want                      int
		says                      string
	}{
		{"one that changes nothing by GET", "GET", "/Patient/" + id + "/$meta", "", 200, "versionId"},
		{"or by POST", "POST", "/Patient/" + id + "/$meta", "", 200, "versionId"},
		{"one that changes something not by GET", "GET", "/Patient/" + id + "/$meta-add", "", 405, "called by POST"},
		{"one that is not known", "GET", "/Patient/" + id + "/$conjure", "", 404, "no such operation"},
		{"one of another level", "POST", "/Patient/$meta-add", adds, 404, "no such operation"},
		{"one of what is not there", "GET", "/Patient/" + fresh() + "/$meta", "", 404, notFound},
		{"one of the audit trail", "GET", "/AuditEvent/1/$meta", "", 404, "no such operation"},
		{"one of no type", "GET", "/Nonsense/1/$meta", "", 404, "no such resource type"},
		{"without what it needs", "POST", "/Patient/" + id + "/$meta-add", `{"resourceType":"Parameters"}`, 400, "parameter meta is missing"},
		{"with what it does not have", "GET", "/Patient/" + id + "/$meta?colour=red", "", 400, "no parameter colour"},
		{"with what it cannot have in a URL", "POST", "/Patient/" + id + "/$meta-add?meta=x", "", 400, "cannot be given in a URL"},
		{"with another type", "POST", "/Patient/" + id + "/$meta-add", `{"resourceType":"Parameters","parameter":[{"name":"meta","valueString":"CANARY"}]}`, 400, "parameter meta is not of type Meta"},
		{"twice", "POST", "/Patient/" + id + "/$meta-add", strings.Replace(adds, `[{"name`, `[{"name":"meta","valueMeta":{"tag":[{"code":"d"}]}},{"name`, 1), 400, "parameter meta is given too often"},
		{"with a resource that it does not take", "POST", "/Patient/" + id + "/$meta-add", patient("", "x"), 400, "Parameters"},
		{"with malformed Parameters", "POST", "/Patient/" + id + "/$meta-add", `{"resourceType":"Parameters","parameter":[{"name":"meta","valueMeta":{"tag":"CANARY"}}]}`, 400, "Parameters.parameter[0]"},
	} {
		w := c.do(tt.method, tt.path, tt.body)
		if w.Code != tt.want || !strings.Contains(w.Body.String(), tt.says) || strings.Contains(w.Body.String(), "CANARY") {
			t.Errorf("%s: got %d %s, want %d and %q", tt.claim, w.Code, w.Body, tt.want, tt.says)
		}
	}
}

// H-53, T138, T140
func TestMetaIsShownAndChanged(t *testing.T) {
	a := newAPI(t)
	id := fresh()
	tag := func(kind, code string) string {
		return `{"resourceType":"Parameters","parameter":[{"name":"meta","valueMeta":{"` + kind + `":[{"system":"s","code":"` + code + `"}]}}]}`
	}
	for _, slug := range storetest.Slugs {
		t.Run(slug, func(t *testing.T) {
			c := a.client(t, slug, all)
			path := "/Patient/" + id
			c.must(201, "PUT", path, patient(id, "x"))
			w := c.must(200, "POST", path+"/$meta-add", tag("tag", "one"))
			if got := at(shown(t, w), "parameter", 0, "valueMeta", "tag", 0, "code"); got != "one" || w.Header().Get("ETag") != `W/"2"` {
				t.Errorf("after adding: %v %s", got, w.Header().Get("ETag"))
			}
			if w := c.must(200, "POST", path+"/$meta-add", tag("tag", "one")); w.Header().Get("ETag") != `W/"2"` {
				t.Error("what was there made a version")
			}
			c.must(412, "POST", path+"/$meta-add", tag("tag", "two"), "If-Match", `W/"1"`)
			if got := at(shown(t, c.must(200, "GET", "/Patient?_tag=s|one&_id="+id, "")), "total"); got != 1.0 {
				t.Errorf("the tag is found %v times", got)
			}
			c.must(200, "POST", path+"/$meta-delete", tag("tag", "one"))
			if got := at(shown(t, c.must(200, "GET", path+"/$meta", "")), "parameter", 0, "valueMeta", "tag"); got != nil {
				t.Errorf("after deleting: %v", got)
			}
			if got := at(shown(t, c.must(200, "GET", path+"/_history/2/$meta", "")), "parameter", 0, "valueMeta", "tag", 0, "code"); got != "one" {
				t.Errorf("version 2 has %v", got)
			}
			c.must(200, "POST", path+"/$meta-add", tag("security", "R"))

			for _, of := range []string{"/Patient/$meta", "/$meta"} {
				labels := func(c *client) string { return c.must(200, "GET", of, "").Body.String() }
				if got := labels(c); !strings.Contains(got, `"security":[{"system":"s","code":"R"}]`) || strings.Contains(got, "versionId") {
					t.Errorf("%s: %s", of, got)
				}
				// Of the system a stranger sees what goes with any record, as organizations do.
				if got := labels(a.client(t, slug, "patient/*.rs", inContext(fresh()))); strings.Contains(got, `"system":"s"`) || of != "/$meta" && got != `{"resourceType":"Parameters"}` {
					t.Errorf("%s, to a stranger: %s", of, got)
				}
			}
			if got := a.client(t, slug, "system/Observation.rs").must(200, "GET", "/$meta", "").Body.String(); strings.Contains(got, `"R"`) {
				t.Errorf("of the system, without the right to see patients: %s", got)
			}
			clinician := a.client(t, slug, "user/*.cruds", ofUser("Practitioner/1"))
			clinician.must(200, "POST", path+"/$meta-add", tag("tag", "mine"))
			clinician.must(403, "POST", path+"/$meta-add", tag("security", "N"))
			clinician.must(403, "POST", path+"/$meta-delete", tag("security", "R"))
			if got := at(shown(t, c.must(200, "GET", path, "")), "meta", "security"); len(got.([]any)) != 1 {
				t.Errorf("labels: %v", got)
			}
			other := a.client(t, slug, "patient/*.cruds", inContext(fresh()))
			for _, path := range []string{path + "/$meta", path + "/_history/1/$meta"} {
				if w := other.must(404, "GET", path, ""); !strings.Contains(w.Body.String(), notFound) {
					t.Errorf("a stranger got %s", w.Body)
				}
			}
			other.must(404, "POST", path+"/$meta-add", tag("tag", "theirs"))
			a.client(t, slug, "system/Patient.rs").must(403, "POST", path+"/$meta-add", tag("tag", "theirs"))
			a.client(t, slug, "system/Observation.cruds").must(403, "GET", path+"/$meta", "")
		})
	}
}

// H-53: an entry of a Bundle can call an operation.
func TestABundleCallsOperations(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.A1, all)
	id := fresh()
	c.must(201, "PUT", "/Patient/"+id, patient(id, "x"))
	add := `{"resource":{"resourceType":"Parameters","parameter":[{"name":"meta","valueMeta":{"tag":[{"system":"s","code":"c"}]}}]},` +
		`"request":{"method":"POST","url":"Patient/` + id + `/$meta-add"}}`
	look := `{"request":{"method":"GET","url":"Patient/` + id + `/$meta"}}`
	w := c.must(200, "POST", "", `{"resourceType":"Bundle","type":"batch","entry":[`+add+`,`+look+`]}`)
	if got := at(shown(t, w), "entry", 1, "resource", "parameter", 0, "valueMeta", "tag", 0, "code"); got != "c" {
		t.Errorf("batch: %s", w.Body)
	}
	write := `{"resource":` + patient(id, "y") + `,"request":{"method":"PUT","url":"Patient/` + id + `"}}`
	w = c.must(200, "POST", "", `{"resourceType":"Bundle","type":"transaction","entry":[`+look+`,`+write+`]}`)
	if got := at(shown(t, w), "entry", 0, "resource", "parameter", 0, "valueMeta", "versionId"); got != "3" {
		t.Errorf("the operation of a transaction saw version %v", got)
	}
	c.must(400, "POST", "", `{"resourceType":"Bundle","type":"transaction","entry":[`+add+`]}`)
}

// inContext puts a patient into the context of a token.
func inContext(id string) func(*smart.Token) { return func(tok *smart.Token) { tok.Patient = id } }

// ofUser makes a token that of a user.
func ofUser(ref string) func(*smart.Token) {
	return func(tok *smart.Token) { tok.User = baseOf(tok.Tenant) + "/" + ref }
}
