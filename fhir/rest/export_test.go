package rest

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/bulk"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/storetest"
	"github.com/cordon-fhir/cordon/tenant"
)

// kickOff asks for an export and returns where its state is.
func (c *client) kickOff(path string, headers ...string) string {
	c.t.Helper()
	return c.kickedOff("GET", path, "", headers...)
}

func (c *client) kickedOff(method, path, body string, headers ...string) string {
	c.t.Helper()
	w := c.must(202, method, path, body, append([]string{"Prefer", "respond-async"}, headers...)...)
	where, ok := strings.CutPrefix(w.Header().Get("Content-Location"), baseOf(c.slug))
	if !ok || !strings.HasPrefix(where, "/_export/") || w.Body.Len() > 0 {
		c.t.Fatalf("%s: %v %s", path, w.Header(), w.Body)
	}
	return where
}

// exported waits for an export and returns what became of it.
func (c *client) exported(where string) *httptest.ResponseRecorder {
	c.t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		w := c.do("GET", where, "")
		if w.Code != 202 && w.Code != 429 {
			return w
		}
		if w.Header().Get("Retry-After") == "" || w.Code == 202 && w.Header().Get("X-Progress") == "" || time.Now().After(end) {
			c.t.Fatalf("%d %v %s\n%s", w.Code, w.Header(), w.Body, c.logged)
		}
	}
}

func (c *client) manifest(where string) (m bulk.Manifest) {
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

// lines returns the lines of a file.
func (c *client) lines(f bulk.FileItem) []string {
	c.t.Helper()
	w := c.must(200, "GET", strings.TrimPrefix(f.URL, baseOf(c.slug)), "", "Accept", "application/fhir+ndjson")
	if w.Header().Get("Content-Type") != "application/fhir+ndjson" {
		c.t.Errorf("%v", w.Header())
	}
	list := strings.Split(strings.TrimSuffix(w.Body.String(), "\n"), "\n")
	if int64(len(list)) != f.Count {
		c.t.Errorf("%s has %d lines, the manifest says %d", f.Type, len(list), f.Count)
	}
	return list
}

// export does an export from beginning to end and returns the resources in the
// files, by name, and the deletions.
func (c *client) export(path string, headers ...string) (got map[string]map[string]any, gone []string) {
	c.t.Helper()
	return c.download(c.manifest(c.kickOff(path, headers...)))
}

func (c *client) download(m bulk.Manifest) (got map[string]map[string]any, gone []string) {
	c.t.Helper()
	got = map[string]map[string]any{}
	for _, f := range m.Output {
		for _, line := range c.lines(f) {
			var r map[string]any
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				c.t.Fatal(err)
			}
			name := fmt.Sprintf("%s/%s", r["resourceType"], r["id"])
			if r["resourceType"] != string(f.Type) || got[name] != nil {
				c.t.Errorf("%s is in a file of %s, or there twice", name, f.Type)
			}
			got[name] = r
		}
	}
	for _, f := range m.Deleted {
		for _, line := range c.lines(f) {
			var r map[string]any
			if err := json.Unmarshal([]byte(line), &r); err != nil || f.Type != "Bundle" || r["type"] != "transaction" {
				c.t.Fatal(line, err)
			}
			for _, e := range r["entry"].([]any) {
				gone = append(gone, at(e, "request", "url").(string))
			}
		}
	}
	slices.Sort(gone)
	return got, gone
}

