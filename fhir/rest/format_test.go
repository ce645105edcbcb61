package rest

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
)

// H-01, H-02
func TestWhatIsServedIsWhatTheClientAccepts(t *testing.T) {
	for _, tt := range []struct {
		claim  string
		format string
		accept string
		ok     bool
		xml    bool
	}{
		{"anything", "", "*/*", true, false},
		{"nothing said", "", "", true, false},
		{"FHIR's type", "", "application/fhir+json", true, false},
		{"FHIR's type, this version", "", "application/fhir+json; fhirVersion=4.0", true, false},
		{"FHIR's type, another version", "", "application/fhir+json; fhirVersion=3.0", false, false},
		{"plain JSON", "", "application/json", true, false},
		{"old JSON", "", "text/json;q=0.5", true, false},
		{"XML alone", "", "application/fhir+xml", true, true},
		{"XML or else JSON", "", "application/fhir+xml, application/json;q=0.1", true, true},
		{"both alike", "", "application/fhir+xml, application/json", true, false},
		{"JSON or else XML", "", "application/xml;q=0.2, application/json", true, false},
		{"XML or else anything", "", "text/xml, */*;q=0.8", true, true},
		{"anything but XML", "", "application/fhir+xml;q=0, */*;q=0.1", true, false},
		{"XML of another version", "", "application/fhir+xml; fhirVersion=5.0", false, false},
		{"a picture", "", "image/png", false, false},
		{"anything but JSON", "", "application/fhir+json;q=0", false, false},
		{"_format wins over Accept", "json", "application/fhir+xml", true, false},
		{"_format with a plus sign that nobody encoded", "application/fhir json", "", true, false},
		{"_format of XML", "xml", "application/json", true, true},
		{"_format of XML with a plus sign that nobody encoded", "application/fhir xml", "", true, true},
		{"_format of what nobody knows", "ttl", "application/json", false, false},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			var params []search.Param
			if tt.format != "" {
				params = []search.Param{{Name: "_format", Value: tt.format}}
			}
			f, _, err := takeFormat(params, []string{tt.accept})
			if (err == nil) != tt.ok || err == nil && f.xml != tt.xml {
				t.Errorf("got XML %v, %v", f.xml, err)
			}
			if err != nil && statusOf(clientError(err)) != 406 {
				t.Errorf("got %d, want 406", statusOf(clientError(err)))
			}
		})
	}
}

// T212
func TestABodyMustSayThatItIsJSON(t *testing.T) {
	for mediaType, want := range map[string]bool{
		"application/fhir+json":                    true,
		"application/fhir+json; charset=UTF-8":     true,
		"application/json":                         true,
		"application/fhir+json; charset=utf-7":     false,
		"application/fhir+json; fhirVersion=5.0":   false,
		"application/fhir+xml":                     false,
		"multipart/form-data; boundary=x":          false,
		"":                                         false,
		"application/fhir+json, application/x":     false,
		"application/fhir+json; charset=\"utf-8\"": true,
	} {
		if got := isJSON(mediaType); got != want {
			t.Errorf("%q: got %v, want %v", mediaType, got, want)
		}
	}
}

// S-41, H-02
func TestASubsetKeepsBytesAndSaysThatItIsOne(t *testing.T) {
	const patient = `{"resourceType":"Patient","id":"7","meta":{"versionId":"1","tag":[{"code":"x"}]},"text":{"status":"empty"},` +
		`"active":true,"_birthDate":{"id":"b"},"birthDate":"1970-01-01","photo":[{"title":"1e2"}],"deceasedBoolean":false}`
	const tags = `"meta":{"versionId":"1","tag":[{"code":"x"},` + subsetted + `]}`
	for _, tt := range []struct {
		claim string
		format
		want string
	}{
		{"nothing asked, nothing done", format{}, patient},
		{"the summary", format{summary: "true"}, `{"resourceType":"Patient","id":"7",` + tags + `,"active":true,"_birthDate":{"id":"b"},"birthDate":"1970-01-01","deceasedBoolean":false}`},
		{"the text", format{summary: "text"}, `{"resourceType":"Patient","id":"7",` + tags + `,"text":{"status":"empty"}}`},
		{"the data", format{summary: "data"}, strings.Replace(strings.Replace(patient, `"text":{"status":"empty"},`, "", 1), `"meta":{"versionId":"1","tag":[{"code":"x"}]}`, tags, 1)},
		{"an element", format{elements: []string{"photo"}}, `{"resourceType":"Patient","id":"7",` + tags + `,"photo":[{"title":"1e2"}]}`},
		{"an element of the type, and one of another", format{elements: []string{"Patient.active", "Observation.photo"}}, `{"resourceType":"Patient","id":"7",` + tags + `,"active":true}`},
		{"a choice", format{elements: []string{"deceased"}}, `{"resourceType":"Patient","id":"7",` + tags + `,"deceasedBoolean":false}`},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, string(tt.show("Patient", []byte(patient)))); diff != "" {
				t.Error(diff)
			}
		})
	}
	got := (&format{elements: []string{"status"}}).show("Observation", []byte(`{"resourceType":"Observation","id":"1","status":"final","code":{"text":"c"},"valueString":"v"}`))
	want := `{"resourceType":"Observation","id":"1","status":"final","code":{"text":"c"},"meta":{"tag":[` + subsetted + `]}}`
	if string(got) != want {
		t.Errorf("mandatory elements are kept: got %s, want %s", got, want)
	}
}

