package terminology_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/canonical"
	"github.com/cordon-fhir/cordon/fhir/terminology"
)

// largeSystem is the JSON of a CodeSystem of n concepts that is like SNOMED CT:
// flat, with parents as properties, a status and a name in several words.
func largeSystem(n int) []byte {
	var b strings.Builder
	b.WriteString(`{"resourceType":"CodeSystem","url":"http://example.org/large","version":"1","status":"active","content":"complete","caseSensitive":true,"hierarchyMeaning":"is-a","concept":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"code":"%d","display":"%s of the %s number %d","property":[{"code":"status","valueCode":"active"}`, 1000000+i, sites[i%len(sites)], sites[i/7%len(sites)], i)
		if i > 0 {
			fmt.Fprintf(&b, `,{"code":"parent","valueCode":"%d"}`, 1000000+(i-1)/8)
		}
		b.WriteString(`]}`)
	}
	b.WriteString(`]}`)
	return []byte(b.String())
}

var sites = []string{"Fracture", "Infection", "Neoplasm", "Femur", "Left kidney", "Burn", "Laceration", "Tendon", "Retina", "Injury", "Aorta"}

// heap returns the bytes in use.
func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A code system of the size of SNOMED CT takes tens of megabytes, is ready
// within seconds, and answers in microseconds.
func TestLargeCodeSystemsAreCompactAndFast(t *testing.T) {
	for _, n := range []int{100_000, 400_000} {
		large, err := canonical.New(largeSystem(n))
		if err != nil {
			t.Fatal(err)
		}
		vs, err := canonical.New([]byte(composed("http://example.org/vs", `{"include":[{"system":"http://example.org/large","filter":[{"property":"concept","op":"is-a","value":"1000003"}]}]}`)))
		if err != nil {
			t.Fatal(err)
		}
		s := terminology.New(canonical.NewSet(canonical.Core(), []*canonical.Definition{large, vs}))
		lookup := terminology.LookupRequest{Coding: terminology.Coding{System: "http://hl7.org/fhir/administrative-gender", Code: "male"}}
		if _, err := s.Lookup(lookup); err != nil { // R4 itself is read for it
			t.Fatal(err)
		}
		before := heap()

		begun := time.Now()
		lookup.Coding = terminology.Coding{System: "http://example.org/large", Code: "1000007"}
		if _, err := s.Lookup(lookup); err != nil {
			t.Fatal(err)
		}
		load := time.Since(begun)
		taken := float64(heap() - before)
		size := taken / float64(n)
		if size > 160 {
			t.Errorf("a concept takes %.0f bytes", size)
		}

		per := func(f func(i int)) time.Duration {
			begun := time.Now()
			for i := range 2000 {
				f(i * 37 % n)
			}
			return time.Since(begun) / 2000
		}
		looked := per(func(i int) {
			lookup.Code = fmt.Sprint(1000000 + i)
			if _, err := s.Lookup(lookup); err != nil {
				t.Error(err)
			}
		})
		begun = time.Now()
		if is, err := s.InValueSet("http://example.org/vs", "http://example.org/large", "1000003"); err != nil || is != terminology.In {
			t.Fatal(is, err)
		}
		compiled := time.Since(begun)
		asked := per(func(i int) {
			if is, err := s.InValueSet("http://example.org/vs", "http://example.org/large", fmt.Sprint(1000000+i)); err != nil || is == terminology.Unknown {
				t.Error(is, err)
			}
		})
		if looked > 200*time.Microsecond || asked > 100*time.Microsecond {
			t.Errorf("lookup takes %v, asking %v", looked, asked)
		}
		begun = time.Now()
		req := terminology.ExpandRequest{Source: terminology.Source{URL: "http://example.org/vs"}, Filter: "frac kidn", Count: 20}
		x, err := s.Expand(t.Context(), req)
		if err != nil || len(x.Expansion.Contains) != 20 {
			t.Fatal(len(x.Expansion.Contains), err)
		}
		t.Logf("%d concepts of %.1f MB of JSON: ready in %v, %.1f MB (%.0f bytes each); lookup %v; is-a compiled in %v, asked in %v; filter over %d in %v",
			n, float64(len(large.JSON()))/1e6, load.Round(time.Millisecond), taken/1e6, size, looked, compiled.Round(time.Microsecond), asked, x.Expansion.Total, time.Since(begun).Round(time.Microsecond))
		runtime.KeepAlive(s)
	}
}

// What is made to take too much is refused, or takes no more than it needs.
func TestHostileCodeSystems(t *testing.T) {
	system := func(concepts string) string {
		return `{"resourceType":"CodeSystem","url":"http://example.org/large","status":"active","content":"complete","concept":[` + concepts + `]}`
	}
	circle := `{"code":"a","property":[{"code":"parent","valueCode":"b"}]},{"code":"b","property":[{"code":"parent","valueCode":"a"},{"code":"parent","valueCode":"b"}]}`
	chain := `{"code":"0"}`
	for i := range 2_000 {
		chain += fmt.Sprintf(`,{"code":"%d","property":[{"code":"parent","valueCode":"%d"}]}`, i+1, i)
	}
	deep := strings.Repeat(`{"code":"x","concept":[`, 100) + `{"code":"y"}` + strings.Repeat(`]}`, 100)
	s := service(t, system(`{"display":"?"},{"code":"x"}`), composed("http://example.org/vs", `{"include":[{"system":"http://example.org/large"}]}`))
	if got := codes(t, s, all("http://example.org/vs")); len(got) != 1 {
		t.Errorf("a concept without a code is listed: %q", got)
	}
	is := composed("http://example.org/vs", `{"include":[{"system":"http://example.org/large","filter":[{"property":"concept","op":"is-a","value":"%s"}]}]}`)
	for _, tt := range []struct {
		claim, concepts, top string
		want                 int
	}{
		{"parents in a circle", circle, "a", 2},
		{"a long chain of parents", chain, "0", 2_001},
		{"deep nesting", deep, "x", 101},
		{"concepts of one code", `{"code":"x"},{"code":"x"},{"code":"x","concept":[{"code":"z"}]}`, "x", 1},
		{"concepts without a code", `{"display":"?"},{"code":"x"}`, "x", 1},
	} {
		begun := time.Now()
		s := service(t, system(tt.concepts), fmt.Sprintf(is, tt.top))
		x, err := s.Expand(t.Context(), terminology.ExpandRequest{Source: terminology.Source{URL: "http://example.org/vs"}, Count: 5})
		if err != nil || x.Expansion.Total != tt.want {
			t.Errorf("%s: got %+v, %v, want %d", tt.claim, x, err, tt.want)
		}
		if _, err := s.Subsumes("http://example.org/large", "", tt.top, tt.top); err != nil {
			t.Errorf("%s: %v", tt.claim, err)
		}
		if took := time.Since(begun); took > time.Minute {
			t.Errorf("%s took %v", tt.claim, took)
		}
	}
	many := system(`{"code":"1"}` + strings.Repeat(`,{"code":"1"}`, 2_000_000))
	if _, err := service(t, many).Lookup(terminology.LookupRequest{Coding: terminology.Coding{System: "http://example.org/large", Code: "1"}}); !fhir.IsCode(err, fhir.TooCostly) {
		t.Errorf("two million concepts: got %v", err)
	}
}
