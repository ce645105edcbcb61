package rest

import (
	"context"
	"net/http"
	"slices"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/store"
)

// An operation is a line of the table of operations. HTTP, the entries of
// Bundles, the CapabilityStatement and the OpenAPI document are made of it.
// https://hl7.org/fhir/R4/operations.html
type operation struct {
	name  string // without the $
	url   string // canonical, of its OperationDefinition
	level level
	// on are the types that it is defined for; none means every type but
	// AuditEvent.
	on []fhir.Type
	// affectsState says that it changes something: it is called by POST alone.
	affectsState bool
	in           []parameter
	// searches says that search parameters may be given beside those of in.
	// They stay in request.params.
	searches bool
	// bare says that it answers with what is no resource: it cannot be called
	// in a Bundle, nor be answered later.
	bare bool
	// alone says that it is called by who waits for it: not in a Bundle.
	alone bool
	// tables says that it makes tables of a view, in formats of their own; it may be called on
	// one, as if those were resources of R4.
	tables bool

	// parse reads what in cannot say, once request.in is filled; nil if there
	// is no such thing.
	parse func(*request) error
	// One of these answers. What look and change do has audit entries of its
	// own, linked to the one of the operation; whole sees to its own, and
	// cannot be part of a transaction.
	look   func(context.Context, *store.View, *request) (*response, error)
	change func(context.Context, *store.Tx, *request) (*response, error)
	whole  func(context.Context, *server, *request) (*response, error)
	// later sees to it that what is asked is done, by whom and whenever; then
	// whole is what answers in a Bundle.
	later func(context.Context, *call) (*response, error)
}

// A level is what an operation is called on. They can be joined.
// https://hl7.org/fhir/R4/operations.html#executing
type level uint8

const (
	onSystem   level = 1 << iota // [base]/$name
	onType                       // [base]/Type/$name
	onInstance                   // [base]/Type/id/$name
	onVersion                    // [base]/Type/id/_history/version/$name
)

// operations is the table. What is not in it is not served, and the
// CapabilityStatement claims what is. Each operation has a file of its own.
func operations() []operation {
	return slices.Concat(
		metaOperations,
		documentOperations,
		validateOperations,
		everythingOperations,
		exportOperations,
		importOperations,
		viewOperations,
		graphqlOperations,
		lastnOperations,
		logOperations,
		matchOperations,
		breakGlassOperations,
		subscriptionOperations,
		trailOperations,
		terminologyOperations,
	)
}

// level returns what a place is.
func (p place) level() level {
	switch {
	case p.version != "":
		return onVersion
	case p.id != "":
		return onInstance
	case p.typ != "":
		return onType
	}
	return onSystem
}

// at reports whether o is called at the place.
func (o *operation) at(p place) bool {
	return o.level&p.level() != 0 && (p.typ == "" || o.isOn(fhir.Type(p.typ)))
}

// isOn reports whether o is defined for the type.
func (o *operation) isOn(t fhir.Type) bool {
	if len(o.on) == 0 {
		return t != auditEvent
	}
	return slices.Contains(o.on, t)
}

// simple reports whether o can be called by GET: it changes nothing, and what
// it must be given can be written in a URL.
// https://hl7.org/fhir/R4/operations.html#request
func (o *operation) simple() bool {
	return !o.affectsState && !slices.ContainsFunc(o.in, func(p parameter) bool { return p.min > 0 && !p.simple() })
}

// operation returns the route of the operation that is called at p.
func (r *router) operation(p place, method, name string) (place, string, error) {
	if p.typ == viewDefinition && slices.ContainsFunc(r.operations[name], func(o *operationRoute) bool { return o.tables }) {
		p.view, p.typ, p.id = p.id, "", ""
	}
	at := slices.IndexFunc(r.operations[name], func(o *operationRoute) bool { return o.at(p) })
	if at < 0 {
		return p, "", fhir.Errorf(fhir.NotSupported, "there is no such operation here").WithStatus(http.StatusNotFound)
	}
	o := r.operations[name][at]
	p.route, p.pattern = &o.route, p.pattern[:len(p.pattern)-len(":op")]+name
	if method != http.MethodPost && !o.simple() {
		return p, "OPTIONS, POST", fhir.Errorf(fhir.NotSupported, "this operation is called by POST").WithStatus(http.StatusMethodNotAllowed)
	}
	return p, "", nil
}

// An operationRoute is an operation as a route.
type operationRoute struct {
	*operation
	route route
}

// asRoute returns the route of o.
func (o *operation) asRoute() *operationRoute {
	rt := route{does: fhir.Operation, parse: o.read, whole: o.whole, operation: o}
	if o.look != nil {
		rt.look = func(ctx context.Context, v *store.View, req *request) (*response, error) {
			v.Operation(req.asEntry())
			return o.look(ctx, v, req)
		}
	}
	if o.change != nil {
		rt.change = func(ctx context.Context, tx *store.Tx, req *request) (*response, error) {
			tx.Operation(req.asEntry())
			return o.change(ctx, tx, req)
		}
	}
	return &operationRoute{o, rt}
}

// asEntry is what the audit trail says of the call of an operation.
func (req *request) asEntry() audit.Entry {
	e := audit.Entry{Interaction: req.does, Type: req.ref.Type, Query: req.query}
	if req.ref.ID != "" {
		e.Entity = req.ref
		if req.ref.Type == "Patient" {
			e.Patient = req.ref
		}
	}
	return e
}
