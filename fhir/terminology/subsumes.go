package terminology

import "github.com/cordon-fhir/cordon/fhir"

// Subsumes says how two concepts of a code system relate: "equivalent",
// "subsumes" if b is a kind of a, "subsumed-by" if a is a kind of b, else
// "not-subsumed". A *fhir.Error with code NotFound says that the code system is
// not known, or that it has not both codes.
// https://hl7.org/fhir/R4/codesystem-operation-subsumes.html
func (s *Service) Subsumes(system, version, a, b string) (string, error) {
	sys, err := s.system(system, version)
	if err != nil {
		return "", err
	}
	if sys == nil {
		return "", errNoSystem()
	}
	x, hasA := sys.find(a)
	y, hasB := sys.find(b)
	switch {
	case !hasA || !hasB:
		return "", errNoSystem()
	case x == y:
		return "equivalent", nil
	case !sys.subsumes():
		return "", fhir.Errorf(fhir.NotSupported, "the hierarchy of the code system is not one of subsumption")
	case sys.isA(y, x):
		return "subsumes", nil
	case sys.isA(x, y):
		return "subsumed-by", nil
	}
	return "not-subsumed", nil
}
