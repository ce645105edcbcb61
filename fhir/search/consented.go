package search

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
)

// Consented holds for a resource that no privacy consent of the patients it is
// about keeps from who asks. It is about other resources: a store that runs a
// condition takes it out, with Apart, and answers it beside the rest.
type Consented struct{ By *Asker }

func (Consented) expr() {}

// An Asker is who wants to see a resource, as far as consents speak of that.
type Asker struct {
	// Self is the id of the Patient who asks, "" if it is none. No consent
	// keeps patients from their own record.
	Self string
	// Spared are ids of patients whose consents keep nothing from who asks: it is
	// an emergency.
	Spared []string
	// User is who asks, zero if that is a system, and Organizations are those
	// that it works for; none means that they are not known.
	User          fhir.Ref
	Organizations []string
	// Purpose is a code of v3-PurposeOfUse, "" if it is not known.
	Purpose string
	// OptIn are the purposes for which a consent has to permit it: it is not
	// enough that none denies.
	OptIn []string
	At    time.Time
}

// Apart returns e without the Consented that it is a conjunction with, and who
// asks, nil if there is none.
func Apart(e Expr) (rest Expr, by *Asker) {
	if c, ok := e.(Consented); ok {
		return And{}, c.By
	}
	and, ok := e.(And)
	if !ok {
		return e, nil
	}
	others := And{}
	for _, m := range and {
		m, asks := Apart(m)
		if asks != nil {
			by = asks
		}
		if all, ok := m.(And); !ok || len(all) > 0 {
			others = append(others, m)
		}
	}
	switch {
	case by == nil:
		return e, nil
	case len(others) == 1:
		return others[0], by
	}
	return others, by
}

// ConsentPatient is the element that says whose a Consent is.
const ConsentPatient Path = "Consent.patient"

var aboutPathsOf sync.Map // fhir.Type → []Path

// aboutPaths are the elements that name a patient of whom a resource of the type
// tells something.
func aboutPaths(t fhir.Type) []Path {
	if paths, ok := aboutPathsOf.Load(t); ok {
		return paths.([]Path)
	}
	paths := slices.Clone(patientPaths(t))
	for _, code := range subjectCodes { // Device is in no compartment
		for _, path := range Paths(t, code, "Patient") {
			if !slices.Contains(paths, path) {
				paths = append(paths, path)
			}
		}
	}
	aboutPathsOf.Store(t, paths)
	return paths
}

// TellsOfPatients reports whether resources of the type can be about patients.
func TellsOfPatients(t fhir.Type) bool { return t == "Patient" || len(aboutPaths(t)) > 0 }

// About returns the ids of the patients of whom d tells something.
func (s Schema) About(d *fhir.Document) []string {
	if d.Type == "Patient" {
		return []string{d.ID}
	}
	paths := aboutPaths(d.Type)
	if len(paths) == 0 {
		return nil
	}
	var ids []string
	for _, ref := range s.References(d, paths) {
		if ref.Type == "Patient" {
			ids = append(ids, strings.Clone(ref.ID)) // it shares the memory of d
		}
	}
	return ids
}

// Period returns the extent of a Period, of which a missing end is open. It is
// false if there is neither, or if what is there is no date.
// https://hl7.org/fhir/R4/datatypes.html#Period
func Period(start, end string) (lo, hi time.Time, ok bool) {
	lo, hi = time.Time{}, Forever
	if start != "" {
		if lo, _, ok = parseDate(start); !ok {
			return lo, hi, false
		}
	}
	if end != "" {
		if _, hi, ok = parseDate(end); !ok {
			return lo, hi, false
		}
	}
	return lo, hi, start != "" || end != ""
}

// Relative returns a reference as one within the server, if it is to its base.
func (s Schema) Relative(ref string) string { return relative(ref, s.Base) }
