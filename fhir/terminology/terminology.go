package terminology

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/canonical"
)

// A Service answers from the definitions of one Set. It is safe for concurrent
// use, and costs nothing to make: what it compiles stays with the Set.
type Service struct {
	set       *canonical.Set
	until     context.Context // of what is worked out here
	ctx       context.Context // of what is asked elsewhere
	elsewhere Elsewhere
	closed    bool
	bounded   bool // what is compiled is part of what was held against the bounds
}

// New returns the Service of the definitions in s.
func New(s *canonical.Set) *Service {
	return &Service{set: s, until: context.Background(), ctx: context.Background()}
}

// An Answer says whether a code is in a value set or code system.
type Answer uint8

// Unknown is not a no: the definitions at hand cannot tell. Whoever asks
// decides what follows from that.
const (
	Unknown Answer = iota
	In
	Out
)

// InValueSet says whether the code is in the value set with the canonical
// URL, "url" or "url|version". Without a system, it says whether the code is in
// it under any system, as is asked of elements that have a code alone. It is
// Unknown if the value set is not known. A *fhir.Error says that the definition
// of the value set is wrong.
func (s *Service) InValueSet(valueSet, system, code string) (Answer, error) {
	v, err := s.valueSet(valueSet)
	switch {
	case err != nil:
		return Unknown, err
	case v == nil:
		return s.asker().ask(Part{ValueSet: valueSet}, Coding{System: system, Code: code}), nil
	}
	return s.asker().has(v, system, code), nil
}

type (
	systemKey      struct{ of *canonical.Definition }
	supplementsKey struct{}
	ownersKey      struct{}
	parsedKey      struct{ of *canonical.Definition }
	compiledKey    struct{ of *canonical.Definition }
	implicitKey    struct{ url string }
)

// memo is Set.Memo with types.
func memo[T any](s *Service, key any, make func() (T, error)) (T, error) {
	v, err := s.set.Memo(key, func() (any, error) { return make() })
	if err != nil {
		var none T
		return none, cloned(err)
	}
	return v.(T), nil
}

// cloned returns a *fhir.Error that its caller may change: what is remembered
// is for all.
func cloned(err error) error {
	var e *fhir.Error
	if !errors.As(err, &e) {
		return err
	}
	c := *e
	c.Issues = slices.Clone(e.Issues)
	for i := range c.Issues {
		c.Issues[i].Expression = slices.Clone(c.Issues[i].Expression)
	}
	return &c
}

// system returns the code system with the canonical, nil if there is none, or
// none with content.
func (s *Service) system(url, version string) (*codeSystem, error) {
	if version != "" {
		url += "|" + version
	}
	d, ok := s.set.Find("CodeSystem", url)
	if !ok {
		return nil, nil
	}
	c, err := s.codeSystem(d)
	if err != nil || c.Content == "supplement" || c.size() == 0 && c.Content == "not-present" {
		return nil, err
	}
	return c, nil
}

// codeSystem returns d with what its supplements add.
func (s *Service) codeSystem(d *canonical.Definition) (*codeSystem, error) {
	more, err := s.supplements(d)
	switch {
	case err != nil:
		return nil, err
	case len(more) == 0:
		c, err := codeSystems.of(d, func(json []byte) (*codeSystem, error) { return newCodeSystem(json) })
		return c, cloned(err)
	}
	return memo(s, systemKey{d}, func() (*codeSystem, error) {
		var texts [][]byte
		for _, m := range more {
			texts = append(texts, m.JSON())
		}
		return newCodeSystem(d.JSON(), texts...)
	})
}

// supplements returns the code systems that say more of the concepts of d.
// https://hl7.org/fhir/R4/codesystem.html#supplements
func (s *Service) supplements(d *canonical.Definition) ([]*canonical.Definition, error) {
	all, err := memo(s, supplementsKey{}, func() (map[string][]*canonical.Definition, error) {
		of := map[string][]*canonical.Definition{}
		for d := range s.set.All("CodeSystem") {
			if h, err := headers.of(d, readHeader); err == nil && h.Content == "supplement" {
				of[h.Supplements] = append(of[h.Supplements], d)
			}
		}
		return of, nil
	})
	if err != nil {
		return nil, err
	}
	list := slices.Clone(all[d.URL])
	if d.Version != "" {
		list = append(list, all[d.Canonical()]...)
	}
	return slices.DeleteFunc(list, func(more *canonical.Definition) bool { return more == d }), nil
}

