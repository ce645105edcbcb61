package store_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/tenant"
)

// governed makes a tenant for policies that tests choose.
func (d *door) governed(t testing.TB, slug string) {
	t.Helper()
	if _, _, err := d.Migrator.Provision(t.Context(), store.NewTenant{Slug: slug, Mode: tenant.Shared}); err != nil {
		t.Fatal(err)
	}
}

func (d *door) choose(t testing.TB, slug, text string) {
	t.Helper()
	c, err := d.Migrator.ProposePolicy(t.Context(), slug, "one", "", text)
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	if _, err := d.Migrator.ApprovePolicy(t.Context(), slug, "two", c.Number); err != nil {
		t.Fatal(err)
	}
	d.Tenants.Forget(slug)
}

// world is what random policies are asked about: patients in and out of care,
// with what is about them.
func (d *door) world(t testing.TB, slug string) (list []fhir.Resource) {
	t.Helper()
	put := func(ref, members string) {
		on, id, _ := strings.Cut(ref, "/")
		list = append(list, d.put(t, slug, ref, "%s", fmt.Sprintf(`{"resourceType":%q,"id":%q,%s}`, on, id, members)))
	}
	label := func(code string) string {
		if code == "" {
			return ""
		}
		return `"meta":{"security":[{"system":"http://l","code":"` + code + `"}]},`
	}
	put("Organization/o", `"name":"o"`)
	put("Practitioner/u", `"active":true`)
	for i := range 6 {
		p := fmt.Sprintf("p%d", i)
		subject := `"subject":{"reference":"Patient/` + p + `"}`
		org := ""
		if i%2 == 0 {
			org = `"managingOrganization":{"reference":"Organization/o"},`
		}
		gp := ""
		if i%3 == 0 {
			gp = `"generalPractitioner":[{"reference":"Practitioner/u"}],`
		}
		put("Patient/"+p, label([]string{"", "R"}[i%2])+org+gp+`"active":true`)
		status := []string{"active", "inactive", "active"}[i%3]
		period := []string{"", `"period":{"end":"2020-01-01"},`, `"period":{"start":"2020-01-01"},`}[i/2]
		until := []string{"", `,"period":{"end":"2020-01-01"}`, `,"period":{"start":"2020-01-01"}`}[(i+i/3)%3]
		put("CareTeam/c"+p, period+`"status":"`+status+`","participant":[{"member":{"reference":"Practitioner/u"}`+until+`}],`+subject)
		put("Encounter/e"+p, `"status":"`+[]string{"in-progress", "finished"}[i%2]+`","class":{"code":"x"},"location":[{"location":{"reference":"Location/w`+fmt.Sprint(i%3)+`"}}],`+
			`"participant":[{"individual":{"reference":"Practitioner/u"}`+until+`}],`+subject)
		put("Observation/o"+p, label([]string{"", "V", "R"}[i%3])+`"status":"final","code":{"text":"x"},"encounter":{"reference":"Encounter/e`+p+`"},`+
			`"category":[{"coding":[{"code":"`+[]string{"laboratory", "vital-signs"}[i%2]+`"}]}],`+subject)
		put("Task/t"+p, `"intent":"order","status":"`+[]string{"requested", "completed"}[i%2]+`","code":{"coding":[{"code":"fraud"}]},"for":{"reference":"Patient/`+p+`"}`)
	}
	return list
}

// refsOf returns the names of the resources.
func refsOf(list []fhir.Resource) []fhir.Ref {
	refs := make([]fhir.Ref, len(list))
	for i, r := range list {
		refs[i] = r.Ref
	}
	return refs
}

// atoms are conditions that random policies are made of.
var atoms = []string{
	`resource.careTeam.contains(principal.user)`, `resource.generalPractitioner.contains(principal.user)`, `resource.encounterStaff.contains(principal.user)`,
	`resource.locations.contains(principal.location)`, `resource.locations.containsAny(principal.facilities)`, `resource.organizations.containsAny(principal.organizations)`,
	`resource.encounters.contains(principal.encounter)`, `resource.patients.contains(principal.patient)`, `resource.labels.contains("R")`,
	`resource.labels.containsAny(["http://l|V", "R"])`, `resource.categories.contains("laboratory")`, `resource.openTasks.contains("fraud")`,
	`resource.id == "p1"`, `["p2", "op3"].contains(resource.id)`, `context.onShift`, `principal.roles.contains("a")`,
	`["Patient", "Observation"].contains(resource.type)`, `resource is Encounter`, `resource.careTeam.containsAll([principal.user, "Practitioner/x"])`, `true`,
}

// draw returns a condition of atoms.
func draw(t *rapid.T, depth int) string {
	switch k := rapid.IntRange(0, 6).Draw(t, "kind"); {
	case depth == 0 || k < 3:
		return rapid.SampledFrom(atoms).Draw(t, "atom")
	case k == 3:
		return "(" + draw(t, depth-1) + " && " + draw(t, depth-1) + ")"
	case k == 4:
		return "(" + draw(t, depth-1) + " || " + draw(t, depth-1) + ")"
	case k == 5:
		return "!(" + draw(t, depth-1) + ")"
	}
	return "(if " + draw(t, depth-1) + " then " + draw(t, depth-1) + " else " + draw(t, depth-1) + ")"
}

