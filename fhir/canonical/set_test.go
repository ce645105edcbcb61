package canonical

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/cordon-fhir/cordon/fhir"
)

// definition returns one of the type, with the URL and version.
func definition(t *testing.T, resourceType, url, version, more string) *Definition {
	t.Helper()
	d, err := New(fmt.Appendf(nil, `{"resourceType":%q,"url":%q,"version":%q%s}`, resourceType, url, version, more))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestFind(t *testing.T) {
	core := NewSet(nil, []*Definition{
		definition(t, "StructureDefinition", "http://hl7.org/fhir/StructureDefinition/Patient", "4.0.1", `,"type":"Patient","derivation":"specialization"`),
		definition(t, "ValueSet", "http://hl7.org/fhir/ValueSet/a", "4.0.1", ""),
	})
	packages := NewSet(core, []*Definition{
		definition(t, "ValueSet", "http://guide/ValueSet/a", "3.1.1", ""),
		definition(t, "ValueSet", "http://guide/ValueSet/b", "1", ""),
	}, []*Definition{
		definition(t, "ValueSet", "http://guide/ValueSet/a", "6.1.0", ""),
		definition(t, "ValueSet", "http://hl7.org/fhir/ValueSet/a", "5.0.0", ""),
	})
	own := NewSet(packages, []*Definition{
		definition(t, "ValueSet", "http://guide/ValueSet/b", "0.1", ""),
		definition(t, "StructureDefinition", "http://hl7.org/fhir/StructureDefinition/Patient", "9", `,"type":"Patient","derivation":"constraint"`),
	})
	for _, tt := range []struct {
		claim, resourceType, canonical, want string
		in                                   *Set
	}{
		{"a URL finds the newest version", "ValueSet", "http://guide/ValueSet/a", "6.1.0", own},
		{"a version finds itself", "ValueSet", "http://guide/ValueSet/a|3.1.1", "3.1.1", own},
		{"a version that is not there is not found", "ValueSet", "http://guide/ValueSet/a|4", "", own},
		{"the tenant's own comes before its packages, however old", "ValueSet", "http://guide/ValueSet/b", "0.1", own},
		{"what the own one hides is found by version", "ValueSet", "http://guide/ValueSet/b|1", "1", own},
		{"packages come before R4", "ValueSet", "http://hl7.org/fhir/ValueSet/a", "5.0.0", own},
		{"R4 without packages is not affected by them", "ValueSet", "http://hl7.org/fhir/ValueSet/a", "4.0.1", core},
		{"what R4 says a type is cannot be replaced", "StructureDefinition", "http://hl7.org/fhir/StructureDefinition/Patient", "4.0.1", own},
		{"nor by version", "StructureDefinition", "http://hl7.org/fhir/StructureDefinition/Patient|9", "", own},
		{"another type with the URL is not found", "CodeSystem", "http://guide/ValueSet/a", "", own},
		{"no URL finds nothing", "ValueSet", "", "", own},
		{"the nil set has nothing", "ValueSet", "http://guide/ValueSet/a", "", nil},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			d, ok := tt.in.Find(fhir.Type(tt.resourceType), tt.canonical)
			if ok != (tt.want != "") || ok && d.Version != tt.want {
				t.Errorf("got %v %+v, want version %q", ok, d, tt.want)
			}
		})
	}
	t.Run("all are those that can be found, own first", func(t *testing.T) {
		var got []string
		for d := range own.All("ValueSet") {
			got = append(got, d.Canonical())
		}
		want := []string{
			"http://guide/ValueSet/b|0.1",
			"http://guide/ValueSet/a|3.1.1", "http://guide/ValueSet/b|1", "http://guide/ValueSet/a|6.1.0", "http://hl7.org/fhir/ValueSet/a|5.0.0",
			"http://hl7.org/fhir/ValueSet/a|4.0.1",
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestVersionsAreOrdered(t *testing.T) {
	ordered := []string{"", "0.9", "1.0-ballot", "1.0", "1.0.0", "1.2", "1.10", "3.1.1", "4.0.1", "6.1.0-snapshot1", "6.1.0", "2019-12", "20230101"}
	for i, a := range ordered {
		for j, b := range ordered {
			if i == j {
				continue
			}
			if got := compareVersions(a, b); (got < 0) != (i < j) {
				t.Errorf("compareVersions(%q, %q) = %d", a, b, got)
			}
		}
	}
}

// The order of versions is one in which a newest can be named.
func TestOrderOfVersionsIsTotal(t *testing.T) {
	version := rapid.StringMatching(`[0-9a-c]{0,3}(\.[0-9a-c]{1,2}){0,2}(-[a-c0-9.]{0,3})?`)
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := version.Draw(t, "a"), version.Draw(t, "b"), version.Draw(t, "c")
		if compareVersions(a, b) != -compareVersions(b, a) {
			t.Fatalf("%q and %q are not ordered", a, b)
		}
		if compareVersions(a, b) <= 0 && compareVersions(b, c) <= 0 && compareVersions(a, c) > 0 {
			t.Fatalf("%q ≤ %q ≤ %q is no order", a, b, c)
		}
	})
}

func TestMemo(t *testing.T) {
	type key string
	t.Run("is made once, however many ask", func(t *testing.T) {
		s := NewSet(nil)
		var made atomic.Int32
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				v, err := s.Memo(key("x"), func() (any, error) { return int(made.Add(1)), nil })
				if v != 1 || err != nil {
					t.Errorf("got %v, %v", v, err)
				}
			})
		}
		all.Wait()
	})
	t.Run("remembers an error", func(t *testing.T) {
		s := NewSet(nil)
		want := errors.New("a profile of nothing")
		if _, err := s.Memo(key("x"), func() (any, error) { return nil, want }); err != want {
			t.Errorf("got %v", err)
		}
		if _, err := s.Memo(key("x"), func() (any, error) { return 1, nil }); err == nil {
			t.Error("the error was forgotten")
		}
	})
	t.Run("the end of a context is not remembered", func(t *testing.T) {
		s := NewSet(nil)
		leaves := func() (any, error) { return nil, fmt.Errorf("made: %w", context.Canceled) }
		if _, err := s.Memo(key("x"), leaves); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if v, err := s.Memo(key("x"), func() (any, error) { return 2, nil }); v != 2 || err != nil {
			t.Errorf("got %v, %v", v, err)
		}
	})
	t.Run("who waits for one who leaves makes it", func(t *testing.T) {
		s := NewSet(nil)
		making, leave := make(chan struct{}), make(chan struct{})
		go func() {
			_, _ = s.Memo(key("x"), func() (any, error) {
				close(making)
				<-leave
				return nil, context.Canceled
			})
		}()
		<-making
		go close(leave)
		if v, err := s.Memo(key("x"), func() (any, error) { return 2, nil }); v != 2 || err != nil {
			t.Errorf("got %v, %v", v, err)
		}
	})
	t.Run("a panic is not remembered", func(t *testing.T) {
		s := NewSet(nil)
		func() {
			defer func() { _ = recover() }()
			_, _ = s.Memo(key("x"), func() (any, error) { panic("bug") })
		}()
		if v, _ := s.Memo(key("x"), func() (any, error) { return 2, nil }); v != 2 {
			t.Errorf("got %v", v)
		}
	})
	t.Run("is bounded", func(t *testing.T) {
		s := NewSet(nil)
		for i := range maxMemos + 100 {
			if _, err := s.Memo(i, func() (any, error) { return i, nil }); err != nil {
				t.Fatal(err)
			}
		}
		if len(s.memos) > maxMemos {
			t.Errorf("%d are remembered", len(s.memos))
		}
	})
}
