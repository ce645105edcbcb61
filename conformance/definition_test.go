package conformance

import (
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// The lines of groups 4 and 6 that came with definitions of a tenant's own and
// with the deeper forms of search.
func TestDefinitions(t *testing.T) {
	// TEN-32
	breakout(t, "T102 T105 definitions of the tenant next door have no effect", func(p *probe) {
		p.writes = true
		id := p.fresh("private")
		base := "http://example.org/" + id
		own := func(kind, rest string) string {
			return fmt.Sprintf(`{"resourceType":%q,"id":%q,"url":"%s/%s","status":"active",%s}`, kind, id, base, kind, rest)
		}
		before := p.want(p.get("backend", "/metadata"), 200)
		for kind, rest := range map[string]string{
			"CodeSystem":      `"content":"complete","concept":[{"code":"secret"}]`,
			"ValueSet":        `"compose":{"include":[{"system":"` + base + `/CodeSystem"}]}`,
			"SearchParameter": `"name":"Secret","description":"x","code":"` + id + `","base":["Patient"],"type":"string","expression":"Patient.name.given"`,
		} {
			p.want(p.send(p.of(p.victim, "backend", "PUT", "/"+kind+"/"+id, own(kind, rest))), 201)
		}
		if got := p.bundle(p.send(p.of(p.victim, "backend", "GET", "/ValueSet?url="+base+"/ValueSet"))); len(got.Entry) != 1 {
			p.Fatalf("the victim finds %v", got.refs())
		}
		p.want(p.send(p.of(p.victim, "backend", "GET", "/ValueSet/$expand?url="+base+"/ValueSet")), 200)
		for end := time.Now().Add(time.Minute); p.send(p.of(p.victim, "backend", "GET", "/Patient?"+id+"=x")).status != 200; time.Sleep(100 * time.Millisecond) {
			if time.Now().After(end) {
				p.Fatal("the victim's search parameter is not ready")
			}
		}
		ask := func(path, name string) *reply {
			return p.get("backend", strings.NewReplacer("URL", "http://example.org/"+name, "CODE", name).Replace(path))
		}
		for _, path := range []string{
			"/ValueSet/$expand?url=URL/ValueSet", "/ValueSet/$validate-code?url=URL/ValueSet&code=secret", "/CodeSystem/$lookup?system=URL/CodeSystem&code=secret",
			"/Observation?code:in=URL/ValueSet", "/Patient?CODE=x",
		} {
			theirs, nobodys := ask(path, id), ask(path, strings.Replace(id, "private", "pr1vate", 1))
			if theirs.status != nobodys.status || len(theirs.body) != len(nobodys.body) {
				p.Errorf("%s: got %s, and of nobody's %s", path, theirs, nobodys)
			}
		}
		p.want(ask("/Patient?CODE=x", id), 400)
		if after := p.want(p.get("backend", "/metadata"), 200); len(after.body) != len(before.body) {
			p.Errorf("the CapabilityStatement changed from %d to %d bytes", len(before.body), len(after.body))
		}
		for _, kind := range []string{"SearchParameter", "ValueSet", "CodeSystem"} {
			p.want(p.send(p.of(p.victim, "backend", "DELETE", "/"+kind+"/"+id)), 204)
		}
		p.indexed(p.victim)
	})

	once(t, "T102 a search parameter that cannot be is refused", func(p *probe) {
		for _, expression := range []string{"Patient.name.given |", "Patient.nonsense", strings.Repeat("(", 5000)} {
			id := p.fresh("bad")
			p.want(p.send(p.as("backend", "PUT", "/SearchParameter/"+id, fmt.Sprintf(
				`{"resourceType":"SearchParameter","id":%q,"url":"http://example.org/%s","name":"Bad","status":"active","description":"x","code":%q,"base":["Patient"],"type":"string","expression":%q}`,
				id, id, id, expression))), 400, 422)
		}
	})

	breakout(t, "T136 a validation asks nobody and tells nothing of what is stored", func(p *probe) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			p.Fatal(err)
		}
		var dialled atomic.Int32
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				dialled.Add(1)
				conn.Close()
			}
		}()
		observation := func(subject string) string { return labResult("x", subject, "laboratory", "x") }
		profile := url.QueryEscape("http://" + l.Addr().String() + "/StructureDefinition/x")
		p.send(p.as("backend", "POST", "/Observation/$validate?profile="+profile, observation("p1")))
		claimed := strings.Replace(observation("p1"), `"id":"x"`, `"id":"x","meta":{"profile":["http://`+l.Addr().String()+`/StructureDefinition/x"]}`, 1)
		p.send(p.as("backend", "POST", "/Observation/$validate", claimed))
		p.want(p.send(p.as("backend", "GET", "/ValueSet/$expand?url="+profile)), 404, 422)
		l.Close()
		<-done
		if n := dialled.Load(); n > 0 {
			p.Errorf("the server dialled %d times", n)
		}
		never := p.send(p.as("pA", "POST", "/Observation/$validate", observation("never-was")))
		p.same("a reference to the neighbour's", never, p.send(p.as("pA", "POST", "/Observation/$validate", observation("v-only-"+p.victim.slug))))
		p.same("a reference to what is hidden", never, p.send(p.as("pA", "POST", "/Observation/$validate", observation("p2"))))
	})
}

