package breakout

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
)

// bundles is group 5: Bundles, conditional interactions, references.
func bundles() []Attack {
	post := func(who, url, body string) Step { return send(who, http.MethodPost, url, body) }
	about := func(patient, value string) string {
		return `{"resourceType":"Observation","status":"final","code":{"text":"x"},"identifier":[{"system":"urn:breakout:value","value":"` + value + `"}],"subject":{"reference":"Patient/` + patient + `"}}`
	}
	refer := func(id string) Step {
		return post("backend", "/Basic", `{"resourceType":"Basic","code":{"text":"x"},"subject":{"reference":"Patient/`+id+`"}}`).with("Prefer", "return=minimal")
	}
	const urn = "urn:uuid:0f3a5e3c-6c3f-4a8e-9a52-0d7d2b8f8a11"
	return []Attack{
		{ID: "T106", Group: 5, Title: "an entry for another tenant is refused alone", do: mixedBatch, needs: []string{"backend"}},
		{ID: "T108", Group: 5, Title: "an entry's url leads below its own base only", mayAlert: []string{OtherInEntry}, Steps: append(
			repeated([]string{
				"../«v»/Patient/«p1»", "/fhir/«v»/Patient/«p1»", "//«v»/Patient/«p1»", "Patient/../../«v»/Patient/«p1»",
				"%2e%2e/«v»/Patient/«p1»", "Patient%2f..%2f..%2f«v»/Patient/«p1»", `..\\«v»\\Patient\\«p1»`, "http://169.254.169.254/Patient/«p1»",
				"Patient/./«p1»", "Patient//«p1»", ";/Patient/«p1»", `\n/Patient/«p1»`,
			}, func(url string) Step {
				return post("backend", "", Batch("batch", `{"request":{"method":"GET","url":"`+url+`"}}`)).want(200, 400).refused()
			}),
			post("backend", "", Batch("transaction", Ask("GET", "../«v»/Patient/«p1»"))).want(400, 403, 404))},
		{ID: "T109", Group: 5, Title: "an entry has no headers of its own", do: entryHeaders, needs: []string{"backend"}},
		{ID: "T112", Group: 5, Title: "a match that only the victim has is no match", do: matchElsewhere, needs: []string{"backend"}},
		{ID: "T113", Group: 5, Alone: true, Title: "a match that is hidden is no match", needs: []string{"pA POST"}, Steps: []Step{
			post("backend", "/Observation", about("«p2»", "secret-«value»")).want(201),
			post("pA", "/Observation", about("«patient»", "secret-«value»")).with("If-None-Exist", "identifier=urn:breakout:value|secret-«value»").want(201),
			post("pA", "/Observation", about("«patient»", "unused-«value»")).with("If-None-Exist", "identifier=urn:breakout:value|unused-«value»").want(201),
		}},
		{ID: "T114", Group: 5, Title: "equal match URLs of two tenants mean two resources", do: twins, needs: []string{"backend", "victim:backend"}, moves: true},
		{ID: "T116", Group: 5, Alone: true, Title: "of two matches a hidden one does not count", needs: []string{"pA PUT", "pA DELETE"}, Steps: []Step{
			post("backend", "/Observation", about("«patient»", "«value»")).want(201),
			post("backend", "/Observation", about("«p2»", "«value»")).want(201),
			send("backend", http.MethodPut, "/Observation?identifier=urn:breakout:value|«value»", about("«patient»", "«value»")).want(412),
			send("pA", http.MethodPut, "/Observation?identifier=urn:breakout:value|«value»", about("«patient»", "«value»")).want(200),
			send("pA", http.MethodPatch, "/Observation?identifier=urn:breakout:value|«value»", `[{"op":"replace","path":"/status","value":"amended"}]`).want(200),
			send("pA", http.MethodDelete, "/Observation?identifier=urn:breakout:value|«value»").want(204),
		}},
		{ID: "T117", Group: 5, Title: "a placeholder is resolved inside its Bundle", Steps: []Step{
			post("backend", "", Batch("transaction",
				`{"fullUrl":"`+urn+`","resource":{"resourceType":"Patient","name":[{"family":"New"}]},"request":{"method":"POST","url":"Patient"}}`,
				`{"resource":{"resourceType":"Basic","id":"«fresh»","code":{"text":"x"},"subject":{"reference":"`+urn+`"}},"request":{"method":"PUT","url":"Basic/«fresh»"}}`)).want(200),
			get("backend", "/Basic?_id=«fresh»&subject:Patient.name=New").want(200).find("Basic/«fresh»").hide("urn:uuid"),
			// A placeholder that nothing in the Bundle has is not looked up anywhere.
			post("backend", "", Batch("transaction",
				`{"resource":{"resourceType":"Basic","code":{"text":"x"},"subject":{"reference":"urn:uuid:00000000-0000-4000-8000-000000000000"}},"request":{"method":"POST","url":"Basic"}}`)).want(400),
		}},
		{ID: "T118", Group: 5, Title: "a reference tells no id of the victim", do: references(refer), needs: []string{"backend"}},
		{ID: "T120", Group: 5, Title: "a URL of another tenant is text", Steps: []Step{
			put("backend", "Observation/«fresh»", `{"resourceType":"Observation","id":"«fresh»","status":"final","code":{"text":"x"},"subject":{"reference":"«victim»/Patient/«p1»"}}`).want(201),
			get("reader", "/Observation?_id=«fresh»&_include=Observation:subject").want(200).find("Observation/«fresh»").show("«victim»/Patient/«p1»"),
			get("reader", "/Observation?_id=«fresh»&patient=«p1»").want(200).find(),
			get("reader", "/Observation?_id=«fresh»&subject:Patient.name=«a:name»").want(200).find(),
		}},
		{ID: "T126", Group: 5, Alone: true, Title: "a resource is not moved into or out of a hidden record", needs: []string{"pA PUT", "lab PUT"}, Steps: []Step{
			put("backend", "Observation/«fresh»", labResult("«fresh»", "«patient»", "laboratory", "x")).want(201),
			put("pA", "Observation/«fresh»", labResult("«fresh»", "«p2»", "laboratory", "x")).want(403),
			send("pA", http.MethodPatch, "/Observation/«fresh»", `[{"op":"replace","path":"/subject/reference","value":"Patient/«p2»"}]`).want(403),
			put("pA", "Observation/«o2»", labResult("«o2»", "«patient»", "laboratory", "x")).want(403, 404),
			post("pA", "", Batch("transaction", Give("PUT", "Observation/«fresh»", labResult("«fresh»", "«p2»", "laboratory", "x")))).want(403),
			put("lab", "Observation/«fresh»", labResult("«fresh»", "«patient»", "vital-signs", "x")).want(403),
			get("backend", "/Observation/«fresh»").want(200).show(`"versionId":"1"`),
		}},
	}
}

