// Package deid takes out of resources what could tell whose they are.
//
// https://www.ecfr.gov/current/title-45/section-164.514
//
// What stays is listed, not what goes: types, datatypes, and codes of code systems
// that everybody has. Text, names, identifiers, attachments, extensions, contained
// resources, and whatever R4 does not define, are in no list.
package deid

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/r4"
)

// Rules say how resources are de-identified. The zero Rules show nothing. Under equal keys equal ids have equal
// pseudonyms, and all dates of a patient move by as much.
type Rules struct {
	Key []byte // required
	// Years shows of dates the year alone, as Safe Harbor has it; else they are
	// shifted, each patient's by as many days.
	Years bool
	// Now tells who is over 89.
	Now time.Time
}

// types are those that are shown at all.
var types = []fhir.Type{
	"AdverseEvent", "AllergyIntolerance", "CarePlan", "CareTeam", "Claim", "ClaimResponse", "ClinicalImpression", "Condition", "Coverage", "Device",
	"DeviceRequest", "DeviceUseStatement", "DiagnosticReport", "Encounter", "EpisodeOfCare", "ExplanationOfBenefit", "FamilyMemberHistory", "Flag", "Goal",
	"ImagingStudy", "Immunization", "ImmunizationEvaluation", "ImmunizationRecommendation", "Location", "Medication", "MedicationAdministration",
	"MedicationDispense", "MedicationRequest", "MedicationStatement", "NutritionOrder", "Observation", "Organization", "Patient", "Practitioner",
	"PractitionerRole", "Procedure", "RiskAssessment", "ServiceRequest", "Specimen", "SupplyDelivery", "SupplyRequest", "VisionPrescription",
}

// Covers reports whether something of resources of the type is shown.
func Covers(t fhir.Type) bool { return slices.Contains(types, t) }

// left is what is left out of what is shown, by path.
var left = map[string]bool{
	"Location.position":            true, // smaller than a state
	"Patient.contact":              true,
	"Patient.link":                 true,
	"Patient.multipleBirthInteger": true,
}

// Resource returns what may be shown of a resource, nil for nothing. body is compact JSON, as a
// fhir.Document has it, and patients are the ids of those of whom it tells.
func (r *Rules) Resource(body []byte, patients []string) []byte {
	var t fhir.Type
	var id string
	var meta []byte
	for name, value := range fhir.Members(body) {
		switch string(name) {
		case "resourceType":
			t = fhir.Type(text(value))
		case "id":
			id = text(value)
		case "meta":
			meta = value
		}
	}
	if !Covers(t) || len(r.Key) == 0 {
		return nil
	}
	w := &walk{Rules: r}
	if !r.Years && len(patients) == 1 {
		w.shift = r.days(patients[0])
	}
	out := fmt.Appendf(nil, `{"resourceType":%q`, t)
	if id != "" {
		out = fmt.Appendf(out, `,"id":%q`, r.ID(fhir.Ref{Type: t, ID: id}))
	}
	out = fmt.Appendf(out, `,"meta":{"security":[%s]}`, w.labels(meta))
	for _, m := range w.members(r4.TypeOf(string(t)), body) {
		out = append(append(out, ','), m...)
	}
	return append(out, '}')
}

// ID returns the pseudonym of a resource.
func (r *Rules) ID(ref fhir.Ref) string {
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(r.mac("id", ref.String())[:20]))
}

// maxShift bounds by how many days dates go back.
const maxShift = 365

// days is by how many days the dates of a patient go back: never none.
func (r *Rules) days(patient string) int {
	return 1 + int(binary.BigEndian.Uint64(r.mac("days", patient))%maxShift)
}

func (r *Rules) mac(of, what string) []byte {
	h := hmac.New(sha256.New, r.Key)
	fmt.Fprintf(h, "%s|%s", of, what)
	return h.Sum(nil)
}

// A walk goes through one resource.
type walk struct {
	*Rules
	shift int // days that dates go back; 0 shows years
}

// pseudonymized is the label of what went through here.
// https://terminology.hl7.org/CodeSystem-v3-ObservationValue.html
const pseudonymized = `{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue","code":"PSEUDED"}`

// labels returns the security labels of a resource with the meta. Those that it has
// hold for whoever gets it.
func (w *walk) labels(meta []byte) []byte {
	out := []byte(pseudonymized)
	for name, value := range fhir.Members(meta) {
		if string(name) != "security" {
			continue
		}
		for label := range fhir.Items(value) {
			if kept := coding(label); kept != nil && string(kept) != pseudonymized {
				out = append(append(out, ','), kept...)
			}
		}
	}
	return out
}

