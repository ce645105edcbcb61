package fhirconf

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cordon-fhir/cordon/store/storetest"
)

// A found is a search and the ids that it must find.
type found struct{ query, want string }

// finds holds each search on the type to its answer, by GET and by POST.
func (c *client) finds(on string, list ...found) {
	c.t.Helper()
	for _, f := range list {
		got := strings.Join(c.find("/"+on+"?"+f.query), " ")
		if got != f.want {
			c.t.Errorf("%s?%s finds %q, want %q", on, f.query, got, f.want)
		}
		post := c.must(200, "POST", "/"+on+"/_search", f.query)
		if refs := post.refs("match"); len(refs) != len(strings.Fields(f.want)) {
			c.t.Errorf("POST %s/_search %s finds %v, want %q", on, f.query, refs, f.want)
		}
	}
}

func TestSearchesAreAskedInEveryForm(t *testing.T) { // S-01 S-43 S-44
	c := newServer(t).client(t, storetest.S1, all)
	c.put(`{"resourceType":"Patient","id":"form1","active":true,"meta":{"tag":[{"system":"urn:t","code":"form"}]}}`)
	c.put(`{"resourceType":"Basic","id":"form2","code":{"text":"x"},"subject":{"reference":"Patient/form1"},"meta":{"tag":[{"system":"urn:t","code":"form"}]}}`)
	c.put(`{"resourceType":"Flag","id":"form3","status":"active","code":{"text":"x"},"subject":{"reference":"Patient/form1"}}`)
	c.finds("Patient", found{"_id=form1", "form1"}, found{"_id=form1,nobody", "form1"}, found{"_id=nobody", ""})
	for _, tt := range []struct{ claim, method, path, body, want string }{
		{"of some types", "GET", "?_type=Patient,Basic&_tag=urn:t|form", "", "Patient/form1 Basic/form2"},
		{"of some types in a form", "POST", "/_search", "_type=Patient,Basic&_tag=urn:t%7Cform", "Patient/form1 Basic/form2"},
		{"in the URL and the form", "POST", "/Patient/_search?active=true", "_id=form1", "Patient/form1"},
		{"in the URL and against the form", "POST", "/Patient/_search?active=false", "_id=form1", ""},
		{"of a compartment", "GET", "/Patient/form1/Flag", "", "Flag/form3"},
		{"of a compartment with parameters", "GET", "/Patient/form1/Flag?identifier=nobody", "", ""},
		{"of all of a compartment", "GET", "/Patient/form1/*?_count=100", "", "Basic/form2 Flag/form3 Patient/form1"},
		{"of a compartment in a form", "POST", "/Patient/form1/Flag/_search", "", "Flag/form3"},
	} {
		got := c.must(200, tt.method, tt.path, tt.body).refs("match")
		want := strings.Fields(tt.want)
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", tt.claim, diff)
		}
	}
	none := c.must(200, "GET", "/Patient?_id=nobody", "")
	if none.at("total") != 0.0 || none.at("entry") != nil || none.at("type") != "searchset" {
		t.Errorf("no hits: %s", none.body)
	}
	if a := c.must(200, "HEAD", "/Patient?_id=form1", ""); len(a.body) > 0 {
		t.Errorf("HEAD has a body")
	}
	c.refused(415, "POST", "/Patient/_search", `{}`, "Content-Type", "application/json")
	c.refused(400, "GET", "?_type=Patient,Basic&active=true", "")
	c.refused(400, "GET", "?_type=Patient,Nonsense", "")
}

func TestWhatIsNotUnderstoodIsRefused(t *testing.T) { // S-03 S-46 H-26 H-28
	c := newServer(t).client(t, storetest.S1, all)
	for _, query := range []string{
		"nonsense=1", "birthdate=2020-13", "birthdate=abc", "name:nonsense=x", "name:missing=perhaps", "gender:exact=male",
		"birthdate:contains=2020", "_sort=nonsense", "_count=-1", "_count=x", "_total=some", "_summary=some",
		"_include=Patient:nonsense", "_include=nonsense", "_revinclude=Nonsense:subject", "_contained=some", "_containedType=contained", "general-practitioner.nonsense=1",
		"name.family=x", "_has:Observation:nonsense:code=x", "_has:Observation=x", "_list=$current-allergies", "_filter=x", "_query=x",
	} {
		c.refused(400, "GET", "/Patient?"+query, "")
		c.refused(400, "GET", "/Patient?"+query, "", "Prefer", "handling=strict")
	}
	c.refused(400, "GET", "/RiskAssessment?probability=abc", "")
	c.refused(400, "GET", "/Observation?value-quantity=5mg", "")
	c.refused(400, "GET", "/Patient?_summary=text&_include=Patient:organization", "")

	c.put(`{"resourceType":"Patient","id":"len1","birthDate":"1970-01-01","identifier":[{"system":"urn:len","value":"1"}]}`)
	a := c.must(200, "GET", "/Patient?identifier=urn:len|1&nonsense=1", "", "Prefer", "handling=lenient")
	if len(a.refs("match")) != 1 || len(a.refs("outcome")) != 1 || strings.Contains(a.link("self"), "nonsense") {
		t.Errorf("lenient: %s", a.body)
	}
	c.refused(400, "GET", "/Patient?name:nonsense=x", "", "Prefer", "handling=lenient")
	c.refused(400, "GET", "/Patient?birthdate=abc", "", "Prefer", "handling=lenient")
	if got := c.find("/Patient?identifier=urn:len|1&name="); len(got) != 1 {
		t.Errorf("an empty value: %v", got)
	}
	for _, method := range []string{"PUT", "DELETE"} {
		body := ""
		if method == "PUT" {
			body = `{"resourceType":"Patient"}`
		}
		c.refused(400, method, "/Patient?identifier=urn:len|1&nonsense=1", body, "Prefer", "handling=lenient")
	}
	c.must(200, "GET", "/Patient/len1", "")
}

