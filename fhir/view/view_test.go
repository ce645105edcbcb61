package view

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/cordon-fhir/cordon/fhir"
)

var people = []string{
	`{"resourceType":"Patient","id":"a","active":true,"birthDate":"1970-05","name":[
		{"use":"official","family":"Ash","given":["Ann","Bea"]},{"use":"usual","given":["Annie"]}],
		"telecom":[{"system":"phone","value":"1"},{"system":"email","value":"a@x.test"}],
		"contact":[{"name":{"family":"Kin"},"telecom":[{"system":"phone","value":"2"},{"system":"phone","value":"3"}]},{"name":{"family":"Friend"}}],
		"managingOrganization":{"reference":"Organization/o/_history/3"},"generalPractitioner":[{"reference":"Practitioner/g"},{"reference":"#c"},{"display":"x"}],
		"multipleBirthInteger":2,"extension":[{"url":"http://x.test/e","valueDecimal":1.50}]}`,
	`{"resourceType":"Patient","id":"b","active":false,"_birthDate":{"extension":[{"url":"http://x.test/e","valueCode":"none"}]}}`,
}

const answers = `{"resourceType":"QuestionnaireResponse","id":"q","status":"completed","item":[
	{"linkId":"1","item":[{"linkId":"1.1","answer":[{"valueString":"yes","item":[{"linkId":"1.1.1"}]}]},{"linkId":"1.2","item":[{"linkId":"1.2.1"}]}]},{"linkId":"2"}]}`