// T006, T010, T108
func TestAPathIsPlainOrRefused(t *testing.T) {
	for path, want := range map[string]string{
		"/fhir/harbor/Patient/7":                 "/fhir/harbor/Patient/7",
		"/fhir/harbor/":                          "/fhir/harbor/",
		"/fhir/harbor/%24export":                 "/fhir/harbor/$export",
		"/fhir/harbor/Patient/7/*":               "/fhir/harbor/Patient/7/*",
		"/fhir/harbor/.well-known/x":             "/fhir/harbor/.well-known/x",
		"/fhir/harbor/../lakeside/Patient":       "",
		"/fhir/harbor/%2e%2e%2flakeside/Patient": "",
		"/fhir/harbor/..;/lakeside/Patient":      "",
		"/fhir/harbor//Patient":                  "",
		"//fhir/harbor/Patient":                  "",
		"/fhir/harbor%5c..%5clakeside/Patient":   "",
		"/fhir/harbor./Patient":                  "/fhir/harbor./Patient",
		"/fhir/%EF%BD%88arbor/Patient":           "",
		"/fhir/harbor%00/Patient":                "",
		"/fhir/harbor%20/Patient":                "",
		"/fhir/h%61rbor/Patient":                 "",
		"/fhir/%24harbor/Patient":                "",
		"/fhir/harbor/Patient/7;v=1":             "",
		"/fhir/harbor/Patient/./7":               "",
		"":                                       "",
		"/fhir/harbor/Patient/7%2F_history":      "",
	} {
		got, ok := plainPath(path)
		if !ok {
			got = ""
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", path, got, want)
		}
	}
}

// T262, T229
func TestTheShapeOfAPathHoldsNoForeignText(t *testing.T) {
	for path, want := range map[string]string{
		"/fhir/harbor/Patient/7/_history/2": "/fhir/harbor/Patient/7/_history/2",
		"/fhir/harbor/Patient/$everything":  "/fhir/harbor/Patient/$everything",
		"/fhir/harbor/Patient/name=Müller":  "/fhir/harbor/Patient/?",
		"/fhir/harbor/a\nb":                 "/fhir/harbor/?",
		"/1/2/3/4/5/6/7/8/9/10":             "/1/2/3/4/5/6/7/8",
	} {
		if got := shape(path); got != want {
			t.Errorf("%q: got %q, want %q", path, got, want)
		}
	}
}