func TestCommonParametersAreOfEveryType(t *testing.T) { // S-02
	c := newServer(t).client(t, storetest.S1, all)
	c.put(`{"resourceType":"Basic","id":"com1","code":{"text":"x"},"meta":{"profile":["http://p.test/a|1.0"],"source":"http://s.test/a#1","tag":[{"system":"urn:com","code":"A"}],"security":[{"system":"urn:sec","code":"R"}]}}`)
	c.put(`{"resourceType":"Basic","id":"com2","code":{"text":"x"},"meta":{"profile":["http://p.test/b"],"tag":[{"system":"urn:com","code":"B"}]}}`)
	updated := c.must(200, "GET", "/Basic/com1", "").at("meta", "lastUpdated").(string)
	c.finds("Basic",
		found{"_id=com1,com2", "com1 com2"}, found{"_tag=urn:com|A", "com1"}, found{"_tag=A&_id=com1,com2", "com1"}, found{"_tag=urn:com|", "com1 com2"},
		found{"_tag=urn:com|A,urn:com|B", "com1 com2"}, found{"_tag:not=A&_id=com1,com2", "com2"}, found{"_security=urn:sec|R", "com1"},
		found{"_profile=http://p.test/a", "com1"}, found{"_profile=" + q("http://p.test/a|1.0"), "com1"}, found{"_profile=" + q("http://p.test/a|2.0"), ""},
		found{"_source=http://s.test/a", "com1"}, found{"_source=" + q("http://s.test/a#1"), "com1"},
		found{"_lastUpdated=" + q(updated) + "&_id=com1", "com1"}, found{"_lastUpdated=gt" + q(updated) + "&_id=com1", ""},
		found{"_lastUpdated=ge" + q(updated) + "&_id=com1", "com1"}, found{"_lastUpdated=" + updated[:10] + "&_id=com1", "com1"},
		found{"_lastUpdated=lt2000&_id=com1", ""}, found{"_profile:missing=true&_id=com1,com2", ""}, found{"_security:missing=true&_id=com1,com2", "com2"},
	)
}

func TestParametersOfNoElementAreOfEveryType(t *testing.T) { // S-02 S-17 S-42 S-45
	c := newServer(t).client(t, storetest.S1, all)
	const narrative = `"text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">%s</div>"}}`
	c.put(`{"resourceType":"Location","id":"spc1","name":"Attic","position":{"latitude":52.09,"longitude":5.12},`+narrative, "under the roof")
	c.put(`{"resourceType":"Location","id":"spc2","name":"Cellar","position":{"latitude":52.37,"longitude":4.89},`+narrative, "below the ground")
	c.put(`{"resourceType":"List","id":"spc","status":"current","mode":"changes","entry":[{"item":{"reference":"Location/spc1"}},{"deleted":true,"item":{"reference":"Location/spc2"}}]}`)
	c.put(`{"resourceType":"Encounter","id":"spc","status":"planned","class":{"code":"AMB"},"location":[{"location":{"reference":"#l"}}],"contained":[{"resourceType":"Location","id":"l","name":"Attic"}]}`)
	c.finds("Location",
		found{"_list=spc", "spc1"}, found{"_list=List/spc&name=cellar", ""},
		found{"_filter=name+eq+attic+or+name+eq+cellar&_id=spc1,spc2&_sort=_id", "spc1 spc2"}, found{"_filter=not+(name+sw+att)&_id=spc1,spc2", "spc2"},
		found{"_text=roof&_id=spc1,spc2", "spc1"}, found{"_content=cellar+ground&_id=spc1,spc2", "spc2"}, found{"_text=cellar&_id=spc2", ""},
		found{"near=52.09|5.12|1|km&_id=spc1,spc2", "spc1"}, found{"near=52.09|5.12|25|%5Bmi_us%5D&_id=spc1,spc2&_sort=_id", "spc1 spc2"})
	if got := c.must(200, "GET", "/Location?name=attic&_contained=true", "").refs("match"); !slices.Contains(got, "Encounter/spc") {
		t.Errorf("_contained finds %v", got)
	}
}

