package conformance

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/r4"
)

// hiddenID is the id of one resource of each type in the record of patient B.
const hiddenID = "of-b"

// ofPatientB holds the least that a resource of each type in the Patient
// compartment must have. PB is a Reference to patient B, CC some concept.
// https://hl7.org/fhir/R4/compartmentdefinition-patient.html
var ofPatientB = map[fhir.Type]string{
	"Account":                     `"status":"active","subject":[PB]`,
	"AdverseEvent":                `"actuality":"actual","subject":PB`,
	"AllergyIntolerance":          `"clinicalStatus":{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical","code":"active"}]},"patient":PB`,
	"Appointment":                 `"status":"proposed","participant":[{"actor":PB,"status":"accepted"}]`,
	"AppointmentResponse":         `"appointment":{"reference":"Appointment/of-b"},"actor":PB,"participantStatus":"accepted"`,
	"Basic":                       `"code":CC,"subject":PB`,
	"BodyStructure":               `"patient":PB`,
	"CarePlan":                    `"status":"active","intent":"plan","subject":PB`,
	"CareTeam":                    `"subject":PB`,
	"ChargeItem":                  `"status":"billable","code":CC,"subject":PB`,
	"Claim":                       `"status":"active","type":CC,"use":"claim","patient":PB,"created":"2024-01-01","provider":{"reference":"Organization/h1"},"priority":CC,"insurance":[{"sequence":1,"focal":true,"coverage":{"reference":"Coverage/k1"}}]`,
	"ClaimResponse":               `"status":"active","type":CC,"use":"claim","patient":PB,"created":"2024-01-01","insurer":{"reference":"Organization/h1"},"outcome":"complete"`,
	"ClinicalImpression":          `"status":"completed","subject":PB`,
	"Communication":               `"status":"completed","subject":PB`,
	"CommunicationRequest":        `"status":"active","subject":PB`,
	"Composition":                 `"status":"final","type":CC,"subject":PB,"date":"2024-01-01","author":[{"reference":"Practitioner/dr1"}],"title":"Summary"`,
	"Condition":                   `"subject":PB`,
	"Consent":                     `"status":"active","scope":CC,"category":[CC],"patient":PB,"policyRule":CC`,
	"Coverage":                    `"status":"active","beneficiary":PB,"payor":[{"reference":"Organization/h1"}]`,
	"CoverageEligibilityRequest":  `"status":"active","purpose":["benefits"],"patient":PB,"created":"2024-01-01","insurer":{"reference":"Organization/h1"}`,
	"CoverageEligibilityResponse": `"status":"active","purpose":["benefits"],"patient":PB,"created":"2024-01-01","request":{"reference":"CoverageEligibilityRequest/of-b"},"outcome":"complete","insurer":{"reference":"Organization/h1"}`,
	"DetectedIssue":               `"status":"final","patient":PB`,
	"DeviceRequest":               `"intent":"order","codeCodeableConcept":CC,"subject":PB`,
	"DeviceUseStatement":          `"status":"active","subject":PB,"device":{"reference":"Device/1"}`,
	"DiagnosticReport":            `"status":"final","code":CC,"subject":PB`,
	"DocumentManifest":            `"status":"current","subject":PB,"content":[{"reference":"DocumentReference/d2"}]`,
	"DocumentReference":           `"status":"current","subject":PB,"content":[{"attachment":{"title":"x"}}]`,
	"Encounter":                   `"status":"finished","class":{"code":"AMB"},"subject":PB`,
	"EnrollmentRequest":           `"candidate":PB`,
	"EpisodeOfCare":               `"status":"active","patient":PB`,
	"ExplanationOfBenefit":        `"status":"active","type":CC,"use":"claim","patient":PB,"created":"2024-01-01","insurer":{"reference":"Organization/h1"},"provider":{"reference":"Organization/h1"},"outcome":"complete","insurance":[{"focal":true,"coverage":{"reference":"Coverage/k1"}}]`,
	"FamilyMemberHistory":         `"status":"completed","patient":PB,"relationship":CC`,
	"Flag":                        `"status":"active","code":CC,"subject":PB`,
	"Goal":                        `"lifecycleStatus":"active","description":CC,"subject":PB`,
	"Group":                       `"type":"person","actual":true,"member":[{"entity":PB}]`,
	"ImagingStudy":                `"status":"available","subject":PB`,
	"Immunization":                `"status":"completed","vaccineCode":CC,"patient":PB,"occurrenceDateTime":"2024-01-01"`,
	"ImmunizationEvaluation":      `"status":"completed","patient":PB,"targetDisease":CC,"immunizationEvent":{"reference":"Immunization/of-b"},"doseStatus":CC`,
	"ImmunizationRecommendation":  `"patient":PB,"date":"2024-01-01","recommendation":[{"vaccineCode":[CC],"forecastStatus":CC}]`,
	"Invoice":                     `"status":"draft","subject":PB`,
	"List":                        `"status":"current","mode":"working","subject":PB`,
	"MeasureReport":               `"status":"complete","type":"individual","measure":"http://example.org/m","subject":PB,"period":{"start":"2024-01-01"}`,
	"Media":                       `"status":"completed","subject":PB,"content":{"title":"x"}`,
	"MedicationAdministration":    `"status":"completed","medicationCodeableConcept":CC,"subject":PB,"effectiveDateTime":"2024-01-01"`,
	"MedicationDispense":          `"status":"completed","medicationCodeableConcept":CC,"subject":PB`,
	"MedicationRequest":           `"status":"active","intent":"order","medicationCodeableConcept":CC,"subject":PB`,
	"MedicationStatement":         `"status":"active","medicationCodeableConcept":CC,"subject":PB`,
	"MolecularSequence":           `"coordinateSystem":0,"patient":PB`,
	"NutritionOrder":              `"status":"active","intent":"order","patient":PB,"dateTime":"2024-01-01"`,
	"Observation":                 `"status":"final","code":CC,"subject":PB`,
	"Person":                      `"link":[{"target":PB}]`,
	"Procedure":                   `"status":"completed","subject":PB`,
	"Provenance":                  `"target":[PB],"recorded":"2024-05-06T07:08:09Z","agent":[{"who":{"reference":"Practitioner/dr1"}}]`,
	"QuestionnaireResponse":       `"status":"completed","subject":PB`,
	"RelatedPerson":               `"patient":PB`,
	"RequestGroup":                `"status":"active","intent":"plan","subject":PB`,
	"ResearchSubject":             `"status":"on-study","study":{"reference":"ResearchStudy/1"},"individual":PB`,
	"RiskAssessment":              `"status":"final","subject":PB`,
	"Schedule":                    `"actor":[PB]`,
	"ServiceRequest":              `"status":"active","intent":"order","subject":PB`,
	"Specimen":                    `"subject":PB`,
	"SupplyDelivery":              `"patient":PB`,
	"SupplyRequest":               `"itemCodeableConcept":CC,"quantity":{"value":1},"deliverFrom":{"reference":"Location/1"},"requester":{"reference":"Practitioner/dr1"},"deliverTo":PB`,
	"VisionPrescription":          `"status":"active","created":"2024-01-01","patient":PB,"dateWritten":"2024-01-01","prescriber":{"reference":"Practitioner/dr1"},"lensSpecification":[{"product":CC,"eye":"left"}]`,
}

// compartmentRecords returns the resources of ofPatientB.
func compartmentRecords() []string {
	fill := strings.NewReplacer("PB", `{"reference":"Patient/p2"}`, "CC", `{"text":"«other»"}`)
	var all []string
	for _, on := range fhir.Types {
		if least, ok := ofPatientB[on]; ok {
			all = append(all, fmt.Sprintf(`{"resourceType":%q,"id":%q,%s}`, on, hiddenID, fill.Replace(least)))
		}
	}
	return all
}

// T075 must run for every type that R4 puts into the Patient compartment.
func TestEveryTypeOfTheCompartmentHasAHiddenResource(t *testing.T) {
	for _, m := range r4.Compartment("Patient") {
		if m.Type == "AuditEvent" || m.Type == "Patient" { // written by the server; p2 itself
			continue
		}
		if ofPatientB[m.Type] == "" {
			t.Errorf("no %s in the record of patient B", m.Type)
		}
	}
	for _, text := range compartmentRecords() {
		if !json.Valid([]byte(text)) {
			t.Errorf("not JSON: %s", text)
		}
	}
}
