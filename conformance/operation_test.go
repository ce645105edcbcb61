package conformance

import (
	"strings"
	"testing"
	"time"
)

// Group 6 of the breakout suite: operations, and the answers that come later.
func TestOperations(t *testing.T) {
	once(t, "T132 everything of a patient holds nothing of another", func(p *probe) {
		for path := "/Patient/p1/$everything?_count=5"; path != ""; {
			b := p.bundle(p.want(p.get("pA", path), 200))
			for _, ref := range b.refs() {
				if ref == "Patient/p2" || strings.HasSuffix(ref, "/"+hiddenID) || ref == "Observation/o2" {
					p.Errorf("found %s", ref)
				}
			}
			path = b.next()
		}
	})

	once(t, "T132, T134, T140 an operation on what is hidden is one on what never was", func(p *probe) {
		for _, path := range []string{
			"/Patient/ID/$everything", "/Patient/ID/$meta", "/Patient/ID/$graphql?query={id}", "/Patient/ID/_history/1/$meta",
		} {
			p.same(path, p.want(p.get("pA", strings.Replace(path, "ID", "never-was", 1)), 404), p.get("pA", strings.Replace(path, "ID", "p2", 1)))
		}
		p.same("Encounter", p.want(p.get("pA", "/Encounter/never-was/$everything"), 404), p.get("pA", "/Encounter/e2/$everything"))
		p.same("Composition", p.want(p.get("pA", "/Composition/never-was/$document"), 404), p.get("pA", "/Composition/"+hiddenID+"/$document"))
		for _, path := range []string{"/Observation/$lastn?patient=p2", "/Observation/$lastn?patient=never-was"} {
			if b := p.bundle(p.want(p.get("pA", path), 200)); len(b.Entry) > 0 {
				p.Errorf("%s: %v", path, b.refs())
			}
		}
	})

	breakout(t, "T132, T140 an operation on the victim's resource is one on what never was", func(p *probe) {
		for _, path := range []string{"/Patient/ID/$everything", "/Patient/ID/$meta", "/Patient/ID/$graphql?query={id}"} {
			p.same(path, p.want(p.get("backend", strings.Replace(path, "ID", "never-was", 1)), 404),
				p.get("backend", strings.Replace(path, "ID", p.victim.canaries["id"], 1)))
		}
	})

	once(t, "T133 a page of everything is of who asked, and of what", func(p *probe) {
		p.want(p.get("pA", "/Patient/p1/$everything?_type=AuditEvent"), 400)
		next := p.bundle(p.want(p.get("backend", "/Patient/p1/$everything?_count=2"), 200)).next()
		p.want(p.get("pA", next), 400)
		p.want(p.get("backend", strings.Replace(next, "/p1/", "/p2/", 1)), 400)
		p.want(p.get("backend", strings.Replace(next, "/p1/$everything", "", 1)), 400)
	})

	breakout(t, "T137 a match knows nobody of another tenant", func(p *probe) {
		r := p.want(p.send(p.as("backend", "POST", "/Patient/$match",
			`{"resourceType":"Patient","identifier":[{"system":"mrn","value":"V-777-`+p.victim.slug+`"}],"name":[{"family":"Solitary"}]}`)), 200)
		if b := p.bundle(r); len(b.Entry) > 0 {
			p.Errorf("found %v", b.refs())
		}
	})

	breakout(t, "T156, T157 an answer that comes later is of who asked alone", func(p *probe) {
		path := p.later("backend", "/Observation?_count=1")
		for _, method := range []string{"GET", "DELETE"} {
			never := p.want(p.send(p.as("pA", method, "/_async/00000000-0000-4000-8000-000000000000")), 404)
			p.same(method+" by another client", never, p.send(p.as("pA", method, path)))
			theirs := p.want(p.send(p.of(p.victim, "backend", method, "/_async/00000000-0000-4000-8000-000000000000")), 404)
			p.same(method+" in another tenant", theirs, p.send(p.of(p.victim, "backend", method, path)))
		}
		p.want(p.get("backend", path), 200)
		p.want(p.send(p.as("backend", "DELETE", path)), 202)
		p.want(p.get("backend", path), 404)
	})

	once(t, "T138 no user changes security labels", func(p *probe) {
		label := `{"resourceType":"Parameters","parameter":[{"name":"meta","valueMeta":{"security":[{"system":"http://terminology.hl7.org/CodeSystem/v3-Confidentiality","code":"R"}]}}]}`
		for _, id := range []string{"pA", "dr1", "reader"} {
			p.want(p.send(p.as(id, "POST", "/Patient/p1/$meta-add", label)), 403)
			p.want(p.send(p.as(id, "POST", "/Patient/p1/$meta-delete", label)), 403, 200) // 200 takes away nothing
		}
	})
}

// later asks for an answer that comes later, waits for it, and returns where it is.
func (p *probe) later(who, ask string) string {
	p.Helper()
	r := p.want(p.send(p.as(who, "GET", ask).with("Prefer", "respond-async")), 202)
	path, ok := strings.CutPrefix(r.header.Get("Content-Location"), p.attacker.base)
	if !ok {
		p.Fatalf("Content-Location %s", r.header.Get("Content-Location"))
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if r := p.get(who, path); r.status == 200 {
			return path
		} else if p.want(r, 202); time.Now().After(end) {
			p.Fatal("there is no answer")
		}
	}
}
