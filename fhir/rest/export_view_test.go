package rest

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/view"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/storetest"
	"github.com/cordon-fhir/cordon/tenant"
)

// exportOfViews are the Parameters that ask for an export of views, each a
// ViewDefinition or the name of one that comes with Cordon.
func exportOfViews(format string, views []string, more ...string) string {
	list := []string{`{"name":"_format","valueCode":"` + format + `"}`}
	for i, v := range views {
		part := `{"name":"viewReference","valueReference":{"reference":"ViewDefinition/` + v + `"}}`
		if strings.HasPrefix(v, "{") {
			part = `{"name":"viewResource","resource":` + v + `},{"name":"name","valueString":"given_` + fmt.Sprint(i) + `"}`
		}
		list = append(list, `{"name":"view","part":[`+part+`]}`)
	}
	return `{"resourceType":"Parameters","parameter":[` + strings.Join(append(list, more...), ",") + `]}`
}

// asksForTables asks for an export of views and returns where its state is.
func (c *client) asksForTables(body string) string {
	c.t.Helper()
	w := c.must(202, "POST", "/$viewdefinition-export", body, "Prefer", "respond-async")
	where, ok := strings.CutPrefix(w.Header().Get("Content-Location"), baseOf(c.slug))
	said := shown(c.t, w)
	if !ok || valueOf(said, "location", "valueUri") != baseOf(c.slug)+where || valueOf(said, "status", "valueCode") != "accepted" || !strings.HasSuffix(where, fmt.Sprint(valueOf(said, "exportId", "valueString"))) {
		c.t.Fatalf("%v %s", w.Header(), w.Body)
	}
	return where
}

// valueOf is the value of the first parameter of the name.
func valueOf(parameters map[string]any, name, value string) any {
	list, _ := parameters["parameter"].([]any)
	for _, p := range list {
		if at(p, "name") == name {
			return at(p, value)
		}
	}
	return nil
}

