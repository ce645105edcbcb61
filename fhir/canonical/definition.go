// Package canonical finds definitions, the conformance and terminology
// resources, by their canonical URL.
//
// https://hl7.org/fhir/R4/references.html#canonical
package canonical

import (
	"bytes"
	"slices"

	"github.com/cordon-fhir/cordon/fhir"
)

// Types are the resource types that definitions have here: what validation,
// terminology, search and the CapabilityStatement read.
var Types = []fhir.Type{
	"CapabilityStatement", "CodeSystem", "CompartmentDefinition", "ConceptMap", "ImplementationGuide", "NamingSystem",
	"OperationDefinition", "Questionnaire", "SearchParameter", "StructureDefinition", "ValueSet",
}

// A Definition is one conformance or terminology resource. It is immutable.
type Definition struct {
	Type               fhir.Type
	ID                 string
	URL, Version, Name string
	// Constrains is the type that a profile is about, "Patient" or
	// "Extension". It is "" for what defines a type of its own, and for
	// everything that is not a StructureDefinition.
	Constrains string

	pack   *Pack // opens body, unless it is here
	block  int
	offset int
	length int
	body   []byte
}

// New reads a definition from the JSON of a resource. A *fhir.Error says what
// is wrong with it.
func New(json []byte) (*Definition, error) {
	d, pruned, err := prune(json)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(Types, d.Type) {
		return nil, fhir.Errorf(fhir.NotSupported, "the resource is not one of those that define something")
	}
	d.body = pruned
	return d, nil
}

// JSON returns the resource without its prose: narrative, descriptions and
// such are not in it. It is unpacked on each call and must not be changed. A
// caller keeps what it makes of it, not the JSON (see Set.Memo).
func (d *Definition) JSON() []byte {
	if d.pack == nil {
		return d.body
	}
	block := d.pack.open(d.block)
	if d.offset == 0 && d.length == len(block) {
		return block
	}
	return bytes.Clone(block[d.offset:][:d.length])
}

// Canonical returns "url|version", or the URL where there is no version.
func (d *Definition) Canonical() string {
	if d.Version == "" {
		return d.URL
	}
	return d.URL + "|" + d.Version
}
