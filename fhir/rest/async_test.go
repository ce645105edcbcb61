package rest

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// ask asks for an answer later and returns where it will be.
func (c *client) ask(method, path, body string) string {
	c.t.Helper()
	w := c.must(202, method, path, body, "Prefer", "respond-async")
	where := w.Header().Get("Content-Location")
	if !strings.HasPrefix(where, baseOf(c.slug)+"/_async/") || w.Header().Get("Preference-Applied") != "respond-async" || w.Body.Len() > 0 {
		c.t.Fatalf("%s %s: %v %s", method, path, w.Header(), w.Body)
	}
	return strings.TrimPrefix(where, baseOf(c.slug))
}

// await polls until there is an answer.
func (c *client) await(path string) *httptest.ResponseRecorder {
	c.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		w := c.do("GET", path, "")
		if w.Code != 202 {
			return w
		}
		if w.Header().Get("X-Progress") == "" || w.Header().Get("Retry-After") == "" || time.Now().After(end) {
			c.t.Fatalf("polling: %v", w.Header())
		}
	}
}

// H-54: what is asked for later is answered as it would have been at once, to
// who asked and to nobody else, in every mode.
func TestAnAnswerCanComeLater(t *testing.T) {
	a := newAPI(t)
	r := aRecord()
	for _, slug := range storetest.Slugs {
		t.Run(slug, func(t *testing.T) {
			c := a.client(t, slug, all)
			r.fill(c)
			mine := a.client(t, slug, "patient/*.rs", inContext(r.p))
			search := mine.ask("GET", "/Observation?_count=50", "")
			everything := mine.ask("GET", "/Patient/"+r.p+"/$everything?_type=Observation", "")
			hidden := mine.ask("GET", "/Patient/"+r.other+"/$everything", "")
			batch := c.ask("POST", "", `{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET","url":"Patient/`+r.p+`"}},{"request":{"method":"PUT","url":"Patient/`+r.p+`-new"},"resource":`+patient(r.p+"-new", "x")+`}]}`)

			w := mine.await(search)
			if w.Code != 200 || at(shown(t, w), "type") != "batch-response" || at(shown(t, w), "entry", 0, "response", "status") != "200 OK" || w.Header().Get("Expires") == "" {
				t.Fatalf("search: %d %s", w.Code, w.Body)
			}
			if got := len(at(shown(t, w), "entry", 0, "resource", "entry").([]any)); got != 9 {
				t.Errorf("search found %d", got)
			}
			if got := len(at(shown(t, mine.await(everything)), "entry", 0, "resource", "entry").([]any)); got != 9 {
				t.Errorf("everything found %d", got)
			}
			w = mine.await(hidden)
			if at(shown(t, w), "entry", 0, "response", "status") != "404 Not Found" || strings.Contains(w.Body.String(), "SECRET") {
				t.Errorf("a hidden record: %s", w.Body)
			}
			if w := c.await(batch); at(shown(t, w), "entry", 0, "resource", "id") != r.p || at(shown(t, w), "entry", 1, "response", "status") != "201 Created" {
				t.Errorf("batch: %s", w.Body)
			}
			c.must(200, "GET", "/Patient/"+r.p+"-new", "")

			// Nobody else can tell that there is an answer.
			never := mine.must(404, "GET", "/_async/"+strings.Repeat("0", 8)+"-0000-4000-8000-000000000000", "").Body.String()
			for who, other := range map[string]*client{
				"the staff": c, "another patient": a.client(t, slug, "patient/*.rs", inContext(r.other)), "a narrower token": a.client(t, slug, "patient/Observation.rs", inContext(r.p)),
				"another client": a.client(t, slug, "patient/*.rs", inContext(r.p), func(tok *smart.Token) { tok.Client = "other" }),
			} {
				for _, method := range []string{"GET", "DELETE"} {
					if w := other.must(404, method, search, ""); w.Body.String() != never {
						t.Errorf("%s %s: %s", method, who, w.Body)
					}
				}
			}
			for _, foreign := range storetest.Slugs {
				if foreign != slug {
					a.client(t, foreign, "patient/*.rs", inContext(r.p)).must(404, "GET", search, "")
				}
			}
			mine.must(200, "GET", search, "")
			mine.must(202, "DELETE", search, "")
			mine.must(404, "GET", search, "")
		})
	}
}

// H-54: only what reads, and batches, can be answered later; what is malformed
// is refused at once, nobody can ask for too much, and what a server that stopped
// was working on is known to be lost.
func TestWhatCannotWaitIsAnsweredAtOnce(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.A1, all)
	later := func(method, path, body string, want int) {
		t.Helper()
		if w := c.do(method, path, body, "Prefer", "respond-async"); w.Code != want {
			t.Errorf("%s %s: %d %s, want %d", method, path, w.Code, w.Body, want)
		}
	}
	id := fresh()
	later("PUT", "/Patient/"+id, patient(id, "x"), 201)
	later("GET", "/Patient/"+id, "", 200)
	later("GET", "/Patient?nonsense=1", "", 400)
	later("GET", "/Patient/"+id+"/$everything?_count=0", "", 400)
	later("POST", "", `{"resourceType":"Bundle","type":"transaction"}`, 200)
	later("POST", "", `{"resourceType":"Bundle","type":"nonsense"}`, 400)
	c.must(404, "GET", "/_async/nonsense", "")
	c.must(405, "POST", "/_async/nonsense", "{}")
	// An entry of a Bundle is answered with the Bundle.
	w := c.must(200, "POST", "", `{"resourceType":"Bundle","type":"transaction","entry":[{"request":{"method":"GET","url":"Patient?_id=`+id+`"}}]}`, "Prefer", "respond-async")
	if at(shown(t, w), "entry", 0, "response", "status") != "200 OK" {
		t.Errorf("in a Bundle: %s", w.Body)
	}

	busy := a.client(t, storetest.A1, all, func(tok *smart.Token) { tok.Client = "busy" })
	var last int
	release := a.busy(t)
	asked := []string{}
	for range 12 {
		w := busy.do("GET", "/Patient?_count=1", "", "Prefer", "respond-async")
		if last = w.Code; last == 202 {
			asked = append(asked, strings.TrimPrefix(w.Header().Get("Content-Location"), baseOf(busy.slug)))
		}
	}
	if last != 429 || len(asked) != 10 {
		t.Errorf("%d were taken, then %d", len(asked), last)
	}
	busy.must(202, "GET", asked[0], "")
	tomorrow := newAPI(t, func(c *Config) { c.Now = func() time.Time { return time.Now().Add(2 * waitTime) } })
	(&client{tomorrow, t, busy.slug, busy.bearer}).must(503, "GET", asked[0], "")
	busy.must(202, "DELETE", asked[0], "")
	busy.must(404, "GET", asked[0], "")
	release()
	if w := busy.await(asked[9]); w.Code != 200 {
		t.Errorf("after the wait: %d %s", w.Code, w.Body)
	}
}
