package rest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/store/storetest"
)

// BenchmarkBulkImport measures imports of 20,000 vital signs of some 900 bytes, of which
// each is validated, indexed, sealed and audited: new ones, the same again as they
// are next versions, and new ones that get an id. The time is that of the import,
// without the upload.
func BenchmarkBulkImport(b *testing.B) {
	const lines = 20_000
	a := newAPI(b)
	for _, slug := range []string{storetest.A1, storetest.S1, storetest.D1} {
		c := a.client(b, slug, importer)
		id := fresh()
		for _, tt := range []struct{ name, mode, id string }{{"new", "upsert", id}, {"again", "upsert", id}, {"without id", "create", ""}} {
			b.Run(slug+"/"+tt.name, func(b *testing.B) {
				var took time.Duration
				for range b.N {
					where := c.kickImport(importing(tt.mode, "Observation a.ndjson", "Observation b.ndjson"))
					for n := range 2 {
						c.upload(200, where, n+1, vitals(tt.id, n*lines/2, lines/2))
					}
					begun := time.Now()
					m := c.imported(where)
					took += time.Since(begun)
					if m.Output[0].Count+m.Output[1].Count != lines {
						b.Fatalf("%+v %v", m, c.faults(m))
					}
				}
				b.ReportMetric(float64(lines*b.N)/took.Seconds(), "resources/s")
			})
		}
	}
}

// vitals are lines with Observations, numbered from the first.
func vitals(id string, first, n int) string {
	var out strings.Builder
	for i := first; i < first+n; i++ {
		name := ""
		if id != "" {
			name = fmt.Sprintf(`"id":"%s-%d",`, id, i)
		}
		fmt.Fprintf(&out, `{"resourceType":"Observation",%s"status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"vital-signs","display":"Vital signs"}]}],`+
			`"code":{"coding":[{"system":"http://loinc.org","code":"85354-9","display":"Blood pressure panel with all children optional"}],"text":"Blood pressure"},`+
			`"subject":{"reference":"Patient/%s-p%d"},"encounter":{"reference":"Encounter/%s-e%d"},"effectiveDateTime":"2024-03-%02dT08:%02d:00Z","issued":"2024-03-14T09:00:00.000Z",`+
			`"component":[{"code":{"coding":[{"system":"http://loinc.org","code":"8480-6","display":"Systolic blood pressure"}]},"valueQuantity":{"value":%d,"unit":"mmHg","system":"http://unitsofmeasure.org","code":"mm[Hg]"}},`+
			`{"code":{"coding":[{"system":"http://loinc.org","code":"8462-4","display":"Diastolic blood pressure"}]},"valueQuantity":{"value":%d,"unit":"mmHg","system":"http://unitsofmeasure.org","code":"mm[Hg]"}}]}`+"\n",
			name, id, i%500, id, i%2000, 1+i%28, i%60, 100+i%60, 60+i%40)
	}
	return out.String()
}
