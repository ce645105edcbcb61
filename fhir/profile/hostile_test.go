package profile_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/canonical"
	"github.com/cordon-fhir/cordon/fhir/profile"
)

// Definitions that lead in circles, that explode, or that make no sense end in
// issues, soon. T218
func TestHostileProfilesEnd(t *testing.T) {
	chain := make([]string, 0, 50)
	for i := range 50 {
		chain = append(chain, strings.Replace(derived(fmt.Sprintf("chain%d", i), "Patient", `{"path":"Patient.name","min":1}`),
			"http://hl7.org/fhir/StructureDefinition/Patient", fmt.Sprintf("%schain%d", here, i+1), 1))
	}
	circle := strings.Replace(derived("it", "Patient", `{"path":"Patient.name","min":1}`), "http://hl7.org/fhir/StructureDefinition/Patient", here+"it", 1)
	var unfolds strings.Builder
	path := "Questionnaire.item"
	for range 200 {
		unfolds.WriteString(`{"path":"` + path + `","min":1},`)
		path += ".item"
	}
	many := make([]string, 3000)
	for i := range many {
		many[i] = fmt.Sprintf(`{"system":"urn:%d","value":"x"}`, i)
	}
	var slices strings.Builder
	slices.WriteString(`{"path":"Patient.identifier","slicing":{"discriminator":[{"type":"value","path":"system"}],"rules":"open"}}`)
	for i := range 1500 {
		fmt.Fprintf(&slices, `,{"id":"Patient.identifier:s%d","path":"Patient.identifier","sliceName":"s%d"},{"id":"Patient.identifier:s%d.system","path":"Patient.identifier.system","fixedUri":"urn:x%d"}`, i, i, i, i)
	}
	const contained = `{"resourceType":"Observation","status":"final","code":{"text":"x"},"contained":[
		{"resourceType":"Patient","id":"p","link":[{"type":"seealso","other":{"reference":"#p"}}]}],"subject":{"reference":"#p"}}`
	for _, tt := range []struct {
		claim, says, body string
		definitions       []string
	}{
		{"a profile derived from itself", "derived from itself", identified(a), []string{circle}},
		{"one derived from another by fifty steps", "steps", identified(a), append(chain, strings.Replace(derived("it", "Patient", `{"path":"Patient.name","min":1}`), "http://hl7.org/fhir/StructureDefinition/Patient", here+"chain0", 1))},
		{"one derived from what is not known", "not known here", identified(a), []string{strings.Replace(circle, `"baseDefinition":"`+here+`it"`, `"baseDefinition":"`+here+`nothing"`, 1)}},
		{"one that unfolds without end", "", `{"resourceType":"Questionnaire","status":"draft","item":[{"linkId":"1","type":"group"}]}`, []string{derived("it", "Questionnaire", strings.TrimSuffix(unfolds.String(), ","))}},
		{"many slices and many values", "too much", identified(many...), []string{derived("it", "Patient", slices.String())}},
		{"references in a circle", "", contained, []string{
			derived("it", "Observation", `{"path":"Observation.subject","type":[{"code":"Reference","targetProfile":["`+here+`link"]}]}`),
			derived("link", "Patient", `{"path":"Patient.link.other","type":[{"code":"Reference","targetProfile":["`+here+`link"]}]}`),
		}},
		{"a regular expression that backtracks", "x-1", `{"resourceType":"Patient","name":[{"family":"` + strings.Repeat("a", 50_000) + `!"}]}`, []string{
			derived("it", "Patient", `{"path":"Patient.name","constraint":[{"key":"x-1","severity":"error","expression":"family.matches('^(a+)+$')"}]}`)}},
		{"an invariant that explodes", "x-1", identified(many...), []string{
			derived("it", "Patient", `{"path":"Patient","constraint":[{"key":"x-1","severity":"error","expression":"repeat(children()|descendants()).select(%resource.descendants().descendants()).count() < 0"}]}`)}},
		{"no snapshot that is a tree", "not in the order", identified(a), []string{strings.Replace(derived("it", "Patient", `{"path":"Patient.name.family"},{"path":"Patient"}`), "differential", "snapshot", 1)}},
		{"a differential of another type", "not of the type", identified(a), []string{derived("it", "Patient", `{"path":"Observation.code"}`)}},
		{"an extension that uses itself below", "derived from itself", extended, []string{
			derived("it", "Patient", `{"path":"Patient.name","min":1}`),
			derived("x", "Extension", `{"path":"Extension.extension","type":[{"code":"Extension","profile":["`+here+`x"]}]},{"path":"Extension.extension.value[x]","min":1}`)}},
		{"two extensions that use each other below", "derived from itself", extended, []string{
			derived("it", "Patient", `{"path":"Patient.name","min":1}`),
			derived("x", "Extension", `{"path":"Extension.extension","type":[{"code":"Extension","profile":["`+here+`y"]}]},{"path":"Extension.extension.value[x]","min":1}`),
			derived("y", "Extension", `{"path":"Extension.extension","type":[{"code":"Extension","profile":["`+here+`x"]}]},{"path":"Extension.extension.value[x]","min":1}`)}},
		{"a discriminator with a way for each of ten slices, twenty times", "too much", `{"resourceType":"Patient","extension":[{"url":"urn:x"}]}`, []string{
			derived("it", "Patient", `{"path":"Patient.extension","slicing":{"discriminator":[{"type":"value","path":"`+strings.Repeat("extension.", 19)+`url"}],"rules":"open"}},
				{"path":"Patient.extension","sliceName":"s","type":[{"code":"Extension","profile":["`+here+`x"]}]}`),
			derived("x", "Extension", branching(10))}},
		{"regular expressions that unfold", "not FHIRPath that can be evaluated", `{"resourceType":"Patient","name":[{"text":"x"}]}`, []string{
			derived("it", "Patient", `{"path":"Patient.name","constraint":[{"key":"x-1","severity":"error","expression":"family.matches('`+strings.Repeat("a{1000}", 200)+`')"}]}`)}},
		{"text that is read again and again", "too much", `{"resourceType":"Patient","name":[{"family":"` + strings.Repeat("a", 1<<20) + `"}]}`, []string{
			derived("it", "Patient", `{"path":"Patient.name","constraint":[{"key":"x-1","severity":"error","expression":"`+strings.Repeat("family = family and ", 90)+`(1|2|3|4|5|6|7|8|9|10).all(%resource.name.family.lower().upper() != $this.toString())"}]}`)}},
		{"constraints that many elements refer to", "too much", `{"resourceType":"Questionnaire","status":"draft"}`, []string{contentOf(4000)}},
		{"elements that there are not", "does not have", identified(a), []string{derived("it", "Patient", `{"path":"Patient.colour"}`)}},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			begun := time.Now()
			v := profile.New(setOf(t, tt.definitions...), nil)
			issues := validate1(t, v, parse(t, []byte(tt.body)), profile.Options{Profiles: []string{here + "it"}})
			if took := time.Since(begun); took > time.Minute {
				t.Errorf("it took %v", took)
			}
			if tt.says != "" && !strings.Contains((&fhir.Error{Issues: issues}).Error(), tt.says) {
				t.Errorf("got %v", issues)
			}
		})
	}
}

