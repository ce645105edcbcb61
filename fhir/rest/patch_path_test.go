package rest

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/validate"
)

// pathPatching returns Parameters with an operation for each list of name and
// part: a part is JSON of its value[x] or of its parts.
func pathPatching(ops ...[]string) string {
	var all []string
	for _, op := range ops {
		var parts []string
		for i := 0; i < len(op); i += 2 {
			parts = append(parts, `{"name":"`+op[i]+`",`+op[i+1]+`}`)
		}
		all = append(all, `{"name":"operation","part":[`+strings.Join(parts, ",")+`]}`)
	}
	return `{"resourceType":"Parameters","parameter":[` + strings.Join(all, ",") + `]}`
}

func pathOperation(kind, path string, more ...string) []string {
	return append([]string{"type", `"valueCode":"` + kind + `"`, "path", `"valueString":"` + path + `"`}, more...)
}

// patchByPath applies a FHIRPath Patch as a request does.
func patchByPath(t testing.TB, patch string, old fhir.Resource) (*fhir.Document, error) {
	t.Helper()
	d, err := fhir.Parse([]byte(patch), fhir.Limits{})
	if err == nil {
		err = validate.Resource(d)
	}
	if err != nil {
		return nil, err
	}
	ops, err := decodePathPatch(d.JSON, "Parameters", 50)
	if err != nil {
		return nil, err
	}
	return applyPatch(ops, old, 1<<20)
}

var beforePath = fhir.Resource{
	Ref: fhir.Ref{Type: "Patient", ID: "7"}, Version: 1,
	Body: []byte(`{"resourceType":"Patient","id":"7","meta":{"versionId":"1","lastUpdated":"2026-01-02T03:04:05.678Z","tag":[{"code":"t"}]},` +
		`"active":true,"name":[{"family":"A"},{"family":"B","given":["x",null],"_given":[null,{"extension":[{"url":"http://g","valueCode":"g"}]}]}],"contact":[{"name":{"text":"c"}}],` +
		`"deceasedBoolean":false,"extension":[{"url":"http://x","valueDecimal":1.50}],"birthDate":"1970-01-01"}`),
}

// H-27: FHIRPath Patch
// https://hl7.org/fhir/R4/fhirpatch.html
func TestAFHIRPathPatchChangesWhatItSays(t *testing.T) {
	for _, tt := range []struct {
		claim    string
		op       []string
		old, new string
	}{
		{"replace changes a primitive", pathOperation("replace", "Patient.birthDate", "value", `"valueDate":"1980-01-01"`), `"birthDate":"1970-01-01"`, `"birthDate":"1980-01-01"`},
		{"replace changes the type of a choice", pathOperation("replace", "Patient.deceased", "value", `"valueDateTime":"2020-01-01"`), `"deceasedBoolean":false,`, ``},
		{"add appends to a list", pathOperation("add", "Patient", "name", `"valueString":"name"`, "value", `"valueHumanName":{"family":"C"}`), `,null],"_given":[null,{"extension":[{"url":"http://g","valueCode":"g"}]}]}]`, `,null],"_given":[null,{"extension":[{"url":"http://g","valueCode":"g"}]}]},{"family":"C"}]`},
		{"add gives an element with a choice", pathOperation("add", "Patient", "name", `"valueString":"multipleBirth"`, "value", `"valueInteger":2`), `"birthDate":"1970-01-01"`, `"birthDate":"1970-01-01","multipleBirthInteger":2`},
		{"add gives a primitive an extension", pathOperation("add", "Patient.birthDate", "name", `"valueString":"extension"`, "value", `"part":[{"name":"url","valueUri":"http://e"},{"name":"value","valueCode":"c"}]`), `"birthDate":"1970-01-01"`, `"birthDate":"1970-01-01","_birthDate":{"extension":[{"url":"http://e","valueCode":"c"}]}`},
		{"add makes an element of parts", pathOperation("add", "Patient", "name", `"valueString":"link"`, "value", `"part":[{"name":"other","valueReference":{"reference":"Patient/8"}},{"name":"type","valueCode":"seealso"}]`), `"birthDate":"1970-01-01"`, `"birthDate":"1970-01-01","link":[{"other":{"reference":"Patient/8"},"type":"seealso"}]`},
		{"insert puts into a list", pathOperation("insert", "Patient.name", "index", `"valueInteger":0`, "value", `"valueHumanName":{"family":"C"}`), `"name":[`, `"name":[{"family":"C"},`},
		{"move reorders a list", pathOperation("move", "Patient.name", "source", `"valueInteger":1`, "destination", `"valueInteger":0`), `{"family":"A"},{"family":"B","given":["x",null],"_given":[null,{"extension":[{"url":"http://g","valueCode":"g"}]}]}`, `{"family":"B","given":["x",null],"_given":[null,{"extension":[{"url":"http://g","valueCode":"g"}]}]},{"family":"A"}`},
		{"delete removes an element", pathOperation("delete", "Patient.active"), `"active":true,`, ``},
		{"delete removes what becomes empty with it", pathOperation("delete", "Patient.contact.name.text"), `"contact":[{"name":{"text":"c"}}],`, ``},
		{"delete keeps the places beside a primitive in step", pathOperation("delete", "Patient.name[1].given[0]"), `"given":["x",null],"_given":[null,{"extension":[{"url":"http://g","valueCode":"g"}]}]`, `"_given":[{"extension":[{"url":"http://g","valueCode":"g"}]}]`},
		{"delete of what is not there does nothing", pathOperation("delete", "Patient.photo"), ``, ``},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			d, err := patchByPath(t, pathPatching(tt.op), beforePath)
			if err != nil {
				t.Fatal(err)
			}
			want := strings.Replace(string(beforePath.Body), tt.old, tt.new, 1)
			if tt.claim == "replace changes the type of a choice" {
				want = strings.TrimSuffix(want, "}") + `,"deceasedDateTime":"2020-01-01"}`
			}
			if string(d.JSON) != want {
				t.Errorf("got  %s\nwant %s", d.JSON, want)
			}
		})
	}
}