func TestParametersAndValuesCombine(t *testing.T) { // S-04
	c := newServer(t).client(t, storetest.S1, all)
	c.put(`{"resourceType":"Patient","id":"and1","gender":"male","name":[{"family":"Andor","given":["Ada"]},{"family":"Zed"}],"identifier":[{"system":"urn:and","value":"a,b|c$d\\e"}]}`)
	c.put(`{"resourceType":"Patient","id":"and2","gender":"female","name":[{"family":"Andor","given":["Bob"]}]}`)
	c.put(`{"resourceType":"Patient","id":"and3","name":[{"family":"Andor"}]}`)
	c.finds("Patient",
		found{"family=andor&gender=male", "and1"}, found{"family=andor&gender=male,female", "and1 and2"}, found{"family=andor&given=ada,bob", "and1 and2"},
		found{"family=andor&family=zed", "and1"}, found{"family=andor&given=ada&family=zed&gender=male", "and1"}, found{"family=andor&given=ada&given=bob", ""},
		found{"family=andor&gender:missing=true", "and3"}, found{"family=andor&gender:missing=false", "and1 and2"}, found{"family=andor&gender:not=male", "and2 and3"},
		found{"identifier=" + q(`urn:and|a\,b\|c\$d\\e`), "and1"}, found{"identifier=" + q(`a\,b\|c\$d\\e`), "and1"}, found{"identifier=" + q(`urn:and|a,b`), ""},
	)
}

func TestStringsAreFoundByTheirBeginnings(t *testing.T) { // S-10
	c := newServer(t).client(t, storetest.S1, all)
	c.put(`{"resourceType":"Patient","id":"str1","name":[{"family":"Carreño Quiñones","given":["Éva-Maria"],"text":"Dr. Eva Carreño","prefix":["Dr."]}],"address":[{"city":"Los Angeles","line":["12 O'Hara  St."],"country":"US"}]}`)
	c.put(`{"resourceType":"Patient","id":"str2","name":[{"family":"carrENO"}],"address":[{"text":"somewhere in Carre"}]}`)
	c.finds("Patient",
		found{"family=carreno", "str1 str2"}, found{"family=CARREÑO", "str1 str2"}, found{"family=carreno+qui", "str1"}, found{"family=arreno", ""},
		found{"family:contains=arreno", "str1 str2"}, found{"family:contains=QUIN", "str1"}, found{"family:exact=carrENO", "str2"}, found{"family:exact=Carreno", ""},
		found{"family:exact=" + q("Carreño Quiñones"), "str1"}, found{"given=eva", "str1"}, found{"name=eva", "str1"}, found{"name=dr", "str1"}, found{"name=carreno", "str1 str2"},
		found{"address=12+ohara", "str1"}, found{"address=los", "str1"}, found{"address-city=los+angeles", "str1"}, found{"address=somewhere", "str2"}, found{"address-country=us", "str1"},
		found{"given:contains=" + q("a-m"), "str1"}, found{"family=carreno,zzz", "str1 str2"},
	)
}

func TestTokensAreFoundByCodeAndSystem(t *testing.T) { // S-11
	c := newServer(t).client(t, storetest.S1, all)
	c.put(`{"resourceType":"Patient","id":"tok1","active":true,"gender":"male","identifier":[{"system":"urn:tok","value":"A1","type":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v2-0203","code":"MR"}]}}],"telecom":[{"system":"phone","value":"(555) 123-45"},{"system":"email","value":"Tok@x.test"}],"deceasedBoolean":false}`)
	c.put(`{"resourceType":"Patient","id":"tok2","active":false,"gender":"female","identifier":[{"value":"A1"},{"system":"urn:tok2","value":"B2"}],"deceasedDateTime":"2020"}`)
	c.put(`{"resourceType":"Condition","id":"tok3","subject":{"reference":"Patient/tok1"},"code":{"coding":[{"system":"urn:c","code":"X","display":"Broken left leg"},{"system":"urn:d","code":"Y"}],"text":"Leg that is broken"},"clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-clinical","code":"active"}]}}`)
	c.put(`{"resourceType":"Condition","id":"tok4","subject":{"reference":"Patient/tok1"}}`)
	c.finds("Patient",
		found{"identifier=A1", "tok1 tok2"}, found{"identifier=urn:tok|A1", "tok1"}, found{"identifier=|A1", "tok2"}, found{"identifier=urn:tok|", "tok1"},
		found{"identifier=urn:tok|B2", ""}, found{"identifier=urn:tok|A1,urn:tok2|B2", "tok1 tok2"}, found{"identifier=a1", "tok1 tok2"},
		found{"identifier:of-type=" + q("http://terminology.hl7.org/CodeSystem/v2-0203|MR|A1"), "tok1"}, found{"identifier:of-type=" + q("http://terminology.hl7.org/CodeSystem/v2-0203|SS|A1"), ""},
		found{"active=true&_id=tok1,tok2", "tok1"}, found{"active=false&_id=tok1,tok2", "tok2"}, found{"gender=male&_id=tok1,tok2", "tok1"},
		found{"gender=" + q("http://hl7.org/fhir/administrative-gender|male") + "&_id=tok1,tok2", "tok1"}, found{"gender=" + q("urn:other|male") + "&_id=tok1,tok2", ""},
		found{"phone=55512345", "tok1"}, found{"telecom=" + q("phone|555-12345"), "tok1"}, found{"email=tok@x.test", "tok1"}, found{"phone=tok@x.test", ""}, found{"telecom=tok@X.test", "tok1"},
		found{"deceased=true&_id=tok1,tok2", "tok2"}, found{"deceased=false&_id=tok1,tok2", "tok1"},
	)
	c.finds("Condition",
		found{"code=X", "tok3"}, found{"code=urn:c|X", "tok3"}, found{"code=urn:d|X", ""}, found{"code=urn:d|Y", "tok3"}, found{"code=urn:c|X&code=urn:d|Y", "tok3"},
		found{"code:not=X&_id=tok3,tok4", "tok4"}, found{"code:not=urn:d|Y&_id=tok3,tok4", "tok4"}, found{"code:text=broken", "tok3"}, found{"code:text=leg", "tok3"}, found{"code:text=arm", ""},
		found{"clinical-status=active&_id=tok3,tok4", "tok3"}, found{"code:missing=true&_id=tok3,tok4", "tok4"}, found{"code=urn:c|&_id=tok3,tok4", "tok3"},
	)
}

