package fhirconf

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/rest"
	"github.com/cordon-fhir/cordon/fhir/validate"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// patient is a Patient with the id, none if it is "".
func patient(id, family string) string {
	if id != "" {
		id = `"id":"` + id + `",`
	}
	return fmt.Sprintf(`{"resourceType":"Patient",%s"name":[{"family":%q}],"identifier":[{"system":"urn:mrn","value":%q}]}`, id, family, family)
}

func TestContentTypesAreNegotiated(t *testing.T) { // H-01 H-02
	c := newServer(t).client(t, storetest.A1, all)
	id := fresh()
	c.put("%s", patient(id, id))
	for _, tt := range []struct {
		accept, query string
		want          int
	}{
		{"", "", 200}, {"*/*", "", 200}, {"application/fhir+json", "", 200}, {"application/json", "", 200}, {"text/json", "", 200},
		{"application/fhir+json; fhirVersion=4.0", "", 200}, {"application/fhir+json; fhirVersion=3.0", "", 406}, {"application/fhir+json;q=0.5, text/html", "", 200},
		{"text/turtle", "", 406}, {"image/png", "", 406}, {"application/fhir+xml;q=0.1, application/fhir+json", "", 200},
		{"application/fhir+xml", "?_format=json", 200}, {"text/html", "?_format=application/fhir%2Bjson", 200}, {"", "?_format=application/fhir+json", 200},
		{"", "?_format=application/json", 200}, {"", "?_format=text/json", 200}, {"application/fhir+json", "?_format=ttl", 406}, {"", "?_pretty=true", 200}, {"", "?_pretty=false", 200},
	} {
		a := c.do("GET", "/Patient/"+id+tt.query, "", "Accept", tt.accept)
		if a.status != tt.want {
			t.Errorf("Accept %q %s: got %d, want %d", tt.accept, tt.query, a.status, tt.want)
		}
		if got := a.header.Get("Content-Type"); got != "application/fhir+json; charset=utf-8" && got != "application/fhir+json;charset=utf-8" {
			t.Errorf("Content-Type %s", got)
		}
	}
	for mediaType, want := range map[string]int{
		"application/fhir+json": 201, "application/json": 201, "text/json": 201, "application/fhir+json; charset=utf-8; fhirVersion=4.0": 201,
		"application/fhir+json; fhirVersion=5.0": 415, "application/fhir+xml": 400, "text/plain": 415, "": 415,
	} {
		if a := c.do("POST", "/Patient", patient("x", fresh()), "Content-Type", mediaType); a.status != want {
			t.Errorf("Content-Type %q: got %d %s, want %d", mediaType, a.status, a.body, want)
		}
	}
	for accept, query := range map[string]string{"application/fhir+xml": "", "application/xml": "", "text/xml, */*;q=0.1": "", "application/fhir+json": "?_format=xml", "": "?_format=application/fhir%2Bxml"} {
		a := c.must(200, "GET", "/Patient/"+id+query, "", "Accept", accept)
		if got := a.header.Get("Content-Type"); !strings.HasPrefix(got, "application/fhir+xml") || !strings.Contains(string(a.body), `<Patient xmlns="http://hl7.org/fhir">`) {
			t.Errorf("Accept %q %s: got %s %s", accept, query, got, a.body)
		}
	}
	zipped := c.must(200, "GET", "/Patient/"+id, "", "Accept-Encoding", "gzip")
	if zipped.header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(strings.NewReader(string(zipped.body)))
		if err != nil {
			t.Fatal(err)
		}
		if zipped.body, err = io.ReadAll(z); err != nil {
			t.Fatal(err)
		}
	}
	if zipped.at("id") != id {
		t.Errorf("gzip: %s", zipped.body)
	}
}

func TestTypesAndIdsAreSpelledAsTheyAre(t *testing.T) { // H-03
	c := newServer(t).client(t, storetest.A1, all)
	id := strings.Repeat("aZ9-.", 12) + "long" // 64 characters
	c.put("%s", patient(id, "Long"))
	c.must(200, "GET", "/Patient/"+id, "")
	c.refused(404, "GET", "/Patient/"+strings.ToLower(id), "")
	c.refused(404, "GET", "/patient/"+id, "")
	c.refused(404, "GET", "/Nonsense", "")
	c.refused(400, "PUT", "/Patient/"+id+"x", patient(id+"x", "Long"))
	c.refused(400, "PUT", "/Patient/a_b", patient("a_b", "x"))
	if a := c.do("GET", "/", ""); a.status != 200 && a.status != 400 {
		t.Errorf("the base with a slash: %d %s", a.status, a.body)
	}
	c.must(200, "GET", "/metadata/", "")
}

