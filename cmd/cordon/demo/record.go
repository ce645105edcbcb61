package demo

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// A chart is the record of one patient while it is being written.
type chart struct {
	rand      *rand.Rand
	id        string
	name      string
	male      bool
	born      time.Time
	doctor    practitioner // who looks after the patient
	height    float64      // cm, grown
	weight    float64      // kg, at the last visit
	has       []ailment    // chronic ailments so far
	resources []object
	count     map[string]int // ids given so far, by prefix
}

// years is how far back a chart goes.
const years = 6

// record returns the resources of the i-th patient.
func record(r *rand.Rand, i int) []object {
	c := &chart{rand: r, id: PatientID(i), count: map[string]int{}}
	c.male = i%2 == 0
	c.doctor = practitioners[i%2]
	c.born = time.Date(Today.Year()-6-r.IntN(80), time.Month(1+r.IntN(12)), 1+r.IntN(28), 0, 0, 0, 0, eastern)
	c.height = 163 + r.NormFloat64()*7
	if c.male {
		c.height += 13
	}
	c.weight = c.height - 100 + r.NormFloat64()*11
	c.patient()
	c.team()
	c.cover()
	c.allergies()
	for back := years; back >= 0; back-- {
		c.year(Today.AddDate(-back, 0, -r.IntN(300)-20))
	}
	c.carePlans()
	return c.resources
}

// add appends a resource to the chart.
func (c *chart) add(o object) { c.resources = append(c.resources, o) }

// next returns a new id in the chart, p7-bp-3.
func (c *chart) next(kind string) string {
	c.count[kind]++
	return fmt.Sprintf("%s-%s-%d", c.id, kind, c.count[kind])
}

func (c *chart) subject() object { return reference("Patient", c.id, c.name) }

func (c *chart) age(at time.Time) int {
	age := at.Year() - c.born.Year()
	if at.YearDay() < c.born.YearDay() {
		age--
	}
	return age
}