// extended is a Patient that has the extension x.
const extended = `{"resourceType":"Patient","name":[{"text":"x"}],"extension":[{"url":"` + here + `x","extension":[{"url":"a","valueCode":"a"}]}]}`

// branching is the differential of an extension in which it can be n times.
func branching(n int) string {
	b := strings.Builder{}
	b.WriteString(`{"path":"Extension.extension","slicing":{"discriminator":[{"type":"value","path":"url"}],"rules":"open"}}`)
	for i := range n {
		fmt.Fprintf(&b, `,{"id":"Extension.extension:s%d","path":"Extension.extension","sliceName":"s%d","type":[{"code":"Extension","profile":["%sx"]}]}`, i, i, here)
	}
	return b.String()
}

// contentOf is a profile of which n elements have the content of one that has n
// constraints.
func contentOf(n int) string {
	constraint := `{"key":"x-1","severity":"error","expression":"true"},`
	elements := `{"id":"Questionnaire","path":"Questionnaire"},{"id":"Questionnaire.item","path":"Questionnaire.item","min":1,"constraint":[` + strings.TrimSuffix(strings.Repeat(constraint, n), ",") + `]}`
	for i := range n {
		elements += fmt.Sprintf(`,{"path":"Questionnaire.x%d","min":1,"contentReference":"#Questionnaire.item"}`, i)
	}
	return strings.Replace(derived("it", "Questionnaire", elements), "differential", "snapshot", 1)
}

// A StructureDefinition is written however large it is: the rules about it take
// no more than their share for each element.
func TestLargeStructureDefinitionsAreValid(t *testing.T) {
	element := func(i int) string {
		return fmt.Sprintf(`,{"id":"Patient.identifier:s%d","path":"Patient.identifier","sliceName":"s%d","definition":"x","min":0,"max":"1",
			"base":{"path":"Patient.identifier","min":0,"max":"*"},"type":[{"code":"Identifier"}],
			"constraint":[{"key":"ele-1","severity":"error","human":"x","expression":"hasValue() or (children().count() > id.count())"}]}`, i, i)
	}
	elements := strings.Builder{}
	elements.WriteString(`{"id":"Patient","path":"Patient","definition":"x","min":0,"max":"*","base":{"path":"Patient","min":0,"max":"*"}},
		{"id":"Patient.identifier","path":"Patient.identifier","definition":"x","min":0,"max":"*","base":{"path":"Patient.identifier","min":0,"max":"*"},"type":[{"code":"Identifier"}]}`)
	for i := range 3000 {
		elements.WriteString(element(i))
	}
	body := strings.Replace(derived("large", "Patient", elements.String()), `"differential"`, `"snapshot":{"element":[`+elements.String()+`]},"differential"`, 1)
	issues := validate1(t, profile.New(canonical.Core(), nil), parse(t, []byte(body)), profile.Options{Errors: true, Base: true})
	if len(issues) > 0 {
		t.Errorf("got %v", issues)
	}
}

