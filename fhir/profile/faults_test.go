package profile_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/canonical"
	"github.com/cordon-fhir/cordon/fhir/fhirtest"
	"github.com/cordon-fhir/cordon/fhir/profile"
	"github.com/cordon-fhir/cordon/fhir/r4"
	"github.com/cordon-fhir/cordon/fhir/terminology"
	base "github.com/cordon-fhir/cordon/fhir/validate"
)

// An element is a line of a snapshot, read by other means than those under
// test.
type element struct {
	ID, Path, SliceName string
	Min                 int
	Max                 string
	Base                struct{ Max string }
	Type                []struct {
		Code          string
		TargetProfile []string
	}
	Binding struct{ Strength, ValueSet string }
	Fixed   json.RawMessage `json:"-"` // or pattern
}

// A seeder puts faults into examples of a guide.
type seeder struct {
	t     *testing.T
	set   *canonical.Set
	v     *profile.Validator
	terms *terminology.Service
	tried map[string]int
	wrong int
}

// Each fault that is put into an example of US Core, by what its profile says
// of one element, is found at the place of that element.
func TestFaultsInExamplesOfUSCoreAreFound(t *testing.T) {
	for version, file := range map[string]string{"3.1.1": fhirtest.USCore3, "6.1.0": fhirtest.USCore6} {
		t.Run(version, func(t *testing.T) {
			set := guide(t, file)
			s := seeder{t: t, set: set, v: profile.New(set, nil), terms: terminology.New(set), tried: map[string]int{}}
			list := examples(t, file, "package/example/")
			for _, name := range slices.Sorted(maps.Keys(list)) {
				if faulty[name] == "" && faulty[version+" "+name] == "" && len(list[name]) < 30_000 {
					s.example(name, list[name])
				}
			}
			t.Logf("faults by kind: %v; not found: %d", s.tried, s.wrong)
			for _, kind := range []string{"removed", "wrong fixed value", "wrong code", "wrong target", "too many", "wrong slice"} {
				if s.tried[kind] < 3 {
					t.Errorf("only %d faults of the kind %q", s.tried[kind], kind)
				}
			}
		})
	}
}

// example puts every fault that its profiles suggest into an example.
func (s *seeder) example(name string, body []byte) {
	var doc struct {
		ResourceType string
		Meta         struct{ Profile []string }
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		s.t.Fatal(err)
	}
	for _, p := range doc.Meta.Profile {
		d, ok := s.set.Find("StructureDefinition", p)
		if !ok {
			continue
		}
		var sd struct {
			Snapshot struct{ Element []map[string]json.RawMessage }
		}
		if err := json.Unmarshal(d.JSON(), &sd); err != nil {
			s.t.Fatal(err)
		}
		for _, raw := range sd.Snapshot.Element {
			s.element(name, body, readElement(s.t, raw))
		}
	}
}

func readElement(t *testing.T, raw map[string]json.RawMessage) element {
	whole, err := json.Marshal(raw)
	var e element
	if err == nil {
		err = json.Unmarshal(whole, &e)
	}
	if err != nil {
		t.Fatal(err)
	}
	for key, v := range raw {
		if strings.HasPrefix(key, "fixed") || strings.HasPrefix(key, "pattern") {
			e.Fixed = v
		}
	}
	return e
}

