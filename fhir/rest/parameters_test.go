package rest

import (
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/fhir/validate"
)

// calls is an operation that takes something of everything.
var calls = &operation{name: "calls", in: []parameter{
	{name: "word", typ: "code"},
	{name: "many", typ: "integer", max: 1},
	{name: "sure", typ: "boolean", max: 1},
	{name: "since", typ: "instant", max: 1},
	{name: "coding", typ: "Coding", max: 1},
	{name: "who", typ: "Patient", max: 1},
	{name: "with", parts: []parameter{{name: "word", typ: "uri", min: 1, max: 1}}},
}}

// H-53
func TestWhatAnOperationAnswersCanBeWhatItTakes(t *testing.T) {
	var out results
	out.text("word", "code", "a")
	out.text("word", "string", "b \"quoted\"")
	out.value("many", "integer", []byte("7"))
	out.boolean("sure", true)
	out.value("coding", "Coding", []byte(`{"code":"c"}`))
	out.resource("who", []byte(`{"resourceType":"Patient","birthDate":"not valid"}`))
	out.parts("with", func(r *results) { r.text("word", "uri", "urn:x") })
	d, err := fhir.Parse(out.response().body, fhir.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	req := &request{document: d}
	if err := calls.read(req); err != nil {
		t.Fatal(err)
	}
	in := req.in
	if got := in.texts("word"); len(got) != 2 || got[1] != `b "quoted"` || in.text("word") != "a" {
		t.Errorf("words: %q", got)
	}
	if in.number("many", 1) != 7 || in.number("none", 1) != 1 || !in.boolean("sure", false) || in.boolean("none", true) != true {
		t.Errorf("number and boolean: %v", in)
	}
	if text(member(in.json("coding"), "code")) != "c" || !in.has("with") || in.has("since") {
		t.Errorf("values: %v", in)
	}
	who, err := in.resource("who")
	if err != nil || who.Type != "Patient" || validate.Resource(who) == nil {
		t.Errorf("the resource: %v %v", who, err)
	}
	if none, err := in.resource("none"); none != nil || err != nil {
		t.Errorf("no resource: %v %v", none, err)
	}
	with, _ := in.find("with")
	if with.parts.text("word") != "urn:x" {
		t.Errorf("parts: %v", with)
	}
	var empty results
	if d, err := fhir.Parse(empty.response().body, fhir.Limits{}); err != nil || validate.Resource(d) != nil {
		t.Errorf("no results: %s", empty.response().body)
	}
}

// H-53
func TestArgumentsInAURLAreHeldToTheirTypes(t *testing.T) {
	for _, tt := range []struct {
		name, value string
		ok          bool
	}{
		{"word", "a", true}, {"word", "", false},
		{"many", "7", true}, {"many", "x", false}, {"many", "", false}, {"many", `"7"`, false},
		{"sure", "true", true}, {"sure", "TRUE", false},
		{"since", "2020-02-30", false}, {"since", "2020-02-03T04:05:06Z", true},
		{"coding", "s|c", false}, {"with", "x", false}, {"who", "Patient/7", false}, {"nobody", "x", false},
	} {
		err := calls.read(&request{params: []search.Param{{Name: tt.name, Value: tt.value}}})
		if (err == nil) != tt.ok {
			t.Errorf("%s=%s: %v", tt.name, tt.value, err)
		}
	}
}

// Whatever is posted, reading it ends, and no fault in it is ours.
func FuzzArguments(f *testing.F) {
	f.Add([]byte(`{"resourceType":"Parameters","parameter":[{"name":"with","part":[{"name":"word","valueUri":"x"}]}]}`))
	f.Add([]byte(`{"resourceType":"Parameters","parameter":[{"name":"who","resource":{"resourceType":"Patient"}},null,[],{"part":{}}]}`))
	f.Add([]byte(`{"resourceType":"Patient"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		d, err := fhir.Parse(body, fhir.Limits{Bytes: 1 << 16})
		if err != nil {
			return
		}
		if err := calls.read(&request{document: d}); err != nil && !isClientError(err) {
			t.Error(err)
		}
	})
}
