package smart

import (
	"slices"
	"time"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/eval"

	"github.com/cordon-fhir/cordon/fhir"
)

// The types of entities that policies speak of.
const (
	userType   types.EntityType = "User"
	clientType types.EntityType = "Client"
	roleType   types.EntityType = "Role"
	actionType types.EntityType = "Action"
)

// An action is what a letter of SMART allows.
type action struct {
	letter letters
	uid    types.EntityUID
	groups types.EntityUIDSet
}

var actions = func() []action {
	view, change := types.NewEntityUID(actionType, "view"), types.NewEntityUID(actionType, "change")
	named := func(l letters, name types.String, group types.EntityUID) action {
		return action{l, types.NewEntityUID(actionType, name), types.NewEntityUIDSet(group)}
	}
	alone := func(l letters, name types.String) action {
		return action{l, types.NewEntityUID(actionType, name), types.NewEntityUIDSet()}
	}
	return []action{
		alone(canLabel, "label"), named(canRead, "read", view), named(canSearch, "search", view),
		named(canCreate, "create", change), named(canUpdate, "update", change), named(canDelete, "delete", change),
		alone(canBreakGlass, "breakGlass"), alone(canApproveGlass, "approveBreakGlass"), alone(canReviewGlass, "reviewBreakGlass"),
	}
}()

func isAction(uid types.EntityUID) bool { return slices.Contains(actionNames(), string(uid.ID)) }

// actionNames are what can be named, first the groups.
func actionNames() []string {
	names := []string{"view", "change"}
	for _, a := range actions {
		names = append(names, string(a.uid.ID))
	}
	return names
}

// A principal is who asks, as Cedar sees them.
type principal struct {
	access *access
	uid    types.EntityUID
	entity types.Entity
}

// principal returns who has the access. What is not known of them is empty.
func (a *access) principal() principal {
	p := principal{access: a, uid: types.NewEntityUID(clientType, types.String(a.client))}
	user := ""
	if !a.user.IsZero() {
		user = a.user.String()
		p.uid = types.NewEntityUID(userType, types.String(user))
	}
	roles := make([]types.EntityUID, len(a.person.Roles))
	for i, name := range a.person.Roles {
		roles[i] = types.NewEntityUID(roleType, types.String(name))
	}
	p.entity = types.Entity{
		UID: p.uid, Parents: types.NewEntityUIDSet(roles...),
		Attributes: types.NewRecord(types.RecordMap{
			"client": types.String(a.client), "user": types.String(user), "type": types.String(a.user.Type), "patient": types.String(a.ownPatient()),
			"encounter": types.String(a.encounter), "location": types.String(a.person.Location),
			"roles": texts(a.person.Roles), "organizations": texts(a.person.Organizations),
			"facilities": texts(a.person.Facilities), "departments": texts(a.person.Departments),
		}),
	}
	return p
}

// ownPatient is the patient in context, or who the user is.
func (a *access) ownPatient() string {
	if a.patient == "" && a.user.Type == "Patient" {
		return a.user.ID
	}
	return a.patient
}

func texts(list []string) types.Set {
	values := make([]types.Value, len(list))
	for i, s := range list {
		values[i] = types.String(s)
	}
	return types.NewSet(values...)
}

// env is all that is known when the question is asked, at the time. Of the
// resource that is its type. A further fact about the request has its place in
// the context.
func (p principal) env(q question, now time.Time) eval.Env {
	on := q.on
	if on == "" {
		on = "System"
	}
	resource := types.NewEntityUID(types.EntityType(on), "")
	entities := types.EntityMap{
		p.uid:    p.entity,
		resource: {UID: resource, Attributes: types.NewRecord(types.RecordMap{"type": types.String(on)})},
	}
	env := eval.Env{Entities: entities, Principal: p.uid, Resource: resource, Context: types.NewRecord(types.RecordMap{
		"now": types.NewDatetime(now), "onShift": types.Boolean(p.access.person.onShift(now)),
		"purpose": types.String(p.access.purpose), "breakGlass": types.Boolean(q.glass),
	})}
	for _, a := range actions {
		entities[a.uid] = types.Entity{UID: a.uid, Parents: a.groups}
		if a.letter == q.letter {
			env.Action = a.uid
		}
	}
	return env
}

// everybody has all that can be known of a principal: policies are checked with
// it.
var everybody = &access{
	client: "app", user: fhir.Ref{Type: "Practitioner", ID: "a"}, patient: "a", encounter: "a", purpose: "TREAT",
	person: Person{
		Roles: []string{"a"}, Organizations: []string{"a"}, Facilities: []string{"a"}, Departments: []string{"a"},
		Location: "a", ShiftStart: 0, ShiftEnd: 1,
	},
}
