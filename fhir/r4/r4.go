// Package r4 holds tables generated from the definitions of FHIR R4: elements,
// search parameters and compartments.
//
// https://hl7.org/fhir/R4/downloads.html
package r4

//go:generate go run ./gen