// element puts in the faults that one element suggests.
func (s *seeder) element(name string, body []byte, e element) {
	steps := strings.Split(e.Path, ".")
	sliced := strings.Count(e.ID, ":") > 0
	if len(steps) < 2 || strings.Contains(e.Path, "extension") || sliced && (e.SliceName == "" || strings.Count(e.ID, ":") > 1) {
		return
	}
	last := strings.TrimSuffix(steps[len(steps)-1], "[x]")
	each := func(kind string, change func(parent map[string]any, key string) bool) {
		s.each(name, body, kind, steps[1:len(steps)-1], last, change)
	}
	if e.Min > 0 {
		each("removed", func(parent map[string]any, key string) bool {
			if len(parent) < 3 {
				return false
			}
			delete(parent, key)
			delete(parent, "_"+key)
			return true
		})
	}
	if sliced {
		if e.Min > 0 && e.Type[0].Code == "CodeableConcept" {
			each("wrong slice", func(parent map[string]any, key string) bool {
				parent[key] = []any{map[string]any{"coding": []any{map[string]any{"system": "http://example.org/none", "code": "zz"}}}}
				return true
			})
		}
		return
	}
	if e.Fixed != nil {
		each("wrong fixed value", func(parent map[string]any, key string) bool {
			parent[key] = other(parent[key])
			return true
		})
	}
	if e.Max == "1" && e.Base.Max == "*" {
		each("too many", func(parent map[string]any, key string) bool {
			list, ok := parent[key].([]any)
			if ok {
				parent[key] = append(list, list[0])
			}
			return ok
		})
	}
	if len(e.Type) != 1 {
		return
	}
	switch of := e.Type[0]; {
	case of.Code == "Reference" && len(of.TargetProfile) > 0 && !strings.HasSuffix(of.TargetProfile[0], "/Resource"):
		each("wrong target", func(parent map[string]any, key string) bool {
			wrong := map[string]any{"reference": "Binary/zz"}
			if _, ok := parent[key].([]any); ok {
				parent[key] = []any{wrong}
			} else {
				parent[key] = wrong
			}
			return true
		})
	case of.Code == "code" && e.Binding.Strength == "required" && s.isOut(e.Binding.ValueSet, ""):
		each("wrong code", func(parent map[string]any, key string) bool {
			parent[key] = other(parent[key])
			return true
		})
	case of.Code == "CodeableConcept" && e.Binding.Strength == "required" && s.isOut(e.Binding.ValueSet, "http://example.org/none"):
		each("wrong code", func(parent map[string]any, key string) bool {
			wrong := map[string]any{"coding": []any{map[string]any{"system": "http://example.org/none", "code": "zz"}}}
			if _, ok := parent[key].([]any); ok {
				parent[key] = []any{wrong}
			} else {
				parent[key] = wrong
			}
			return true
		})
	}
}

func (s *seeder) isOut(valueSet, system string) bool {
	answer, err := s.terms.InValueSet(valueSet, system, "zz")
	return err == nil && answer == terminology.Out
}

// other returns another value of the same kind.
func other(v any) any {
	switch v := v.(type) {
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = other(v[i])
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for k, x := range v {
			out[k] = other(x)
		}
		return out
	case string:
		return "zz"
	case bool:
		return !v
	case float64:
		return v + 1
	}
	return v
}

// each puts a fault into every object that the steps lead to and that has the
// element, and looks for it.
func (s *seeder) each(name string, body []byte, kind string, steps []string, last string, change func(map[string]any, string) bool) {
	for n := 0; ; n++ {
		var doc map[string]any
		if err := json.Unmarshal(body, &doc); err != nil {
			s.t.Fatal(err)
		}
		parents := reach(doc, doc["resourceType"].(string), doc["resourceType"].(string), steps)
		if n >= len(parents) {
			return
		}
		key := keyOf(parents[n], last)
		if key == "" || !change(parents[n].object, key) {
			continue
		}
		s.tried[kind]++
		changed, err := json.Marshal(doc)
		if err != nil {
			s.t.Fatal(err)
		}
		if issues := s.issues(changed); !slices.ContainsFunc(issues, func(i fhir.Issue) bool {
			return strings.HasPrefix(i.Expression[0], parents[n].place+"."+last)
		}) {
			s.wrong++
			s.t.Errorf("%s: %s at %s.%s is not found: %v", name, kind, parents[n].place, last, issues)
		}
	}
}

// issues are the errors by the structure and by the profiles.
func (s *seeder) issues(body []byte) []fhir.Issue {
	d := parse(s.t, body)
	issues := errorsIn(validate1(s.t, s.v, d, profile.Options{Claimed: true}))
	if broken, ok := base.Resource(d).(*fhir.Error); ok {
		issues = append(issues, broken.Issues...)
	}
	return issues
}

// A spot is an object in an example.
type spot struct {
	object map[string]any
	typ    string
	place  string
}

// reach returns the objects that the steps lead to.
func reach(o map[string]any, typ, place string, steps []string) []spot {
	if len(steps) == 0 {
		return []spot{{o, typ, place}}
	}
	name := strings.TrimSuffix(steps[0], "[x]")
	key := keyOf(spot{o, typ, place}, name)
	e := r4.ElementOf(typ, key)
	if e == nil || e.Complex() == nil {
		return nil
	}
	switch v := o[key].(type) {
	case map[string]any:
		return reach(v, e.Complex().Path, place+"."+name, steps[1:])
	case []any:
		var all []spot
		for i := range v {
			if item, ok := v[i].(map[string]any); ok {
				all = append(all, reach(item, e.Complex().Path, fmt.Sprintf("%s.%s[%d]", place, name, i), steps[1:])...)
			}
		}
		return all
	}
	return nil
}

// keyOf returns the name that JSON has for the element, "" if it has none.
func keyOf(s spot, name string) string {
	t := r4.TypeOf(s.typ)
	if t == nil {
		return ""
	}
	for _, e := range t.Choice(name) {
		if _, ok := s.object[e.Name]; ok {
			return e.Name
		}
	}
	return ""
}
