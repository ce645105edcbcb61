package main

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	"github.com/google/fhir/go/fhirversion"
	"github.com/google/fhir/go/jsonformat"
	codes "github.com/google/fhir/go/proto/google/fhir/proto/r4/core/codes_go_proto"
	dt "github.com/google/fhir/go/proto/google/fhir/proto/r4/core/datatypes_go_proto"
	"github.com/google/fhir/go/proto/google/fhir/proto/r4/core/resources/condition_go_proto"
	"github.com/google/fhir/go/proto/google/fhir/proto/r4/core/resources/encounter_go_proto"
	"github.com/google/fhir/go/proto/google/fhir/proto/r4/core/resources/observation_go_proto"
	"github.com/google/fhir/go/proto/google/fhir/proto/r4/core/resources/patient_go_proto"
	"google.golang.org/protobuf/proto"
)

// A resident is one of a population of any size: the i-th is the same person
// with the same records however many there are. So what a selective search
// finds among a thousand it finds among ten thousand, and nothing more.
type resident int

// Every longRecord-th resident has so many Observations of one code, for pages
// of them.
const (
	longRecord = 50
	longCount  = 60
	heartRate  = "http://loinc.org|8867-4"
)

func (r resident) id() string         { return "resident" + strconv.Itoa(int(r)) }
func (r resident) identifier() string { return "N" + strconv.Itoa(1_000_000+int(r)) }

// family returns a name that four residents have.
func (r resident) family() string {
	syllables := []string{"ba", "den", "fi", "gor", "hal", "jo", "kes", "lin", "mor", "na"}
	name := "Van"
	for n := int(r)/4 + 1000; n > 0; n /= 10 {
		name += syllables[n%10]
	}
	return name
}

// rare returns the code of a measurement that five residents have had.
func (r resident) rare() string { return localCodes + "|study-" + strconv.Itoa(int(r)/5) }

const (
	localCodes  = "https://records.cedarpoint.example/codes"
	identifiers = "https://records.cedarpoint.example/mrn"
)

// born and seen are spread over the years, by numbers that share no factor
// with the days of a year.
func (r resident) born() time.Time {
	return time.Date(1930, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, int(r)*7919%32000)
}

func (r resident) seen() time.Time {
	return time.Date(2016, 1, 1, 8, 30, 0, 0, time.UTC).AddDate(0, 0, int(r)*104729%3650)
}

// commonMeasurements are those that every resident has had.
var commonMeasurements = []struct{ code, unit string }{
	{"8302-2", "cm"}, {"29463-7", "kg"}, {"8310-5", "Cel"}, {"9279-1", "/min"},
}

// records returns the resident's resources, as a typed model of R4 makes them:
// it knows no element that there is not, and no code outside a required binding.
func (r resident) records() []identified {
	patient := &dt.Reference{Reference: &dt.Reference_PatientId{PatientId: &dt.ReferenceId{Value: r.id()}}}
	all := []identified{
		&patient_go_proto.Patient{
			Id:         &dt.Id{Value: r.id()},
			Identifier: []*dt.Identifier{{System: &dt.Uri{Value: identifiers}, Value: text(r.identifier())}},
			Active:     &dt.Boolean{Value: true},
			Name:       []*dt.HumanName{{Family: text(r.family()), Given: []*dt.String{text("Robin"), text("R" + strconv.Itoa(int(r)))}}},
			Gender:     &patient_go_proto.Patient_GenderCode{Value: codes.AdministrativeGenderCode_FEMALE},
			BirthDate:  &dt.Date{ValueUs: r.born().UnixMicro(), Timezone: "UTC", Precision: dt.Date_DAY},
		},
		&encounter_go_proto.Encounter{
			Id:         &dt.Id{Value: r.id() + "-visit"},
			Status:     &encounter_go_proto.Encounter_StatusCode{Value: codes.EncounterStatusCode_FINISHED},
			ClassValue: coding("http://terminology.hl7.org/CodeSystem/v3-ActCode", "AMB"),
			Subject:    patient,
			Period:     &dt.Period{Start: at(r.seen()), End: at(r.seen().Add(20 * time.Minute))},
		},
		&condition_go_proto.Condition{
			Id:             &dt.Id{Value: r.id() + "-problem"},
			ClinicalStatus: codeable("http://terminology.hl7.org/CodeSystem/condition-clinical", "active"),
			Code:           codeable("http://snomed.info/sct", strconv.Itoa(38341003+int(r)%40)),
			Subject:        patient,
		},
	}
	observe := func(system, code, unit string, value float64, on time.Time) {
		all = append(all, &observation_go_proto.Observation{
			Id:        &dt.Id{Value: fmt.Sprintf("%s-%d", r.id(), len(all))},
			Status:    &observation_go_proto.Observation_StatusCode{Value: codes.ObservationStatusCode_FINAL},
			Category:  []*dt.CodeableConcept{codeable("http://terminology.hl7.org/CodeSystem/observation-category", "vital-signs")},
			Code:      codeable(system, code),
			Subject:   patient,
			Effective: &observation_go_proto.Observation_EffectiveX{Choice: &observation_go_proto.Observation_EffectiveX_DateTime{DateTime: at(on)}},
			Value: &observation_go_proto.Observation_ValueX{Choice: &observation_go_proto.Observation_ValueX_Quantity{Quantity: &dt.Quantity{
				Value: &dt.Decimal{Value: strconv.FormatFloat(value, 'f', 1, 64)}, Unit: text(unit),
				System: &dt.Uri{Value: "http://unitsofmeasure.org"}, Code: &dt.Code{Value: unit},
			}}},
		})
	}
	for i, m := range commonMeasurements {
		observe("http://loinc.org", m.code, m.unit, float64(50+(int(r)+i*13)%100), r.seen())
	}
	observe(localCodes, "study-"+strconv.Itoa(int(r)/5), "mg/dL", float64(100+int(r)%5), r.seen())
	if r%longRecord == 0 {
		for i := range longCount {
			observe("http://loinc.org", "8867-4", "/min", float64(60+i), r.seen().AddDate(0, 0, i))
		}
	}
	return all
}