func TestEveryMethodIsAnswered(t *testing.T) { // H-04 H-06
	s := newServer(t)
	c := s.client(t, storetest.A1, all)
	id := fresh()
	c.put("%s", patient(id, id))
	for _, path := range []string{"/Patient/" + id, "/Patient/" + id + "/_history/1", "/Patient/" + id + "/_history", "/Patient", "/metadata"} {
		get, head := c.must(200, "GET", path, ""), c.must(200, "HEAD", path, "")
		if len(head.body) > 0 || head.header.Get("ETag") != get.header.Get("ETag") || head.header.Get("Content-Type") != get.header.Get("Content-Type") {
			t.Errorf("HEAD %s: %v", path, head.header)
		}
	}
	c.refused(404, "HEAD", "/Patient/nobody", "")
	c.refused(405, "POST", "/Patient/"+id, patient(id, "x"))
	c.refused(405, "DELETE", "/Patient/"+id+"/_history/1", "")
	c.refused(404, "GET", "/Patient/"+id+"/_history/1/2", "")
	stranger := &client{t, c.base, ""}
	stranger.must(200, "GET", "/metadata", "", "Authorization", "")
	for _, path := range []string{"/Patient/" + id, "/Patient", "", "/Nonsense", "/Patient/nobody"} {
		a := stranger.do("GET", path, "", "Authorization", "")
		if a.status != 401 || !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer") || a.at("resourceType") != "OperationOutcome" {
			t.Errorf("%s without a token: %d %v", path, a.status, a.header)
		}
	}
	a := stranger.do("OPTIONS", "/Patient/"+id, "", "Origin", "https://app.test", "Access-Control-Request-Method", "GET")
	if a.status != 200 && a.status != 204 {
		t.Errorf("OPTIONS: %d", a.status)
	}
	if got := stranger.must(200, "GET", "/metadata", "", "Authorization", "", "Origin", "https://app.test").header.Get("Access-Control-Allow-Origin"); got != "*" && got != "https://app.test" {
		t.Errorf("Access-Control-Allow-Origin of metadata: %q", got)
	}
	s.client(t, storetest.A1, "system/Observation.rs").refused(403, "GET", "/Patient/"+id, "")
	s.client(t, storetest.A1, "system/Patient.s").refused(403, "GET", "/Patient/"+id, "")
	mine := s.client(t, storetest.A1, "patient/Patient.rs", func(tok *smart.Token) { tok.Patient = "nobody-" + id })
	hidden, never := mine.must(404, "GET", "/Patient/"+id, ""), mine.must(404, "GET", "/Patient/never"+id, "")
	if string(hidden.body) != strings.ReplaceAll(string(never.body), "never"+id, id) {
		t.Errorf("hidden %s\nnever %s", hidden.body, never.body)
	}
}

func TestVersionsAreToldInHeaders(t *testing.T) { // H-05 H-11
	c := newServer(t).client(t, storetest.S2, all)
	id := fresh()
	for i, a := range []*answer{
		c.must(201, "PUT", "/Patient/"+id, `{"resourceType":"Patient","id":"`+id+`","meta":{"versionId":"99","lastUpdated":"2000-01-01T00:00:00Z"}}`),
		c.must(200, "PUT", "/Patient/"+id, patient(id, "two")),
		c.must(200, "PATCH", "/Patient/"+id, `[{"op":"add","path":"/active","value":true}]`),
	} {
		want := fmt.Sprintf(`W/"%d"`, i+1)
		read := c.must(200, "GET", "/Patient/"+id+"/_history/"+fmt.Sprint(i+1), "", "X-Request-Id", "req-"+id)
		at, err := time.Parse(time.RFC3339, fmt.Sprint(read.at("meta", "lastUpdated")))
		if err != nil || time.Since(at).Abs() > time.Hour {
			t.Errorf("lastUpdated %v", read.at("meta", "lastUpdated"))
		}
		for _, a := range []*answer{a, read} {
			if a.header.Get("ETag") != want || a.header.Get("Last-Modified") != at.UTC().Format(http.TimeFormat) {
				t.Errorf("%s: ETag %s, Last-Modified %s", a.asked, a.header.Get("ETag"), a.header.Get("Last-Modified"))
			}
		}
		if read.at("meta", "versionId") != fmt.Sprint(i+1) || read.header.Get("X-Request-Id") != "req-"+id {
			t.Errorf("version %v, request %s", read.at("meta", "versionId"), read.header.Get("X-Request-Id"))
		}
	}
	past, future := time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat), time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
	for _, tt := range []struct {
		headers []string
		want    int
	}{
		{[]string{"If-None-Match", `W/"3"`}, 304}, {[]string{"If-None-Match", `"3"`}, 304}, {[]string{"If-None-Match", `W/"2"`}, 200},
		{[]string{"If-None-Match", `W/"2", W/"3"`}, 304}, {[]string{"If-Modified-Since", future}, 304}, {[]string{"If-Modified-Since", past}, 200},
		{[]string{"If-None-Match", `W/"2"`, "If-Modified-Since", future}, 200}, {[]string{"If-None-Match", `W/"3"`, "If-Modified-Since", past}, 304},
	} {
		if a := c.must(tt.want, "GET", "/Patient/"+id, "", tt.headers...); tt.want == 304 && len(a.body) > 0 {
			t.Errorf("304 with %s", a.body)
		}
	}
	if c.must(200, "GET", "/metadata", "").header.Get("X-Request-Id") == "" {
		t.Error("no X-Request-Id")
	}
}

