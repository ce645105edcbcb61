package rest

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"html"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/fhirtest"
	fhirxml "github.com/cordon-fhir/cordon/fhir/xml"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// H-01, H-02, T213: XML comes in and goes out wherever JSON does, and what is
// stored is the same.
func TestXMLIsServedAndTaken(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.A1, all)
	id := fresh()
	asXML := []string{"Content-Type", "application/fhir+xml", "Accept", "application/fhir+xml"}
	has := func(got, claim string, want ...string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(got, w) {
				t.Errorf("%s: %s is not in %s", claim, w, got)
			}
		}
	}
	body := `<Patient xmlns="http://hl7.org/fhir"><id value="` + id + `"/><extension url="http://x"><valueDecimal value="1.50"/></extension>` +
		`<name><family value="X&amp;Y"/></name></Patient>`
	w := c.must(201, "PUT", "/Patient/"+id, body, asXML...)
	if got := w.Header().Get("Content-Type"); got != xmlType {
		t.Errorf("Content-Type %s", got)
	}
	has(w.Body.String(), "the answer to an update", `<Patient xmlns="http://hl7.org/fhir"><id value="`+id+`"/><meta><versionId value="1"/>`, `<family value="X&amp;Y"/>`)
	has(c.must(200, "GET", "/Patient/"+id, "").Body.String(), "what is stored", `"valueDecimal":1.50`, `"family":"X&Y"`)
	has(c.must(200, "GET", "/Patient?_id="+id+"&_format=xml&_pretty=true", "").Body.String(), "a search", `<Bundle xmlns="http://hl7.org/fhir">`, "\n  <type value=\"searchset\"/>", `<Patient>`)
	has(c.must(200, "GET", "/Patient/"+id+"?_elements=name", "", asXML...).Body.String(), "a subset", `<code value="SUBSETTED"/>`)
	has(c.must(404, "GET", "/Patient/"+fresh(), "", asXML...).Body.String(), "an error", `<OperationOutcome xmlns="http://hl7.org/fhir">`)
	has(c.must(400, "GET", "/Patient?nonsense=1&_format=xml", "").Body.String(), "an error in the query", `<OperationOutcome xmlns="http://hl7.org/fhir">`)
	has(c.must(401, "GET", "/Patient/"+id, "", "Authorization", "", "Accept", "text/xml").Body.String(), "an error before anything was read", `<OperationOutcome xmlns="http://hl7.org/fhir">`)
	has(c.must(200, "GET", "/metadata", "", "Accept", "application/xml").Body.String(), "the CapabilityStatement", `<CapabilityStatement xmlns="http://hl7.org/fhir">`, `<format value="application/fhir+xml"/>`)
	has(c.must(422, "PUT", "/Patient/"+id, `<Patient xmlns="http://hl7.org/fhir"><id value="`+id+`"/><birthDate value="x"/></Patient>`, asXML...).Body.String(),
		"a fault", `<expression value="Patient.birthDate"/>`)
	has(c.must(400, "PUT", "/Patient/"+id, `<Patient xmlns="http://hl7.org/fhir"><id value="`+id+`"/><birthDate val="x"/></Patient>`, asXML...).Body.String(),
		"malformed XML", `<expression value="Patient.birthDate"/>`)
	bundle, err := fhirxml.FromJSON([]byte(posting("transaction", asking("PUT", "Patient/"+id, patient(id, "Z")), asking("GET", "Patient/"+id, ""))), true)
	if err != nil {
		t.Fatal(err)
	}
	has(c.must(200, "POST", "", string(bundle), asXML...).Body.String(), "a transaction", `<type value="transaction-response"/>`, `<status value="200 OK"/>`, `<family value="Z"/>`)
	patch, err := fhirxml.FromJSON([]byte(pathPatching(pathOperation("replace", "Patient.name.family", "value", `"valueString":"W"`))), false)
	if err != nil {
		t.Fatal(err)
	}
	has(c.must(200, "PATCH", "/Patient/"+id, string(patch), asXML...).Body.String(), "a patch", `<family value="W"/>`)
	has(c.must(200, "PATCH", "/Patient/"+id, pathPatching(pathOperation("delete", "Patient.name.family"), pathOperation("add", "Patient", "name", `"valueString":"gender"`, "value", `"valueCode":"other"`)),
		"Content-Type", "application/fhir+json").Body.String(), "a patch of JSON", `"gender":"other"`)
	has(c.must(200, "POST", "", posting("transaction", asking("PATCH", "Patient/"+id, pathPatching(pathOperation("replace", "Patient.gender", "value", `"valueCode":"female"`)))),
		"Prefer", "return=representation").Body.String(), "a patch in a Bundle", `"gender":"female"`)
	made := shown(t, c.must(200, "POST", "", posting("transaction", called("urn:uuid:7a1e2f0a-5d0e-4c1a-9a49-1f64f2a1b001", asking("POST", "Organization", `{"resourceType":"Organization","name":"O"}`)),
		asking("PATCH", "Patient/"+id, pathPatching(pathOperation("add", "Patient", "name", `"valueString":"managingOrganization"`, "value", `"valueReference":{"reference":"urn:uuid:7a1e2f0a-5d0e-4c1a-9a49-1f64f2a1b001"}`)))),
		"Prefer", "return=representation"))
	if got := at(made, "entry", 1, "resource", "managingOrganization", "reference"); got != "Organization/"+fmt.Sprint(at(made, "entry", 0, "resource", "id")) {
		t.Errorf("a reference in a patch of a transaction became %v", got)
	}
	c.must(412, "PATCH", "/Patient/"+id, string(patch), append(asXML, "If-Match", `W/"1"`)...)
	c.must(422, "PATCH", "/Patient/"+id, pathPatching(pathOperation("replace", "Patient.id", "value", `"valueId":"x"`)), "Content-Type", "application/fhir+json")
	c.must(400, "PATCH", "/Patient/"+id, patient(id, "x"), "Content-Type", "application/fhir+json")
	c.must(415, "PATCH", "/Patient/"+id, string(patch), "Content-Type", "application/xml-patch+xml")
}

