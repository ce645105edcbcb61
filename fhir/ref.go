package fhir

import (
	"fmt"
	"strings"
)

// A Type is the name of a resource type, "Patient". The zero Type names none
// and stands for the whole system where an interaction allows that.
type Type string

// Known reports whether R4 defines the resource type t.
// https://hl7.org/fhir/R4/resourcelist.html
func (t Type) Known() bool { return t.Number() != 0 }

// ValidID reports whether s is a logical id: 1 to 64 of A-Z a-z 0-9 - and dot.
// https://hl7.org/fhir/R4/datatypes.html#id
func ValidID(s string) bool {
	if len(s) == 0 || len(s) > 64 {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '.' {
			return false
		}
	}
	return true
}

// A Ref names one resource of a tenant, "Patient/7".
type Ref struct {
	Type Type
	ID   string
}

// String returns the relative reference, "Patient/7".
func (r Ref) String() string { return string(r.Type) + "/" + r.ID }

// IsZero reports whether r names nothing.
func (r Ref) IsZero() bool { return r == Ref{} }

// ParseRef reads a relative reference "Type/id", with or without
// "/_history/version", which is dropped.
// https://hl7.org/fhir/R4/references.html#literal
func ParseRef(s string) (Ref, error) {
	t, id, ok := strings.Cut(s, "/")
	if i := strings.Index(id, "/_history/"); i >= 0 {
		id = id[:i]
	}
	if !ok || !Type(t).Known() || !ValidID(id) {
		return Ref{}, fmt.Errorf("fhir: not a relative reference")
	}
	return Ref{Type(t), id}, nil
}

// Number returns the number of t in storage, 0 if R4 does not define t.
func (t Type) Number() int16 { return typeNumbers[t] }

// TypeNumbered returns the type with number n, "" if there is none.
func TypeNumbered(n int16) Type {
	if n < 1 || int(n) > len(Types) {
		return ""
	}
	return Types[n-1]
}
