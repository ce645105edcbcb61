package rest

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// viewOf is a ViewDefinition of the type with the columns, name and path in turn.
func viewOf(on string, columns ...string) string {
	var list []string
	for i := 0; i < len(columns); i += 2 {
		list = append(list, fmt.Sprintf(`{"name":%q,"path":%q}`, columns[i], columns[i+1]))
	}
	return `{"resourceType":"ViewDefinition","name":"v","status":"active","resource":"` + on + `","select":[{"column":[` + strings.Join(list, ",") + `]}]}`
}

// runOf are the Parameters that ask for a run of the view.
func runOf(view string, more ...string) string {
	return `{"resourceType":"Parameters","parameter":[` + strings.Join(append([]string{`{"name":"viewResource","resource":` + view + `}`}, more...), ",") + `]}`
}

// rows are those of an answer in JSON.
func rows(t testing.TB, w *httptest.ResponseRecorder) (list []map[string]any) {
	t.Helper()
	if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("%v %v %s", err, w.Header(), w.Body)
	}
	return list
}

// column returns what a column has in the rows, in order of the text.
func columnOf(rows []map[string]any, name string) []string {
	list := []string{}
	for _, r := range rows {
		list = append(list, fmt.Sprint(r[name]))
	}
	slices.Sort(list)
	return list
}

// BULK-01, A26: a view has a row of what a search by the same client shows, in
// every mode, and nothing of another tenant.
func TestARunOfAViewHasWhatASearchShows(t *testing.T) {
	a := newAPI(t)
	r := aRecord()
	for _, slug := range storetest.Slugs {
		r.fill(a.client(t, slug, all))
	}
	for _, slug := range storetest.Slugs {
		t.Run(slug, func(t *testing.T) {
			c := a.client(t, slug, exporter)
			for _, on := range []string{"Patient", "Observation", "Practitioner"} {
				w := c.must(200, "POST", "/$viewdefinition-run", runOf(viewOf(on, "key", "getResourceKey()", "name", "name.family")))
				if got, want := columnOf(rows(t, w), "key"), searchAll(c, "/"+on); !slices.Equal(got, want) {
					t.Errorf("%s: %d rows, a search shows %d", on, len(got), len(want))
				}
				if on == "Patient" && strings.Count(w.Body.String(), `"of `) != strings.Count(w.Body.String(), `"of `+slug+`"`) {
					t.Errorf("the names of others: %s", w.Body)
				}
			}
			of := func(query string) []string {
				return columnOf(rows(t, c.must(200, "GET", "/ViewDefinition/observation_vitals/$viewdefinition-run?_format=json&"+query, "")), "observation_id")
			}
			vitals := searchAll(c, "/Observation?category=vital-signs&patient="+r.p)
			if got := of("patient=Patient/" + r.p); !slices.Equal(got, vitals) {
				t.Errorf("of a patient: %v, want %v", got, vitals)
			}
			both := searchAll(c, "/Observation?category=vital-signs&patient="+r.p+","+r.other)
			if got := of("group=Group/" + r.p); !slices.Equal(got, both) {
				t.Errorf("of a group: %v, want %v", got, both)
			}
			if got := of("_limit=3"); len(got) != 3 {
				t.Errorf("with a limit: %v", got)
			}
			if got := of("_since=" + time.Now().UTC().Format("2006-01-02T15:04:05.000Z")); len(got) != 0 {
				t.Errorf("since now: %v", got)
			}
		})
	}
}