// H-50
func TestARequestFindsItsRouteByMethodAndPath(t *testing.T) {
	r := newRouter()
	for _, tt := range []struct {
		method, path, pattern string
		does                  fhir.Interaction
	}{
		{"GET", "/fhir/harbor", "", fhir.SearchSystem},
		{"GET", "/fhir/harbor/", "", fhir.SearchSystem},
		{"HEAD", "/fhir/harbor/Patient/7", "/:type/:id", fhir.Read},
		{"GET", "/fhir/harbor/metadata", "/metadata", fhir.Capabilities},
		{"GET", "/fhir/harbor/_history", "/_history", fhir.HistorySystem},
		{"GET", "/fhir/harbor/Patient/_history", "/:type/_history", fhir.HistoryType},
		{"GET", "/fhir/harbor/Patient/7/_history", "/:type/:id/_history", fhir.HistoryInstance},
		{"GET", "/fhir/harbor/Patient/7/_history/2", "/:type/:id/_history/:version", fhir.Vread},
		{"POST", "/fhir/harbor/Patient/_search", "/:type/_search", fhir.SearchType},
		{"POST", "/fhir/harbor/_search", "/_search", fhir.SearchSystem},
		{"GET", "/fhir/harbor/Patient/7/Observation", "/:type/:id/:of", fhir.SearchType},
		{"GET", "/fhir/harbor/Patient/7/*", "/:type/:id/:of", fhir.SearchType},
		{"POST", "/fhir/harbor/Patient/7/$meta-add", "/:type/:id/$meta-add", fhir.Operation},
		{"GET", "/fhir/harbor/Patient/7/_history/2/$meta", "/:type/:id/_history/:version/$meta", fhir.Operation},
		{"PUT", "/fhir/harbor/Patient", "/:type", fhir.Update},
		{"POST", "/fhir/harbor", "", fhir.Transaction},
	} {
		p, _, err := r.find(tt.method, tt.path)
		if err != nil {
			t.Errorf("%s %s: %v", tt.method, tt.path, err)
			continue
		}
		if p.pattern != root+tt.pattern || p.route.does != tt.does || p.tenant != "harbor" {
			t.Errorf("%s %s: got %s %s of %q", tt.method, tt.path, p.route.does, p.pattern, p.tenant)
		}
	}
	if p, allow, err := r.find("POST", "/fhir/harbor/Patient/7"); statusOf(clientError(err)) != 405 || allow == "" || p.tenant != "harbor" {
		t.Errorf("POST on an instance: got %v, allow %q, tenant %q", err, allow, p.tenant)
	}
	if p, _, err := r.find("GET", "/fhir/harbor/a/b/c/d/e/f"); err != errNoRoute || p.tenant != "harbor" {
		t.Errorf("a path that leads nowhere: got %v, tenant %q", err, p.tenant)
	}
}

func TestEveryIssueCodeHasAStatus(t *testing.T) {
	for code, want := range status {
		if want < 200 || want > 599 {
			t.Errorf("%s: %d", code, want)
		}
	}
	if got := statusOf(clientError(errNoRoute)); got != 500 {
		t.Errorf("an error of ours: got %d, want 500", got)
	}
	if body := failure(clientError(errNoRoute)).body; bytes.Contains(body, []byte(errNoRoute.Error())) {
		t.Errorf("the client sees our error: %s", body)
	}
}

// H-43: _summary=true keeps what is marked so at every depth, and what an
// element cannot be without.
func TestASummaryIsOneAtEveryDepth(t *testing.T) {
	f := format{summary: "true"}
	for _, tt := range []struct{ t, body, want string }{
		{"Observation", `{"resourceType":"Observation","id":"7","status":"final","code":{"text":"x"},"component":[{"code":{"text":"a"},"valueInteger":1,"interpretation":[{"text":"high"}],"referenceRange":[{"text":"r"}]},{"code":{"text":"b"}}],"note":[{"text":"n"}]}`,
			`{"resourceType":"Observation","id":"7","status":"final","code":{"text":"x"},"component":[{"code":{"text":"a"},"valueInteger":1},{"code":{"text":"b"}}],"meta":{"tag":[` + subsetted + `]}}`},
		{"Patient", `{"resourceType":"Patient","name":[{"extension":[{"url":"u","valueBoolean":true}],"family":"f","_family":{"extension":[{"url":"u","valueBoolean":true}]},"given":["a","b"],"_given":[null,{"id":"x"}]}],"maritalStatus":{"text":"x"},"link":[{"other":{"reference":"Patient/1"},"type":"seealso"}]}`,
			`{"resourceType":"Patient","name":[{"family":"f","_family":{"extension":[{"url":"u","valueBoolean":true}]},"given":["a","b"],"_given":[null,{"id":"x"}]}],"link":[{"other":{"reference":"Patient/1"},"type":"seealso"}],"meta":{"tag":[` + subsetted + `]}}`},
		{"Patient", `{"resourceType":"Patient","name":[{"extension":[{"url":"u","valueBoolean":true}]}]}`,
			`{"resourceType":"Patient","name":[{"extension":[{"url":"u","valueBoolean":true}]}],"meta":{"tag":[` + subsetted + `]}}`},
	} {
		if got := string(f.show(fhir.Type(tt.t), []byte(tt.body))); got != tt.want {
			t.Errorf("got  %s\nwant %s", got, tt.want)
		}
	}
}
