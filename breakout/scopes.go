package breakout

import (
	"context"
	"net/http"
)

// scopes is group 11, and of group 13 who may write: each letter of a scope
// allows its interactions only.
func scopes() []Attack {
	fresh := labResult("«fresh»", "«p1»", "laboratory", "x")
	made := put("backend", "Observation/«fresh»", fresh).want(201)
	post := func(who string) Step { return send(who, http.MethodPost, "/Observation", fresh) }
	patch := func(who string) Step {
		return send(who, http.MethodPatch, "/Observation/«fresh»", `[{"op":"add","path":"/language","value":"en"}]`)
	}
	const here = "/Observation/«fresh»"
	no := func(s Step) Step { return s.want(403, 404) }
	return []Attack{
		{ID: "T230", Group: 11, Alone: true, Title: "who may read reads, and no more", Steps: []Step{
			made, get("reader", here).want(200), get("reader", "/Observation?_id=«fresh»").want(200).find("Observation/«fresh»"),
			no(put("reader", "Observation/«fresh»", fresh)), no(post("reader")), no(patch("reader")), no(send("reader", http.MethodDelete, here)),
		}},
		{ID: "T230", Group: 11, Alone: true, Title: "who may write writes, and no more", Steps: []Step{
			made, no(get("writer", here)), no(get("writer", "/Observation?_id=«fresh»")), no(get("writer", here+"/_history")),
			no(get("writer", "/Observation/_history")), no(get("writer", "/_history")),
			no(send("writer", http.MethodPut, "/Observation?_id=«fresh»", fresh)), no(post("writer").with("If-None-Exist", "_id=«fresh»")),
			put("writer", "Observation/«fresh»", fresh).want(200),
		}},
		{ID: "T230", Group: 11, Alone: true, Title: "who may search and write neither reads nor deletes", Steps: []Step{
			made, no(get("finder", here)), no(send("finder", http.MethodDelete, here)),
		}},
		{ID: "T230", Group: 11, Alone: true, Title: "who may read one type reads no other", Steps: []Step{
			made, no(get("billing", here)), no(get("billing", "/Patient/«p1»")), no(get("billing", "/AuditEvent")), get("billing", "/Coverage/«k1»").want(200),
		}},
		{ID: "T230", Group: 11, Alone: true, Title: "who may read the audit trail reads no record", Steps: []Step{
			no(get("auditor", "/Patient/«p1»")), get("auditor", "/AuditEvent?_count=1").want(200),
		}},
		{ID: "T232", Group: 11, Alone: true, Title: "who may read one category reads no other", Steps: []Step{
			made, get("lab", here).want(200), no(get("lab", "/Observation/«o2»")),
		}},
		{ID: "T277", Group: 13, Alone: true, Title: "nobody writes the audit trail", do: writeTrail, needs: []string{"backend", "auditor", "dr1"}},
	}
}

// writeTrail tries to change an entry of the audit trail in every way.
func writeTrail(ctx context.Context, t *Trial) {
	x := t.take(ctx, get("auditor", "/AuditEvent?_count=1").want(200))
	if x == nil {
		return
	}
	b, ok := x.bundle()
	if !ok || len(b.Entry) == 0 {
		t.finding("answer", x, "the auditor sees no entry")
		return
	}
	event, refusal := refOf(b.Entry[0].Resource), []int{403, 404, 405}
	for _, who := range []string{"backend", "dr1", "auditor", "writer"} {
		if t.at["attacker"].actors[who] == nil {
			continue
		}
		for _, s := range []Step{
			put(who, event, `{"resourceType":"AuditEvent"}`), send(who, http.MethodPatch, "/"+event, `[]`), send(who, http.MethodDelete, "/"+event),
			send(who, http.MethodDelete, "/AuditEvent?_id=x"), send(who, http.MethodPost, "/AuditEvent", `{"resourceType":"AuditEvent"}`),
			send(who, http.MethodPost, "/AuditEvent/$purge", `{"resourceType":"Parameters"}`), send(who, http.MethodPut, "/AuditEvent?_id=x", `{"resourceType":"AuditEvent"}`),
		} {
			t.take(ctx, s.want(refusal...))
		}
		t.take(ctx, send(who, http.MethodPost, "", Batch("batch", Ask("DELETE", event), Give("POST", "AuditEvent", `{"resourceType":"AuditEvent"}`))).want(200, 403).refused())
	}
	t.take(ctx, get("auditor", "/"+event).want(200))
}