func TestDeletedResourcesAreGoneAndRemembered(t *testing.T) { // H-10 H-12 H-13 H-14
	c := newServer(t).client(t, storetest.S2, all)
	id := fresh()
	c.must(201, "PUT", "/Patient/"+id, patient(id, "one"))
	c.must(200, "PUT", "/Patient/"+id, patient(id, "two"))
	for _, want := range []int{204, 204} {
		c.must(want, "DELETE", "/Patient/"+id, "")
	}
	c.refused(404, "DELETE", "/Patient/never"+id, "") // as for one that is hidden
	c.refused(410, "GET", "/Patient/"+id, "")
	c.refused(410, "GET", "/Patient/"+id+"/_history/3", "")
	c.refused(404, "GET", "/Patient/"+id+"/_history/4", "")
	c.refused(404, "GET", "/Observation/"+id+"/_history/1", "")
	c.refused(410, "PATCH", "/Patient/"+id, `[{"op":"add","path":"/active","value":true}]`)
	c.refused(404, "PATCH", "/Patient/never"+id, `[{"op":"add","path":"/active","value":true}]`)
	c.refused(404, "GET", "/Patient/never"+id+"/_history", "")
	if got := c.must(200, "GET", "/Patient/"+id+"/_history/1", "").at("name", 0, "family"); got != "one" {
		t.Errorf("version 1: %v", got)
	}
	if got := c.find("/Patient?identifier=urn:mrn|two&_id=" + id); len(got) != 0 {
		t.Errorf("a search finds what was deleted: %v", got)
	}
	again := c.must(201, "PUT", "/Patient/"+id, patient(id, "four"))
	if got := again.header.Get("ETag"); got != `W/"4"` {
		t.Errorf("after the deletion: %s", got)
	}
	h := c.must(200, "GET", "/Patient/"+id+"/_history", "")
	if h.at("type") != "history" || h.at("total") != 4.0 || h.link("self") == "" {
		t.Errorf("history: %s", h.body)
	}
	for i, want := range []string{"PUT 4 201", "DELETE 3 204", "PUT 2 200", "PUT 1 201"} {
		e := h.at("entry", i)
		status, _, _ := strings.Cut(fmt.Sprint(at(e, "response", "status")), " ")
		method, rest, _ := strings.Cut(want, " ")
		version, code, _ := strings.Cut(rest, " ")
		if at(e, "request", "method") != method || at(e, "response", "etag") != `W/"`+version+`"` || (status != code && status != "200") ||
			at(e, "fullUrl") != c.base+"/Patient/"+id || (at(e, "resource") == nil) != (method == "DELETE") || at(e, "response", "lastModified") == nil || at(e, "request", "url") == nil {
			t.Errorf("entry %d: %v, want %s", i, e, want)
		}
	}
	since := q(fmt.Sprint(h.at("entry", 1, "response", "lastModified")))
	if got := list(c.must(200, "GET", "/Patient/"+id+"/_history?_since="+since, "").at("entry")); len(got) != 1 && len(got) != 2 {
		t.Errorf("_since: %d entries", len(got))
	}
	if got := list(c.must(200, "GET", "/Patient/"+id+"/_history?_at="+q(fmt.Sprint(h.at("entry", 2, "response", "lastModified"))), "").at("entry")); len(got) != 1 {
		t.Errorf("_at: %d entries", len(got))
	}
	for _, path := range []string{"/Patient/" + id + "/_history?_count=1", "/Patient/_history?_count=2", "/_history?_count=2"} {
		seen, last := map[string]bool{}, ""
		pages := 0
		for a := c.must(200, "GET", path, ""); ; a = c.must(200, "GET", a.link("next"), "") {
			for _, e := range list(a.at("entry")) {
				key := fmt.Sprint(at(e, "fullUrl"), at(e, "response", "etag"))
				when := fmt.Sprint(at(e, "response", "lastModified"))
				if seen[key] || last != "" && when > last {
					t.Errorf("%s: %s at %s after %s", path, key, when, last)
				}
				seen[key], last = true, when
			}
			if pages++; a.link("next") == "" || pages == 20 {
				break
			}
		}
		if strings.Contains(path, id) && len(seen) != 4 {
			t.Errorf("%s: %d versions", path, len(seen))
		}
	}
	other := fresh()
	c.put("%s", patient(other, "x"))
	c.refused(400, "GET", "/Patient/"+other+"/_history?_count=x", "")
	c.refused(400, "GET", "/Patient/"+other+"/_history?_since=x", "")
}

