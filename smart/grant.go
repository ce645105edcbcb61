// Package smart decides who is asking and what they may do: it turns a bearer
// token into a Grant, and a Grant into Permits.
//
// https://hl7.org/fhir/smart-app-launch/
package smart

import (
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
}

// access is what a verified token allows. It is shared by the requests that
// carry the token.
type access struct{}

// Tenant returns the tenant that the Grant is for, nil for the zero Grant.
func (g *Grant) Tenant() *tenant.Tenant { return g.tenant }

// Agent returns who asks, for the audit trail.
func (g *Grant) Agent() audit.Agent { return g.agent }

// Origin returns the request that the Grant was made for.
func (g *Grant) Origin() audit.Origin { return g.origin }

// Principal identifies who asks and with which rights: cursors and caches are
// bound to it. Two tokens with equal rights of one client and user have equal
// Principals.
func (g *Grant) Principal() string { panic("stub") }

// A Permit allows one interaction on one type, on the resources for which its
// Where holds. Only a Grant makes one; the zero Permit opens nothing.
type Permit struct {
	grant       *Grant
	interaction fhir.Interaction
	on          fhir.Type
	where       search.Expr
}

// Permit answers whether g may do the interaction on resources of the type. A
// *fhir.Error with code Forbidden says that it may not, whatever the resource.
//
// The letters of SMART v2 scopes decide: create needs c, update and patch u,
// delete d, read, vread and history-instance r, search-type, search-system,
// history-type and history-system s.
// https://hl7.org/fhir/smart-app-launch/scopes-and-launch-context.html
func (g *Grant) Permit(do fhir.Interaction, on fhir.Type) (Permit, error) { panic("stub") }

// From reports whether g made p.
func (p Permit) From(g *Grant) bool { return p.grant != nil && p.grant == g }

// Interaction returns what p allows.
func (p Permit) Interaction() fhir.Interaction { return p.interaction }

// On returns the type that p is for.
func (p Permit) On() fhir.Type { return p.on }

// Where returns the condition that a resource of the type must meet to be
// within p. Searches add it to theirs; a single resource is held against it
// by search.Match. It is search.Or{} for the zero Permit.
func (p Permit) Where() search.Expr {
	if p.where == nil {
		return search.Or{}
	}
	return p.where
}
