package breakout

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// An Attack is one line of the suite: what is sent as whom, and what must come
// back.
type Attack struct {
	ID    string // T001
	Also  string // another line that it is, "" for none
	Group int
	Title string // what holds
	// Alone says that the line has no victim: it is tried once for each tenant.
	Alone bool
	// Steps are sent in their order. Then do does what steps cannot say.
	Steps []Step
	do    func(context.Context, *Trial)
	// needs are actors of do; and actors with a method, "pA PUT", if their scopes
	// must hold what it takes.
	needs []string
	// mayAlert are rules by which any number of alerts is welcome and none is due.
	mayAlert []string
	// names says that answers may name the ids that were asked for, whatever the
	// options say.
	names bool
	// moves says that the line itself writes in the victim, as the victim.
	moves bool
}

// Groups are the titles of the groups of the suite.
var Groups = map[int]string{
	1: "Tenant routing and identity binding", 2: "Tokens", 3: "Direct access, versions, history", 4: "Search",
	5: "Bundles, conditions, references", 6: "Operations", 7: "Paging and later answers", 8: "Bulk export",
	11: "Scopes", 12: "Errors and timing", 13: "Audit", 14: "Database", 15: "Keys and residency",
}

// Attacks returns all attacks, by group.
func Attacks() []Attack {
	all := slices.Concat(routing(), tokens(), access(), search(), bundles(), operations(), cursors(), scopes(), errorsAndTiming())
	slices.SortStableFunc(all, func(a, b Attack) int { return a.Group - b.Group })
	return all
}

// The rules by which Cordon raises alerts.
const (
	CrossTenant   = "cross-tenant-token" // a good token in the wrong place
	OtherInHeader = "tenant-header"      // X-Tenant-Id names another tenant
	OtherInEntry  = "cross-tenant-entry" // the url of an entry of a Bundle does
	MutatedClaims = "mutated-claims"     // a token says what nobody signed
)

// A Step is one request and what must come back. Names in «» stand for values
// of the run; see Trial.fill. A path that begins with a slash is below the FHIR
// base of who sends it.
type Step struct {
	who    string // actor of the attacker, "victim:" and an actor of the victim, or "" for nobody
	method string
	url    string
	body   string
	header []string
	isRaw  bool // the path is sent as it is written

	wants   []int    // statuses, any of
	label   string   // answers of one label must be equal
	finds   []string // references of the Bundle's entries, all of them; nil does not ask
	shows   []string // what the answer must hold
	hides   []string // what it must not
	total   string   // of the Bundle, if it has one
	keeps   string   // name under which the link next is known from then on
	alerts  string   // rule by which one alert must be raised
	refusal bool     // each entry of the batch-response must be a refusal
}

func send(who, method, url string, body ...string) Step {
	return Step{who: who, method: method, url: url, body: strings.Join(body, "")}
}

func get(who, url string) Step { return send(who, http.MethodGet, url) }

func put(who, ref, body string) Step { return send(who, http.MethodPut, "/"+ref, body) }

// raw is get for a path that no library would send.
func raw(who, url string) Step {
	s := get(who, url)
	s.isRaw = true
	return s
}

func (s Step) want(statuses ...int) Step { s.wants = statuses; return s }
func (s Step) same(label string) Step    { s.label = label; return s }
func (s Step) find(refs ...string) Step  { s.finds = append([]string{}, refs...); return s }
func (s Step) show(text ...string) Step  { s.shows = text; return s }
func (s Step) hide(text ...string) Step  { s.hides = text; return s }
func (s Step) counts(n int) Step         { s.total = fmt.Sprint(n); return s }
func (s Step) keep(name string) Step     { s.keeps = name; return s }
func (s Step) alert(rule string) Step    { s.alerts = rule; return s }
func (s Step) with(namesValues ...string) Step {
	s.header = append(slices.Clone(s.header), namesValues...)
	return s
}

// refused asks that no entry of the batch is done.
func (s Step) refused() Step { s.refusal = true; return s }

// String says what is sent and what must come back, for people.
func (s Step) String() string {
	who := s.who
	if who == "" {
		who = "nobody"
	}
	text := fmt.Sprintf("%s: %s %s", who, s.method, s.url)
	for i := 0; i+1 < len(s.header); i += 2 {
		text += fmt.Sprintf(" [%s: %s]", s.header[i], s.header[i+1])
	}
	if len(s.wants) > 0 {
		text += fmt.Sprintf(" → %v", s.wants)
	}
	if s.label != "" {
		text += ", the same as every " + s.label
	}
	if s.finds != nil {
		text += fmt.Sprintf(", finds %v", s.finds)
	}
	if s.alerts != "" {
		text += ", alert " + s.alerts
	}
	return text
}

// repeated returns the steps that make returns for each of the values.
func repeated[T any](values []T, make func(T) Step) []Step {
	var all []Step
	for _, v := range values {
		all = append(all, make(v))
	}
	return all
}

// Name is what reports call the attack.
func (a Attack) Name() string {
	if a.Also != "" {
		return a.ID + " " + a.Also + " " + a.Title
	}
	return a.ID + " " + a.Title
}

// actorsOf are whom the attack needs.
func (a Attack) actorsOf() []string {
	all := slices.Clone(a.needs)
	for _, s := range a.Steps {
		if s.who != "" {
			all = append(all, s.who)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Batch makes a batch or transaction of entries.
func Batch(kind string, entries ...string) string {
	return `{"resourceType":"Bundle","type":"` + kind + `","entry":[` + strings.Join(entries, ",") + `]}`
}

// Ask is an entry that only asks.
func Ask(method, url string) string {
	return fmt.Sprintf(`{"request":{"method":%q,"url":%q}}`, method, url)
}

// Give is an entry with a resource.
func Give(method, url, resource string) string {
	return fmt.Sprintf(`{"resource":%s,"request":{"method":%q,"url":%q}}`, resource, method, url)
}

// labResult is an Observation about the patient.
func labResult(id, patient, category, text string) string {
	return fmt.Sprintf(`{"resourceType":"Observation","id":%q,"status":"final","category":[{"coding":[{"code":%q}]}],"code":{"text":%q},"subject":{"reference":"Patient/%s"}}`,
		id, category, text, patient)
}
