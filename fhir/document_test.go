package fhir_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/cordon-fhir/cordon/fhir"
)

// What cannot be read in one way only is refused, with the place and without
// the value. T122, T208, T210, H-20
func TestParseRefuses(t *testing.T) {
	deep := func(open, shut string, n int) string {
		return `{"resourceType":"Patient","extension":` + strings.Repeat(open, n) + strings.Repeat(shut, n) + `}`
	}
	for _, tt := range []struct {
		claim, body string
		code        fhir.IssueCode
		place       string
	}{
		{"nothing", " \n", fhir.Structure, ""},
		{"an array", `[]`, fhir.Structure, ""},
		{"a number", `7`, fhir.Structure, ""},
		{"no resourceType", `{"id":"7"}`, fhir.Structure, ""},
		{"an unknown resourceType", `{"resourceType":"Secret"}`, fhir.Structure, ""},
		{"an abstract resourceType", `{"resourceType":"DomainResource"}`, fhir.Structure, ""},
		{"a resourceType in another case", `{"resourceType":"patient"}`, fhir.Structure, ""},
		{"a resourceType that is no string", `{"resourceType":["Patient"]}`, fhir.Structure, ""},
		{"a duplicate", `{"resourceType":"Patient","name":[{"family":"Secret","family":"Secret"}]}`, fhir.Structure, "Patient.name[0].family"},
		{"a duplicate resourceType", `{"resourceType":"Patient","resourceType":"Observation"}`, fhir.Structure, "Patient.resourceType"},
		{"an unknown duplicate, by its parent", `{"resourceType":"Patient","name":[{"Secret":1,"Secret":1}]}`, fhir.Structure, "Patient.name[0]"},
		{"a duplicate by escape", `{"resourceType":"Patient","id":"7","\u0069d":"8"}`, fhir.Structure, ""},
		{"an escaped name", `{"resourceType":"Patient","contact":[{"n\u0061me":{}}]}`, fhir.Structure, ""},
		{"an unknown duplicate of digits", `{"resourceType":"Patient","contact":[{"name":{"123456":1,"123456":2}}]}`, fhir.Structure, "Patient.contact[0].name"},
		{"a duplicate before the type is known", `{"name":[{"text":"resourceType","text":"Patient"}],"resourceType":"Patient"}`, fhir.Structure, "Resource.name[0].text"},
		{"a duplicate in an array of arrays", `{"resourceType":"Patient","name":[[],[{"text":1},{"text":1,"text":1}]]}`, fhir.Structure, "Patient.name[1][1].text"},
		{"text after the end", `{"resourceType":"Patient"} Secret`, fhir.Structure, "Patient"},
		{"two documents", `{"resourceType":"Patient"}{}`, fhir.Structure, "Patient"},
		{"a byte order mark", "\ufeff" + `{"resourceType":"Patient"}`, fhir.Structure, "Resource"},
		{"a comment", `{"resourceType":"Patient"/*Secret*/}`, fhir.Structure, "Patient"},
		{"a trailing comma", `{"resourceType":"Patient",}`, fhir.Structure, "Patient"},
		{"an early end", `{"resourceType":"Patient","name":[{"family":"Sec`, fhir.Structure, "Patient.name[0].family"},
		{"invalid UTF-8", "{\"resourceType\":\"Patient\",\"name\":[{\"family\":\"\xff\"}]}", fhir.Structure, "Patient.name[0].family"},
		{"a lone surrogate", `{"resourceType":"Patient","name":[{"family":"\ud800"}]}`, fhir.Structure, "Patient.name[0].family"},
		{"a control character", "{\"resourceType\":\"Patient\",\"name\":[{\"family\":\"\x00\"}]}", fhir.Structure, "Patient.name[0].family"},
		{"NaN", `{"resourceType":"Patient","multipleBirthInteger":NaN}`, fhir.Structure, "Patient.multipleBirthInteger"},
		{"a leading zero", `{"resourceType":"Patient","multipleBirthInteger":01}`, fhir.Structure, "Patient"},
		{"a 65-digit number", `{"resourceType":"Patient","multipleBirthInteger":` + strings.Repeat("9", 65) + `}`, fhir.Structure, ""},
		{"ResourceType", `{"resourceType":"Patient","ResourceType":"Observation"}`, fhir.Structure, ""},
		{"RESOURCETYPE alone", `{"RESOURCETYPE":"Observation"}`, fhir.Structure, ""},
		{"reſourceType", `{"resourceType":"Patient","reſourceType":"Observation"}`, fhir.Structure, ""},
		{"ID", `{"resourceType":"Patient","ID":"7"}`, fhir.Structure, ""},
		{"Id", `{"resourceType":"Patient","id":"7","Id":"8"}`, fhir.Structure, ""},
		{"META", `{"resourceType":"Patient","META":{}}`, fhir.Structure, ""},
		{"an id that is no string", `{"resourceType":"Patient","id":7}`, fhir.Structure, ""},
		{"a meta that is no object", `{"resourceType":"Patient","meta":[]}`, fhir.Structure, ""},
		{"100 arrays", deep("[", "]", 100), fhir.Structure, ""},
		{"100 objects", deep(`{"a":`, "}", 100), fhir.Structure, ""},
		{"10,000 arrays", deep("[", "]", 10_000), fhir.Structure, ""},
		{"65 levels", deep("[", "]", 64), fhir.Structure, ""},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			_, err := fhir.Parse([]byte(tt.body), fhir.Limits{})
			var e *fhir.Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want a *fhir.Error", err)
			}
			if e.Code() != tt.code {
				t.Errorf("got code %s, want %s", e.Code(), tt.code)
			}
			if got := strings.Join(e.Issues[0].Expression, " "); got != tt.place {
				t.Errorf("got place %q, want %q (%v)", got, tt.place, e)
			}
			if strings.Contains(fmt.Sprint(e.Issues), "Secret") {
				t.Errorf("the error repeats what was sent: %v", e)
			}
		})
	}
}