// AUTHZ-11, AUTHZ-12: for random policies, scopes, persons, labels and consents, what
// a search finds is what can be read one by one, what each resource is held
// against the policy for, what a history and a record show, what a total counts,
// and what a model in memory says.
func TestWhatAPolicyLetsBeFoundIsWhatItLetsBeRead(t *testing.T) {
	d := openDoor(t)
	const slug = "policy-random"
	d.governed(t, slug)
	all := d.world(t, slug)
	refs := refsOf(all)
	for i := range 20 { // a policy takes a while to come into force
		one := trials.Example(i)
		d.choose(t, slug, one.policy)
		w := newWorld(t, search.Schema{Base: base(slug)}, slices.Concat(all, d.consents(t, slug, i)))
		for _, on := range []fhir.Type{"Patient", "CareTeam", "Encounter", "Observation", "Task", "Organization"} {
			d.agree(t, slug, w, one, on, slices.DeleteFunc(slices.Clone(refs), func(r fhir.Ref) bool { return r.Type != on }))
		}
	}
}

// A trial is a policy and somebody who comes under it.
type trial struct {
	policy string
	token  smart.Token
}

var trials = rapid.Custom(func(t *rapid.T) trial {
	var b strings.Builder
	b.WriteString("@id(\"service\") permit (principal == Client::\"tester\", action, resource);\n")
	for i := range rapid.IntRange(1, 3).Draw(t, "permits") {
		fmt.Fprintf(&b, "@id(\"p%d\") permit (principal, action, resource) when { %s };\n", i, draw(t, 3))
	}
	if rapid.Bool().Draw(t, "forbids") {
		fmt.Fprintf(&b, "@id(\"f\") forbid (principal is User, action, resource) when { %s };\n", draw(t, 3))
	}
	pick := func(name string, list ...string) string { return rapid.SampledFrom(list).Draw(t, name) }
	return trial{b.String(), smart.Token{
		Scope:  pick("scope", "system/*.rs", "user/*.rs", "patient/*.rs", "user/Observation.rs?category=laboratory user/Patient.rs"),
		Client: "tester", User: pick("user", "Practitioner/u", "Practitioner/v"), Patient: pick("patient", "p0", "p1"), Encounter: "ep2",
		Purpose: pick("purpose", "", "TREAT", "HRESCH"),
		Person: smart.Person{
			Roles: []string{pick("role", "a", "b")}, Organizations: []string{"o"}, Facilities: []string{"w1", "w2"}, Location: "w0",
			ShiftEnd: rapid.SampledFrom([]int64{1, 1 << 40}).Draw(t, "shift"),
		},
	}}
})

// agree holds every way to find out what the trial lets be seen against each
// other.
func (d *door) agree(t *testing.T, slug string, w *world, one trial, on fhir.Type, all []fhir.Ref) {
	t.Helper()
	grant := func() *smart.Grant { return d.as(t, slug, one.token) }
	found, total := d.finds(t, grant(), on, "")
	byPatient := found
	if on != "Patient" && on != "Organization" { // all are about one of the six
		byPatient = nil
		for i := range 6 {
			some, n := d.finds(t, grant(), on, fmt.Sprintf("Patient/p%d", i))
			if byPatient = append(byPatient, some...); n != len(some) {
				t.Errorf("%s of p%d: %d counted, %v found", on, i, n, some)
			}
		}
		slices.Sort(byPatient)
	}
	together := d.reads(t, grant(), all...)
	var alone, past []string
	for _, r := range all {
		if _, err := d.db.Read(t.Context(), grant(), r); err == nil {
			alone = append(alone, r.ID)
		}
		err := d.db.View(t.Context(), grant(), func(v *store.View) error {
			_, err := v.Vread(t.Context(), r, 1)
			return err
		})
		if err == nil {
			past = append(past, r.ID)
		}
	}
	var want []string
	model, err := w.met(grant(), on)
	if err != nil && !fhir.IsCode(err, fhir.Forbidden) {
		t.Fatal(err)
	}
	for _, h := range model {
		want = append(want, h.Ref.ID)
	}
	slices.Sort(want)
	if !slices.Equal(found, want) || !slices.Equal(found, alone) || !slices.Equal(together, alone) || !slices.Equal(past, alone) || !slices.Equal(byPatient, alone) || total != len(alone) {
		t.Errorf("%s, scope %s, policy\n%s: found %v of %d, by patient %v, read together %v, alone %v, past %v, the model has %v",
			on, one.token.Scope, one.policy, found, total, byPatient, together, alone, past, want)
	}
}

// finds returns the ids that a search finds, of a patient if that is not "", and how
// many it counts.
func (d *door) finds(t testing.TB, g *smart.Grant, on fhir.Type, patient string) (ids []string, total int) {
	t.Helper()
	if _, err := g.Permit(fhir.SearchType, on); err != nil {
		return nil, 0
	}
	params := []search.Param{{Name: "_count", Value: "100"}, {Name: "_total", Value: "accurate"}}
	if patient != "" {
		params = append(params, search.Param{Name: "patient", Value: patient})
	}
	q, err := search.Parse(on, params, search.Options{})
	if err != nil {
		t.Fatal(err)
	}
	err = d.db.View(t.Context(), g, func(v *store.View) error {
		page, err := v.Search(t.Context(), q)
		if err != nil {
			return err
		}
		for _, r := range page.Matches {
			ids = append(ids, r.Ref.ID)
		}
		total = *page.Total
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(ids)
	return ids, total
}

// reads returns the ids that can be read in one statement.
func (d *door) reads(t testing.TB, g *smart.Grant, refs ...fhir.Ref) (ids []string) {
	t.Helper()
	err := d.db.View(t.Context(), g, func(v *store.View) error {
		found, err := v.ReadAll(t.Context(), refs...)
		for ref := range found {
			ids = append(ids, ref.ID)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(ids)
	return ids
}
