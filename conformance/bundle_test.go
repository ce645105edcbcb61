package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	attacks "github.com/cordon-fhir/cordon/breakout"
)

// Group 5 of the breakout suite: Bundles, conditional interactions,
// references and patches.
func TestBundles(t *testing.T) {
	outside(t, 5)

	once(t, "T110 a batch of 500 shows what is visible and audits what is not", func(p *probe) {
		var entries []string
		for i := range 250 {
			entries = append(entries, attacks.Ask("GET", "Observation/o1"), attacks.Ask("GET", []string{"Observation/o2", "Patient/p2", "Patient/never-was"}[i%3]))
		}
		b := p.bundle(p.send(p.as("pA", "POST", "", attacks.Batch("batch", entries...))))
		for i, status := range b.statuses() {
			if want := []string{"200", "404"}[i%2]; status != want {
				p.Fatalf("entry %d is answered %s, want %s", i, status, want)
			}
		}
		hidden, never := b.Entry[1].Response.Outcome, b.Entry[5].Response.Outcome
		if !bytes.Equal(hidden, never) {
			p.Errorf("a hidden entry and one that never was differ: %s %s", hidden, never)
		}
		if n := p.linked(p.attacker); n != 500 {
			p.Errorf("%d linked entries in the audit trail, want 500", n)
		}
		if n := p.linkedWith(p.attacker, 4); n != 250 {
			p.Errorf("%d linked entries say that they failed, want 250", n)
		}
	})
	once(t, "T121 a contained resource is part of its container", func(p *probe) {
		id := p.fresh("container")
		p.want(p.send(p.as("pA", "PUT", "/Observation/"+id, `{"resourceType":"Observation","id":"`+id+`","status":"final","code":{"text":"x"},"contained":[{"resourceType":"Patient","id":"p2"}],"subject":{"reference":"#p2"}}`)), 403, 404, 422)
		p.want(p.send(p.as("backend", "PUT", "/Observation/"+id, `{"resourceType":"Observation","id":"`+id+`","status":"final","code":{"text":"x"},"contained":[{"resourceType":"Patient","resourceType":"Practitioner","id":"x"}],"subject":{"reference":"#x"}}`)), 400)
		p.want(p.send(p.as("backend", "PUT", "/Observation/"+id, `{"resourceType":"Observation","resourceType":"Patient","id":"`+id+`"}`)), 400)
	})

	once(t, "T122 names in other letters are refused", func(p *probe) {
		for _, body := range []string{
			`{"resourceType":"Patient","ID":"x"}`, `{"resourceType":"Patient","Id":"x"}`, `{"reſourceType":"Patient"}`, `{"RESOURCETYPE":"Patient"}`,
			`{"resourceType":"Patient","reſourceType":"Group"}`, `{"resourceType":"Patient","id":"a","id":"b"}`, `{"resourceType":"Patient","active":true,"active":false}`,
			`{"resourceType":"Patient"} {}`, `{"resourceType":"Patient"}x`,
		} {
			p.want(p.send(p.as("backend", "POST", "/Patient", body)), 400)
		}
	})

	once(t, "T124 a patch changes neither identity nor labels", func(p *probe) {
		before := p.want(p.get("backend", "/Patient/p1"), 200)
		for _, patch := range []string{
			`[{"op":"replace","path":"/id","value":"p2"}]`, `[{"op":"add","path":"/meta/security","value":[]}]`, `[{"op":"remove","path":"/meta/tag"}]`,
			`[{"op":"replace","path":"/meta/tag/0/code","value":"x"}]`, `[{"op":"remove","path":"/meta"}]`, `[{"op":"replace","path":"","value":{"resourceType":"Patient","id":"p1"}}]`,
			`[{"op":"move","from":"/meta/tag","path":"/extension"}]`, `[{"op":"copy","from":"/nothing","path":"/name"}]`, `[{"op":"test","path":"/nothing","value":1}]`,
			`[{"op":"replace","path":"/resourceType","value":"Group"}]`, `[{"op":"move","from":"/id","path":"/language"}]`, `[{"op":"replace","path":"/Id","value":"x"}]`,
			`[{"op":"replace","path":"/~0~1id","value":"x"}]`, `[{"op":"add","path":"/me~0ta","value":1}]`,
		} {
			p.want(p.send(p.as("backend", "PATCH", "/Patient/p1", patch)), 400, 403, 422)
		}
		p.want(p.send(p.as("backend", "PATCH", "/Patient/p1", `{"resourceType":"Parameters"}`).with()), 400, 415)
		for _, patch := range []string{`[{"op":"test","path":"/subject/reference","value":"Patient/p2"}]`, `[{"op":"test","path":"/subject/reference","value":"Patient/p1"}]`} {
			p.want(p.send(p.as("pA", "PATCH", "/Observation/o2", patch)), 404)
		}
		after := p.want(p.get("backend", "/Patient/p1"), 200)
		p.same("the resource after refused patches", before, after)
	})

	once(t, "T125 who may write and not read gets no body", func(p *probe) {
		id := p.fresh("blind")
		body := labResult(id, "p1", "laboratory", p.attacker.canaries["other"])
		for i, c := range []*call{
			p.as("writer", "PUT", "/Observation/"+id, body), p.as("writer", "PUT", "/Observation/"+id, body),
			p.as("writer", "PATCH", "/Observation/"+id, `[{"op":"replace","path":"/status","value":"amended"}]`),
			p.as("writer", "POST", "/Observation", body),
		} {
			r := p.want(p.send(c.with("Prefer", "return=representation")), 200, 201, 204)
			if len(r.body) > 0 && strings.Contains(string(r.body), `"Observation"`) {
				p.Errorf("answer %d holds the resource", i)
			}
		}
		// Who may search as well is told that there is a match, not what it says.
		value := p.fresh("blind")
		made := `{"resourceType":"Observation","status":"final","code":{"text":"secret words"},"identifier":[{"system":"urn:x","value":"` + value + `"}]}`
		p.want(p.send(p.as("backend", "POST", "/Observation", made)), 201)
		r := p.want(p.send(p.as("finder", "POST", "/Observation", made).with("If-None-Exist", "identifier=urn:x|"+value, "Prefer", "return=representation")), 200, 204)
		if strings.Contains(string(r.body), "secret words") {
			p.Errorf("a conditional create shows its match")
		}
		b := p.bundle(p.send(p.as("writer", "POST", "", attacks.Batch("transaction", attacks.Give("PUT", "Observation/"+id, body))).with("Prefer", "return=representation")))
		if len(b.Entry) != 1 || len(b.Entry[0].Resource) > 0 {
			p.Errorf("a transaction shows what was written")
		}
	})
	once(t, "T128 a circle of references is stored or refused in bounded time", func(p *probe) {
		circle := func(n int) string {
			var entries []string
			for i := range n {
				entries = append(entries, fmt.Sprintf(`{"fullUrl":"urn:uuid:00000000-0000-4000-8000-%012d","resource":{"resourceType":"Basic","code":{"text":"x"},"subject":{"reference":"urn:uuid:00000000-0000-4000-8000-%012d"}},"request":{"method":"POST","url":"Basic"}}`, i, (i+1)%n))
			}
			return attacks.Batch("transaction", entries...)
		}
		begun := time.Now()
		b := p.bundle(p.send(p.as("backend", "POST", "", circle(500))))
		if len(b.Entry) != 500 {
			p.Errorf("%d entries of 500", len(b.Entry))
		}
		p.want(p.send(p.as("backend", "POST", "", circle(10_000))), 400, 413, 422)
		if took := time.Since(begun); took > time.Minute {
			p.Errorf("it took %v", took)
		}
	})

	once(t, "T129 a transaction that fails at its end leaves nothing", func(p *probe) {
		var entries []string
		id := p.fresh("undone")
		for i := range 499 {
			entries = append(entries, attacks.Give("PUT", fmt.Sprintf("Basic/%s-%d", id, i), fmt.Sprintf(`{"resourceType":"Basic","id":"%s-%d","code":{"text":"x"}}`, id, i)))
		}
		before := sys.digest(p, p.attacker)
		r := p.want(p.send(p.as("backend", "POST", "", attacks.Batch("transaction", append(entries, attacks.Give("POST", "Patient", `{"resourceType":"Patient","gender":"nonsense"}`))...))), 422, 400)
		_ = r
		p.want(p.send(p.as("backend", "POST", "", attacks.Batch("transaction", append(entries, attacks.Give("DELETE", "Patient/never-was", `{"resourceType":"Patient"}`))...))), 200, 404, 400, 422)
		p.want(p.send(p.as("lab", "POST", "", attacks.Batch("transaction", attacks.Give("POST", "Observation", labResult("x", "p1", "laboratory", "x")), attacks.Give("POST", "Observation", labResult("x", "p1", "vital-signs", "x"))))), 403)
		if after := sys.digest(p, p.attacker); after != before {
			p.Errorf("rows were left:\nfrom %s\nto   %s", before, after)
		}
	})

	once(t, "T130 two transactions over the same ids end one after the other", func(p *probe) {
		x, y := p.fresh("left"), p.fresh("right")
		put := func(id, text string) string {
			return attacks.Give("PUT", "Basic/"+id, fmt.Sprintf(`{"resourceType":"Basic","id":%q,"code":{"text":%q}}`, id, text))
		}
		won := 0
		for round := range 66 {
			a, b := fmt.Sprintf("a%d", round), fmt.Sprintf("b%d", round)
			statuses := make([]int, 2)
			var g errgroup.Group
			for i, body := range []string{attacks.Batch("transaction", put(x, a), put(y, a)), attacks.Batch("transaction", put(y, b), put(x, b))} {
				g.Go(func() error {
					r, err := p.try(p.as("backend", "POST", "", body))
					if err == nil {
						statuses[i] = r.status
					}
					return err
				})
			}
			if err := g.Wait(); err != nil {
				p.Fatal(err)
			}
			for _, status := range statuses {
				switch status {
				case 200:
					won++
				case 409:
				default:
					p.Fatalf("round %d is answered %v", round, statuses)
				}
			}
			if left, right := p.textOf(x), p.textOf(y); left != right {
				p.Fatalf("round %d is half done: %s and %s", round, left, right)
			}
		}
		r := p.get("backend", "/Basic/"+x)
		if !strings.Contains(string(r.body), fmt.Sprintf(`"versionId":"%d"`, won)) {
			p.Errorf("%d transactions were acknowledged, and the resource is %s", won, r)
		}
	})
}

func (p *probe) textOf(id string) string {
	p.Helper()
	var x struct{ Code struct{ Text string } }
	r := p.want(p.get("backend", "/Basic/"+id), 200)
	if err := json.Unmarshal(r.body, &x); err != nil {
		p.Fatal(err)
	}
	return x.Code.Text
}

// linked counts the linked entries of the last request in the tenant's trail.
func (p *probe) linked(own *party) int { return p.linkedWith(own, -1) }

// linkedWith counts those with the outcome.
func (p *probe) linkedWith(own *party, outcome int) (n int) {
	p.Helper()
	last := p.sent[len(p.sent)-1].id
	for _, e := range sys.trail(p, own, p.before.trails[own]) {
		if e.linked && e.request == last && (outcome < 0 || e.outcome == outcome) {
			n++
		}
	}
	return n
}
