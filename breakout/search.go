package breakout

import (
	"context"
	"net/http"
	"slices"
	"strings"
)

// search is group 4: rows, oracles, includes.
func search() []Attack {
	return []Attack{
		{ID: "T076", Group: 4, Title: "no parameter finds what only the victim has", Steps: repeated([]string{
			"Patient?family=«v:name»", "Patient?name=«v:name»", "Patient?name:exact=«v:name»", "Patient?identifier=«v:mrn»",
			"Patient?identifier=urn:mrn|«v:mrn»", "Patient?identifier=«v:ssn»", "Patient?identifier:not=«v:ssn»&family=«v:name»",
			"Patient?telecom=«v:phone»", "Patient?phone=«v:phone»", "Patient?email=«v:email»@example.org",
			"Patient?address=1%20«v:address»%20Street", "Patient?address:contains=«v:address»", "Patient?_tag=«v:tag»", "Patient?_id=«v:id»",
			"Observation?value-string=as%20seen%20on%20«v:date»", "Observation?value-string:contains=«v:date»", "Patient?family=«v:other»",
			"Patient?identifier=mrn|«vmrn»", "Observation?subject=Patient/«v:id»", "Patient?organization.name=«v:contained»",
		}, nothing)},
		{ID: "T077", Group: 4, Title: "_id finds the own only", Steps: []Step{
			get("reader", "/Patient?_id=«only2»").want(200).find(),
			get("reader", "/Patient?_id=«p1»,«only2»,«vid»").want(200).find("Patient/«p1»"),
		}},
		{ID: "T078", Group: 4, Title: "_tag, _source, _profile, _security and _lastUpdated find the own only", Steps: append(repeated([]string{
			"Patient?_tag=«v:tag»", "Patient?_tag=urn:breakout:tag|«v:tag»", "Patient?_profile=http://example.org/«v:tag»", "Patient?_security=«v:tag»", "Patient?_id=«vid»&_lastUpdated=gt2000",
		}, nothing), get("reader", "/Patient?_source=«v:tag»").want(200, 400))},
		{ID: "T080", Group: 4, Title: "chains and _has find the own only", Steps: append(repeated([]string{
			"Observation?subject:Patient.name=«v:name»", "Observation?patient.identifier=mrn|«vmrn»",
			"Patient?_has:Observation:patient:code=http://loinc.org|4548-4&name=«v:name»", "Patient?name:contains=«v:name»",
		}, nothing), get("reader", "/Observation?subject:Patient.name=«a:name»&code=http://loinc.org|4548-4").want(200).find("Observation/«o1»"))},
		{ID: "T081", Group: 4, Alone: true, Title: "a chain through a type outside the scopes never filters by it", Steps: []Step{
			get("billing", "/Coverage?beneficiary:Patient.name=«a:name»").want(403),
			get("lab", "/Observation?subject:Patient.name=«a:name»").want(403),
		}},
		{ID: "T082", Group: 4, Alone: true, Title: "_has through a type outside the scopes never filters by it", Steps: []Step{
			get("finder", "/Patient?_has:Condition:patient:code=x").want(403).same("_has"),
			get("finder", "/Patient?_has:Condition:patient:code=y").want(403).same("_has"),
		}},
		{ID: "T084", Group: 4, Alone: true, Title: "a hidden target is no match", Steps: []Step{
			get("pA", "/Observation?subject:Patient.name=«a:other»").want(200).find(),
			put("backend", "Observation/«fresh»", `{"resourceType":"Observation","id":"«fresh»","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/«patient»"},"performer":[{"reference":"Patient/«p2»"}]}`).want(201),
			get("pA", "/Observation?_id=«fresh»&performer:Patient.name=«a:other»").want(200).find(),
			get("pA", "/Observation?_id=«fresh»&_include=Observation:performer&_include=Observation:subject").want(200).find("Observation/«fresh»", "Patient/«patient»"),
		}},
		{ID: "T086", Group: 4, Alone: true, Title: "includes stay in the compartment", Steps: append([]Step{
			put("backend", "Group/«fresh»", `{"resourceType":"Group","id":"«fresh»","type":"person","actual":true,"member":[{"entity":{"reference":"Patient/«patient»"}},{"entity":{"reference":"Patient/«p2»"}}]}`).want(201),
		}, repeated([]string{
			"/Group?_id=«fresh»&_include=Group:member", "/Group?_id=«fresh»&_include=Group:member&_include:iterate=Patient:general-practitioner",
			"/Group?_id=«fresh»&_include=*", "/Patient?_revinclude=Observation:subject&_revinclude=Group:member",
			"/Patient?_revinclude=*:*", "/Group?_id=«fresh»&_include=Group:member&_revinclude:iterate=Observation:subject",
		}, func(url string) Step { // not every form is supported
			return get("pA", url).want(200, 400).hide("«a:other»", `"id":"«p2»"`, `"id":"«o2»"`, `"id":"«g2»"`)
		})...)},
		{ID: "T087", Also: "T088", Group: 4, Alone: true, Title: "includes of a type outside the scopes are absent", Steps: repeated([]string{
			"/Observation?_id=«o1»&_include=Observation:subject", "/Observation?_id=«o1»&_revinclude=Provenance:target",
		}, func(url string) Step { return get("lab", url).want(200).find("Observation/«o1»") })},
		{ID: "T090", Group: 4, Alone: true, Title: "totals count what is visible", Steps: repeated([]string{"_total=accurate", "_summary=count", "_count=0&_total=accurate", "_total=estimate"}, func(query string) Step {
			return get("pA", "/Patient?_id=«patient»,«p2»&"+query).want(200).counts(1)
		})},
		{ID: "T092", Group: 4, Alone: true, Title: "pages are full, whatever is hidden", do: fullPages, needs: []string{"backend", "pA"}},
		{ID: "T096", Group: 4, Title: "references into another tenant find nothing", Steps: repeated([]string{
			"subject=Patient/«only3»", "subject=«victim»/Patient/«p1»", "subject=http://169.254.169.254/Patient/p1", "subject:identifier=mrn|«vmrn»",
		}, func(query string) Step { return get("reader", "/Observation?"+query).want(200, 400).find() })},
		{ID: "T097", Group: 4, Alone: true, Title: "a compartment of a hidden patient is that of an unknown one", Steps: []Step{
			get("pA", "/Patient/«never»/Observation").want(403, 404).same("compartment"),
			get("pA", "/Patient/«p2»/Observation").same("compartment"),
			get("pA", "/Patient/«never»/*").same("all"),
			get("pA", "/Patient/«p2»/*").same("all"),
		}},
		{ID: "T098", Group: 4, Alone: true, Title: "parameters in two places never widen", Steps: []Step{
			send("pA", http.MethodPost, "/Observation/_search?patient=«patient»", "patient=«p2»").want(200, 400).hide("«a:other»", `"id":"«o2»"`),
		}},
		{ID: "T100", Group: 4, Alone: true, Title: "a search of the system stays in the compartment", Steps: []Step{
			get("pA", "?_type=Patient,Observation&_id=«patient»,«p2»,«mine»,«o2»").want(200, 400).find("Patient/«patient»", "Observation/«mine»"),
		}},
		{ID: "T101", Group: 4, Alone: true, Title: "an unknown parameter never widens", Steps: []Step{
			get("pA", "/Observation?nonsense=1").want(400),
			get("pA", "/Observation?nonsense=1").with("Prefer", "handling=strict").want(400),
			get("pA", "/Observation?_id=«mine»,«o2»&nonsense=1").with("Prefer", "handling=lenient").want(200).show(`"id":"«mine»"`).hide("«a:other»", `"id":"«o2»"`),
		}},
	}
}