// What is asked for in another format has the same cells.
func TestTheFormatsOfAViewHaveTheSameRows(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.A1, all)
	aRecord().fill(c)
	const asked = "/ViewDefinition/patient-demographics/$viewdefinition-run?_format="
	want := rows(t, c.must(200, "GET", asked+"json", ""))
	lines := strings.Split(strings.TrimSpace(c.must(200, "GET", asked+"ndjson", "").Body.String()), "\n")
	table, err := csv.NewReader(c.must(200, "GET", "/ViewDefinition/patient-demographics/$viewdefinition-run", "", "Accept", "text/csv").Body).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	bare, err := csv.NewReader(c.must(200, "GET", asked+"csv&header=false", "").Body).ReadAll()
	if err != nil || len(bare) != len(table)-1 {
		t.Errorf("%v: %d lines without the names, %d with them", err, len(bare), len(table))
	}
	w := c.must(200, "GET", asked+"parquet", "")
	file, err := parquet.OpenFile(bytes.NewReader(w.Body.Bytes()), int64(w.Body.Len()))
	if err != nil || w.Header().Get("Content-Type") != "application/vnd.apache.parquet" {
		t.Fatal(err, w.Header())
	}
	if len(want) == 0 || len(lines) != len(want) || len(table) != len(want)+1 || file.NumRows() != int64(len(want)) {
		t.Fatalf("%d rows of JSON, %d lines, %d of CSV, %d of Parquet", len(want), len(lines), len(table), file.NumRows())
	}
	for i, r := range want {
		var line map[string]any
		if err := json.Unmarshal([]byte(lines[i]), &line); err != nil || !maps.EqualFunc(line, r, func(a, b any) bool { return fmt.Sprint(a) == fmt.Sprint(b) }) {
			t.Errorf("line %d: %s", i, lines[i])
		}
		for n, name := range table[0] {
			if cell := fmt.Sprint(r[name]); table[i+1][n] != cell && (r[name] != nil || table[i+1][n] != "") {
				t.Errorf("%s of row %d in CSV: %s, want %s", name, i, table[i+1][n], cell)
			}
		}
	}
	groups, n := file.RowGroups()[0].Rows(), 0
	defer groups.Close()
	for row := make([]parquet.Row, 1); ; n++ {
		if _, err := groups.ReadRows(row); err == io.EOF {
			break
		}
		if key := row[0][0].String(); key != want[n]["patient_id"] {
			t.Errorf("row %d of Parquet is of %s, want %v", n, key, want[n]["patient_id"])
		}
	}
	for _, path := range []string{asked + "xml", "/$viewdefinition-run?_format=csv", asked + "csv&nonsense=1", "/$viewdefinition-run?viewReference=ViewDefinition/encounter&viewReference=ViewDefinition/claim"} {
		c.must(400, "GET", path, "")
	}
	c.must(404, "GET", "/ViewDefinition/nothing/$viewdefinition-run?_format=csv", "")
	c.must(404, "GET", "/ViewDefinition/nothing/$export", "")
	c.must(404, "GET", "/ViewDefinition/patient_demographics", "")
	batch := shown(t, c.must(200, "POST", "", `{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET","url":"$viewdefinition-run?viewReference=ViewDefinition/claim"}}]}`))
	if at(batch, "entry", 0, "response", "status") != "400 Bad Request" {
		t.Errorf("in a batch: %v", batch)
	}
	if got := shown(t, c.must(200, "GET", "/$viewdefinition-list", "")); len(got["parameter"].([]any)) < 10 {
		t.Errorf("%v", got)
	}
	c.must(200, "GET", "/$viewdefinition-list?name=claim", "")
	c.must(404, "GET", "/$viewdefinition-list?name="+url.QueryEscape("../shipped"), "")
}

// AUTHZ-03, A26: masks, the policy and scopes hold in a view as they do in a search: by no
// path, condition or key is anything in a row that the client does not see. Who
// is disclosed is in the audit trail.
func TestAViewHidesWhatASearchHides(t *testing.T) {
	g := partlySeen(t, newAPI(t), "view-masked")
	by := func(client, scope string) *client {
		return g.client(g.t, g.slug, scope, func(tok *smart.Token) { tok.Client, tok.Subject = client, client })
	}
	const run = "/$viewdefinition-run"
	masked := by("masked", exporter)
	w := masked.must(200, "POST", run, runOf(viewOf("Patient", "family", "name.family.first()", "whole", "descendants().where($this = 'Doe').count()", "gender", "gender")))
	if got := rows(t, w); len(got) != 1 || got[0]["family"] != nil || got[0]["gender"] != "female" || got[0]["whole"] != 0.0 || strings.Contains(w.Body.String(), "Doe") {
		t.Errorf("masked: %s", w.Body)
	}
	conditional := strings.Replace(viewOf("Patient", "id", "id"), `"select"`, `"where":[{"path":"name.family = 'Doe'"}],"select"`, 1)
	if got := rows(t, masked.must(200, "POST", run, runOf(conditional))); len(got) != 0 {
		t.Errorf("a condition on what is masked: %v", got)
	}
	narrow := by("narrow", exporter)
	if got := columnOf(rows(t, narrow.must(200, "POST", run, runOf(viewOf("Observation", "id", "id")))), "id"); !slices.Equal(got, []string{"f"}) {
		t.Errorf("narrow: %v", got)
	}
	if got := rows(t, narrow.must(200, "POST", run, runOf(viewOf("Observation", "name", "subject.resolve().name.family.first()")))); len(got) != 1 || got[0]["name"] != nil {
		t.Errorf("by a reference: %v", got)
	}
	by("nobody", exporter).must(403, "POST", run, runOf(viewOf("Patient", "id", "id")))
	by("masked", "system/Observation.rs").must(403, "POST", run, runOf(viewOf("Patient", "id", "id")))
	by("masked", "system/Patient.cud").must(403, "GET", "/ViewDefinition/patient_demographics/$viewdefinition-run", "")
	masked.must(422, "POST", run, runOf(viewOf("AuditEvent", "id", "id")))

	auditor := g.client(t, g.slug, "system/AuditEvent.rs", func(tok *smart.Token) { tok.Person.Roles = []string{"service"} })
	for _, who := range []string{"narrow", "masked"} {
		if list := entries(t, auditor.must(200, "GET", "/AuditEvent?patient=Patient/p&agent="+who, "")); len(list) == 0 {
			t.Errorf("the trail of the patient does not name %s", who)
		}
	}
	named := fmt.Sprint(shown(t, auditor.must(200, "GET", "/AuditEvent?agent=narrow", "")))
	if !strings.Contains(named, "viewdefinition-run") {
		t.Errorf("the trail does not name the operation: %s", named)
	}
}

