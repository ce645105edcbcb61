// Package smart decides who is asking and what they may do: it turns a bearer
// token into a Grant, and a Grant into Permits.
//
// https://hl7.org/fhir/smart-app-launch/
package smart

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"sync/atomic"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
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
	token  *verified // that it was made of; nil for the tenant's own work
}

// access is what a verified token allows. It is shared by the requests that
// carry the token.
type access struct {
	scopes    []Scope
	patient   string   // the id of the patient in context, "" if there is none
	user      fhir.Ref // the fhirUser, zero if there is none
	principal string
	indexes   bool // it is that of the tenant's own work on its index
	takesUp   bool // it is that of the tenant's own work on deferred requests
	decided   atomic.Pointer[map[question]answer]
}

// newAccess returns the access of a token. names are of its tenant, client
// and subject.
func newAccess(scopes []Scope, patient string, user fhir.Ref, names ...string) *access {
	rights := make([]string, len(scopes))
	for i, sc := range scopes {
		rights[i] = sc.canonical()
	}
	slices.Sort(rights)
	h := sha256.New()
	for _, part := range slices.Concat(names, []string{user.String(), patient}, rights) {
		h.Write(binary.AppendUvarint(nil, uint64(len(part))))
		h.Write([]byte(part))
	}
	return &access{
		scopes: scopes, patient: patient, user: user,
		principal: base64.RawURLEncoding.EncodeToString(h.Sum(nil)),
	}
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
// Principals. It is "" for a Grant that permits nothing.
func (g *Grant) Principal() string {
	if g.access == nil {
		return ""
	}
	return g.access.principal
}
