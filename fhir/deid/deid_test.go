package deid_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/deid"
	"github.com/cordon-fhir/cordon/fhir/r4"
	"github.com/cordon-fhir/cordon/fhir/validate"
)

var now = time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)

func rules(key string) *deid.Rules { return &deid.Rules{Key: []byte(key), Now: now} }

// shown de-identifies a resource of the patient p.
func shown(t testing.TB, r *deid.Rules, resource string) map[string]any {
	t.Helper()
	d, err := fhir.Parse([]byte(resource), fhir.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	out := r.Resource(d.JSON, []string{"p"})
	if out == nil {
		return nil
	}
	var got map[string]any
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if d, err = fhir.Parse(out, fhir.Limits{}); err == nil {
		err = validate.Resource(d)
	}
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
	return got
}

// A planter makes a resource with something to be found again in each of its leaves.
type planter struct{ n int }

// systems are those that the codes are said to be of, in turn.
var systems = []string{"http://snomed.info/sct", "http://loinc.org", "http://hl7.org/fhir/sid/icd-10-cm", "http://terminology.hl7.org/CodeSystem/v3-ActCode", "http://hospital.example"}

func (p *planter) canary() string { p.n++; return fmt.Sprintf("canary%d", p.n) }

// object has each element of the type, and each with an extension and an id of its own.
func (p *planter) object(t *r4.Type, depth int) map[string]any {
	o := map[string]any{"madeUp" + p.canary(): p.canary()}
	for _, e := range t.Elements() {
		var v any
		switch typ := e.Complex(); {
		case typ == nil:
			v = p.primitive(&e)
			o["_"+e.Name] = map[string]any{"id": p.canary(), "extension": []any{map[string]any{"url": p.canary(), "valueString": p.canary()}}}
		case depth == 0:
			continue
		case typ.Path == "Extension":
			v = map[string]any{"url": p.canary(), "valueString": p.canary(), "extension": []any{map[string]any{"url": p.canary(), "valueAddress": map[string]any{"city": p.canary()}}}}
		case typ.Path == "Resource":
			v = map[string]any{"resourceType": "Patient", "id": p.canary(), "name": []any{map[string]any{"family": p.canary()}}}
		default:
			v = p.object(typ, depth-1)
		}
		if t.Path == "Coding" && e.Name == "system" {
			v = systems[p.n%len(systems)]
		}
		if e.Many() {
			v = []any{v, v}
		}
		o[e.Name] = v
	}
	return o
}

func (p *planter) primitive(e *r4.Element) any {
	switch e.Primitive() {
	case r4.Boolean:
		return true
	case r4.Integer, r4.PositiveInt, r4.UnsignedInt, r4.Decimal:
		return 7
	case r4.Date:
		return "1977-03-31"
	case r4.DateTime, r4.Instant:
		return "1977-03-31T11:22:33.987654321Z"
	}
	return p.canary()
}

// HIPAA 164.514(b)(2): whatever text there is, in any element of any type, is gone.
func TestNoTextOfAnyElementOfAnyTypeIsLeft(t *testing.T) {
	leaves, left := 0, 0
	all := r4.Types()
	for i := range all {
		typ := &all[i]
		if !fhir.Type(typ.Path).Known() {
			continue
		}
		p := &planter{}
		o := p.object(typ, 3)
		o["resourceType"], o["id"] = typ.Path, "canary-id"
		body, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		leaves += p.n
		for _, years := range []bool{false, true} {
			r := rules("key")
			r.Years = years
			out := string(r.Resource(body, []string{"p"}))
			for _, canary := range []string{"canary", "1977-03-31", "987654321", "madeUp"} {
				if n := strings.Count(out, canary); n > 0 {
					left += n
					t.Errorf("%s: %s is left: %.2000s", typ.Path, canary, out)
				}
			}
			if (out != "") != deid.Covers(fhir.Type(typ.Path)) {
				t.Errorf("%s: %.200s", typ.Path, out)
			}
			if years && (strings.Contains(out, `"1976`) || strings.Contains(out, `"1977-`)) {
				t.Errorf("%s: more than years of dates: %.2000s", typ.Path, out)
			}
		}
	}
	t.Logf("%d of %d canaries left", left, leaves)
}

func TestWhatIsMeasuredIsKept(t *testing.T) {
	got := shown(t, rules("key"), `{"resourceType":"Observation","id":"o","meta":{"versionId":"3","profile":["http://x"],"tag":[{"code":"t"}],"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"R","display":"restricted"}]},
		"text":{"status":"generated","div":"<div>Doe</div>"},"identifier":[{"value":"1"}],"status":"final",
		"category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"vital-signs","display":"Doe"}],"text":"Doe"}],
		"code":{"coding":[{"system":"http://loinc.org","code":"8480-6"},{"system":"http://hospital.example","code":"bp"}]},
		"subject":{"reference":"Patient/p","display":"Doe"},"effectiveDateTime":"2020-03-31T10:20:30+01:00","issued":"2020-03-31T10:20:30.123Z","performer":[{"reference":"#c"},{"display":"Doe"}],
		"valueQuantity":{"value":120.0,"unit":"Doe","system":"http://unitsofmeasure.org","code":"mm[Hg]"},"note":[{"text":"Doe"}],
		"component":[{"code":{"coding":[{"system":"http://snomed.info/sct","code":"73211009"},{"system":"http://snomed.info/sct","code":"73211008"}]},"valueQuantity":{"value":3,"system":"http://unitsofmeasure.org","code":"{Doe}/min"}},{"code":{"text":"Doe"},"valueString":"Doe"}]}`)
	r := rules("key")
	out, _ := json.Marshal(got)
	for _, want := range []string{
		`"id":"` + r.ID(fhir.Ref{Type: "Observation", ID: "o"}) + `"`, `"subject":{"reference":"Patient/` + r.ID(fhir.Ref{Type: "Patient", ID: "p"}) + `"}`,
		`"meta":{"security":[{"code":"PSEUDED","system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue"},{"code":"R","system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality"}]}`,
		`"status":"final"`, `"coding":[{"code":"vital-signs",`, `"code":{"coding":[{"code":"8480-6","system":"http://loinc.org"}]}`,
		`"valueQuantity":{"code":"mm[Hg]","system":"http://unitsofmeasure.org","value":120}`, `"coding":[{"code":"73211009","system":"http://snomed.info/sct"}]`, `"code":"1/min"`,
		`{"code":{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"masked"}]}}`,
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("without %s: %s", want, out)
		}
	}
	if strings.Contains(string(out), "Doe") || strings.Contains(string(out), "hospital") || got["performer"] != nil {
		t.Errorf("%s", out)
	}
}

