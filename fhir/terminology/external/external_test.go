package external

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/canonical"
	"github.com/cordon-fhir/cordon/fhir/terminology"
)

// A party is the terminology server of others, with switches for its faults.
type party struct {
	*httptest.Server
	mu    sync.Mutex
	fault string
	asked []string // paths and bodies
}

func newParty(t *testing.T) *party {
	p := &party{}
	p.Server = httptest.NewServer(http.HandlerFunc(p.answer))
	t.Cleanup(p.Close)
	return p
}

// breaks sets the fault, and forgets what was asked.
func (p *party) breaks(fault string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault, p.asked = fault, nil
}

func (p *party) questions() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

func (p *party) answer(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	p.mu.Lock()
	p.asked = append(p.asked, r.URL.String()+" "+string(body))
	fault := p.fault
	p.mu.Unlock()
	w.Header().Set("Content-Type", "application/fhir+json")
	switch fault {
	case "slow":
		<-r.Context().Done()
	case "error":
		w.WriteHeader(500)
		return
	case "garbage":
		io.WriteString(w, `{"resourceType":"Parameters","parameter":[{`)
		return
	case "page":
		w.Header().Set("Content-Type", "text/html")
	case "redirect":
		http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		return
	case "flood":
		io.WriteString(w, `{"resourceType":"Parameters","x":"`+strings.Repeat("x", maxExpansion)+`"}`)
		return
	case "unknown":
		w.WriteHeader(404)
		return
	}
	switch {
	case strings.HasSuffix(r.URL.Path, "/ValueSet/$expand"):
		io.WriteString(w, `{"resourceType":"ValueSet","status":"active","expansion":{"contains":[{"system":"http://snomed.info/sct","code":"1","display":"One","contains":[{"system":"http://snomed.info/sct","code":"2","display":"Two"}]}]}}`)
	case strings.Contains(string(body), `"valueCode":"1"`):
		io.WriteString(w, `{"resourceType":"Parameters","parameter":[{"name":"result","valueBoolean":true}]}`)
	case strings.Contains(string(body), `"valueCode":"nowhere"`):
		io.WriteString(w, `{"resourceType":"Parameters","parameter":[{"name":"result","valueBoolean":false},{"name":"x-caused-by-unknown-system","valueCanonical":"x"}]}`)
	default:
		io.WriteString(w, `{"resourceType":"Parameters","parameter":[{"name":"result","valueBoolean":false}]}`)
	}
}

