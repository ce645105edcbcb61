package rest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/fhirtest"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// BenchmarkPlan is what a transaction costs before it reaches the database, by
// resource.
func BenchmarkPlan(b *testing.B) {
	files, _ := filepath.Glob(filepath.Join(fhirtest.Path(b, "synthea"), "*.json"))
	if len(files) == 0 {
		b.Skip("there are no Synthea records: set CORDON_TEST_DATA")
	}
	raw, err := os.ReadFile(files[0])
	if err != nil {
		b.Fatal(err)
	}
	s := &server{routes: newRouter(), Config: Config{Base: baseOf, Limits: Limits{}.orDefault()}}
	resources := 0
	for b.Loop() {
		d, err := fhir.Parse(raw, fhir.Limits{})
		if err != nil {
			b.Fatal(err)
		}
		entries := parseEntries(member(d.JSON, "entry"))
		req := &request{slug: storetest.A1, base: baseOf(storetest.A1), grant: &smart.Grant{}, limits: &s.Limits, now: time.Now, document: d, rules: ofCore}
		p := plan{server: s, outer: req, entries: entries}
		if err := p.make(b.Context()); err != nil {
			b.Fatal(err)
		}
		resources += len(entries)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(resources), "µs/resource")
}

// BenchmarkRead is a read of one resource, through the handler and back.
func BenchmarkRead(b *testing.B) {
	c := newAPI(b).client(b, storetest.A1, all)
	id := fresh()
	c.must(201, "PUT", "/Patient/"+id, patient(id, "x"))
	for b.Loop() {
		c.must(200, "GET", "/Patient/"+id, "")
	}
}

// BenchmarkImport is the way of a real record's resources into the database,
// by resource.
func BenchmarkImport(b *testing.B) {
	files, _ := filepath.Glob(filepath.Join(fhirtest.Path(b, "synthea"), "*.json"))
	if len(files) == 0 {
		b.Skip("there are no Synthea records: set CORDON_TEST_DATA")
	}
	raw, err := os.ReadFile(files[0])
	if err != nil {
		b.Fatal(err)
	}
	c := newAPI(b).client(b, storetest.A1, all)
	resources := bytes.Count(raw, []byte(`"fullUrl"`))
	n := 0
	for b.Loop() {
		c.must(200, "POST", "", string(raw))
		n += resources
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "resources/s")
}

// BenchmarkEverything is a page of a hundred resources of a real record.
func BenchmarkEverything(b *testing.B) {
	files, _ := filepath.Glob(filepath.Join(fhirtest.Path(b, "synthea"), "*.json"))
	if len(files) == 0 {
		b.Skip("there are no Synthea records: set CORDON_TEST_DATA")
	}
	raw, err := os.ReadFile(files[0])
	if err != nil {
		b.Fatal(err)
	}
	c := newAPI(b).client(b, storetest.A1, all)
	c.must(200, "POST", "", string(raw))
	found := at(shown(b, c.must(200, "GET", "/Patient?_count=1&_elements=id", "")), "entry", 0, "resource", "id").(string)
	path := "/Patient/" + found + "/$everything?_count=100"
	b.ReportMetric(float64(len(entries(b, c.must(200, "GET", path, "")))), "resources")
	for b.Loop() {
		c.must(200, "GET", path, "")
	}
}

// BenchmarkExport is the way of observations into the files of an export, once
// it is planned, by resource.
func BenchmarkExport(b *testing.B) {
	staff := newAPI(b).client(b, storetest.S2, all)
	mark := fresh()
	for n := range 12 {
		var entries []string
		for i := range 2500 {
			id := fmt.Sprintf("%s-%d-%d", mark, n, i)
			entries = append(entries, asking("PUT", "Observation/"+id, `{"resourceType":"Observation","id":"`+id+`","status":"final",`+
				`"category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"vital-signs","display":"Vital Signs"}]}],`+
				`"code":{"coding":[{"system":"http://loinc.org","code":"8867-4","display":"Heart rate"}],"text":"Heart rate"},`+
				fmt.Sprintf(`"subject":{"reference":"Patient/p%d"},"encounter":{"reference":"Encounter/e%d"},`, i%500, i)+
				`"effectiveDateTime":"2020-01-01T00:00:00Z","valueQuantity":{"value":72,"unit":"/min","system":"http://unitsofmeasure.org","code":"/min"}}`))
		}
		staff.must(200, "POST", "", posting("transaction", entries...))
	}
	resources := int64(0)
	for b.Loop() {
		b.StopTimer()
		x := begin(b, storetest.S2, exporter, "/$export?_type=Observation")
		b.StartTimer()
		x.work()
		b.StopTimer()
		for _, f := range x.manifest(x.where).Output {
			resources += f.Count
		}
		x.must(202, "DELETE", x.where, "")
		b.StartTimer()
	}
	b.ReportMetric(float64(resources)/b.Elapsed().Seconds(), "resources/s")
}
