package rest

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/fhirtest"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// posting is a Bundle of entries.
func posting(kind string, entries ...string) string {
	return `{"resourceType":"Bundle","type":"` + kind + `","entry":[` + strings.Join(entries, ",") + `]}`
}

// asking is an entry. more are further members of its request.
func asking(method, url, resource string, more ...string) string {
	if resource != "" {
		resource = `"resource":` + resource + `,`
	}
	return `{` + resource + `"request":{"method":"` + method + `","url":"` + url + `"` + strings.Join(append([]string{""}, more...), ",") + `}}`
}

// called is an entry with a fullUrl.
func called(fullURL, entry string) string { return `{"fullUrl":"` + fullURL + `",` + entry[1:] }

func observation(subject string) string {
	return `{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"` + subject + `"}}`
}

// H-40, H-42, T106, T108, T109, T110
func TestEntriesOfABatchDoNotDependOnEachOther(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.A1, all)
	id, made := fresh(), fresh()
	c.must(201, "PUT", "/Patient/"+id, patient(id, "x"))
	a.alerts = nil
	entries := []struct {
		entry  string
		status string
	}{
		{asking("GET", "Patient/"+id, ""), "200 OK"},
		{asking("GET", "Patient/"+fresh(), ""), "404 Not Found"},
		{asking("PUT", "Patient/"+made, patient(made, "y")), "201 Created"},
		{asking("POST", "Patient", patient("", "z")), "201 Created"},
		{asking("POST", "Patient", `{"resourceType":"Patient","nonsense":1}`), "400 Bad Request"},
		{asking("POST", "Observation", patient("", "z")), "400 Bad Request"},
		{asking("GET", "Patient?_id="+id, ""), "200 OK"},
		{asking("GET", baseOf(storetest.A1)+"/Patient/"+id, ""), "200 OK"},
		{asking("GET", "Patient/"+id, "", `"ifNoneMatch":"W/\"1\""`), "304 Not Modified"},
		{asking("PUT", "Patient/"+id, patient(id, "w"), `"ifMatch":"W/\"7\""`), "412 Precondition Failed"},
		{asking("PUT", "Patient/"+id, patient(id, "w"), `"ifMatch":"W/\"1\"\r\nX-Tenant-Id: x"`), "400 Bad Request"},
		{asking("GET", "Patient/"+id, "", `"Authorization":"Bearer x"`, `"X-Tenant-Id":"alpha-two"`), "200 OK"},
		{asking("GET", baseOf(storetest.A2)+"/Patient/"+id, ""), "400 Bad Request"},
		{asking("GET", "../"+storetest.A2+"/fhir/Patient", ""), "400 Bad Request"},
		{asking("GET", "//host/Patient", ""), "400 Bad Request"},
		{asking("GET", "?_id="+id, ""), "400 Bad Request"},
		{asking("GET", "Patient/../../A2/Patient", ""), "400 Bad Request"},
		{asking("GET", "%50atient/"+id, ""), "400 Bad Request"},
		{asking("GET", "https://elsewhere.example/fhir/Patient", ""), "400 Bad Request"},
		{asking("DELETE", "Patient/"+id, ""), "204 No Content"},
		{asking("BREW", "Patient", ""), "400 Bad Request"},
		{asking("POST", "", posting("batch")), "400 Bad Request"},
		{asking("POST", "Patient", ""), "400 Bad Request"},
		{`{}`, "400 Bad Request"},
		{called(urn, asking("POST", "Patient", patient("", "z"))), "201 Created"},
		{asking("POST", "Observation", observation(urn)), "400 Bad Request"},
		{asking("POST", "AuditEvent", `{"resourceType":"AuditEvent"}`), "405 Method Not Allowed"},
		{asking("PATCH", "Patient/"+made, `{"resourceType":"Binary","contentType":"application/json-patch+json","data":"W3sib3AiOiJhZGQiLCJwYXRoIjoiL2FjdGl2ZSIsInZhbHVlIjp0cnVlfV0="}`), "200 OK"},
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.entry)
	}
	w := c.must(200, "POST", "", posting("batch", all...))
	b := shown(t, w)
	if at(b, "type") != "batch-response" {
		t.Errorf("type %v", at(b, "type"))
	}
	for i, e := range entries {
		if got := at(b, "entry", i, "response", "status"); got != e.status {
			t.Errorf("%s: got %v %v, want %s", e.entry, got, at(b, "entry", i, "response", "outcome"), e.status)
		}
	}
	if len(a.alerts) != 1 || a.alerts[0].Addressed != storetest.A2 {
		t.Errorf("alerts %v", a.alerts)
	}
}