// Faults without number are reported up to a bound.
func TestIssuesAreBounded(t *testing.T) {
	v := profile.New(canonical.Core(), nil)
	contacts := strings.Repeat(`{"gender":"male"},`, 5000)
	issues := validate1(t, v, parse(t, []byte(`{"resourceType":"Patient","contact":[`+strings.TrimSuffix(contacts, ",")+`]}`)), profile.Options{})
	if len(issues) < 100 || len(issues) > 300 {
		t.Errorf("%d issues", len(issues))
	}
}

// FuzzValidate holds that no resource and no profile make validation panic, and
// that nothing of the resource is in its words.
func FuzzValidate(f *testing.F) {
	f.Add([]byte(identified(a, b)), `{"path":"Patient.name","min":1}`)
	for _, r := range rules {
		if r.typ == "Patient" {
			for body := range r.faults {
				f.Add([]byte(body), r.elements)
			}
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, elements string) {
		d, err := fhir.Parse(body, fhir.Limits{Bytes: 1 << 16})
		if err != nil {
			return
		}
		set := canonical.Core()
		if definition, err := canonical.New([]byte(derived("it", "Patient", elements))); err == nil {
			set = canonical.NewSet(set, []*canonical.Definition{definition})
		}
		issues, err := profile.New(set, nil).Validate(t.Context(), d, profile.Options{Claimed: true, MustSupport: true, Profiles: []string{here + "it"}})
		var known *fhir.Error
		if err != nil && !errors.As(err, &known) {
			t.Fatal(err)
		}
		for _, i := range issues {
			if len(i.Expression) != 1 || i.Diagnostics == "" || i.Code == "" {
				t.Errorf("an issue lacks something: %+v", i)
			}
		}
	})
}

// Neither a Questionnaire with many conditions and options nor a response with
// many answers takes more than its share.
func TestHostileQuestionnairesEnd(t *testing.T) {
	const n = 4000
	when := strings.TrimSuffix(strings.Repeat(`{"question":"a","operator":"=","answerInteger":2},`, n), ",")
	options := strings.TrimSuffix(strings.Repeat(`{"valueInteger":2},`, n), ",")
	answers := make([]string, n)
	for i := range answers {
		answers[i] = `"valueInteger":1`
	}
	groups := strings.TrimSuffix(strings.Repeat(`{"linkId":"g","item":[`+said("a", `"valueInteger":1`)+`]},`, n), ",")
	for _, tt := range []struct{ claim, questions, items string }{
		{"conditions", `{"linkId":"a","type":"integer","repeats":true},{"linkId":"b","type":"string","enableBehavior":"any","enableWhen":[` + when + `]}`, said("a", answers...)},
		{"conditions about what is in many groups", `{"linkId":"g","type":"group","repeats":true,"item":[{"linkId":"a","type":"integer","enableBehavior":"any","enableWhen":[` + when + `]}]}`, groups},
		{"options", `{"linkId":"a","type":"choice","repeats":true,"answerOption":[` + options + `]}`, said("a", answers...)},
	} {
		v := profile.New(setOf(t, asking(tt.questions)), nil)
		issues := validate1(t, v, parse(t, []byte(answering("completed", tt.items))), profile.Options{Claimed: true})
		if !strings.Contains((&fhir.Error{Issues: issues}).Error(), "too much work") {
			t.Errorf("%s: got %.300v", tt.claim, issues)
		}
	}
}

// However long the names in a definition are, what is said of a resource is
// short.
func TestLongNamesAreClipped(t *testing.T) {
	long := strings.Repeat("é", 1<<20)
	profiles := make([]string, 5000)
	for i := range profiles {
		profiles[i] = fmt.Sprintf(`"%sp%d"`, here, i)
	}
	definitions := []string{derived("it", "Patient", `{"id":"`+long+`","path":"Patient.name","min":1},
		{"path":"Patient.contact","constraint":[{"key":"`+long+`","severity":"error","expression":"false"}]},
		{"path":"Patient.identifier","type":[{"code":"Identifier","profile":[`+strings.Join(profiles, ",")+`]}]}`)}
	for i := range profiles {
		definitions = append(definitions, derived(fmt.Sprintf("p%d", i), "Identifier", `{"path":"Identifier.use","min":1}`))
	}
	body := `{"resourceType":"Patient","contact":[{"name":{"text":"x"}}],"identifier":[` + a + `]}`
	issues := errorsIn(validate1(t, profile.New(setOf(t, definitions...), nil), parse(t, []byte(body)), profile.Options{Profiles: []string{here + "it"}}))
	if len(issues) < 3 {
		t.Errorf("got %d errors", len(issues))
	}
	for _, i := range issues {
		if len(i.Diagnostics) > 2100 {
			t.Errorf("%.100s… has %d bytes", i.Diagnostics, len(i.Diagnostics))
		}
	}
}
