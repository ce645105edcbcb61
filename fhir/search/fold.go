package search

// Fold returns s in the form in which strings are compared: lower case, without
// accents, and with single spaces in place of punctuation.
// https://hl7.org/fhir/R4/search.html#string
func Fold(s string) string { return fold(s) }
