// Package fhir is the vocabulary of FHIR R4: resource types, references, stored
// resources, interactions and errors. It does no I/O.
//
// https://hl7.org/fhir/R4/
package fhir