// service answers from R4 and a value set of SNOMED CT, and asks the party.
func service(t *testing.T, ctx context.Context, p *party, closed bool, change func(*Config)) *terminology.Service {
	t.Helper()
	cfg := Config{URL: p.URL, Private: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}, Timeout: 300 * time.Millisecond, Rest: time.Nanosecond}
	if change != nil {
		change(&cfg)
	}
	d, err := canonical.New([]byte(`{"resourceType":"ValueSet","url":"http://example.org/vs","status":"active","compose":{"include":[{"system":"http://snomed.info/sct","filter":[{"property":"concept","op":"is-a","value":"404684003"}]}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	return terminology.New(canonical.NewSet(canonical.Core(), []*canonical.Definition{d})).Asking(ctx, New(cfg), closed)
}

const sct = "http://snomed.info/sct"

func TestAnotherServerIsAskedWhatTheDefinitionsCannotTell(t *testing.T) {
	p := newParty(t)
	s := service(t, t.Context(), p, true, func(c *Config) { c.Systems = []string{sct} })
	for _, tt := range []struct {
		claim, valueSet, system, code string
		want                          terminology.Answer
		asked                         int
	}{
		{"a code that is there", "http://example.org/vs", sct, "1", terminology.In, 1},
		{"again, from memory", "http://example.org/vs", sct, "1", terminology.In, 0},
		{"a code that is not", "http://example.org/vs", sct, "5", terminology.Out, 1},
		{"a code of a system that is not known there", "http://example.org/vs", sct, "nowhere", terminology.Unknown, 1},
		{"a value set that is not known here", "http://example.org/theirs", sct, "1", terminology.In, 1},
		{"a code of a system that it is not asked about", "http://example.org/theirs", "http://loinc.org", "1", terminology.Unknown, 0},
		{"what is known here", "http://hl7.org/fhir/ValueSet/administrative-gender", "http://hl7.org/fhir/administrative-gender", "1", terminology.Out, 0},
	} {
		p.breaks("")
		got, err := s.InValueSet(tt.valueSet, tt.system, tt.code)
		if err != nil || got != tt.want || len(p.questions()) != tt.asked {
			t.Errorf("%s: got %v, %v after %d questions, want %v after %d", tt.claim, got, err, len(p.questions()), tt.want, tt.asked)
		}
	}
	x, err := s.Expand(t.Context(), terminology.ExpandRequest{Source: terminology.Source{URL: "http://example.org/vs"}, Filter: "tw", Count: -1})
	if err != nil || x.Expansion.Total != 1 || x.Expansion.Contains[0].Code != "2" {
		t.Errorf("listing: got %+v, %v", x, err)
	}
}

// What leaves are codes and what defines value sets. What a user typed and how
// a code is displayed stay.
func TestNothingButCodesAndDefinitionsLeaves(t *testing.T) {
	p := newParty(t)
	s := service(t, t.Context(), p, true, nil)
	if _, err := s.ValidateInValueSet(terminology.CodeRequest{Source: terminology.Source{URL: "http://example.org/vs"}, Codings: []terminology.Coding{{System: sct, Code: "1", Display: "CANARY"}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Expand(t.Context(), terminology.ExpandRequest{Source: terminology.Source{URL: "http://example.org/vs"}, Filter: "CANARY", Count: 1}); err != nil {
		t.Fatal(err)
	}
	want := `/ValueSet/$validate-code {"parameter":[{"name":"valueSet","resource":{"compose":{"include":[{"system":"http://snomed.info/sct","filter":[{"property":"concept","op":"is-a","value":"404684003"}]}]},"resourceType":"ValueSet","status":"active"}},{"name":"system","valueUri":"http://snomed.info/sct"},{"name":"code","valueCode":"1"}],"resourceType":"Parameters"}`
	if got := p.questions(); len(got) != 2 || got[0] != want || strings.Contains(got[1], "CANARY") {
		t.Errorf("asked %q", got)
	}
}

func TestAServerThatFailsIsHeldToTheSetting(t *testing.T) {
	p := newParty(t)
	for _, fault := range []string{"slow", "error", "garbage", "page", "redirect", "flood"} {
		t.Run(fault, func(t *testing.T) {
			p.breaks(fault)
			for closed, want := range map[bool]terminology.Answer{true: terminology.Out, false: terminology.Unknown} {
				s := service(t, t.Context(), p, closed, nil)
				if got, err := s.InValueSet("http://example.org/vs", sct, "1"); err != nil || got != want {
					t.Errorf("closed %v: got %v, %v, want %v", closed, got, err, want)
				}
				v, err := s.ValidateInValueSet(terminology.CodeRequest{Source: terminology.Source{URL: "http://example.org/vs"}, Codings: []terminology.Coding{{System: sct, Code: "1"}}})
				if err != nil || v.Result || !strings.Contains(v.Message, "does not answer") {
					t.Errorf("got %+v, %v", v, err)
				}
				if _, err := s.Expand(t.Context(), terminology.ExpandRequest{Source: terminology.Source{URL: "http://example.org/vs"}, Count: -1}); !fhir.IsCode(err, fhir.Transient) {
					t.Errorf("listing: got %v", err)
				}
			}
			for _, q := range p.questions() {
				if strings.HasPrefix(q, "/elsewhere") {
					t.Error("the redirect was followed")
				}
			}
			p.breaks("") // failures are not remembered
			if got, err := service(t, t.Context(), p, true, nil).InValueSet("http://example.org/vs", sct, "1"); err != nil || got != terminology.In {
				t.Errorf("afterwards: got %v, %v", got, err)
			}
		})
	}
	p.breaks("unknown")
	if got, err := service(t, t.Context(), p, true, nil).InValueSet("http://example.org/vs", sct, "1"); err != nil || got != terminology.Unknown {
		t.Errorf("what is not known there: got %v, %v", got, err)
	}
}

func TestAServerThatFailedRests(t *testing.T) {
	p := newParty(t)
	p.breaks("error")
	now := time.Now()
	s := service(t, t.Context(), p, true, func(c *Config) { c.Rest, c.Now = time.Minute, func() time.Time { return now } })
	for i := range 20 {
		if got, err := s.InValueSet("http://example.org/vs", sct, fmt.Sprint(i)); err != nil || got != terminology.Out {
			t.Fatal(got, err)
		}
	}
	if n := len(p.questions()); n != 1 {
		t.Errorf("it was asked %d times", n)
	}
	p.breaks("")
	now = now.Add(2 * time.Minute)
	if got, err := s.InValueSet("http://example.org/vs", sct, "1"); err != nil || got != terminology.In {
		t.Errorf("after the rest: got %v, %v", got, err)
	}
}

func TestAClientThatGoesAwayDoesNotMakeTheServerRest(t *testing.T) {
	p := newParty(t)
	p.breaks("slow")
	server := New(Config{URL: p.URL, Private: prefixes("127.0.0.0/8", "::1/128"), Rest: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := server.Has(ctx, terminology.Part{ValueSet: "x"}, terminology.Coding{System: sct, Code: "1"}); err == nil {
		t.Fatal("it answered")
	}
	p.breaks("")
	if got, err := server.Has(t.Context(), terminology.Part{ValueSet: "x"}, terminology.Coding{System: sct, Code: "1"}); err != nil || got != terminology.In {
		t.Errorf("got %v, %v", got, err)
	}
}

// E group: server-side request forgery.
func TestOnlyThePublicInternetIsAsked(t *testing.T) {
	p := newParty(t)
	server := New(Config{URL: p.URL})
	if _, err := server.Has(t.Context(), terminology.Part{ValueSet: "x"}, terminology.Coding{System: sct, Code: "1"}); err == nil || len(p.questions()) != 0 {
		t.Errorf("the own machine was asked: %v", err)
	}
}

func TestWhatIsKnownIsBoundedAndExpires(t *testing.T) {
	var c cache
	now := time.Now()
	for i := range 3 * maxKnown {
		c.put(fmt.Sprint(i), terminology.In, now.Add(time.Hour))
	}
	if n := len(c.fresh) + len(c.old); n > maxKnown {
		t.Errorf("%d answers are known", n)
	}
	if _, ok := c.get(fmt.Sprint(3*maxKnown-1), now); !ok {
		t.Error("the last answer is not known")
	}
	if _, ok := c.get(fmt.Sprint(3*maxKnown-1), now.Add(2*time.Hour)); ok {
		t.Error("an answer that expired is known")
	}
}

func prefixes(list ...string) (networks []netip.Prefix) {
	for _, p := range list {
		networks = append(networks, netip.MustParsePrefix(p))
	}
	return networks
}
