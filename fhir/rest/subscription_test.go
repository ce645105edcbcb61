package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
	"github.com/cordon-fhir/cordon/subscriptions"
	"github.com/cordon-fhir/cordon/tenant"
)

// A sink is an endpoint of subscriptions. Its certificate is one that this process
// trusts.
type sink struct {
	*httptest.Server
	mu     sync.Mutex
	took   []notice
	asked  int
	refuse func(n notice) int // the status, 0 is 200
}

// A notice is a notification as it arrived.
type notice struct {
	path, kind, status, count string
	numbers                   []string
	focus                     []string
	resources                 []string // their JSON
	methods                   []string
	header                    http.Header
	raw                       string
}

func newSink(t *testing.T) *sink {
	s := &sink{}
	s.Server = httptest.NewTLSServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *sink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	n := noticed(body)
	n.path, n.header = r.URL.Path, r.Header
	s.mu.Lock()
	s.asked++
	refuse := s.refuse
	s.mu.Unlock()
	if refuse != nil {
		if status := refuse(n); status != 0 {
			w.WriteHeader(status)
			return
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.took = append(s.took, n)
}

func noticed(body []byte) (n notice) {
	n.raw = string(body)
	var b struct {
		Type  string
		Entry []struct {
			Resource json.RawMessage
			Request  struct{ Method string }
		}
	}
	type parameter struct {
		Name        string
		ValueCode   string
		ValueString string
		Part        []struct {
			Name, ValueString string
			ValueReference    struct{ Reference string }
		}
	}
	var p struct{ Parameter []parameter }
	if json.Unmarshal(body, &b) != nil || b.Type != "history" || len(b.Entry) == 0 || json.Unmarshal(b.Entry[0].Resource, &p) != nil {
		n.kind = "malformed"
		return n
	}
	for _, x := range p.Parameter {
		switch x.Name {
		case "type":
			n.kind = x.ValueCode
		case "status":
			n.status = x.ValueCode
		case "events-since-subscription-start":
			n.count = x.ValueString
		case "notification-event":
			focus := ""
			for _, y := range x.Part {
				switch y.Name {
				case "event-number":
					n.numbers = append(n.numbers, y.ValueString)
				case "focus":
					focus = y.ValueReference.Reference
				}
			}
			n.focus = append(n.focus, focus)
		}
	}
	for _, e := range b.Entry[1:] {
		n.methods = append(n.methods, e.Request.Method)
		if len(e.Resource) > 0 {
			n.resources = append(n.resources, string(e.Resource))
		}
	}
	return n
}

// heard returns what the sink took at the path, of the kind; "" is of any.
func (s *sink) heard(path, kind string) (list []notice) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.took {
		if n.path == path && (kind == "" || n.kind == kind) {
			list = append(list, n)
		}
	}
	return list
}

// numbers are those of the events that the sink took at the path, in order.
func (s *sink) numbers(path string) (list []string) {
	for _, n := range s.heard(path, "event-notification") {
		list = append(list, n.numbers...)
	}
	return list
}

func (s *sink) set(refuse func(notice) int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = refuse
}

// eventually waits until the condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// telling makes a tenant whose subscribers may be told at the sink, and tells them. It
// returns a client that may do anything.
func telling(t *testing.T, slug string, mode tenant.Mode, s *sink, change ...func(*Config)) *client {
	t.Helper()
	a := newAPI(t, change...)
	if _, _, err := a.Migrator.Provision(t.Context(), store.NewTenant{Slug: slug, Mode: mode}); err != nil {
		t.Fatal(err)
	}
	a.endpoints(t, slug, s.URL+"/hook/")
	a.tells(t, loopback, slug)
	return a.client(t, slug, all)
}

func (a *api) endpoints(t *testing.T, slug string, list ...string) {
	t.Helper()
	a.settings(t, slug, func(s *tenant.Settings) { s.Subscriptions.Endpoints = list })
}

// tells lets the process tell the subscribers of tenants, as long as the test runs.
func (a *api) tells(t *testing.T, networks []netip.Prefix, slugs ...string) (stop func()) {
	s := a.handler.(*server)
	w := &subscriptions.Worker{DB: s.DB, Verifier: s.Verifier, Base: baseOf, Networks: networks, Log: s.Log, Tenants: func(ctx context.Context) (list []*tenant.Tenant, err error) {
		for _, slug := range slugs {
			on, err := a.Tenants.Tenant(ctx, slug)
			if err != nil {
				return nil, err
			}
			if on.Status == tenant.Active {
				list = append(list, on)
			}
		}
		return list, nil
	}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

// subscribing is a Subscription to a topic of ours.
func subscribing(topic, endpoint, content string, filters ...string) string {
	var more []string
	for _, f := range filters {
		more = append(more, `{"url":"http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-filter-criteria","valueString":"`+f+`"}`)
	}
	criteria := ""
	if len(more) > 0 {
		criteria = `"_criteria":{"extension":[` + strings.Join(more, ",") + `]},`
	}
	return `{"resourceType":"Subscription","meta":{"profile":["` + subscriptions.Profile + `"]},"status":"requested","reason":"test",` +
		`"criteria":"urn:cordon:topic:` + topic + `",` + criteria +
		`"channel":{"type":"rest-hook","endpoint":"` + endpoint + `","header":["Authorization: Bearer secret-of-the-hook"],"payload":"application/fhir+json",` +
		`"_payload":{"extension":[{"url":"http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-payload-content","valueCode":"` + content + `"}]}}}`
}

// subscribe creates a Subscription and waits until it is active.
func (c *client) subscribe(body string) (id string) {
	c.t.Helper()
	id = at(shown(c.t, c.must(201, "POST", "/Subscription", body)), "id").(string)
	c.becomes(id, "active")
	return id
}

// becomes waits until the Subscription has the status, and returns its error.
func (c *client) becomes(id, status string) string {
	c.t.Helper()
	var got map[string]any
	eventually(c.t, "the Subscription is "+status, func() bool {
		got = shown(c.t, c.must(200, "GET", "/Subscription/"+id, ""))
		return at(got, "status") == status
	})
	why, _ := at(got, "error").(string)
	return why
}

func encounter(id, status, patient string) string {
	return `{"resourceType":"Encounter","id":"` + id + `","status":"` + status + `","class":{"code":"AMB"},"subject":{"reference":"Patient/` + patient + `"}}`
}

func upTo(n int) (list []string) {
	for i := range n {
		list = append(list, fmt.Sprint(i+1))
	}
	return list
}

// N-04, N-05, N-06, N-08: after the handshake a subscriber is told of each event of its
// topic that its filters let through, by number and in order, in every mode; of nothing
// else, and of nothing of another tenant (T192).
func TestASubscriberIsToldOfItsEventsInOrder(t *testing.T) {
	for _, mode := range []tenant.Mode{tenant.Shared, tenant.Schema, tenant.Database} {
		t.Run(string(mode), func(t *testing.T) {
			s := newSink(t)
			c := telling(t, "subs-order-"+string(mode), mode, s)
			other := telling(t, "subs-other-"+string(mode), mode, s)
			p, q := fresh(), fresh()
			for _, on := range []*client{c, other} {
				on.must(201, "PUT", "/Patient/"+p, patient(p, "x"))
				on.must(201, "PUT", "/Patient/"+q, patient(q, "x"))
			}
			id := c.subscribe(subscribing("encounter-start", s.URL+"/hook/ours", "id-only", "Encounter?patient=Patient/"+p))
			other.subscribe(subscribing("encounter-start", s.URL+"/hook/theirs", "id-only", "patient=Patient/"+q))
			var want []string
			for i := range 12 {
				e := fmt.Sprintf("%s-%d", fresh(), i)
				c.must(201, "PUT", "/Encounter/"+e, encounter(e, "planned", p))
				c.must(200, "PUT", "/Encounter/"+e, encounter(e, "in-progress", p))
				c.must(200, "PUT", "/Encounter/"+e, encounter(e, "in-progress", p)) // it has begun already
				want = append(want, baseOf(c.slug)+"/Encounter/"+e)
				hers := fresh()
				c.must(201, "PUT", "/Encounter/"+hers, encounter(hers, "in-progress", q))
				other.must(201, "PUT", "/Encounter/"+hers, encounter(hers, "in-progress", p))
			}
			eventually(t, "all are told", func() bool { return len(s.numbers("/hook/ours")) >= len(want) })
			if got := s.numbers("/hook/ours"); !slices.Equal(got, upTo(len(want))) {
				t.Errorf("numbers %v", got)
			}
			if first := s.heard("/hook/ours", "")[0]; first.kind != "handshake" || first.count != "0" || first.status != "requested" {
				t.Errorf("first came %+v", first)
			}
			var got []string
			for _, n := range s.heard("/hook/ours", "event-notification") {
				got = append(got, n.focus...)
				if n.header.Get("Content-Type") != "application/fhir+json" || n.header.Get("Authorization") != "Bearer secret-of-the-hook" || len(n.resources) > 0 || n.status != "active" {
					t.Errorf("%+v", n)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("told of %v, want %v", got, want)
			}
			if n := s.heard("/hook/theirs", "event-notification"); len(n) > 0 {
				t.Errorf("another tenant was told %+v", n)
			}
			body := c.must(200, "GET", "/Subscription/"+id, "").Body.String() + c.must(200, "GET", "/Subscription/"+id+"/_history", "").Body.String()
			if strings.Contains(body+c.logged.String(), "secret-of-the-hook") {
				t.Error("what the endpoint alone is to see is shown")
			}
			c.must(204, "DELETE", "/Subscription/"+id, "")
		})
	}
}

// N-02, N-03, N-04, T185, T186, T194, T197, T198, T204: what is not supported, not known
// or not admitted is refused with its place, and nobody is asked anything.
func TestASubscriptionThatIsNotSupportedIsRefused(t *testing.T) {
	s := newSink(t)
	c := telling(t, "subs-refused", tenant.Shared, s)
	good := subscribing("encounter-start", s.URL+"/hook/a", "id-only", "Encounter?patient=Patient/7")
	for _, tt := range []struct{ claim, old, new, place string }{
		{"an unknown topic", "encounter-start", "weather", "Subscription.criteria"},
		{"classic criteria", "urn:cordon:topic:encounter-start", "Encounter?status=planned", "Subscription.criteria"},
		{"a filter that the topic has not", "Encounter?patient=", "Encounter?reason-code=", "Subscription.criteria.extension[0]"},
		{"a filter on another type", "Encounter?patient=", "Observation?patient=", "Subscription.criteria.extension[0]"},
		{"a chain", "Encounter?patient=Patient/7", "Encounter?patient.name=x", "Subscription.criteria.extension[0]"},
		{"a reverse chain", "Encounter?patient=Patient/7", "Encounter?_has:Condition:encounter:code=x", "Subscription.criteria.extension[0]"},
		{"a patient of another tenant", "patient=Patient/7", "patient=" + baseOf("alpha-one") + "/Patient/7", "Subscription.criteria.extension[0]"},
		{"a filter without a value", "Encounter?patient=Patient/7", "Encounter?patient=", "Subscription.criteria.extension[0]"},
		{"another extension of the criteria", "backport-filter-criteria", "backport-other", "Subscription.criteria.extension[0]"},
		{"status active", `"requested"`, `"active"`, "Subscription.status"},
		{"websocket", `"rest-hook"`, `"websocket"`, "Subscription.channel.type"},
		{"email", `"rest-hook"`, `"email"`, "Subscription.channel.type"},
		{"another payload", `"application/fhir+json"`, `"application/fhir+xml"`, "Subscription.channel.payload"},
		{"an unknown content", `"id-only"`, `"some"`, "Subscription.channel.payload.extension[0]"},
		{"no content", "backport-payload-content", "payload", "Subscription.channel.payload.extension"},
		{"an extension of R5", `"reason":`, `"extension":[{"url":"http://hl7.org/fhir/5.0/StructureDefinition/extension-Subscription.topic","valueUri":"x"}],"reason":`, "Subscription.extension"},
		{"an unknown extension of the channel", `"type":"rest-hook"`, `"extension":[{"url":"http://x.example/y","valueString":"z"}],"type":"rest-hook"`, "Subscription.channel.extension[0]"},
		{"a heartbeat every second", `"type":"rest-hook"`, `"extension":[{"url":"http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-heartbeat-period","valueUnsignedInt":1}],"type":"rest-hook"`, "Subscription.channel.extension[0]"},
		{"an end that is over", `"reason":`, `"end":"2020-01-01T00:00:00Z","reason":`, "Subscription.end"},
		{"a header of ours", "Authorization: Bearer", "Host: x", "Subscription.channel.header[0]"},
		{"a header that breaks the line", "Authorization: Bearer", `X: y\r\nHost: z`, "Subscription.channel.header[0]"},
		{"another endpoint", s.URL + "/hook/a", s.URL + "/private", "Subscription.channel.endpoint"},
		{"http", "https://127", "http://127", "Subscription.channel.endpoint"},
		{"a user", "https://127", "https://u:p@127", "Subscription.channel.endpoint"},
		{"a path that leads up", "/hook/a", "/hook/../private", "Subscription.channel.endpoint"},
		{"a path that leads up in disguise", "/hook/a", "/hook/%2e%2e/private", "Subscription.channel.endpoint"},
		{"a fragment", "/hook/a", "/hook/a#b", "Subscription.channel.endpoint"},
		{"a query", "/hook/a", "/hook/a?b=c", "Subscription.channel.endpoint"},
		{"the loopback", s.URL + "/hook/a", "https://2130706433/hook/a", "Subscription.channel.endpoint"},
		{"the metadata of a cloud", s.URL + "/hook/a", "https://169.254.169.254/hook/a", "Subscription.channel.endpoint"},
		{"a file", s.URL + "/hook/a", "file:///hook/a", "Subscription.channel.endpoint"},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			body := strings.Replace(good, tt.old, tt.new, 1)
			if body == good {
				t.Fatal("nothing is wrong with it")
			}
			c := &client{c.api, t, c.slug, c.bearer}
			w := c.must(422, "POST", "/Subscription", body)
			if got := at(shown(t, w), "issue", 0, "expression", 0); got != tt.place {
				t.Errorf("place %v in %s", got, w.Body)
			}
			if strings.Contains(w.Body.String(), "secret") {
				t.Errorf("it echoes: %s", w.Body)
			}
		})
	}
	c.must(403, "POST", "/Subscription", good, "Authorization", "Bearer "+c.token(t, c.slug, "system/Subscription.cruds system/Encounter.r"))
	c.must(403, "POST", "/Subscription", good, "Authorization", "Bearer "+c.token(t, c.slug, "system/Subscription.cruds system/Encounter.s"))
	if s.asked > 0 {
		t.Errorf("the sink was asked %d times", s.asked)
	}
}

// N-09, T181, T182, T192: of what a subscriber may not see nothing is told and nothing
// counted; and what it may see no longer when it is told is told as a number alone.
func TestASubscriberIsToldWhatItMaySee(t *testing.T) {
	s := newSink(t)
	c := telling(t, "subs-hidden", tenant.Shared, s)
	ofWomen := c.client(t, c.slug, "system/Subscription.cruds system/Patient.rs?gender=female")
	ofWomen.subscribe(subscribing("patient-change", s.URL+"/hook/women", "full-resource"))
	person := func(id, gender string) string {
		return `{"resourceType":"Patient","id":"` + id + `","gender":"` + gender + `"}`
	}
	his, hers, moved := fresh(), fresh(), fresh()
	c.must(201, "PUT", "/Patient/"+his, person(his, "male"))
	c.must(201, "PUT", "/Patient/"+hers, person(hers, "female"))
	eventually(t, "she is told of", func() bool { return len(s.numbers("/hook/women")) == 1 })
	refused := make(chan struct{}, 100)
	s.set(func(n notice) int { refused <- struct{}{}; return 503 })
	c.must(201, "PUT", "/Patient/"+moved, person(moved, "female"))
	<-refused
	c.must(200, "PUT", "/Patient/"+moved, person(moved, "male"))
	s.set(nil)
	eventually(t, "the number is told", func() bool { return len(s.numbers("/hook/women")) >= 2 })
	last := person(fresh(), "female")
	c.must(201, "POST", "/Patient", last)
	eventually(t, "what comes later is told", func() bool { return len(s.numbers("/hook/women")) >= 3 })
	var resources []string
	var raw string
	for _, n := range s.heard("/hook/women", "") {
		resources = append(resources, n.resources...)
		raw += n.raw
	}
	if got := s.numbers("/hook/women"); !slices.Equal(got, upTo(3)) {
		t.Errorf("numbers %v", got)
	}
	if len(resources) != 2 || strings.Contains(raw, his) || strings.Contains(raw, moved) {
		t.Errorf("told %s", raw)
	}
}

// T182, N-09: a subscriber whose client is disabled is told nothing more, and its
// Subscription says so although nothing happens.
func TestASubscriptionEndsWithItsSubscriber(t *testing.T) {
	s := newSink(t)
	f := storetest.New(t)
	if _, _, err := f.Migrator.Provision(t.Context(), store.NewTenant{Slug: "subs-leaver", Mode: tenant.Schema}); err != nil {
		t.Fatal(err)
	}
	on := f.Tenant(t, "subs-leaver")
	leaver, _, disable, _ := mayLeave(t, on, "subs-leaver", all)
	leaver.endpoints(t, on.Slug.String(), s.URL+"/hook/")
	leaver.tells(t, loopback, on.Slug.String())
	id := leaver.subscribe(subscribing("patient-change", s.URL+"/hook/x", "id-only"))
	disable()
	staff := newAPI(t).client(t, on.Slug.String(), all)
	staff.must(201, "POST", "/Patient", patient("", "x"))
	if why := staff.becomes(id, "error"); !strings.Contains(why, "subscriber") {
		t.Error(why)
	}
	if n := s.numbers("/hook/x"); len(n) > 0 {
		t.Errorf("told %v", n)
	}
}

// T184, T186: a policy that hides parts of records hides them in notifications, one that
// comes meanwhile too; and who edits a Subscription is its subscriber from then on,
// after another handshake, and counts anew.
func TestANotificationIsUnderThePolicyOfItsMoment(t *testing.T) {
	s := newSink(t)
	a := newAPI(t)
	const open, masked = `@id("all") permit (principal, action, resource);`, `@id("masked") @mask("Patient.name")
		permit (principal == Client::"masked", action, resource);
		@id("staff") permit (principal == Client::"tester", action, resource);`
	g := govern(t, a, "subs-policy", open)
	a.endpoints(t, g.slug, s.URL+"/hook/")
	a.tells(t, loopback, g.slug)
	staff := a.client(t, g.slug, all)
	hers := a.client(t, g.slug, all, func(tok *smart.Token) { tok.Client, tok.Subject = "masked", "masked" })
	id := hers.subscribe(subscribing("patient-change", s.URL+"/hook/hers", "full-resource"))
	staff.must(201, "POST", "/Patient", patient("", "shown-name"))
	eventually(t, "the first is told", func() bool { return len(s.numbers("/hook/hers")) == 1 })
	g.choose(masked)
	a.Tenants.Forget(g.slug)
	staff.must(201, "POST", "/Patient", patient("", "hidden-name"))
	eventually(t, "the second is told", func() bool { return len(s.numbers("/hook/hers")) == 2 })
	n := s.heard("/hook/hers", "event-notification")
	if !strings.Contains(n[0].raw, "shown-name") || strings.Contains(n[1].raw, `"family"`) || len(n[1].resources) != 1 {
		t.Errorf("%s\n%s", n[0].raw, n[1].raw)
	}
	body := strings.Replace(subscribing("patient-change", s.URL+"/hook/theirs", "id-only"), `"status"`, `"id":"`+id+`","status"`, 1)
	staff.must(200, "PUT", "/Subscription/"+id, body)
	staff.becomes(id, "active")
	staff.must(201, "POST", "/Patient", patient("", "x"))
	eventually(t, "the new subscriber is told", func() bool { return len(s.numbers("/hook/theirs")) == 1 })
	if kinds := s.heard("/hook/theirs", ""); kinds[0].kind != "handshake" || kinds[0].count != "0" || kinds[1].numbers[0] != "1" {
		t.Errorf("%+v", kinds)
	}
	if n := s.numbers("/hook/hers"); len(n) != 2 {
		t.Errorf("the former subscriber is told %v", n)
	}
}

// INT-05: an endpoint that the operator admits no longer is told nothing more.
func TestAnEndpointIsToldAsLongAsItIsAdmitted(t *testing.T) {
	s := newSink(t)
	c := telling(t, "subs-ended", tenant.Shared, s)
	id := c.subscribe(subscribing("patient-change", s.URL+"/hook/x", "id-only"))
	c.endpoints(t, c.slug, "https://elsewhere.example/")
	c.must(201, "POST", "/Patient", patient("", "x"))
	if why := c.becomes(id, "error"); !strings.Contains(why, "operator") {
		t.Error(why)
	}
	if n := s.numbers("/hook/x"); len(n) > 0 {
		t.Errorf("told %v", n)
	}
}

// A subscriber whom the tenant lists for exports that are de-identified is told nothing
// more: it gets nothing else.
func TestWhoGetsDeidentifiedExportsIsToldNothing(t *testing.T) {
	s := newSink(t)
	c := telling(t, "subs-deidentified", tenant.Shared, s)
	id := c.subscribe(subscribing("patient-change", s.URL+"/hook/x", "full-resource"))
	c.settings(t, c.slug, func(s *tenant.Settings) { s.Export.Deidentified = []string{"tester"} })
	staff := c.client(t, c.slug, all, func(tok *smart.Token) { tok.Client, tok.Subject = "staff", "staff" })
	staff.must(201, "POST", "/Patient", patient("", "x"))
	staff.becomes(id, "error")
	if n := s.numbers("/hook/x"); len(n) > 0 {
		t.Errorf("told %v", n)
	}
}

// T196, T201, T202, N-07: who redirects, hangs, cannot be trusted or does not answer
// with 2xx is not told, keeps nobody else waiting, and its Subscription says why.
func TestAnEndpointThatDoesNotTakeNotificationsHarmsNobodyElse(t *testing.T) {
	s := newSink(t)
	c := telling(t, "subs-endpoints", tenant.Shared, s)
	asked := newSink(t)
	hung := make(chan struct{})
	bad := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hook/moved":
			http.Redirect(w, r, asked.URL+"/hook/moved", http.StatusTemporaryRedirect)
		case "/hook/hangs":
			select {
			case <-r.Context().Done():
			case <-hung:
			}
		case "/hook/long":
			for range 2000 { // its answer has no end that anybody waits for
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		}
	}))
	t.Cleanup(func() { close(hung); bad.Close() })
	untrusted := httptest.NewUnstartedServer(asked)
	untrusted.TLS = foreignTLS(t)
	untrusted.StartTLS()
	t.Cleanup(untrusted.Close)
	c.endpoints(t, c.slug, s.URL+"/hook/", bad.URL+"/hook/", untrusted.URL+"/hook/")
	create := func(endpoint string) string {
		return at(shown(t, c.must(201, "POST", "/Subscription", subscribing("patient-change", endpoint, "empty"))), "id").(string)
	}
	hangs := at(shown(t, c.must(201, "POST", "/Subscription", strings.Replace(subscribing("patient-change", bad.URL+"/hook/hangs", "empty"),
		`"type":"rest-hook"`, `"extension":[{"url":"http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-timeout","valueUnsignedInt":2}],"type":"rest-hook"`, 1))), "id").(string)
	moved, foreign, long := create(bad.URL+"/hook/moved"), create(untrusted.URL+"/hook/x"), create(bad.URL+"/hook/long")
	good := c.subscribe(subscribing("patient-change", s.URL+"/hook/good", "empty"))
	c.must(201, "POST", "/Patient", patient("", "x"))
	eventually(t, "the good one is told", func() bool { return len(s.numbers("/hook/good")) == 1 })
	if n := s.heard("/hook/good", "event-notification")[0]; n.focus[0] != "" || len(n.methods) > 0 {
		t.Errorf("more than nothing: %s", n.raw)
	}
	c.becomes(long, "active")
	if why := c.becomes(moved, "error"); !strings.HasSuffix(why, "307") {
		t.Error(why)
	}
	for _, id := range []string{foreign, hangs} {
		if why := c.becomes(id, "error"); !strings.Contains(why, "reached") {
			t.Error(why)
		}
	}
	if asked.asked > 0 {
		t.Error("somebody else was told")
	}
	c.must(200, "PATCH", "/Subscription/"+good, `[{"op":"replace","path":"/status","value":"off"}]`)
	c.must(201, "POST", "/Patient", patient("", "x"))
	again := create(s.URL + "/hook/again")
	c.becomes(again, "active")
	if n := s.numbers("/hook/good"); len(n) != 1 {
		t.Errorf("told although off: %v", n)
	}
}