// H-41, H-43, H-45
func TestATransactionLinksItsEntriesWhateverTheirOrder(t *testing.T) {
	a := newAPI(t)
	for _, slug := range storetest.Slugs[:3] {
		t.Run(slug, func(t *testing.T) {
			c := a.client(t, slug, all)
			gone, kept, family := fresh(), fresh(), fresh()
			c.must(201, "PUT", "/Patient/"+gone, patient(gone, "gone"))
			w := c.must(200, "POST", "", posting("transaction",
				asking("GET", "Patient?family="+family, ""),
				called("urn:uuid:o", asking("POST", "Observation", observation("urn:uuid:p"))),
				called("http://elsewhere.example/fhir/Observation/1", asking("POST", "Observation", observation("Patient/1"))),
				called("http://elsewhere.example/fhir/Patient/1", asking("PUT", "Patient/"+kept, patient(kept, family))),
				called("urn:uuid:p", asking("POST", "Patient", strings.Replace(patient("", family), `"name"`, `"link":[{"other":{"reference":"urn:uuid:q"},"type":"seealso"}],"name"`, 1))),
				called("urn:uuid:q", asking("POST", "Patient", strings.Replace(patient("", family), `"name"`, `"link":[{"other":{"reference":"urn:uuid:p"},"type":"seealso"}],"name"`, 1))),
				asking("DELETE", "Patient/"+gone, ""),
			), "Prefer", "return=representation")
			b := shown(t, w)
			if n := len(at(b, "entry", 0, "resource", "entry").([]any)); n != 3 {
				t.Errorf("the search sees %d of 3 written resources", n)
			}
			p := "Patient/" + at(b, "entry", 4, "resource", "id").(string)
			q := "Patient/" + at(b, "entry", 5, "resource", "id").(string)
			if got := at(b, "entry", 1, "resource", "subject", "reference"); got != p {
				t.Errorf("subject is %v, want %s", got, p)
			}
			if got := at(b, "entry", 2, "resource", "subject", "reference"); got != "Patient/"+kept {
				t.Errorf("subject is %v, want that of the entry's own base", got)
			}
			if at(b, "entry", 4, "resource", "link", 0, "other", "reference") != q || at(b, "entry", 5, "resource", "link", 0, "other", "reference") != p {
				t.Errorf("a circle of references is broken: %v", b)
			}
			for i, want := range []string{"200 OK", "201 Created", "201 Created", "201 Created", "201 Created", "201 Created", "204 No Content"} {
				if got := at(b, "entry", i, "response", "status"); got != want {
					t.Errorf("entry %d: got %v, want %s", i, got, want)
				}
			}
			if got := at(b, "entry", 4, "response", "location"); got != baseOf(slug)+"/"+p+"/_history/1" {
				t.Errorf("location %v", got)
			}
			c.must(410, "GET", "/Patient/"+gone, "")
		})
	}
}