func TestNumbersHaveThePrecisionOfTheirDigits(t *testing.T) { // S-12
	c := newServer(t).client(t, storetest.S1, all)
	for id, p := range map[string]string{"num1": "0.8", "num2": "0.75", "num3": "0.849", "num4": "0.85", "num5": "100"} {
		c.put(`{"resourceType":"RiskAssessment","id":%q,"status":"final","subject":{"reference":"Patient/1"},"prediction":[{"probabilityDecimal":%s}]}`, id, p)
	}
	c.finds("RiskAssessment",
		found{"probability=0.8", "num1 num2 num3"}, found{"probability=0.80", "num1"}, found{"probability=eq0.8", "num1 num2 num3"}, found{"probability=ne0.8", "num4 num5"},
		found{"probability=gt0.8", "num3 num4 num5"}, found{"probability=lt0.8", "num2"}, found{"probability=ge0.8", "num1 num3 num4 num5"}, found{"probability=le0.8", "num1 num2"},
		found{"probability=sa0.8", "num3 num4 num5"}, found{"probability=eb0.8", "num2"}, found{"probability=ap0.8", "num1 num2 num3 num4"},
		found{"probability=1e2", "num5"}, found{"probability=100", "num5"}, found{"probability=0.75,100", "num2 num5"}, found{"probability:missing=true", ""},
	)
}

func TestQuantitiesAreFoundByNumberAndUnit(t *testing.T) { // S-13
	c := newServer(t).client(t, storetest.S1, all)
	obs := func(id, value string) {
		c.put(`{"resourceType":"Observation","id":%q,"status":"final","code":{"coding":[{"system":"urn:qty","code":"q"}]},%s}`, id, value)
	}
	obs("qty1", `"valueQuantity":{"value":5.4,"unit":"mg","system":"http://unitsofmeasure.org","code":"mg"}`)
	obs("qty2", `"valueQuantity":{"value":5.4,"unit":"drops"}`)
	obs("qty3", `"valueQuantity":{"value":5,"comparator":"<","unit":"mg","system":"http://unitsofmeasure.org","code":"mg"}`)
	obs("qty4", `"valueQuantity":{"value":9,"comparator":">=","unit":"mg","system":"http://unitsofmeasure.org","code":"mg"}`)
	c.finds("Observation",
		found{"code=urn:qty|q&value-quantity=5.4", "qty1 qty2"}, found{"code=urn:qty|q&value-quantity=" + q("5.4|http://unitsofmeasure.org|mg"), "qty1"},
		found{"code=urn:qty|q&value-quantity=5.4||mg", "qty1"}, found{"code=urn:qty|q&value-quantity=5.4||drops", "qty2"}, found{"code=urn:qty|q&value-quantity=5.4||kg", ""},
		found{"code=urn:qty|q&value-quantity=5.40", "qty1 qty2"}, found{"code=urn:qty|q&value-quantity=5.45", ""}, found{"code=urn:qty|q&value-quantity=gt5.4||mg", "qty4"},
		found{"code=urn:qty|q&value-quantity=lt5", "qty3"}, found{"code=urn:qty|q&value-quantity=ge5.4||mg", "qty1 qty4"}, found{"code=urn:qty|q&value-quantity=gt1000", "qty4"},
		found{"code-value-quantity=" + q("urn:qty|q$5.4||mg"), "qty1"}, found{"code-value-quantity=" + q("urn:qty|q$gt5.4"), "qty4"}, found{"code-value-quantity=" + q("urn:qty|r$5.4"), ""},
	)
}