func TestCreateAndUpdateCheckWhatTheyGet(t *testing.T) { // H-20 H-21 H-22 H-29
	c := newServer(t, func(cfg *rest.Config) { cfg.Limits.Body = 8 << 10 }).client(t, storetest.D1, all)
	id := fresh()
	made := c.must(201, "POST", "/Patient", patient(id, "x"))
	location := made.header.Get("Location")
	if !strings.HasPrefix(location, c.base+"/Patient/") || !strings.HasSuffix(location, "/_history/1") || strings.Contains(location, "/"+id+"/") {
		t.Errorf("Location %s", location)
	}
	c.must(200, "GET", location, "")
	for _, tt := range []struct {
		method, path, body string
		want               int
	}{
		{"POST", "/Patient", `{"resourceType":"Observation"}`, 400},
		{"POST", "/Patient", `{"resourceType":"Patient"`, 400},
		{"POST", "/Patient", `[]`, 400},
		{"POST", "/Patient", ``, 400},
		{"POST", "/Patient", `{"resourceType":"Patient","nonsense":1}`, 400},
		{"POST", "/Patient", `{"resourceType":"Patient","gender":"nonsense"}`, 422},
		{"POST", "/Patient", `{"resourceType":"Patient","name":{"family":"x"}}`, 400},
		{"POST", "/Patient", `{"resourceType":"Patient","deceasedBoolean":true,"deceasedDateTime":"2020"}`, 400},
		{"POST", "/Patient", `{"resourceType":"Patient","birthDate":"2020-13-01"}`, 422},
		{"POST", "/Patient", `{"resourceType":"Patient","active":"true"}`, 422},
		{"POST", "/Observation", `{"resourceType":"Observation","status":"final"}`, 422},
		{"POST", "/Patient", `{"resourceType":"Patient","generalPractitioner":[{"reference":"Patient/1"}]}`, 422},
		{"POST", "/Patient", `{"resourceType":"Patient","contained":[{"resourceType":"Organization","id":"o","contained":[{"resourceType":"Organization","id":"p"}]}]}`, 422},
		{"POST", "/Patient", `{"resourceType":"Patient","contained":[{"resourceType":"Organization","id":"o","meta":{"versionId":"1"}}],"managingOrganization":{"reference":"#o"}}`, 422},
		{"POST", "/Patient", patient("", strings.Repeat("x", 9<<10)), 413},
		{"PUT", "/Patient/" + id, `{"resourceType":"Patient"}`, 400},
		{"PUT", "/Patient/" + id, patient("other", "x"), 400},
		{"PUT", "/Patient/" + id, `{"resourceType":"Observation","id":"` + id + `"}`, 400},
	} {
		c.refused(tt.want, tt.method, tt.path, tt.body)
	}
	all := c.must(422, "POST", "/Patient", `{"resourceType":"Patient","gender":"nonsense","birthDate":"x","active":1}`)
	if n := len(list(all.at("issue"))); n != 3 || all.at("issue", 0, "expression", 0) == nil {
		t.Errorf("faults: %s", all.body)
	}
	c.must(201, "PUT", "/Patient/"+id, patient(id, "x"))
	c.must(200, "PUT", "/Patient/"+id, patient(id, "y"))
	for prefer, want := range map[string]string{"return=minimal": "", "return=representation": "Patient", "return=OperationOutcome": "OperationOutcome"} {
		for _, r := range [][]string{{"POST", "/Patient", patient("x", "p")}, {"PUT", "/Patient/" + id, patient(id, "p")}, {"PATCH", "/Patient/" + id, `[{"op":"add","path":"/active","value":true}]`}} {
			a := c.do(r[0], r[1], r[2], "Prefer", prefer)
			got := ""
			if len(a.body) > 0 {
				got = fmt.Sprint(a.at("resourceType"))
			}
			if a.status >= 300 || got != want {
				t.Errorf("%s, Prefer %s: %d %s", a.asked, prefer, a.status, a.body)
			}
		}
	}
}

func TestOneOfSeveralWritersOfAVersionWins(t *testing.T) { // H-23 H-24
	c := newServer(t).client(t, storetest.A2, all)
	id := fresh()
	c.put("%s", patient(id, "x"))
	for _, r := range [][]string{{"PUT", patient(id, "y")}, {"PATCH", `[{"op":"add","path":"/active","value":true}]`}, {"DELETE", ""}} {
		c.refused(412, r[0], "/Patient/"+id, r[1], "If-Match", `W/"7"`)
		c.refused(400, r[0], "/Patient/"+id, r[1], "If-Match", `nonsense`)
		if a := c.do(r[0], "/Patient/never"+id, strings.ReplaceAll(r[1], id, "never"+id), "If-Match", `W/"1"`); a.status != 412 && a.status != 404 {
			t.Errorf("%s of what is not there: %d", r[0], a.status)
		}
	}
	c.refused(412, "PUT", "/Patient/"+id, patient(id, "y"), "If-None-Match", "*")
	c.must(201, "PUT", "/Patient/new"+id, patient("new"+id, "y"), "If-None-Match", "*")
	var wg sync.WaitGroup
	results := make(chan int, 8)
	for i := range 8 {
		wg.Go(func() {
			results <- c.do("PUT", "/Patient/"+id, patient(id, fmt.Sprint("w", i)), "If-Match", `W/"1"`).status
		})
	}
	wg.Wait()
	close(results)
	won := 0
	for status := range results {
		switch status {
		case 200:
			won++
		case 412, 409:
		default:
			t.Errorf("status %d", status)
		}
	}
	if won != 1 {
		t.Errorf("%d writers won", won)
	}
}

