package store

import (
	"context"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
)

// An Access is an entry of the audit trail, with the names of who it tells of:
// of the user, their organization and the place they were at. A name is "" if it
// is not known, or not to whoever asks.
type Access struct {
	audit.Entry
	Who, Organization, Site string
}

// Accesses names who entries tell of, as far as the Grant may read it.
func (v *View) Accesses(ctx context.Context, entries []audit.Entry) ([]Access, error) {
	var refs []fhir.Ref
	seen := map[fhir.Ref]bool{}
	list := make([]Access, len(entries))
	for i, e := range entries {
		list[i] = Access{Entry: e}
		for _, ref := range list[i].refs() {
			if ref.ID != "" && !seen[ref] {
				seen[ref], refs = true, append(refs, ref)
			}
		}
	}
	names, err := v.Names(ctx, refs...)
	if err != nil {
		return nil, err
	}
	for i := range list {
		of := list[i].refs()
		list[i].Who, list[i].Organization, list[i].Site = names[of[0]], names[of[1]], names[of[2]]
	}
	return list, nil
}

// Names returns what people, organizations and places are called, as far as the
// Grant may read it.
func (v *View) Names(ctx context.Context, refs ...fhir.Ref) (map[fhir.Ref]string, error) {
	found, err := v.ReadAll(ctx, refs...)
	if err != nil {
		return nil, err
	}
	names := make(map[fhir.Ref]string, len(found))
	for ref, r := range found {
		names[ref] = nameOf(r)
	}
	return names, nil
}

// refs are the user, the organization and the place, zero if unknown.
func (a *Access) refs() (refs [3]fhir.Ref) {
	if user, err := fhir.ParseRef(a.Agent.User); err == nil && user.Type.Known() && fhir.ValidID(user.ID) {
		refs[0] = user
	}
	if fhir.ValidID(a.Agent.Organization) {
		refs[1] = fhir.Ref{Type: "Organization", ID: a.Agent.Organization}
	}
	if fhir.ValidID(a.Agent.Site) {
		refs[2] = fhir.Ref{Type: "Location", ID: a.Agent.Site}
	}
	return refs
}

// nameOf returns the name of a person, an organization or a place.
func nameOf(r fhir.Resource) string {
	var of struct {
		Name any `json:"name"`
	}
	if len(r.Body) == 0 || json.Unmarshal(r.Body, &of) != nil {
		return ""
	}
	switch name := of.Name.(type) {
	case string:
		return name
	case []any:
		for _, one := range name {
			if text := personName(one); text != "" {
				return text
			}
		}
	}
	return ""
}

// personName spells a HumanName.
// https://hl7.org/fhir/R4/datatypes.html#HumanName
func personName(name any) string {
	parts, _ := name.(map[string]any)
	if text, _ := parts["text"].(string); text != "" {
		return text
	}
	var words []string
	given, _ := parts["given"].([]any)
	family, _ := parts["family"].(string)
	for _, one := range append(given, family) {
		if text, _ := one.(string); text != "" {
			words = append(words, text)
		}
	}
	return strings.Join(words, " ")
}