// H-44, H-45
func TestATransactionResolvesCriteria(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.S1, all)
	known, unknown := fresh(), fresh()
	id := at(shown(t, c.must(201, "POST", "/Patient", patient("", known))), "id").(string)
	query := func(family string) string { return "Patient?identifier=mrn|" + family }
	w := c.must(200, "POST", "", posting("transaction",
		called("urn:uuid:known", asking("POST", "Patient", patient("", known), `"ifNoneExist":"identifier=mrn|`+known+`"`)),
		called("urn:uuid:unknown", asking("POST", "Patient", patient("", unknown), `"ifNoneExist":"identifier=mrn|`+unknown+`"`)),
		asking("POST", "Observation", observation("urn:uuid:known")),
		asking("POST", "Observation", observation("urn:uuid:unknown")),
		asking("POST", "Observation", observation(query(known))),
		asking("POST", "Observation", observation(query(unknown))),
	), "Prefer", "return=representation")
	b := shown(t, w)
	if at(b, "entry", 0, "response", "status") != "200 OK" || at(b, "entry", 1, "response", "status") != "201 Created" {
		t.Errorf("got %v", b)
	}
	made := at(b, "entry", 1, "resource", "id").(string)
	for i, want := range map[int]string{2: id, 3: made, 4: id, 5: made} {
		if got := at(b, "entry", i, "resource", "subject", "reference"); got != "Patient/"+want {
			t.Errorf("entry %d refers to %v, want Patient/%s", i, got, want)
		}
	}
	// A conditional update gives its fullUrl the name of what it found.
	w = c.must(200, "POST", "", posting("transaction",
		called("urn:uuid:p", asking("PUT", query(known), patient("", known))),
		asking("POST", "Observation", observation("urn:uuid:p")),
	), "Prefer", "return=representation")
	if got := at(shown(t, w), "entry", 1, "resource", "subject", "reference"); got != "Patient/"+id {
		t.Errorf("got %v", got)
	}
	c.must(201, "POST", "/Patient", patient("", known))
	for _, tt := range []struct {
		claim string
		entry string
	}{
		{"no match", asking("POST", "Observation", observation(query(fresh())))},
		{"two matches", asking("POST", "Observation", observation(query(known)))},
		{"two matches of a create", asking("POST", "Patient", patient("", known), `"ifNoneExist":"identifier=mrn|`+known+`"`)},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			c.t = t
			w := c.must(412, "POST", "", posting("transaction", tt.entry))
			if got := at(shown(t, w), "issue", 0, "expression", 0); got != "Bundle.entry[0]" {
				t.Errorf("got %s", w.Body)
			}
		})
	}
}

// H-40, H-41, H-43, T129
func TestATransactionDoesAllOrNothing(t *testing.T) {
	a := newAPI(t, func(c *Config) { c.Limits.Entries = 50 })
	c := a.client(t, storetest.D1, all)
	good := func(family string) []string {
		var entries []string
		for range 20 {
			entries = append(entries, asking("POST", "Patient", patient("", family)))
		}
		return entries
	}
	stored := fresh()
	c.must(201, "PUT", "/Patient/"+stored, patient(stored, "x"))
	for _, tt := range []struct {
		claim   string
		entries []string
		want    int
		at      string
	}{
		{"an invalid resource", []string{asking("POST", "Patient", `{"resourceType":"Patient","birthDate":"x"}`)}, 422, "Bundle.entry[20].resource.birthDate"},
		{"an unknown version", []string{asking("PUT", "Patient/"+stored, patient(stored, "y"), `"ifMatch":"W/\"9\""`)}, 412, "Bundle.entry[20]"},
		{"a read of what is not there", []string{asking("GET", "Patient/"+fresh(), "")}, 404, "Bundle.entry[20]"},
		{"a reference to no entry", []string{asking("POST", "Observation", observation("urn:uuid:nowhere"))}, 400, "Bundle.entry[20].resource"},
		{"a name twice", []string{called(urn, asking("POST", "Patient", patient("", "x"))), called(urn, asking("POST", "Patient", patient("", "x")))}, 400, "Bundle.entry[21].fullUrl"},
		{"a resource twice", []string{asking("PUT", "Patient/7", patient("7", "x")), asking("DELETE", "Patient/7", "")}, 400, "Bundle.entry[21].request.url"},
		{"a resource twice, once by criteria", []string{asking("DELETE", "Patient/"+stored, ""), asking("PUT", "Patient?_id="+stored, patient(stored, "x"))}, 400, ""},
		{"a resource twice, first by criteria", []string{asking("DELETE", "Patient?_id="+stored, ""), asking("PUT", "Patient/"+stored, patient(stored, "x"))}, 400, "Bundle.entry[20]"},
		{"an update without a resource", []string{asking("PUT", "Patient/7", "")}, 400, "Bundle.entry[20]"},
		{"an unknown type", []string{asking("GET", "Nonsense/7", "")}, 404, "Bundle.entry[20].request.url"},
		{"another tenant", []string{asking("GET", baseOf(storetest.A1)+"/Patient/7", "")}, 400, "Bundle.entry[20].request.url"},
		{"a transaction", []string{asking("POST", "", posting("transaction"))}, 400, "Bundle.entry[20].request.url"},
		{"the same criteria twice", []string{
			asking("POST", "Patient", patient("", "x"), `"ifNoneExist":"family=`+fresh()+`x"`),
			asking("POST", "Patient", patient("", "x"), `"ifNoneExist":"nonsense=1"`),
		}, 400, "Bundle.entry[21].request"},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			c.t = t
			family := fresh()
			w := c.must(tt.want, "POST", "", posting("transaction", append(good(family), tt.entries...)...))
			o := shown(t, w)
			if at(o, "resourceType") != "OperationOutcome" || tt.at != "" && at(o, "issue", 0, "expression", 0) != tt.at {
				t.Errorf("got %s, want %s", w.Body, tt.at)
			}
			if s := shown(t, c.must(200, "GET", "/Patient?family="+family, "")); at(s, "total") != 0.0 {
				t.Errorf("something was stored: %v", s)
			}
		})
	}
	c.t = t
	w := c.must(422, "POST", "", posting("transaction",
		asking("POST", "Patient", `{"resourceType":"Patient","birthDate":"x"}`), asking("POST", "Patient", `{"resourceType":"Patient","gender":"x"}`)))
	if n := len(at(shown(t, w), "issue").([]any)); n != 2 {
		t.Errorf("%d faults reported of 2: %s", n, w.Body)
	}
	c.must(413, "POST", "", posting("transaction", append(append(good("x"), good("x")...), good("x")...)...))
}

