// Package terminology answers questions about codes, from the definitions that
// one tenant sees.
//
// https://hl7.org/fhir/R4/terminology-service.html
package terminology