// tables waits for an export of views and returns the paths of the files of each.
func (c *client) tables(where string) map[string][]string {
	c.t.Helper()
	w := c.exported(where)
	if w.Code != 200 || w.Header().Get("Expires") == "" || w.Header().Get("Content-Type") != contentType {
		c.t.Fatalf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	said := shown(c.t, w)
	if valueOf(said, "status", "valueCode") != "completed" || valueOf(said, "exportStartTime", "valueInstant") == nil {
		c.t.Errorf("%s", w.Body)
	}
	got := map[string][]string{}
	for _, p := range said["parameter"].([]any) {
		if at(p, "name") != "output" {
			continue
		}
		var name string
		for _, part := range at(p, "part").([]any) {
			if at(part, "name") == "name" {
				name = at(part, "valueString").(string)
				continue
			}
			got[name] = append(got[name], strings.TrimPrefix(at(part, "valueUri").(string), baseOf(c.slug)))
		}
	}
	return got
}

// lineRows are the rows in files of NDJSON.
func (c *client) lineRows(files []string) (list []map[string]any) {
	c.t.Helper()
	for _, f := range files {
		w := c.must(200, "GET", f, "")
		if w.Header().Get("Content-Type") != "application/x-ndjson" {
			c.t.Errorf("%v", w.Header())
		}
		for d := json.NewDecoder(w.Body); ; {
			var r map[string]any
			if err := d.Decode(&r); err == io.EOF {
				break
			} else if err != nil {
				c.t.Fatal(err)
			}
			list = append(list, r)
		}
	}
	return list
}

// rowTexts are the rows as texts, in order.
func rowTexts(rows []map[string]any) []string {
	list := []string{}
	for _, r := range rows {
		list = append(list, fmt.Sprint(r))
	}
	slices.Sort(list)
	return list
}

// rowsOfExport are the rows that the view makes of what an export of resources has.
func (c *client) rowsOfExport(name string) []string {
	c.t.Helper()
	v, err := view.Named("ViewDefinition/" + name)
	if err != nil {
		c.t.Fatal(err)
	}
	run, err := v.Run()
	if err != nil {
		c.t.Fatal(err)
	}
	var all []view.Row
	got, _ := c.export("/$export?_type=" + string(v.Of))
	for _, r := range got {
		body, err := json.Marshal(r)
		if err != nil {
			c.t.Fatal(err)
		}
		d, err := fhir.Reopen(body)
		if err != nil {
			c.t.Fatal(err)
		}
		rows, err := run.Rows(c.t.Context(), d)
		if err != nil {
			c.t.Fatal(err)
		}
		all = append(all, rows...)
	}
	b, err := view.Bytes(view.JSONArray, v.Columns, true, all)
	if err != nil {
		c.t.Fatal(err)
	}
	var list []map[string]any
	if err := json.Unmarshal(b, &list); err != nil {
		c.t.Fatal(err)
	}
	return rowTexts(list)
}

// BULK-01, TEN-14, A26: an export of views has the rows that a run of each has, in every
// mode; it is its client's alone, and nothing is left of it when it is cancelled.
func TestAnExportOfViewsHasTheRowsOfARun(t *testing.T) {
	a := newAPI(t)
	r := aRecord()
	for _, slug := range storetest.Slugs {
		r.fill(a.client(t, slug, all))
	}
	for _, slug := range storetest.Slugs {
		t.Run(slug, func(t *testing.T) {
			c := a.client(t, slug, exporter)
			resources := c.rowsOfExport("observation_vitals")
			before := a.fileCount(t, slug)
			own := viewOf("Patient", "key", "getResourceKey()", "name", "name.first().family", "since", "meta.lastUpdated")
			none := strings.Replace(viewOf("Patient", "key", "id"), `"select"`, `"where":[{"path":"false"}],"select"`, 1)
			where := c.asksForTables(exportOfViews("ndjson", []string{"observation_vitals", own, "observation_labs", none}, `{"name":"clientTrackingId","valueString":"mine"}`))
			files := c.tables(where)
			if len(files) != 4 || len(files["given_3"]) != 1 || valueOf(shown(t, c.exported(where)), "clientTrackingId", "valueString") != "mine" {
				t.Errorf("%v", files)
			}
			for name, run := range map[string]string{
				"observation_vitals": `{"resourceType":"Parameters","parameter":[{"name":"viewReference","valueReference":{"reference":"ViewDefinition/observation_vitals"}}]}`,
				"observation_labs":   `{"resourceType":"Parameters","parameter":[{"name":"viewReference","valueReference":{"reference":"urn:cordon:view:observation_labs"}}]}`,
				"given_1":            runOf(own), "given_3": runOf(none),
			} {
				got, want := rowTexts(c.lineRows(files[name])), rowTexts(rows(t, c.must(200, "POST", "/$viewdefinition-run", run)))
				if !slices.Equal(got, want) || len(got) == 0 && name != "given_3" {
					t.Errorf("%s: %d rows, a run has %d", name, len(got), len(want))
				}
			}
			if got := rowTexts(c.lineRows(files["observation_vitals"])); !slices.Equal(got, resources) {
				t.Errorf("%d rows, of what an export of resources has %d are made", len(got), len(resources))
			}
			app := a.client(t, slug, "patient/*.rs", inContext(r.p))
			run := `{"resourceType":"Parameters","parameter":[{"name":"viewReference","valueReference":{"reference":"ViewDefinition/observation_vitals"}}]}`
			if got, want := columnOf(rows(t, app.must(200, "POST", "/$viewdefinition-run", run)), "observation_id"), searchAll(app, "/Observation?category=vital-signs"); len(want) == 0 || !slices.Equal(got, want) {
				t.Errorf("an app of a patient sees %v, want %v", got, want)
			}
			file := files["given_1"][0]
			others := map[string]*client{"another client": a.client(t, slug, exporter, func(tok *smart.Token) { tok.Client = "other" }), "the staff": a.client(t, slug, all)}
			for _, foreign := range storetest.Slugs {
				if foreign != slug {
					others[foreign] = a.client(t, foreign, exporter)
				}
			}
			for who, o := range others {
				for _, path := range []string{where, file} {
					if w := o.do("GET", path, ""); w.Code != 404 {
						t.Errorf("%s has %s: %d", who, path, w.Code)
					}
				}
			}
			c.must(404, "GET", strings.TrimSuffix(file, "ndjson")+"csv", "")
			c.must(202, "DELETE", where, "")
			c.must(404, "GET", file, "")
			if n := a.fileCount(t, slug); n != before {
				t.Errorf("%d files are left", n-before)
			}
		})
	}
}

// The files of an export have the formats that their names say, whole and in part, and of
// a patient or a group what is of them.
func TestTheFilesOfAnExportOfViewsAreInTheirFormat(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.A1, all)
	r := aRecord()
	r.fill(c)
	person := `{"name":"patient","valueReference":{"reference":"Patient/` + r.p + `"}}`
	want := searchAll(c, "/Observation?category=laboratory&patient="+r.p)
	get := func(format, mediaType string, more ...string) []byte {
		t.Helper()
		files := c.tables(c.asksForTables(exportOfViews(format, []string{"observation_labs"}, more...)))["observation_labs"]
		if len(files) != 1 || !strings.HasSuffix(files[0], "."+format) {
			t.Fatalf("%v", files)
		}
		w := c.must(200, "GET", files[0], "")
		if w.Header().Get("Content-Type") != mediaType {
			t.Errorf("%s: %v", format, w.Header())
		}
		part := c.must(206, "GET", files[0], "", "Range", "bytes=2-9")
		if !bytes.Equal(part.Body.Bytes(), w.Body.Bytes()[2:10]) {
			t.Errorf("%s: a part is %q of %q", format, part.Body, w.Body.Bytes()[:12])
		}
		return w.Body.Bytes()
	}
	var list []map[string]any
	if err := json.Unmarshal(get("json", "application/json", person), &list); err != nil || !slices.Equal(columnOf(list, "observation_id"), want) {
		t.Errorf("%v: %v, want %v", err, columnOf(list, "observation_id"), want)
	}
	table, err := csv.NewReader(bytes.NewReader(get("csv", "text/csv; charset=utf-8", person))).ReadAll()
	if err != nil || len(table) != len(want)+1 || table[0][0] != "observation_id" {
		t.Errorf("%v %v", err, table)
	}
	group := `{"name":"group","valueReference":{"reference":"Group/` + r.p + `"}}`
	both := searchAll(c, "/Observation?category=laboratory&patient="+r.p+","+r.other)
	b := get("parquet", "application/vnd.apache.parquet", group)
	file, err := parquet.OpenFile(bytes.NewReader(b), int64(len(b)))
	if err != nil || file.NumRows() != int64(len(both)) {
		t.Fatalf("%v, want %d rows", err, len(both))
	}
	for what, body := range map[string]string{
		"no format":           exportOfViews("xml", []string{"claim"}),
		"no view":             exportOfViews("csv", nil),
		"a name twice":        exportOfViews("csv", []string{"claim", "claim"}),
		"no record":           exportOfViews("csv", []string{viewOf("Questionnaire", "id", "id")}, person),
		"a patient not there": exportOfViews("csv", []string{"claim"}, strings.Replace(person, r.p, "nobody", 1)),
		"no group":            exportOfViews("csv", []string{"claim"}, strings.Replace(group, "Group/", "Patient/", 1)),
		"source":              exportOfViews("csv", []string{"claim"}, `{"name":"source","valueString":"s3://x"}`),
	} {
		if w := c.do("POST", "/$viewdefinition-export", body, "Prefer", "respond-async"); w.Code != 400 {
			t.Errorf("%s: %d %s", what, w.Code, w.Body)
		}
	}
	c.must(400, "POST", "/$viewdefinition-export", exportOfViews("csv", []string{"claim"}))
	c.must(404, "POST", "/$viewdefinition-export", exportOfViews("csv", []string{"none"}), "Prefer", "respond-async")
	c.must(422, "POST", "/$viewdefinition-export", exportOfViews("csv", []string{viewOf("Patient", "a b", "id")}), "Prefer", "respond-async")
	c.must(400, "GET", "/$viewdefinition-export", "", "Prefer", "respond-async")
	one := c.must(202, "GET", "/ViewDefinition/observation-labs/$viewdefinition-export?_format=csv&patient=Patient/"+r.p, "", "Prefer", "respond-async").Header().Get("Content-Location")
	if files := c.tables(strings.TrimPrefix(one, baseOf(c.slug)))["observation_labs"]; len(files) != 1 || strings.Count(c.must(200, "GET", files[0], "").Body.String(), "\n") != len(want)+1 {
		t.Errorf("of the view in the path: %v", files)
	}
	c.must(400, "POST", "/ViewDefinition/claim/$viewdefinition-export", exportOfViews("csv", []string{"coverage"}), "Prefer", "respond-async")
	if w := c.exported(c.asksForTables(exportOfViews("csv", []string{`{"resource":"Observation","select":[{"repeat":["$this"],"column":[{"name":"n","path":"id"}]}]}`}))); w.Code != 422 || !strings.Contains(w.Body.String(), "OperationOutcome") {
		t.Errorf("T218: %d %s", w.Code, w.Body)
	}
}