// The limits hold, and what is over them costs neither time nor memory. T208, T209
func TestLimits(t *testing.T) {
	t.Run("a million levels cost no more than a thousand", func(t *testing.T) {
		for _, open := range []string{"[", `{"a":`} {
			refused := func(levels int) time.Duration {
				body := []byte(`{"resourceType":"Patient","extension":` + strings.Repeat(open, levels))
				fastest := time.Hour // of a few, as the machine may be busy
				for range 10 {
					start := time.Now()
					if _, err := fhir.Parse(body, fhir.Limits{}); !fhir.IsCode(err, fhir.Structure) {
						t.Errorf("got %v, want code structure", err)
					}
					fastest = min(fastest, time.Since(start))
				}
				return fastest
			}
			if few, many := refused(1_000), refused(1_000_000); many > 100*few {
				t.Errorf("took %v, and %v for a thousand", many, few)
			}
		}
	})
	t.Run("five million empty objects take no memory", func(t *testing.T) {
		body := []byte(`{"resourceType":"Patient","extension":[{}` + strings.Repeat(",{}", 5_000_000) + `]}`)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := fhir.Parse(body, fhir.Limits{})
		runtime.ReadMemStats(&after)
		if !fhir.IsCode(err, fhir.TooLong) {
			t.Errorf("got %v, want code too-long", err)
		}
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<20 {
			t.Errorf("allocated %d bytes", grown)
		}
	})
	t.Run("16 MiB is the most", func(t *testing.T) {
		body := bytes.Repeat([]byte(" "), 16<<20+1)
		if _, err := fhir.Parse(body, fhir.Limits{}); !fhir.IsCode(err, fhir.TooLong) {
			t.Errorf("got %v, want code too-long", err)
		}
	})
	t.Run("values are counted exactly", func(t *testing.T) {
		// the object, the type, the array, and in it a string, a number, a
		// literal, an object and an array
		body := []byte(`{ "resourceType" : "Patient", "name" : [ "a", 1.5, null, {}, [] ] }`)
		if _, err := fhir.Parse(body, fhir.Limits{Nodes: 8}); err != nil {
			t.Errorf("8 values within 8: %v", err)
		}
		if _, err := fhir.Parse(body, fhir.Limits{Nodes: 7}); !fhir.IsCode(err, fhir.TooLong) {
			t.Errorf("8 values within 7: got %v, want code too-long", err)
		}
	})
}

