package smart

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
)

// A Person is what the login of a user made known of them. The policy of the
// tenant decides by it; what is missing is known to be nothing. It is part of
// the token, so it is as old as the token at most.
type Person struct {
	// Roles are codes of the tenant's own: "nurse", "billing".
	Roles []string `json:"roles,omitzero"`
	// Organizations, Facilities and Departments are ids of Organization,
	// Location and Organization resources that the user works for.
	Organizations []string `json:"organizations,omitzero"`
	Facilities    []string `json:"facilities,omitzero"`
	Departments   []string `json:"departments,omitzero"`
	// Location is the id of the Location that the user is at, "" if unknown.
	Location string `json:"location,omitzero"`
	// ShiftStart and ShiftEnd are seconds since 1970; both 0 for no shift.
	ShiftStart int64 `json:"shiftStart,omitzero"`
	ShiftEnd   int64 `json:"shiftEnd,omitzero"`
}

// onShift reports whether the user works at the time.
func (p Person) onShift(at time.Time) bool {
	return p.ShiftStart <= at.Unix() && at.Unix() < p.ShiftEnd
}

// known tells the audit trail who p is: the roles, the first organization, and
// the place where p is, or the only one where p works.
func (p Person) known(a *audit.Agent) {
	a.Roles, a.Site = strings.Join(p.Roles, " "), p.Location
	if len(p.Organizations) > 0 {
		a.Organization = p.Organizations[0]
	}
	if a.Site == "" && len(p.Facilities) == 1 {
		a.Site = p.Facilities[0]
	}
}

// Recall fills in what the audit trail kept of who the user was.
func Recall(a *audit.Agent) {
	if who, ok := AskerOf(*a); ok {
		who.Person.known(a)
	}
}

// The bounds of a Person.
const (
	maxOfPerson = 50
	maxName     = 64
)

// Check returns what is wrong with p, for whoever registers it.
func (p Person) Check() error {
	for name, list := range map[string][]string{
		"roles": p.Roles, "organizations": p.Organizations, "facilities": p.Facilities, "departments": p.Departments,
	} {
		if len(list) > maxOfPerson {
			return fmt.Errorf("%s has at most %d entries", name, maxOfPerson)
		}
		for _, s := range list {
			if s == "" || len(s) > maxName || name != "roles" && !fhir.ValidID(s) {
				return fmt.Errorf("%s holds what cannot be one", name)
			}
		}
	}
	switch {
	case p.Location != "" && !fhir.ValidID(p.Location):
		return errors.New("location has to be the id of a Location")
	case p.ShiftStart < 0 || p.ShiftEnd < p.ShiftStart:
		return errors.New("the shift has to end after it begins")
	}
	return nil
}
