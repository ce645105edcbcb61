// Package smart decides who is asking and what they may do: it turns a bearer
// token into a Grant, and a Grant into Permits.
//
// https://hl7.org/fhir/smart-app-launch/
package smart

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/tenant"
)

// A Grant says who asks, for which tenant, and what they may do there. Only
// this package makes one that grants anything; the zero Grant is of nobody.
// A Grant is for one request: its Origin is that request's.
type Grant struct {
	tenant *tenant.Tenant
	agent  audit.Agent
	origin audit.Origin
	access *access
	token  *verified     // that it was made of; nil for the tenant's own work
	policy *Policy       // of the tenant, in its present version
	at     time.Time     // of the request
	asker  *search.Asker // as consents see who asks
	// glasses are those that the user has broken with the token's login, and
	// that are in force.
	glasses []Glass
	// renewed looks the tenant and its policy up again; nil if nobody can.
	renewed func(context.Context) (*tenant.Tenant, *Policy, error)
}

// access is what a verified token allows. It is shared by the requests that
// carry the token.
type access struct {
	scopes    []Scope
	patient   string   // the id of the patient in context, "" if there is none
	encounter string   // the same of the Encounter
	user      fhir.Ref // the fhirUser, zero if there is none
	client    string
	purpose   string
	person    Person
	name      string // see Grant.Principal
	indexes   bool   // it is that of the tenant's own work on its index
	takesUp   bool   // it is that of the tenant's own work on deferred requests
	follows   bool   // it is that of the tenant's own work on subscriptions
	purges    bool   // it removes what is of a patient, as two operators agreed
	inquires  bool   // it is that of an operator's inquiry
	decided   atomic.Pointer[map[question]answer]
	judged    decisions
}

// named gives a its name, of all that it can decide by. others are names of its
// tenant and subject.
func (a *access) named(others ...string) *access {
	rights := make([]string, len(a.scopes))
	for i, sc := range a.scopes {
		rights[i] = sc.canonical()
	}
	slices.Sort(rights)
	h := sha256.New()
	person := fmt.Sprintf("%#v", a.person)
	for _, part := range slices.Concat(others, []string{a.client, a.user.String(), a.patient, a.encounter, a.purpose, person}, rights) {
		h.Write(binary.AppendUvarint(nil, uint64(len(part))))
		h.Write([]byte(part))
	}
	a.name = base64.RawURLEncoding.EncodeToString(h.Sum(nil))
	return a
}

// Denied returns a Grant that permits nothing: the name under which a refused
// or unauthorized request is written to the audit trail of t.
func Denied(t *tenant.Tenant, a audit.Agent, o audit.Origin) *Grant {
	return &Grant{tenant: t, agent: a, origin: o}
}

// Tenant returns the tenant that the Grant is for, nil for the zero Grant.
func (g *Grant) Tenant() *tenant.Tenant { return g.tenant }

// Agent returns who asks, for the audit trail.
func (g *Grant) Agent() audit.Agent { return g.agent }

// Origin returns the request that the Grant was made for.
func (g *Grant) Origin() audit.Origin { return g.origin }

// Principal identifies who asks and with which rights: cursors and caches are
// bound to it. Two tokens with equal rights of one client and user have equal
// Principals, unless a glass is broken. It is "" for a Grant that permits
// nothing.
func (g *Grant) Principal() string {
	name := g.Holder()
	for _, b := range g.glasses {
		name += "+" + b.ID
	}
	return name
}

// Holder is Principal without the glasses that are broken, which end before the
// token does: what is answered later belongs to who has it.
func (g *Grant) Holder() string {
	if g.access == nil {
		return ""
	}
	return g.access.name
}
