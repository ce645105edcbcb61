package search_test

import (
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/fhirtest"
	"github.com/cordon-fhir/cordon/fhir/search"
)

// base is the base URL of the server that the tests stand for.
const base = "https://example.org/fhir/harbor"

func document(t testing.TB, json string) *fhir.Document {
	t.Helper()
	d, err := fhir.Parse([]byte(json), fhir.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func parse(t testing.TB, on fhir.Type, query string) (*search.Query, error) {
	t.Helper()
	params, err := search.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	return search.Parse(on, params, search.Options{Base: base})
}

// finds reports whether the search finds the resource.
func finds(t testing.TB, d *fhir.Document, query string) bool {
	t.Helper()
	q, err := parse(t, d.Type, query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	r := &fhir.Resource{Ref: fhir.Ref{Type: d.Type, ID: d.ID}}
	ok, err := search.Match(q.Where, r, search.R4.Index(d))
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return ok
}

// check holds that a resource is found by some searches and not by others.
func check(t *testing.T, json string, found, missed []string) {
	t.Helper()
	d := document(t, json)
	for _, q := range found {
		if !finds(t, d, q) {
			t.Errorf("%s does not find it", q)
		}
	}
	for _, q := range missed {
		if finds(t, d, q) {
			t.Errorf("%s finds it", q)
		}
	}
}

// examples returns the examples of the specification that are well-formed.
func examples(t testing.TB) []*fhir.Document {
	t.Helper()
	var list []*fhir.Document
	for name, d := range fhirtest.Resources(t, fhirtest.Examples) {
		if strings.HasPrefix(name, "package/") {
			list = append(list, d)
		}
	}
	return list
}

const pressure = `{"resourceType":"Observation","id":"bp",
"meta":{"profile":["http://hl7.org/fhir/StructureDefinition/vitalsigns|4.0.1"],"tag":[{"system":"http://x.org/t","code":"demo"}],"source":"http://lab.org/feed#7"},
"identifier":[{"use":"official","system":"urn:ietf:rfc:3986","value":"urn:uuid:1","type":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v2-0203","code":"MR"}],"text":"Record"}}],
"status":"final",
"category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"vital-signs","display":"Vital Signs"}]}],
"code":{"coding":[{"system":"http://loinc.org","code":"85354-9","display":"Blood pressure panel"},{"code":"BP"}],"text":"Blood Pressure"},
"subject":{"reference":"Patient/7/_history/2","display":"Ann"},
"encounter":{"identifier":{"system":"http://x.org/visits","value":"V1"}},
"performer":[{"reference":"Practitioner/p1"},{"reference":"https://other.org/fhir/Organization/o1"},{"reference":"#here"}],
"effectiveDateTime":"2012-09-17",
"component":[
{"code":{"coding":[{"system":"http://loinc.org","code":"8480-6"}]},"valueQuantity":{"value":107,"unit":"mmHg","system":"http://unitsofmeasure.org","code":"mm[Hg]"}},
{"code":{"coding":[{"system":"http://loinc.org","code":"8462-4"}]},"valueQuantity":{"value":60,"unit":"mmHg","system":"http://unitsofmeasure.org","code":"mm[Hg]"}},
{"code":{"coding":[{"system":"http://loinc.org","code":"8357-6"}]},"valueCodeableConcept":{"coding":[{"system":"http://snomed.info/sct","code":"17146006"}]}}]}`

const patient = `{"resourceType":"Patient","id":"7","active":true,
"identifier":[{"system":"http://x.org/mrn","value":"A-1"}],
"name":[{"family":"O'Brien-Núñez","given":["Peter","James"],"text":"Peter James O'Brien-Núñez"}],
"telecom":[{"system":"phone","value":"(03) 5555 6473"},{"system":"email","value":"Peter@example.org"}],
"gender":"male","birthDate":"1974-12","deceasedBoolean":false,
"address":[{"line":["534 Erewhon St"],"city":"PleasantVille","state":"Vic","postalCode":"3999"}],
"maritalStatus":{"text":"unknown"},
"communication":[{"language":{"coding":[{"system":"urn:ietf:bcp:47","code":"en-US"}]}}],
"generalPractitioner":[{"reference":"Practitioner/p1"}],
"managingOrganization":{"reference":"Organization/o1"}}`

func TestStrings(t *testing.T) { // S-10
	check(t, patient, []string{
		"name=peter", "name=PET", "name=o%27brien", "name=obrien", "family=o%27brien+nunez", "family=OBRIEN-NUN", "given=james",
		"name=peter+james+o%27b", "given:exact=Peter", "family:contains=nun", "family:contains=ien-n", "name:contains=mes",
		"address=erew,534", "address-city=pleasantv", "address:contains=WHON", "address-postalcode=39", "phonetic=pet",
		"given=zoe,pet", "family:exact=O%27Brien-N%C3%BA%C3%B1ez", "name=p",
	}, []string{
		"name=eter", "given:exact=peter", "given:exact=Pete", "family=james", "given=obrien", "family:contains=peter",
		"address-city=534", "given=peters", "family:contains=nunezx", "name=zoe,yves", "given=peter&given=zoe",
	})
}

func TestTextBeyondTheGrammedRunesIsContained(t *testing.T) { // S-10
	long := strings.Repeat("word ", 30) + "needle"
	d := `{"resourceType":"Location","id":"1","name":"` + long + `"}`
	check(t, d, []string{"name:contains=needle", "name:contains=d+word", "name:contains=word"}, []string{"name:contains=thread"})
	q, err := parse(t, "Location", "name:contains=needle")
	if err != nil {
		t.Fatal(err)
	}
	or, ok := q.Where.(search.Or)
	if !ok {
		t.Fatalf("got %#v, want two ways to contain", q.Where)
	}
	// The index must lead to it by the keys of some alternative.
	terms := search.R4.Index(document(t, d))
	led := false
	for _, e := range or {
		keys := e.(search.HasText).Keys()
		held := len(keys) > 0
		for _, k := range keys {
			ok, _ := search.Match(search.HasToken(k), &fhir.Resource{}, terms)
			held = held && ok
		}
		led = led || held
	}
	if !led {
		t.Error("the keys do not lead to the resource")
	}
}

func TestResultsInWordsAreFoundByAnyPart(t *testing.T) { // S-10
	check(t, `{"resourceType":"Observation","id":"1","valueCodeableConcept":{"text":"Never smoker"}}`,
		[]string{"value-string=never", "value-string:contains=smoke", "value-string:exact=Never smoker"}, []string{"value-string=smoker", "value-string:contains=smokes"})
}

func TestTokens(t *testing.T) { // S-11
	check(t, pressure, []string{
		"code=85354-9", "code=http://loinc.org|85354-9", "code=|BP", "code=bp", "combo-code=8480-6", "component-code=http://loinc.org|8480-6",
		"code=x,85354-9", "status=final", "status=http://hl7.org/fhir/observation-status|final", "status=|final",
		"code:not=x", "value-concept:not=x", "code:text=blood", "code:text=Blood+pressure+pan", "category:text=vital",
		"identifier=urn:uuid:1", "identifier=urn:ietf:rfc:3986|urn:uuid:1", "identifier=urn:ietf:rfc:3986|", "identifier:text=rec",
		"identifier:of-type=http://terminology.hl7.org/CodeSystem/v2-0203|MR|urn:uuid:1", "code=http://loinc.org|",
		"_tag=demo", "_tag=http://x.org/t|demo", "_id=bp", "_id=x,bp", "component-value-concept=17146006",
	}, []string{
		"code=http://loinc.org|BP", "code=|85354-9", "code=http://snomed.info/sct|85354-9", "code=85354", "code:not=x,85354-9",
		"status=http://x.org|final", "code:text=pressure+panel", "identifier=|urn:uuid:1", "identifier=urn:x|",
		"identifier:of-type=http://terminology.hl7.org/CodeSystem/v2-0203|SS|urn:uuid:1", "code=http://snomed.info/sct|",
		"_tag=http://y.org/t|demo", "_id=BP", "_id=x", "_tag=|demo", "code=8480-6",
	})
	check(t, patient, []string{
		"active=true", "gender=male", "gender=http://hl7.org/fhir/administrative-gender|male", "phone=0355556473", "phone=(03)+5555-6473",
		"telecom=phone|0355556473", "email=peter@example.org", "telecom=peter@example.org", "language=EN-us", "language=urn:ietf:bcp:47|en-US",
		"deceased=false", "deceased:not=true", "identifier=a-1",
	}, []string{
		"active=false", "phone=peter@example.org", "email=0355556473", "telecom=email|0355556473", "deceased=true", "gender=female", "phone=email|peter@example.org",
	})
	check(t, `{"resourceType":"Patient","id":"8","deceasedDateTime":"2020"}`,
		[]string{"deceased=true", "death-date=2020"}, []string{"deceased=false"})
	check(t, `{"resourceType":"Observation","id":"8","status":"final","code":{"coding":[{"code":"a|b"}]}}`,
		[]string{`code=a\|b`, `code=|a\|b`}, []string{"code=a|b", `code=a\\|b`})
}

func TestReferences(t *testing.T) { // S-15
	check(t, pressure, []string{
		"patient=7", "patient=Patient/7", "subject=7", "subject=Patient/7", "subject:Patient=7", "subject=" + base + "/Patient/7",
		"patient=Patient/7/_history/9", "performer=p1", "performer=Practitioner/p1", "performer=https://other.org/fhir/Organization/o1",
		"encounter:identifier=http://x.org/visits|V1", "encounter:identifier=v1", "subject=Group/1,Patient/7",
	}, []string{
		"patient=8", "subject:Group=7", "subject=Group/7", "performer=o1", "performer=here", "performer=Organization/o1",
		"encounter:identifier=http://x.org/other|V1", "patient=Group/7", "performer=https://example.org/fhir/Organization/o1",
	})
	check(t, `{"resourceType":"QuestionnaireResponse","id":"q","questionnaire":"http://x.org/q|1.2"}`,
		[]string{"questionnaire=http://x.org/q", "questionnaire=http://x.org/q|1.2"},
		[]string{"questionnaire=http://x.org/q|1", "questionnaire=http://x.org"})
}

func TestURIs(t *testing.T) { // S-16
	check(t, `{"resourceType":"ValueSet","id":"v","url":"http://x.org/fhir/ValueSet/a"}`,
		[]string{"url=http://x.org/fhir/ValueSet/a", "url:below=http://x.org/fhir", "url:below=http://x.org/fhir/", "url:above=http://x.org/fhir/ValueSet/a/b"},
		[]string{"url=http://x.org/fhir/ValueSet/A", "url=http://x.org/fhir/ValueSet/a/", "url=http://x.org/fhir", "url:below=http://x.org/fh", "url:above=http://x.org/fhir"})
	check(t, pressure,
		[]string{"_profile=http://hl7.org/fhir/StructureDefinition/vitalsigns", "_profile=http://hl7.org/fhir/StructureDefinition/vitalsigns|4.0.1", "_source=http://lab.org/feed", "_source=http://lab.org/feed%237"},
		[]string{"_profile=http://hl7.org/fhir/StructureDefinition/vitalsigns|4", "_source=http://lab.org"})
}

func TestComposites(t *testing.T) { // S-17
	check(t, pressure, []string{
		"component-code-value-quantity=8480-6$107", "component-code-value-quantity=http://loinc.org|8480-6$gt100",
		"component-code-value-quantity=http://loinc.org|8480-6$gt100|http://unitsofmeasure.org|mm[Hg]",
		"component-code-value-quantity=8480-6$gt100||mm[Hg]", "component-code-value-quantity=8480-6$lt11||cm[Hg]", "component-code-value-quantity=8480-6$gt100||mmHg",
		"combo-code-value-quantity=8462-4$lt61", "component-code-value-concept=8357-6$17146006",
		"component-code-value-concept=http://loinc.org|8357-6$http://snomed.info/sct|17146006",
	}, []string{
		"component-code-value-quantity=8462-4$107", "component-code-value-quantity=8480-6$lt100",
		"component-code-value-quantity=8480-6$gt100||kg", "component-code-value-concept=8480-6$17146006",
		"code-value-quantity=85354-9$gt1", "component-code-value-quantity=http://x.org|8480-6$107",
	})
	check(t, `{"resourceType":"Observation","id":"o","status":"final","code":{"coding":[{"system":"s","code":"c"}]},"valueQuantity":{"value":5.4,"unit":"mg"}}`,
		[]string{"code-value-quantity=s|c$5.4", "code-value-quantity=c$gt5||mg", "combo-code-value-quantity=c$5.4", "code=s|c&value-quantity=gt5||mg"},
		[]string{"code-value-quantity=c$gt5||kg", "code-value-quantity=d$5.4", "code=s|c&value-quantity=gt5||kg", "code=s|c&value-quantity=gt6"})
	check(t, `{"resourceType":"MolecularSequence","id":"m","coordinateSystem":1,"referenceSeq":{"chromosome":{"coding":[{"code":"1"}]},"windowStart":3,"windowEnd":9},"variant":[{"start":10,"end":20},{"start":30,"end":40}]}`,
		[]string{"chromosome-variant-coordinate=1$10$20", "chromosome-variant-coordinate=1$ge30$lt41", "chromosome-window-coordinate=1$3$9"},
		[]string{"chromosome-variant-coordinate=1$10$40", "chromosome-variant-coordinate=2$10$20", "chromosome-variant-coordinate=1$lt30$gt20", "chromosome-window-coordinate=1$3$8"})
	check(t, `{"resourceType":"DocumentReference","id":"d","status":"current","content":[],"relatesTo":[{"code":"replaces","target":{"reference":"DocumentReference/1"}},{"code":"appends","target":{"reference":"DocumentReference/2"}}]}`,
		[]string{"relationship=replaces$DocumentReference/1", "relationship=appends$2"},
		[]string{"relationship=replaces$DocumentReference/2"})
}

func TestMissing(t *testing.T) { // S-04
	check(t, pressure, []string{
		"code:missing=false", "value-quantity:missing=true", "patient:missing=false", "component-value-quantity:missing=false", "device:missing=true",
		"_tag:missing=false", "_security:missing=true", "_id:missing=false",
	}, []string{"code:missing=true", "value-quantity:missing=false", "patient:missing=true", "_id:missing=true"})
	check(t, patient, []string{"phone:missing=false", "email:missing=false", "death-date:missing=true", "deceased:missing=false", "family:missing=false"},
		[]string{"phone:missing=true", "deceased:missing=true"})
	check(t, `{"resourceType":"Patient","id":"1","telecom":[{"system":"email","value":"a@b"}],"name":[{"given":["x"]}]}`,
		[]string{"phone:missing=true", "email:missing=false", "telecom:missing=false", "family:missing=true", "name:missing=false"}, nil)
	check(t, `{"resourceType":"Observation","id":"1","subject":{"reference":"Group/1"}}`,
		[]string{"patient:missing=true", "subject:missing=false"}, nil)
}

func TestAndOfRepeatsMayBeMetByDifferentRepetitions(t *testing.T) { // S-04
	check(t, patient, []string{"given=peter&given=james", "given=peter&family=obrien&birthdate=1974"}, []string{"given=peter&given=john"})
}

func TestTheFirstEntryOfABundleIsReferredTo(t *testing.T) { // S-18
	d := func(on string) string {
		return `{"resourceType":"Bundle","id":"b","entry":[{"resource":{"resourceType":"` + on + `","id":"1"}},{"resource":{"resourceType":"Composition","id":"2"}}]}`
	}
	check(t, d("Composition"), []string{"composition=1", "composition=Composition/1", "message:missing=true"}, []string{"composition=2", "message=1", "composition:missing=true"})
	check(t, d("MessageHeader"), []string{"message=1", "composition:missing=true"}, []string{"composition=1", "composition=2"})
}

func TestTokensOfURIsAreCodes(t *testing.T) { // S-11
	check(t, `{"resourceType":"MessageDefinition","id":"m","eventUri":"http://x.org/Event|1"}`,
		[]string{`event=http://x.org/event\|1`}, []string{"event=http://x.org/event"})
}
