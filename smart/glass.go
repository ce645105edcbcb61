package smart

import (
	"fmt"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/tenant"
)

// A Glass is what was decided when somebody asked to see the record of a patient
// whom the policy keeps from them, because it is an emergency: they may, until
// it ends. It is signed by the tenant, so that who can write to the registry can
// make none.
type Glass struct {
	ID     string `json:"jti"`
	Tenant string `json:"tenant"` // the slug
	// User is the fhirUser who broke it, with the client and in the session.
	User    string `json:"user"`
	Client  string `json:"client_id"`
	Session string `json:"sid"`
	Patient string `json:"patient"` // the id
	Purpose string `json:"purpose"` // BTG or ETREAT
	Reason  string `json:"reason"`
	// Approver is the fhirUser who approved it, "" if nobody had to.
	Approver string `json:"approver,omitzero"`
	// NotYet and Expires are when it begins and ends, in seconds since 1970.
	NotYet  int64 `json:"nbf"`
	Expires int64 `json:"exp"`
}

// The types of the JWTs of a broken glass: of what was asked, decided and found
// in review.
const (
	GlassAsked    jose.ContentType = "cordon-glass-request+jwt"
	GlassBroken   jose.ContentType = "cordon-glass+jwt"
	GlassReviewed jose.ContentType = "cordon-glass-review+jwt"
)

// GlassKey is the class of the key that records of broken glasses are sealed under.
const GlassKey = keys.Audit

// KeepSigned returns the claims about the broken glass with the id as the
// registry keeps them: signed as the type, and sealed for their place.
func KeepSigned(set *keys.Set, t *tenant.Tenant, id string, typ jose.ContentType, claims any) ([]byte, error) {
	text, err := sign(set, typ, claims)
	if err != nil {
		return nil, fmt.Errorf("signing a record of a broken glass: %w", err)
	}
	if len(text) > maxToken {
		return nil, fhir.Errorf(fhir.TooLong, "the text is too long")
	}
	return set.Seal(nil, GlassKey, []byte(text), glassPlace(t, id, typ))
}

func glassPlace(t *tenant.Tenant, id string, typ jose.ContentType) []byte {
	return fmt.Appendf(nil, "%s|%s|%s", typ, t.ID, id)
}

// ReadSigned reads what KeepSigned made into claims, and returns the JWT. An
// error says that it was not made for that place, or by nobody of the tenant. A
// key that signed is known for a day after it was replaced; what is read
// later the seal proves alone.
func ReadSigned(set *keys.Set, t *tenant.Tenant, id string, typ jose.ContentType, kept []byte, claims any) (string, error) {
	text, p, err := readSigned(set, t, id, typ, kept, claims)
	if err == nil && set.VerifyingKey(p.kid) != nil {
		err = p.holds(set)
	}
	return text, err
}

func readSigned(set *keys.Set, t *tenant.Tenant, id string, typ jose.ContentType, kept []byte, claims any) (string, proof, error) {
	text, err := set.Open(GlassKey, kept, glassPlace(t, id, typ))
	if err != nil {
		return "", proof{}, err
	}
	p, err := parseJWT(string(text), typ, claims)
	if err != nil {
		return "", proof{}, fmt.Errorf("reading a record of a broken glass: %w", err)
	}
	return string(text), p, nil
}

// maxGlass is longer than any tenant lets a glass be broken.
const maxGlass = 4*time.Hour + time.Minute

// good reports whether b is one of the tenant that may be in force.
func (b Glass) good(t *tenant.Tenant, id string) bool {
	return b.ID == id && b.Tenant == t.Slug.String() && fhir.ValidID(b.Patient) && b.User != "" && b.Session != "" &&
		b.Expires-b.NotYet <= int64(maxGlass/time.Second)
}

// holds reports whether b is in force at the time, for who shows the token.
func (b Glass) holds(tok Token, user fhir.Ref, now time.Time) bool {
	return b.Session == tok.Session && b.Client == tok.Client && b.User == user.String() &&
		now.Before(time.Unix(b.Expires, 0)) && !now.Add(clockSkew).Before(time.Unix(b.NotYet, 0))
}

