package audit

import (
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
)

// Action returns the code of AuditEvent.action for an interaction: C, R, U, D,
// or E for what executes a query or an operation.
// https://hl7.org/fhir/R4/valueset-audit-event-action.html
func Action(do fhir.Interaction) string { return patternOf(do).action }

// A pattern is what the Basic Audit Log Patterns say of an interaction.
// https://profiles.ihe.net/ITI/BALP/content.html
type pattern struct {
	profile string // the end of the profile's name, "" if there is none
	action  string
	display string // of the interaction
	// The types of the agents: who sends the data, who gets it, and as what
	// the user takes part.
	client, server, user agentType
}

// An agentType is a code of AuditEvent.agent.type.
type agentType struct{ system, code, display string }

const (
	dcm           = "http://dicom.nema.org/resources/ontology/DCM"
	participation = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
	provenance    = "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
)

var (
	application = agentType{dcm, "110150", "Application"}
	destination = agentType{dcm, "110152", "Destination Role ID"}
	source      = agentType{dcm, "110153", "Source Role ID"}
	custodian   = agentType{provenance, "custodian", "Custodian"}
	author      = agentType{participation, "AUT", "author (originator)"}
	recipient   = agentType{participation, "IRCP", "information recipient"}
)

func patternOf(do fhir.Interaction) pattern {
	switch do {
	case fhir.Create:
		return pattern{"Create", "C", "create", source, destination, author}
	case fhir.Read, fhir.Vread:
		return pattern{"Read", "R", string(do), destination, source, recipient}
	case fhir.HistoryInstance:
		return pattern{"", "R", string(do), destination, source, recipient}
	case fhir.Update, fhir.Patch:
		return pattern{"Update", "U", string(do), source, destination, author}
	case fhir.Delete:
		return pattern{"Delete", "D", "delete", application, custodian, author}
	case fhir.SearchType, fhir.SearchSystem:
		return pattern{"Query", "E", string(do), source, destination, recipient}
	case Removed:
		return pattern{"", "D", "destroy", application, custodian, author}
	case GlassBroken:
		return pattern{"", "E", "Emergency Override Started", application, destination, recipient}
	case GlassEnded:
		return pattern{"", "E", "Emergency Override Stopped", application, destination, recipient}
	}
	return pattern{"", "E", string(do), application, destination, recipient}
}

// Words says for people what was done: a verb, and what it was done with.
func (e Entry) Words() string {
	verb, ok := verbs[e.Interaction]
	switch {
	case !ok && strings.Contains(e.Origin.Method, " /auth/"):
		verb = "Logged in or let an app in"
	case !ok:
		verb = "Called up"
	}
	switch {
	case e.Type != "":
		verb += " " + string(e.Type)
	case ok:
		verb += " all kinds of records"
	}
	if e.Outcome != Success {
		verb += " (not allowed, or failed)"
	}
	return verb
}

var verbs = map[fhir.Interaction]string{
	fhir.Create: "Added", fhir.Read: "Read", fhir.Vread: "Read an earlier version of", fhir.Update: "Changed", fhir.Patch: "Changed", fhir.Delete: "Deleted",
	fhir.HistoryInstance: "Read the history of", fhir.HistoryType: "Read the history of", fhir.HistorySystem: "Read the history of",
	fhir.SearchType: "Searched and found", fhir.SearchSystem: "Searched and found",
}

// Emergencies are the purposes of use for which access is had that one would not
// have otherwise.
// https://terminology.hl7.org/ValueSet-v3-PurposeOfUse.html
var Emergencies = []string{"BTG", "ETREAT"}