// T246, BULK-02: masks and the policy hold in the files of views, and a file is not given
// away to whom a resource is hidden by now that its rows are made of.
func TestATableIsKeptFromWhomItsPatientsLeft(t *testing.T) {
	g := govern(t, newAPI(t), "view-left", shipped(t, "clinic")+`
@id("gp-mask") @mask("Patient.name")
permit (principal in Role::"visitor", action in Action::"view", resource is Patient);`)
	g.has(keptChart...)
	g.has("CareTeam/c", `"status":"active","subject":{"reference":"Patient/q"},"participant":[{"member":{"reference":"Practitioner/gp"}}]`, "Patient/q", `"active":true`)
	gp := g.staff("Practitioner/gp", smart.Person{Roles: []string{"physician"}})
	files := gp.tables(gp.asksForTables(exportOfViews("ndjson", []string{viewOf("Observation", "code", "code.text"), viewOf("Patient", "active", "active")})))
	get := func(claim string, observations, patients int) {
		t.Helper()
		for name, want := range map[string]int{"given_0": observations, "given_1": patients} {
			if w := gp.do("GET", files[name][0], ""); w.Code != want {
				t.Errorf("%s, %s: %d, want %d", claim, name, w.Code, want)
			}
		}
	}
	if got := columnOf(gp.lineRows(files["given_0"]), "code"); !slices.Equal(got, []string{"SECRET", "x"}) {
		t.Errorf("%v", got)
	}
	get("at first", http.StatusOK, http.StatusOK)
	g.has("CareTeam/c", `"status":"inactive","subject":{"reference":"Patient/q"},"participant":[{"member":{"reference":"Practitioner/gp"}}]`)
	get("the care team of one has ended", http.StatusGone, http.StatusGone)

	visitor := g.staff("Practitioner/visitor", smart.Person{Roles: []string{"visitor"}})
	files = visitor.tables(visitor.asksForTables(exportOfViews("csv", []string{viewOf("Patient", "names", "name.family.join(',')", "any", "descendants().where($this = 'SECRET').count()")})))
	w := visitor.must(200, "GET", files["given_0"][0], "")
	if strings.Contains(w.Body.String(), "SECRET") || strings.Contains(w.Body.String(), ",1") || strings.Count(w.Body.String(), "\n") != 3 {
		t.Errorf("masked: %s", w.Body)
	}
}