// throughGlass adds to what the policy allows g what it allows who broke the
// glass: to see, of the one patient, what of it the scopes reach. Whatever the
// policy says, nothing else of what a glass is asked for comes through it.
func (g *Grant) throughGlass(allowed, scoped search.Expr, q question) search.Expr {
	if len(g.glasses) == 0 || q.letter&(canRead|canSearch) == 0 || q.on == "" || q.on == auditEvent || g.policy == nil || g.policy.open {
		return allowed
	}
	q.glass = true
	more := g.within(scoped, q)
	if more == nil {
		return allowed
	}
	any := search.Or{}
	if allowed != nil {
		any = append(any, allowed)
	}
	for _, b := range g.glasses {
		if e := recordOf(b.Patient, q.on); e != nil {
			any = append(any, search.And{more, e})
		}
	}
	if len(any) == 0 {
		return nil
	}
	return search.Simplify(any)
}

// recordOf returns which resources of the type are of the patient's record, nil
// if none can be.
func recordOf(patient string, on fhir.Type) search.Expr {
	if on == "Device" {
		return devices(patient)
	}
	if e, ok := search.Compartment("Patient", patient, on); ok {
		return e
	}
	return nil
}

// spared returns by as somebody from whom the consents of the patients whose
// glass g has broken keep nothing.
func (g *Grant) spared(by *search.Asker) *search.Asker {
	who := *by
	for _, b := range g.glasses {
		who.Spared = append(who.Spared, b.Patient)
	}
	return &who
}

// HasBroken reports whether g sees anything through a broken glass.
func (g *Grant) HasBroken() bool { return len(g.glasses) > 0 }

// Through returns the broken glass through which g sees the record of the
// patient, as the audit trail tells of it; zero if there is none.
func (g *Grant) Through(patient fhir.Ref) audit.Glass {
	if g == nil || patient.Type != "Patient" {
		return audit.Glass{}
	}
	at := slices.IndexFunc(g.glasses, func(b Glass) bool { return b.Patient == patient.ID })
	if at < 0 {
		return audit.Glass{}
	}
	return g.glasses[at].Audit()
}

// Audit returns b as the audit trail tells of it.
func (b Glass) Audit() audit.Glass {
	return audit.Glass{ID: b.ID, Purpose: b.Purpose, Reason: b.Reason}
}

// A GlassAct is what a policy lets somebody do about breaking glasses, as
// action breakGlass, approveBreakGlass or reviewBreakGlass on a Patient.
type GlassAct letters

// The acts.
const (
	BreakGlass   = GlassAct(canBreakGlass)
	ApproveGlass = GlassAct(canApproveGlass)
	ReviewGlass  = GlassAct(canReviewGlass)
)

func (a GlassAct) known() bool { return a == BreakGlass || a == ApproveGlass || a == ReviewGlass }

// breaking is what a Permit for a GlassAct allows. It is no interaction that a
// client can ask for, and nothing that is read under it is shown.
const breaking fhir.Interaction = "break-glass"

// PermitGlass answers with the Permit for the act on those patients for which
// the policy allows it. It is for staff who have logged in: a system breaks no
// glass, nor does anybody where all is left to the scopes.
func (g *Grant) PermitGlass(do GlassAct) (Permit, error) {
	refused := fhir.Errorf(fhir.Forbidden, "the access policy does not allow this")
	if g == nil || g.access == nil || g.token == nil || g.token.claims.Session == "" || g.policy == nil || g.policy.open || !g.access.isStaff() {
		return Permit{}, refused
	}
	q := question{letter: letters(do), on: "Patient"}
	where := g.access.judged.of(g.policy, g.access, q, g.at.Truncate(time.Second)).where
	if nothing(where) {
		return Permit{}, refused
	}
	return Permit{grant: g, interaction: breaking, on: "Patient", where: where}, nil
}

// isStaff reports whether a user of the tenant has the access who is no patient.
func (a *access) isStaff() bool {
	return a.user.Type == "Practitioner" || a.user.Type == "PractitionerRole"
}

// Login returns the session in which the token was given to its user, and by
// what name they are known there; both "" without one.
func (g *Grant) Login() (session, subject string) {
	if g == nil || g.token == nil {
		return "", ""
	}
	return g.token.claims.Session, g.token.claims.Subject
}