// members returns the members of an object that are shown, each with its name. In place
// of what has to be there it says that it is masked.
func (w *walk) members(t *r4.Type, object []byte) (list [][]byte) {
	if len(object) == 0 || object[0] != '{' {
		return nil
	}
	for name, value := range fhir.Members(object) {
		e := t.Element(string(name))
		if e == nil || e.Name == "resourceType" || e.Name == "meta" {
			continue
		}
		if kept := w.element(t, e, value); kept != nil {
			list = append(list, fmt.Appendf(nil, `"%s":%s`, e.Name, kept))
		} else if e.Required() {
			list = append(list, masked(e))
		}
	}
	return list
}

// masked says that there was something.
// https://hl7.org/fhir/R4/extension-data-absent-reason.html
func masked(e *r4.Element) []byte {
	why, under := `{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/data-absent-reason","valueCode":"masked"}]}`, ""
	if e.Many() {
		why = "[" + why + "]"
	}
	if e.Complex() == nil {
		under = "_"
	}
	return fmt.Appendf(nil, `"%s%s":%s`, under, e.Name, why)
}

// element returns what is shown of the value, nil for nothing.
func (w *walk) element(t *r4.Type, e *r4.Element, value []byte) []byte {
	if left[t.Path+"."+e.Name] || len(value) == 0 {
		return nil
	}
	if value[0] != '[' {
		return w.value(e, value)
	}
	var list []byte
	for item := range fhir.Items(value) {
		if kept := w.value(e, item); kept != nil {
			list = append(append(list, ','), kept...)
		}
	}
	if list == nil {
		return nil
	}
	list[0] = '['
	return append(list, ']')
}

func (w *walk) value(e *r4.Element, value []byte) []byte {
	t := e.Complex()
	if t == nil {
		return w.primitive(e, value)
	}
	if len(value) == 0 || value[0] != '{' {
		return nil
	}
	switch t.Path {
	case "Coding":
		return coding(value)
	case "Quantity", "Age", "Count", "Distance", "Duration":
		return w.quantity(t, value)
	case "Reference":
		return w.reference(value)
	case "Address":
		return address(value)
	case "CodeableConcept", "Dosage", "Money", "Period", "Range", "Ratio", "Timing":
		return w.object(t, value)
	}
	if strings.Contains(t.Path, ".") { // an element of what is shown
		return w.object(t, value)
	}
	return nil
}

func (w *walk) object(t *r4.Type, value []byte) []byte {
	return join(w.members(t, value)...)
}

// join returns the object with the members, nil without any.
func join(members ...[]byte) []byte {
	var out []byte
	for _, m := range members {
		out = append(append(out, ','), m...)
	}
	if out == nil {
		return nil
	}
	out[0] = '{'
	return append(out, '}')
}

// primitive returns what is shown of a primitive value: numbers, and codes of which the
// standard lists all.
func (w *walk) primitive(e *r4.Element, value []byte) []byte {
	quoted := value[0] == '"'
	switch e.Primitive() {
	case r4.Boolean, r4.Integer, r4.Decimal, r4.PositiveInt, r4.UnsignedInt:
		if !quoted && value[0] != '{' {
			return value
		}
	case r4.Code:
		if quoted && e.ValueSet() != nil && e.ValueSet().HasCode(text(value)) {
			return value
		}
	case r4.Date, r4.DateTime, r4.Instant:
		return w.date(e.Primitive(), text(value))
	case r4.Time:
		if at, err := time.Parse(time.TimeOnly, text(value)); err == nil {
			return fmt.Appendf(nil, "%q", at.Format(time.TimeOnly))
		}
	}
	return nil
}

// reference returns a reference to a resource of the tenant by its pseudonym.
func (w *walk) reference(value []byte) []byte {
	for name, value := range fhir.Members(value) {
		if string(name) != "reference" {
			continue
		}
		to, _, _ := strings.Cut(text(value), "/_history/")
		if ref, err := fhir.ParseRef(to); err == nil && ref.Type.Known() {
			return fmt.Appendf(nil, `{"reference":"%s/%s"}`, ref.Type, w.ID(ref))
		}
	}
	return nil
}

// text is the string that is JSON, "" if it is none.
func text(value []byte) string {
	if len(value) == 0 || value[0] != '"' {
		return ""
	}
	plain, err := jsontext.AppendUnquote(nil, value)
	if err != nil {
		return ""
	}
	return string(plain)
}