// mixedBatch asks for its own and for the victim's in one batch.
func mixedBatch(ctx context.Context, t *Trial) {
	t.Alerts[OtherInEntry] += 3
	x := t.take(ctx, send("backend", http.MethodPost, "", Batch("batch",
		Ask("GET", "Patient/«p1»"), Ask("GET", "«victim»/Patient/«p1»"), Ask("GET", "«attacker»/Patient/«p1»"),
		Ask("DELETE", "«victim»/Patient/«only4»"),
		Give("PUT", "«victim»/Patient/«p1»", `{"resourceType":"Patient","id":"«p1»"}`))).want(200))
	if x == nil {
		return
	}
	b, _ := x.bundle()
	got := b.statuses()
	if len(got) != 5 || got[0] != "200" || !refusal(got[1]) || got[2] != "200" && !refusal(got[2]) || !refusal(got[3]) || !refusal(got[4]) {
		t.finding("answer", x, "the entries are answered %v", got)
	}
}

// entryHeaders puts headers into entries.
func entryHeaders(ctx context.Context, t *Trial) {
	for _, more := range []string{
		`"Authorization":"Bearer x"`, `"X-Tenant-Id":"«v»"`, `"ifMatch":"W/\"1\"\r\nX-Tenant-Id: «v»"`, `"ifNoneExist":"identifier=mrn|«vmrn»\r\nX-Tenant-Id: «v»"`,
	} {
		x := t.take(ctx, send("backend", http.MethodPost, "", Batch("batch", `{"request":{"method":"GET","url":"Patient/«p1»",`+more+`}}`)).want(200, 400, 422))
		if x == nil {
			return
		}
		b, _ := x.bundle()
		if len(b.Entry) == 1 && b.statuses()[0] == "200" && !bytes.Contains(x.Body, []byte(t.vars["a:name"])) {
			t.finding("answer", x, "an entry is answered with another record than the own one")
		}
	}
}

