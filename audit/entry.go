// Package audit is the vocabulary of the audit trail: what one entry says, and
// how it reads as an AuditEvent of the IHE Basic Audit Log Patterns.
//
// https://profiles.ihe.net/ITI/BALP/
package audit

import (
	"time"

	"github.com/cordon-fhir/cordon/fhir"
)

// An Entry is one event of the audit trail. It holds names and references,
// never clinical content; Query and Glass.Reason may hold some and are sealed in
// storage.
type Entry struct {
	// Seq orders the entries of a tenant and names the entry: its AuditEvent
	// has the id Seq.ID(). The writer assigns it.
	Seq int64
	// Parent is the Seq of the request's entry, for an entry of a Bundle or
	// for a further patient whom a search disclosed; else 0.
	Parent int64

	Recorded    time.Time
	Interaction fhir.Interaction
	Outcome     Outcome
	// Status is the HTTP status answered, and Reason why, in words that hold
	// no patient.
	Status int
	Reason string
	// Failed are codes of what a refusal failed by, separated by spaces, as smart
	// spells them: care-team, shift. Sealed; for who may see all of the trail.
	Failed string

	Origin Origin
	Agent  Agent

	// Entity is what was read or written, with its version; zero for queries
	// and failures that never reached one.
	Entity  fhir.Ref
	Version int64
	// Type is the resource type addressed, also when there is no Entity.
	Type fhir.Type
	// Patient is the patient whose record it was, if known.
	Patient fhir.Ref
	// Query is the search as it was received. Sealed.
	Query string
	// Glass is the broken glass that it is about or came through.
	Glass Glass
}

// An Outcome is the R4 code of AuditEvent.outcome.
// https://hl7.org/fhir/R4/valueset-audit-event-outcome.html
type Outcome int16

// The outcomes.
const (
	Success      Outcome = 0
	MinorFailure Outcome = 4  // the client's fault
	Serious      Outcome = 8  // refused
	MajorFailure Outcome = 12 // our fault
)

// An Origin says which request an entry belongs to and where it came from.
type Origin struct {
	// RequestID is X-Request-Id: the client's if it is well formed, else ours.
	RequestID string
	// Address is the client's IP address.
	Address string
	// Method and Path of the HTTP request, the path without its query and
	// cut to its shape where ids are not logical ids.
	Method string
	// Server is the name of the process that answered.
	Server string
	// Trail is the request's place in the audit trail.
	Trail *Trail
}

// An Agent says who asked, from the verified token.
type Agent struct {
	Client  string // client_id
	User    string // fhirUser or sub, "" for a backend service
	Issuer  string
	TokenID string // jti
	// Purpose of use, a code of v3-ActReason; "" if none was stated.
	Purpose string
	// Policy is the version of the tenant's policy that decided.
	Policy int64
	// Roles of the user, the organization that they work for and the place that
	// they were at: codes of the tenant's own, separated by spaces, and ids of an
	// Organization and a Location. Of an entry that is read they are what Access
	// says.
	Roles, Organization, Site string
	// Access is what the token allowed and said of the user, as smart spells
	// it, so that the decision can be explained later. Sealed; "" in entries of
	// releases that did not keep it.
	Access string
}

// SiteName is the place that the user was at, as AuditEvent.source.site names
// it; "" for who is at none.
func (a Agent) SiteName() string {
	if !fhir.ValidID(a.Site) {
		return ""
	}
	return "Location/" + a.Site
}