func TestConditionalInteractionsGoByWhatMatches(t *testing.T) { // H-25 H-26 H-27 H-28
	c := newServer(t).client(t, storetest.A2, all)
	id, twice := fresh(), fresh()
	c.put("%s", patient(id, id))
	c.put("%s", patient(twice+"a", twice))
	c.put("%s", patient(twice+"b", twice))
	one, two, none := "identifier=urn:mrn|"+id, "identifier=urn:mrn|"+twice, "identifier=urn:mrn|nobody"
	for query, want := range map[string]int{one: 200, "?" + one: 200, "Patient?" + one: 200, two: 412, none: 201, "": 201, "nonsense=1": 400} {
		a := c.do("POST", "/Patient", patient("", fresh()), "If-None-Exist", query)
		if a.status != want {
			t.Errorf("If-None-Exist %s: %d %s, want %d", query, a.status, a.body, want)
		}
		if want == 200 && (!strings.Contains(a.header.Get("Location"), "/Patient/"+id+"/_history/1") || a.header.Get("ETag") != `W/"1"`) {
			t.Errorf("If-None-Exist %s: %v", query, a.header)
		}
	}
	for _, tt := range []struct {
		method, query, body string
		want                int
	}{
		{"PUT", one, `{"resourceType":"Patient","identifier":[{"system":"urn:mrn","value":"` + id + `"}]}`, 200},
		{"PUT", one, patient(id, id), 200},
		{"PUT", one, patient("other"+id, id), 400},
		{"PUT", two, `{"resourceType":"Patient"}`, 412},
		{"PUT", none, `{"resourceType":"Patient"}`, 201},
		{"PUT", none, patient("made"+id, "made"), 201},
		{"PUT", "", `{"resourceType":"Patient"}`, 412},
		{"PUT", "_count=1", `{"resourceType":"Patient"}`, 400},
		{"PATCH", one, `[{"op":"add","path":"/active","value":true}]`, 200},
		{"PATCH", two, `[{"op":"add","path":"/active","value":true}]`, 412},
		{"PATCH", none, `[{"op":"add","path":"/active","value":true}]`, 404},
		{"PATCH", one, `[{"op":"test","path":"/active","value":false}]`, 422},
		{"PATCH", one, `[{"op":"replace","path":"/id","value":"x"}]`, 422},
		{"PATCH", one, `[{"op":"replace","path":"/resourceType","value":"Person"}]`, 422},
		{"PATCH", one, `[{"op":"replace","path":"/active","value":"x"}]`, 422},
		{"PATCH", one, `{}`, 400},
		{"DELETE", "", "", 412},
		{"DELETE", two, "", 412},
		{"DELETE", none, "", 204},
		{"DELETE", one, "", 204},
		{"DELETE", "nonsense=1", "", 400},
	} {
		path := "/Patient"
		if tt.query != "" {
			path += "?" + tt.query
		}
		if a := c.do(tt.method, path, tt.body); a.status != tt.want {
			t.Errorf("%s %s: %d %s, want %d", tt.method, path, a.status, a.body, tt.want)
		}
	}
	c.must(410, "GET", "/Patient/"+id, "")
}

// bundle returns a batch or transaction of the entries.
func bundle(kind string, entries ...string) string {
	return `{"resourceType":"Bundle","type":"` + kind + `","entry":[` + strings.Join(entries, ",") + `]}`
}

func entry(method, url, resource string, more ...string) string {
	e := `{"request":{"method":"` + method + `","url":"` + url + `"` + strings.Join(more, "") + `}`
	if resource != "" {
		e += `,"resource":` + resource
	}
	return e + `}`
}

func TestABatchDoesEachEntryByItself(t *testing.T) { // H-40 H-42 H-45 S-01
	c := newServer(t).client(t, storetest.S2, all)
	id := fresh()
	c.put("%s", patient(id, id))
	a := c.must(200, "POST", "", bundle("batch",
		entry("GET", "Patient/"+id, ""),
		entry("GET", "Patient/nobody", ""),
		entry("GET", "Patient?identifier=urn:mrn|"+id, ""),
		entry("POST", "Patient", patient("", id+"n"), `,"ifNoneExist":"identifier=urn:mrn|`+id+`"`),
		entry("PUT", "Patient/"+id, patient(id, id), `,"ifMatch":"W/\"9\""`),
		entry("PUT", "Patient/b"+id, patient("b"+id, "b")),
		entry("POST", "Patient", `{"resourceType":"Patient","gender":"x"}`),
		entry("GET", c.base+"/Patient/"+id, "", `,"ifNoneMatch":"W/\"1\""`),
		entry("GET", "http://other.test/Patient/"+id, ""),
		entry("POST", "Patient", ""),
		entry("DELETE", "Patient/c"+id, ""),
	))
	if a.at("type") != "batch-response" {
		t.Errorf("type %v", a.at("type"))
	}
	for i, want := range []string{"200", "404", "200", "200", "412", "201", "422", "304", "400", "400", "404"} {
		status := fmt.Sprint(a.at("entry", i, "response", "status"))
		if !strings.HasPrefix(status, want+" ") {
			t.Errorf("entry %d: %s, want %s", i, status, want)
		}
		if want[0] == '4' && a.at("entry", i, "response", "outcome", "resourceType") != "OperationOutcome" {
			t.Errorf("entry %d has no outcome: %v", i, a.at("entry", i))
		}
	}
	if a.at("entry", 0, "resource", "id") != id || a.at("entry", 2, "resource", "type") != "searchset" || a.at("entry", 2, "resource", "total") != 1.0 {
		t.Errorf("reads: %s", a.body)
	}
	if a.at("entry", 5, "response", "etag") != `W/"1"` || a.at("entry", 5, "response", "lastModified") == nil ||
		!strings.HasSuffix(fmt.Sprint(a.at("entry", 5, "response", "location")), "Patient/b"+id+"/_history/1") {
		t.Errorf("write: %v", a.at("entry", 5))
	}
	for _, kind := range []string{"collection", "searchset", "history", "document", "nonsense"} {
		if a := c.do("POST", "", bundle(kind)); a.status != 400 && a.status != 422 {
			t.Errorf("a Bundle of type %s: %d", kind, a.status)
		}
	}
	c.refused(400, "POST", "", patient(id, "x"))
}