func on(t *testing.T, view string, resources ...string) ([]Row, *View, error) {
	t.Helper()
	v, err := Parse([]byte(view))
	if err != nil {
		return nil, nil, err
	}
	run, err := v.Run()
	if err != nil {
		t.Fatal(err)
	}
	var all []Row
	for _, r := range resources {
		d, err := fhir.Parse([]byte(r), fhir.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		rows, err := run.Rows(context.Background(), d)
		if err != nil {
			return nil, v, err
		}
		all = append(all, rows...)
	}
	return all, v, nil
}

// The rows of views over two people and one questionnaire are those that SQL on
// FHIR asks for.
func TestAViewHasTheRowsOfTheStandard(t *testing.T) {
	for _, tt := range []struct{ name, view, want string }{
		{"columns in order", `"resource":"Patient","select":[{"column":[{"name":"z","path":"id"},{"name":"a","path":"active"}]},{"column":[{"name":"b","path":"gender"}]}]`,
			`[{"z":"a","a":true,"b":null},{"z":"b","a":false,"b":null}]`},
		{"own columns, then selects, then the union", `"resource":"Patient","where":[{"path":"active"}],"select":[{"unionAll":[{"column":[{"name":"u","path":"'u'"}]}],"select":[{"column":[{"name":"s","path":"'s'"}]}],"column":[{"name":"c","path":"'c'"}]}]`,
			`[{"c":"c","s":"s","u":"u"}]`},
		{"where", `"resource":"Patient","where":[{"path":"active"},{"path":"name.exists(use = 'official')"}],"select":[{"column":[{"name":"id","path":"id"}]}]`, `[{"id":"a"}]`},
		{"where yields nothing", `"resource":"Patient","where":[{"path":"gender = 'male'"}],"select":[{"column":[{"name":"id","path":"id"}]}]`, `[]`},
		{"forEach", `"resource":"Patient","select":[{"column":[{"name":"id","path":"id"}]},{"forEach":"name","column":[{"name":"f","path":"family"}]}]`,
			`[{"id":"a","f":"Ash"},{"id":"a","f":null}]`},
		{"forEachOrNull", `"resource":"Patient","select":[{"column":[{"name":"id","path":"id"}]},{"forEachOrNull":"name","column":[{"name":"f","path":"family"},{"name":"g","path":"given","collection":true}]}]`,
			`[{"id":"a","f":"Ash","g":["Ann","Bea"]},{"id":"a","f":null,"g":["Annie"]},{"id":"b","f":null,"g":null}]`},
		{"nested forEach", `"resource":"Patient","select":[{"forEach":"contact","column":[{"name":"n","path":"name.family"},{"name":"i","path":"%rowIndex"}],"select":[{"forEach":"telecom","column":[{"name":"v","path":"value"},{"name":"j","path":"%rowIndex"}]}]}]`,
			`[{"n":"Kin","i":0,"v":"2","j":0},{"n":"Kin","i":0,"v":"3","j":1}]`},
		{"nested forEachOrNull", `"resource":"Patient","select":[{"forEachOrNull":"contact","column":[{"name":"n","path":"name.family"}],"select":[{"forEachOrNull":"telecom","column":[{"name":"v","path":"value"},{"name":"j","path":"%rowIndex"}]}]}]`,
			`[{"n":"Kin","v":"2","j":0},{"n":"Kin","v":"3","j":1},{"n":"Friend","v":null,"j":0},{"n":null,"v":null,"j":0}]`},
		{"two of them are each with each", `"resource":"Patient","select":[{"forEach":"name","column":[{"name":"n","path":"given.first()"}]},{"forEach":"telecom","column":[{"name":"v","path":"value"}]}]`,
			`[{"n":"Ann","v":"1"},{"n":"Ann","v":"a@x.test"},{"n":"Annie","v":"1"},{"n":"Annie","v":"a@x.test"}]`},
		{"unionAll", `"resource":"Patient","select":[{"column":[{"name":"id","path":"id"}]},{"unionAll":[{"forEach":"telecom","column":[{"name":"v","path":"value"}]},{"forEach":"contact.telecom","column":[{"name":"v","path":"value"}]}]}]`,
			`[{"id":"a","v":"1"},{"id":"a","v":"a@x.test"},{"id":"a","v":"2"},{"id":"a","v":"3"}]`},
		{"a union in a forEach knows its place", `"resource":"Patient","select":[{"forEach":"contact","select":[{"unionAll":[{"forEach":"telecom","column":[{"name":"i","path":"%rowIndex"},{"name":"v","path":"value"}]},{"column":[{"name":"i","path":"%rowIndex"},{"name":"v","path":"name.family"}]}]}]}]`,
			`[{"i":0,"v":"2"},{"i":1,"v":"3"},{"i":0,"v":"Kin"},{"i":1,"v":"Friend"}]`},
		{"repeat", `"resource":"QuestionnaireResponse","select":[{"repeat":["item"],"column":[{"name":"l","path":"linkId"},{"name":"i","path":"%rowIndex"}]}]`,
			`[{"l":"1","i":0},{"l":"1.1","i":1},{"l":"1.2","i":2},{"l":"1.2.1","i":3},{"l":"2","i":4}]`},
		{"repeat by two paths", `"resource":"QuestionnaireResponse","select":[{"repeat":["item","answer.item"],"column":[{"name":"l","path":"linkId"}]}]`,
			`[{"l":"1"},{"l":"1.1"},{"l":"1.1.1"},{"l":"1.2"},{"l":"1.2.1"},{"l":"2"}]`},
		{"repeat with forEachOrNull", `"resource":"QuestionnaireResponse","select":[{"repeat":["item"],"select":[{"column":[{"name":"l","path":"linkId"}]},{"forEachOrNull":"answer","column":[{"name":"v","path":"value.ofType(string)"}]}]}]`,
			`[{"l":"1","v":null},{"l":"1.1","v":"yes"},{"l":"1.2","v":null},{"l":"1.2.1","v":null},{"l":"2","v":null}]`},
		{"constants", `"resource":"Patient","constant":[{"name":"use","valueCode":"official"},{"name":"no","valueInteger":2},{"name":"before","valueDate":"1980-01-01"}],"select":[{"column":[{"name":"f","path":"name.where(use = %use).family"},{"name":"m","path":"multipleBirth.ofType(integer) = %no"},{"name":"b","path":"birthDate < %before"}]}]`,
			`[{"f":"Ash","m":true,"b":true},{"f":null,"m":null,"b":null}]`},
		{"keys", `"resource":"Patient","select":[{"column":[{"name":"k","path":"getResourceKey()"},{"name":"o","path":"managingOrganization.getReferenceKey(Organization)"},{"name":"w","path":"managingOrganization.getReferenceKey('Patient')"},{"name":"g","path":"generalPractitioner.getReferenceKey()","collection":true}]}]`,
			`[{"k":"Patient/a","o":"Organization/o","w":null,"g":["Practitioner/g"]},{"k":"Patient/b","o":null,"w":null,"g":[]}]`},
		{"types", `"resource":"Patient","select":[{"column":[{"name":"d","path":"extension('http://x.test/e').value.ofType(decimal)","type":"decimal"},{"name":"b","path":"birthDate","type":"date"},{"name":"n","path":"name.first()","type":"http://hl7.org/fhir/StructureDefinition/HumanName"},{"name":"l","path":"birthDate.lowBoundary()","type":"date"},{"name":"j","path":"name.given.join('+')","type":"http://hl7.org/fhirpath/System.String"}]}]`,
			`[{"d":1.50,"b":"1970-05","n":{"use":"official","family":"Ash","given":["Ann","Bea"]},"l":"1970-05-01","j":"Ann+Bea+Annie"},{"d":null,"b":null,"n":null,"l":null,"j":""}]`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resources := people
			if strings.Contains(tt.view, "QuestionnaireResponse") {
				resources = []string{answers}
			}
			rows, v, err := on(t, "{"+tt.view+"}", resources...)
			if err != nil {
				t.Fatal(err)
			}
			got, err := Bytes(JSONArray, v.Columns, true, rows)
			if err != nil {
				t.Fatal(err)
			}
			if text := strings.ReplaceAll(strings.TrimSpace(string(got)), "\n", ""); text != tt.want {
				t.Errorf("got  %s\nwant %s", text, tt.want)
			}
		})
	}
}