func TestDatesAreRangesOfTheirPrecision(t *testing.T) { // S-14
	c := newServer(t).client(t, storetest.S1, all)
	enc := func(id, period string) {
		c.put(`{"resourceType":"Encounter","id":%q,"status":"finished","class":{"code":"dat"},"period":{%s}}`, id, period)
	}
	enc("dat1", `"start":"2010-10-10","end":"2010-10-20"`)
	enc("dat2", `"start":"2010-10-15T10:00:00Z","end":"2010-10-15T11:00:00Z"`)
	enc("dat3", `"start":"2010-10-18"`)
	enc("dat4", `"end":"2010-10-09"`)
	c.finds("Encounter",
		found{"class=dat&date=2010-10-15", "dat2"}, found{"class=dat&date=2010-10", "dat1 dat2"}, found{"class=dat&date=2010", "dat1 dat2"},
		found{"class=dat&date=ne2010-10-15", "dat1 dat3 dat4"},
		found{"class=dat&date=gt2010-10-15", "dat1 dat3"}, found{"class=dat&date=lt2010-10-15", "dat1 dat4"}, found{"class=dat&date=ge2010-10-15", "dat1 dat2 dat3"},
		found{"class=dat&date=le2010-10-15", "dat1 dat2 dat4"}, found{"class=dat&date=sa2010-10-15", "dat3"}, found{"class=dat&date=eb2010-10-15", "dat4"},
		found{"class=dat&date=gt2010-10-20", "dat3"}, found{"class=dat&date=sa2010-10-09", "dat1 dat2 dat3"}, found{"class=dat&date=eb2010-10-10", "dat4"},
		found{"class=dat&date=ge2010-10-10&date=le2010-10-16", "dat1 dat2"}, found{"class=dat&date=" + q("2010-10-15T05:00:00-05:00"), ""},
		found{"class=dat&date=ge" + q("2010-10-15T06:00:00-05:00"), "dat1 dat3"}, found{"class=dat&date=2010-10-15T10:30Z", ""}, found{"class=dat&date=2010-10-15,2011", "dat2"},
	)
	c.put(`{"resourceType":"Patient","id":"dat5","birthDate":"1970-03"}`)
	c.finds("Patient", found{"birthdate=1970-03&_id=dat5", "dat5"}, found{"birthdate=1970&_id=dat5", "dat5"}, found{"birthdate=1970-03-01&_id=dat5", ""},
		found{"birthdate=ge1970-03-15&_id=dat5", "dat5"}, found{"birthdate=sa1970-03-15&_id=dat5", ""})
}

func TestReferencesAreFoundInEverySpelling(t *testing.T) { // S-15 S-20 S-21
	c := newServer(t).client(t, storetest.S1, all)
	c.put(`{"resourceType":"Patient","id":"ref1","name":[{"family":"Refson"}],"identifier":[{"system":"urn:ref","value":"1"}],"managingOrganization":{"reference":"Organization/ref9"}}`)
	c.put(`{"resourceType":"Organization","id":"ref9","name":"Reforg"}`)
	c.put(`{"resourceType":"Group","id":"ref1","type":"person","actual":true,"member":[{"entity":{"reference":"Patient/ref1"}}]}`)
	obs := func(id, subject string) {
		c.put(`{"resourceType":"Observation","id":%q,"status":"final","code":{"coding":[{"system":"urn:ref","code":"r"}]},"subject":%s}`, id, subject)
	}
	obs("ref2", `{"reference":"Patient/ref1"}`)
	obs("ref3", `{"reference":"Group/ref1"}`)
	obs("ref4", `{"identifier":{"system":"urn:ref","value":"1"}}`)
	obs("ref5", `{"reference":"http://other.test/fhir/Patient/ref1"}`)
	c.finds("Observation",
		found{"subject=Patient/ref1", "ref2"}, found{"subject=ref1", "ref2 ref3"}, found{"patient=ref1", "ref2"}, found{"patient=Patient/ref1", "ref2"}, found{"subject:Patient=ref1", "ref2"},
		found{"subject:Group=ref1", "ref3"}, found{"subject=" + q(c.base+"/Patient/ref1"), "ref2"}, found{"subject=Patient/ref1/_history/1", "ref2"},
		found{"subject=" + q("http://other.test/fhir/Patient/ref1"), "ref5"}, found{"subject:identifier=urn:ref|1", "ref4"}, found{"patient=Group/ref1", ""},
		found{"subject:Patient.name=refson", "ref2"}, found{"patient.family=refson", "ref2"}, found{"patient.identifier=urn:ref|1&code=urn:ref|r", "ref2"}, found{"patient.name=nobody", ""},
		found{"subject:Patient.organization.name=reforg", "ref2"}, found{"subject:Patient._id=ref1", "ref2"}, found{"subject:Group.member=Patient/ref1", "ref3"},
		found{"code=urn:ref|r&subject:missing=true", ""},
	)
	c.finds("Patient",
		found{"_has:Observation:patient:code=urn:ref|r", "ref1"}, found{"_has:Observation:patient:code=urn:ref|x,urn:ref|r", "ref1"}, found{"_has:Observation:patient:code=urn:ref|x", ""},
		found{"_has:Observation:patient:_id=ref2&family=refson", "ref1"}, found{"_has:Group:member:_id=ref1", "ref1"}, found{"organization.name=reforg", "ref1"},
	)
	c.finds("Organization", found{"_has:Patient:organization:_has:Observation:patient:code=urn:ref|r", "ref9"})
	c.refused(400, "GET", "/Observation?subject.name=refson", "") // several types have a name
}

