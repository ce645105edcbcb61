package rest

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/bulk"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// importer is the scope of a client that imports.
const importer = "system/*.cruds"

// importing is the body of an import of inputs, each "Type name".
func importing(mode string, inputs ...string) string {
	parts := []string{`{"name":"inputFormat","valueCode":"application/fhir+ndjson"}`, `{"name":"mode","valueCode":"` + mode + `"}`}
	for _, in := range inputs {
		typ, name, _ := strings.Cut(in, " ")
		parts = append(parts, `{"name":"input","part":[{"name":"type","valueCode":"`+typ+`"},{"name":"url","valueUri":"`+name+`"}]}`)
	}
	return `{"resourceType":"Parameters","parameter":[` + strings.Join(parts, ",") + `]}`
}

// kickImport asks for an import and returns where its state is.
func (c *client) kickImport(body string) string {
	c.t.Helper()
	w := c.must(202, "POST", "/$import", body, "Prefer", "respond-async")
	where, ok := strings.CutPrefix(w.Header().Get("Content-Location"), baseOf(c.slug))
	if !ok || !strings.HasPrefix(where, "/_import/") || w.Body.Len() > 0 {
		c.t.Fatalf("%v %s", w.Header(), w.Body)
	}
	return where
}

// upload gives an import its input n.
func (c *client) upload(status int, where string, n int, content string) {
	c.t.Helper()
	c.must(status, "PUT", fmt.Sprintf("%s/%d", where, n), content, "Content-Type", ndjson)
}

// imported waits for an import and returns its manifest.
func (c *client) imported(where string) (m bulk.ImportManifest) {
	c.t.Helper()
	w := c.exported(where)
	if w.Code != 200 || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Expires") == "" {
		c.t.Fatalf("%d %v %s\n%s", w.Code, w.Header(), w.Body, c.logged)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil {
		c.t.Fatal(err)
	}
	return m
}

// importOne imports one input and returns how many of its lines were stored, and
// what was said of the others.
func (c *client) importOne(mode, typ, content string) (stored int64, faults []string) {
	c.t.Helper()
	where := c.kickImport(importing(mode, typ+" in.ndjson"))
	c.upload(200, where, 1, content)
	m := c.imported(where)
	if len(m.Output) != 1 || string(m.Output[0].Type) != typ || m.Output[0].InputURL != "in.ndjson" {
		c.t.Fatalf("%+v", m)
	}
	return m.Output[0].Count, c.faults(m)
}

// faults returns the diagnostics in the files of an import's faults.
func (c *client) faults(m bulk.ImportManifest) (list []string) {
	c.t.Helper()
	for _, f := range m.Error {
		for _, line := range c.lines(bulk.FileItem{Type: f.Type, URL: f.URL, Count: f.Count}) {
			var o struct {
				ResourceType string
				Issue        []struct{ Severity, Code, Diagnostics string }
			}
			if err := json.Unmarshal([]byte(line), &o); err != nil || o.ResourceType != "OperationOutcome" || len(o.Issue) == 0 {
				c.t.Fatal(line, err)
			}
			list = append(list, o.Issue[0].Code+" "+o.Issue[0].Diagnostics)
		}
	}
	return list
}

// lined puts each resource on a line of its own.
func lined(resources ...string) string { return strings.Join(resources, "\n") + "\n" }

