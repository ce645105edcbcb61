package breakout

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// A Trial is one attack of one tenant on another.
type Trial struct {
	Attack           Attack
	Attacker, Victim string // slugs
	// NotRun says why the attack was not made, if it was not.
	NotRun string
	// Findings is what was not as it must be.
	Findings []Finding
	// Exchanges are all requests that were sent, and their answers.
	Exchanges []*Exchange
	// Alerts are how many must have been raised, by rule; by those in MayAlert any
	// number may.
	Alerts   map[string]int
	MayAlert []string

	suite *Suite
	at    map[string]*party // "attacker", "victim"
	vars  map[string]string
	ids   []string // those of vars that are ids, the longest first
	first map[string]*Exchange
	mu    sync.Mutex
}

// A Finding is what was not as it must be. It repeats nothing of an answer.
type Finding struct {
	Condition string `json:"condition"` // C1 to C6, or "answer"
	What      string `json:"what"`
	Request   string `json:"request,omitempty"` // method and URL
}

// Moves reports whether the attack itself writes in the victim, as the victim.
func (t *Trial) Moves() bool { return t.Attack.moves }

// Try makes the attack of one tenant on another and holds the answers against
// what the attack says and against C1. Conditions are for Run, or for who sees
// more than a client does.
func (s *Suite) Try(ctx context.Context, a Attack, attacker, victim string) *Trial {
	t := &Trial{
		Attack: a, Attacker: attacker, Victim: victim, Alerts: map[string]int{}, MayAlert: a.mayAlert, suite: s,
		at: map[string]*party{"attacker": s.parties[attacker], "victim": s.parties[victim]}, first: map[string]*Exchange{},
	}
	if t.NotRun = t.lacks(); t.NotRun != "" {
		return t
	}
	t.name()
	for _, step := range a.Steps {
		t.take(ctx, step)
	}
	if a.do != nil && ctx.Err() == nil {
		a.do(ctx, t)
	}
	return t
}

// lacks says which actor is missing, "" if none is.
func (t *Trial) lacks() string {
	for _, need := range t.Attack.actorsOf() {
		who, method, _ := strings.Cut(need, " ")
		p, role := t.of(who)
		a := p.actors[role]
		switch {
		case a == nil:
			return p.Slug + " has no client that plays " + role
		case method != "" && !a.may(method):
			return p.Slug + " has no client that plays " + role + " and may write"
		}
	}
	return ""
}

// of returns the tenant and the actor that who names.
func (t *Trial) of(who string) (*party, string) {
	if role, ok := strings.CutPrefix(who, "victim:"); ok {
		return t.at["victim"], role
	}
	return t.at["attacker"], who
}

// name gives values to the names that steps use:
//
//	«attacker» «victim» «nowhere»    FHIR bases; the last of a tenant that never existed
//	«a» «v»                          slugs
//	«root»                           the base of all FHIR bases, up to the slug
//	«p1» «o1» «d1»                   ids that every tenant has
//	«p2» «o2» «e2» …                 the same, of a patient that pA may not see
//	«patient» «mine»                 pA's own patient, and an Observation about that patient
//	«never»                          an id that never existed
//	«fresh» «fresh2»                 ids that nothing has before the attack
//	«only1» «only2» … «vid» «vobs»   ids that only the victim has
//	«vmrn»                           an identifier (system mrn) that only the victim has
//	«v:name» «a:name» …              canaries of the victim and the attacker, by place
//	«run»                            identifier (system urn:breakout:run) of all Patients of the run
func (t *Trial) name() {
	s, a, v := t.suite, t.at["attacker"], t.at["victim"]
	n := s.requests.Add(2)
	ids := map[string]string{
		"patient": a.patient(s.id("p1")), "never": s.id("never"), "fresh": s.id(fmt.Sprintf("f%d", n)), "fresh2": s.id(fmt.Sprintf("f%d", n+1)),
		"vid": v.canaries["id"], "vobs": s.id(fmt.Sprintf("vobs-%d", v.index)),
	}
	for _, id := range shared {
		ids[id] = s.id(id)
	}
	for i := range s.walk {
		ids[fmt.Sprintf("only%d", i)] = s.onlyID(v, i)
	}
	t.vars = map[string]string{
		"attacker": a.FHIRBase, "victim": v.FHIRBase, "nowhere": s.nowhere, "a": a.Slug, "v": v.Slug, "root": strings.TrimSuffix(a.FHIRBase, a.Slug),
		"vmrn": s.mrn(v), "run": s.run, "value": fmt.Sprintf("%s-%d", s.run, n),
	}
	for place := range v.canaries {
		t.vars["v:"+place], t.vars["a:"+place] = v.canaries[place], a.canaries[place]
	}
	maps.Copy(t.vars, ids)
	t.ids = slices.SortedFunc(maps.Values(ids), func(x, y string) int { return cmp.Or(len(y)-len(x), strings.Compare(x, y)) })
}

