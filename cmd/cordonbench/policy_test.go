package main

import "testing"

func TestAPolicyIsHeldAgainstTheScopesOfTheSameMinute(t *testing.T) {
	read := PolicyCost{Shape: readPatient, Who: "nurse", Policy: "clinic", Under: Figure{ServerCPU: 0.3, DatabaseCPU: 0.3}, Scopes: Figure{ServerCPU: 0.2, DatabaseCPU: 0.2}}
	if g := read.goal(); g.Met || g.Value < 1.49 || g.Value > 1.51 || g.Limit != 1.3 {
		t.Errorf("a read that takes half as much again: %+v", g)
	}
	search := read
	search.Under.Entries, search.Under.DatabaseCPU = 20, 0.2
	if g := search.goal(); !g.Met || g.Limit != 1.5 {
		t.Errorf("a search that takes a quarter more: %+v", g)
	}
}

func TestTheRecordsOfAWardNameThePatientTheyAreOf(t *testing.T) {
	for _, consents := range []bool{false, true} {
		w := ward{consents: consents}
		if got, want := len(w.records(3)), map[bool]int{false: 3 + perPatient, true: 4 + perPatient}[consents]; got != want {
			t.Errorf("%d records, want %d", got, want)
		}
	}
}
