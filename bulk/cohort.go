package bulk

import (
	"context"
	"slices"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
)

const (
	// maxCohort bounds the patients who are found, and maxFound the resources that
	// they are found by.
	maxCohort = 100_000
	maxFound  = 500_000
)

// Cohort returns the ids of the patients in whose records the Grant sees something
// that the search matches, or anything if it is nil, in order; of are those who are
// looked at, nil is anybody.
func Cohort(ctx context.Context, db *store.DB, g *smart.Grant, t fhir.Type, where *search.Query, of []string) ([]string, error) {
	q := store.ExportQuery{Type: t, OfPatients: true, Patients: of}
	if where != nil {
		q.Any = []*search.Query{where}
	}
	members, found := map[string]bool{}, 0
	for s := store.AllOf(t, time.Time{}); !s.Done; {
		read := 0
		out := &store.ExportBatch{
			Show:  func(r fhir.Resource) { read += len(r.Body); found++ },
			Room:  func() bool { return read < batchSize },
			Told:  func(int64) bool { return true }, // nothing of them is told yet
			Whose: func(ids []string) { add(members, ids) },
		}
		err := db.View(ctx, g, func(v *store.View) (err error) {
			s, err = v.Export(ctx, q, s, out)
			return err
		})
		switch {
		case err != nil:
			return nil, err
		case found > maxFound, len(members) > maxCohort:
			return nil, fhir.Errorf(fhir.TooCostly, "the group has more than %d members, or they are found by more than %d resources", maxCohort, maxFound)
		}
	}
	list := make([]string, 0, len(members))
	for id := range members {
		if _, found := slices.BinarySearch(of, id); found || of == nil {
			list = append(list, id)
		}
	}
	slices.Sort(list)
	return list, nil
}

func add(set map[string]bool, ids []string) {
	for _, id := range ids {
		set[id] = true
	}
}