// H-46, T116
func TestEveryEntryNeedsItsOwnScope(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.A1, "system/Patient.crus")
	family := fresh()
	c.must(403, "POST", "", posting("transaction", asking("POST", "Patient", patient("", family)), asking("POST", "Organization", `{"resourceType":"Organization","name":"x"}`)))
	if s := shown(t, c.must(200, "GET", "/Patient?family="+family, "")); at(s, "total") != 0.0 {
		t.Errorf("something was stored: %v", s)
	}
	b := shown(t, c.must(200, "POST", "", posting("batch", asking("POST", "Patient", patient("", family)), asking("POST", "Organization", `{"resourceType":"Organization","name":"x"}`))))
	if at(b, "entry", 0, "response", "status") != "201 Created" || at(b, "entry", 1, "response", "status") != "403 Forbidden" {
		t.Errorf("got %v", b)
	}
}

// T130: two transactions that take the same resources in opposite order both
// end, and none is half done.
func TestTransactionsInOppositeOrderDoNotBlockEachOther(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.A1, all)
	x, y := fresh(), fresh()
	c.must(200, "POST", "", posting("transaction", asking("PUT", "Patient/"+x, patient(x, "v")), asking("PUT", "Patient/"+y, patient(y, "v"))))
	var wg sync.WaitGroup
	for n := range 40 {
		wg.Go(func() {
			first, second := x, y
			if n%2 == 0 {
				first, second = y, x
			}
			v := fmt.Sprint("v", n)
			if w := c.do("POST", "", posting("transaction", asking("PUT", "Patient/"+first, patient(first, v)), asking("PUT", "Patient/"+second, patient(second, v)))); w.Code != 200 && w.Code != 409 {
				t.Errorf("got %d %s", w.Code, w.Body)
			}
		})
	}
	wg.Wait()
	one, two := shown(t, c.must(200, "GET", "/Patient/"+x, "")), shown(t, c.must(200, "GET", "/Patient/"+y, ""))
	if at(one, "name", 0, "family") != at(two, "name", 0, "family") || at(one, "meta", "versionId") != at(two, "meta", "versionId") {
		t.Errorf("half done: %v %v", one, two)
	}
}