// N-01, N-10: a subscriber asks how its subscriptions are and is told of events again,
// within the numbers it names; others learn nothing of them.
func TestASubscriberAsksForItsStatusAndEvents(t *testing.T) {
	s := newSink(t)
	c := telling(t, "subs-asks", tenant.Shared, s)
	id := c.subscribe(subscribing("patient-change", s.URL+"/hook/x", "id-only"))
	for range 3 {
		c.must(201, "POST", "/Patient", patient("", "again"))
	}
	eventually(t, "all are told", func() bool { return len(s.numbers("/hook/x")) == 3 })
	for _, path := range []string{"/Subscription/" + id + "/$status", "/Subscription/$status", "/Subscription/$status?id=" + id + "&status=active"} {
		got := c.must(200, "GET", path, "")
		b := shown(t, got)
		if at(b, "type") != "searchset" || at(b, "total") != 1.0 || !strings.Contains(got.Body.String(), `"query-status"`) || !strings.Contains(got.Body.String(), "/Subscription/"+id) || !strings.Contains(got.Body.String(), `"valueString":"3"`) {
			t.Errorf("%s: %s", path, got.Body)
		}
	}
	if got := c.must(200, "GET", "/Subscription/$status?status=error", ""); at(shown(t, got), "total") != 0.0 {
		t.Error(got.Body)
	}
	n := noticed(c.must(200, "GET", "/Subscription/"+id+"/$events?eventsSinceNumber=2&eventsUntilNumber=3&content=full-resource", "").Body.Bytes())
	if n.kind != "query-event" || !slices.Equal(n.numbers, []string{"2", "3"}) || len(n.resources) != 2 || !strings.Contains(n.resources[0], "again") {
		t.Errorf("%+v", n)
	}
	c.must(400, "GET", "/Subscription/"+id+"/$events?eventsSinceNumber=x", "")
	c.must(400, "GET", "/Subscription/"+id+"/$events?content=all", "")
	somebody := c.client(t, c.slug, all, func(tok *smart.Token) { tok.Client, tok.Subject = "somebody", "somebody" })
	somebody.must(404, "GET", "/Subscription/"+id+"/$status", "")
	somebody.must(404, "GET", "/Subscription/"+id+"/$events", "")
	if got := somebody.must(200, "GET", "/Subscription/$status", ""); at(shown(t, got), "total") != 0.0 {
		t.Error(got.Body)
	}
	auditor := c.client(t, c.slug, "system/AuditEvent.rs")
	if got := auditor.must(200, "GET", "/AuditEvent?agent=tester&_count=100", "").Body.String(); strings.Count(got, `"Subscription/`+id) < 4 {
		t.Errorf("the trail does not tell of what was delivered: %s", got)
	}
	claim := c.must(200, "GET", "/metadata", "").Body.String()
	for _, want := range []string{subscriptions.Profile, subscriptions.Topics()[0], "backport-subscription-server-r4", "backport-subscription-status"} {
		if !strings.Contains(claim, want) {
			t.Errorf("the CapabilityStatement does not name %s", want)
		}
	}
}

