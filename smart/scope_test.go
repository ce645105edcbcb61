package smart_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cordon-fhir/cordon/smart"
)

//
func TestScopesOfTheStandardAreRead(t *testing.T) {
	for _, text := range []string{
		"patient/Observation.rs", "patient/Observation.read", "user/*.cruds", "system/*.*", "system/*.write",
		"patient/Patient.r", "user/Encounter.c", "system/Group.d", "patient/*.read", "user/Observation.u",
		"patient/Observation.rs?category=http://terminology.hl7.org/CodeSystem/observation-category|laboratory",
		"user/Observation.rs?category=laboratory&code=http://loinc.org|4548-4",
		"system/AuditEvent.rs",
	} {
		got, err := smart.ParseScope(text)
		if err != nil || got.String() != text {
			t.Errorf("%s was read as %q, %v", text, got, err)
		}
	}
}

// A-40, T052
func TestWhatIsNoScopeIsRefused(t *testing.T) {
	for _, text := range []string{
		"", " ", "patient", "patient/", "patient/Observation", "patient/Observation.", "patient/.rs", "/Observation.rs",
		"Patient/Observation.rs", "patients/Observation.rs", "patient/observation.rs", "patient/Observations.rs", "patient/Resource.rs",
		"patient/Observation.dus", "patient/Observation.sr", "patient/Observation.rr", "patient/Observation.rd ", "patient/Observation.rx",
		"patient/Observation.readwrite", "patient/Observation.Read", "patient/Observation.RS", "patient/Observation.rs.read", "patient/Observation.read.rs",
		"patient/*.*.*", "patient/**.rs", "*/*.rs", "system/*.cruds*", "patient/Observation.*s",
		"patient/Observation.rs?", "patient/Observation.rs?category", "patient/Observation.rs?category=", "patient/Observation.rs?category=&code=1", "patient/Observation.rs?code=1&", "patient/Observation.rs?=1", "patient/Observation.rs?unheard=1", "patient/Observation.read?category=laboratory",
		"patient/Observation.rs?subject:Patient.name=x", "patient/Observation.rs?code:not=x", "patient/Observation.rs?_has:Group:member:_id=1",
		"patient/Observation.rs?code=x&_include=*", "patient/Observation.rs?_count=5", "patient/*.rs?code=x",
		"patient/Observation.rs\x00", "patient/Observation.rs\tuser/*.cruds", "patient/Observation.rs\n", "pätient/Observation.rs", "patient/Observation.rѕ",
		`patient/Observation.rs?code="x"`, "openid", "launch/patient", "offline_access",
		"patient/Observation.rs?code=" + strings.Repeat("x", 2000),
	} {
		if got, err := smart.ParseScope(text); err == nil {
			t.Errorf("%q was read as %s", text, got)
		}
	}
}

// T052
func TestManyScopesAreRefusedQuickly(t *testing.T) {
	if _, err := smart.ParseScopes(strings.Repeat("patient/Observation.rs ", 9_999) + "patient/Patient.r"); err == nil {
		t.Error("10,000 scopes were read")
	}
	got, err := smart.ParseScopes(strings.Repeat("patient/Observation.rs patient/Observation.read ", 100) + "patient/Patient.r")
	if err != nil || smart.Join(got) != "patient/Observation.rs patient/Patient.r" {
		t.Errorf("equal scopes came out as %q, %v", smart.Join(got), err)
	}
	for _, text := range []string{"", " patient/Patient.r", "patient/Patient.r ", "patient/Patient.r  user/*.rs", "patient/Patient.r\nuser/*.rs"} {
		if got, err := smart.ParseScopes(text); err == nil {
			t.Errorf("%q was read as %q", text, smart.Join(got))
		}
	}
}

