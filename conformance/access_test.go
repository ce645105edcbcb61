package conformance

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
)

// Group 3 of the breakout suite: direct access to objects, versions, history.
func TestAccess(t *testing.T) {
	breakout(t, "T057 an id that all tenants have names the own one", func(p *probe) {
		for _, ref := range []string{"Patient/p1", "Observation/o1", "DocumentReference/d1"} {
			p.want(p.get("dr1", "/"+ref), 200)
		}
		r := p.get("dr1", "/Patient/p1")
		if !bytes.Contains(r.body, []byte(p.attacker.canaries["name"])) {
			p.Errorf("not the own record: %s", r)
		}
	})

	// That it alerts once an hour is for cmd/cordon to test: the same
	// client attacks other victims, too.
	breakout(t, "T058 ids of the victim are unknown", func(p *probe) {
		never := p.want(p.get("backend", "/Patient/never-was"), 404)
		for i := range walked {
			r := p.want(p.get("backend", "/Patient/"+p.victim.walkedID(i)), 404)
			if i%100 == 0 {
				p.same("an id of the victim and one that never was", never, r)
			}
		}
		p.same("an id of the victim and one that never was", never, p.get("backend", "/Patient/"+p.victim.canaries["id"]))
		if sys.alertCounts(p)["enumeration"] == 0 {
			p.Errorf("nobody is alerted")
		}
	})

	breakout(t, "T060 a history is of one tenant", func(p *probe) {
		since := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
		for _, path := range []string{
			"/_history", "/Patient/_history", "/_history?_since=" + since, "/Patient/_history?_since=" + since,
			"/Patient/_history?_at=" + time.Now().UTC().Format(time.RFC3339), "/Observation/_history",
		} {
			sep := "?"
			if strings.Contains(path, "?") {
				sep = "&"
			}
			seen := map[string]bool{}
			next := p.attacker.base + path + sep + "_count=250"
			for pages := 0; next != ""; pages++ {
				b := p.bundle(p.send(p.as("backend", "GET", next)))
				for _, e := range b.Entry {
					if !strings.HasPrefix(e.FullURL, p.attacker.base+"/") {
						p.Errorf("%s: an entry of %s", path, e.FullURL)
					}
					seen[refOf(e.Resource)] = true
				}
				next = b.next()
				if pages > 100 {
					p.Fatalf("%s: no end", path)
				}
			}
			if len(seen) < 2 || seen["Patient/v-only-"+p.victim.slug] {
				p.Errorf("%s: %d resources", path, len(seen))
			}
		}
		// One at a time: whatever others write, pages neither skip nor repeat.
		next := p.attacker.base + "/Observation/_history?_count=1"
		var order []string
		for next != "" && len(order) < 8 {
			b := p.bundle(p.send(p.as("backend", "GET", next)))
			if len(b.Entry) > 1 {
				p.Fatalf("%d entries on a page of one", len(b.Entry))
			}
			for _, e := range b.Entry {
				order = append(order, e.FullURL+" "+string(e.Resource))
			}
			next = b.next()
		}
		if slices.Sort(order); len(slices.Compact(order)) < 2 {
			p.Errorf("paging one by one finds %d versions", len(order))
		}
	})

	once(t, "T061 a version from before access was lost is hidden", func(p *probe) {
		id := p.fresh("moved")
		p.want(p.send(p.as("backend", "PUT", "/Observation/"+id, labResult(id, "p1", "laboratory", "first"))), 201)
		p.want(p.get("pA", "/Observation/"+id+"/_history/1"), 200)
		p.want(p.send(p.as("backend", "PUT", "/Observation/"+id, labResult(id, "p2", "laboratory", "second"))), 200)
		never := p.want(p.get("pA", "/Observation/never-was/_history/1"), 404)
		p.same("a version that was one's own", never, p.get("pA", "/Observation/"+id+"/_history/1"))
		p.same("the version that took it away", never, p.get("pA", "/Observation/"+id+"/_history/2"))
		p.same("its history", p.get("pA", "/Observation/never-was/_history"), p.get("pA", "/Observation/"+id+"/_history"))
		for _, path := range []string{"/Observation/_history?_count=1000", "/_history?_count=1000"} {
			for _, e := range p.bundle(p.get("pA", path)).Entry {
				if strings.HasSuffix(e.FullURL, "/Observation/o2") || bytes.Contains(e.Resource, []byte("Patient/p2")) {
					p.Errorf("%s shows patient A %s", path, e.FullURL)
				}
			}
		}
		p.want(p.get("pB", "/Observation/"+id+"/_history/2"), 200)
		p.want(p.get("pB", "/Observation/"+id+"/_history/1"), 404)
	})

	once(t, "T062 today's scope decides about yesterday's version", func(p *probe) {
		id := p.fresh("relabelled")
		p.want(p.send(p.as("backend", "PUT", "/Observation/"+id, labResult(id, "p1", "laboratory", "first"))), 201)
		p.want(p.get("lab", "/Observation/"+id+"/_history/1"), 200)
		p.want(p.send(p.as("backend", "PUT", "/Observation/"+id, labResult(id, "p1", "vital-signs", "second"))), 200)
		p.want(p.get("lab", "/Observation/"+id+"/_history/1"), 404)
		p.want(p.get("lab", "/Observation/"+id+"/_history/2"), 404)
		if b := p.bundle(p.get("lab", "/Observation?_id="+id)); len(b.Entry) != 0 {
			p.Errorf("a search still finds it")
		}
	})

	once(t, "T064 a condition on a hidden resource is not met", func(p *probe) {
		for _, tag := range []string{`W/"1"`, `W/"2"`, "*"} {
			never := p.want(p.send(p.as("pA", "GET", "/Observation/never-was").with("If-None-Match", tag)), 404)
			p.same("If-None-Match "+tag, never, p.send(p.as("pA", "GET", "/Observation/o2").with("If-None-Match", tag)))
		}
		p.want(p.send(p.as("pA", "GET", "/Observation/o1").with("If-None-Match", `W/"1"`)), 304)
	})

	once(t, "T065 If-Match tells nothing of a hidden resource", func(p *probe) {
		for _, method := range []string{"PUT", "PATCH", "DELETE"} {
			for _, tag := range []string{`W/"1"`, `W/"7"`, "*"} {
				send := func(id string) *reply {
					body := ""
					switch method {
					case "PUT":
						body = labResult(id, "p1", "laboratory", "x")
					case "PATCH":
						body = `[{"op":"replace","path":"/status","value":"amended"}]`
					}
					return p.send(p.as("pA", method, "/Observation/"+id, body).with("If-Match", tag))
				}
				never := p.want(send("never-was"), 404)
				p.same(method+" If-Match "+tag, never, send("o2"))
			}
		}
	})

	once(t, "T066 HEAD and If-Modified-Since tell nothing of a hidden resource", func(p *probe) {
		since := time.Now().UTC().Format(http.TimeFormat)
		for _, method := range []string{"HEAD", "GET"} {
			never := p.want(p.send(p.as("pA", method, "/Observation/never-was").with("If-Modified-Since", since)), 404)
			p.same(method, never, p.send(p.as("pA", method, "/Observation/o2").with("If-Modified-Since", since)))
		}
	})

	breakout(t, "T068 an id that only the victim has is free", func(p *probe) {
		for _, id := range []string{"v-only-" + p.victim.slug, "v-kept-" + p.victim.slug} {
			p.want(p.send(p.as("backend", "DELETE", "/Patient/"+id)), 204, 404)
			body := `{"resourceType":"Patient","id":"` + id + `","name":[{"family":"Mine"}]}`
			p.want(p.send(p.as("backend", "PUT", "/Patient/"+id, body)), 201)
			p.want(p.get("reader", "/Patient/"+id), 200)
			p.want(p.send(p.as("backend", "DELETE", "/Patient/"+id)), 204)
		}
	})

	// Whoever may reach a part of a type only must not learn which ids the
	// rest of it has.
	once(t, "T069 an update tells hidden ids from free ones to nobody", func(p *probe) {
		for _, id := range []string{"pA", "lab"} {
			free := p.fresh("free")
			unused := p.send(p.as(id, "PUT", "/Observation/"+free, labResult(free, "p1", "laboratory", "x")))
			taken := p.send(p.as(id, "PUT", "/Observation/o2", labResult("o2", "p1", "laboratory", "x")))
			if unused.status < 300 || taken.status < 300 || unused.status != taken.status {
				p.Errorf("%s: a free id is answered %d, a hidden one %d", id, unused.status, taken.status)
			}
		}
	})

	breakout(t, "T070 what only the victim has cannot be deleted", func(p *probe) {
		never := p.want(p.send(p.as("backend", "DELETE", "/Patient/never-was")), 404)
		p.same("DELETE", never, p.send(p.as("backend", "DELETE", "/Patient/"+p.victim.walkedID(1))))
		p.same("DELETE", never, p.send(p.as("backend", "DELETE", "/Patient/"+p.victim.canaries["id"])))
	})

	once(t, "T073 a Binary of a hidden record is hidden", func(p *probe) {
		never := p.want(p.get("pA", "/Binary/never-was"), 403, 404)
		p.same("Binary", never, p.get("pA", "/Binary/x2"))
		p.same("Binary", p.get("billing", "/Binary/never-was"), p.get("billing", "/Binary/x2"))
		p.want(p.get("reader", "/Binary/x2"), 200)
	})

	once(t, "T074 what is said about a hidden patient is hidden", func(p *probe) {
		for _, ref := range []string{"Provenance/v2", "Consent/c2", "Task/t2", "Subscription/s2", "Group/g2", "List/l2"} {
			kind, _, _ := strings.Cut(ref, "/")
			never := p.want(p.get("pA", "/"+kind+"/never-was"), 403, 404)
			p.same(ref, never, p.get("pA", "/"+ref))
			p.want(p.get("reader", "/"+ref), 200)
		}
		p.want(p.get("dr1", "/Patient/p2"), 200)
		events := p.bundle(p.get("auditor", "/AuditEvent?patient=Patient/p2&_count=1"))
		if len(events.Entry) != 1 {
			p.Fatalf("the audit trail has %d entries about patient B", len(events.Entry))
		}
		never := p.want(p.get("pA", "/AuditEvent/0000000000000001"), 404)
		p.same("AuditEvent", never, p.get("pA", "/"+refOf(events.Entry[0].Resource)))
		own := p.bundle(p.get("pA", "/AuditEvent?patient=Patient/p2"))
		if len(own.Entry) != 0 {
			p.Errorf("patient A finds %d entries about patient B", len(own.Entry))
		}
	})

	// AUTHZ-16
	once(t, "T075 no type leaves the Patient compartment", func(p *probe) {
		cases := 0
		for _, on := range fhir.Types {
			if ofPatientB[on] == "" {
				continue
			}
			cases++
			path := "/" + string(on) + "/"
			never := p.want(p.get("pA", path+"never-was"), 404)
			p.same(path, never, p.get("pA", path+hiddenID))
			p.same(path+"_history/1", p.get("pA", path+"never-was/_history/1"), p.get("pA", path+hiddenID+"/_history/1"))
			p.same(path+"_history", p.get("pA", path+"never-was/_history"), p.get("pA", path+hiddenID+"/_history"))
			for _, query := range []string{"?_id=" + hiddenID, "?_total=accurate", "?_summary=count"} {
				b := p.bundle(p.get("pA", "/"+string(on)+query))
				if slices.Contains(b.refs(), string(on)+"/"+hiddenID) {
					p.Errorf("%s%s finds the record of patient B", on, query)
				}
				if query == "?_id="+hiddenID && (len(b.Entry) > 0 || b.Total != nil && *b.Total > 0) {
					p.Errorf("%s%s counts the record of patient B", on, query)
				}
			}
			if b := p.bundle(p.get("pB", "/"+string(on)+"?_id="+hiddenID)); len(b.Entry) != 1 {
				p.Errorf("%s: patient B does not find what is theirs", on)
			}
			p.want(p.get("pB", path+hiddenID), 200)
		}
		p.Logf("%d types", cases)
	})

	// The types outside the compartment: 403 before any lookup, or public.
	once(t, "a patient reaches no type but those of the record and its surroundings", func(p *probe) {
		around := []fhir.Type{"Patient", "AuditEvent", "Location", "Medication", "Organization", "Practitioner", "PractitionerRole", "Substance", "Device"}
		for _, on := range fhir.Types {
			if ofPatientB[on] != "" || slices.Contains(around, on) {
				continue
			}
			never := p.want(p.get("pA", "/"+string(on)+"/never-was"), 403)
			p.same(string(on), never, p.get("pA", "/"+string(on)+"/x2"))
			p.want(p.get("pA", "/"+string(on)), 403)
		}
		p.want(p.get("pA", "/Practitioner/dr1"), 200)
		p.want(p.get("pA", "/Patient/p2"), 404)
		p.want(p.get("pA", "/Patient/p1"), 200)
	})
}

