// Package bulk writes what a client may see to files, and says where they are.
//
// https://hl7.org/fhir/uv/bulkdata/STU2/export.html
package bulk

import (
	"slices"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/deid"
	"github.com/cordon-fhir/cordon/fhir/r4"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/fhir/view"
	"github.com/cordon-fhir/cordon/store"
)

// An Export is what a client asked to be exported.
type Export struct {
	// Types are those of the files.
	Types []fhir.Type
	// Any are searches by type, one of which must match. A type without any is
	// not narrowed.
	Any map[fhir.Type][]*search.Query
	// Records says that of what can tell of patients only that is shown which
	// does, and Patients of whom, by id and in order; nil is of anybody.
	Records  bool
	Patients []string
	// Provenance narrows what is exported of that type.
	Provenance Provenance
	// Since and Until bound when a resource was changed last; zero is no bound.
	Since, Until time.Time
	// Organized says that the files are blocks, one for each patient, and Partial
	// that files are told of before all is done.
	Organized, Partial bool
	// Rules, if there are any, de-identify what is exported.
	Rules *deid.Rules
	// Views are tables that are made of what is exported, in a Format; Header says
	// whether CSV begins with the names of the columns. Without any the resources
	// themselves are exported.
	Views  []View
	Format view.Format
	Header bool
	// Show returns the JSON of a resource as the client asked for it.
	Show func(fhir.Type, []byte) []byte
	// Passed are OperationOutcomes about what the client asked for and does not
	// get, each on one line.
	Passed [][]byte
}

// A View is a table of an export, and its name there.
type View struct {
	Name string
	*view.View
}

// Provenance says which Provenance goes with what is exported.
type Provenance int

// AnyProvenance is not narrowed; RelevantProvenance is of what is exported, and
// LatestProvenance the most recent one of each resource.
const (
	AnyProvenance Provenance = iota
	RelevantProvenance
	LatestProvenance
)

// Beside are the types that no record holds and that go with any: without them
// much in the records has no name.
var Beside = []fhir.Type{"Location", "Medication", "Organization", "Practitioner", "PractitionerRole"}

// InRecords reports whether resources of the type can be part of the record of a
// patient, or go with it.
func InRecords(t fhir.Type) bool {
	return t == "Patient" || t == "Device" || slices.Contains(Beside, t) ||
		slices.ContainsFunc(r4.Compartment("Patient"), func(m r4.CompartmentMember) bool { return m.Type == t })
}

// OfPatient reports whether resources of the type can be part of the record of a
// patient.
func OfPatient(t fhir.Type) bool { return InRecords(t) && !slices.Contains(Beside, t) }

// plan returns what the export is cut into slices by.
func (e *Export) plan() store.ExportPlan {
	p := store.ExportPlan{Types: e.Types, Since: e.Since, Until: e.Until, Deletions: !e.Since.IsZero() && e.Rules == nil && len(e.Views) == 0}
	if e.Organized {
		p.By = "Patient"
	}
	return p
}

// query returns what is asked of a type.
func (e *Export) query(t fhir.Type) store.ExportQuery {
	q := store.ExportQuery{Type: t, Any: e.Any[t]}
	if (e.Records || e.Organized) && !slices.Contains(Beside, t) {
		q.OfPatients, q.Patients = true, e.Patients
	}
	if t == "Provenance" && e.Provenance != AnyProvenance {
		q.Beside = e.beside()
	}
	return q
}

// beside is what Provenance has to tell of.
func (e *Export) beside() *store.Beside {
	b := &store.Beside{Of: map[fhir.Type]store.ExportQuery{}, Since: e.Since, Until: e.Until, Latest: e.Provenance == LatestProvenance}
	for _, t := range e.Types {
		if t != "Provenance" {
			b.Of[t] = e.query(t)
		}
	}
	return b
}
