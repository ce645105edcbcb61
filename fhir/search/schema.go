package search

// A Schema says how the resources of one tenant are indexed. Equal resources
// have equal terms under equal Schemas only, so that whatever reads or writes
// an index of a tenant must use the one Schema of that tenant.
type Schema struct {
	// Base is the tenant's FHIR base URL, without a slash at its end.
	// References to it are relative; with "" none is.
	Base string
	// Custom are the search parameters that the tenant adds; nil if it adds
	// none.
	Custom *Custom
}

// Generation returns that of Custom, 0 without any.
func (s Schema) Generation() int64 {
	if s.Custom == nil {
		return 0
	}
	return s.Custom.Generation
}

// R4 is the Schema of the standard alone, of no server in particular.
var R4 Schema
