package search

import (
	"slices"
	"sync"

	"github.com/cordon-fhir/cordon/fhir"
)

// MainDate returns the element whose beginning is the Time of the Terms of
// every resource of the type that has it, "" if there is no such element. only
// says that no other element stands in where it is missing, so that the order
// of Time is the order of the element.
func MainDate(t fhir.Type) (path Path, only bool) {
	tb := tableOf(t)
	if tb == nil || len(tb.mainDate) == 0 || !IsSingle(tb.mainDate[0]) {
		return "", false
	}
	return tb.mainDate[0], len(tb.mainDate) == 1
}

// ReferencePaths returns the elements of the type by which it refers to others.
func ReferencePaths(t fhir.Type) []Path {
	return pathsOf(t, func(p *parameter) []Path { return p.paths("") })
}

// PatientsOf returns the patients whose record d belongs to, the one whom it
// is about first; of a Patient, that patient.
func (s Schema) PatientsOf(d *fhir.Document) []fhir.Ref {
	if d.Type == "Patient" {
		return []fhir.Ref{{Type: "Patient", ID: d.ID}}
	}
	tb := tableOf(d.Type)
	paths := patientPaths(d.Type)
	if tb == nil || len(paths) == 0 {
		return nil
	}
	x := indexer{schema: s, terms: &Terms{}, root: d.Tree, want: references}
	x.object(tb.root, d.Tree)
	var list []fhir.Ref
	for _, path := range paths {
		for _, r := range x.terms.refs(func(r Reference) bool { return r.Path == path }) {
			if r.Type == "Patient" && !slices.Contains(list, r) {
				list = append(list, r)
			}
		}
	}
	return list
}

var patientPathsOf sync.Map // fhir.Type → []Path

// patientPaths are the elements by which a resource of the type is in the
// compartment of a Patient.
func patientPaths(t fhir.Type) []Path {
	if paths, ok := patientPathsOf.Load(t); ok {
		return paths.([]Path)
	}
	paths := membership("Patient", t)
	patientPathsOf.Store(t, paths)
	return paths
}