func TestATransactionIsOneChange(t *testing.T) { // H-40 H-41 H-43 H-44 H-45
	c := newServer(t).client(t, storetest.A2, all)
	id := fresh()
	c.put(`{"resourceType":"Organization","id":"o%s","name":"x","identifier":[{"system":"urn:org","value":"%s"}]}`, id, id)
	c.put("%s", patient("del"+id, "del"))
	full := func(url, e string) string { return `{"fullUrl":"` + url + `",` + e[1:] }
	a := c.must(200, "POST", "", bundle("transaction",
		entry("GET", "Patient?identifier=urn:mrn|"+id, ""),
		full("urn:uuid:6d6d0f3c-0b8a-4d64-9b0c-000000000001", entry("POST", "Observation", `{"resourceType":"Observation","status":"final","code":{"text":"t"},
			"identifier":[{"value":"urn:uuid:6d6d0f3c-0b8a-4d64-9b0c-000000000002"}],
			"text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\"><a href=\"urn:uuid:6d6d0f3c-0b8a-4d64-9b0c-000000000002\">p</a></div>"},
			"subject":{"reference":"urn:uuid:6d6d0f3c-0b8a-4d64-9b0c-000000000002"},"performer":[{"reference":"Organization?identifier=urn:org|`+id+`"},{"reference":"urn:uuid:6d6d0f3c-0b8a-4d64-9b0c-000000000003"}],
			"derivedFrom":[{"reference":"urn:uuid:6d6d0f3c-0b8a-4d64-9b0c-000000000004"}]}`)),
		full("urn:uuid:6d6d0f3c-0b8a-4d64-9b0c-000000000004", entry("POST", "Observation", `{"resourceType":"Observation","status":"final","code":{"text":"t"},"derivedFrom":[{"reference":"urn:uuid:6d6d0f3c-0b8a-4d64-9b0c-000000000001"}]}`)),
		full("urn:uuid:6d6d0f3c-0b8a-4d64-9b0c-000000000002", entry("POST", "Patient", patient("", id))),
		full("urn:uuid:6d6d0f3c-0b8a-4d64-9b0c-000000000003", entry("POST", "Organization", `{"resourceType":"Organization","name":"y"}`, `,"ifNoneExist":"identifier=urn:org|`+id+`"`)),
		entry("DELETE", "Patient/del"+id, ""),
	))
	if a.at("type") != "transaction-response" || a.at("entry", 0, "resource", "total") != 1.0 {
		t.Errorf("%s", a.body)
	}
	for i, want := range []string{"200", "201", "201", "201", "200", "204"} {
		if got := fmt.Sprint(a.at("entry", i, "response", "status")); !strings.HasPrefix(got, want+" ") {
			t.Errorf("entry %d: %s, want %s", i, got, want)
		}
	}
	where := func(i int) string {
		ref, _, _ := strings.Cut(strings.TrimPrefix(fmt.Sprint(a.at("entry", i, "response", "location")), c.base+"/"), "/_history")
		return ref
	}
	o := c.must(200, "GET", "/"+where(1), "")
	for _, tt := range []struct{ got, want any }{
		{o.at("subject", "reference"), where(3)}, {o.at("performer", 0, "reference"), "Organization/o" + id}, {o.at("performer", 1, "reference"), "Organization/o" + id},
		{o.at("derivedFrom", 0, "reference"), where(2)}, {o.at("identifier", 0, "value"), "urn:uuid:6d6d0f3c-0b8a-4d64-9b0c-000000000002"},
		{strings.Contains(fmt.Sprint(o.at("text", "div")), where(3)), true}, {c.must(200, "GET", "/"+where(2), "").at("derivedFrom", 0, "reference"), where(1)},
	} {
		if tt.got != tt.want {
			t.Errorf("got %v, want %v", tt.got, tt.want)
		}
	}
	c.must(410, "GET", "/Patient/del"+id, "")
	for claim, tt := range map[string]struct {
		entries []string
		want    []int
	}{
		"an invalid resource":            {[]string{entry("POST", "Patient", `{"resourceType":"Patient","gender":"x"}`)}, []int{422}},
		"a version that is not current":  {[]string{entry("PUT", "Organization/o"+id, `{"resourceType":"Organization","id":"o`+id+`","name":"z"}`, `,"ifMatch":"W/\"9\""`)}, []int{412}},
		"a link to what is not there":    {[]string{entry("POST", "Observation", `{"resourceType":"Observation","status":"final","code":{"text":"t"},"subject":{"reference":"urn:uuid:6d6d0f3c-0b8a-4d64-9b0c-000000000009"}}`)}, []int{400}},
		"criteria that nothing meets":    {[]string{entry("POST", "Observation", `{"resourceType":"Observation","status":"final","code":{"text":"t"},"subject":{"reference":"Patient?identifier=urn:mrn|nobody"}}`)}, []int{412}},
		"one resource twice":             {[]string{entry("PUT", "Patient/t"+id, patient("t"+id, "x")), entry("DELETE", "Patient/t"+id, "")}, []int{400, 422}},
		"an entry without a request":     {[]string{`{"resource":` + patient("", "x") + `}`}, []int{400, 422}},
		"an entry without a resource":    {[]string{entry("POST", "Patient", "")}, []int{400, 422}},
		"an entry for another server":    {[]string{entry("DELETE", "http://other.test/Patient/1", "")}, []int{400}},
		"two entries with one fullUrl":   {[]string{full("urn:uuid:6d6d0f3c-0b8a-4d64-9b0c-000000000001", entry("POST", "Patient", patient("", "a"))), full("urn:uuid:6d6d0f3c-0b8a-4d64-9b0c-000000000001", entry("POST", "Patient", patient("", "b")))}, []int{400, 422}},
		"a read of what is not there":    {[]string{entry("GET", "Patient/nobody", "")}, []int{404, 400}},
		"a search that is not supported": {[]string{entry("GET", "Patient?nonsense=1", "")}, []int{400}},
	} {
		marker := fresh()
		first := entry("POST", "Patient", patient("", "undone"+marker))
		got := c.do("POST", "", bundle("transaction", append([]string{first}, tt.entries...)...))
		ok := false
		for _, want := range tt.want {
			ok = ok || got.status == want
		}
		if !ok || got.at("resourceType") != "OperationOutcome" {
			t.Errorf("%s: %d %s, want %v", claim, got.status, got.body, tt.want)
		}
		if left := c.find("/Patient?identifier=urn:mrn|undone" + marker); len(left) != 0 {
			t.Errorf("%s: something is left", claim)
		}
	}
}