// fill puts the values of the run into a text.
func (t *Trial) fill(text string) string {
	if !strings.Contains(text, "«") {
		return text
	}
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(text, "«")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		name, after, _ := strings.Cut(rest, "»")
		b.WriteString(t.vars[name])
		text = after
	}
}

func (t *Trial) fillAll(texts []string) []string {
	all := make([]string, len(texts))
	for i, text := range texts {
		all[i] = t.fill(text)
	}
	return all
}

// request makes one of a step.
func (t *Trial) request(s Step) request {
	r := request{method: s.method, url: t.fill(s.url), body: t.fill(s.body), header: http.Header{}, raw: s.isRaw}
	base := t.at["attacker"].FHIRBase
	if s.who != "" {
		p, role := t.of(s.who)
		r.actor, base = p.actors[role], p.FHIRBase
	}
	if !strings.HasPrefix(r.url, "http") {
		r.url = base + r.url
	}
	switch {
	case r.body == "":
	case s.method == http.MethodPatch:
		r.header.Set("Content-Type", "application/json-patch+json")
	case strings.Contains(s.url, "/_search"):
		r.header.Set("Content-Type", "application/x-www-form-urlencoded")
	default:
		r.header.Set("Content-Type", "application/fhir+json")
	}
	for i := 0; i+1 < len(s.header); i += 2 {
		if s.header[i] == "Content-Type" {
			r.header.Del(s.header[i])
		}
		r.header.Add(s.header[i], t.fill(s.header[i+1]))
	}
	return r
}

// take does a step. It returns nil if there was no answer, which is a finding.
func (t *Trial) take(ctx context.Context, s Step) *Exchange {
	x := t.send(ctx, t.request(s))
	if s.alerts != "" {
		t.Alerts[s.alerts]++
	}
	if x != nil {
		t.hold(s, x)
	}
	return x
}

// send sends a request of the trial and holds the answer against C1.
func (t *Trial) send(ctx context.Context, r request) *Exchange {
	x, err := t.suite.do(ctx, r)
	if err != nil {
		t.finding("answer", &Exchange{Method: r.method, URL: r.url}, "there is no answer: %s", plain(err))
		return nil
	}
	t.took(x)
	return x
}

// took notes an exchange.
func (t *Trial) took(x *Exchange) {
	t.mu.Lock()
	t.Exchanges = append(t.Exchanges, x)
	if own := t.suite.parties[x.Owner]; own != nil {
		own.made = append(own.made, x.stored()...)
	}
	t.mu.Unlock()
	t.clean(x)
}

// plain says why there was no answer, without the URL.
func plain(err error) string {
	if u, ok := err.(*url.Error); ok {
		err = u.Err
	}
	return err.Error()
}

// clean is C1: an answer holds no canary of a tenant other than the one whose
// token was shown, except what the request itself said.
func (t *Trial) clean(x *Exchange) {
	var text bytes.Buffer
	x.Header.Write(&text)
	text.Write(x.Body)
	for _, w := range t.suite.hunter.Find(text.Bytes()) {
		if w.Owner != x.Owner && !strings.Contains(x.URL, w.Plain) && !strings.Contains(x.Sent, w.Plain) {
			t.finding("C1", x, "the answer holds the %s of %s %s", w.Place, w.Owner, w.Disguise)
		}
	}
}

