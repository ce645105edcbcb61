package r4

// An Invariant is a rule of the base definitions in FHIRPath.
// https://hl7.org/fhir/R4/conformance-rules.html#constraints
type Invariant struct {
	// Type is the path of the type whose values it is about, "Observation" or
	// "Patient.contact"; or, with Element, of the type that has the element.
	Type string
	// Element is the name of an element that is a datatype, without [x].
	Element    string
	Key        string // "obs-6"
	Warning    bool   // that it should hold, not must
	Expression string
}

// Invariants returns the invariants of all base definitions, without those
// that fhir/validate holds, and dom-6. They must not be changed.
func Invariants() []Invariant { return invariants[:] }

// A Binding binds an element of the base definitions to a value set.
// https://hl7.org/fhir/R4/terminologies.html#binding
type Binding struct {
	Type     string // path of the type that has the element
	Element  string // its name without [x]
	Required bool   // else extensible
	ValueSet string // canonical URL
}

// Bindings returns the extensible bindings of the base definitions, and the
// required ones that Element.ValueSet does not tell. They must not be changed.
func Bindings() []Binding { return bindings[:] }