// BULK-08: an import stores what is on the lines of what is uploaded, in every
// mode: what is new and what is the next version; its state and its files are its
// client's alone.
func TestAnImportStoresWhatIsOnTheLines(t *testing.T) {
	a := newAPI(t)
	for _, slug := range storetest.Slugs {
		t.Run(slug, func(t *testing.T) {
			c := a.client(t, slug, importer)
			id := fresh()
			c.must(201, "PUT", "/Patient/"+id+"-0", patient(id+"-0", "Before"))
			where := c.kickImport(importing("upsert", "Observation observations.ndjson", "Patient patients.ndjson"))
			if w := c.do("GET", where, ""); w.Code != 202 || w.Header().Get("X-Progress") != "0 of 2 inputs are here" {
				t.Errorf("%d %v", w.Code, w.Header())
			}
			stranger := a.client(t, slug, importer, func(tok *smart.Token) { tok.Client = "other" })
			stranger.upload(404, where, 1, "")
			stranger.upload(404, where, 1, lined(patient(id, "x")))
			var patients, observations []string
			for i := range 1200 { // more than two batches
				p := fmt.Sprintf("%s-%d", id, i)
				patients = append(patients, patient(p, "After"))
				observations = append(observations, `{"resourceType":"Observation","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/`+p+`"}}`)
			}
			c.upload(200, where, 1, lined(observations...)) // which refer to what comes later
			c.upload(409, where, 1, lined(observations...))
			c.upload(404, where, 3, "")
			c.upload(200, where, 2, "\ufeff"+strings.Join(patients, "\r\n\r\n"))
			m := c.imported(where)
			if m.Request != baseOf(slug)+"/$import" || len(m.Output) != 2 || m.Output[0].Count != 1200 || m.Output[1].Count != 1200 || len(m.Error) != 0 {
				t.Fatalf("%+v %v", m, c.faults(m))
			}
			if got := c.must(200, "GET", "/Patient?_summary=count&family=After&_id="+id+"-0,"+id+"-1199", "").Body.String(); !strings.Contains(got, `"total":2`) {
				t.Error(got)
			}
			if got := c.must(200, "GET", "/Observation?_summary=count&subject=Patient/"+id+"-7", "").Body.String(); !strings.Contains(got, `"total":1`) {
				t.Error(got)
			}
			if v := c.must(200, "GET", "/Patient/"+id+"-0", "").Header().Get("ETag"); v != `W/"2"` {
				t.Errorf("what was there is at %s", v)
			}
			stranger.must(404, "GET", where, "")
			stranger.must(404, "DELETE", where, "")
			c.must(202, "DELETE", where, "")
			c.must(404, "GET", where, "")
		})
	}
}

// BULK-08, T172: a line that a create or update by the same client would be refused
// for is a fault, which names the file and the line and no value; the others are
// stored.
func TestAnImportSaysOfEachLineWhyItWasRefused(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.A1, importer)
	id := fresh()
	long := `{"resourceType":"Patient","id":"` + id + `-long","name":[{"family":"` + strings.Repeat("x", bulk.MaxLine) + `"}]}`
	stored, faults := c.importOne("upsert", "Patient", lined(
		patient(id+"-1", "Canary"),
		`{"resourceType":"Patient","id":"`+id+`-2","birthDate":"Canary"}`,
		`{"resourceType":"Observation","status":"final","code":{"text":"Canary"}}`,
		`not JSON: Canary`,
		`{}`,
		``,
		`{"resourceType":"Patient","id":"Canary/../x"}`,
		`{"resourceType":"Patient","id":"`+id+`-3","name":[{"family":"`+"\xff"+`"}]}`,
		long,
		patient(id+"-4", "Canary"),
		"\x00",
	)+patient(id+"-5", "Canary")) // and no newline at the end
	if stored != 3 {
		t.Errorf("%d stored", stored)
	}
	var lines []string
	for _, f := range faults {
		if strings.Contains(f, "Canary") || strings.Contains(f, id) {
			t.Errorf("a fault tells what is on the line: %s", f)
		}
		_, rest, _ := strings.Cut(f, " ")
		where, _, _ := strings.Cut(rest, ":")
		lines = append(lines, where)
	}
	if want := []string{"in.ndjson line 2", "in.ndjson line 3", "in.ndjson line 4", "in.ndjson line 5", "in.ndjson line 7", "in.ndjson line 8", "in.ndjson line 9", "in.ndjson line 11"}; !slices.Equal(lines, want) {
		t.Errorf("%q", faults)
	}
	for _, n := range []string{"-1", "-4", "-5"} {
		c.must(200, "GET", "/Patient/"+id+n, "")
	}
	for _, n := range []string{"-2", "-3", "-long"} {
		c.must(404, "GET", "/Patient/"+id+n, "")
	}
}

