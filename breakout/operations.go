package breakout

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// operations is group 6, and what of groups 7 and 8 is asked for by an operation.
func operations() []Attack {
	return []Attack{
		{ID: "T132", Group: 6, Alone: true, Title: "everything of a patient holds nothing of another", do: everything, needs: []string{"pA"}},
		{ID: "T134", Also: "T140", Group: 6, Alone: true, Title: "an operation on what is hidden is one on what never was", Steps: []Step{
			get("pA", "/Patient/«never»/$everything").want(404).same("everything"), get("pA", "/Patient/«p2»/$everything").same("everything"),
			get("pA", "/Patient/«never»/$meta").want(404).same("meta"), get("pA", "/Patient/«p2»/$meta").same("meta"),
			get("pA", "/Patient/«never»/$graphql?query={id}").want(404).same("graphql"), get("pA", "/Patient/«p2»/$graphql?query={id}").same("graphql"),
			get("pA", "/Encounter/«never»/$everything").want(404).same("encounter"), get("pA", "/Encounter/«e2»/$everything").same("encounter"),
			get("pA", "/Patient/«never»/_history/1/$meta").want(404).same("version"), get("pA", "/Patient/«p2»/_history/1/$meta").same("version"),
			get("pA", "/Composition/«never»/$document").want(404).same("document"), get("pA", "/Composition/«c2»/$document").same("document"),
			get("pA", "/ViewDefinition/observation_labs/$viewdefinition-run?patient=Patient/«never»").want(400).same("view"),
			get("pA", "/ViewDefinition/observation_labs/$viewdefinition-run?patient=Patient/«p2»").same("view"),
			get("pA", "/Observation/$lastn?patient=«p2»").want(200).find(), get("pA", "/Observation/$lastn?patient=«never»").want(200).find(),
		}},
		{ID: "T132", Also: "T140", Group: 6, Title: "an operation on the victim's resource is one on what never was", Steps: []Step{
			get("backend", "/Patient/«never»/$everything").want(404).same("everything"), get("backend", "/Patient/«vid»/$everything").same("everything"),
			get("backend", "/Patient/«never»/$meta").want(404).same("meta"), get("backend", "/Patient/«vid»/$meta").same("meta"),
			get("backend", "/Patient/«never»/$graphql?query={id}").want(404).same("graphql"), get("backend", "/Patient/«vid»/$graphql?query={id}").same("graphql"),
		}},
		{ID: "T133", Group: 6, Alone: true, Title: "a page of everything is of who asked, and of what", do: pagesOfEverything, needs: []string{"backend", "pA"}},
		{ID: "T137", Group: 6, Title: "a match knows nobody of another tenant", Steps: []Step{
			send("backend", http.MethodPost, "/Patient/$match", `{"resourceType":"Patient","identifier":[{"system":"mrn","value":"«vmrn»"}],"name":[{"family":"«v:name»"}]}`).want(200).find(),
		}},
		{ID: "T138", Group: 6, Alone: true, Title: "no user changes security labels", Steps: repeated([]string{"pA", "dr1", "reader"}, func(who string) Step {
			return send(who, http.MethodPost, "/Patient/«p1»/$meta-add",
				`{"resourceType":"Parameters","parameter":[{"name":"meta","valueMeta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"R"}]}}]}`).want(403, 404)
		})},
		{ID: "T160", Group: 8, Title: "no export of another tenant begins", Steps: []Step{
			get("backend", "«victim»/$export").with("Prefer", "respond-async", "Accept", "application/fhir+json").want(403).same("tenant").alert(CrossTenant),
			get("backend", "«nowhere»/$export").with("Prefer", "respond-async", "Accept", "application/fhir+json").want(403).same("tenant").alert(CrossTenant),
		}},
	}
}

// everything turns the pages of what there is of pA's own patient.
func everything(ctx context.Context, t *Trial) {
	next := "/Patient/«patient»/$everything?_count=50"
	for n := 0; next != "" && n < 100; n++ {
		x := t.take(ctx, get("pA", next).want(200).hide("«a:other»", `"id":"«p2»"`, `"id":"«o2»"`))
		if x == nil {
			return
		}
		b, ok := x.bundle()
		if !ok {
			t.finding("answer", x, "the answer is no Bundle")
			return
		}
		next = b.next()
	}
}

// pagesOfEverything turns a page as another, for another patient, and as that of
// another interaction.
func pagesOfEverything(ctx context.Context, t *Trial) {
	t.take(ctx, get("pA", "/Patient/«patient»/$everything?_type=AuditEvent").want(400))
	t.take(ctx, get("backend", "/Patient/«p1»/$everything?_count=2").want(200).keep("page"))
	t.take(ctx, get("pA", "«page»").want(400))
	t.take(ctx, get("backend", strings.Replace(t.vars["page"], t.vars["p1"], t.vars["p2"], 1)).want(400))
	t.take(ctx, get("backend", strings.Replace(t.vars["page"], t.vars["p1"]+"/$everything", "", 1)).want(400))
}

// later asks for an answer that comes later, waits for it, and returns where it is.
func (t *Trial) later(ctx context.Context, who, ask string) string {
	x := t.take(ctx, get(who, ask).with("Prefer", "respond-async").want(202))
	if x == nil || x.Status != http.StatusAccepted {
		return ""
	}
	path, ok := strings.CutPrefix(x.Header.Get("Content-Location"), t.at["attacker"].FHIRBase)
	if !ok {
		t.finding("answer", x, "the answer is to come from another tenant")
		return ""
	}
	for range 300 {
		if x = t.take(ctx, get(who, path).want(200, 202)); x == nil || x.Status == http.StatusOK {
			return path
		}
		if sleep(ctx, 200*time.Millisecond) != nil {
			return ""
		}
	}
	t.finding("answer", x, "there is no answer")
	return ""
}

// laterAnswers asks for an answer that comes later as others than who asked.
func laterAnswers(ctx context.Context, t *Trial) {
	const unknown = "/_async/00000000-0000-4000-8000-000000000000"
	path := t.later(ctx, "backend", "/Observation?_id=«o1»")
	if path == "" {
		return
	}
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		for _, who := range []string{"reader", "victim:backend"} {
			p, _ := t.of(who)
			t.take(ctx, send(who, method, p.FHIRBase+unknown).want(404).same(method+who))
			t.take(ctx, send(who, method, p.FHIRBase+path).same(method+who))
		}
	}
	t.take(ctx, get("backend", path).want(200))
	t.take(ctx, send("backend", http.MethodDelete, path).want(202))
	t.take(ctx, get("backend", path).want(404))
}