// valueSet returns the value set with the canonical, nil if there is none.
func (s *Service) valueSet(canonical string) (*valueSet, error) {
	if d, ok := s.set.Find("ValueSet", canonical); ok {
		return memo(s, compiledKey{d}, func() (*valueSet, error) {
			v, err := s.parsed(canonical)
			if err != nil {
				return nil, err
			}
			return s.compile(v)
		})
	}
	v, err := s.parsed(canonical)
	if err != nil || v == nil {
		return nil, err
	}
	return memo(s, implicitKey{canonical}, func() (*valueSet, error) { return s.compile(v) })
}

// parsed returns the definition of the value set with the canonical, nil if
// there is none. It may follow from a code system alone.
func (s *Service) parsed(canonical string) (*valueSetJSON, error) {
	if d, ok := s.set.Find("ValueSet", canonical); ok {
		return memo(s, parsedKey{d}, func() (*valueSetJSON, error) { return parseValueSet(d.JSON()) })
	}
	if v, ok := implicit(canonical); ok {
		return v, nil
	}
	return s.whole(canonical)
}

// whole returns the value set of all concepts of the code system that says it
// is at the canonical.
// https://hl7.org/fhir/R4/codesystem-definitions.html#CodeSystem.valueSet
func (s *Service) whole(url string) (*valueSetJSON, error) {
	owners, err := memo(s, ownersKey{}, func() (map[string]includeJSON, error) {
		of := map[string]includeJSON{}
		for d := range s.set.All("CodeSystem") {
			if h, err := headers.of(d, readHeader); err == nil && h.ValueSet != "" {
				of[h.ValueSet] = includeJSON{System: d.URL, Version: d.Version}
			}
		}
		return of, nil
	})
	if err != nil {
		return nil, err
	}
	in, ok := owners[url]
	if !ok {
		return nil, nil
	}
	return &valueSetJSON{URL: url, Version: in.Version, Compose: &composeJSON{Include: []includeJSON{in}}}, nil
}

// compile makes v ready to be asked. What is not known of its parts becomes
// the fault of an include; a *fhir.Error says what is wrong with the whole.
func (s *Service) compile(v *valueSetJSON) (*valueSet, error) {
	if !s.bounded {
		if err := s.bound(v); err != nil {
			return nil, err
		}
		bounded := *s // and what v is made of with it
		bounded.bounded = true
		s = &bounded
	}
	out := &valueSet{valueSetJSON: v}
	for i := range v.Compose.Include {
		if err := s.until.Err(); err != nil {
			return nil, err
		}
		out.includes = append(out.includes, s.include(&v.Compose.Include[i], "ValueSet.compose.include["+strconv.Itoa(i)+"]"))
	}
	for i := range v.Compose.Exclude {
		if err := s.until.Err(); err != nil {
			return nil, err
		}
		out.excludes = append(out.excludes, s.include(&v.Compose.Exclude[i], "ValueSet.compose.exclude["+strconv.Itoa(i)+"]"))
	}
	return out, s.until.Err() // when it has ended, the last may be half done
}

func (s *Service) include(j *includeJSON, place string) *include {
	in := &include{includeJSON: j, place: place}
	if j.System != "" {
		in.fault = s.resolve(in)
	}
	for i, url := range j.ValueSet {
		sub := imported{url: url}
		v, err := s.valueSet(url)
		switch {
		case err != nil:
			sub.why = fhir.Errorf(fhir.BusinessRule, "a value set that is included is wrong")
		case v == nil:
			sub.why = fhir.Errorf(fhir.BusinessRule, "a value set that is included is not known here")
		default:
			sub.set = v
		}
		if sub.why != nil {
			sub.why.At(place + ".valueSet[" + strconv.Itoa(i) + "]")
		}
		in.imports = append(in.imports, sub)
	}
	return in
}