// C3, AUD-02, GOV-04, T270, T272: every request has one entry in the trail of
// the actor's tenant, and each entry of a Bundle has one linked to it.
func TestEveryRequestHasOneAuditEvent(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.S2, all)
	auditor := a.client(t, storetest.S2, "system/AuditEvent.rs", func(tok *smart.Token) { tok.Client = "auditor" })
	who := fresh()
	c.bearer = a.token(t, storetest.S2, all, func(tok *smart.Token) { tok.Client, tok.Subject = who, who })
	id := fresh()
	asked := 0
	ask := func(status int, method, path, body string, headers ...string) {
		t.Helper()
		asked++
		c.must(status, method, path, body, headers...)
	}
	ask(201, "PUT", "/Patient/"+id, patient(id, "x"))
	ask(200, "GET", "/Patient/"+id, "")
	ask(304, "GET", "/Patient/"+id, "", "If-None-Match", "*")
	ask(404, "GET", "/Patient/"+fresh(), "")
	ask(200, "GET", "/Patient?_id="+id, "")
	ask(200, "GET", "/Patient/"+id+"/_history", "")
	ask(400, "GET", "/Patient?nonsense=1", "")
	ask(400, "POST", "/Patient", "{")
	ask(422, "POST", "/Patient", `{"resourceType":"Patient","birthDate":"x"}`)
	ask(405, "POST", "/Patient/"+id, patient(id, "x"))
	ask(404, "GET", "/nowhere/at/all/x/y/z", "")
	ask(406, "GET", "/Patient/"+id, "", "Accept", "text/turtle")
	ask(414, "GET", "/Patient?family="+strings.Repeat("x", MaxURL), "")
	ask(414, "GET", "/Patient/"+strings.Repeat("x", MaxURL), "")
	ask(204, "OPTIONS", "/Patient", "")
	asked-- // nobody's, without a token
	ask(200, "POST", "", posting("batch", asking("GET", "Patient/"+id, ""), asking("GET", "Patient/"+fresh(), ""), asking("POST", "Patient", "{}")))
	ask(200, "POST", "", posting("transaction", asking("GET", "Patient/"+id, ""), asking("POST", "Patient", patient("", "x"))))
	ask(422, "POST", "", posting("transaction", asking("POST", "Patient", `{"resourceType":"Patient","birthDate":"x"}`)))
	ask(204, "DELETE", "/Patient/"+id, "")
	elsewhere := *c
	elsewhere.slug = storetest.A1
	asked++
	elsewhere.must(403, "GET", "/Patient/"+id, "")

	s := shown(t, auditor.must(200, "GET", "/AuditEvent?agent="+who+"&_count=1000", ""))
	entries := at(s, "entry").([]any)
	// The batch has three linked entries, the transaction two.
	if got, want := len(entries), asked+5; got != want {
		t.Errorf("%d entries, want %d", got, want)
		for _, e := range entries {
			t.Log(at(e, "resource", "subtype", 0, "code"), at(e, "resource", "outcome"), at(e, "resource", "outcomeDesc"))
		}
	}
	first := at(s, "entry", 0, "resource", "id").(string)
	auditor.must(200, "GET", "/AuditEvent/"+first, "")
	auditor.must(200, "GET", "/AuditEvent?entity=Patient/"+id+"&action=C&outcome=0&date=gt2020", "")
	if s := shown(t, auditor.must(200, "GET", "/AuditEvent?_id="+first, "")); at(s, "entry", 0, "resource", "id") != first {
		t.Errorf("by id: %v", s)
	}
	if s := shown(t, auditor.must(200, "GET", "/AuditEvent?_id="+fresh(), "")); at(s, "entry") != nil {
		t.Errorf("by an id that nothing has: %v", s)
	}
	s = shown(t, auditor.must(200, "GET", "/AuditEvent?agent="+who+"&_count=2&_elements=action", ""))
	next, _ := at(s, "link", 2, "url").(string)
	s = shown(t, auditor.must(200, "GET", strings.TrimPrefix(next, baseOf(storetest.S2)), ""))
	if len(at(s, "entry").([]any)) != 2 || at(s, "entry", 0, "resource", "meta", "tag", 0, "code") != "SUBSETTED" {
		t.Errorf("the second page: %v", s)
	}
	auditor.must(400, "GET", "/AuditEvent?entity=x/y", "")
	auditor.must(400, "GET", "/AuditEvent?date=xx2020", "")
	auditor.must(404, "GET", "/AuditEvent/"+fresh(), "")
	a.client(t, storetest.S2, "system/Patient.rs").must(403, "GET", "/AuditEvent", "")
}

