package search

import "github.com/cordon-fhir/cordon/fhir"

// hotPairs are the token parameters that clients ask for together with the
// patient. The index holds each pair joined: a row more for each code, and a
// search that reads only its answers. It pays for a type of which a patient
// has thousands; of the others, a patient's are soon looked through.
var hotPairs = map[fhir.Type][]string{"Observation": {"code"}}

// hotNumbers are the number parameters that clients ask for together with the
// code. Both elements must be single.
var hotNumbers = map[fhir.Type]string{"Observation": "value-quantity"}

// mainDates are the parameters that date a resource, the first with a value
// counting. It is when something happened, not when it was written down,
// where the resource says so.
var mainDates = map[fhir.Type][]string{
	"Account":               {"period"},
	"AllergyIntolerance":    {"onset", "date"},
	"Bundle":                {"timestamp"},
	"ChargeItem":            {"occurrence", "entered-date"},
	"Communication":         {"sent", "received"},
	"CommunicationRequest":  {"occurrence", "authored"},
	"Condition":             {"onset-date", "recorded-date"},
	"DetectedIssue":         {"identified"},
	"DeviceRequest":         {"event-date", "authored-on"},
	"DiagnosticReport":      {"date", "issued"},
	"DocumentReference":     {"date", "period"},
	"Goal":                  {"start-date", "target-date"},
	"ImagingStudy":          {"started"},
	"Media":                 {"created"},
	"MedicationDispense":    {"whenhandedover", "whenprepared"},
	"MedicationRequest":     {"authoredon"},
	"MedicationStatement":   {"effective"},
	"NutritionOrder":        {"datetime"},
	"Patient":               {"birthdate"},
	"Person":                {"birthdate"},
	"Provenance":            {"when", "recorded"},
	"QuestionnaireResponse": {"authored"},
	"RelatedPerson":         {"birthdate"},
	"ServiceRequest":        {"occurrence", "authored"},
	"Specimen":              {"collected"},
	"Task":                  {"authored-on", "modified"},
}

// usualDates date the types that mainDates does not name.
var usualDates = []string{
	"date", "effective-time", "period", "created", "authored", "start", "event-date", "issued", "recorded", "date-of-payment", "datewritten",
}

// addHot adds the joined parts of the index to tb.
func (tb *table) addHot() {
	dates := mainDates[tb.t]
	if dates == nil {
		dates = usualDates
	}
	for _, code := range dates {
		if p := tb.byCode[code]; p != nil && p.Type == "date" {
			for _, e := range p.elements {
				tb.mainDate = append(tb.mainDate, e.path)
			}
		}
	}
	tb.pairs = map[Path][]Path{}
	for _, code := range hotPairs[tb.t] {
		for _, ref := range tb.byCode["patient"].elements {
			for _, e := range tb.byCode[code].elements {
				tb.pairs[ref.path] = append(tb.pairs[ref.path], e.path)
			}
		}
	}
	tb.hotNumbers = map[Path][]Path{}
	if code := hotNumbers[tb.t]; code != "" {
		for _, e := range tb.byCode["code"].elements {
			for _, n := range tb.byCode[code].elements {
				tb.hotNumbers[e.path] = append(tb.hotNumbers[e.path], n.path)
			}
		}
	}
}

// hotPath names the index of the numbers at a path joined with the token at
// another.
func hotPath(token, number Path) Path { return token + "$" + number }
