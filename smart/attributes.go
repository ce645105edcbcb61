package smart

import (
	"strings"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
)

// An attribute is what a policy can ask of a resource: resource.NAME. All of
// them are sets of texts but id.
type attribute struct {
	Name string
	// Says completes "the resource …" for people.
	Says string
	// has returns the condition that the attribute of a resource of the type
	// holds the value. What is malformed is held by none.
	has func(on fhir.Type, value string, now time.Time) search.Expr
	// told says that it is a code that a record holds, and no relation of whom it
	// is about: an outline does not look at it.
	told bool
}

// attributes are all that a policy can ask of a resource, but for its type.
var attributes = []attribute{
	{"id", "has the id", func(_ fhir.Type, value string, _ time.Time) search.Expr {
		if !fhir.ValidID(value) {
			return search.Or{}
		}
		return search.HasID{value}
	}, false},
	{"patients", "is in the record of the patient with the id", hasPatient, false},
	{"careTeam", "is about a patient in whose active CareTeam the user is now", hasCareTeam, false},
	{"generalPractitioner", "is about a patient whose general practitioner the user is", hasGeneralPractitioner, false},
	{"encounterStaff", "is about a patient in whose present Encounter the user takes part", hasEncounterStaff, false},
	{"encounters", "belongs to the Encounter with the id", hasEncounter, false},
	{"locations", "is at the Location with the id, or is about a patient who is there in a present Encounter", hasLocation, false},
	{"organizations", "is of the Organization with the id, or about a patient whose record that keeps", hasOrganization, false},
	{"labels", "has the security label, a code or system|code", hasLabel, true},
	{"categories", "is of the category, a code or system|code", hasToken("category"), true},
	{"openTasks", "is about a patient for whom a Task of the code is open", hasOpenTask, true},
}

func attributeNamed(name string) *attribute {
	for i := range attributes {
		if attributes[i].Name == name {
			return &attributes[i]
		}
	}
	return nil
}

// hasLabel is of no entry of the audit trail: entries have no labels.
func hasLabel(on fhir.Type, value string, now time.Time) search.Expr {
	if on == auditEvent {
		return search.Or{}
	}
	return hasToken("_security")(on, value, now)
}

func hasPatient(on fhir.Type, value string, _ time.Time) search.Expr {
	if fhir.ValidID(value) {
		if e, ok := search.Compartment("Patient", value, on); ok {
			return e
		}
	}
	return search.Or{}
}

// aboutPatient returns the condition that a resource is about a patient for
// whom e holds.
func aboutPatient(on fhir.Type, e search.Expr) search.Expr {
	if on == "Patient" {
		return e
	}
	paths := search.SubjectPaths(on)
	if len(paths) == 0 {
		return search.Or{}
	}
	return search.Chain{Paths: paths, ByPolicy: true, Type: "Patient", X: e}
}

// namedBy returns the condition on a patient that a resource of the type for
// which e holds is about them.
func namedBy(from fhir.Type, e ...search.Expr) search.Expr {
	return search.ReverseChain{Type: from, Paths: search.SubjectPaths(from), ByPolicy: true, X: search.And(e)}
}

// refers returns the condition that the parameter of the type refers to what
// the value names, nothing if that is no reference in this server.
func refers(on fhir.Type, code, value string) search.Expr {
	ref, err := fhir.ParseRef(value)
	if err != nil || ref.String() != value {
		return search.Or{}
	}
	return search.Refers(search.Paths(on, code, ref.Type), ref)
}

// stands returns the condition on a patient that the user or place that the value names
// is named at present by a resource of the type, by the parameter.
func stands(on fhir.Type, code, value string, now time.Time) search.Expr {
	ref, err := fhir.ParseRef(value)
	if err != nil || ref.String() != value {
		return search.Or{}
	}
	return search.Stands(on, code, ref, now)
}

// coded returns the condition that the token parameter of the type has one of
// the values, each a code or system|code.
func coded(on fhir.Type, code string, values ...string) search.Expr {
	for i, v := range values {
		values[i] = escapeValue.Replace(v)
	}
	q, err := search.Parse(on, []search.Param{{Name: code, Value: strings.Join(values, ",")}}, search.Options{})
	if err != nil || everything(q.Where) {
		return search.Or{}
	}
	return q.Where
}

// escapeValue spells a text as one value of a search parameter, but for the
// bar between system and code.
var escapeValue = strings.NewReplacer(`\`, `\\`, `,`, `\,`, `$`, `\$`)

func hasCareTeam(on fhir.Type, user string, now time.Time) search.Expr {
	return aboutPatient(on, stands("CareTeam", "participant", user, now))
}

func hasGeneralPractitioner(on fhir.Type, user string, _ time.Time) search.Expr {
	return aboutPatient(on, refers("Patient", "general-practitioner", user))
}

func hasEncounterStaff(on fhir.Type, user string, now time.Time) search.Expr {
	return aboutPatient(on, stands("Encounter", "participant", user, now))
}

// ofEncounter returns the condition that a resource is of an Encounter for
// which e holds.
func ofEncounter(on fhir.Type, e search.Expr) search.Expr {
	paths := search.EncounterPaths(on)
	if len(paths) == 0 {
		return search.Or{}
	}
	return search.Chain{Paths: paths, ByPolicy: true, Type: "Encounter", X: e}
}

func hasEncounter(on fhir.Type, id string, _ time.Time) search.Expr {
	switch {
	case !fhir.ValidID(id):
		return search.Or{}
	case on == "Encounter":
		return search.HasID{id}
	case on == "Patient":
		return namedBy("Encounter", search.HasID{id})
	}
	return search.Refers(search.EncounterPaths(on), fhir.Ref{Type: "Encounter", ID: id})
}

func hasLocation(on fhir.Type, id string, now time.Time) search.Expr {
	switch {
	case !fhir.ValidID(id):
		return search.Or{}
	case on == "Location":
		return search.HasID{id}
	}
	at := "Location/" + id
	return search.Or{
		refers(on, "location", at),
		ofEncounter(on, refers("Encounter", "location", at)),
		aboutPatient(on, stands("Encounter", "location", at, now)),
	}
}

// organizationCodes are the parameters that say whose a resource is.
var organizationCodes = []string{"organization", "service-provider", "insurer", "provider", "payor"}

func hasOrganization(on fhir.Type, id string, _ time.Time) search.Expr {
	switch {
	case !fhir.ValidID(id):
		return search.Or{}
	case on == "Organization":
		return search.HasID{id}
	}
	of := "Organization/" + id
	or := search.Or{ofEncounter(on, refers("Encounter", "service-provider", of))}
	for _, code := range organizationCodes {
		or = append(or, refers(on, code, of))
	}
	if on != "Patient" {
		or = append(or, aboutPatient(on, refers("Patient", "organization", of)))
	}
	return or
}

func hasToken(code string) func(fhir.Type, string, time.Time) search.Expr {
	return func(on fhir.Type, value string, _ time.Time) search.Expr { return coded(on, code, value) }
}

// openStatus are those of a Task that is not done with.
// https://hl7.org/fhir/R4/valueset-task-status.html
var openStatus = []string{"requested", "received", "accepted", "ready", "in-progress", "on-hold"}

func hasOpenTask(on fhir.Type, code string, _ time.Time) search.Expr {
	if on == "Task" { // the Task itself, not others for the same patient
		return search.And{coded("Task", "code", code), coded("Task", "status", openStatus...)}
	}
	return aboutPatient(on, namedBy("Task", coded("Task", "code", code), coded("Task", "status", openStatus...)))
}
