package fhirconf

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/fhir/canonical"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// definitionsAt are a profile, a value set and a code system below a URL.
func definitionsAt(url string) []string {
	return []string{
		fmt.Sprintf(`{"resourceType":"CodeSystem","id":"neighbour","url":"%s/cs","status":"active","content":"complete","concept":[{"code":"a","display":"Secret A"}]}`, url),
		fmt.Sprintf(`{"resourceType":"ValueSet","id":"neighbour","url":"%s/vs","status":"active","compose":{"include":[{"system":"%s/cs"}]}}`, url, url),
		fmt.Sprintf(`{"resourceType":"ConceptMap","id":"neighbour","url":"%s/cm","status":"active","group":[{"source":"%s/cs","target":"http://t","element":[{"code":"a","target":[{"code":"b","equivalence":"equal"}]}]}]}`, url, url),
		fmt.Sprintf(`{"resourceType":"SearchParameter","id":"neighbour","url":"%s/sp","name":"N","status":"active","description":"d","code":"own-words","base":["Patient"],"type":"string","expression":"Patient.maritalStatus.text"}`, url),
		fmt.Sprintf(`{"resourceType":"StructureDefinition","id":"neighbour","url":"%s/sd","name":"N","status":"active","fhirVersion":"4.0.1","kind":"resource","abstract":false,"type":"Patient",`+
			`"baseDefinition":"http://hl7.org/fhir/StructureDefinition/Patient","derivation":"constraint","differential":{"element":[{"id":"Patient.language","path":"Patient.language","min":1}]}}`, url),
	}
}

// questionsAbout are requests whose answers depend on the definitions below a URL.
func questionsAbout(c *client, url string) (answers []string) {
	ask := func(method, path, body string) {
		a := c.do(method, path, body)
		text := strings.ReplaceAll(strings.ReplaceAll(string(a.body), q(url), "URL"), url, "URL")
		for _, name := range []string{"timestamp", "identifier"} {
			if v, ok := a.at(name).(string); ok {
				text = strings.ReplaceAll(text, v, "")
			}
		}
		answers = append(answers, fmt.Sprint(method, " ", a.status, " ", text))
	}
	for _, query := range []string{
		"/ValueSet/$expand?url=" + q(url+"/vs"),
		"/ValueSet/$validate-code?url=" + q(url+"/vs") + "&system=" + q(url+"/cs") + "&code=a",
		"/CodeSystem/$lookup?system=" + q(url+"/cs") + "&code=a",
		"/CodeSystem/$validate-code?url=" + q(url+"/cs") + "&code=a",
		"/ConceptMap/$translate?url=" + q(url+"/cm") + "&system=" + q(url+"/cs") + "&code=a",
		"/Observation?code:in=" + q(url+"/vs"),
		"/Patient?own-words=x",
	} {
		ask("GET", query, "")
	}
	ask("POST", "/Patient/$validate?profile="+q(url+"/sd"), `{"resourceType":"Patient"}`)
	ask("POST", "/Patient/$validate", `{"resourceType":"Patient","meta":{"profile":["`+url+`/sd"]}}`)
	return answers
}

// T004, T010, T063: what a tenant defines, or has as a package, changes no
// answer that another tenant gets: it is as if nobody had it.
func TestANeighboursDefinitionsChangeNothing(t *testing.T) {
	s := newServer(t)
	owner := map[string]string{storetest.A1: storetest.A2, storetest.S1: storetest.D1, storetest.D1: storetest.A1}
	for slug, neighbour := range owner {
		for _, way := range []string{"stored", "installed"} {
			t.Run(slug+": "+way, func(t *testing.T) {
				url, nobodys := "http://"+way+"."+slug+".example.org", "http://nobodys.example.org"
				own, other := s.client(t, slug, all), s.client(t, neighbour, all)
				before := questionsAbout(other, url)
				if way == "stored" {
					for _, d := range definitionsAt(url) {
						own.put("%s", d)
					}
					defer func() {
						for _, on := range []string{"CodeSystem", "ValueSet", "ConceptMap", "SearchParameter", "StructureDefinition"} {
							own.do("DELETE", "/"+on+"/neighbour", "")
						}
					}()
				} else {
					file := storetest.PackageFile(t, "neighbour."+slug, "1.0.0", definitionsAt(url)...)
					p, err := canonical.ReadPackage(bytes.NewReader(file))
					if err != nil {
						t.Fatal(err)
					}
					if _, _, err := s.Migrator.InstallPackage(t.Context(), slug, sha256.Sum256(file), p); err != nil {
						t.Fatal(err)
					}
					defer func() {
						if err := s.Migrator.RemovePackage(t.Context(), slug, p.Name, p.Version); err != nil {
							t.Error(err)
						}
					}()
					time.Sleep(1200 * time.Millisecond) // what a server knows of a tenant is a second old at most
				}
				if a := own.must(200, "GET", "/ValueSet/$expand?url="+q(url+"/vs"), ""); !strings.Contains(string(a.body), "Secret A") {
					t.Fatalf("the owner does not see its own: %s", a.body)
				}
				if a := own.must(200, "POST", "/Patient/$validate?profile="+q(url+"/sd"), `{"resourceType":"Patient"}`); !strings.Contains(string(a.body), "Patient.language") {
					t.Fatalf("the owner's profile is not used: %s", a.body)
				}
				for claim, want := range map[string][]string{"before": before, "for what nobody has": questionsAbout(other, nobodys)} {
					if got := questionsAbout(other, url); !slices.Equal(got, want) {
						t.Errorf("%s answers differ from those %s:\n%s\n%s", neighbour, claim, strings.Join(got, "\n"), strings.Join(want, "\n"))
					}
				}
			})
		}
	}
}

// A code system as large as SNOMED CT's core is installed from a file and used.
func TestALargeCodeSystemIsInstalledFromAFile(t *testing.T) {
	const concepts = 150_000
	var b bytes.Buffer
	b.WriteString(`{"resourceType":"CodeSystem","url":"http://large.example.org","version":"1","status":"active","content":"complete","concept":[`)
	for i := range concepts {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"code":"%d","display":"Concept number %d of the system","definition":"words that nothing needs"}`, 1000000+i, i)
	}
	b.WriteString(`]}`)
	begun := time.Now()
	p, err := canonical.Read(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(t)
	if _, _, err := s.Migrator.InstallPackage(t.Context(), storetest.A1, sha256.Sum256(b.Bytes()), p); err != nil {
		t.Fatal(err)
	}
	installed := time.Since(begun)
	size := p.Pack.Size()
	p = nil
	s.Tenants.Forget(storetest.A1)
	before := heap()
	c := s.client(t, storetest.A1, all)
	begun = time.Now()
	if a := c.must(200, "GET", "/CodeSystem/$lookup?system="+q("http://large.example.org")+"&code=1123456", ""); !strings.Contains(string(a.body), "Concept number 123456") {
		t.Errorf("got %s", a.body)
	}
	first := time.Since(begun)
	begun = time.Now()
	c.must(200, "GET", "/CodeSystem/$validate-code?url="+q("http://large.example.org")+"&code=1000001", "")
	next := time.Since(begun)
	used := heap() - before
	t.Logf("%d bytes of JSON, %d packed; installed in %v; first use %v, then %v; the heap has %d bytes more", b.Len(), size, installed, first, next, used)
	if used > 64<<20 {
		t.Errorf("%d concepts take %d bytes", concepts, used)
	}
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