func TestDatesOfAPatientKeepTheirDistances(t *testing.T) {
	const resource = `{"resourceType":"Encounter","id":"e","status":"finished","class":{"system":"http://terminology.hl7.org/CodeSystem/v3-ActCode","code":"AMB"},"period":{"start":"2020-02-27T23:00:00.5+02:00","end":"2020-03-02"},"statusHistory":[{"status":"planned","period":{"start":"2019","end":"2020-01"}}]}`
	got := shown(t, rules("key"), resource)
	period := got["period"].(map[string]any)
	start, err := time.Parse(time.RFC3339, period["start"].(string))
	if err != nil {
		t.Fatal(err)
	}
	end, err := time.Parse(time.DateOnly, period["end"].(string))
	if err != nil {
		t.Fatal(err)
	}
	if days := end.Sub(start.Truncate(24*time.Hour)).Hours() / 24; days != 4 || !strings.HasSuffix(period["start"].(string), "T23:00:00+02:00") {
		t.Errorf("%v: %v days", period, days)
	}
	if back := time.Date(2020, 3, 2, 0, 0, 0, 0, time.UTC).Sub(end).Hours() / 24; back < 1 || back > 365 {
		t.Errorf("shifted by %v days", back)
	}
	if again := shown(t, rules("key"), resource); fmt.Sprint(again) != fmt.Sprint(got) {
		t.Errorf("%v, then %v", got, again)
	}
	if other := shown(t, rules("other"), resource); fmt.Sprint(other["period"]) == fmt.Sprint(period) || other["id"] == got["id"] {
		t.Errorf("under another key too: %v", other)
	}
	years := rules("key")
	years.Years = true
	if got := shown(t, years, resource); fmt.Sprint(got["period"]) != "map[end:2020 start:2020]" {
		t.Errorf("by years: %v", got)
	}
}

