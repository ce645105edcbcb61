package breakout

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// access is group 3: direct access to objects, versions, history.
func access() []Attack {
	about := []string{"Provenance/v2", "Task/t2", "Group/g2", "List/l2"} // patient p2
	return []Attack{
		{ID: "T057", Group: 3, Title: "an id that all tenants have names the own one", Steps: []Step{
			get("dr1", "/Patient/«p1»").want(200).show("«a:name»"),
			get("dr1", "/Observation/«o1»").want(200).show("«a:note»"),
			get("dr1", "/DocumentReference/«d1»").want(200),
		}},
		{ID: "T058", Group: 3, Title: "ids of the victim are unknown", do: walk, needs: []string{"backend"}},
		{ID: "T060", Group: 3, Title: "a history is of one tenant", do: histories, needs: []string{"backend"}},
		{ID: "T061", Group: 3, Alone: true, Title: "a version from before access was lost is hidden", Steps: []Step{
			put("backend", "Observation/«fresh»", labResult("«fresh»", "«patient»", "laboratory", "first")).want(201),
			get("pA", "/Observation/«fresh»/_history/1").want(200),
			put("backend", "Observation/«fresh»", labResult("«fresh»", "«p2»", "laboratory", "second")).want(200),
			get("pA", "/Observation/«never»/_history/1").want(404).same("version"),
			get("pA", "/Observation/«fresh»/_history/1").same("version"),
			get("pA", "/Observation/«fresh»/_history/2").same("version"),
			get("pA", "/Observation/«never»/_history").same("history"),
			get("pA", "/Observation/«fresh»/_history").same("history"),
			get("pA", "/Observation/_history?_count=1000").want(200).hide("Patient/«p2»"),
			get("pA", "/_history?_count=1000").want(200).hide("Patient/«p2»"),
		}},
		{ID: "T061", Group: 3, Alone: true, Title: "a version from before it was one's own is hidden", Steps: []Step{
			put("backend", "Observation/«fresh»", labResult("«fresh»", "«p2»", "laboratory", "first")).want(201),
			put("backend", "Observation/«fresh»", labResult("«fresh»", "«patient»", "laboratory", "second")).want(200),
			get("pA", "/Observation/«fresh»/_history/2").want(200),
			get("pA", "/Observation/«fresh»/_history/1").want(404),
			get("pA", "/Observation/«fresh»/_history").want(200).hide("Patient/«p2»"),
		}},
		{ID: "T062", Group: 3, Alone: true, Title: "today's scope decides about yesterday's version", Steps: []Step{
			put("backend", "Observation/«fresh»", labResult("«fresh»", "«p1»", "laboratory", "first")).want(201),
			get("lab", "/Observation/«fresh»/_history/1").want(200),
			put("backend", "Observation/«fresh»", labResult("«fresh»", "«p1»", "vital-signs", "second")).want(200),
			get("lab", "/Observation/«fresh»/_history/1").want(404),
			get("lab", "/Observation/«fresh»/_history/2").want(404),
			get("lab", "/Observation?_id=«fresh»").want(200).find(),
		}},
		{ID: "T064", Group: 3, Alone: true, Title: "a condition on a hidden resource is not met", Steps: append(
			pairs([]string{`W/"1"`, `W/"2"`, "*"}, func(tag, id string) Step {
				return get("pA", "/Observation/"+id).with("If-None-Match", tag).want(404).same("If-None-Match " + tag)
			}), get("pA", "/Observation/«mine»").with("If-None-Match", `W/"1"`).want(304))},
		{ID: "T065", Group: 3, Alone: true, Title: "If-Match tells nothing of a hidden resource", needs: []string{"pA PUT", "pA DELETE"}, Steps: slices.Concat(
			pairs([]string{`W/"1"`, `W/"7"`, "*"}, func(tag, id string) Step {
				return put("pA", "Observation/"+id, labResult(id, "«patient»", "laboratory", "x")).with("If-Match", tag).want(404).same("PUT " + tag)
			}),
			pairs([]string{`W/"1"`, `W/"7"`, "*"}, func(tag, id string) Step {
				return send("pA", http.MethodPatch, "/Observation/"+id, `[{"op":"replace","path":"/status","value":"amended"}]`).with("If-Match", tag).want(404).same("PATCH " + tag)
			}),
			pairs([]string{`W/"1"`, `W/"7"`, "*"}, func(tag, id string) Step {
				return send("pA", http.MethodDelete, "/Observation/"+id).with("If-Match", tag).want(404).same("DELETE " + tag)
			}))},
		{ID: "T066", Group: 3, Alone: true, Title: "HEAD and If-Modified-Since tell nothing of a hidden resource", Steps: pairs([]string{http.MethodHead, http.MethodGet}, func(method, id string) Step {
			return send("pA", method, "/Observation/"+id).with("If-Modified-Since", time.Now().UTC().Format(http.TimeFormat)).want(404).same(method)
		})},
		{ID: "T068", Group: 3, Title: "an id that only the victim has is free", Steps: []Step{
			send("backend", http.MethodDelete, "/Patient/«only0»").want(204, 404),
			put("backend", "Patient/«only0»", `{"resourceType":"Patient","id":"«only0»","name":[{"family":"Mine"}]}`).want(201),
			get("reader", "/Patient/«only0»").want(200).show("Mine"),
			send("backend", http.MethodDelete, "/Patient/«only0»").want(200, 204),
		}},
		// Whoever may reach a part of a type only must not learn which ids the
		// rest of it has.
		{ID: "T069", Group: 3, Alone: true, Title: "an update tells hidden ids from free ones to nobody", needs: []string{"pA PUT", "lab PUT"}, Steps: []Step{
			put("pA", "Observation/«fresh»", labResult("«fresh»", "«patient»", "laboratory", "x")).want(403, 404, 405).same("pA"),
			put("pA", "Observation/«o2»", labResult("«o2»", "«patient»", "laboratory", "x")).want(403, 404, 405).same("pA"),
			put("lab", "Observation/«fresh»", labResult("«fresh»", "«p1»", "laboratory", "x")).want(403, 404, 405).same("lab"),
			put("lab", "Observation/«o2»", labResult("«o2»", "«p1»", "laboratory", "x")).want(403, 404, 405).same("lab"),
		}},
		{ID: "T070", Group: 3, Title: "what only the victim has cannot be deleted", Steps: repeated([]string{"«never»", "«only1»", "«vid»"}, func(id string) Step {
			return send("backend", http.MethodDelete, "/Patient/"+id).want(404).same("DELETE")
		})},
		{ID: "T073", Group: 3, Alone: true, Title: "a Binary of a hidden record is hidden", Steps: []Step{
			get("pA", "/Binary/«never»").want(403, 404).same("pA"),
			get("pA", "/Binary/«x2»").same("pA"),
			get("reader", "/Binary/«x2»").want(200),
		}},
		{ID: "T074", Group: 3, Alone: true, Title: "what is said about a hidden patient is hidden", Steps: slices.Concat(
			repeated(about, func(ref string) Step {
				kind, _, _ := strings.Cut(ref, "/")
				return get("pA", "/"+kind+"/«never»").want(403, 404).same(kind)
			}),
			repeated(about, func(ref string) Step {
				kind, id, _ := strings.Cut(ref, "/")
				return get("pA", "/"+kind+"/«"+id+"»").same(kind)
			}),
			repeated(about, func(ref string) Step {
				kind, id, _ := strings.Cut(ref, "/")
				return get("reader", "/"+kind+"/«"+id+"»").want(200)
			}),
			[]Step{get("pA", "/AuditEvent?patient=Patient/«p2»").want(200, 403).find()})},
	}
}