// N-04, N-07: who asks for it is told that all is well, with the count and no number of
// its own; and a Subscription whose end is over is off.
func TestASubscriberIsToldThatAllIsWell(t *testing.T) {
	s := newSink(t)
	c := telling(t, "subs-beat", tenant.Shared, s)
	c.subscribe(strings.Replace(subscribing("patient-change", s.URL+"/hook/beat", "id-only"), `"type":"rest-hook"`,
		`"extension":[{"url":"http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/backport-heartbeat-period","valueUnsignedInt":5}],"type":"rest-hook"`, 1))
	ends := c.subscribe(strings.Replace(subscribing("patient-change", s.URL+"/hook/ends", "id-only"), `"reason"`,
		`"end":"`+time.Now().Add(4*time.Second).UTC().Format(time.RFC3339)+`","reason"`, 1))
	c.must(201, "POST", "/Patient", patient("", "x"))
	eventually(t, "there is a heartbeat", func() bool { return len(s.heard("/hook/beat", "heartbeat")) > 0 })
	if n := s.heard("/hook/beat", "heartbeat")[0]; n.count != "1" || len(n.numbers) > 0 || n.status != "active" {
		t.Errorf("%s", n.raw)
	}
	c.becomes(ends, "off")
	c.must(201, "POST", "/Patient", patient("", "x"))
	eventually(t, "the other is told", func() bool { return len(s.numbers("/hook/beat")) == 2 })
	if n := s.numbers("/hook/ends"); len(n) > 1 {
		t.Errorf("told after its end: %v", n)
	}
}

// T194: an endpoint whose address is behind the operator's walls is not reached,
// whoever admitted it.
func TestAnEndpointBehindTheWallsIsNotReached(t *testing.T) {
	s := newSink(t)
	a := newAPI(t)
	const slug = "subs-walls"
	if _, _, err := a.Migrator.Provision(t.Context(), store.NewTenant{Slug: slug, Mode: tenant.Shared}); err != nil {
		t.Fatal(err)
	}
	a.endpoints(t, slug, s.URL+"/hook/")
	a.tells(t, nil, slug)
	c := a.client(t, slug, all)
	id := at(shown(t, c.must(201, "POST", "/Subscription", subscribing("patient-change", s.URL+"/hook/x", "empty"))), "id").(string)
	c.becomes(id, "error")
	if s.asked > 0 {
		t.Error("it was reached")
	}
}