// nothing is a search that must find nothing, nor count anything.
func nothing(query string) Step {
	return get("reader", "/"+query+"&_total=accurate").want(200).find()
}

// fullPages turns pages of which half would be hidden.
func fullPages(ctx context.Context, t *Trial) {
	var ids []string
	for i := range 6 {
		id := t.suite.id("page-" + t.vars["value"] + "-" + string(rune('a'+i)))
		ids = append(ids, id)
		t.take(ctx, put("backend", "Basic/"+id, `{"resourceType":"Basic","id":"`+id+`","code":{"text":"x"},"subject":{"reference":"Patient/«`+[]string{"patient", "p2"}[i%2]+`»"}}`).want(201))
	}
	var found []string
	for next := "/Basic?_id=" + strings.Join(ids, ",") + "&_count=2&_sort=-_lastUpdated"; next != ""; {
		x := t.take(ctx, get("pA", next).want(200))
		if x == nil {
			return
		}
		b, ok := x.bundle()
		if !ok || len(b.Entry) == 0 && b.next() != "" {
			t.finding("answer", x, "the answer is no Bundle, or an empty page that is not the last")
			return
		}
		if next = b.next(); next != "" && len(b.Entry) != 2 {
			t.finding("answer", x, "a page before the last has %d entries, want 2", len(b.Entry))
		}
		found = append(found, b.refs()...)
	}
	if want := []string{"Basic/" + ids[0], "Basic/" + ids[2], "Basic/" + ids[4]}; !slices.Equal(slices.Sorted(slices.Values(found)), want) {
		t.finding("answer", nil, "the pages show %d resources, want 3 others", len(found))
	}
}
