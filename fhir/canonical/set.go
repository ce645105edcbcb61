package canonical

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
)

// A Set is what one tenant sees: its own definitions, then those of its
// packages, then those of R4. It is immutable and safe for concurrent use.
//
// Tenants with equal packages and no definitions of their own share a Set, so
// nothing may be kept in it that does not follow from its definitions alone.
type Set struct {
	below  *Set
	byURL  map[name][]*Definition // newest version first
	byType map[fhir.Type][]*Definition

	mu    sync.Mutex
	memos map[any]*memo
}

type name struct {
	Type fhir.Type
	URL  string
}

// NewSet returns the Set of defs over below, which may be nil. Where several
// have the same URL and version, the first is taken. What defines a type, such
// as the StructureDefinition of Patient, cannot be replaced by what is above:
// a profile may narrow a type, nothing may redefine it.
func NewSet(below *Set, defs ...[]*Definition) *Set {
	s := &Set{below: below, byURL: map[name][]*Definition{}, byType: map[fhir.Type][]*Definition{}, memos: map[any]*memo{}}
	for _, list := range defs {
		for _, d := range list {
			s.add(d)
		}
	}
	return s
}

func (s *Set) add(d *Definition) {
	if d.URL == "" || s.below.definesType(d) {
		return
	}
	key := name{d.Type, d.URL}
	list := s.byURL[key]
	i := 0
	for ; i < len(list); i++ {
		switch c := compareVersions(d.Version, list[i].Version); {
		case d.Version == list[i].Version:
			return
		case c > 0:
			s.byURL[key] = slices.Insert(list, i, d)
			s.byType[d.Type] = append(s.byType[d.Type], d)
			return
		}
	}
	s.byURL[key] = append(list, d)
	s.byType[d.Type] = append(s.byType[d.Type], d)
}

// definesType reports whether s says what the type is that d is about.
func (s *Set) definesType(d *Definition) bool {
	if d.Type != "StructureDefinition" {
		return false
	}
	for ; s != nil; s = s.below {
		if list := s.byURL[name{d.Type, d.URL}]; len(list) > 0 && list[0].Constrains == "" {
			return true
		}
	}
	return false
}

// Find returns the definition of the type with the canonical, "url" or
// "url|version". If it names no version, the newest is returned of the
// tenant's own, else of its packages, else of R4.
func (s *Set) Find(t fhir.Type, canonical string) (*Definition, bool) {
	url, version, pinned := strings.Cut(canonical, "|")
	for ; s != nil; s = s.below {
		for _, d := range s.byURL[name{t, url}] {
			if !pinned || d.Version == version {
				return d, true
			}
		}
	}
	return nil, false
}

// All returns every definition of the type that Find can find, the tenant's
// own first.
func (s *Set) All(t fhir.Type) iter.Seq[*Definition] {
	return func(yield func(*Definition) bool) {
		for layer := s; layer != nil; layer = layer.below {
			for _, d := range layer.byType[t] {
				if found, _ := s.Find(t, d.URL+"|"+d.Version); found != d {
					continue
				}
				if !yield(d) {
					return
				}
			}
		}
	}
}

// A memo is a compiled form that is there, or being made.
type memo struct {
	done  chan struct{}
	value any
	err   error
}

const (
	// maxMemos bounds what is remembered. A tenant with US Core uses some
	// hundreds.
	maxMemos = 8192
	// memoPatience is how long one waits for a form that another is making.
	// After it both make it, so that forms that need each other do not wait
	// for each other for ever.
	memoPatience = 5 * time.Second
)

// Memo returns what make returned when it was first called with the key: the
// compiled form of definitions, which lives as long as s. An error is
// remembered too, unless it is that of a context, so make must fail only for
// what is wrong with definitions.
// What make returns must be safe for concurrent use, must follow from s alone,
// and should not need a memo that needs this one. Keys are compared; use an
// unexported type.
func (s *Set) Memo(key any, make func() (any, error)) (any, error) {
	s.mu.Lock()
	m, ok := s.memos[key]
	if !ok {
		m = s.newMemo(key)
		s.mu.Unlock()
		return s.fill(key, m, make)
	}
	s.mu.Unlock()
	select {
	case <-m.done:
		return s.made(key, m, make)
	default:
	}
	select {
	case <-m.done:
		return s.made(key, m, make)
	case <-time.After(memoPatience):
		return make()
	}
}

// made returns what m is. If who made it left before it was, it is made again.
func (s *Set) made(key any, m *memo, make func() (any, error)) (any, error) {
	if stopped(m.err) {
		return s.Memo(key, make)
	}
	return m.value, m.err
}

// stopped reports whether err is of who asked, not of what was asked for.
func stopped(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// newMemo notes that the key is being made. The caller holds s.mu.
func (s *Set) newMemo(key any) *memo {
	if len(s.memos) >= maxMemos {
		for k := range s.memos { // any one will do: it can be made again
			delete(s.memos, k)
			break
		}
	}
	m := &memo{done: make(chan struct{})}
	s.memos[key] = m
	return m
}

// fill makes m. If make panics, or who asks has left, those who wait make it for
// themselves.
func (s *Set) fill(key any, m *memo, make func() (any, error)) (any, error) {
	filled := false
	defer func() {
		if !filled {
			s.mu.Lock()
			if s.memos[key] == m {
				delete(s.memos, key)
			}
			s.mu.Unlock()
		}
		if filled || m.err != nil {
			close(m.done)
		}
	}()
	m.value, m.err = make()
	filled = !stopped(m.err)
	return m.value, m.err
}