// identified is a resource of the typed model.
type identified interface {
	proto.Message
	GetId() *dt.Id
}

func text(s string) *dt.String { return &dt.String{Value: s} }

func at(t time.Time) *dt.DateTime {
	return &dt.DateTime{ValueUs: t.UnixMicro(), Timezone: "Z", Precision: dt.DateTime_SECOND}
}

func coding(system, code string) *dt.Coding {
	return &dt.Coding{System: &dt.Uri{Value: system}, Code: &dt.Code{Value: code}}
}

func codeable(system, code string) *dt.CodeableConcept {
	return &dt.CodeableConcept{Coding: []*dt.Coding{coding(system, code)}}
}

// bundleOf returns a transaction Bundle that PUTs the records of residents, and
// their number. Each message is marshalled once: jsonformat changes its input.
// https://hl7.org/fhir/R4/http.html#transaction
func bundleOf(residents []resident) (body []byte, entries int, err error) {
	m, err := jsonformat.NewMarshaller(false, "", "", fhirversion.R4)
	if err != nil {
		return nil, 0, fmt.Errorf("making a marshaller: %w", err)
	}
	var b bytes.Buffer
	b.WriteString(`{"resourceType":"Bundle","type":"transaction","entry":[`)
	for _, r := range residents {
		for _, x := range r.records() {
			name, id := string(x.ProtoReflect().Descriptor().Name()), x.GetId().GetValue()
			record, err := m.MarshalResource(x)
			if err != nil {
				return nil, 0, fmt.Errorf("writing a %s: %w", name, err)
			}
			if entries > 0 {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, `{"resource":%s,"request":{"method":"PUT","url":"%s/%s"}}`, record, name, id)
			entries++
		}
	}
	b.WriteString(`]}`)
	return b.Bytes(), entries, nil
}

// known returns values of the first residents, for searches. The codes are
// rare ones, so that searches by code are selective too.
func known(residents int) *catalog {
	c := &catalog{
		quantity: resident(0).rare(), threshold: 100, categories: []string{"vital-signs"}, since: "2016-01-01",
		years: []string{"2016", "2018", "2020", "2022", "2024"},
	}
	for r := range resident(residents) {
		c.patients = append(c.patients, person{r.id(), r.family(), identifiers + "|" + r.identifier(), r.born().Format("2006")})
		c.pairs = append(c.pairs, pair{r.id(), "http://loinc.org|" + commonMeasurements[int(r)%len(commonMeasurements)].code})
		c.activeOf = append(c.activeOf, r.id())
		if r%5 == 0 {
			c.codes = append(c.codes, r.rare())
		}
		if r%longRecord == 0 {
			c.long = append(c.long, pair{r.id(), heartRate})
		}
	}
	return c
}
