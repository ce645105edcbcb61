package r4

import "github.com/cordon-fhir/cordon/fhir"

// A SearchParameter is one search parameter of one resource type, with its
// expression compiled to the elements that it reads.
// https://hl7.org/fhir/R4/searchparameter-registry.html
type SearchParameter struct {
	Code string
	// Type is a code of http://hl7.org/fhir/search-param-type.
	Type string
	// URL is the canonical URL of the definition.
	URL string
	// Targets are the types that a reference may refer to; nil means any.
	Targets []fhir.Type
	// Branches are the members of the union that the expression is. Those of
	// a composite are in Composites.
	Branches   []SearchBranch
	Composites []SearchComposite
}

// A SearchBranch reads one element.
type SearchBranch struct {
	// Path names the element: "Observation.value" whatever its type, or
	// "ConceptMap.sourceUri" where parameters tell its types apart.
	Path string
	// Steps lead from the resource to the element's parent, or in the
	// component of a repeating composite from its base.
	Steps []SearchStep
	// Leaves are the element itself, as JSON spells it, for each type.
	Leaves []SearchLeaf
	// Only restricts which values are meant: the type referred to, or the
	// system of a ContactPoint.
	Only string
	// Single says that the element cannot occur twice in a resource. It is
	// not told of elements within datatypes, nor within an item that repeats.
	Single bool
}

// A SearchStep goes to a member of an object, and to each item of a list.
type SearchStep struct {
	Name string
	// Key and Is restrict the items to those whose member Key is the text Is.
	// Key "extension" means that the item has an extension with the URL Is.
	Key, Is string
	// First restricts them to the first item.
	First bool
}

// A SearchLeaf is an element of one type.
type SearchLeaf struct {
	Name string
	// Type is a datatype of R4, or "exists" for the truth of "there is a
	// value, and it is not false".
	Type string
	// Systems are the code systems that a code implies.
	Systems []string
}

// A SearchComposite is one base of a composite parameter.
type SearchComposite struct {
	// Path and Steps lead to the base.
	Path  string
	Steps []SearchStep
	// Repeats says that the base repeats, so that the components must be
	// read from one and the same item of it.
	Repeats    bool
	Components []SearchComponent
}

// A SearchComponent is one component of a composite.
type SearchComponent struct {
	Type string
	// Root says that the Steps begin at the resource although the base
	// repeats.
	Root     bool
	Branches []SearchBranch
}

// A CompartmentMember says by which search parameters resources of a type
// belong to a compartment.
// https://hl7.org/fhir/R4/compartmentdefinition.html
type CompartmentMember struct {
	Type       fhir.Type
	Parameters []string
}

// SearchParameters returns the search parameters that R4 defines for t, in
// order of code. Nobody may change them.
func SearchParameters(t fhir.Type) []SearchParameter {
	return searchParameters[t.Number()]
}

// Compartment returns the members of the compartments of type c, in order of
// type; none if R4 defines no such compartment.
func Compartment(c fhir.Type) []CompartmentMember { return compartments[c] }
