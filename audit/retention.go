package audit

import "github.com/cordon-fhir/cordon/fhir"

// Removed is that entries of the trail were removed because their time was up.
// https://terminology.hl7.org/CodeSystem-iso-21089-lifecycle.html
const Removed fhir.Interaction = "destroy"
