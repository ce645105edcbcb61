package tenant

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
)

// Consent says what patients' consents have to say for a record to be seen. The
// zero Consent is opt-out: it is seen unless one of them denies it.
type Consent struct {
	// OptIn are the purposes of use for which one of them has to permit it.
	OptIn []string `json:"optIn,omitempty"`
	// Purpose is what requests are for whose token names no purpose. With "" it
	// is not known: what denies any purpose denies it, and what is opt-in has to
	// be permitted.
	Purpose string `json:"purpose,omitzero"`
}

// purposeCode is what a code of https://hl7.org/fhir/R4/v3/PurposeOfUse/vs.html
// looks like.
var purposeCode = regexp.MustCompile(`^[A-Z][A-Z0-9-]{1,31}$`)

// check returns what is wrong with c.
func (c Consent) check() error {
	if c.Purpose != "" && !purposeCode.MatchString(c.Purpose) {
		return errors.New("consent.purpose has to be a code of v3-PurposeOfUse, such as TREAT")
	}
	if len(c.OptIn) > maxURLs || slices.ContainsFunc(c.OptIn, func(s string) bool { return !purposeCode.MatchString(s) }) {
		return fmt.Errorf("consent.optIn has to be at most %d codes of v3-PurposeOfUse, such as HRESCH", maxURLs)
	}
	return nil
}
