package tenant

import (
	"errors"
	"slices"
	"time"
)

// BreakGlass says whether staff may be let see the record of a patient that the
// access policy keeps from them, because it is an emergency. With the zero
// BreakGlass nobody is.
type BreakGlass struct {
	// Mode says who lets them; "" is off.
	Mode GlassMode `json:"mode,omitzero"`
	// Minutes is for how long at most; 0 is 60.
	Minutes int `json:"minutes,omitzero"`
	// Purposes are those for which it may be; none means BTG and ETREAT.
	Purposes []string `json:"purposes,omitempty"`
	// OverridesConsent says that what the patient's consents deny is shown too.
	OverridesConsent bool `json:"overridesConsent,omitzero"`
	// ReviewWithin is how many minutes after it ended a broken glass may wait for
	// its review before who broke it may break no other. With 0 that is at once.
	ReviewWithin int `json:"reviewWithin,omitzero"`
}

// A GlassMode says what comes before a glass is broken.
type GlassMode string

// The modes.
const (
	GlassOff       GlassMode = "off"
	GlassApproved  GlassMode = "approved"  // another person approves it
	GlassImmediate GlassMode = "immediate" // nothing: it is broken when asked for
)

// On reports whether a glass can be broken.
func (b BreakGlass) On() bool { return b.Mode == GlassApproved || b.Mode == GlassImmediate }

// Alone reports whether nobody has to approve it.
func (b BreakGlass) Alone() bool { return b.Mode == GlassImmediate }

// The bounds of a BreakGlass.
const (
	defaultGlass    = 60
	maxGlass        = 4 * 60
	maxReviewWithin = 7 * 24 * 60
)

// Longest returns for how long a glass is broken at most.
func (b BreakGlass) Longest() time.Duration {
	if b.Minutes == 0 {
		return defaultGlass * time.Minute
	}
	return time.Duration(b.Minutes) * time.Minute
}

// glassPurposes are the purposes of use of an emergency.
// https://hl7.org/fhir/R4/v3/PurposeOfUse/vs.html
var glassPurposes = []string{"BTG", "ETREAT"}

// For returns the purposes for which a glass may be broken, first what it is
// broken for where nothing is said.
func (b BreakGlass) For() []string {
	if len(b.Purposes) == 0 {
		return glassPurposes
	}
	return b.Purposes
}

// check returns what is wrong with b.
func (b BreakGlass) check() error {
	foreign := func(p string) bool { return !slices.Contains(glassPurposes, p) }
	switch {
	case b.Mode != "" && b.Mode != GlassOff && !b.On():
		return errors.New("breakGlass.mode has to be off, approved or immediate")
	case b.Minutes < 0 || b.Minutes > maxGlass:
		return errors.New("breakGlass.minutes has to be from 1 to 240")
	case len(b.Purposes) > len(glassPurposes) || slices.ContainsFunc(b.Purposes, foreign):
		return errors.New("breakGlass.purposes has to be a list of BTG and ETREAT")
	case b.ReviewWithin < 0 || b.ReviewWithin > maxReviewWithin:
		return errors.New("breakGlass.reviewWithin has to be from 0 to 10080 minutes")
	}
	return nil
}