func exportedNames(got map[string]map[string]any, prefix string) []string {
	var list []string
	for name := range got {
		if strings.HasPrefix(name, prefix) {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// fileCount is how many files there are of the tenant.
func (a *api) fileCount(t testing.TB, slug string) (n int) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(a.Files), a.Tenant(t, slug).ID.String(), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

const exporter = "system/*.rs"

// BULK-01, TEN-14, B-01, B-10, B-11, B-20, B-21: an export of the system, of all patients
// and of a group has what a search shows, once, in every mode; it is its
// client's alone, and nothing is left of it when it is cancelled.
func TestAnExportHasWhatASearchShows(t *testing.T) {
	a := newAPI(t)
	r := aRecord()
	for _, slug := range storetest.Slugs {
		t.Run(slug, func(t *testing.T) {
			staff := a.client(t, slug, all)
			r.fill(staff)
			c := a.client(t, slug, exporter)
			before := a.fileCount(t, slug)

			where := c.kickOff("/$export?_type=Patient,Observation,Practitioner")
			m := c.manifest(where)
			if !m.RequiresAccessToken || m.Error == nil || m.Request != baseOf(slug)+"/$export?_type=Patient,Observation,Practitioner" {
				t.Errorf("manifest %+v", m)
			}
			got, _ := c.download(m)
			for _, on := range []string{"Patient", "Observation", "Practitioner"} {
				want := searchAll(staff, "/"+on)
				if names := exportedNames(got, on+"/"); !slices.Equal(names, want) {
					t.Errorf("%s: exported %d, a search shows %d", on, len(names), len(want))
				}
			}

			group := fresh()
			staff.must(201, "PUT", "/Group/"+group, `{"resourceType":"Group","id":"`+group+`","type":"person","actual":true,"member":[
				{"entity":{"reference":"Patient/`+r.p+`"}},{"entity":{"reference":"Patient/`+r.other+`"},"inactive":true}]}`)
			of, _ := c.export("/Group/" + group + "/$export")
			if names := exportedNames(of, "Patient/"); !slices.Equal(names, []string{"Patient/" + r.p}) {
				t.Errorf("the group has %v", names)
			}
			if names, want := exportedNames(of, "Observation/"), searchAll(staff, "/Observation?patient="+r.p); !slices.Equal(names, want) {
				t.Errorf("observations of the group: %v, want %v", names, want)
			}
			one, _ := c.download(c.manifest(c.kickedOff("POST", "/Patient/$export", `{"resourceType":"Parameters","parameter":[
				{"name":"patient","valueReference":{"reference":"Patient/`+r.other+`"}},{"name":"_type","valueString":"Patient"}]}`)))
			if names := exportedNames(one, ""); !slices.Equal(names, []string{"Patient/" + r.other}) {
				t.Errorf("one patient: %v", names)
			}

			file := strings.TrimPrefix(m.Output[0].URL, baseOf(slug))
			never := c.must(404, "GET", "/_export/00000000-0000-4000-8000-000000000000", "").Body.String()
			others := map[string]*client{"another client": a.client(t, slug, exporter, func(tok *smart.Token) { tok.Client = "other" }), "the staff": staff}
			for _, foreign := range storetest.Slugs {
				if foreign != slug {
					others[foreign] = a.client(t, foreign, exporter)
				}
			}
			for who, o := range others {
				for _, method := range []string{"GET", "DELETE"} {
					if w := o.must(404, method, where, ""); w.Body.String() != never {
						t.Errorf("%s %s: %s", method, who, w.Body)
					}
				}
				o.must(404, "GET", file, "")
			}
			a.client(t, slug, "system/Practitioner.rs").must(403, "GET", "/_export/"+strings.Split(where, "/")[2]+"/Patient."+strings.Split(file, ".")[1]+".ndjson", "")
			c.must(404, "GET", strings.Replace(file, m.Output[0].URL[len(m.Output[0].URL)-20:len(m.Output[0].URL)-12], "00000000", 1), "")
			c.must(404, "GET", where+"/nonsense", "")

			if a.fileCount(t, slug) == before {
				t.Error("there is no file")
			}
			c.must(202, "DELETE", where, "")
			c.must(404, "GET", where, "")
			c.must(404, "DELETE", where, "")
			c.must(404, "GET", file, "")
		})
	}
}

// searchAll returns the names of all that a search finds, in order.
func searchAll(c *client, path string) []string {
	c.t.Helper()
	sep := "?"
	if strings.Contains(path, "?") {
		sep = "&"
	}
	list, _ := c.walk(path + sep + "_count=1000")
	slices.Sort(list)
	return list
}

// an export that this process works on, step by step.
type stepped struct {
	*client
	s     *server
	on    *tenant.Tenant
	where string
}

// begin asks for an export and plans it; nothing is written yet.
func begin(t testing.TB, slug, scope, path string) *stepped {
	t.Helper()
	first := newAPI(t)
	first.busy(t)
	_, s := other(t)
	x := &stepped{first.client(t, slug, scope), s, first.Tenant(t, slug), ""}
	x.where = x.kickOff(path)
	s.exports.turn = -time.Second
	x.work()
	s.exports.turn = exportTurn
	return x
}

// work works on it for a turn.
func (x *stepped) work() {
	x.t.Helper()
	if err := x.s.work(took(x.t, x.s, x.on), x.on); err != nil {
		x.t.Fatal(err)
	}
}

// BULK-05, T170: what an export shows are the resources as they were at its
// time: what was changed since as it was then, what was deleted or made since not
// at all, and what was hidden since neither.
func TestAnExportShowsOneTime(t *testing.T) {
	for _, slug := range []string{storetest.A1, storetest.S1, storetest.D1} {
		t.Run(slug, func(t *testing.T) {
			staff := newAPI(t).client(t, slug, all)
			since := time.Now().UTC()
			time.Sleep(5 * time.Millisecond)
			id := fresh()
			put := func(name, family string) { staff.must(201, "PUT", "/Patient/"+id+name, patient(id+name, family)) }
			for _, name := range []string{"stays", "changes", "goes", "returns", "again"} {
				put(name, "Then")
			}
			staff.must(204, "DELETE", "/Patient/"+id+"returns", "")
			staff.must(204, "DELETE", "/Patient/"+id+"again", "")
			put("again", "Then")

			x := begin(t, slug, exporter, "/$export?_type=Patient&_since="+since.Format(time.RFC3339Nano))
			staff.must(200, "PUT", "/Patient/"+id+"changes", patient(id+"changes", "Now"))
			staff.must(200, "PUT", "/Patient/"+id+"changes", patient(id+"changes", "Later"))
			staff.must(204, "DELETE", "/Patient/"+id+"goes", "")
			put("returns", "Now")
			put("new", "Now")
			x.work()
			m := x.manifest(x.where)
			got, gone := x.download(m)
			want := map[string]string{"stays": "1", "changes": "1", "again": "3"}
			if len(got) != len(want) {
				t.Errorf("exported %v", exportedNames(got, ""))
			}
			for name, version := range want {
				r := got["Patient/"+id+name]
				if at(r, "meta", "versionId") != version || at(r, "name", 0, "family") != "Then" {
					t.Errorf("%s: %v", name, r)
				}
			}
			if !slices.Equal(gone, []string{"Patient/" + id + "returns"}) {
				t.Errorf("deleted %v", gone)
			}
			// An export of what was changed since then goes on where this one ended.
			got, gone = x.at(newAPI(t)).export("/$export?_type=Patient&_since=" + m.TransactionTime)
			if names := exportedNames(got, ""); !slices.Equal(names, []string{"Patient/" + id + "changes", "Patient/" + id + "new", "Patient/" + id + "returns"}) {
				t.Errorf("then %v", names)
			}
			if !slices.Equal(gone, []string{"Patient/" + id + "goes"}) {
				t.Errorf("then deleted %v", gone)
			}
		})
	}
}

// partlySeen is a tenant of which the client "masked" sees no names, and "narrow" one
// Observation.
func partlySeen(t *testing.T, a *api, slug string) *governed {
	g := govern(t, a, slug, `
		@id("masked") @mask("Patient.name")
		permit (principal == Client::"masked", action in Action::"view", resource);
		@id("narrow")
		permit (principal == Client::"narrow", action in Action::"view", resource is Observation) when { ["f"].contains(resource.id) };
		@id("service")
		permit (principal in Role::"service", action, resource);`)
	g.has("Patient/p", `"name":[{"family":"Doe"}],"gender":"female"`, "Observation/f", `"status":"final","code":{"text":"x"},"subject":{"reference":"Patient/p"}`,
		"Observation/o", `"status":"preliminary","code":{"text":"x"},"subject":{"reference":"Patient/p"}`)
	return g
}

// BULK-02, AUTHZ-03: labels, consents, masks and the policy hold in an
// export as they do in a search, and patients are told of in the audit trail.
func TestAnExportHidesWhatASearchHides(t *testing.T) {
	a := newAPI(t)
	g := partlySeen(t, a, "export-masked")
	by := func(client string) *client {
		return a.client(t, g.slug, exporter, func(tok *smart.Token) { tok.Client, tok.Subject = client, client })
	}
	got, _ := by("masked").export("/$export")
	if r := got["Patient/p"]; r["name"] != nil || r["gender"] != "female" || len(got) != 3 {
		t.Errorf("masked: %v", got)
	}
	got, _ = by("narrow").export("/$export")
	if names := exportedNames(got, ""); !slices.Equal(names, []string{"Observation/f"}) {
		t.Errorf("narrow: %v", names)
	}
	by("nobody").must(403, "GET", "/$export", "", "Prefer", "respond-async")
	auditor := g.client(t, g.slug, "system/AuditEvent.rs", func(tok *smart.Token) { tok.Person.Roles = []string{"service"} })
	entries := fmt.Sprint(shown(t, auditor.must(200, "GET", "/AuditEvent?patient=Patient/p&agent=narrow", "")))
	if !strings.Contains(entries, "narrow") {
		t.Errorf("the trail of the patient: %s", entries)
	}
}

// BULK-02, T169: what a consent keeps from who asks is in no file, and a file
// that was written is not given away once a consent of a patient in it changes.
func TestAConsentIsHeldInExports(t *testing.T) {
	g := govern(t, newAPI(t), "export-consent", shipped(t, "scopes"))
	g.has(consentChart...)
	doc := g.staff("Practitioner/doc", smart.Person{}, purpose("TREAT"))
	m := doc.manifest(doc.kickOff("/Patient/$export"))
	got, _ := doc.download(m)
	if names := exportedNames(got, ""); !slices.Equal(names, []string{"Device/d", "Encounter/e", "Observation/of-p", "Observation/of-q", "Observation/old", "Observation/psy", "Patient/p", "Patient/q", "Practitioner/doc"}) {
		t.Errorf("before: %v", names)
	}
	g.has("Consent/c", consentOf(`{"type":"deny","securityLabel":[{"code":"PSY"}]}`))
	time.Sleep(10 * time.Millisecond)
	for _, f := range m.Output {
		want := 410
		if f.Type == "Practitioner" {
			want = 200
		}
		doc.must(want, "GET", strings.TrimPrefix(f.URL, baseOf(g.slug)), "")
	}
	got, _ = doc.export("/Patient/$export?_type=Observation")
	if names := exportedNames(got, ""); !slices.Equal(names, []string{"Observation/of-p", "Observation/of-q", "Observation/old"}) {
		t.Errorf("after: %v", names)
	}
	got, _ = doc.export("/Patient/$export?_type=Observation&_typeFilter=" + url.QueryEscape("Observation?date=lt2020&subject:Patient.family=Doe") +
		"&_typeFilter=" + url.QueryEscape("Observation?subject=Patient/q") + "&_elements=id,Observation.status")
	if names := exportedNames(got, ""); !slices.Equal(names, []string{"Observation/of-q", "Observation/old"}) || at(got["Observation/old"], "effectiveDateTime") != nil || at(got["Observation/old"], "status") != "final" {
		t.Errorf("filtered: %v", got)
	}
}

// B-01, B-03: what is not understood is refused at once, or passed over and told.
func TestAnExportIsRefusedOrSaysWhatItPassesOver(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.A1, exporter)
	c.must(400, "GET", "/$export", "") // without Prefer
	for _, query := range []string{
		"_outputFormat=text/csv", "_since=yesterday", "_since=2999-01-01T00:00:00Z", "_until=never", "_type=Nonsense", "_type=AuditEvent", "_type=", "nonsense=1",
		"_typeFilter=Observation", "_typeFilter=Nonsense?x=1", "_typeFilter=" + url.QueryEscape("Observation?nonsense=1"), "_typeFilter=" + url.QueryEscape("Observation?_sort=date"),
		"_type=Patient&_typeFilter=" + url.QueryEscape("Observation?status=final"), "_elements=Nonsense.x", "patient=Patient/1", "includeAssociatedData=_everything",
		"organizeOutputBy=Encounter", "organizeOutputBy=Patient&_type=Organization", "organizeOutputBy=Patient&includeAssociatedData=LatestProvenanceResources",
	} {
		if w := c.do("GET", "/$export?"+query, "", "Prefer", "respond-async"); w.Code != 400 || !strings.Contains(w.Body.String(), "OperationOutcome") {
			t.Errorf("%s: %d %s", query, w.Code, w.Body)
		}
	}
	for path, want := range map[string]int{
		"/Group/nobody/$export": 404, "/Patient/$export?_type=Organization,ValueSet": 400, "/Patient/$export?_type=ValueSet": 400, "/Observation/$export": 404,
	} {
		if w := c.do("GET", path, "", "Prefer", "respond-async"); w.Code != want {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	who := `{"resourceType":"Parameters","parameter":[{"name":"patient","valueReference":{"reference":"Patient/nobody-` + fresh() + `"}}]}`
	c.must(400, "POST", "/Patient/$export", who, "Prefer", "respond-async")
	c.must(400, "POST", "/$export", who, "Prefer", "respond-async")
	a.client(t, storetest.A1, "system/Observation.rs").must(403, "GET", "/$export?_type=Patient", "", "Prefer", "respond-async")
	a.client(t, storetest.A1, "system/Observation.rs").must(403, "GET", "/$export?_type=Observation&organizeOutputBy=Patient", "", "Prefer", "respond-async")
	w := c.must(200, "POST", "", `{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET","url":"$export"}}]}`)
	if !strings.Contains(w.Body.String(), `"status":"400`) {
		t.Errorf("in a Bundle: %s", w.Body)
	}

	m := c.manifest(c.kickOff("/$export?_type=Organization,Nonsense&nonsense=1&_outputFormat=application/fhir%2Bndjson", "Prefer", "respond-async, handling=lenient"))
	if len(m.Error) != 1 || m.Error[0].Type != "OperationOutcome" {
		t.Fatalf("passed over: %+v", m)
	}
	if lines := c.lines(m.Error[0]); len(lines) != 2 || !strings.Contains(lines[1], "no parameter nonsense") {
		t.Errorf("passed over: %v", lines)
	}
}

// B-20: a file is sent in gzip or not, whole or in part.
func TestAFileIsSentInParts(t *testing.T) {
	a := newAPI(t)
	staff := a.client(t, storetest.S2, all)
	for range 30 {
		id := fresh()
		staff.must(201, "PUT", "/Organization/"+id, `{"resourceType":"Organization","id":"`+id+`","name":"`+id+`"}`)
	}
	c := a.client(t, storetest.S2, exporter)
	file := strings.TrimPrefix(c.manifest(c.kickOff("/$export?_type=Organization")).Output[0].URL, baseOf(c.slug))
	whole := c.must(200, "GET", file, "", "Accept-Encoding", "").Body.Bytes()
	packed := c.must(200, "GET", file, "", "Accept-Encoding", "gzip")
	z, err := gzip.NewReader(bytes.NewReader(packed.Body.Bytes()))
	if err != nil || packed.Header().Get("Content-Encoding") != "gzip" {
		t.Fatal(err, packed.Header())
	}
	if plain, err := io.ReadAll(z); err != nil || !bytes.Equal(plain, whole) {
		t.Errorf("gzip: %v, %d bytes of %d", err, len(plain), len(whole))
	}
	for _, tt := range []struct {
		part, coding string
		of           []byte
		from, to     int
	}{
		{"bytes=100-199", "", whole, 100, 200}, {"bytes=-50", "", whole, len(whole) - 50, len(whole)}, {"bytes=10-", "gzip", packed.Body.Bytes(), 10, packed.Body.Len()},
	} {
		w := c.must(206, "GET", file, "", "Range", tt.part, "Accept-Encoding", tt.coding)
		if !bytes.Equal(w.Body.Bytes(), tt.of[tt.from:tt.to]) {
			t.Errorf("%s: %d bytes", tt.part, w.Body.Len())
		}
	}
	c.must(416, "GET", file, "", "Range", "bytes=999999999-")
	if w := c.must(200, "HEAD", file, "", "Accept-Encoding", ""); w.Body.Len() > 0 || w.Header().Get("Content-Length") != strconv.Itoa(len(whole)) {
		t.Errorf("HEAD: %v", w.Header())
	}
}

// BULK-03: a client that is disabled gets no further file, and nothing is left
// of its export.
func TestAnExportOfWhoMayNoLongerAskEnds(t *testing.T) {
	on := storetest.New(t).Tenant(t, storetest.D1)
	quitter, s, disable, _ := mayLeave(t, on, "quitter", exporter)
	quitter.kickOff("/$export")
	s.exports.turn = -time.Second
	s.ends(t, on, disable)
}

// ends works on an export, and then again once its client is disabled: nothing of it
// is left.
func (s *server) ends(t *testing.T, on *tenant.Tenant, disable func()) {
	t.Helper()
	if err := s.work(took(t, s, on), on); err != nil {
		t.Fatal(err)
	}
	disable()
	if err := s.work(took(t, s, on), on); err != nil {
		t.Error(err)
	}
	if waiting, old, err := s.DB.Waiting(t.Context(), on); waiting || !old || err != nil {
		t.Errorf("it waits (%t), or nothing of it is to be removed (%t): %v", waiting, !old, err)
	}
	if err := s.DB.Sweep(t.Context(), on); err != nil {
		t.Error(err)
	}
	if _, old, err := s.DB.Waiting(t.Context(), on); old || err != nil {
		t.Errorf("something is left of it: %v", err)
	}
}

// BULK-05: what was hidden since the time of an export is not in it, as it was
// then.
func TestAnExportHidesWhatWasHiddenSince(t *testing.T) {
	staff := newAPI(t).client(t, storetest.A2, all)
	id := fresh()
	put := func(name, status string) {
		staff.do("PUT", "/Observation/"+id+name, `{"resourceType":"Observation","id":"`+id+name+`","status":"`+status+`","code":{"text":"x"},"category":[{"coding":[{"system":"s","code":"`+status+`"}]}]}`)
	}
	put("stays", "final")
	put("hides", "final")
	put("shows", "preliminary")
	since := time.Now().Add(-time.Minute).UTC().Format(time.RFC3339)
	x := begin(t, storetest.A2, "system/Observation.rs?category=s|final", "/$export?_since="+since)
	staff.must(200, "PUT", "/Observation/"+id+"stays", `{"resourceType":"Observation","id":"`+id+`stays","status":"amended","code":{"text":"x"},"category":[{"coding":[{"system":"s","code":"final"}]}]}`)
	put("hides", "preliminary")
	put("shows", "final")
	x.work()
	got, _ := x.download(x.manifest(x.where))
	var mine []string
	for _, name := range exportedNames(got, "") {
		if rest, ok := strings.CutPrefix(name, "Observation/"+id); ok {
			mine = append(mine, rest)
		}
	}
	if !slices.Equal(mine, []string{"stays"}) || at(got["Observation/"+id+"stays"], "status") != "final" {
		t.Errorf("exported %v", mine)
	}
}

// T248: a label that comes later is held in files that were written before, whether
// the policy goes by it or a consent.
func TestAFileIsKeptFromWhomALabelHidesSomethingInIt(t *testing.T) {
	for policy, consent := range map[string]string{"clinic": `{"type":"permit"}`, "scopes": `{"type":"deny","securityLabel":[{"code":"PSY"}]}`} {
		t.Run(policy, func(t *testing.T) {
			g := govern(t, newAPI(t), "export-label-"+policy, shipped(t, policy))
			g.has(keptChart...)
			g.has("Consent/c", consentOf(consent), "Observation/hidden", labelPSY+","+keptChart[5])
			gp := g.staff("Practitioner/gp", smart.Person{Roles: []string{"physician"}})
			m := gp.manifest(gp.kickOff("/Patient/$export?_type=Observation,Patient"))
			get := func(claim string, observations int) {
				t.Helper()
				for _, f := range m.Output {
					want := map[bool]int{true: observations, false: http.StatusOK}[f.Type == "Observation"]
					if w := gp.do("GET", strings.TrimPrefix(f.URL, baseOf(g.slug)), ""); w.Code != want {
						t.Errorf("%s, %s: %d, want %d", claim, f.Type, w.Code, want)
					}
				}
			}
			g.has("Observation/of-q", keptChart[7])
			if policy == "clinic" { // else it is hidden from who writes it too
				g.has("Observation/hidden", labelPSY+","+keptChart[5])
			}
			get("nothing that is in it was hidden", http.StatusOK)
			g.has("Observation/of-p", labelPSY+","+keptChart[5])
			get("something was", http.StatusGone)
			if policy == "clinic" {
				g.has("Observation/of-p", keptChart[5])
				get("it shows again, as it would be exported", http.StatusOK)
			}
		})
	}
}

// T246, BULK-05: who no longer treats a patient has no more files with their record.
func TestAFileIsKeptFromWhomItsPatientsLeft(t *testing.T) {
	g := govern(t, newAPI(t), "export-left", shipped(t, "clinic"))
	g.has(keptChart...)
	const team = `"status":"active","subject":{"reference":"Patient/q"},"participant":[{"member":{"reference":"Practitioner/gp"}}]`
	g.has("CareTeam/c", team, "Patient/q", `"active":true`, "Observation/gone", keptChart[5])
	since := time.Now().Add(-time.Minute).UTC().Format(time.RFC3339)
	g.service().must(http.StatusNoContent, "DELETE", "/Observation/gone", "")
	gp := g.staff("Practitioner/gp", smart.Person{Roles: []string{"physician"}})
	m := gp.manifest(gp.kickOff("/Patient/$export?_type=Observation,Patient&_since=" + url.QueryEscape(since)))
	if len(m.Output) != 2 || len(m.Deleted) != 1 {
		t.Fatalf("%+v", m)
	}
	get := func(claim string, output, deleted int) {
		t.Helper()
		for want, list := range map[*int][]bulk.FileItem{&output: m.Output, &deleted: m.Deleted} {
			for _, f := range list {
				if w := gp.do("GET", strings.TrimPrefix(f.URL, baseOf(g.slug)), ""); w.Code != *want {
					t.Errorf("%s, %s: %d, want %d", claim, f.Type, w.Code, *want)
				}
			}
		}
	}
	get("at first", http.StatusOK, http.StatusOK)
	g.has("CareTeam/c", strings.Replace(team, "active", "inactive", 1))
	get("the care team of one has ended", http.StatusGone, http.StatusOK)
	g.has("CareTeam/c", team)
	get("it goes on", http.StatusOK, http.StatusOK)
	g.has("Patient/p", `"active":true`)
	get("the other has gone to another practice", http.StatusGone, http.StatusGone)
	g.has("Observation/more", keptChart[7], "Patient/p", keptGP)
	get("and has come back", http.StatusOK, http.StatusOK)
}
