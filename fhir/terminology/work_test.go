package terminology

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/canonical"
)

// numbers answers from a code system of n concepts, and value sets by their
// names.
func numbers(t *testing.T, n int, valueSets map[string]string) *Service {
	t.Helper()
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,{"code":"%06d"}`, i)
	}
	list := []string{`{"resourceType":"CodeSystem","url":"http://example.org/numbers","status":"active","content":"complete","concept":[` + b.String()[1:] + `]}`}
	for name, compose := range valueSets {
		list = append(list, fmt.Sprintf(`{"resourceType":"ValueSet","url":"http://example.org/%s","status":"active","compose":%s}`, name, compose))
	}
	var defs []*canonical.Definition
	for _, r := range list {
		d, err := canonical.New([]byte(r))
		if err != nil {
			t.Fatal(err)
		}
		defs = append(defs, d)
	}
	return New(canonical.NewSet(canonical.Core(), defs))
}

// byRegex is an include of the system, by n filters in all that take a regular
// expression.
func byRegex(system, pattern string, n int) string {
	one := fmt.Sprintf(`{"system":%q,"filter":[{"property":"code","op":"regex","value":%q}]}`, system, pattern)
	return "[" + strings.TrimSuffix(strings.Repeat(one+",", n), ",") + "]"
}

func asked(name string) ExpandRequest {
	return ExpandRequest{Source: Source{URL: "http://example.org/" + name}, Count: 0}
}

// What a regular expression takes goes by what it unfolds to, not by how long
// it is. Nothing that is refused has been begun.
func TestValueSetsThatTakeTooLongAreRefused(t *testing.T) {
	const system = "http://example.org/numbers"
	unfolds := `(c|c|c)*(((0|1)*){0,9}){0,50}5?`
	all := `{"include":[{"system":"http://example.org/numbers"}],"exclude":%s}`
	refused := map[string]string{
		"unfolds":  `{"include":` + byRegex(system, unfolds, 1) + `}`,
		"excludes": fmt.Sprintf(all, byRegex(system, unfolds, 1)),
		"many":     `{"include":` + byRegex(system, `(0|1|2)*(((0|1)*){0,9}){0,3}5?`, 200) + `}`,
		"grammar":  `{"include":` + byRegex("urn:iso:std:iso:4217", `([A-Z]*){0,50}`, 500) + `}`,
		"listing":  fmt.Sprintf(all, byRegex(system, `9`, 800)),
		"patterns": `{"include":` + byRegex(system, `(`+strings.Repeat("[0-9]|", 60)+`x)`, 1500) + `}`,
	}
	s := numbers(t, 60_000, refused)
	for name := range refused {
		if _, err := s.Expand(t.Context(), asked(name)); !fhir.IsCode(err, fhir.TooCostly) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for _, name := range []string{"many", "grammar"} {
		if _, err := s.InValueSet("http://example.org/"+name, system, "000001"); !fhir.IsCode(err, fhir.TooCostly) {
			t.Errorf("asking %s: got %v", name, err)
		}
	}
	var codings []Coding
	for i := range 40_000 {
		codings = append(codings, Coding{System: system, Code: fmt.Sprintf("x%d", i)})
	}
	few := `{"resourceType":"ValueSet","status":"active","compose":{"include":[{"system":"http://example.org/numbers","concept":[{"code":"0"}]}` +
		strings.Repeat(`,{"system":"http://example.org/numbers","concept":[{"code":"0"}]}`, 500) + `]}}`
	if _, err := s.ValidateInValueSet(CodeRequest{Source: Source{Resource: []byte(few)}, Codings: codings}); !fhir.IsCode(err, fhir.TooCostly) {
		t.Errorf("asking for many codes: got %v", err)
	}
	if len(atWork) > 0 {
		t.Errorf("%d turns are not given back", len(atWork))
	}
}

func TestFiltersOfLargeCodeSystemsAreNotRefused(t *testing.T) {
	s := numbers(t, 60_000, map[string]string{"vs": `{"include":` + byRegex("http://example.org/numbers", `0(1|2)[0-9]{3,4}`, 10) + `}`})
	x, err := s.Expand(t.Context(), asked("vs"))
	if err != nil || x.Expansion.Total != 20_000 {
		t.Errorf("got %+v, %v", x, err)
	}
}

// A watched context ends when it has been looked at so many times, and tells
// when somebody begins to wait for its end.
type watched struct {
	context.Context
	cancel context.CancelFunc
	looks  int // below 0: no end
	waits  chan struct{}
}

func watch(t *testing.T, looks int) *watched {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	return &watched{ctx, cancel, looks, make(chan struct{}, 1000)}
}

func (w *watched) Err() error {
	if w.looks == 0 {
		w.cancel()
	}
	w.looks--
	return w.Context.Err()
}

func (w *watched) Done() <-chan struct{} {
	select {
	case w.waits <- struct{}{}:
	default:
	}
	return w.Context.Done()
}

// Wherever the client leaves, the work ends there, and what was half done is
// remembered by nobody.
func TestWorkEndsWhenTheClientLeaves(t *testing.T) {
	parts := `{"include":` + byRegex("http://example.org/numbers", `0[0-9]*`, 3) + `}`
	ended := 0
	for looks := range 1000 {
		s := numbers(t, 20_000, map[string]string{"vs": `{"include":[{"valueSet":["http://example.org/parts"]}]}`, "parts": parts})
		_, err := s.Expand(watch(t, looks), asked("vs"))
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatalf("left at look %d: got %v", looks, err)
		}
		if x, again := s.Expand(t.Context(), asked("vs")); again != nil || x.Expansion.Total != 20_000 {
			t.Fatalf("after one who left at look %d: got %+v, %v", looks, x, again)
		}
		if err == nil {
			break
		}
		ended++
	}
	if ended < 10 {
		t.Errorf("the context was looked at %d times", ended)
	}
	s := numbers(t, 10, map[string]string{"parts": parts}).Within(watch(t, 0))
	if _, err := s.ValidateInValueSet(CodeRequest{Source: Source{URL: "http://example.org/parts"}}); !errors.Is(err, context.Canceled) {
		t.Errorf("$validate-code: got %v", err)
	}
}

// What is worked out waits while others are at work, no longer than its client.
func TestWorkWaitsForItsTurn(t *testing.T) {
	s := numbers(t, 10, map[string]string{"vs": `{"include":` + byRegex("http://example.org/numbers", `0[0-9]*`, 1) + `}`})
	for range cap(atWork) {
		atWork <- struct{}{}
	}
	ctx := watch(t, -1)
	answer := make(chan error)
	go func() {
		_, err := s.Expand(ctx, asked("vs"))
		answer <- err
	}()
	select {
	case <-ctx.waits:
	case err := <-answer:
		t.Fatalf("it did not wait: %v", err)
	}
	ctx.cancel()
	if err := <-answer; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	for range cap(atWork) {
		<-atWork
	}
	if _, err := s.Expand(t.Context(), asked("vs")); err != nil || len(atWork) > 0 {
		t.Errorf("then: got %v, with %d turns taken", err, len(atWork))
	}
}

// The operation must answer a display.
// https://hl7.org/fhir/R4/codesystem-operation-lookup.html
func TestLookupOfAConceptWithoutDisplayAnswersItsCode(t *testing.T) {
	s := numbers(t, 2, nil)
	c, err := s.Lookup(LookupRequest{Coding: Coding{System: "http://example.org/numbers", Code: "000001"}})
	if err != nil || c.Display != "000001" {
		t.Errorf("got %+v, %v", c, err)
	}
}
