package search

import (
	"slices"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/r4"
)

// Compartment returns the condition that resources of type on meet that are in
// the compartment of the resource c/id. It is false if there is no such
// compartment or no resource of the type is ever in it. Of its own type, only
// the resource itself is.
// https://hl7.org/fhir/R4/compartmentdefinition.html
func Compartment(c fhir.Type, id string, on fhir.Type) (Expr, bool) {
	if c == on && len(r4.Compartment(c)) > 0 {
		return HasID{id}, true
	}
	paths := membership(c, on)
	or := Or{}
	for _, path := range paths {
		or = append(or, HasReference{Path: path, Target: string(c) + "/" + id})
	}
	return or.simple(), len(or) > 0
}

// membership returns the elements by which resources of type on are in a
// compartment of type c. What says whom a resource is about comes first.
func membership(c, on fhir.Type) []Path {
	members := r4.Compartment(c)
	i := slices.IndexFunc(members, func(m r4.CompartmentMember) bool { return m.Type == on })
	if i < 0 {
		return nil
	}
	codes := slices.Clone(members[i].Parameters)
	slices.SortStableFunc(codes, func(a, b string) int { return rank(a) - rank(b) })
	var paths []Path
	for _, code := range codes {
		p := tableOf(on).byCode[code]
		if p == nil {
			continue
		}
		for _, path := range p.paths(c) {
			if !slices.Contains(paths, path) {
				paths = append(paths, path)
			}
		}
	}
	return paths
}

// DeviceOf returns the condition that a Device meets that is of the patient with
// the id. The compartment of patients leaves devices out.
func DeviceOf(id string) Expr {
	or := Or{}
	for _, path := range tableOf("Device").byCode["patient"].paths("Patient") {
		or = append(or, HasReference{Path: path, Target: "Patient/" + id})
	}
	return or.simple()
}

// subjectCodes are the parameters that say whom a resource is about.
var subjectCodes = []string{"patient", "subject", "beneficiary", "individual"}

func rank(code string) int {
	if at := slices.Index(subjectCodes, code); at >= 0 {
		return at
	}
	return 100
}