// T218: what would take too long or too much room is refused within the bound on
// work, and what is no view at its place, without values.
func TestAHostileViewIsRefused(t *testing.T) {
	a := newAPI(t)
	g := govern(t, a, "view-hostile", shipped(t, "scopes"))
	var names []string
	for i := range 60 {
		names = append(names, fmt.Sprintf(`{"family":"canary%d","given":["a","b","c"]}`, i))
	}
	g.has("Patient/p", `"name":[`+strings.Join(names, ",")+`]`)
	c := g.service()
	cross := `{"forEach":"name","column":[{"name":"a%d","path":"family"}]}`
	var product, wide, deep []string
	for i := range 6 {
		product = append(product, fmt.Sprintf(cross, i))
	}
	for i := range 10_000 {
		wide = append(wide, fmt.Sprintf(`{"name":"c%d","path":"id"}`, i))
	}
	for range 25 {
		deep = append(deep, `{"select":[`)
	}
	const head = `{"resourceType":"ViewDefinition","status":"active","resource":"Patient","select":[`
	for what, v := range map[string][2]string{
		"descendants":      {viewOf("Patient", "n", "descendants().select(%resource.descendants()).select(%resource.descendants()).count()"), "select[0].column[0].path"},
		"repeat":           {viewOf("Patient", "n", "repeat(children() | $this.descendants()).count() + repeat(descendants()).select(%resource.descendants()).count()"), "column[0].path"},
		"aggregate":        {viewOf("Patient", "n", "descendants().aggregate($total & $total & 'xxxxxxxxxxxxxxxx', 'x').length()"), "column[0].path"},
		"product":          {head + strings.Join(product, ",") + `]}`, ""},
		"endless":          {head + `{"repeat":["$this"],"column":[{"name":"n","path":"id"}]}]}`, ""},
		"too wide":         {head + `{"column":[` + strings.Join(wide, ",") + `]}]}`, ""},
		"too deep":         {head + strings.Join(deep, "") + `{"column":[{"name":"n","path":"id"}]}` + strings.Repeat("]}", 25) + `]}`, "select[0]"},
		"twice":            {viewOf("Patient", "n", "id", "n", "gender"), "ViewDefinition.select"},
		"no name":          {viewOf("Patient", "n; DROP TABLE resource", "id"), "column[0].name"},
		"no expression":    {viewOf("Patient", "n", "canary..id"), "column[0].path"},
		"no constant":      {viewOf("Patient", "n", "%canary"), "column[0].path"},
		"no function":      {viewOf("Patient", "n", "canary()"), "column[0].path"},
		"several values":   {viewOf("Patient", "n", "name.family"), "column[0].path"},
		"no boolean":       {strings.Replace(viewOf("Patient", "n", "id"), `"select"`, `"where":[{"path":"name.first().family"}],"select"`, 1), "where[0].path"},
		"complex untyped":  {viewOf("Patient", "n", "name.first()"), "column[0].path"},
		"an element extra": {strings.Replace(viewOf("Patient", "n", "id"), `"select"`, `"extra":"canary","select"`, 1), "ViewDefinition"},
		"no type":          {viewOf("Canary", "n", "id"), "ViewDefinition.resource"},
		"nothing":          {`{"resourceType":"ViewDefinition"}`, "ViewDefinition"},
	} {
		w := c.must(422, "POST", "/$viewdefinition-run", runOf(v[0]))
		if body := w.Body.String(); !strings.Contains(body, "OperationOutcome") || !strings.Contains(body, v[1]) || strings.Contains(strings.ToLower(body), "canary") {
			t.Errorf("%s: %.600s", what, body)
		}
	}
}