// What is no view is refused with its place, and without what was written there.
func TestWhatIsNoViewIsRefusedWithItsPlace(t *testing.T) {
	const one = `"column":[{"name":"id","path":"id"}]`
	for view, place := range map[string]string{
		`{}`: "ViewDefinition.resource",
		`{"resource":"Secret","select":[{` + one + `}]}`:                                                                         "ViewDefinition.resource",
		`{"resource":"Patient"}`:                                                                                                 "ViewDefinition.select",
		`{"resource":"Patient","select":[{}]}`:                                                                                   "ViewDefinition.select[0]",
		`{"resource":"Patient","select":[{"forEach":"@@secret",` + one + `}]}`:                                                   "ViewDefinition.select[0].forEach",
		`{"resource":"Patient","select":[{"forEach":1,` + one + `}]}`:                                                            "ViewDefinition.select[0].forEach",
		`{"resource":"Patient","select":[{"forEach":"name","forEachOrNull":"name",` + one + `}]}`:                                "ViewDefinition.select[0]",
		`{"resource":"Patient","select":[{"foreach":"name",` + one + `}]}`:                                                       "ViewDefinition.select[0].foreach",
		`{"resource":"Patient","select":[{"column":[{"name":"_secret","path":"id"}]}]}`:                                          "ViewDefinition.select[0].column[0].name",
		`{"resource":"Patient","select":[{"column":[{"name":"x","path":"id","type":"Secret"}]}]}`:                                "ViewDefinition.select[0].column[0].type",
		`{"resource":"Patient","select":[{"column":[{"name":"x"}]}]}`:                                                            "ViewDefinition.select[0].column[0].path",
		`{"resource":"Patient","select":[{"column":[{"name":"x","path":"%secret"}]}]}`:                                           "ViewDefinition.select[0].column[0].path",
		`{"resource":"Patient","select":[{"unionAll":[{` + one + `},{"column":[{"name":"id","path":"id","type":"code"}]}]}]}`:    "ViewDefinition.select[0].unionAll[1]",
		`{"resource":"Patient","select":[{` + one + `},{` + one + `}]}`:                                                          "ViewDefinition.select",
		`{"resource":"Patient","constant":[{"name":"x","valueDate":"secret"}],"select":[{` + one + `}]}`:                         "ViewDefinition.constant",
		`{"resource":"Patient","constant":[{"name":"x","valueCoding":{"code":"secret"}}],"select":[{` + one + `}]}`:              "ViewDefinition.constant[0].value",
		`{"resource":"Patient","constant":[{"name":"x","valueCode":"a"},{"name":"x","valueCode":"b"}],"select":[{` + one + `}]}`: "ViewDefinition.constant[1].name",
		`{"resource":"Patient","constant":[{"name":"rowIndex","valueCode":"a"}],"select":[{` + one + `}]}`:                       "ViewDefinition.constant[0].name",
		`{"resource":"Patient","fhirVersion":["5.0.0"],"select":[{` + one + `}]}`:                                                "ViewDefinition.fhirVersion",
		`{"resource":"Patient","where":[{"path":"active","op":"secret"}],"select":[{` + one + `}]}`:                              "ViewDefinition.where[0].op",
		`{"resource":"Patient","name":"a secret","select":[{` + one + `}]}`:                                                      "ViewDefinition.name",
		`{"resource":"Patient","select":[{"column":[{"name":"x","path":"name.family | 'secret'"}]}]}`:                            "ViewDefinition.select[0].column[0].path",
		`{"resource":"Patient","select":[{"column":[{"name":"x","path":"name.first()"}]}]}`:                                      "ViewDefinition.select[0].column[0].path",
		`{"resource":"Patient","select":[{"column":[{"name":"x","path":"active","type":"string"}]}]}`:                            "ViewDefinition.select[0].column[0].path",
		`{"resource":"Patient","select":[{"column":[{"name":"x","path":"name.first()","type":"Address"}]}]}`:                     "ViewDefinition.select[0].column[0].path",
		`{"resource":"Patient","where":[{"path":"id"}],"select":[{` + one + `}]}`:                                                "ViewDefinition.where[0].path",
	} {
		_, _, err := on(t, view, people...)
		var e *fhir.Error
		if !asError(err, &e) || e.Code() != fhir.Value || len(e.Issues[0].Expression) != 1 || e.Issues[0].Expression[0] != place || strings.Contains(strings.ToLower(e.Error()), "secret") {
			t.Errorf("%s: %v", view, err)
		}
	}
}

