package terminology

import "slices"

// A Verdict is what a code system says of a Coding.
type Verdict uint8

// Untold is not a yes: the code system is not known here, or not all of it.
const (
	Untold Verdict = iota
	Right
	NoSuchCode
	OtherDisplay // the display is none of those of the code
)

// Judge holds a Coding against its code system, as it is defined here: nobody
// else is asked.
// https://hl7.org/fhir/R4/datatypes.html#Coding
func (s *Service) Judge(c Coding) Verdict {
	if c.System == "" || c.Code == "" {
		return Untold
	}
	sys, err := s.system(c.System, c.Version)
	if err != nil || sys == nil {
		return Untold
	}
	concept, ok := sys.find(c.Code)
	switch {
	case !ok && sys.complete():
		return NoSuchCode
	case !ok:
		return Untold
	case c.Display == "" || sys.display(concept) == "" || sameDisplay(sys.display(concept), c.Display):
		return Right
	case slices.ContainsFunc(sys.designations(concept), func(d Designation) bool { return sameDisplay(d.Value, c.Display) }):
		return Right
	}
	return OtherDisplay
}