// pairs are steps for each value, of an id that never existed and of one that is
// hidden.
func pairs(values []string, make func(value, id string) Step) []Step {
	var all []Step
	for _, v := range values {
		all = append(all, make(v, "«never»"), make(v, "«o2»"))
	}
	return all
}

// walk asks for every id that only the victim has.
func walk(ctx context.Context, t *Trial) {
	t.MayAlert = append(t.MayAlert, "enumeration")
	t.take(ctx, get("backend", "/Patient/«never»").want(404).same("unknown"))
	t.take(ctx, get("backend", "/Patient/«vid»").want(404).same("unknown"))
	for i := range t.suite.walk {
		t.take(ctx, get("backend", "/Patient/"+t.suite.onlyID(t.at["victim"], i)).want(404).same("unknown"))
	}
}

// histories turns all pages of what happened since the run began.
func histories(ctx context.Context, t *Trial) {
	since := url.QueryEscape(t.suite.began.Format(time.RFC3339))
	for _, path := range []string{"/_history?_since=" + since, "/Patient/_history?_since=" + since, "/Observation/_history?_since=" + since} {
		seen := t.pages(ctx, path+"&_count=250", 100)
		if len(seen) < 2 {
			t.finding("answer", nil, "%s shows %d versions", path, len(seen))
		}
	}
	// One at a time: whatever others write, pages do not stand still.
	if seen := t.pages(ctx, "/Observation/_history?_count=1&_since="+since, 8); len(seen) < 2 {
		t.finding("answer", nil, "one by one the history shows %d versions", len(seen))
	}
}

// pages turns the pages of a history, which must be of the attacker alone, and
// returns which versions are on them, each once.
func (t *Trial) pages(ctx context.Context, path string, most int) map[string]bool {
	seen, base := map[string]bool{}, t.at["attacker"].FHIRBase
	next := base + path
	for n := 0; next != "" && n < most; n++ {
		x := t.take(ctx, get("backend", next).want(200))
		if x == nil {
			return seen
		}
		b, ok := x.bundle()
		if !ok {
			t.finding("answer", x, "the answer is no Bundle")
			return seen
		}
		for _, e := range b.Entry {
			if !strings.HasPrefix(e.FullURL, base+"/") {
				t.finding("answer", x, "an entry is not of the asker's tenant")
			}
			seen[e.FullURL+" "+string(e.Resource)] = true
		}
		next = b.next()
	}
	return seen
}