// resolve finds the concepts of the system that in is of.
func (s *Service) resolve(in *include) (fault *fhir.Error) {
	c, err := s.system(in.System, in.Version)
	if err != nil {
		return fhir.Errorf(fhir.BusinessRule, "the code system is wrong").At(in.place + ".system")
	}
	in.system = c
	if c == nil {
		in.grammar = grammars[in.System]
	}
	switch {
	case len(in.Concept) > 0:
		in.codes = make(map[string]int, len(in.Concept))
		for i, l := range in.Concept {
			code := in.fold(l.Code)
			if _, twice := in.codes[code]; !twice {
				in.codes[code] = i
			}
		}
		return nil
	case len(in.Filter) > 0 && c != nil:
		t := &turn{ctx: s.until}
		t.take()
		defer t.give()
		in.only, fault = c.filter(t, in.Filter, in.place)
		return fault
	case len(in.Filter) > 0 && in.grammar != nil:
		in.grammar, fault = in.grammar.filter(in.Filter, in.place)
		return fault
	case c == nil && in.grammar == nil:
		return fhir.Errorf(fhir.BusinessRule, "the code system is not known here, or without content").At(in.place + ".system")
	}
	return nil
}

// fold returns the code as it is compared.
func (in *include) fold(code string) string {
	if in.system != nil && !in.system.CaseSensitive {
		return strings.ToLower(code)
	}
	return code
}

// Bounds of what a value set and those it is made of may cost.
const (
	maxDepth = 100    // value sets in value sets
	maxPaths = 10_000 // ways that lead through the value sets
)

// bound holds v against the bounds, and refuses value sets that are made of
// themselves.
func (s *Service) bound(v *valueSetJSON) error {
	w := walk{s: s, turn: &turn{ctx: s.until}, costs: map[string]cost{}, extents: map[extentKey]extent{}}
	w.turn.take()
	defer w.turn.give()
	_, err := w.visit("", v)
	return err
}

type walk struct {
	s       *Service
	turn    *turn
	costs   map[string]cost // by canonical; all zero while it is being worked out
	extents map[extentKey]extent
	depth   int
}

// A cost is what a value set takes: the ways through it to a concept, the
// concepts that it may have, and the steps to compile it.
type cost struct{ paths, size, steps int }

func (w *walk) visit(canonical string, v *valueSetJSON) (cost, error) {
	if c, ok := w.costs[canonical]; ok {
		if c.paths == 0 {
			return c, fhir.Errorf(fhir.BusinessRule, "the value set is made of itself").At("ValueSet.compose")
		}
		return c, nil
	}
	w.costs[canonical] = cost{}
	if w.depth++; w.depth > maxDepth {
		return cost{}, fhir.Errorf(fhir.TooCostly, "value sets are made of others more than %d deep", maxDepth)
	}
	defer func() { w.depth-- }()
	sum := cost{paths: 1}
	for in := range v.Compose.all() {
		c, err := w.include(in)
		if err != nil {
			return c, err
		}
		sum.paths += c.paths
		sum.size += c.size
		sum.steps += c.steps
		if err := w.turn.goOn(); err != nil {
			return sum, err
		}
	}
	if sum.paths > maxPaths || sum.steps > maxSteps || sum.size > maxSteps/sum.paths {
		return sum, errTooMuch()
	}
	w.costs[canonical] = sum
	return sum, nil
}

func (w *walk) include(in *includeJSON) (cost, error) {
	c := cost{size: len(in.Concept)}
	if sys, err := w.s.system(in.System, in.Version); err == nil && (sys != nil || grammars[in.System] != nil) && in.System != "" {
		if sys != nil && len(in.Concept) == 0 {
			c.size = int(sys.size())
		}
		for _, f := range in.Filter {
			c.steps += w.filterSteps(sys, f)
		}
	}
	for _, url := range in.ValueSet {
		v, err := w.s.parsed(url)
		if err != nil || v == nil {
			continue // it becomes a fault of the include
		}
		sub, err := w.visit(url, v)
		if err != nil {
			return sub, err
		}
		c.paths += sub.paths
		c.steps += sub.steps
		c.size = max(c.size, sub.size)
	}
	return c, nil
}
