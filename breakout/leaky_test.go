package breakout

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A leaky server is a small FHIR server of two tenants, which is honest unless it
// has a fault. Its access tokens are "tenant actor".
type leaky struct {
	fault string
	url   string

	mu     sync.Mutex
	at     map[string]map[string]string   // bodies by tenant and reference
	trails map[string][]map[string]string // request and outcome, by tenant
	alerts int
	served int
}

// newLeaky starts one, and returns what its operator would tell the suite.
func newLeaky(t *testing.T, fault string) (*leaky, *Target) {
	s := &leaky{fault: fault, at: map[string]map[string]string{"north": {}, "south": {}}, trails: map[string][]map[string]string{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.url = server.URL
	target := &Target{Ops: server.URL}
	dir := t.TempDir()
	for _, slug := range []string{"north", "south"} {
		tenant := &Tenant{Slug: slug, FHIRBase: server.URL + "/fhir/" + slug}
		for role, scope := range map[string]string{"backend": "system/*.cruds", "reader": "system/*.rs", "auditor": "system/AuditEvent.rs", "dr1": "user/*.cruds", "pA": "patient/*.rs"} {
			file := filepath.Join(dir, slug+role)
			if err := os.WriteFile(file, []byte(slug+" "+role+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			c := &Client{ID: role, Scopes: []string{scope}, TokenFile: file}
			if role == "pA" {
				c.Patient = "own"
			}
			tenant.Clients = append(tenant.Clients, c)
		}
		target.Tenants = append(target.Tenants, tenant)
	}
	return s, target
}

func (s *leaky) has(fault string) bool { return s.fault == fault }

// A visit is one request, and who makes it.
type visit struct{ home, actor, tenant string }

func (s *leaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.URL.Path == "/metrics" {
		fmt.Fprintf(w, "cordon_alerts_total{rule=\"%s\"} %d\ncordon_alerts_total{rule=\"%s\"} %d\n", CrossTenant, s.alerts, OtherInHeader, s.alerts)
		return
	}
	parts := strings.SplitN(strings.TrimPrefix(r.URL.Path, "/fhir/"), "/", 2)
	v := visit{tenant: parts[0]}
	v.home, v.actor, _ = strings.Cut(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), " ")
	body, _ := io.ReadAll(r.Body)
	status, text := s.answer(v, r, strings.TrimPrefix(r.URL.Path, "/fhir/"+parts[0]), string(body))
	s.audit(v, r, status)
	w.Header().Set("X-Request-Id", r.Header.Get("X-Request-Id"))
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if s.has("a version is told") {
		w.Header().Set("Server", "Leaky/1.0")
	}
	if other := s.other(v.home); s.has("an error tells of a record, encoded") && status == 404 {
		for ref, body := range s.at[other] {
			if strings.HasSuffix(ref, "-p1") {
				w.Header().Set("X-Debug", base64.StdEncoding.EncodeToString([]byte(body)))
			}
		}
	}
	w.WriteHeader(status)
	io.WriteString(w, text)
}

func (s *leaky) other(slug string) string {
	return map[string]string{"north": "south", "south": "north"}[slug]
}

// audit writes an entry into the trail of who asks.
func (s *leaky) audit(v visit, r *http.Request, status int) {
	if s.at[v.home] == nil || s.has("reads are not audited") && r.Method == "GET" {
		return
	}
	outcome := "0"
	if status >= 400 && !s.has("failures are audited as successes") {
		outcome = "4"
	}
	e := map[string]string{"id": r.Header.Get("X-Request-Id"), "outcome": outcome}
	s.trails[v.home] = append(s.trails[v.home], e)
	if s.has("the other tenant's trail tells of it") {
		s.trails[s.other(v.home)] = append(s.trails[s.other(v.home)], e)
	}
}

func outcome(code string) string {
	return `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"` + code + `"}]}`
}

func (s *leaky) answer(v visit, r *http.Request, path, body string) (int, string) {
	named := r.Header.Values("X-Tenant-Id")
	switch {
	case s.at[v.home] == nil:
		return 401, outcome("login")
	case v.home != v.tenant && s.has("a token is good at every tenant") && s.at[v.tenant] != nil:
	case v.home != v.tenant:
		if !s.has("nobody is alerted") {
			s.alerts++
		}
		if s.has("whether a tenant is there is told") && s.at[v.tenant] != nil {
			return 403, outcome("suppressed")
		}
		return 403, outcome("forbidden")
	case len(named) == 1 && s.has("a header chooses the tenant"):
		v.tenant = named[0]
	case len(named) > 0 && (len(named) > 1 || named[0] != v.tenant):
		s.alerts++
		return 400, outcome("invalid")
	}
	if path == "" && r.Method == "POST" {
		return 200, s.bundle(v, body)
	}
	return s.interact(v, r.Method, strings.TrimPrefix(path, "/"), r.URL.RawQuery, body)
}

// bundle does the entries of a batch or a transaction.
func (s *leaky) bundle(v visit, body string) string {
	var b struct {
		Type  string
		Entry []struct {
			Resource json.RawMessage
			Request  struct{ Method, URL string }
		}
	}
	json.Unmarshal([]byte(body), &b)
	var entries []string
	for _, e := range b.Entry {
		ref, query, _ := strings.Cut(e.Request.URL, "?")
		status, text := s.interact(v, e.Request.Method, ref, query, string(e.Resource))
		if text == "" {
			text = "null"
		}
		entries = append(entries, fmt.Sprintf(`{"resource":%s,"response":{"status":"%d"}}`, text, status))
	}
	return `{"resourceType":"Bundle","type":"` + b.Type + `-response","entry":[` + strings.Join(entries, ",") + `]}`
}

// interact does one interaction.
func (s *leaky) interact(v visit, method, ref, query, body string) (int, string) {
	rows := s.at[v.tenant]
	if s.served++; s.has("now and then a connection is another tenant's") && s.served%17 == 0 && method == "GET" {
		rows = s.at[s.other(v.tenant)]
	}
	kind, id, one := strings.Cut(ref, "/")
	switch {
	case kind == "AuditEvent":
		return 200, s.trail(v.tenant)
	case method == "PUT" && v.actor != "backend", method == "POST", method == "PATCH":
		return 403, outcome("forbidden")
	case method == "PUT":
		rows[ref] = body
		return 201, body
	case !one:
		return 200, s.search(v, rows, kind, query)
	case rows[ref] == "" && method == "DELETE" && s.has("a delete reaches every tenant"):
		delete(s.at[s.other(v.tenant)], ref)
		return 404, outcome("not-found")
	case rows[ref] == "":
		return 404, outcome("not-found")
	case !v.sees(ref, rows[ref]) && s.has("what is hidden is forbidden"):
		return 403, outcome("forbidden")
	case !v.sees(ref, rows[ref]):
		return 404, outcome("not-found")
	case method == "DELETE" && s.has("nothing can be removed"):
		return 405, outcome("not-supported")
	case method == "DELETE":
		delete(rows, ref)
		return 204, ""
	}
	_ = id
	return 200, rows[ref]
}

// sees reports whether a patient's app may see the resource; others see all.
func (v visit) sees(ref, body string) bool {
	return v.actor != "pA" || ref == "Patient/own" || strings.Contains(body, `"Patient/own"`)
}

// search finds what holds all values of the query.
func (s *leaky) search(v visit, rows map[string]string, kind, query string) string {
	found := []string{}
	look := []map[string]string{rows}
	if s.has("a search looks into every tenant") {
		look = append(look, s.at[s.other(v.tenant)])
	}
	for _, in := range look {
		for ref, body := range in {
			if strings.HasPrefix(ref, kind+"/") && v.sees(ref, body) && meets(body, query) {
				found = append(found, fmt.Sprintf(`{"fullUrl":"%s/fhir/%s/%s","resource":%s}`, s.url, v.tenant, ref, body))
			}
		}
	}
	slices.Sort(found)
	return fmt.Sprintf(`{"resourceType":"Bundle","type":"searchset","total":%d,"entry":[%s]}`, len(found), strings.Join(found, ","))
}

func meets(body, query string) bool {
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if slices.Contains([]string{"_total", "_count", "_sort", "_elements", "_lastUpdated"}, name) {
			continue
		}
		if !slices.ContainsFunc(strings.Split(value, ","), func(v string) bool {
			return strings.Contains(body, `"`+v[strings.LastIndex(v, "|")+1:]+`"`)
		}) {
			return false
		}
	}
	return true
}

// trail is the tenant's audit trail, as BALP has it.
func (s *leaky) trail(slug string) string {
	var entries []string
	for _, e := range s.trails[slug] {
		entries = append(entries, fmt.Sprintf(`{"resource":{"resourceType":"AuditEvent","outcome":%q,"entity":[{"type":{"code":"XrequestId"},"what":{"identifier":{"value":%q}}}]}}`, e["outcome"], e["id"]))
	}
	return `{"resourceType":"Bundle","type":"searchset","entry":[` + strings.Join(entries, ",") + `]}`
}

// What the small server answers as the contract asks.
var withinReach = []string{"T001", "T004", "T005", "T057", "T058", "T070", "T077", "T078", "T150", "T160", "T254", "T269"}

func TestAnHonestServerHolds(t *testing.T) {
	s, target := newLeaky(t, "")
	sheet, err := Run(t.Context(), target, Options{Rate: 1e6, Only: withinReach})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range sheet.Attacks {
		if len(r.Broken) > 0 || r.Tried == 0 || len(r.NotRun) > 0 {
			t.Errorf("%s: tried %d, not run: %v, broken: %+v", r.ID, r.Tried, r.NotRun, r.Broken)
		}
	}
	for _, c := range []string{"C1", "C2", "C3", "C4", "C6"} {
		if got := sheet.condition(c); got.Looked == 0 || got.Broken > 0 {
			t.Errorf("%+v", got)
		}
	}
	if got := sheet.condition("C5"); got.Looked != 0 || got.Unseen == "" {
		t.Errorf("what cannot be seen from outside counts as seen: %+v", got)
	}
	if n := len(s.at["north"]) + len(s.at["south"]); n > 0 || len(sheet.Left) > 0 {
		t.Errorf("%d records of the run are left: %v", n, sheet.Left)
	}
}

// The suite finds what is wrong with a server, each fault by its attack and the
// condition that is there for it. TEN-16
func TestEveryFaultOfALeakyServerIsFound(t *testing.T) {
	for _, tt := range []struct{ fault, attack, condition string }{
		{"a token is good at every tenant", "T001", "answer"},
		{"a token is good at every tenant", "T001", "C1"},
		{"whether a tenant is there is told", "T001", "answer"},
		{"nobody is alerted", "T001", "C6"},
		{"a header chooses the tenant", "T004", "answer"},
		{"a header chooses the tenant", "T004", "C1"},
		{"what is hidden is forbidden", "T254", "answer"},
		{"an error tells of a record, encoded", "T070", "C1"},
		{"a delete reaches every tenant", "T070", "C2"},
		{"a search looks into every tenant", "T077", "answer"},
		{"a search looks into every tenant", "T078", "C1"},
		{"now and then a connection is another tenant's", "T070", "C4"},
		{"now and then a connection is another tenant's", "T150", "answer"},
		{"reads are not audited", "T057", "C3"},
		{"failures are audited as successes", "T070", "C3"},
		{"the other tenant's trail tells of it", "T057", "C3"},
		{"a version is told", "T269", "answer"},
	} {
		t.Run(tt.attack+" "+tt.condition+" finds that "+tt.fault, func(t *testing.T) {
			t.Parallel()
			_, target := newLeaky(t, tt.fault)
			sheet, err := Run(t.Context(), target, Options{Rate: 1e6, Settle: time.Millisecond, Only: []string{tt.attack}})
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range sheet.Attacks[0].Broken {
				if slices.ContainsFunc(b.Findings, func(f Finding) bool { return f.Condition == tt.condition }) {
					if _, held := sheet.Score(); held != 0 {
						t.Error("it counts as held")
					}
					return
				}
			}
			t.Errorf("not found: %+v", sheet.Attacks[0])
		})
	}
}

func TestWhatCannotBeRemovedIsNamed(t *testing.T) {
	_, target := newLeaky(t, "nothing can be removed")
	sheet, err := Run(t.Context(), target, Options{Rate: 1e6, Only: []string{"T077"}})
	if err != nil || len(sheet.Left) == 0 || !strings.HasPrefix(sheet.Left[0], "north/") {
		t.Errorf("left: %v, %v", sheet.Left, err)
	}
}

// An attack that needs a client that is not there is not made, and does not hold.
func TestWhatIsNotTriedIsSaid(t *testing.T) {
	_, target := newLeaky(t, "")
	target.Ops = ""
	for _, tenant := range target.Tenants {
		tenant.Clients = slices.DeleteFunc(tenant.Clients, func(c *Client) bool { return c.ID == "pA" || c.ID == "auditor" })
	}
	sheet, err := Run(t.Context(), target, Options{Rate: 1e6, Only: []string{"T254", "T077"}})
	if err != nil {
		t.Fatal(err)
	}
	if r := sheet.Attacks[0]; r.Tried != 0 || len(r.NotRun) != 2 {
		t.Errorf("T254: %+v", r)
	}
	if tried, held := sheet.Score(); tried != 1 || held != 1 {
		t.Errorf("%d tried, %d held", tried, held)
	}
	for _, c := range []string{"C3", "C6"} {
		if got := sheet.condition(c); got.Looked != 0 || got.Unseen == "" {
			t.Errorf("%+v", got)
		}
	}
	var page strings.Builder
	if err := sheet.Markdown(&page); err != nil || !strings.Contains(page.String(), "has no client that plays pA") {
		t.Errorf("%v: %s", err, page.String())
	}
}

func TestASuiteThatCannotRunFails(t *testing.T) {
	_, target := newLeaky(t, "")
	if _, err := Run(t.Context(), target, Options{Only: []string{"T999"}}); err == nil {
		t.Error("an attack that is not there was made")
	}
	if err := target.Keep("nowhere"); err == nil {
		t.Error("a tenant that is not there was kept")
	}
	if err := target.Keep("north"); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(t.Context(), target, Options{}); err == nil {
		t.Error("one tenant was attacked by nobody")
	}
}

// A name that is in no table would be sent as nothing.
func TestEveryNameInAnAttackHasAValue(t *testing.T) {
	_, target := newLeaky(t, "")
	s, err := Open(t.Context(), target, Options{Rate: 1e6})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range Attacks() {
		trial := &Trial{suite: s, at: map[string]*party{"attacker": s.order[0], "victim": s.order[1]}}
		trial.name()
		for _, step := range a.Steps {
			if step.keeps != "" {
				trial.vars[step.keeps], trial.vars[step.keeps+"@victim"] = "x", "x"
			}
			for _, text := range slices.Concat([]string{step.url, step.body}, step.header, step.finds, step.shows, step.hides) {
				for part := range strings.SplitSeq(text, "«") {
					if name, _, ok := strings.Cut(part, "»"); ok && trial.vars[name] == "" {
						t.Errorf("%s: «%s» in %s", a.ID, name, step)
					}
				}
			}
		}
	}
}