func TestEveryEntryIsHeldToTheScopes(t *testing.T) { // H-41 H-46
	s := newServer(t)
	id := fresh()
	admin := s.client(t, storetest.A2, all)
	admin.put("%s", patient(id, id))
	s.client(t, storetest.A1, all).put("%s", patient("elsewhere"+id, "elsewhere"+id))
	c := s.client(t, storetest.A2, "system/Patient.rs system/Observation.cru")
	batch := c.must(200, "POST", "", bundle("batch",
		entry("GET", "Patient/"+id, ""), entry("PUT", "Patient/"+id, patient(id, "x")), entry("DELETE", "Patient/"+id, ""),
		entry("GET", "Observation?status=final", ""), entry("GET", "Patient/elsewhere"+id, "")))
	for i, want := range []string{"200", "403", "403", "403", "404"} {
		if got := fmt.Sprint(batch.at("entry", i, "response", "status")); !strings.HasPrefix(got, want+" ") {
			t.Errorf("entry %d: %s, want %s", i, got, want)
		}
	}
	c.refused(403, "POST", "", bundle("transaction", entry("GET", "Patient/"+id, ""), entry("POST", "Patient", patient("", "z"+id))))
	observe := `{"resourceType":"Observation","status":"final","code":{"text":"t"},"subject":{"reference":"Patient?identifier=urn:mrn|%s"}}`
	c.refused(412, "POST", "", bundle("transaction", entry("POST", "Observation", fmt.Sprintf(observe, "elsewhere"+id))))
	c.must(200, "POST", "", bundle("transaction", entry("POST", "Observation", fmt.Sprintf(observe, id))))
	twice := admin.do("POST", "", bundle("transaction", entry("DELETE", "Patient?identifier=urn:mrn|"+id, ""), entry("PUT", "Patient/"+id, patient(id, "x"))))
	if twice.status < 400 || twice.status >= 500 {
		t.Errorf("one resource by its id and by criteria: %d %s", twice.status, twice.body)
	}
	admin.must(200, "GET", "/Patient/"+id, "")
}

func TestPagesAreLinkedAndComplete(t *testing.T) { // H-50 H-51
	s := newServer(t)
	c := s.client(t, storetest.D1, all)
	for i := range 7 {
		c.put(`{"resourceType":"Basic","id":"page%d","code":{"text":"x"},"meta":{"tag":[{"code":"paged"}]}}`, i)
	}
	a := c.must(200, "GET", "/Basic?_tag=paged&_count=3", "")
	next := a.link("next")
	if !strings.HasPrefix(a.link("self"), c.base+"/Basic?") || !strings.Contains(a.link("self"), "_tag=paged") || !strings.HasPrefix(next, c.base+"/Basic?") || a.link("first") == "" {
		t.Errorf("links: %v", a.at("link"))
	}
	if at(a.at("entry", 0), "fullUrl") != c.base+"/"+a.refs("match")[0] {
		t.Errorf("fullUrl %v", a.at("entry", 0, "fullUrl"))
	}
	seen := map[string]int{}
	for _, ref := range a.refs("match") {
		seen[ref]++
	}
	c.put(`{"resourceType":"Basic","id":"page9","code":{"text":"x"},"meta":{"tag":[{"code":"paged"}]}}`)
	for ; a.link("next") != ""; a = c.must(200, "GET", a.link("next"), "") {
		for _, ref := range c.must(200, "GET", a.link("next"), "").refs("match") {
			seen[ref]++
		}
	}
	for i := range 7 {
		if ref := fmt.Sprintf("Basic/page%d", i); seen[ref] != 1 {
			t.Errorf("%s comes %d times", ref, seen[ref])
		}
	}
	pretty := c.must(200, "GET", "/Basic?_tag=paged&_count=3&_format=json&_pretty=true", "")
	for _, relation := range []string{"self", "first", "next"} {
		if link := pretty.link(relation); !strings.HasSuffix(link, "&_format=json&_pretty=true") || !bytes.Contains(c.must(200, "GET", link, "", "Accept", "application/fhir+xml").body, []byte("{\n")) {
			t.Errorf("the link %s is not to the format that was asked for: %s", relation, link)
		}
	}
	c.refused(400, "GET", next[:len(next)-4]+"AAAA", "")
	c.refused(400, "GET", next+"&_count=5", "")
	c.refused(400, "GET", strings.Replace(next, "/Basic?", "/Patient?", 1), "")
	other := s.client(t, storetest.A1, all)
	other.refused(400, "GET", strings.Replace(next, "/"+storetest.D1+"/", "/"+storetest.A1+"/", 1), "")
	s.client(t, storetest.D1, "system/Basic.rs").refused(400, "GET", next, "")
}

