package smart

import (
	"strings"
	"unicode"
)

// Words says for people what the scope allows.
func (sc Scope) Words() string {
	text := sc.verbs() + " " + sc.what()
	switch {
	case sc.whose == ofPatient:
		text += " of the patient"
	case sc.whose == ofUser:
		text += " that you can see"
	}
	return text
}

// verbs says what the letters mean.
func (sc Scope) verbs() string {
	var parts []string
	switch sc.letters & (canRead | canSearch) {
	case canRead | canSearch:
		parts = append(parts, "read and search")
	case canRead:
		parts = append(parts, "read")
	case canSearch:
		parts = append(parts, "search")
	}
	for _, one := range []struct {
		letter letters
		verb   string
	}{{canCreate, "add"}, {canUpdate, "change"}, {canDelete, "delete"}} {
		if sc.letters&one.letter != 0 {
			parts = append(parts, one.verb)
		}
	}
	if n := len(parts); n > 1 {
		return strings.Join(parts[:n-1], ", ") + " and " + parts[n-1]
	}
	return strings.Join(parts, "")
}

// plurals are the names of what users are asked about most. The others are
// made from the name of the type.
var plurals = map[string]string{
	"Patient": "name, address and other personal details", "AllergyIntolerance": "allergies and intolerances",
	"Condition": "conditions and diagnoses", "Observation": "observations: vital signs, laboratory results and more",
	"MedicationRequest": "prescriptions", "MedicationStatement": "medications taken", "MedicationDispense": "medications dispensed",
	"Procedure": "procedures", "Immunization": "immunizations", "DiagnosticReport": "reports of tests and imaging",
	"DocumentReference": "documents and notes", "Encounter": "visits", "CarePlan": "care plans", "CareTeam": "care teams",
	"Goal": "goals of treatment", "Device": "implants and devices", "Coverage": "insurance coverage", "Claim": "insurance claims",
	"ExplanationOfBenefit": "statements of insurers", "Provenance": "who recorded what", "Appointment": "appointments",
	"Practitioner": "details of practitioners", "Organization": "details of organizations", "Location": "details of places",
	"ServiceRequest": "orders", "QuestionnaireResponse": "answers to questionnaires",
}

func (sc Scope) what() string {
	if sc.on == "" {
		return "everything in the record"
	}
	text, known := plurals[string(sc.on)]
	if !known {
		text = spaced(string(sc.on)) + " records"
	}
	if sc.query == "" {
		return text
	}
	for _, part := range partsOf[string(sc.on)] {
		if part.query == sc.query {
			return part.words
		}
	}
	return text + ", only where " + strings.ReplaceAll(sc.query, "&", " and ")
}

// spaced writes CarePlan as care plan.
func spaced(name string) string {
	var b strings.Builder
	for i, c := range name {
		if i > 0 && unicode.IsUpper(c) {
			b.WriteByte(' ')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}

// A part is a category of a type that a user may grant without the others.
type part struct{ query, words string }

const (
	conditionCategory   = "category=http://terminology.hl7.org/CodeSystem/condition-category|"
	usCoreCategory      = "category=http://hl7.org/fhir/us/core/CodeSystem/condition-category|"
	observationCategory = "category=http://terminology.hl7.org/CodeSystem/observation-category|"
	usCoreTag           = "category=http://hl7.org/fhir/us/core/CodeSystem/us-core-category|"
)

// partsOf are the categories that US Core asks servers to let users choose of.
// https://hl7.org/fhir/us/core/STU6.1/scopes.html
var partsOf = map[string][]part{
	"Condition": {
		{conditionCategory + "encounter-diagnosis", "diagnoses of visits"},
		{conditionCategory + "problem-list-item", "the problem list"},
		{usCoreCategory + "health-concern", "health concerns"},
	},
	"Observation": {
		{observationCategory + "laboratory", "laboratory results"},
		{observationCategory + "vital-signs", "vital signs"},
		{observationCategory + "social-history", "social history"},
		{observationCategory + "survey", "answers to surveys"},
		{usCoreTag + "sdoh", "social circumstances"},
		{usCoreTag + "clinical-test", "clinical tests"},
	},
}

// Parts returns the scopes for parts of what sc allows, nil if it has none.
func (sc Scope) Parts() []Scope {
	if sc.query != "" {
		return nil
	}
	var parts []Scope
	for _, p := range partsOf[string(sc.on)] {
		one := sc
		one.v1 = false
		if narrowed, err := one.only(p.query); err == nil {
			parts = append(parts, narrowed)
		}
	}
	return parts
}
