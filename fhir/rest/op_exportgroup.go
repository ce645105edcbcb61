package rest

import (
	"context"
	"slices"
	"strings"

	"github.com/cordon-fhir/cordon/bulk"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/store"
)

// A group is exported as it was when the export was asked for: with the members
// that it names, or with those who meet what it asks of them. What cannot be told
// of it is an error, never a group of nobody.
// https://hl7.org/fhir/R4/group-definitions.html

// A pinned group is what an export knows of its group.
type pinned struct {
	Version int64 `json:"version"`
	// Members are the ids of the patients who were in it, in order.
	Members []string `json:"members"`
}

// ofGroup narrows the export to the members of its group, if it is of one. The group
// is as it was at, or as it is now if that is nil; it must be there to be seen.
func (c *call) ofGroup(ctx context.Context, at *pinned) (*pinned, error) {
	if c.req.group.IsZero() {
		return nil, nil
	}
	var group fhir.Resource
	err := c.DB.View(ctx, c.grant.Entry(), func(v *store.View) (err error) {
		if at == nil {
			group, err = v.Read(ctx, c.req.group)
		} else {
			group, err = v.Vread(ctx, c.req.group, at.Version)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if at == nil {
		m := &membership{call: c, seen: map[string]bool{c.req.group.ID: true}}
		at = &pinned{Version: group.Version}
		if at.Members, err = m.of(ctx, group.Body); err != nil {
			return nil, err
		}
	}
	if at.Members == nil {
		at.Members = []string{} // nil would be everybody
	}
	e := c.req.export
	for _, id := range e.Patients {
		if _, found := slices.BinarySearch(at.Members, id); !found {
			return nil, notPatients()
		}
	}
	if e.Patients == nil {
		e.Patients = at.Members
	}
	return at, nil
}

// maxGroups bounds the groups that are in a group.
const maxGroups = 100

// A membership finds out who is in a group.
type membership struct {
	*call
	seen map[string]bool // the groups that were read
}

// of returns the ids of the patients who are in the group, in order.
func (m *membership) of(ctx context.Context, group []byte) ([]string, error) {
	if t := text(member(group, "type")); t != "person" && t != "animal" {
		return nil, fhir.Errorf(fhir.NotSupported, "a group of patients is exported, of the type person or animal")
	}
	named, err := m.named(ctx, group)
	if err != nil {
		return nil, err
	}
	traits, err := m.traits(group)
	if err != nil {
		return nil, err
	}
	switch {
	case len(traits) > 0:
		return m.meeting(ctx, named, traits)
	case named == nil && string(member(group, "actual")) != "true":
		return nil, fhir.Errorf(fhir.NotSupported, "the group does not say who is in it: it has no member, no characteristic and no member-filter")
	case named == nil:
		return []string{}, nil
	}
	return named, nil
}

// named returns the patients whom the group names and those in the groups that it
// names, in order, and nil if it names nobody at all. Who is inactive, or whose
// period has ended, is not in it.
// https://hl7.org/fhir/R4/group-definitions.html#Group.member
func (m *membership) named(ctx context.Context, group []byte) (ids []string, err error) {
	elements(member(group, "member"), func(b []byte) bool {
		if ids == nil {
			ids = []string{}
		}
		_, end, notDate := span(text(member(member(b, "period"), "end")))
		if string(member(b, "inactive")) == "true" || notDate == nil && !end.After(m.Now()) {
			return true
		}
		name := strings.TrimPrefix(text(member(member(b, "entity"), "reference")), m.req.base+"/")
		name, _, _ = strings.Cut(name, "/_history/")
		switch ref, notRef := fhir.ParseRef(name); {
		case notRef != nil:
		case ref.Type == "Patient":
			ids = append(ids, ref.ID)
		case ref.Type == "Group":
			var more []string
			more, err = m.inside(ctx, ref)
			ids = append(ids, more...)
		}
		return err == nil
	})
	slices.Sort(ids)
	return slices.Compact(ids), err
}

// inside returns the patients in a group that is in the group, each group once.
func (m *membership) inside(ctx context.Context, ref fhir.Ref) ([]string, error) {
	if m.seen[ref.ID] {
		return nil, nil
	}
	if m.seen[ref.ID] = true; len(m.seen) > maxGroups {
		return nil, fhir.Errorf(fhir.TooCostly, "there are more than %d groups in the group", maxGroups)
	}
	var group fhir.Resource
	err := m.DB.View(ctx, m.grant.Entry(), func(v *store.View) (err error) {
		group, err = v.Read(ctx, ref)
		return err
	})
	if fhir.IsCode(err, fhir.NotFound) || fhir.IsCode(err, fhir.Deleted) {
		return nil, fhir.Errorf(fhir.NotSupported, "the group has a group in it that is not known")
	}
	if err != nil {
		return nil, err
	}
	return m.of(ctx, group.Body)
}

// A trait is what a group asks of its members: that something in their record is
// found by the search or, to exclude, that nothing is.
type trait struct {
	where   *search.Query
	exclude bool
}

// traits returns all that the group asks of its members.
func (m *membership) traits(group []byte) (list []trait, err error) {
	elements(member(group, "modifierExtension"), func(b []byte) bool {
		var a trait
		a.where, err = m.filter(b)
		list = append(list, a)
		return err == nil
	})
	if err != nil || string(member(group, "actual")) == "true" {
		return list, err // its characteristics only say what its members have in common
	}
	elements(member(group, "characteristic"), func(b []byte) bool {
		var a trait
		a, err = m.characteristic(b)
		list = append(list, a)
		return err == nil
	})
	return list, err
}

// memberFilter is the extension by which a group says who is in it.
// https://hl7.org/fhir/uv/bulkdata/STU3/en/StructureDefinition-bulk-cohort-group.html
const memberFilter = "http://hl7.org/fhir/uv/bulkdata/StructureDefinition/member-filter"

// filter reads a member-filter.
func (m *membership) filter(extension []byte) (*search.Query, error) {
	expression := member(extension, "valueExpression")
	name, query, found := strings.Cut(text(member(expression, "expression")), "?")
	switch {
	case text(member(extension, "url")) != memberFilter:
		return nil, fhir.Errorf(fhir.NotSupported, "the group has a modifier extension that is not understood")
	case text(member(expression, "language")) != "application/x-fhir-query" || !found || !fhir.Type(name).Known():
		return nil, fhir.Errorf(fhir.NotSupported, "a member-filter of the group is no application/x-fhir-query of one type")
	}
	params, err := search.ParseQuery(query)
	if err != nil {
		return nil, err
	}
	return m.found(fhir.Type(name), "a member-filter of the group", params)
}

// found reads a search that the group holds.
func (m *membership) found(t fhir.Type, what string, params []search.Param) (*search.Query, error) {
	if !bulk.InRecords(t) || slices.Contains(bulk.Beside, t) {
		return nil, fhir.Errorf(fhir.NotSupported, "%s is of a type that is in no patient's record", what)
	}
	for _, p := range params {
		if name, _, _ := strings.Cut(p.Name, ":"); slices.Contains(notCriteria, name) {
			return nil, fhir.Errorf(fhir.NotSupported, "%s holds what chooses no resources", what)
		}
	}
	q, err := search.Parse(t, params, m.req.strict())
	if err != nil {
		return nil, err
	}
	if everything(q.Where) {
		return nil, fhir.Errorf(fhir.NotSupported, "%s chooses nobody: it holds no criteria", what)
	}
	return q, nil
}

// characteristic reads a trait that members have, or lack: their gender, or what was
// observed of them, and when.
// https://hl7.org/fhir/R4/group-definitions.html#Group.characteristic
func (m *membership) characteristic(c []byte) (a trait, err error) {
	const what = "a characteristic of the group"
	a.exclude = string(member(c, "exclude")) == "true"
	value, period := member(c, "valueCodeableConcept"), member(c, "period")
	if gender := genderOf(value); gender != "" && period == nil {
		a.where, err = m.found("Patient", what, []search.Param{{Name: "gender", Value: gender}})
		return a, err
	}
	code := codings(member(c, "code"))
	params := []search.Param{{Name: "code", Value: code}, {Name: "status:not", Value: "entered-in-error"}}
	switch {
	case code == "":
		return a, fhir.Errorf(fhir.NotSupported, "%s has no code", what)
	case codings(value) != "":
		params = append(params, search.Param{Name: "value-concept", Value: codings(value)})
	case member(c, "valueQuantity") != nil:
		params, err = measured(params, "", member(c, "valueQuantity"))
	case member(c, "valueRange") != nil:
		if params, err = measured(params, "ge", member(member(c, "valueRange"), "low")); err == nil {
			params, err = measured(params, "le", member(member(c, "valueRange"), "high"))
		}
		if err == nil && len(params) == 2 {
			err = untold()
		}
	default:
		err = untold()
	}
	if err != nil {
		return a, err
	}
	for prefix, end := range map[string]string{"ge": "start", "le": "end"} {
		if at := text(member(period, end)); at != "" {
			params = append(params, search.Param{Name: "date", Value: prefix + at})
		}
	}
	a.where, err = m.found("Observation", what, params)
	return a, err
}

func untold() error {
	return fhir.Errorf(fhir.NotSupported, "a characteristic of the group is none that can be told: a gender, or the code of an Observation with the concept, quantity or range that is its value")
}

// genderOf returns the code of an administrative gender, "" for any other concept.
func genderOf(concept []byte) (code string) {
	elements(member(concept, "coding"), func(b []byte) bool {
		if text(member(b, "system")) == "http://hl7.org/fhir/administrative-gender" {
			code = escapeValue(text(member(b, "code")))
		}
		return code == ""
	})
	return code
}

// codings returns the codings of a concept, any of which matches.
func codings(concept []byte) string {
	var list []string
	elements(member(concept, "coding"), func(b []byte) bool {
		if code := text(member(b, "code")); code != "" {
			list = append(list, escapeValue(text(member(b, "system")))+"|"+escapeValue(code))
		}
		return true
	})
	return strings.Join(list, ",")
}

// quantityPrefixes are those of a search by the comparators of a Quantity.
var quantityPrefixes = map[string]string{"": "", "<": "lt", "<=": "le", ">=": "ge", ">": "gt"}

// measured adds a condition on a quantity, unless there is none.
func measured(params []search.Param, prefix string, quantity []byte) ([]search.Param, error) {
	if quantity == nil {
		return params, nil
	}
	own, known := quantityPrefixes[text(member(quantity, "comparator"))]
	number := string(member(quantity, "value"))
	if !known || own != "" && prefix != "" || number == "" {
		return nil, untold()
	}
	unit := text(member(quantity, "code"))
	if unit == "" {
		unit = text(member(quantity, "unit"))
	}
	value := prefix + own + number
	if unit != "" {
		value += "|" + escapeValue(text(member(quantity, "system"))) + "|" + escapeValue(unit)
	}
	return append(params, search.Param{Name: "value-quantity", Value: value}), nil
}

// meeting returns those of the patients, of whom nil is anybody, who meet all that is
// asked, as far as the client may see what says so.
func (m *membership) meeting(ctx context.Context, of []string, all []trait) (ids []string, err error) {
	ids = of
	if ids == nil && !slices.ContainsFunc(all, func(a trait) bool { return !a.exclude }) {
		if ids, err = bulk.Cohort(ctx, m.DB, m.grant.Entry(), "Patient", nil, nil); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(all, func(a, b trait) int { // who is left out is known once somebody is in
		switch {
		case a.exclude == b.exclude:
			return 0
		case b.exclude:
			return -1
		}
		return 1
	})
	for _, a := range all {
		found, err := bulk.Cohort(ctx, m.DB, m.grant.Entry(), a.where.Type, a.where, ids)
		if err != nil {
			return nil, err
		}
		if !a.exclude {
			ids = found
			continue
		}
		ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool {
			_, out := slices.BinarySearch(found, id)
			return out
		})
	}
	return ids, nil
}