// Group 4 as far as group 14 and the seeded faults lean on it.
func TestSearch(t *testing.T) {
	breakout(t, "T077 _id finds the own only", func(p *probe) {
		only := p.victim.walkedID(2)
		if b := p.bundle(p.get("reader", "/Patient?_id="+only)); len(b.Entry) != 0 {
			p.Errorf("found %v", b.refs())
		}
		b := p.bundle(p.get("reader", "/Patient?_id=p1,"+only+","+p.victim.canaries["id"]))
		if got := b.refs(); !slices.Equal(got, []string{"Patient/p1"}) {
			p.Errorf("found %v", got)
		}
	})

	breakout(t, "T078 _tag, _source, _profile, _security and _lastUpdated find the own only", func(p *probe) {
		v := p.victim.canaries
		for _, query := range []string{
			"_tag=" + v["tag"], "_tag=http://example.org/tags|" + v["tag"], "_profile=http://example.org/" + v["tag"],
			"_security=" + v["tag"], "_lastUpdated=lt2000",
		} {
			if b := p.bundle(p.get("reader", "/Patient?"+query+"&_total=accurate")); len(b.Entry) != 0 || b.Total == nil || *b.Total != 0 {
				p.Errorf("%s: found %v", query, b.refs())
			}
		}
		p.want(p.get("reader", "/Patient?_source="+v["tag"]), 200, 400)
	})

	breakout(t, "T080 chains and _has find the own only", func(p *probe) {
		name := p.victim.canaries["name"]
		for _, path := range []string{
			"/Observation?subject:Patient.name=" + name, "/Observation?patient.identifier=mrn|V-777-" + p.victim.slug,
			"/Patient?_has:Observation:patient:code=http://loinc.org|4548-4&name=" + name, "/Patient?name=" + name,
			"/Patient?name:contains=" + name[2:12], "/Patient?identifier=mrn|V-777-" + p.victim.slug, "/Patient?phone=" + p.victim.canaries["phone"],
			"/Patient?email=" + p.victim.canaries["email"] + "@example.org", "/Patient?address=" + p.victim.canaries["address"],
		} {
			b := p.bundle(p.get("reader", path+"&_total=accurate"))
			if len(b.Entry) != 0 || b.Total == nil || *b.Total != 0 {
				p.Errorf("%s: found %v", path, b.refs())
			}
		}
		own := p.bundle(p.get("reader", "/Observation?subject:Patient.name="+p.attacker.canaries["name"]))
		if !slices.Contains(own.refs(), "Observation/o1") {
			p.Errorf("the own chain finds %v", own.refs())
		}
	})

	once(t, "T081 a chain through a type outside the scopes never filters by it", func(p *probe) {
		p.want(p.get("billing", "/Coverage?beneficiary:Patient.name="+p.attacker.canaries["name"]), 403)
		p.want(p.get("lab", "/Observation?subject:Patient.name="+p.attacker.canaries["name"]), 403)
	})

	once(t, "T082 _has through a type outside the scopes never filters by it", func(p *probe) {
		hit := p.get("finder", "/Patient?_has:Condition:patient:code=x")
		miss := p.get("finder", "/Patient?_has:Condition:patient:code=y")
		p.want(hit, 403)
		p.same("_has", hit, miss)
	})

	once(t, "T084 a hidden target is no match", func(p *probe) {
		b := p.bundle(p.get("pA", "/Observation?subject:Patient.name="+p.attacker.canaries["other"]))
		if len(b.Entry) != 0 {
			p.Errorf("patient A finds %v by the name of patient B", b.refs())
		}
		id := p.fresh("link")
		p.want(p.send(p.as("backend", "PUT", "/Observation/"+id, `{"resourceType":"Observation","id":"`+id+`","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/p1"},"performer":[{"reference":"Patient/p2"}]}`)), 201)
		b = p.bundle(p.get("pA", "/Observation?_id="+id+"&performer:Patient.name="+p.attacker.canaries["other"]))
		if len(b.Entry) != 0 {
			p.Errorf("patient A learns the name of patient B from a chain")
		}
		b = p.bundle(p.get("pA", "/Observation?_id="+id+"&_include=Observation:performer&_include=Observation:subject"))
		if refs := b.refs(); slices.Contains(refs, "Patient/p2") || !slices.Contains(refs, "Patient/p1") {
			p.Errorf("the includes are %v", refs)
		}
	})

	once(t, "T086 includes stay in the compartment", func(p *probe) {
		id := p.fresh("both")
		p.want(p.send(p.as("backend", "PUT", "/Group/"+id, `{"resourceType":"Group","id":"`+id+`","type":"person","actual":true,"member":[{"entity":{"reference":"Patient/p1"}},{"entity":{"reference":"Patient/p2"}}]}`)), 201)
		for _, path := range []string{
			"/Group?_id=" + id + "&_include=Group:member", "/Group?_id=" + id + "&_include=Group:member&_include:iterate=Patient:general-practitioner",
			"/Group?_id=" + id + "&_include=*", "/Patient?_revinclude=Observation:subject&_revinclude=Group:member",
			"/Patient?_revinclude=*:*", "/Group?_id=" + id + "&_include=Group:member&_revinclude:iterate=Observation:subject",
		} {
			r := p.get("pA", path)
			if r.status == 400 {
				continue // not every form is supported
			}
			for _, ref := range p.bundle(r).refs() {
				if ref == "Patient/p2" || ref == "Observation/o2" || ref == "Group/g2" || strings.HasSuffix(ref, "/"+hiddenID) {
					p.Errorf("%s shows %s", path, ref)
				}
			}
			if bytes.Contains(r.body, []byte(p.attacker.canaries["other"])) {
				p.Errorf("%s shows the record of patient B", path)
			}
		}
	})

	once(t, "T087 T088 includes of a type outside the scopes are absent", func(p *probe) {
		for _, path := range []string{
			"/Observation?_id=o1&_include=Observation:subject", "/Observation?_id=o1&_revinclude=Provenance:target",
		} {
			b := p.bundle(p.get("lab", path))
			if !slices.Equal(b.refs(), []string{"Observation/o1"}) {
				p.Errorf("%s shows %v", path, b.refs())
			}
		}
	})

	once(t, "T090 totals count what is visible", func(p *probe) {
		for _, query := range []string{"_total=accurate", "_summary=count", "_count=0&_total=accurate", "_total=estimate"} {
			all, own := p.bundle(p.get("reader", "/Patient?"+query)), p.bundle(p.get("pA", "/Patient?"+query))
			if all.Total != nil && *all.Total < walked {
				p.Errorf("%s: the reader counts %d", query, *all.Total)
			}
			if own.Total != nil && *own.Total != 1 {
				p.Errorf("%s: patient A counts %d patients", query, *own.Total)
			}
		}
	})

	once(t, "T092 pages are full, whatever is hidden", func(p *probe) {
		ids := ""
		for i := range 6 {
			id := p.fresh("page")
			subject := []string{"p1", "p2"}[i%2]
			p.want(p.send(p.as("backend", "PUT", "/Basic/"+id, `{"resourceType":"Basic","id":"`+id+`","code":{"text":"x"},"subject":{"reference":"Patient/`+subject+`"}}`)), 201)
			ids += "," + id
		}
		found, next := 0, p.attacker.base+"/Basic?_id="+ids[1:]+"&_count=2&_sort=-_lastUpdated"
		for next != "" {
			b := p.bundle(p.send(p.as("pA", "GET", next)))
			if next = b.next(); next != "" && len(b.Entry) != 2 {
				p.Errorf("a page of %d before the last", len(b.Entry))
			}
			found += len(b.Entry)
		}
		if found != 3 {
			p.Errorf("patient A finds %d of 3", found)
		}
	})

	breakout(t, "T096 references into another tenant find nothing", func(p *probe) {
		for _, query := range []string{
			"subject=Patient/" + p.victim.walkedID(3), "subject=" + p.victim.base + "/Patient/p1", "subject=http://169.254.169.254/Patient/p1",
			"subject:identifier=mrn|V-777-" + p.victim.slug,
		} {
			r := p.get("reader", "/Observation?"+query)
			if r.status == 400 {
				continue
			}
			if b := p.bundle(r); len(b.Entry) != 0 {
				p.Errorf("%s: found %v", query, b.refs())
			}
		}
	})

	once(t, "T097 a compartment of a hidden patient is that of an unknown one", func(p *probe) {
		never := p.want(p.get("pA", "/Patient/never-was/Observation"), 403, 404)
		p.same("the compartment", never, p.get("pA", "/Patient/p2/Observation"))
		p.same("all of the compartment", p.get("pA", "/Patient/never-was/*"), p.get("pA", "/Patient/p2/*"))
	})

	once(t, "T098 parameters in two places never widen", func(p *probe) {
		r := p.send(p.as("pA", "POST", "/Observation/_search?patient=p1", "patient=p2"))
		if r.status != 400 {
			for _, ref := range p.bundle(r).refs() {
				if ref == "Observation/o2" || ref == "Observation/"+hiddenID {
					p.Errorf("found %s", ref)
				}
			}
		}
	})

	once(t, "T100 a search of the system stays in the compartment", func(p *probe) {
		b := p.bundle(p.get("pA", "?_type=Patient,Observation&_count=1000"))
		for _, ref := range b.refs() {
			if ref == "Patient/p2" || ref == "Observation/o2" || strings.HasSuffix(ref, "/"+hiddenID) {
				p.Errorf("found %s", ref)
			}
		}
		if len(b.Entry) < 2 {
			p.Errorf("found %v", b.refs())
		}
	})

	once(t, "T101 an unknown parameter never widens", func(p *probe) {
		p.want(p.get("pA", "/Observation?nonsense=1"), 400)
		p.want(p.send(p.as("pA", "GET", "/Observation?nonsense=1").with("Prefer", "handling=strict")), 400)
		b := p.bundle(p.send(p.as("pA", "GET", "/Observation?nonsense=1&_count=1000").with("Prefer", "handling=lenient")))
		for _, ref := range b.refs() {
			if ref == "Observation/o2" || ref == "Observation/"+hiddenID {
				p.Errorf("found %s", ref)
			}
		}
	})

	breakout(t, "T076 no parameter finds what only the victim has", func(p *probe) {
		cases := p.searchVictimsValues()
		p.Logf("%d searches", cases)
	})
}