// Parse drops white space and nothing else. H-20
func TestParseKeepsWhatWasSent(t *testing.T) {
	body := "{ \"resourceType\" : \"Observation\",\r\n\t\"id\":\"x.1\", \"valueQuantity\":{ \"value\" : 1.50 },\n" +
		`"component":[{"valueQuantity":{"value":1e2}},{"valueQuantity":{"value":9007199254740993}}], "note" : [{"text":"a\/b \u00e9 é \u2028 \"q\" {[, :]} <&>"}] }`
	d, err := fhir.Parse([]byte(body), fhir.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"resourceType":"Observation","id":"x.1","valueQuantity":{"value":1.50},` +
		`"component":[{"valueQuantity":{"value":1e2}},{"valueQuantity":{"value":9007199254740993}}],"note":[{"text":"a\/b \u00e9 é \u2028 \"q\" {[, :]} <&>"}]}`
	if diff := cmp.Diff(want, string(d.JSON)); diff != "" {
		t.Error(diff)
	}
	if d.Type != "Observation" || d.ID != "x.1" {
		t.Errorf("got %s/%s", d.Type, d.ID)
	}
	if got := string(d.Tree.GetStringBytes("note", "0", "text")); got != "a/b é é \u2028 \"q\" {[, :]} <&>" {
		t.Errorf("the tree has %q", got)
	}
}

// The server's id, version and time replace the client's; the rest is as it was. H-05
func TestStamp(t *testing.T) {
	at := time.Date(2026, 1, 2, 4, 4, 5, 678_900_000, time.FixedZone("", 3600))
	for _, tt := range []struct{ claim, body, want string }{
		{"what is missing is added",
			`{"resourceType":"Patient"}`,
			`{"resourceType":"Patient","id":"7","meta":{"versionId":"3","lastUpdated":"2026-01-02T03:04:05.678Z"}}`},
		{"what is there is replaced, wherever it stands",
			`{"meta":{"lastUpdated":"1999-01-01T00:00:00Z","versionId":"9"},"active":true,"id":"old","resourceType":"Patient"}`,
			`{"resourceType":"Patient","id":"7","meta":{"versionId":"3","lastUpdated":"2026-01-02T03:04:05.678Z"},"active":true}`},
		{"the rest of meta follows, raw",
			`{"resourceType":"Patient","active":true,"meta":{"tag":[{"code":"a\/b"}],"versionId":"9","profile":["http://x/y"]},"gender":"male"}`,
			`{"resourceType":"Patient","id":"7","meta":{"versionId":"3","lastUpdated":"2026-01-02T03:04:05.678Z","tag":[{"code":"a\/b"}],"profile":["http://x/y"]},"active":true,"gender":"male"}`},
		{"contained resources are untouched",
			`{"resourceType":"Patient","contained":[{"resourceType":"Patient","id":"c","meta":{"versionId":"1"}}]}`,
			`{"resourceType":"Patient","id":"7","meta":{"versionId":"3","lastUpdated":"2026-01-02T03:04:05.678Z"},"contained":[{"resourceType":"Patient","id":"c","meta":{"versionId":"1"}}]}`},
		{"an empty meta is filled",
			`{"resourceType":"Patient","meta":{},"_id":{"id":"x"}}`,
			`{"resourceType":"Patient","id":"7","meta":{"versionId":"3","lastUpdated":"2026-01-02T03:04:05.678Z"},"_id":{"id":"x"}}`},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			d, err := fhir.Parse([]byte(tt.body), fhir.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			got := d.Stamp("7", 3, at)
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Error(diff)
			}
			again, err := fhir.Reopen(got)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(got), string(again.Stamp("7", 3, at))); diff != "" {
				t.Errorf("stamping twice: %s", diff)
			}
		})
	}
}

// drawJSON draws a JSON value; its text has white space where it may.
func drawJSON(t *rapid.T, depth int) string {
	space := func() string { return rapid.SampledFrom([]string{"", "", "", " ", "\n\t"}).Draw(t, "space") }
	quote := func(s string) string {
		out, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	kind := rapid.IntRange(0, 5).Draw(t, "kind")
	if depth == 0 {
		kind = kind % 4
	}
	switch kind {
	case 0:
		return space() + quote(rapid.String().Draw(t, "string")) + space()
	case 1:
		return space() + rapid.StringMatching(`-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?`).Draw(t, "number") + space()
	case 2:
		return space() + rapid.SampledFrom([]string{"true", "false", "null"}).Draw(t, "literal") + space()
	case 3:
		return space() + quote(rapid.SampledFrom([]string{`\`, `"`, `{"a":[`, `]}`, `,:`, "\u2028"}).Draw(t, "trap"))
	case 4:
		var items []string
		for range rapid.IntRange(0, 4).Draw(t, "items") {
			items = append(items, drawJSON(t, depth-1))
		}
		return "[" + strings.Join(items, ",") + "]"
	}
	var members []string
	for i := range rapid.IntRange(0, 4).Draw(t, "members") {
		members = append(members, fmt.Sprintf(`%s"m%d"%s:%s`, space(), i, space(), drawJSON(t, depth-1)))
	}
	return "{" + strings.Join(members, ",") + "}"
}

// Whatever the JSON, Parse compacts as encoding/json does and Members and Items
// take it apart without losing a byte.
func TestMembersAndItemsCoverTheText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body := `{"resourceType":"Basic","m":` + drawJSON(t, 4) + `,"z":0}`
		d, err := fhir.Parse([]byte(body), fhir.Limits{})
		if err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		var want bytes.Buffer
		if err := json.Compact(&want, []byte(body)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want.String(), string(d.JSON)); diff != "" {
			t.Fatal(diff)
		}
		if got := rebuild(d.JSON); got != want.String() {
			t.Fatal(cmp.Diff(want.String(), got))
		}
	})
}