func TestURIsAreFoundWholeOrByPath(t *testing.T) { // S-16
	c := newServer(t).client(t, storetest.S1, all)
	c.put(`{"resourceType":"ValueSet","id":"uri1","status":"draft","url":"http://uri.test/a/b"}`)
	c.put(`{"resourceType":"ValueSet","id":"uri2","status":"draft","url":"http://uri.test/a"}`)
	c.put(`{"resourceType":"ValueSet","id":"uri3","status":"draft","url":"http://uri.test/ab"}`)
	c.finds("ValueSet", found{"url=http://uri.test/a", "uri2"}, found{"url=http://uri.test/A", ""}, found{"url=http://uri.test/a/", ""},
		found{"url:below=http://uri.test/a", "uri1 uri2"}, found{"url:above=http://uri.test/a/b", "uri1 uri2"}, found{"url=http://uri.test/a,http://uri.test/ab", "uri2 uri3"})
}

func TestCompositesAreOfOneRepetition(t *testing.T) { // S-17
	c := newServer(t).client(t, storetest.S1, all)
	c.put(`{"resourceType":"Observation","id":"cmp1","status":"final","code":{"text":"bp"},"component":[
		{"code":{"coding":[{"system":"urn:cmp","code":"sys"}]},"valueQuantity":{"value":120,"unit":"mmHg","system":"http://unitsofmeasure.org","code":"mm[Hg]"}},
		{"code":{"coding":[{"system":"urn:cmp","code":"dia"}]},"valueQuantity":{"value":80,"unit":"mmHg","system":"http://unitsofmeasure.org","code":"mm[Hg]"}}]}`)
	c.finds("Observation",
		found{"component-code-value-quantity=" + q("urn:cmp|sys$120"), "cmp1"}, found{"component-code-value-quantity=" + q("urn:cmp|sys$80"), ""},
		found{"component-code-value-quantity=" + q("sys$gt100||mm[Hg]"), "cmp1"}, found{"component-code-value-quantity=" + q("urn:cmp|dia$gt100"), ""},
		found{"component-code=urn:cmp|dia&component-value-quantity=120", "cmp1"},
	)
}

func TestExpressionsOfManyFormsAreSearched(t *testing.T) { // S-18
	c := newServer(t).client(t, storetest.S1, all)
	c.put(`{"resourceType":"Condition","id":"exp1","clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-clinical","code":"resolved"}]},"subject":{"reference":"Patient/exp"},"onsetDateTime":"2011-05","abatementAge":{"value":40,"unit":"a","system":"http://unitsofmeasure.org","code":"a"}}`)
	c.put(`{"resourceType":"Condition","id":"exp2","clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/condition-clinical","code":"resolved"}]},"subject":{"reference":"Patient/exp"},"onsetAge":{"value":30,"unit":"a","system":"http://unitsofmeasure.org","code":"a"},"abatementDateTime":"2012"}`)
	c.finds("Condition", found{"patient=exp&onset-date=2011", "exp1"}, found{"patient=exp&onset-age=30", "exp2"}, found{"patient=exp&abatement-age=40", "exp1"},
		found{"patient=exp&abatement-date=2012", "exp2"}, found{"subject=Group/exp", ""})
	c.put(`{"resourceType":"MedicationRequest","id":"exp3","status":"active","intent":"order","subject":{"reference":"Patient/exp"},"medicationCodeableConcept":{"coding":[{"system":"urn:exp","code":"m"}]}}`)
	c.put(`{"resourceType":"MedicationRequest","id":"exp4","status":"active","intent":"order","subject":{"reference":"Patient/exp"},"medicationReference":{"reference":"Medication/exp"}}`)
	c.finds("MedicationRequest", found{"patient=exp&code=urn:exp|m", "exp3"}, found{"patient=exp&medication=Medication/exp", "exp4"})
}