func TestTheCapabilityStatementClaimsWhatIsServed(t *testing.T) { // H-52 S-18 U-04
	c := newServer(t).client(t, storetest.A1, all)
	a := c.must(200, "GET", "/metadata", "", "Authorization", "")
	d, err := fhir.Parse(a.body, fhir.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Resource(d); err != nil {
		t.Errorf("the statement is not valid: %v", err)
	}
	for _, tt := range []struct{ got, want any }{
		{a.at("fhirVersion"), "4.0.1"}, {a.at("kind"), "instance"}, {a.at("status"), "active"}, {a.at("rest", 0, "mode"), "server"}, {a.at("implementation", "url"), c.base},
		{strings.Contains(fmt.Sprint(a.at("format")), "json"), true}, {a.at("rest", 0, "security", "cors"), true},
		{a.at("rest", 0, "security", "service", 0, "coding", 0, "code"), "SMART-on-FHIR"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %v, want %v", tt.got, tt.want)
		}
	}
	c.must(200, "GET", "/metadata?mode=full", "")
	parameters := 0
	for _, r := range list(a.at("rest", 0, "resource")) {
		on := at(r, "type").(string)
		if on == "AuditEvent" {
			continue
		}
		var names []string
		for _, p := range list(at(r, "searchParam")) {
			parameters++
			name, value := at(p, "name").(string), map[string]string{
				"date": "2020", "number": "1", "quantity": "1", "composite": "1$1", "uri": "urn:x", "reference": "Patient/1", "token": "true", "string": "x", "special": "x",
			}[at(p, "type").(string)]
			if at(p, "definition") == nil && name != "_list" {
				t.Errorf("%s.%s has no definition", on, name)
			}
			names = append(names, name+"="+value)
		}
		for _, name := range []string{"_list=x", "_filter=x", "_content=x"} {
			if !slices.Contains(names, name) {
				t.Errorf("%s: %s is not claimed", on, name)
			}
		}
		// All in a few requests: each name must be known, if not each value.
		for len(names) > 0 {
			n := min(len(names), 30)
			c.notUnknown(on, names[:n])
			names = names[n:]
		}
	}
	if parameters < 1400 {
		t.Errorf("%d search parameters are claimed", parameters)
	}
}

// notUnknown holds that the server takes the parameters, or says of one that
// its value is wrong: then the others are asked for.
func (c *client) notUnknown(on string, params []string) {
	c.t.Helper()
	for len(params) > 0 {
		a := c.do("GET", "/"+on+"?_summary=count&"+strings.Join(params, "&"), "")
		if a.status == 200 {
			return
		}
		var outcome struct {
			Issue []struct{ Code, Diagnostics string }
		}
		if err := json.Unmarshal(a.body, &outcome); err != nil || len(outcome.Issue) == 0 || strings.Contains(outcome.Issue[0].Diagnostics, "is not a search parameter") || a.status != 400 {
			c.t.Errorf("%s: %d %s", a.asked, a.status, a.body)
			return
		}
		left := params[:0:0]
		for _, p := range params {
			name, _, _ := strings.Cut(p, "=")
			if !strings.HasPrefix(outcome.Issue[0].Diagnostics, "parameter "+name+" ") {
				left = append(left, p)
			}
		}
		if len(left) == len(params) {
			c.t.Errorf("%s: %s", a.asked, a.body)
			return
		}
		params = left
	}
}

func TestOperationsThatAreNotThereAreRefused(t *testing.T) { // H-53
	c := newServer(t).client(t, storetest.A1, all)
	for _, path := range []string{"/$nonsense", "/Patient/$nonsense", "/Patient/1/$nonsense"} {
		for _, method := range []string{"GET", "POST"} {
			c.refused(404, method, path, `{"resourceType":"Parameters"}`)
		}
	}
}

func TestACompartmentHoldsWhatItsParametersReach(t *testing.T) { // H-55
	c := newServer(t).client(t, storetest.D1, all)
	id := fresh()
	c.put("%s", patient(id, id))
	c.put(`{"resourceType":"Observation","id":"s%s","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/%s"}}`, id, id)
	c.put(`{"resourceType":"Observation","id":"p%s","status":"final","code":{"text":"x"},"performer":[{"reference":"Patient/%s"}]}`, id, id)
	c.put(`{"resourceType":"Observation","id":"n%s","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/other"}}`, id)
	if got := strings.Join(c.find("/Patient/"+id+"/Observation"), " "); got != "p"+id+" s"+id {
		t.Errorf("the compartment holds %s", got)
	}
	c.refused(404, "GET", "/Patient/nobody/Observation", "")
	c.refused(404, "GET", "/Patient/"+id+"/Nonsense", "")
	c.refused(400, "GET", "/Patient/"+id+"/Observation?nonsense=1", "")
}