// rebuild writes compact JSON again from its parts.
func rebuild(v []byte) string {
	var parts []string
	switch v[0] {
	case '{':
		for name, value := range fhir.Members(v) {
			parts = append(parts, `"`+string(name)+`":`+rebuild(value))
		}
		return "{" + strings.Join(parts, ",") + "}"
	case '[':
		for item := range fhir.Items(v) {
			parts = append(parts, rebuild(item))
		}
		return "[" + strings.Join(parts, ",") + "]"
	}
	return string(v)
}

// What Parse accepts is valid JSON, parses to the same again, and survives Stamp.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"resourceType":"Patient","id":"7","meta":{"tag":[]},"name":[{"family":"é\u00e9"}]}`))
	f.Add([]byte(`{"resourceType":"Patient","\u0069d":"7"}`))
	f.Add([]byte(`{"resourceType":"Observation","valueQuantity":{"value":1.50e-7}} `))
	f.Fuzz(func(t *testing.T, body []byte) {
		d, err := fhir.Parse(body, fhir.Limits{})
		if err != nil {
			var e *fhir.Error
			if !errors.As(err, &e) {
				t.Fatalf("got %T, want *fhir.Error", err)
			}
			return
		}
		if !json.Valid(d.JSON) {
			t.Fatalf("not valid: %q", d.JSON)
		}
		stamped := d.Stamp("7", 1, time.Unix(0, 0))
		again, err := fhir.Parse(stamped, fhir.Limits{Bytes: 32 << 20, Nodes: 2_000_000})
		if err != nil {
			t.Fatalf("stamped %q: %v", stamped, err)
		}
		if !bytes.Equal(again.JSON, stamped) || again.ID != "7" || again.Type != d.Type {
			t.Fatalf("got %q, want %q", again.JSON, stamped)
		}
	})
}

const observation = `{"resourceType":"Observation","id":"f001","meta":{"profile":["http://hl7.org/fhir/us/core/StructureDefinition/us-core-observation-lab"]},
 "identifier":[{"use":"official","system":"http://www.bmc.nl/zorgportal/identifiers/observations","value":"6323"}],"status":"final",
 "category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"laboratory","display":"laboratory"}]}],
 "code":{"coding":[{"system":"http://loinc.org","code":"15074-8","display":"Glucose [Moles/volume] in Blood"}],"text":"Glucose [Moles/volume] in Blood"},
 "subject":{"reference":"Patient/f001","display":"P. van de Heuvel"},"encounter":{"reference":"Encounter/f001"},
 "effectivePeriod":{"start":"2013-04-02T09:30:10+01:00"},"issued":"2013-04-03T15:30:10+01:00",
 "performer":[{"reference":"Practitioner/f005","display":"A. Langeveld"}],
 "valueQuantity":{"value":6.3,"unit":"mmol/l","system":"http://unitsofmeasure.org","code":"mmol/L"},
 "interpretation":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation","code":"H","display":"High"}]}],
 "referenceRange":[{"low":{"value":3.1,"unit":"mmol/l","system":"http://unitsofmeasure.org","code":"mmol/L"},"high":{"value":6.2,"unit":"mmol/l","system":"http://unitsofmeasure.org","code":"mmol/L"}}]}`

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	b.SetBytes(int64(len(observation)))
	for b.Loop() {
		if _, err := fhir.Parse([]byte(observation), fhir.Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStamp(b *testing.B) {
	d, err := fhir.Parse([]byte(observation), fhir.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		d.Stamp("f001", 7, now)
	}
}

func BenchmarkReopen(b *testing.B) {
	d, err := fhir.Parse([]byte(observation), fhir.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := fhir.Reopen(d.JSON); err != nil {
			b.Fatal(err)
		}
	}
}

// What Peek builds over must not show through: each document says its own.
func TestPeekedDocumentsAreTheirOwn(t *testing.T) {
	t.Parallel()
	for i := range 200 {
		id := fmt.Sprintf("p%d", i)
		err := fhir.Peek([]byte(`{"resourceType":"Patient","id":"`+id+`","birthDate":"1970"}`), func(d *fhir.Document) error {
			if d.ID != id || d.Type != "Patient" || string(d.Tree.GetStringBytes("id")) != id {
				t.Errorf("got %s %s, want %s", d.Type, d.ID, id)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := fhir.Peek([]byte(`{"id":"x"}`), func(*fhir.Document) error { t.Error("called"); return nil }); err == nil {
		t.Error("JSON of no resource was taken")
	}
}
