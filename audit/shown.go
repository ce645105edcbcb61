package audit

import (
	"slices"
	"sync"

	"github.com/cordon-fhir/cordon/fhir"
)

// Shown collects what a request shows, for an answer that is kept until somebody
// comes for it: then they must still be allowed to see all of it. Nil collects
// nothing; so it is for requests whose answer leaves at once.
type Shown struct {
	mu       sync.Mutex
	versions map[ShownVersion]bool
	beyond   []fhir.Type
}

// A ShownVersion is a version of a resource, which is named by the key that the
// database knows.
type ShownVersion struct{ RID, Version int64 }

// Add notes that a version is shown.
func (s *Shown) Add(v ShownVersion) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.versions == nil {
		s.versions = map[ShownVersion]bool{}
	}
	s.versions[v] = true
}

// AddBeyond notes that the answer tells of resources of the type that it does not
// name, as a number of matches does, to somebody who may see all of them.
func (s *Shown) AddBeyond(on fhir.Type) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.beyond, on) {
		s.beyond = append(s.beyond, on)
	}
}

// All returns the versions that were shown, and the types of which the answer
// tells more.
func (s *Shown) All() (list []ShownVersion, beyond []fhir.Type) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for v := range s.versions {
		list = append(list, v)
	}
	return list, s.beyond
}
