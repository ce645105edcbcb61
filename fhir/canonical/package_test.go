package canonical

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/valyala/fastjson"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/fhirtest"
)

// A file is one entry of an archive.
type file struct {
	name string
	body string
	kind byte
}

const manifest = `{"name":"test.guide","version":"1.2.0","fhirVersions":["4.0.1"],"dependencies":{"hl7.fhir.r4.core":"4.0.1"}}`

// archiveOf returns a package file with the files.
func archiveOf(t testing.TB, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Typeflag: f.kind, Mode: 0o644}
		switch f.kind {
		case 0, tar.TypeReg:
			h.Typeflag, h.Size = tar.TypeReg, int64(len(f.body))
		case tar.TypeSymlink, tar.TypeLink:
			h.Linkname = f.body
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := w.Write([]byte(f.body)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestPublishedGuidesAreRead(t *testing.T) {
	for name, want := range map[string]map[fhir.Type]int{
		"hl7.fhir.us.core-3.1.1.tgz": {"StructureDefinition": 30, "SearchParameter": 74, "ValueSet": 32, "CodeSystem": 5},
		"hl7.fhir.us.core-6.1.0.tgz": {"StructureDefinition": 59, "SearchParameter": 106, "ValueSet": 36, "CodeSystem": 5},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := ReadPackage(fhirtest.Open(t, "us-core/"+name))
			if err != nil {
				t.Fatal(err)
			}
			if p.Name != "hl7.fhir.us.core" || !strings.Contains(name, p.Version) || p.FHIRVersion != "4.0.1" || p.Dependencies["hl7.fhir.r4.core"] != "4.0.1" {
				t.Errorf("got %s %s for FHIR %s, which needs %v", p.Name, p.Version, p.FHIRVersion, p.Dependencies)
			}
			got := map[fhir.Type]int{}
			for _, d := range p.Definitions {
				got[d.Type]++
			}
			for resourceType, n := range want {
				if got[resourceType] != n {
					t.Errorf("%d of %s, want %d", got[resourceType], resourceType, n)
				}
			}
			s := NewSet(Core(), p.Definitions)
			d, ok := s.Find("StructureDefinition", "http://hl7.org/fhir/us/core/StructureDefinition/us-core-patient|"+p.Version)
			if !ok || d.Constrains != "Patient" {
				t.Fatalf("us-core-patient: got %+v", d)
			}
			if v := fastjson.MustParseBytes(d.JSON()); len(v.GetArray("snapshot", "element")) < 50 || v.Exists("differential") || v.Exists("text") {
				t.Error("us-core-patient has no snapshot, or prose")
			}
			t.Logf("%d definitions in %d bytes", len(p.Definitions), p.Pack.Size())
		})
	}
}

