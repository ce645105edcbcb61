package tenant

import "errors"

// Audit says what becomes of the audit trail.
type Audit struct {
	// KeepYears is for how many years an entry is kept; 0 is for ever.
	KeepYears int `json:"keepYears,omitzero"`
}

// The bounds of KeepYears. Less than the first no setting can be: the databases
// refuse it.
// https://www.ecfr.gov/current/title-45/section-164.316#p-164.316(b)(2)(i)
const (
	leastAuditYears = 6
	mostAuditYears  = 100
)

// check returns what is wrong with a.
func (a Audit) check() error {
	if a.KeepYears != 0 && (a.KeepYears < leastAuditYears || a.KeepYears > mostAuditYears) {
		return errors.New("audit.keepYears has to be from 6 to 100; without it entries are kept for ever")
	}
	return nil
}