// BULK-08: an import that only creates leaves what is there as it is.
func TestAnImportThatOnlyCreatesLeavesWhatIsThere(t *testing.T) {
	c := newAPI(t).client(t, storetest.A1, importer)
	id := fresh()
	c.must(201, "PUT", "/Patient/"+id+"-there", patient(id+"-there", "Before"))
	stored, faults := c.importOne("create", "Patient", lined(
		patient(id+"-there", "After"), patient(id+"-new", "First"), patient(id+"-new", "Second"), `{"resourceType":"Patient"}`))
	if stored != 2 || len(faults) != 2 || !strings.HasPrefix(faults[0], "conflict in.ndjson line 1:") || !strings.HasPrefix(faults[1], "conflict in.ndjson line 3:") {
		t.Errorf("%d stored, %q", stored, faults)
	}
	for name, family := range map[string]string{"-there": "Before", "-new": "First"} {
		w := c.must(200, "GET", "/Patient/"+id+name, "")
		if !strings.Contains(w.Body.String(), family) || w.Header().Get("ETag") != `W/"1"` {
			t.Errorf("%s: %v %s", name, w.Header(), w.Body)
		}
	}
}

// BULK-08, AUTHZ-03: an import does no more than its client may: without a scope
// for the type it does not begin, and what the policy hides from it neither is
// overwritten nor tells that it is there.
func TestAnImportDoesWhatItsClientMay(t *testing.T) {
	a := newAPI(t)
	g := govern(t, a, "import-narrow", `
		@id("narrow")
		permit (principal == Client::"narrow", action, resource is Patient) when { ["seen", "never"].contains(resource.id) };
		@id("service")
		permit (principal in Role::"service", action, resource);`)
	by := func(client, scope string) *client {
		return a.client(t, g.slug, scope, func(tok *smart.Token) { tok.Client, tok.Subject = client, client })
	}
	g.has("Patient/hidden", `"name":[{"family":"Before"}]`, "Patient/seen", `"active":true`)
	for _, scope := range []string{"system/*.rs", "system/Observation.cruds"} {
		by("narrow", scope).must(403, "POST", "/$import", importing("upsert", "Patient in.ndjson"), "Prefer", "respond-async")
	}
	c := by("narrow", importer)
	stored, faults := c.importOne("upsert", "Patient", lined(patient("hidden", "After"), patient("absent", "After"), patient("seen", "After"), `{"resourceType":"Patient"}`))
	if stored != 1 || len(faults) != 3 || faults[0] != strings.Replace(faults[1], "line 2", "line 1", 1) || !strings.HasPrefix(faults[0], "not-found ") || !strings.HasPrefix(faults[2], "forbidden ") {
		t.Errorf("%d stored, %q", stored, faults)
	}
	if got := g.service().must(200, "GET", "/Patient/hidden", ""); !strings.Contains(got.Body.String(), "Before") || got.Header().Get("ETag") != `W/"1"` {
		t.Errorf("it was overwritten: %s", got.Body)
	}
	auditor := g.client(t, g.slug, "system/AuditEvent.rs", func(tok *smart.Token) { tok.Person.Roles = []string{"service"} })
	if entries := fmt.Sprint(shown(t, auditor.must(200, "GET", "/AuditEvent?patient=Patient/seen&agent=narrow", ""))); !strings.Contains(entries, "narrow") {
		t.Errorf("the trail of the patient: %s", entries)
	}
}

