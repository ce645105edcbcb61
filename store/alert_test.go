package store_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/alert"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/storetest"
)

func TestSightingsOfOnePrincipalWithinAnHourAreOneAlert(t *testing.T) {
	f := storetest.New(t)
	client := fmt.Sprint("c", time.Now().UnixNano())
	at := time.Now().UTC().Truncate(time.Millisecond)
	sight := func(s alert.Sighting, after time.Duration) {
		t.Helper()
		s.Tenant, s.Rule, s.Client, s.Count = storetest.A1, smart.CrossTenant, client, 1
		s.First, s.Last = at.Add(after), at.Add(after)
		if err := f.Registry.Sight(t.Context(), []alert.Sighting{s}); err != nil {
			t.Error(err)
		}
	}
	mine := func() (list []alert.Alert) {
		t.Helper()
		all, err := f.Registry.Alerts(t.Context(), storetest.A1)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range all {
			if a.Client == client {
				list = append(list, a)
			}
		}
		return list
	}
	var all sync.WaitGroup
	for i := range 20 { // as from many servers
		all.Go(func() {
			sight(alert.Sighting{Addressed: []string{storetest.S1, storetest.D1}[i%2], Requests: []string{fmt.Sprint("r", i)}}, 0)
		})
	}
	all.Wait()
	got := mine()
	if len(got) != 1 || got[0].Count != 20 || len(got[0].Addressed) != 2 || len(got[0].Requests) != 10 || got[0].State != alert.Open {
		t.Fatalf("got %+v", got)
	}
	sight(alert.Sighting{}, 50*time.Minute)
	if got = mine(); len(got) != 1 || got[0].Count != 21 || !got[0].Last.Equal(at.Add(50*time.Minute)) || !got[0].First.Equal(at) {
		t.Fatalf("within an hour: %+v", got)
	}
	sight(alert.Sighting{}, 2*time.Hour)
	if got = mine(); len(got) != 2 {
		t.Fatalf("much later: %+v", got)
	}
	if _, err := f.Registry.CloseAlert(t.Context(), got[0].ID, "robin", "done"); err != nil {
		t.Fatal(err)
	}
	sight(alert.Sighting{}, 2*time.Hour+time.Minute)
	if got = mine(); len(got) != 3 {
		t.Errorf("after it was closed: %+v", got)
	}
}