// matchElsewhere creates on a condition that is met in the victim only.
func matchElsewhere(ctx context.Context, t *Trial) {
	body := `{"resourceType":"Patient","identifier":[{"system":"mrn","value":"«vmrn»"}]}`
	create := send("backend", http.MethodPost, "/Patient", body).with("If-None-Exist", "identifier=mrn|«vmrn»", "Prefer", "return=representation")
	// The same identifier may be here from another victim of the same name.
	t.take(ctx, send("backend", http.MethodDelete, "/Patient?identifier=mrn|«vmrn»").want(200, 204, 404))
	first, second := t.take(ctx, create.want(201)), t.take(ctx, create.want(200))
	if first == nil || second == nil || first.Status != http.StatusCreated {
		return
	}
	if refOf(first.Body) != refOf(second.Body) {
		t.finding("answer", second, "the second create means another resource than the first")
	}
	t.take(ctx, send("backend", http.MethodDelete, "/"+refOf(first.Body)).want(200, 204))
}

// twins updates on one condition in both tenants at once.
func twins(ctx context.Context, t *Trial) {
	var all sync.WaitGroup
	for i := range 9 {
		value := fmt.Sprintf("%s-%d", t.vars["value"], i)
		for _, who := range []string{"attacker", "victim"} {
			p := t.at[who]
			all.Go(func() {
				for _, want := range []int{http.StatusCreated, http.StatusOK} {
					body := fmt.Sprintf(`{"resourceType":"Basic","code":{"text":%q},"identifier":[{"system":"urn:breakout:value","value":%q}]}`, p.canaries["name"], value)
					x := t.send(ctx, request{method: http.MethodPut, url: p.FHIRBase + "/Basic?identifier=urn:breakout:value|" + value, body: body,
						actor: p.actors["backend"], header: http.Header{"Content-Type": {"application/fhir+json"}}})
					if x != nil && (x.Status != want || !bytes.Contains(x.Body, []byte(p.canaries["name"]))) {
						t.finding("answer", x, "it is answered %d, want %d and what is the own", x.Status, want)
					}
				}
			})
		}
	}
	all.Wait()
}

// references refers to an id of the victim and to one of nobody, by id and by
// condition.
func references(refer func(id string) Step) func(context.Context, *Trial) {
	conditional := func(value string) Step {
		return send("backend", http.MethodPost, "", Batch("transaction", Give("POST", "Basic",
			`{"resourceType":"Basic","code":{"text":"x"},"subject":{"reference":"Patient?identifier=mrn|`+value+`"}}`))).same("conditional")
	}
	return func(ctx context.Context, t *Trial) {
		theirs, nobodys := t.take(ctx, refer("«only5»")), t.take(ctx, refer("«never»"))
		if theirs != nil && nobodys != nil && theirs.Status != nobodys.Status {
			t.finding("answer", theirs, "a reference to an id of the victim is answered %d, to none %d", theirs.Status, nobodys.Status)
		}
		t.take(ctx, conditional("«vmrn»"))
		t.take(ctx, conditional("never-«run»"))
	}
}

// refusal reports whether the status of an entry is one.
func refusal(status string) bool { return strings.Contains("400 403 404", status) && status != "" }