func TestDeepSearch(t *testing.T) {
	once(t, "T094 a list that is hidden chooses nothing", func(p *probe) {
		p.want(p.get("pA", "/Observation?_list=$current-problems"), 400)
		hidden, never := p.get("pA", "/Observation?_list=l2"), p.get("pA", "/Observation?_list=l3")
		if hidden.status != never.status || hidden.status == 200 && len(p.bundle(hidden).Entry)+len(p.bundle(never).Entry) > 0 {
			p.Errorf("a hidden list: %s, one that never was: %s", hidden, never)
		}
		p.want(p.get("pA", "/Observation?_query=everything"), 400)
	})

	once(t, "T104 ranges do not close in on what is hidden", func(p *probe) {
		first := ""
		for i := range 40 {
			for _, query := range []string{
				fmt.Sprintf("/Observation?value-quantity=gt%d&_total=accurate", 52+i), fmt.Sprintf("/Observation?_filter=value-quantity%%20gt%%20%d&_total=accurate", 52+i),
			} {
				b := p.bundle(p.get("pA", query))
				got := fmt.Sprint(b.refs(), *b.Total)
				if first == "" {
					first = got
				}
				if got != first {
					p.Fatalf("%s answers %s, another %s", query, got, first)
				}
			}
		}
	})

	once(t, "T132 T133 a record that names another patient too is that of one", func(p *probe) {
		group, list := p.fresh("both"), p.fresh("both")
		p.want(p.send(p.as("backend", "PUT", "/Group/"+group, `{"resourceType":"Group","id":"`+group+`","type":"person","actual":true,"member":[{"entity":{"reference":"Patient/p1"}},{"entity":{"reference":"Patient/p2"}}]}`)), 201)
		p.want(p.send(p.as("backend", "PUT", "/List/"+list, `{"resourceType":"List","id":"`+list+`","status":"current","mode":"working","subject":{"reference":"Patient/p1"},"entry":[{"item":{"reference":"Observation/o1"}},{"item":{"reference":"Observation/o2"}}]}`)), 201)
		for _, path := range []string{
			"/Patient/p1/$everything", "/Patient/p1/$everything?_since=2000-01-01T00:00:00Z", "/Patient/p1/$everything?start=1900-01-01&end=2100-01-01",
			"/Patient/p1/$everything?_type=Group,List,Observation,Patient", "/Patient/$everything",
		} {
			for next := p.attacker.base + path; next != ""; {
				b := p.bundle(p.send(p.as("pA", "GET", next)))
				for _, ref := range b.refs() {
					if ref == "Patient/p2" || ref == "Observation/o2" || strings.HasSuffix(ref, "/"+hiddenID) {
						p.Errorf("%s shows %s", path, ref)
					}
				}
				next = b.next()
			}
		}
		for _, path := range []string{"/Patient/%s/$everything", "/Encounter/%s/$everything"} {
			never := p.want(p.get("pA", fmt.Sprintf(path, "never-was")), 404)
			p.same(path, never, p.get("pA", fmt.Sprintf(path, map[bool]string{true: "p2", false: "e2"}[strings.HasPrefix(path, "/Patient")])))
		}
	})
}

// indexed waits until the work on the tenant's index is done.
func (p *probe) indexed(own *party) {
	p.Helper()
	conn, err := sys.asSuperuser(p.Context(), own.database)
	if err != nil {
		p.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		var jobs int
		if err := conn.QueryRow(p.Context(), `SELECT count(*) FROM `+own.schema+`.index_job WHERE tenant_id = $1`, own.number).Scan(&jobs); err != nil {
			p.Fatal(err)
		}
		if jobs == 0 {
			return
		}
	}
	p.Fatalf("the index of %s is still worked on", own.slug)
}