// searchVictimsValues searches by each place's value of the victim.
func (p *probe) searchVictimsValues() (cases int) {
	p.Helper()
	v := p.victim.canaries
	for _, query := range []string{
		"Patient?family=" + v["name"], "Patient?name=" + v["name"], "Patient?name:exact=" + v["name"], "Patient?identifier=" + v["mrn"],
		"Patient?identifier=urn:mrn|" + v["mrn"], "Patient?identifier=" + v["ssn"], "Patient?identifier:not=" + v["ssn"] + "&family=" + v["name"],
		"Patient?telecom=" + v["phone"], "Patient?phone=" + v["phone"], "Patient?email=" + v["email"] + "@example.org",
		"Patient?address=1 " + v["address"] + " Street", "Patient?address:contains=" + v["address"], "Patient?_tag=" + v["tag"], "Patient?_id=" + v["id"],
		"Observation?value-string=as seen on " + v["date"], "Observation?value-string:contains=" + v["date"], "Patient?family=" + v["other"],
		"Patient?identifier=mrn|V-777-" + p.victim.slug, "Observation?subject=Patient/" + v["id"], "Patient?organization.name=" + v["contained"],
	} {
		cases++
		path, values, _ := strings.Cut(query, "?")
		name, value, _ := strings.Cut(values, "=")
		if strings.Contains(value, "&") {
			continue
		}
		r := p.send(p.as("reader", "GET", fmt.Sprintf("/%s?%s=%s&_total=accurate", path, name, strings.ReplaceAll(value, " ", "%20"))))
		if b := p.bundle(r); len(b.Entry) != 0 || b.Total == nil || *b.Total != 0 {
			p.Errorf("%s finds %v", query, b.refs())
		}
	}
	return cases
}

// fresh returns an id that nothing has.
func (p *probe) fresh(word string) string {
	return fmt.Sprintf("%s-%d", word, requests.Add(1))
}

// labResult is an Observation about the patient.
func labResult(id, patient, category, text string) string {
	return fmt.Sprintf(`{"resourceType":"Observation","id":%q,"status":"final","category":[{"coding":[{"code":%q}]}],"code":{"text":%q},"subject":{"reference":"Patient/%s"}}`,
		id, category, text, patient)
}