func (t *Trial) finding(condition string, x *Exchange, format string, args ...any) {
	f := Finding{Condition: condition, What: fmt.Sprintf(format, args...)}
	if x != nil {
		f.Request = x.Method + " " + x.URL
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Findings = append(t.Findings, f)
}

// hold holds an answer against what the step asks.
func (t *Trial) hold(s Step, x *Exchange) {
	if len(s.wants) > 0 && !slices.Contains(s.wants, x.Status) {
		t.finding("answer", x, "the status is %d, want %v", x.Status, s.wants)
	}
	if s.label != "" {
		t.alike(s.label, x)
	}
	for _, text := range t.fillAll(s.shows) {
		if !bytes.Contains(x.Body, []byte(text)) {
			t.finding("answer", x, "the answer does not hold what is the asker's own")
		}
	}
	for _, text := range t.fillAll(s.hides) {
		if bytes.Contains(x.Body, []byte(text)) {
			t.finding("answer", x, "the answer holds what the asker may not see")
		}
	}
	if s.finds != nil || s.total != "" || s.keeps != "" || s.refusal {
		t.holdBundle(s, x)
	}
}

func (t *Trial) holdBundle(s Step, x *Exchange) {
	b, ok := x.bundle()
	if !ok {
		if !slices.Contains(s.wants, x.Status) || x.Status == http.StatusOK {
			t.finding("answer", x, "the answer is no Bundle, but %d", x.Status)
		}
		return
	}
	if s.finds != nil {
		want := t.fillAll(s.finds)
		got := b.refs()
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.finding("answer", x, "it finds %d resources, want %d others", len(got), len(want))
		}
		if len(want) == 0 && b.Total != nil && *b.Total != 0 {
			t.finding("answer", x, "it counts %d, want none", *b.Total)
		}
	}
	if s.total != "" && b.Total != nil && strconv.Itoa(*b.Total) != s.total {
		t.finding("answer", x, "it counts %d, want %s", *b.Total, s.total)
	}
	if s.keeps != "" {
		t.keepNext(s.keeps, b, x)
	}
	if s.refusal {
		for i, status := range b.statuses() {
			if !slices.Contains([]string{"400", "403", "404", "405"}, status) {
				t.finding("answer", x, "entry %d is answered %s", i, status)
			}
		}
	}
}

// keepNext makes the link next known by a name, and by name@victim as it would
// be at the victim.
func (t *Trial) keepNext(name string, b *bundle, x *Exchange) {
	next := b.next()
	if next == "" {
		t.finding("answer", x, "there is no link next")
		return
	}
	t.vars[name] = next
	t.vars[name+"@victim"] = strings.Replace(next, t.at["attacker"].FHIRBase, t.at["victim"].FHIRBase, 1)
}

// alike fails unless the answers of a label are equal but for their request ids,
// dates, and the ids that were asked for.
func (t *Trial) alike(label string, x *Exchange) {
	before := t.first[label]
	if before == nil {
		t.first[label] = x
		return
	}
	if before.Status != x.Status {
		t.finding("answer", x, "it is answered %d, and what must not be told from it %d", x.Status, before.Status)
		return
	}
	a, b := t.neutral(before), t.neutral(x)
	if name := different(a.header, b.header); name != "" {
		t.finding("answer", x, "its header %s differs from that of what must not be told from it", name)
	}
	if !bytes.Equal(a.body, b.body) {
		t.finding("answer", x, "its body (%d bytes) differs from that of what must not be told from it (%d bytes)", len(x.Body), len(before.Body))
	}
}

type answer struct {
	header map[string]string
	body   []byte
}

// neutral is an answer without what may differ.
func (t *Trial) neutral(x *Exchange) answer {
	a := answer{header: map[string]string{}}
	blank := func(text string) string {
		if t.Attack.names || !t.suite.opt.Strict {
			for _, id := range t.ids {
				text = strings.ReplaceAll(text, id, "ID")
			}
		}
		return strings.ReplaceAll(text, x.ID, "REQUEST")
	}
	for name, values := range x.Header {
		if !slices.Contains([]string{"Date", "X-Request-Id", "X-Correlation-Id", "Traceparent", "Content-Length"}, name) {
			a.header[name] = blank(strings.Join(values, ", "))
		}
	}
	a.body = []byte(blank(string(moments.ReplaceAll(x.Body, nil))))
	return a
}

// different names a header that is not the same in both.
func different(a, b map[string]string) string {
	for _, name := range slices.Sorted(maps.Keys(a)) {
		if value, ok := b[name]; !ok || value != a[name] {
			return name
		}
	}
	for _, name := range slices.Sorted(maps.Keys(b)) {
		if _, ok := a[name]; !ok {
			return name
		}
	}
	return ""
}
