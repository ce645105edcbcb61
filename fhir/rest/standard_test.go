package rest

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// ofStandard is an operation as R4 defines it.
type ofStandard struct {
	name   string
	on     fhir.Type // "" for every type
	levels level
	in     string
}

// standard are the parameters that R4 defines for the operations that are
// served, each with its type.
// https://hl7.org/fhir/R4/operationslist.html
var standard = []ofStandard{
	{"document", "Composition", onType | onInstance, "id:uri persist:boolean graph:uri"},
	{"meta", "", onSystem | onType | onInstance, ""},
	{"meta-add", "", onInstance, "meta:Meta"},
	{"meta-delete", "", onInstance, "meta:Meta"},
	{"everything", "Patient", onType | onInstance, "start:date end:date _since:instant _type:code _count:integer"},
	{"everything", "Encounter", onInstance, "_since:instant _type:code _count:integer"},
	{"match", "Patient", onType, "resource:Resource onlyCertainMatches:boolean count:integer"},
	{"lastn", "Observation", onType, "max:positiveInt"},
	{"graphql", "", onSystem | onInstance, "query:string"},
	{"validate", "", onType | onInstance, "resource:Resource mode:code profile:uri"},
	{"expand", "ValueSet", onType | onInstance, "url:uri valueSet:ValueSet valueSetVersion:string context:uri contextDirection:code filter:string date:dateTime offset:integer count:integer " +
		"includeDesignations:boolean designation:string includeDefinition:boolean activeOnly:boolean excludeNested:boolean excludeNotForUI:boolean excludePostCoordinated:boolean " +
		"displayLanguage:code exclude-system:canonical system-version:canonical check-system-version:canonical force-system-version:canonical"},
	{"validate-code", "ValueSet", onType | onInstance, "url:uri context:uri valueSet:ValueSet valueSetVersion:string code:code system:uri systemVersion:string display:string coding:Coding " +
		"codeableConcept:CodeableConcept date:dateTime abstract:boolean displayLanguage:code"},
	{"lookup", "CodeSystem", onType, "code:code system:uri version:string coding:Coding date:dateTime displayLanguage:code property:code"},
	{"validate-code", "CodeSystem", onType | onInstance, "url:uri codeSystem:CodeSystem code:code version:string display:string coding:Coding codeableConcept:CodeableConcept date:dateTime " +
		"abstract:boolean displayLanguage:code"},
	{"subsumes", "CodeSystem", onType | onInstance, "codeA:code codeB:code system:uri version:string codingA:Coding codingB:Coding"},
	{"translate", "ConceptMap", onType | onInstance, "url:uri conceptMap:ConceptMap conceptMapVersion:string code:code system:uri version:string source:uri coding:Coding " +
		"codeableConcept:CodeableConcept target:uri targetsystem:uri dependency: reverse:boolean"},
}

// https://hl7.org/fhir/uv/bulkdata/STU2/artifacts.html
func init() {
	const params = "_outputFormat:string _since:instant _until:instant _type:string _typeFilter:string _elements:string patient:Reference " +
		"includeAssociatedData:string organizeOutputBy:string allowPartialManifests:boolean"
	standard = append(standard, ofStandard{"export", "", onSystem, params}, ofStandard{"export", "Patient", onType, params}, ofStandard{"export", "Group", onInstance, params})
}

// https://sql-on-fhir.org/ig/operations.html
func init() {
	standard = append(standard, ofStandard{"viewdefinition-export", "", onSystem, "view: clientTrackingId:string _format:code patient:Reference group:Reference _since:instant"}, ofStandard{"viewdefinition-run", "", onSystem, "_format:code header:boolean viewReference:Reference viewResource:Resource " +
		"patient:Reference group:Reference source:string resource:Resource _limit:integer _since:instant"})
}

// refused are the parameters of R4 that are answered with 400 and their name.
// What would have to be honoured to be right is never passed over in silence.
var refused = map[string][]string{
	"expand":             {"context", "contextDirection", "date"},
	"validate-code":      {"context", "date"},
	"lookup":             {"date"},
	"document":           {"graph"},
	"viewdefinition-run": {"source", "resource"},
}

// Every parameter that R4 gives an operation is taken, at each of its
// levels, or refused by its name.
func TestOperationsTakeTheParametersOfTheStandardOrRefuseThem(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.A1, all)
	served := operations()
	for _, s := range standard {
		at := slices.IndexFunc(served, func(o operation) bool {
			return o.name == s.name && (s.on == "" && len(o.on) == 0 || s.on != "" && o.isOn(s.on))
		})
		if at < 0 {
			t.Errorf("$%s on %s is not served", s.name, s.on)
			continue
		}
		o := served[at]
		if o.level&s.levels != s.levels {
			t.Errorf("$%s on %s lacks a level: %b, want %b", s.name, s.on, o.level, s.levels)
		}
		for p := range strings.FieldsSeq(s.in) {
			name, typ, _ := strings.Cut(p, ":")
			i := slices.IndexFunc(o.in, func(p parameter) bool { return p.name == name })
			if slices.Contains(refused[s.name], name) {
				where := strings.TrimSuffix("/"+string(s.on), "/") + "/$" + s.name + "?" + name + "=" + url.QueryEscape(map[string]string{"dateTime": "2020-01-01"}[typ]+"http://x.test")
				if w := c.must(400, "GET", where, ""); !strings.Contains(w.Body.String(), "parameter "+name) {
					t.Errorf("%s: %s", where, w.Body)
				}
				continue
			}
			if i < 0 {
				t.Errorf("$%s on %s does not know %s", s.name, s.on, name)
				continue
			}
			// A narrower type is refused by name where the wider does not fit.
			narrower := map[string][]string{"integer": {"positiveInt", "unsignedInt"}, "Resource": {"Patient"}, "uri": {"canonical"}}
			if got := o.in[i].typ; got != typ && !slices.Contains(narrower[typ], got) {
				t.Errorf("$%s on %s takes %s as %s, want %s", s.name, s.on, name, got, typ)
			}
		}
	}
	for _, o := range served {
		own := strings.HasPrefix(o.url, ours(""))
		if own == slices.ContainsFunc(standard, func(s ofStandard) bool { return s.name == o.name }) {
			t.Errorf("$%s is none of R4's, or says that it is not: its parameters are not held against it", o.name)
		}
	}
}

// https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/operations.html
func init() {
	standard = append(standard, ofStandard{"status", "Subscription", onType | onInstance, "id:id status:code"},
		ofStandard{"events", "Subscription", onInstance, "eventsSinceNumber:string eventsUntilNumber:string content:code"})
}
