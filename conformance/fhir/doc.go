// Package fhirconf holds the API, as it is served over HTTP, to the checklists of
// FHIR R4 and US Core. It has nothing but tests. The names of its tests carry the
// codes of the checklists: H- of the RESTful API, S- of search, U- of US Core.
//
// https://hl7.org/fhir/R4/http.html
// https://hl7.org/fhir/R4/search.html
// https://hl7.org/fhir/us/core/
package fhirconf