// The main job: real records go in whole and are found again.
func TestRealRecordsAreLoadedAndFound(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(fhirtest.Path(t, "synthea"), "*.json"))
	if err != nil || len(files) == 0 {
		t.Skip("there are no Synthea records: set CORDON_TEST_DATA")
	}
	a := newAPI(t)
	resources, took := 0, time.Duration(0)
	for i, slug := range storetest.Slugs[:3] {
		c := a.client(t, slug, all)
		raw, err := os.ReadFile(files[i])
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		b := shown(t, c.must(200, "POST", "", string(raw)))
		took += time.Since(begun)
		n := len(at(b, "entry").([]any))
		resources += n
		location := at(b, "entry", 0, "response", "location").(string)
		id := strings.Split(strings.TrimPrefix(location, baseOf(slug)+"/Patient/"), "/")[0]
		got := 0
		for path := "/Patient/" + id + "/*?_count=100"; path != ""; {
			s := shown(t, c.must(200, "GET", path, ""))
			got += len(at(s, "entry").([]any))
			next, _ := at(s, "link", 2, "url").(string)
			path = strings.TrimPrefix(next, baseOf(slug))
		}
		if got < n/2 {
			t.Errorf("%s: the compartment has %d of %d resources", slug, got, n)
		}
		s := shown(t, c.must(200, "GET", "/Observation?patient="+id+"&_include="+url.QueryEscape("Observation:patient")+"&_count=5", ""))
		if at(s, "entry", 5, "search", "mode") != "include" {
			t.Errorf("no included patient: %v", at(s, "entry", 5))
		}
	}
	t.Logf("%d resources in %v: %.0f/s", resources, took.Round(time.Millisecond), float64(resources)/took.Seconds())
}

// FuzzBundle holds that a transaction that any Bundle asks for is planned or
// refused with an error for the client.
func FuzzBundle(f *testing.F) {
	f.Add([]byte(posting("transaction", called(urn, asking("POST", "Patient", patient("", "x"))), asking("POST", "Observation", observation(urn)))))
	f.Add([]byte(posting("transaction", asking("PUT", "Patient?_id=7", patient("7", "x"), `"ifMatch":"W/\"1\""`), asking("DELETE", "Patient/8", ""))))
	f.Add([]byte(posting("transaction", asking("GET", "Patient?_page=x", ""), asking("PATCH", "Patient/8", `{"resourceType":"Binary","contentType":"application/json-patch+json","data":"W10="}`))))
	f.Add([]byte(`{"resourceType":"Bundle","entry":[null,1,[],{"request":[],"resource":null},{"request":{"url":1,"method":{}}}]}`))
	s := &server{routes: newRouter(), Config: Config{Base: baseOf, Alert: func(smart.Alert) {}, Limits: Limits{}.orDefault()}}
	f.Fuzz(func(t *testing.T, body []byte) {
		d, err := fhir.Parse(body, fhir.Limits{Bytes: 1 << 16})
		if err != nil {
			return
		}
		req := &request{slug: storetest.A1, base: baseOf(storetest.A1), grant: &smart.Grant{}, limits: &s.Limits, now: time.Now, document: d, rules: ofCore}
		p := plan{server: s, outer: req, entries: parseEntries(member(d.JSON, "entry"))}
		if err := p.make(t.Context()); err != nil && !isClientError(err) {
			t.Errorf("got %v", err)
		}
	})
}