func TestAgesOver89AreOne(t *testing.T) {
	for _, tt := range []struct{ resource, want string }{
		{`{"resourceType":"Patient","id":"p","gender":"male","birthDate":"1936-11-22"}`, `map[gender:male]`},
		{`{"resourceType":"Patient","id":"p","birthDate":"1890"}`, `map[]`},
		{`{"resourceType":"Condition","id":"c","onsetAge":{"value":93,"unit":"years","system":"http://unitsofmeasure.org","code":"a"},"subject":{"display":"x"}}`,
			`map[onsetAge:map[code:a system:http://unitsofmeasure.org value:90] subject:map[extension:[map[url:http://hl7.org/fhir/StructureDefinition/data-absent-reason valueCode:masked]]]]`},
		{`{"resourceType":"Observation","id":"c","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"8480-6"}]},"valueQuantity":{"value":1150,"system":"http://unitsofmeasure.org","code":"mo"}}`, `map[valueQuantity:map[code:a system:http://unitsofmeasure.org value:90]]`},
		{`{"resourceType":"Observation","id":"c","status":"final","code":{"coding":[{"system":"http://loinc.org","code":"8480-6"}]},"valueQuantity":{"value":89,"system":"http://unitsofmeasure.org","code":"a"}}`, `map[valueQuantity:map[code:a system:http://unitsofmeasure.org value:89]]`},
	} {
		got := shown(t, rules("key"), tt.resource)
		for _, name := range []string{"resourceType", "id", "meta", "status", "code"} {
			delete(got, name)
		}
		if fmt.Sprint(got) != tt.want {
			t.Errorf("%v, want %s", got, tt.want)
		}
	}
}

func TestOfAnAddressTheStateAndWhatManyShareOfTheZIPCodeAreKept(t *testing.T) {
	for address, want := range map[string]string{
		`{"line":["1 Main St"],"city":"Boston","district":"Suffolk","state":"MA","postalCode":"02134-1000","country":"US","text":"x","period":{"start":"2020"}}`: `map[country:US postalCode:021 state:MA]`,
		`{"state":"VT","postalCode":"03601"}`:                                     `map[postalCode:000 state:VT]`,
		`{"state":"Boston","postalCode":"MA 02134"}`:                              `<nil>`,
		`{"city":"Genf","state":"GE","postalCode":"12051","country":"CH"}`:        `map[country:CH]`,
		`{"city":"Genf","state":"GA","postalCode":"12051","country":"Geneva, X"}`: `<nil>`,
	} {
		got := shown(t, rules("key"), `{"resourceType":"Patient","id":"p","address":[`+address+`]}`)["address"]
		if list, ok := got.([]any); ok {
			got = list[0]
		}
		if fmt.Sprint(got) != want {
			t.Errorf("%s: %v, want %s", address, got, want)
		}
	}
}

func BenchmarkResource(b *testing.B) {
	d, err := fhir.Parse([]byte(`{"resourceType":"Observation","id":"o","status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"vital-signs"}]}],"code":{"coding":[{"system":"http://loinc.org","code":"8480-6"}]},"subject":{"reference":"Patient/p"},"effectiveDateTime":"2020-03-31T10:20:30+01:00","valueQuantity":{"value":120.0,"system":"http://unitsofmeasure.org","code":"mm[Hg]"}}`), fhir.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	r := rules("key")
	for b.Loop() {
		r.Resource(d.JSON, []string{"p"})
	}
}