// A character that JSON can hold and XML cannot is an error for whoever asks
// for XML, and audited as one.
func TestWhatXMLCannotHoldIsRefused(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.A1, all)
	id := fresh()
	c.must(201, "PUT", "/Patient/"+id, patient(id, "\uFFFE"))
	w := c.must(406, "GET", "/Patient/"+id, "", "Accept", "application/fhir+xml")
	if strings.Contains(w.Body.String(), "\uFFFE") {
		t.Errorf("got %s", w.Body)
	}
}

// wrongPatchCases are the standard's cases that do not hold, and why.
var wrongPatchCases = map[string]string{
	"Add extension": "its XML is not valid: Reference has no attribute reference",
}

// H-27: the public test cases of FHIRPath Patch.
func TestTheStandardsFHIRPathPatchCasesHold(t *testing.T) {
	raw, err := os.ReadFile(fhirtest.Path(t, "test-cases/patch/fhir-patch-tests.xml"))
	if err != nil {
		t.Skip("there are no FHIRPath Patch test cases: " + err.Error())
	}
	type content struct {
		XML string `xml:",innerxml"`
	}
	var suite struct {
		Cases []struct {
			Name   string    `xml:"name,attr"`
			Input  content   `xml:"input"`
			Diff   content   `xml:"diff"`
			Output content   `xml:"output"`
			Error  *struct{} `xml:"error"`
		} `xml:"case"`
	}
	if err := xml.Unmarshal(raw, &suite); err != nil {
		t.Fatal(err)
	}
	if len(suite.Cases) < 30 {
		t.Errorf("there are %d cases", len(suite.Cases))
	}
	asJSON := func(c content) ([]byte, error) {
		return fhirxml.ToJSON([]byte(strings.TrimSpace(c.XML)), fhir.Limits{})
	}
	for _, tt := range suite.Cases {
		t.Run(tt.Name, func(t *testing.T) {
			got, err := func() ([]byte, error) {
				in, err := asJSON(tt.Input)
				if err != nil {
					return nil, err
				}
				patch, err := asJSON(tt.Diff)
				if err != nil {
					return nil, err
				}
				ops, err := decodePathPatch(patch, "Parameters", 50)
				if err != nil {
					return nil, err
				}
				return ops.apply(in, 1<<20)
			}()
			reason, wrong := wrongPatchCases[tt.Name]
			switch {
			case wrong:
				if err == nil {
					t.Errorf("it is listed, but no error: %s", reason)
				}
			case tt.Error != nil:
				if err == nil {
					t.Errorf("it was applied: %s", got)
				}
			case err != nil:
				t.Error(err)
			default:
				want, err := asJSON(tt.Output)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(parsed(t, want), parsed(t, got), cmp.Comparer(func(a, b string) bool { return loose(a) == loose(b) })); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

// loose returns a text without the white space and the escapes that the cases
// are not careful about in narrative.
func loose(s string) string { return strings.Join(strings.Fields(html.UnescapeString(s)), "") }

// parsed returns JSON as values.
func parsed(t *testing.T, b []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	return v
}