func asError(err error, into **fhir.Error) (ok bool) {
	*into, ok = err.(*fhir.Error)
	return ok
}

// No view makes more of one resource than the bound on work allows, whatever it
// joins or repeats.
func TestTheWorkOnOneResourceIsBounded(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	heavy := `{"resourceType":"Patient","id":"a","name":[` + strings.TrimSuffix(strings.Repeat(`{"family":"f"},`, 100), ",") + `],"address":[{"text":"` + long + `"}]}`
	for name, selects := range map[string]string{
		"rows":    strings.TrimSuffix(strings.Repeat(`{"forEach":"name","column":[{"name":"c@","path":"family"}]},`, 4), ","),
		"text":    `{"column":[{"name":"t","path":"address.text"}]},{"forEach":"name","select":[{"forEach":"%resource.name","column":[{"name":"f","path":"family"}]}]}`,
		"repeat":  `{"repeat":["$this"],"column":[{"name":"c","path":"id"}]}`,
		"columns": `{"forEach":"name","column":[{"name":"c","path":"%resource.descendants().select(%resource.descendants()).count()"}]}`,
	} {
		for i := 0; strings.Contains(selects, "@"); i++ {
			selects = strings.Replace(selects, "@", fmt.Sprint(i), 1)
		}
		if _, _, err := on(t, `{"resource":"Patient","select":[`+selects+`]}`, heavy); !fhir.IsCode(err, fhir.TooCostly) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A file of Parquet has the columns in order, with the types that they say, and
// whatever a row has in it; nothing is lost at the end of a group of rows.
func TestAFileOfParquetHasWhatTheRowsHave(t *testing.T) {
	v, err := Parse([]byte(`{"resource":"Patient","select":[{"column":[{"name":"z","path":"id","type":"id"},{"name":"b","path":"active","type":"boolean"},
		{"name":"i","path":"1","type":"integer"},{"name":"d","path":"1.0","type":"decimal"},{"name":"m","path":"meta.lastUpdated","type":"instant"},
		{"name":"l","path":"name.given","type":"string","collection":true},{"name":"n","path":"name.first()","type":"HumanName"},{"name":"a","path":"id"}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	rows := []Row{
		{"one", true, int64(7), Number("1.50"), "2020-01-01T00:00:00.5+01:00", List{"x", "y"}, JSON(`{"family":"f"}`), int64(3)},
		{nil, nil, nil, nil, nil, nil, nil, nil},
		{"two", false, int64(-1), int64(4), "1969-12-31T23:59:59Z", List{}, nil, true},
	}
	for range 3000 { // more than one group
		rows = append(rows, Row{strings.Repeat("x", 4000), nil, nil, nil, nil, List{"e"}, nil, nil})
	}
	b, err := Bytes(Parquet, v.Columns, true, rows)
	if err != nil {
		t.Fatal(err)
	}
	if dir := os.Getenv("CORDON_KEEP_PARQUET"); dir != "" { // for readers that others wrote
		if err := os.WriteFile(dir+"/view.parquet", b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := parquet.OpenFile(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range f.Root().Columns() {
		names = append(names, c.Name()+" "+c.Type().String())
	}
	if want := "[z STRING b BOOLEAN i INT(64,true) d DOUBLE m TIMESTAMP(isAdjustedToUTC=true,unit=MICROS) l LIST n JSON a STRING]"; fmt.Sprint(names) != want {
		t.Errorf("columns %v, want %s", names, want)
	}
	if len(f.RowGroups()) < 2 || f.NumRows() != int64(len(rows)) {
		t.Errorf("%d rows in %d groups", f.NumRows(), len(f.RowGroups()))
	}
	r := parquet.MultiRowGroup(f.RowGroups()...).Rows()
	defer r.Close()
	var got []string
	for row := make([]parquet.Row, 1); ; {
		n, err := r.ReadRows(row)
		if n == 1 && len(got) < 3 {
			got = append(got, fmt.Sprintf("%+v", row[0]))
		}
		if err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range []string{"one", "null", "two"} {
		if !strings.Contains(got[i], want) {
			t.Errorf("row %d: %s", i, got[i])
		}
	}
	for _, want := range []string{"1577833200500000", "1.5", `{"family":"f"}`} {
		if !strings.Contains(got[0], want) {
			t.Errorf("%s is missing in %s", want, got[0])
		}
	}
}

// Whatever is read as a view is a view, and it is refused or makes rows that
// have all columns.
func FuzzParse(f *testing.F) {
	for _, v := range Shipped() {
		f.Add(Source(v.Name))
	}
	f.Add([]byte(`{"resource":"Patient","constant":[{"name":"x","valueDate":"2020"}],"select":[{"repeat":["contact"],"unionAll":[{"column":[{"name":"i","path":"%x | id"}]}]}]}`))
	d, err := fhir.Parse([]byte(people[0]), fhir.Limits{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := Parse(b)
		if err != nil {
			return
		}
		run, err := v.Run()
		if err != nil {
			t.Fatal(err)
		}
		rows, err := run.Rows(t.Context(), d)
		if err != nil {
			return
		}
		for _, row := range rows {
			if len(row) != len(v.Columns) {
				t.Fatalf("%d cells in %d columns", len(row), len(v.Columns))
			}
		}
		out, err := Bytes(JSONArray, v.Columns, true, rows)
		if err != nil || !json.Valid(out) {
			t.Fatalf("%v %s", err, out)
		}
		if _, err := Bytes(Parquet, v.Columns, true, rows); err != nil {
			t.Fatal(err)
		}
	})
}

// BenchmarkRows is what the rows of one laboratory result take.
func BenchmarkRows(b *testing.B) {
	d, err := fhir.Parse([]byte(`{"resourceType":"Observation","id":"o","meta":{"versionId":"1","lastUpdated":"2020-01-01T00:00:00.000Z"},"status":"final",
		"category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"laboratory"}]}],
		"code":{"coding":[{"system":"http://loinc.org","code":"2339-0","display":"Glucose"}],"text":"Glucose"},"subject":{"reference":"Patient/p"},"encounter":{"reference":"Encounter/e"},
		"effectiveDateTime":"2020-01-01T00:00:00Z","issued":"2020-01-01T00:00:00Z","valueQuantity":{"value":5.4,"unit":"mmol/L","system":"http://unitsofmeasure.org","code":"mmol/L"},
		"referenceRange":[{"low":{"value":3.9},"high":{"value":5.6}}]}`), fhir.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	v, err := Named("ViewDefinition/observation_labs")
	if err != nil {
		b.Fatal(err)
	}
	run, err := v.Run()
	if err != nil {
		b.Fatal(err)
	}
	for _, f := range []Format{NDJSON, CSV, Parquet} {
		b.Run(string(f), func(b *testing.B) {
			table, err := NewTable(io.Discard, f, v.Columns, true)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				rows, err := run.Rows(b.Context(), d)
				if err != nil {
					b.Fatal(err)
				}
				for _, r := range rows {
					if err := table.Write(r); err != nil {
						b.Fatal(err)
					}
				}
			}
			if err := table.Close(); err != nil {
				b.Fatal(err)
			}
		})
	}
}