// one returns an element of list.
func one[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// patient writes who it is.
// https://hl7.org/fhir/us/core/StructureDefinition-us-core-patient.html
func (c *chart) patient() {
	r := c.rand
	given, gender, sex := one(r, girls), "female", "F"
	if c.male {
		given, gender, sex = one(r, boys), "male", "M"
	}
	family := one(r, families)
	c.name = given + " " + family
	who := one(r, races)
	adult := c.age(Today) >= 18
	single := r.IntN(3) == 0 || !adult
	marital := code{hl7 + "v3-MaritalStatus", "M", "Married"}
	if single {
		marital = code{hl7 + "v3-MaritalStatus", "S", "Never Married"}
	}
	number := fmt.Sprintf("CP-%06d", 100000+r.IntN(900000))
	phone := fmt.Sprintf("555-555-01%02d", r.IntN(100))
	c.add(resource("Patient", c.id, "us-core-patient", narrative(c.name, "Born "+day(c.born), "Medical record number "+number)).and(
		"extension", array{
			ombExtension("us-core-race", who.race),
			ombExtension("us-core-ethnicity", who.ethnicity),
			obj("url", usCore+"us-core-birthsex", "valueCode", sex),
		},
		"identifier", array{obj("use", "usual", "type", concept(code{hl7 + "v2-0203", "MR", "Medical record number"}), "system", mrn, "value", number)},
		"active", true,
		"name", array{obj("use", "official", "family", family, "given", array{given, one(r, initials)})},
		"telecom", array{
			obj("system", "phone", "value", phone, "use", "home"),
			obj("system", "email", "value", c.id+"@mail.example", "use", "home"),
		},
		"gender", gender,
		"birthDate", day(c.born),
		"address", array{obj("use", "home", "line", array{fmt.Sprintf("%d %s", 1+r.IntN(200), one(r, streets))},
			"city", "Cedar Point", "state", "MA", "postalCode", "01999", "country", "US")},
		"maritalStatus", concept(marital),
		"communication", array{obj("language", concept(code{bcp47, "en-US", "English (United States)"}), "preferred", true)},
		"generalPractitioner", array{c.doctor.ref()},
		"managingOrganization", hospital,
	))
}

// ombExtension returns the extension for race or ethnicity.
func ombExtension(name string, c code) object {
	return obj("url", usCore+name, "extension", array{
		obj("url", "ombCategory", "valueCoding", c.coding()),
		obj("url", "text", "valueString", c.display),
	})
}

// team writes who looks after the patient.
// https://hl7.org/fhir/us/core/StructureDefinition-us-core-careteam.html
func (c *chart) team() {
	c.add(resource("CareTeam", c.id+"-team", "us-core-careteam", narrative("Care team of "+c.name, c.doctor.name())).and(
		"status", "active",
		"name", "Care team of "+c.name,
		"subject", c.subject(),
		"participant", array{
			obj("role", array{concept(code{snomed, "116154003", "Patient"})}, "member", c.subject()),
			obj("role", array{concept(c.doctor.specialty)}, "member", c.doctor.ref(), "onBehalfOf", hospital),
		},
		"managingOrganization", array{hospital},
	))
}

// cover writes who pays.
// https://hl7.org/fhir/R4/coverage.html
func (c *chart) cover() {
	c.add(resource("Coverage", c.id+"-coverage", "", narrative("Coverage of "+c.name, "Prairie Mutual Insurance")).and(
		"identifier", array{obj("system", "https://members.prairiemutual.example", "value", fmt.Sprintf("PM%08d", c.rand.IntN(1e8)))},
		"status", "active",
		"type", concept(code{hl7 + "v3-ActCode", "EHCPOL", "extended healthcare"}),
		"beneficiary", c.subject(),
		"relationship", status("subscriber-relationship", "self"),
		"period", obj("start", day(c.born)),
		"payor", array{payer},
	))
}

// allergies writes what the patient does not bear, if anything.
// https://hl7.org/fhir/us/core/StructureDefinition-us-core-allergyintolerance.html
func (c *chart) allergies() {
	if c.rand.IntN(3) > 0 {
		return
	}
	for _, i := range c.rand.Perm(len(allergens))[:1+c.rand.IntN(2)] {
		a := allergens[i]
		c.add(resource("AllergyIntolerance", c.next("allergy"), "us-core-allergyintolerance", narrative(a.code.display, "Reaction: "+a.manifestation)).and(
			"clinicalStatus", status("allergyintolerance-clinical", "active"),
			"verificationStatus", status("allergyintolerance-verification", "confirmed"),
			"type", "allergy",
			"category", array{a.category},
			"criticality", a.criticality,
			"code", concept(a.code),
			"patient", c.subject(),
			"recordedDate", instant(Today.AddDate(-4, c.rand.IntN(12), 0)),
			"recorder", c.doctor.ref(),
			"reaction", array{obj("manifestation", array{concept(code{snomed, a.reaction, a.manifestation})})},
		))
	}
}

// year writes a year of the patient's life: a check-up, and perhaps a
// complaint or an emergency.
func (c *chart) year(at time.Time) {
	if at.Before(c.born) {
		return
	}
	c.checkUp(at.Add(9*time.Hour + time.Duration(c.rand.IntN(28))*15*time.Minute))
	if later := at.AddDate(0, 0, 30+c.rand.IntN(200)); c.rand.IntN(2) == 0 && later.Before(Today) {
		c.complaint(later.Add(14 * time.Hour))
	}
}

// A visit is an encounter and what was found in it.
type visit struct {
	at    time.Time
	enc   object // reference to the Encounter
	by    practitioner
	where object
	notes []string
}

var (
	ambulatory = code{hl7 + "v3-ActCode", "AMB", "ambulatory"}
	emergency  = code{hl7 + "v3-ActCode", "EMER", "emergency"}

	generalExam     = code{snomed, "162673000", "General examination of patient"}
	problemVisit    = code{snomed, "185347001", "Encounter for problem"}
	emergencyVisit  = code{snomed, "50849002", "Emergency room admission"}
	progressNote    = code{loinc, "11506-3", "Progress note"}
	emergencyReport = code{loinc, "34111-5", "Emergency department Note"}
)

// encounter begins a visit.
// https://hl7.org/fhir/us/core/StructureDefinition-us-core-encounter.html
func (c *chart) encounter(at time.Time, kind, class code, by practitioner, where object, reason *code) *visit {
	id := c.next("enc")
	o := resource("Encounter", id, "us-core-encounter", narrative(kind.display, day(at), by.name())).and(
		"identifier", array{obj("system", "https://records.cedarpoint.example/visit", "value", strings.ToUpper(id))},
		"status", "finished",
		"class", class.coding(),
		"type", array{concept(kind)},
		"subject", c.subject(),
		"participant", array{obj("type", array{concept(code{hl7 + "v3-ParticipationType", "PPRF", "primary performer"})},
			"period", obj("start", instant(at), "end", instant(at.Add(30*time.Minute))), "individual", by.ref())},
		"period", obj("start", instant(at), "end", instant(at.Add(30*time.Minute))),
	)
	if reason != nil {
		o = o.and("reasonCode", array{concept(*reason)})
	}
	c.add(o.and("location", array{obj("location", where)}, "serviceProvider", hospital))
	return &visit{at: at, enc: reference("Encounter", id, kind.display), by: by, where: where}
}

// checkUp writes the yearly visit: vital signs, laboratory, new ailments,
// prescriptions, vaccines, the note and the claim.
func (c *chart) checkUp(at time.Time) {
	v := c.encounter(at, generalExam, ambulatory, c.doctor, office, nil)
	c.vitals(v)
	c.smoking(v)
	for _, a := range chronic {
		if !c.suffers(a) && c.age(at) >= a.fromAge && c.rand.IntN(1000*(years+1)) < a.perMille {
			c.has = append(c.has, a)
			c.condition(v, a, time.Time{})
			c.prescribe(v, a, "active")
			v.notes = append(v.notes, "New diagnosis: "+a.snomed.display+".")
		}
	}
	c.laboratory(v, bloodCount)
	if c.age(at) >= 18 {
		c.laboratory(v, metabolic)
		c.laboratory(v, lipids)
	}
	for _, a := range c.has {
		for _, t := range a.tests {
			c.measure(v, t, c.value(t, true))
		}
	}
	c.procedure(v, procedures[c.rand.IntN(2)])
	c.vaccinate(v)
	c.note(v, progressNote)
	c.claim(v)
}

// complaint writes a visit with something that heals.
func (c *chart) complaint(at time.Time) {
	a := one(c.rand, acute)
	var v *visit
	if c.rand.IntN(4) == 0 {
		v = c.encounter(at, emergencyVisit, emergency, practitioners[2], ward, &a.snomed)
	} else {
		v = c.encounter(at, problemVisit, ambulatory, practitioners[3], office, &a.snomed)
	}
	c.vitals(v)
	c.condition(v, a, at.AddDate(0, 0, 7+c.rand.IntN(14)))
	c.prescribe(v, a, "completed")
	v.notes = append(v.notes, "Presents with "+strings.ToLower(a.snomed.display)+".", "Advised "+a.drug.code.display+", "+a.drug.dose+".")
	if v.by.id == "dr3" {
		c.procedure(v, procedures[3])
		c.note(v, emergencyReport)
	} else {
		c.note(v, progressNote)
	}
	c.claim(v)
}

func (c *chart) suffers(a ailment) bool {
	for _, b := range c.has {
		if a.snomed == b.snomed {
			return true
		}
	}
	return false
}

// observation begins an Observation.
func (c *chart) observation(v *visit, kind, profile, category string, what code) object {
	return resource("Observation", c.next(kind), profile, nil).and(
		"status", "final",
		"category", array{concept(code{hl7 + "observation-category", category, categoryNames[category]})},
		"code", concept(what),
		"subject", c.subject(),
		"encounter", v.enc,
		"effectiveDateTime", instant(v.at),
		"issued", v.at.Format("2006-01-02T15:04:05.000-07:00"),
		"performer", array{v.by.ref()},
	)
}

var categoryNames = map[string]string{
	"vital-signs": "Vital Signs", "laboratory": "Laboratory", "social-history": "Social History", "survey": "Survey",
}

// vitals writes the vital signs.
// https://hl7.org/fhir/R4/observation-vitalsigns.html
func (c *chart) vitals(v *visit) {
	r := c.rand
	age := float64(c.age(v.at))
	height := c.height
	c.weight += r.NormFloat64() * 1.2
	weight := max(c.weight, c.height-122)
	if age < 18 {
		height *= 0.45 + 0.55*age/18
		weight = height * height * (14 + age/3) / 10000
	}
	systolic, diastolic := 112+age/6+r.NormFloat64()*7, 72+age/12+r.NormFloat64()*5
	if c.suffers(chronic[1]) {
		systolic, diastolic = systolic+14, diastolic+8
	}
	vital := func(kind, c1, display string, value decimal, unit, code1 string) {
		c.add(c.observation(v, kind, "", "vital-signs", code{loinc, c1, display}).and("valueQuantity", quantity(value, unit, code1)))
	}
	vital("height", "8302-2", "Body height", fixed(height, 1), "cm", "cm")
	vital("weight", "29463-7", "Body weight", fixed(weight, 1), "kg", "kg")
	vital("bmi", "39156-5", "Body mass index (BMI) [Ratio]", fixed(weight/(height*height)*1e4, 1), "kg/m2", "kg/m2")
	vital("pulse", "8867-4", "Heart rate", fixed(72+r.NormFloat64()*8, 0), "beats/minute", "/min")
	vital("resp", "9279-1", "Respiratory rate", fixed(15+r.NormFloat64()*1.5, 0), "breaths/minute", "/min")
	vital("temp", "8310-5", "Body temperature", fixed(36.7+r.NormFloat64()*0.3, 1), "degrees C", "Cel")
	pressure := func(c1, display string, value float64) object {
		return obj("code", concept(code{loinc, c1, display}), "valueQuantity", quantity(fixed(value, 0), "mmHg", "mm[Hg]"))
	}
	c.add(c.observation(v, "bp", "us-core-blood-pressure", "vital-signs", code{loinc, "85354-9", "Blood pressure panel with all children optional"}).and(
		"component", array{
			pressure("8480-6", "Systolic blood pressure", systolic),
			pressure("8462-4", "Diastolic blood pressure", diastolic),
		}))
	v.notes = append(v.notes, fmt.Sprintf("Blood pressure %.0f/%.0f, weight %.1f kg.", systolic, diastolic, weight))
}

// smoking writes the smoking status of an adult.
// https://hl7.org/fhir/us/core/StructureDefinition-us-core-smokingstatus.html
func (c *chart) smoking(v *visit) {
	if c.age(v.at) < 18 {
		return
	}
	answers := []code{{snomed, "266919005", "Never smoked tobacco"}, {snomed, "8517006", "Ex-smoker"}, {snomed, "449868002", "Smokes tobacco daily"}}
	c.add(c.observation(v, "smoking", "us-core-smokingstatus", "social-history", code{loinc, "72166-2", "Tobacco smoking status"}).and(
		"valueCodeableConcept", concept(answers[c.born.Day()%len(answers)])))
}

// value draws a result; raised ones lie above the reference range about as
// often as not.
func (c *chart) value(t analyte, raised bool) float64 {
	span := t.high - t.low
	if raised {
		return t.low + span*(0.7+0.25*c.rand.NormFloat64()+0.3)
	}
	return t.low + span*min(1.1, max(-0.1, 0.5+0.2*c.rand.NormFloat64()))
}

// measure writes a laboratory result and returns a reference to it.
// https://hl7.org/fhir/us/core/StructureDefinition-us-core-observation-lab.html
func (c *chart) measure(v *visit, t analyte, value float64) object {
	flag := code{hl7 + "v3-ObservationInterpretation", "N", "Normal"}
	if value > t.high {
		flag = code{flag.system, "H", "High"}
	} else if value < t.low {
		flag = code{flag.system, "L", "Low"}
	}
	o := c.observation(v, "lab", "us-core-observation-lab", "laboratory", t.code).and(
		"valueQuantity", quantity(fixed(max(0, value), t.digits), t.unit, t.unit),
		"interpretation", array{concept(flag)},
		"referenceRange", array{obj(
			"low", quantity(fixed(t.low, t.digits), t.unit, t.unit),
			"high", quantity(fixed(t.high, t.digits), t.unit, t.unit))},
	)
	c.add(o)
	if flag.code != "N" {
		v.notes = append(v.notes, flag.display+": "+t.code.display+".")
	}
	return reference("Observation", o.text("id"), t.code.display)
}

// laboratory writes a panel: its results, and the report on them.
// https://hl7.org/fhir/us/core/StructureDefinition-us-core-diagnosticreport-lab.html
func (c *chart) laboratory(v *visit, p panel) {
	var results array
	for _, t := range p.tests {
		raised := c.suffers(chronic[0]) && t.code == glucose.code || c.suffers(chronic[2]) && t.code == ldl.code
		results = append(results, c.measure(v, t, c.value(t, raised)))
	}
	c.add(resource("DiagnosticReport", c.next("report"), "us-core-diagnosticreport-lab", narrative(p.code.display, day(v.at))).and(
		"status", "final",
		"category", array{concept(code{hl7 + "v2-0074", "LAB", "Laboratory"})},
		"code", concept(p.code),
		"subject", c.subject(),
		"encounter", v.enc,
		"effectiveDateTime", instant(v.at),
		"issued", v.at.Add(20*time.Hour).Format("2006-01-02T15:04:05.000-07:00"),
		"performer", array{lab},
		"result", results,
	))
}

// condition writes a diagnosis; a zero end means that it stays.
// https://hl7.org/fhir/us/core/StructureDefinition-us-core-condition-encounter-diagnosis.html
func (c *chart) condition(v *visit, a ailment, end time.Time) {
	state, kind := "active", code{hl7 + "condition-category", "problem-list-item", "Problem List Item"}
	if !end.IsZero() {
		state, kind = "resolved", code{hl7 + "condition-category", "encounter-diagnosis", "Encounter Diagnosis"}
	}
	o := resource("Condition", c.next("cond"), "us-core-condition", narrative(a.snomed.display, "Onset "+day(v.at))).and(
		"clinicalStatus", status("condition-clinical", state),
		"verificationStatus", status("condition-ver-status", "confirmed"),
		"category", array{concept(kind)},
		"code", concept(a.snomed, a.icd),
		"subject", c.subject(),
		"encounter", v.enc,
		"onsetDateTime", instant(v.at),
	)
	if !end.IsZero() {
		o = o.and("abatementDateTime", instant(end))
	}
	c.add(o.and("recordedDate", instant(v.at), "recorder", v.by.ref()))
}

// prescribe writes the order for the drug against a.
// https://hl7.org/fhir/us/core/StructureDefinition-us-core-medicationrequest.html
func (c *chart) prescribe(v *visit, a ailment, state string) {
	c.add(resource("MedicationRequest", c.next("rx"), "us-core-medicationrequest", narrative(a.drug.code.display, a.drug.dose)).and(
		"status", state,
		"intent", "order",
		"category", array{concept(code{hl7 + "medicationrequest-category", "community", "Community"})},
		"reportedBoolean", false,
		"medicationCodeableConcept", concept(a.drug.code),
		"subject", c.subject(),
		"encounter", v.enc,
		"authoredOn", instant(v.at),
		"requester", v.by.ref(),
		"reasonCode", array{concept(a.snomed)},
		"dosageInstruction", array{obj("sequence", 1, "text", a.drug.dose)},
	))
}

// procedure writes something that was done in the visit.
// https://hl7.org/fhir/us/core/StructureDefinition-us-core-procedure.html
func (c *chart) procedure(v *visit, what code) {
	c.add(resource("Procedure", c.next("proc"), "us-core-procedure", narrative(what.display, day(v.at))).and(
		"status", "completed",
		"code", concept(what),
		"subject", c.subject(),
		"encounter", v.enc,
		"performedPeriod", obj("start", instant(v.at.Add(5*time.Minute)), "end", instant(v.at.Add(20*time.Minute))),
		"performer", array{obj("actor", v.by.ref())},
		"location", v.where,
	))
}

// vaccinate writes what is due: influenza in most years, the others by age.
// https://hl7.org/fhir/us/core/StructureDefinition-us-core-immunization.html
func (c *chart) vaccinate(v *visit) {
	give := func(what code) {
		c.add(resource("Immunization", c.next("imm"), "us-core-immunization", narrative(what.display, day(v.at))).and(
			"status", "completed",
			"vaccineCode", concept(what),
			"patient", c.subject(),
			"encounter", v.enc,
			"occurrenceDateTime", instant(v.at),
			"primarySource", true,
			"location", v.where,
		))
	}
	if c.rand.IntN(3) > 0 {
		give(influenza)
	}
	for _, vac := range vaccines {
		for _, age := range vac.ages {
			if c.age(v.at) == age {
				give(vac.code)
			}
		}
	}
}

// note writes the text that the practitioner dictated.
// https://hl7.org/fhir/us/core/StructureDefinition-us-core-documentreference.html
func (c *chart) note(v *visit, kind code) {
	text := fmt.Sprintf("%s, %d years old, seen on %s by %s.\n\n%s\n", c.name, c.age(v.at), day(v.at), v.by.name(), strings.Join(v.notes, "\n"))
	c.add(resource("DocumentReference", c.next("note"), "us-core-documentreference", narrative(kind.display, day(v.at), v.by.name())).and(
		"status", "current",
		"type", concept(kind),
		"category", array{concept(code{"http://hl7.org/fhir/us/core/CodeSystem/us-core-documentreference-category", "clinical-note", "Clinical Note"})},
		"subject", c.subject(),
		"date", v.at.Format("2006-01-02T15:04:05.000-07:00"),
		"author", array{v.by.ref()},
		"custodian", hospital,
		"content", array{obj(
			"attachment", obj("contentType", "text/plain; charset=utf-8", "data", base64.StdEncoding.EncodeToString([]byte(text))),
			"format", obj("system", "http://ihe.net/fhir/ihe.formatcode.fhir/CodeSystem/formatcode", "code", "urn:ihe:iti:xds:2017:mimeTypeSufficient"))},
		"context", obj("encounter", array{v.enc}, "period", obj("start", instant(v.at), "end", instant(v.at.Add(30*time.Minute)))),
	))
}

// claim writes what the visit costs.
// https://hl7.org/fhir/R4/claim.html
func (c *chart) claim(v *visit) {
	price := obj("value", fixed(float64(9500+c.rand.IntN(30000))/100, 2), "currency", "USD")
	c.add(resource("Claim", c.next("claim"), "", narrative("Claim", day(v.at))).and(
		"status", "active",
		"type", concept(code{hl7 + "claim-type", "professional", "Professional"}),
		"use", "claim",
		"patient", c.subject(),
		"billablePeriod", obj("start", instant(v.at), "end", instant(v.at.Add(30*time.Minute))),
		"created", instant(v.at.Add(time.Hour)),
		"insurer", payer,
		"provider", hospital,
		"priority", status("processpriority", "normal"),
		"insurance", array{obj("sequence", 1, "focal", true, "coverage", reference("Coverage", c.id+"-coverage", "Prairie Mutual Insurance"))},
		"item", array{obj("sequence", 1, "productOrService", concept(code{snomed, "162673000", "General examination of patient"}), "net", price, "encounter", array{v.enc})},
		"total", price,
	))
}

// carePlans writes a plan and a goal for each ailment that stayed.
// https://hl7.org/fhir/us/core/StructureDefinition-us-core-careplan.html
func (c *chart) carePlans() {
	for _, a := range c.has {
		goal := c.next("goal")
		c.add(resource("Goal", goal, "us-core-goal", narrative(a.plan, a.snomed.display)).and(
			"lifecycleStatus", "active",
			"description", obj("text", "Keep "+strings.ToLower(a.snomed.display)+" under control"),
			"subject", c.subject(),
			"startDate", day(Today.AddDate(-1, 0, 0)),
			"target", array{obj("dueDate", day(Today.AddDate(1, 0, 0)))},
		))
		c.add(resource("CarePlan", c.next("plan"), "us-core-careplan", narrative(a.plan, a.snomed.display)).and(
			"status", "active",
			"intent", "plan",
			"category", array{concept(code{"http://hl7.org/fhir/us/core/CodeSystem/careplan-category", "assess-plan", "Assessment and Plan of Treatment"})},
			"title", a.plan,
			"subject", c.subject(),
			"period", obj("start", day(Today.AddDate(-1, 0, 0))),
			"careTeam", array{reference("CareTeam", c.id+"-team", "Care team of "+c.name)},
			"goal", array{reference("Goal", goal, a.plan)},
		))
	}
}