//
func TestWhatIsGrantedIsWhatBothAllow(t *testing.T) {
	for _, tt := range []struct{ claim, asked, allowed, want string }{
		{"the same", "system/Patient.rs", "system/Patient.rs", "system/Patient.rs"},
		{"a type of a wildcard", "system/Patient.rs", "system/*.cruds", "system/Patient.rs"},
		{"a wildcard shrinks to the types", "system/*.rs", "system/Patient.r system/Group.rs", "system/Patient.r system/Group.rs"},
		{"letters are cut", "system/Patient.cruds", "system/Patient.rs", "system/Patient.rs"},
		{"nothing in common", "system/Patient.cud", "system/Patient.rs", ""},
		{"another type", "system/Patient.rs", "system/Group.rs", ""},
		{"another context", "system/Patient.rs", "user/Patient.rs patient/Patient.rs", ""},
		{"SMART 1 is answered in SMART 1", "system/Patient.read", "system/*.cruds", "system/Patient.read"},
		{"SMART 1 is answered in SMART 2 where it must be", "system/Patient.*", "system/*.cr", "system/Patient.cr"},
		{"a registered search binds", "user/Observation.rs", "user/Observation.rs?category=laboratory", "user/Observation.rs?category=laboratory"},
		{"an asked search stays", "user/Observation.rs?category=laboratory", "user/*.cruds", "user/Observation.rs?category=laboratory"},
		{"two searches both bind", "user/Observation.rs?category=laboratory", "user/Observation.rs?code=1", "user/Observation.rs?category=laboratory&code=1"},
		{"what another covers is not said twice", "user/Observation.rs user/*.rs", "user/*.cruds", "user/*.rs"},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			if got := smart.Join(smart.Narrow(scopes(t, tt.asked), scopes(t, tt.allowed))); got != tt.want {
				t.Errorf("asked %s of %s: got %q, want %q", tt.asked, tt.allowed, got, tt.want)
			}
		})
	}
}

func TestNarrowingNeverWidens(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) []smart.Scope {
			text := strings.Join(rapid.SliceOfN(anyScope(), 1, 8).Draw(t, name), " ")
			got, err := smart.ParseScopes(text)
			if err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			return got
		}
		asked, allowed := draw("asked"), draw("allowed")
		got := smart.Narrow(asked, allowed)
		for _, sc := range got {
			if !withinSome(sc, asked) || !withinSome(sc, allowed) {
				t.Fatalf("%s is not within both %q and %q", sc, smart.Join(asked), smart.Join(allowed))
			}
		}
		if len(got) > 0 {
			if _, err := smart.ParseScopes(smart.Join(got)); err != nil {
				t.Fatalf("%q cannot be read again", smart.Join(got))
			}
		}
	})
}

// withinSome reports, from the texts alone, whether some of the scopes allows
// all that sc does.
func withinSome(sc smart.Scope, scopes []smart.Scope) bool {
	whose, on, rights, params := takeApart(sc)
	return slices.ContainsFunc(scopes, func(other smart.Scope) bool {
		ofWhom, onWhat, may, only := takeApart(other)
		return whose == ofWhom && (onWhat == "*" || onWhat == on) &&
			!strings.ContainsFunc(rights, func(c rune) bool { return !strings.ContainsRune(may, c) }) &&
			!slices.ContainsFunc(only, func(p string) bool { return !slices.Contains(params, p) })
	})
}

func takeApart(sc smart.Scope) (whose, on, rights string, params []string) {
	text, query, ok := strings.Cut(sc.String(), "?")
	if ok {
		params = strings.Split(query, "&")
	}
	whose, text, _ = strings.Cut(text, "/")
	on, rights, _ = strings.Cut(text, ".")
	if v2, ok := map[string]string{"read": "rs", "write": "cud", "*": "cruds"}[rights]; ok {
		rights = v2
	}
	return whose, on, rights, params
}

func anyScope() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		on := rapid.SampledFrom([]string{"Patient", "Observation", "Group", "*"}).Draw(t, "on")
		rights := rapid.SampledFrom([]string{"c", "r", "rs", "cruds", "ud", "read", "write", "*"}).Draw(t, "rights")
		query := ""
		if on == "Observation" && !slices.Contains([]string{"read", "write", "*"}, rights) {
			query = rapid.SampledFrom([]string{"", "?code=a", "?code=b", "?category=a&code=b"}).Draw(t, "query")
		}
		return rapid.SampledFrom([]string{"patient/", "user/", "system/"}).Draw(t, "whose") + on + "." + rights + query
	})
}

func scopes(t testing.TB, text string) []smart.Scope {
	t.Helper()
	got, err := smart.ParseScopes(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return got
}

func FuzzParseScopes(f *testing.F) {
	for _, seed := range []string{"patient/Observation.rs", "user/*.*", "system/Observation.rs?code=http://loinc.org|1&category=x", "patient/*.dus", "a b  c", "?", "//.?"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := smart.ParseScopes(text)
		if err != nil {
			return
		}
		again, err := smart.ParseScopes(smart.Join(got))
		if err != nil || smart.Join(again) != smart.Join(got) {
			t.Errorf("%q is written as %q and then read as %q, %v", text, smart.Join(got), smart.Join(again), err)
		}
		if len(got) > 256 {
			t.Errorf("%d scopes", len(got))
		}
	})
}