func TestFaultyPackagesAreRefused(t *testing.T) { // T142
	good := file{name: "package/package.json", body: manifest}
	vs := `{"resourceType":"ValueSet","url":"http://x/vs"}`
	for _, tt := range []struct {
		claim string
		body  []byte
		want  fhir.IssueCode
	}{
		{"a path out of the package", archiveOf(t, good, file{name: "package/../../etc/passwd", body: vs}), fhir.Structure},
		{"an absolute path", archiveOf(t, good, file{name: "/etc/passwd", body: vs}), fhir.Structure},
		{"a path with a backslash", archiveOf(t, good, file{name: `package\..\x.json`, body: vs}), fhir.Structure},
		{"a path with a dot in it", archiveOf(t, good, file{name: "package/./x.json", body: vs}), fhir.Structure},
		{"a symbolic link", archiveOf(t, good, file{"package/x.json", "/etc/passwd", tar.TypeSymlink}), fhir.Structure},
		{"a hard link", archiveOf(t, good, file{"package/x.json", "package/package.json", tar.TypeLink}), fhir.Structure},
		{"a device", archiveOf(t, good, file{"package/x.json", "", tar.TypeChar}), fhir.Structure},
		{"a file that is there twice", archiveOf(t, good, file{name: "package/x.json", body: vs}, file{name: "package/x.json", body: vs}), fhir.Structure},
		{"no package.json", archiveOf(t, file{name: "package/x.json", body: vs}), fhir.Structure},
		{"a package.json that is no object", archiveOf(t, file{name: "package/package.json", body: "[]"}), fhir.Structure},
		{"a name that is none", archiveOf(t, file{name: "package/package.json", body: `{"name":"../x","version":"1","fhirVersions":["4.0.1"]}`}), fhir.Structure},
		{"a version that is none", archiveOf(t, file{name: "package/package.json", body: `{"name":"x","version":"1/2","fhirVersions":["4.0.1"]}`}), fhir.Structure},
		{"a dependency that is none", archiveOf(t, file{name: "package/package.json", body: `{"name":"x","version":"1","fhirVersions":["4.0.1"],"dependencies":{"a b":"1"}}`}), fhir.Structure},
		{"another release of FHIR", archiveOf(t, file{name: "package/package.json", body: `{"name":"x","version":"1","fhirVersions":["5.0.0"]}`}), fhir.NotSupported},
		{"a definition that is not JSON", archiveOf(t, good, file{name: "package/x.json", body: `{"resourceType":`}), fhir.Structure},
		{"a definition with a name twice", archiveOf(t, good, file{name: "package/x.json", body: `{"resourceType":"ValueSet","url":"a","url":"b"}`}), fhir.Structure},
		{"a definition followed by another", archiveOf(t, good, file{name: "package/x.json", body: vs + vs}), fhir.Structure},
		{"a definition whose url is a number", archiveOf(t, good, file{name: "package/x.json", body: `{"resourceType":"ValueSet","url":7}`}), fhir.Structure},
		{"a definition nested too deep", archiveOf(t, good, file{name: "package/x.json", body: `{"resourceType":"ValueSet","compose":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + `}`}), fhir.Structure},
		{"a file that is cut off", archiveOf(t, good, file{name: "package/x.json", body: vs})[:100], fhir.Structure},
		{"no archive", []byte("hello"), fhir.Structure},
		{"nothing", nil, fhir.Structure},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			p, err := ReadPackage(bytes.NewReader(tt.body))
			if p != nil || !fhir.IsCode(err, tt.want) {
				t.Errorf("got %v, want code %s", err, tt.want)
			}
		})
	}
}

// A gigabyte of zeros takes a megabyte of archive.
func TestBombsAreRefused(t *testing.T) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(z)
	block := make([]byte, 1<<20)
	for i := range 10 {
		if err := w.WriteHeader(&tar.Header{Name: fmt.Sprintf("package/other/%d.json", i), Size: 110 << 20, Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		for range 110 {
			if _, err := w.Write(block); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadPackage(&b); !fhir.IsCode(err, fhir.TooLong) {
		t.Errorf("got %v", err)
	}
	large := archiveOf(t, file{name: "package/package.json", body: manifest})
	large = append(large, archiveOf(t, file{name: "package/x", body: strings.Repeat(" ", 1024)})...)
	if _, err := ReadPackage(bytes.NewReader(large)); err != nil {
		t.Errorf("what follows the archive is not read: got %v", err)
	}
}

// A code system can be installed as the one file that it is.
func TestAResourceIsAPackage(t *testing.T) {
	long := strings.Repeat("x", 200)
	for _, tt := range []struct{ claim, body, name, version string }{
		{"named after its type and URL", `{"resourceType":"CodeSystem","url":"http://loinc.org","version":"2.74"}`, "codesystem.loinc.org", "2.74"},
		{"a path", `{"resourceType":"ValueSet","url":"https://Example.org/fhir/ValueSet/a b"}`, "valueset.example.org.fhir.valueset.a.b", "0"},
		{"a URN", `{"resourceType":"CodeSystem","url":"urn:oid:1.2.3","version":"-x y"}`, "codesystem.urn.oid.1.2.3", "x.y"},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			p, err := Read(strings.NewReader(tt.body))
			if err != nil || p.Name != tt.name || p.Version != tt.version || len(p.Definitions) != 1 {
				t.Errorf("got %+v, %v", p, err)
			}
		})
	}
	a, err := Read(strings.NewReader(`{"resourceType":"ValueSet","url":"http://` + long + `/a"}`))
	if err != nil {
		t.Fatal(err)
	}
	b, err := Read(strings.NewReader(`{"resourceType":"ValueSet","url":"http://` + long + `/b"}`))
	if err != nil {
		t.Fatal(err)
	}
	if a.Name == b.Name || !packageName.MatchString(a.Name) {
		t.Errorf("two long URLs are named %s and %s", a.Name, b.Name)
	}
	for claim, body := range map[string]string{
		"a patient":         `{"resourceType":"Patient","url":"http://x"}`,
		"one without a url": `{"resourceType":"ValueSet"}`,
		"broken JSON":       `{"resourceType":"ValueSet"`,
	} {
		if _, err := Read(strings.NewReader(body)); err == nil {
			t.Errorf("%s was accepted", claim)
		}
	}
}

func FuzzReadPackage(f *testing.F) {
	f.Add(archiveOf(f, file{name: "package/package.json", body: manifest}, file{name: "package/x.json", body: `{"resourceType":"ValueSet","url":"http://x/vs"}`}))
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := ReadPackage(bytes.NewReader(body))
		var known *fhir.Error
		if err != nil && !errors.As(err, &known) {
			t.Errorf("an error that is not for the client: %v", err)
		}
		if err == nil && p.Name == "" {
			t.Error("a package without a name")
		}
	})
}

func FuzzNew(f *testing.F) {
	f.Add([]byte(`{"resourceType":"CodeSystem","url":"http://x","concept":[{"code":"a","definition":"prose","display":"A"}]}`))
	f.Add([]byte(`{"resourceType":"StructureDefinition","extension":[{"url":"http://hl7.org/fhir/StructureDefinition/structuredefinition-wg"}],"snapshot":{"element":[{"patternCodeableConcept":{"text":"x"}}]}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		d, err := New(body)
		var known *fhir.Error
		if err != nil {
			if !errors.As(err, &known) {
				t.Errorf("an error that is not for the client: %v", err)
			}
			return
		}
		again, err := New(d.JSON())
		if err != nil || !bytes.Equal(again.JSON(), d.JSON()) {
			t.Errorf("pruning again changes it: %v\n%s\n%s", err, d.JSON(), again.JSON())
		}
	})
}

// What rules use stays; what only people read goes.
func TestProseIsLeftOut(t *testing.T) {
	d, err := New([]byte(`{"resourceType":"StructureDefinition","id":"p","url":"http://x/p","version":"1","name":"P","title":"A title",
		"text":{"status":"generated"},"contact":[{"name":"n"}],"type":"Patient","derivation":"constraint",
		"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/structuredefinition-wg","valueCode":"fhir"}],
		"mapping":[{"identity":"rim"}],
		"snapshot":{"element":[{"id":"Patient","path":"Patient","short":"s","definition":"d","comment":"c","min":0,
			"constraint":[{"key":"a-1","severity":"error","human":"words","expression":"name.exists()","xpath":"f:name","source":"x"}],
			"type":[{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/regex","valueString":"[a-z]"}],"code":"string"}],
			"patternCodeableConcept":{"text":"kept", "extension":[]},
			"binding":{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/elementdefinition-bindingName","valueString":"B"}],"strength":"required","description":"d","valueSet":"http://x/vs"}}]},
		"differential":{"element":[]}}`))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"resourceType":"StructureDefinition","id":"p","url":"http://x/p","version":"1","name":"P","type":"Patient","derivation":"constraint",` +
		`"snapshot":{"element":[{"id":"Patient","path":"Patient","min":0,"constraint":[{"key":"a-1","severity":"error","expression":"name.exists()"}],` +
		`"type":[{"extension":[{"url":"http://hl7.org/fhir/StructureDefinition/regex","valueString":"[a-z]"}],"code":"string"}],` +
		`"patternCodeableConcept":{"text":"kept","extension":[]},"binding":{"strength":"required","valueSet":"http://x/vs"}}]}}`
	if got := string(d.JSON()); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if d.Constrains != "Patient" || d.Name != "P" || d.ID != "p" || d.Canonical() != "http://x/p|1" {
		t.Errorf("got %+v", d)
	}
}

func TestPackKeepsDefinitions(t *testing.T) {
	p := NewPacker(false)
	var want []string
	for i := range 2000 {
		d := definition(t, "CodeSystem", fmt.Sprintf("http://x/%d", i), "1", `,"concept":[{"code":"`+strings.Repeat("c", i)+`"}]`)
		want = append(want, string(d.JSON()))
		p.Add(d)
	}
	packed, err := p.Pack().Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	u, err := Unpack(packed)
	if err != nil {
		t.Fatal(err)
	}
	for i, d := range u.Definitions {
		if string(d.JSON()) != want[i] || d.URL != fmt.Sprintf("http://x/%d", i) {
			t.Fatalf("definition %d is %s", i, d.JSON())
		}
	}
	for n := range 200 {
		if _, err := Unpack(packed[:n]); err == nil {
			t.Errorf("the first %d bytes are taken for a packed form", n)
		}
	}
}

// The definitions of R4 are there, and take little memory until they are used.
func TestCoreIsComplete(t *testing.T) {
	before := heap()
	p, err := Unpack(corePack)
	if err != nil {
		t.Fatal(err)
	}
	core := NewSet(nil, p.Definitions)
	named := heap() - before
	for _, tt := range []struct {
		resourceType fhir.Type
		url          string
	}{
		{"StructureDefinition", "http://hl7.org/fhir/StructureDefinition/Patient"},
		{"StructureDefinition", "http://hl7.org/fhir/StructureDefinition/patient-birthPlace"},
		{"ValueSet", "http://hl7.org/fhir/ValueSet/administrative-gender|4.0.1"},
		{"CodeSystem", "http://terminology.hl7.org/CodeSystem/v3-ActCode"},
		{"SearchParameter", "http://hl7.org/fhir/SearchParameter/Patient-name"},
		{"OperationDefinition", "http://hl7.org/fhir/OperationDefinition/ValueSet-expand"},
		{"CompartmentDefinition", "http://hl7.org/fhir/CompartmentDefinition/patient"},
		{"ConceptMap", "http://hl7.org/fhir/ConceptMap/cm-administrative-gender-v3"},
	} {
		if _, ok := core.Find(tt.resourceType, tt.url); !ok {
			t.Errorf("%s is not there", tt.url)
		}
	}
	count, bytes := 0, 0
	for _, resourceType := range Types {
		for d := range core.All(resourceType) {
			body := d.JSON()
			if !fhirResource(body, resourceType) {
				t.Errorf("%s cannot be read", d.URL)
			}
			count, bytes = count+1, bytes+len(body)
		}
	}
	if count < 4500 {
		t.Errorf("%d definitions, want those of R4", count)
	}
	used := heap() - before
	t.Logf("%d definitions, %d bytes of JSON; %d bytes packed; names take %d bytes, and after all were read %d", count, bytes, len(corePack), named, used)
	runtime.KeepAlive(core)
	if used > 6<<20 {
		t.Errorf("the heap grew by %d bytes", used)
	}
	if len(corePack) > 3<<20 {
		t.Errorf("the program grew by %d bytes", len(corePack))
	}
}

func fhirResource(body []byte, want fhir.Type) bool {
	d, err := fhir.Reopen(body)
	return err == nil && d.Type == want
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func BenchmarkReadPackage(b *testing.B) {
	f := fhirtest.Open(b, fhirtest.USCore6)
	for b.Loop() {
		if _, err := f.Seek(0, 0); err != nil {
			b.Fatal(err)
		}
		if _, err := ReadPackage(f); err != nil {
			b.Fatal(err)
		}
	}
}
