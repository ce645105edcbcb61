// Package alert watches what clients do for signs of an attack, keeps what it
// finds, and tells people.
//
// It sees what is written to the audit trail, when it is written, so that
// nothing is known to a rule that is not in the trail. What it keeps names
// clients and staff, never a patient or anything of a record.
package alert

import (
	"slices"
	"strings"
	"time"

	"github.com/cordon-fhir/cordon/smart"
)

// A Principal is who did what an alert is about: a client and its user if they
// were proven, else what was claimed and from where it came. The zero Principal
// stands for many.
type Principal struct {
	Client  string `json:"client,omitzero"`
	User    string `json:"user,omitzero"`
	Address string `json:"address,omitzero"`
}

// A Sighting is something that a rule saw, once or several times.
type Sighting struct {
	Tenant string // the slug of whose token or client it is, "" if none was proven
	Rule   smart.Rule
	Principal
	Addressed string // the slug of the tenant that was meant, if it is another
	First     time.Time
	Last      time.Time
	Count     int
	Requests  []string // ids of some of the requests
	// Apart says that it is an alert of its own, whatever was seen before.
	Apart bool
}

// sightingOf returns the sighting of a, which was just now.
func sightingOf(a smart.Alert) Sighting {
	return Sighting{
		Tenant: a.Tenant, Rule: a.Rule, Addressed: a.Addressed, Count: 1,
		Principal: Principal{Client: a.Client, User: a.User, Address: a.Address}, Requests: []string{a.Request},
	}
}

// at returns s as it was seen at the time. What is claimed and not proven is kept
// only as far as it can be a name.
func (s Sighting) at(t time.Time) Sighting {
	s.First = t.UTC()
	s.Last = s.First
	s.Tenant, s.Addressed = plain(s.Tenant), plain(s.Addressed)
	s.Client, s.User, s.Address = plain(s.Client), staff(s.User), plain(s.Address)
	s.Requests = slices.DeleteFunc(s.Requests, func(id string) bool { return id == "" || plain(id) != id })
	return s
}

// maxRequests bounds the requests that an alert names.
const maxRequests = 10

// An Alert is what people are told: sightings by one rule of one principal, none
// of which came later than Window after the one before.
type Alert struct {
	ID     int64      `json:"id"`
	Tenant string     `json:"tenant,omitzero"`
	Rule   smart.Rule `json:"rule"`
	Principal
	Addressed []string  `json:"addressed,omitzero"`
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"`
	Count     int64     `json:"count"`
	Requests  []string  `json:"requests,omitzero"`
	State     State     `json:"state"`
	// Acknowledged and Closed say who did that, and why.
	Acknowledged *Act `json:"acknowledged,omitzero"`
	Closed       *Act `json:"closed,omitzero"`
}

// An Act is what an operator did with an Alert.
type Act struct {
	By  string    `json:"by"`
	At  time.Time `json:"at"`
	Why string    `json:"why"`
}

// A State says what has become of an Alert.
type State string

// The states, in their order.
const (
	Open         State = "open"
	Acknowledged State = "acknowledged" // somebody looks into it
	Closed       State = "closed"
)

// Window is for how long after it was seen last an alert is one with what is
// seen again. What comes after that, or after it was closed, is another.
const Window = time.Hour

// plain returns s if it can be the name of a client, an address or a request,
// cut to 64 bytes; else "?". What is claimed and not proven may hold anything.
func plain(s string) string {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("-._:/@+", rune(c)) {
			return "?"
		}
	}
	return s[:min(len(s), 64)]
}

// staff returns the user, unless it is a patient or a relative: the audit trail
// knows who it was.
func staff(user string) string {
	if strings.HasPrefix(user, "Patient/") || strings.HasPrefix(user, "RelatedPerson/") {
		return "a patient"
	}
	return plain(user)
}