func TestIncludesComeOnceAndAreNotCounted(t *testing.T) { // S-30
	s := newServer(t)
	c := s.client(t, storetest.S1, all)
	c.put(`{"resourceType":"Organization","id":"inc0","name":"Inc"}`)
	c.put(`{"resourceType":"Patient","id":"inc1","managingOrganization":{"reference":"Organization/inc0"}}`)
	for _, id := range []string{"inc2", "inc3"} {
		c.put(`{"resourceType":"Observation","id":%q,"status":"final","code":{"coding":[{"system":"urn:inc","code":"i"}]},"subject":{"reference":"Patient/inc1"},"hasMember":[{"reference":"Observation/inc3"}],"performer":[{"reference":"#x"}],"contained":[{"resourceType":"Practitioner","id":"x"}]}`, id)
	}
	c.put(`{"resourceType":"Provenance","id":"inc4","target":[{"reference":"Observation/inc2"},{"reference":"Observation/inc3"}],"recorded":"2020-01-01T00:00:00Z","agent":[{"who":{"display":"x"}}]}`)
	for _, tt := range []struct{ query, match, include string }{
		{"code=urn:inc|i&_include=Observation:subject", "Observation/inc2 Observation/inc3", "Patient/inc1"},
		{"code=urn:inc|i&_include=Observation:subject:Patient", "Observation/inc2 Observation/inc3", "Patient/inc1"},
		{"code=urn:inc|i&_include=Observation:subject:Group", "Observation/inc2 Observation/inc3", ""},
		{"code=urn:inc|i&_include=Observation:has-member", "Observation/inc2 Observation/inc3", ""},
		{"_id=inc2&_include=Observation:has-member", "Observation/inc2", "Observation/inc3"},
		{"_id=inc2&_include=Observation:*", "Observation/inc2", "Observation/inc3 Patient/inc1"},
		{"_id=inc2&_include=*", "Observation/inc2", "Observation/inc3 Patient/inc1"},
		{"_id=inc2&_include=Observation:performer", "Observation/inc2", ""},
		{"_id=inc2&_include=Observation:subject&_include:iterate=Patient:organization", "Observation/inc2", "Organization/inc0 Patient/inc1"},
		{"_id=inc2&_include=Observation:subject&_include:recurse=Patient:organization", "Observation/inc2", "Organization/inc0 Patient/inc1"},
		{"_id=inc2&_include=Observation:subject&_include=Patient:organization", "Observation/inc2", "Patient/inc1"},
		{"code=urn:inc|i&_revinclude=Provenance:target", "Observation/inc2 Observation/inc3", "Provenance/inc4"},
		{"_id=inc2&_revinclude=Provenance:target&_include=Observation:subject", "Observation/inc2", "Patient/inc1 Provenance/inc4"},
	} {
		a := c.must(200, "GET", "/Observation?"+tt.query, "")
		match, include := a.refs("match"), a.refs("include")
		slices.Sort(match)
		slices.Sort(include)
		if got := strings.Join(match, " "); got != tt.match {
			t.Errorf("%s matches %s, want %s", tt.query, got, tt.match)
		}
		if got := strings.Join(include, " "); got != tt.include {
			t.Errorf("%s includes %s, want %s", tt.query, got, tt.include)
		}
		if a.at("total") != float64(len(match)) {
			t.Errorf("%s: total %v", tt.query, a.at("total"))
		}
	}
	page := c.must(200, "GET", "/Observation?code=urn:inc|i&_include=Observation:subject&_count=1", "")
	if len(page.refs("match")) != 1 || len(page.refs("include")) != 1 || page.link("next") == "" {
		t.Errorf("a page of one: %s", page.body)
	}
	narrow := s.client(t, storetest.S1, "system/Observation.rs")
	if a := narrow.must(200, "GET", "/Observation?code=urn:inc|i&_include=Observation:subject&_revinclude=Provenance:target", ""); len(a.refs("include")) != 0 {
		t.Errorf("outside of the scope: %s", a.body)
	}
}