// H-27
func TestAFHIRPathPatchIsRefused(t *testing.T) {
	value := []string{"value", `"valueString":"x"`}
	name := func(n string) []string { return []string{"name", `"valueString":"` + n + `"`} }
	join := func(kind, path string, more ...[]string) string {
		op := pathOperation(kind, path)
		for _, m := range more {
			op = append(op, m...)
		}
		return pathPatching(op)
	}
	meta := []string{"value", `"valueMeta":{"tag":[{"code":"z"}]}`}
	for _, tt := range []struct {
		claim, patch string
		want         int
	}{
		{"that changes the id", join("replace", "Patient.id", value), 422},
		{"that removes the id", join("delete", "Patient.id"), 422},
		{"that changes the version", join("replace", "Patient.meta.versionId", value), 422},
		{"that removes a tag", join("delete", "Patient.meta.tag"), 422},
		{"that adds a security label", join("add", "Patient.meta", name("security"), []string{"value", `"valueCoding":{"code":"R"}`}), 422},
		{"that replaces meta", join("replace", "Patient.meta", meta), 422},
		{"that removes meta", join("delete", "Patient.meta"), 422},
		{"that replaces everything", join("replace", "Patient", value), 422},
		{"that deletes everything", join("delete", "Patient"), 422},
		{"whose path leads to several elements", join("delete", "Patient.name"), 422},
		{"whose path leads nowhere", join("replace", "Patient.photo", value), 422},
		{"whose path leads to a part of a list", join("insert", "Patient.name.where(family = 'A')", value, []string{"index", `"valueInteger":0`}), 422},
		{"whose index is outside of the list", join("insert", "Patient.name", []string{"value", `"valueHumanName":{"family":"x"}`}, []string{"index", `"valueInteger":9`}), 422},
		{"that moves from outside of the list", join("move", "Patient.name", []string{"source", `"valueInteger":7`, "destination", `"valueInteger":0`}), 422},
		{"that makes an invalid resource", join("replace", "Patient.birthDate", value), 422},
		{"whose path computes a value", join("delete", "Patient.name.count()"), 400},
		{"whose path is no FHIRPath", join("delete", "Patient..name"), 400},
		{"that adds what the type does not have", join("add", "Patient", name("nickname"), value), 400},
		{"with an unknown operation", join("increase", "Patient.active"), 400},
		{"with an unknown part", join("delete", "Patient.active", []string{"force", `"valueBoolean":true`}), 400},
		{"without a path", `{"resourceType":"Parameters","parameter":[{"name":"operation","part":[{"name":"type","valueCode":"delete"}]}]}`, 400},
		{"with a parameter that is no operation", `{"resourceType":"Parameters","parameter":[{"name":"x","valueCode":"delete"}]}`, 400},
		{"with too many operations", pathPatching(make([][]string, 51)...), 400},
		{"whose path is costly", join("delete", "descendants().select(%resource.descendants().select(%resource.descendants().select(%resource.descendants().select(%resource.descendants()))))"), 422},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			_, err := patchByPath(t, tt.patch, beforePath)
			if err == nil {
				t.Fatal("it was applied")
			}
			if !isClientError(err) {
				t.Fatalf("got %v, want a fhir.Error", err)
			}
			if got := statusOf(clientError(err)); got != tt.want && !(tt.claim == "with too many operations" && got == 422) {
				t.Errorf("got %d (%v), want %d", got, err, tt.want)
			}
		})
	}
}

// FuzzPathPatch holds that no FHIRPath Patch panics, changes which resource it
// is, or makes a resource that is not valid.
func FuzzPathPatch(f *testing.F) {
	f.Add("replace", "Patient.name[0].family", `"valueString":"x"`, "family", 0, 1)
	f.Add("add", "Patient.name[1].given[1]", `"valueExtension":{"url":"http://x","valueCode":"y"}`, "extension", 0, 1)
	f.Add("move", "Patient.name", `"valueString":"x"`, "", 1, 0)
	f.Add("insert", "Patient.name.given", `"valueString":"x"`, "", 1, 0)
	f.Add("add", "Patient", `"part":[{"name":"name","valueHumanName":{"text":"x"}}]`, "contact", 1, 0)
	f.Fuzz(func(t *testing.T, kind, path, value, name string, index, to int) {
		quoted := func(s string) string {
			b, _ := json.Marshal(s)
			return `"valueString":` + string(b)
		}
		number := func(i int) string {
			b, _ := json.Marshal(i)
			return `"valueInteger":` + string(b)
		}
		op := []string{"type", quoted(kind), "path", quoted(path), "value", value, "name", quoted(name), "source", number(index), "destination", number(to)}
		d, err := patchByPath(t, pathPatching(op, op), beforePath)
		if err != nil {
			if !isClientError(err) {
				t.Errorf("got %v, want a fhir.Error", err)
			}
			return
		}
		if d.Type != "Patient" || d.ID != "7" {
			t.Errorf("it was made %s/%s", d.Type, d.ID)
		}
	})
}