// H-31: a reference to the version that a transaction is about to make becomes
// one to it, be it created, updated or found.
func TestReferencesToVersionsAreToThoseThatATransactionMakes(t *testing.T) {
	a := newAPI(t)
	for _, slug := range storetest.Slugs[:3] {
		c := a.client(t, slug, all)
		id, other, found := fresh(), fresh(), fresh()
		for range 2 {
			c.do("PUT", "/Patient/"+id, patient(id, id))
			c.do("PUT", "/Patient/"+found, patient(found, found))
		}
		sent := strings.Replace(patient(id, id), `"name"`, `"meta":{"versionId":"2"},"name"`, 1)
		provenance := `{"resourceType":"Provenance","recorded":"2020-01-01T00:00:00Z","agent":[{"who":{"display":"x"}}],"target":[` +
			`{"reference":"urn:uuid:0b6a1c2e-0000-4000-8000-000000000001/_history/1"},` + // an update
			`{"reference":"Patient/` + id + `/_history/1"},` + // a version there was
			`{"reference":"Patient/` + other + `/_history/9"},` + // none of the Bundle's
			`{"reference":"urn:uuid:0b6a1c2e-0000-4000-8000-000000000003/_history/1"},` + // a conditional update
			`{"reference":"urn:uuid:0b6a1c2e-0000-4000-8000-000000000004/_history/1"},` + // a conditional create that finds
			`{"reference":"urn:uuid:0b6a1c2e-0000-4000-8000-000000000005/_history/7"}]}` // a create
		w := c.must(200, "POST", "", `{"resourceType":"Bundle","type":"transaction","entry":[`+
			`{"fullUrl":"urn:uuid:0b6a1c2e-0000-4000-8000-000000000001","resource":`+sent+`,"request":{"method":"PUT","url":"Patient/`+id+`"}},`+
			`{"fullUrl":"urn:uuid:0b6a1c2e-0000-4000-8000-000000000002","resource":`+provenance+`,"request":{"method":"POST","url":"Provenance"}},`+
			`{"fullUrl":"urn:uuid:0b6a1c2e-0000-4000-8000-000000000003","resource":`+patient("", "new"+other)+`,"request":{"method":"PUT","url":"Patient?identifier=mrn|new`+other+`"}},`+
			`{"fullUrl":"urn:uuid:0b6a1c2e-0000-4000-8000-000000000004","resource":`+patient("", found)+`,"request":{"method":"POST","url":"Patient","ifNoneExist":"identifier=mrn|`+found+`"}},`+
			`{"fullUrl":"urn:uuid:0b6a1c2e-0000-4000-8000-000000000005","resource":`+patient("", "x")+`,"request":{"method":"POST","url":"Patient"}}]}`)
		answer := shown(t, w)
		location := func(i int) string {
			return strings.TrimPrefix(at(answer, "entry", i, "response", "location").(string), baseOf(slug)+"/")
		}
		made := shown(t, c.must(200, "GET", "/"+strings.Split(location(1), "/_history")[0], ""))
		for i, want := range []string{"Patient/" + id + "/_history/3", "Patient/" + id + "/_history/1", "Patient/" + other + "/_history/9",
			location(2), "Patient/" + found + "/_history/2", location(4)} {
			if got := at(made, "target", i, "reference"); got != want {
				t.Errorf("%s: reference %d is %v, want %s", slug, i, got, want)
			}
		}
		// By the URL of the resource it is the version that the client says it sends.
		by := `{"resourceType":"Provenance","id":"` + id + `","recorded":"2020-01-01T00:00:00Z","agent":[{"who":{"display":"x"}}],"target":[{"reference":"Patient/` + id + `/_history/2"},{"reference":"Patient/` + id + `/_history/1"}]}`
		c.must(200, "POST", "", `{"resourceType":"Bundle","type":"transaction","entry":[`+
			`{"fullUrl":"`+baseOf(slug)+`/Provenance/`+id+`","resource":`+by+`,"request":{"method":"PUT","url":"Provenance/`+id+`"}},`+
			`{"fullUrl":"`+baseOf(slug)+`/Patient/`+id+`","resource":`+sent+`,"request":{"method":"PUT","url":"Patient/`+id+`"}}]}`)
		made = shown(t, c.must(200, "GET", "/Provenance/"+id, ""))
		if at(made, "target", 0, "reference") != "Patient/"+id+"/_history/4" || at(made, "target", 1, "reference") != "Patient/"+id+"/_history/1" {
			t.Errorf("%s: %v", slug, at(made, "target"))
		}
	}
}