func TestResultsAreSortedAsAsked(t *testing.T) { // S-40
	c := newServer(t).client(t, storetest.S1, all)
	p := func(id, rest string) {
		time.Sleep(2 * time.Millisecond) // each has a lastUpdated of its own
		c.put(`{"resourceType":"Patient","id":%q,"meta":{"tag":[{"code":"sorted"}]}%s}`, id, rest)
	}
	p("srt1", `,"birthDate":"1980-01-01","gender":"male","name":[{"family":"Beta"},{"family":"Zeta"}]`)
	p("srt2", `,"birthDate":"1970-01-01","gender":"female","name":[{"family":"alpha"}]`)
	p("srt3", `,"birthDate":"1980-01-01","gender":"female","name":[{"family":"Gamma"}]`)
	p("srt4", ``)
	for _, tt := range []struct{ sort, want string }{
		{"birthdate,_id", "srt2 srt1 srt3 srt4"}, {"-birthdate,_id", "srt1 srt3 srt2 srt4"}, {"-birthdate,-_id", "srt3 srt1 srt2 srt4"},
		{"family", "srt2 srt1 srt3 srt4"}, {"-family", "srt1 srt3 srt2 srt4"}, {"_id", "srt1 srt2 srt3 srt4"}, {"-_id", "srt4 srt3 srt2 srt1"},
		{"_lastUpdated", "srt1 srt2 srt3 srt4"}, {"-_lastUpdated", "srt4 srt3 srt2 srt1"}, {"gender,-family", "srt3 srt2 srt1 srt4"},
	} {
		for _, count := range []string{"1", "2", "20"} {
			var got []string
			for a := c.must(200, "GET", "/Patient?_tag=sorted&_sort="+tt.sort+"&_count="+count, ""); ; a = c.must(200, "GET", a.link("next"), "") {
				for _, ref := range a.refs("match") {
					got = append(got, strings.TrimPrefix(ref, "Patient/"))
				}
				if a.link("next") == "" {
					break
				}
			}
			if strings.Join(got, " ") != tt.want {
				t.Errorf("_sort=%s&_count=%s: %v, want %s", tt.sort, count, got, tt.want)
			}
		}
	}
}

func TestAnswersHoldWhatWasAskedFor(t *testing.T) { // S-41 S-42 H-02
	c := newServer(t).client(t, storetest.S1, all)
	for _, id := range []string{"sub1", "sub2", "sub3"} {
		c.put(`{"resourceType":"Patient","id":%q,"meta":{"tag":[{"code":"subset"}]},"text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">words</div>"},"gender":"male","photo":[{"title":"x"}],"contact":[{"gender":"male","name":{"text":"x"}}]}`, id)
	}
	count := c.must(200, "GET", "/Patient?_tag=subset&_summary=count", "")
	if count.at("total") != 3.0 || count.at("entry") != nil {
		t.Errorf("_summary=count: %s", count.body)
	}
	if zero := c.must(200, "GET", "/Patient?_tag=subset&_count=0", ""); zero.at("total") != 3.0 || zero.at("entry") != nil {
		t.Errorf("_count=0: %s", zero.body)
	}
	if total := c.must(200, "GET", "/Patient?_tag=subset&_count=1&_total=accurate", ""); total.at("total") != 3.0 || len(total.refs("match")) != 1 {
		t.Errorf("_total=accurate: %s", total.body)
	}
	for _, tt := range []struct {
		query      string
		has, lacks []string
	}{
		{"_summary=true", []string{"id", "meta", "gender"}, []string{"text", "photo", "contact"}},
		{"_summary=text", []string{"id", "meta", "text"}, []string{"gender", "photo", "contact"}},
		{"_summary=data", []string{"id", "meta", "gender", "photo"}, []string{"text"}},
		{"_elements=gender", []string{"id", "meta", "gender"}, []string{"text", "photo", "contact"}},
		{"_elements=Patient.gender,photo", []string{"id", "meta", "gender", "photo"}, []string{"text", "contact"}},
		{"_summary=false", []string{"id", "meta", "gender", "photo", "text"}, nil},
	} {
		for path, place := range map[string][]any{"/Patient?_id=sub1&" + tt.query: {"entry", 0, "resource"}, "/Patient/sub1?" + tt.query: nil} {
			got, _ := c.must(200, "GET", path, "").at(place...).(map[string]any)
			for _, name := range tt.has {
				if got[name] == nil {
					t.Errorf("%s lacks %s", path, name)
				}
			}
			for _, name := range tt.lacks {
				if got[name] != nil {
					t.Errorf("%s has %s", path, name)
				}
			}
			marked := slices.ContainsFunc(list(at(got, "meta", "tag")), func(tag any) bool { return at(tag, "code") == "SUBSETTED" })
			if marked != (tt.lacks != nil) {
				t.Errorf("%s: SUBSETTED is %t", path, marked)
			}
		}
	}
	c.must(200, "GET", "/Patient?_tag=subset&_contained=false", "")
	c.refused(400, "GET", "/Patient?_tag=subset&_contained=both&_sort=name", "")
}

func TestCostlySearchesAreRefused(t *testing.T) { // S-50
	c := newServer(t).client(t, storetest.S1, all)
	for _, query := range []string{
		"_id=" + strings.Repeat("x,", 600) + "x",
		strings.Repeat("family=x&", 70),
		"organization." + strings.Repeat("partof.", 6) + "name=x",
		"family=" + strings.Repeat("x", 5000),
	} {
		a := c.do("GET", "/Patient?"+query, "")
		if a.status != 400 && a.status != 413 && a.status != 422 || a.at("issue", 0, "code") != "too-costly" {
			t.Errorf("%.60s: %d %s", query, a.status, a.body)
		}
	}
	a := c.do("GET", "/Patient?_count=100000", "")
	if a.status != 200 || strings.Contains(a.link("self"), "100000") {
		t.Errorf("_count=100000: %d %s", a.status, a.link("self"))
	}
}