// BULK-08, T174: what is uploaded may be in gzip; what is cut off, is no gzip, or
// unpacks to far more than it is, is refused, and the input can be sent again.
func TestAnUploadIsTakenWholeOrNotAtAll(t *testing.T) {
	c := newAPI(t).client(t, storetest.A1, importer)
	id := fresh()
	packed := func(text string) string {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		z.Write([]byte(text))
		z.Close()
		return b.String()
	}
	where := c.kickImport(importing("upsert", "Patient in.ndjson"))
	whole := packed(lined(patient(id, "x")))
	c.upload(400, where, 1, whole[:len(whole)-9])
	c.upload(400, where, 1, "\x1f\x8bnonsense")
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	if _, err := io.CopyN(z, zeros{}, 300<<20); err != nil {
		t.Fatal(err)
	}
	z.Close()
	c.upload(413, where, 1, bomb.String())
	c.must(415, "PUT", where+"/1", whole, "Content-Type", "text/html")
	c.must(415, "PUT", where+"/1", whole, "Content-Type", ndjson, "Content-Encoding", "br")
	c.must(404, "PUT", where+"/01", whole, "Content-Type", ndjson)
	c.must(200, "PUT", where+"/1", whole, "Content-Type", ndjson, "Content-Encoding", "gzip")
	if m := c.imported(where); m.Output[0].Count != 1 || len(m.Error) != 0 {
		t.Errorf("%+v", m)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// BULK-08: the import of a client that is disabled ends, and what was uploaded goes
// with it.
func TestAnImportOfWhoMayNoLongerAskEnds(t *testing.T) {
	on := storetest.New(t).Tenant(t, storetest.D1)
	leaver, s, disable, release := mayLeave(t, on, "import-leaver", importer)
	files := leaver.fileCount(t, storetest.D1)
	id := fresh()
	where := leaver.kickImport(importing("upsert", "Patient in.ndjson"))
	leaver.upload(200, where, 1, lined(patient(id, "x")))
	if n := leaver.fileCount(t, storetest.D1); n != files+1 {
		t.Errorf("%d files of the upload", n-files)
	}
	disable()
	if err := s.work(took(t, s, on), on); err != nil {
		t.Fatal(err)
	}
	if err := s.DB.Sweep(t.Context(), on); err != nil {
		t.Fatal(err)
	}
	if n := leaver.fileCount(t, storetest.D1); n != files {
		t.Errorf("%d files are left", n-files)
	}
	release()
	newAPI(t).client(t, storetest.D1, all).must(404, "GET", "/Patient/"+id, "")
}

// BULK-08: the rights of who asked are looked at for each batch: once they are
// gone no further one is stored.
func TestAnImportStopsBetweenBatches(t *testing.T) {
	ctx, on := t.Context(), storetest.New(t).Tenant(t, storetest.S2)
	leaver, s, disable, _ := mayLeave(t, on, "import-stops", importer)
	var lines []string
	for range 3000 {
		lines = append(lines, `{"resourceType":"Basic","code":{"text":"x"}}`)
	}
	leaver.upload(200, leaver.kickImport(importing("upsert", "Basic in.ndjson")), 1, lined(lines...))
	w := took(t, s, on)
	c, err := s.reopen(ctx, on, w.Request)
	if err != nil {
		t.Fatal(err)
	}
	c.place, _, err = c.routes.find("POST", "/fhir/"+storetest.S2+"/$import")
	if err = errors.Join(err, c.ask(ctx), c.place.route.parse(c.req)); err != nil {
		t.Fatal(err)
	}
	j := c.importJob(w).(*bulk.ImportJob)
	read, n := j.Read, 0
	j.Read = func(ctx context.Context, on fhir.Type, line []byte) (*fhir.Document, error) {
		if n++; n == 700 {
			disable()
		}
		return read(ctx, on, line)
	}
	if done, err := j.Run(ctx, time.Minute); done || !fhir.IsCode(err, fhir.Login) {
		t.Error(done, err)
	}
	if x, err := s.DB.Importing(ctx, on, w.ID); err != nil || x[0].Lines > 1000 {
		t.Errorf("it went on: %+v %v", x, err)
	}
}

// BULK-08: an import cannot be asked for in ways that say less than it needs.
func TestAnImportIsAskedForInFull(t *testing.T) {
	c := newAPI(t).client(t, storetest.A1, importer)
	for body, want := range map[string]int{
		importing("upsert", "Nonsense in.ndjson"):                                  400,
		importing("upsert", "AuditEvent in.ndjson"):                                400,
		importing("upsert", "Patient file:///etc/passwd"):                          400,
		importing("upsert", "Patient http://169.254.169.254/latest"):               400,
		importing("upsert", "Patient ../in.ndjson"):                                400,
		importing("replace", "Patient in.ndjson"):                                  400,
		importing("upsert"):                                                        400,
		strings.Replace(importing("create", "Patient x"), "fhir+ndjson", "csv", 1): 400,
	} {
		c.must(want, "POST", "/$import", body, "Prefer", "respond-async")
	}
	c.must(400, "POST", "/$import", importing("upsert", "Patient in.ndjson"))
	c.must(405, "GET", "/$import", "", "Prefer", "respond-async")
}