// BULK-03: a client that is disabled gets no further table, and nothing is left of
// its export.
func TestAnExportOfViewsOfWhoMayNoLongerAskEnds(t *testing.T) {
	on := storetest.New(t).Tenant(t, storetest.D1)
	quitter, s, disable, _ := mayLeave(t, on, "view-quitter", exporter)
	quitter.asksForTables(exportOfViews("parquet", []string{"patient_demographics", "observation_labs"}))
	s.exports.turn = -1
	s.ends(t, on, disable)
}

// A client who gets de-identified exports gets no view, and no table that was written
// before it was listed.
func TestNoViewIsForWhomExportsAreDeidentified(t *testing.T) {
	g, research := deidentified(t, "view-deid")
	body := exportOfViews("csv", []string{"patient_demographics"})
	file := research.tables(research.asksForTables(body))["patient_demographics"][0]
	research.must(200, "GET", file, "")
	waiting := research.asksForTables(exportOfViews("csv", []string{"encounter"}))
	g.settings(t, g.slug, func(s *tenant.Settings) { s.Export.Deidentified = []string{"research"} })
	research.must(403, "GET", "/ViewDefinition/patient_demographics/$viewdefinition-run", "")
	research.must(403, "POST", "/$viewdefinition-run", runOf(viewOf("Patient", "family", "name.family")))
	research.must(403, "POST", "/$viewdefinition-export", body, "Prefer", "respond-async")
	research.must(410, "GET", file, "")
	if w := research.exported(waiting); w.Code == 200 {
		for _, p := range research.tables(waiting)["encounter"] {
			research.must(410, "GET", p, "")
		}
	}
}
