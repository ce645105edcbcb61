package rest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/store/storetest"
)

// BenchmarkBulkImport measures imports of 20,000 vital signs of some 900 bytes, of which
// each is validated, indexed, sealed and audited: the first ones, new ones, the same
// again as their next versions, and new ones that get an id. The time is that of the import,
// without the upload. The CPU is that of the server (with the benchmark's part in it)
// and of PostgreSQL, in microseconds a resource, which other work on the machine does
// not change much.
func BenchmarkBulkImport(b *testing.B) {
	const lines = 20_000
	a := newAPI(b)
	for _, slug := range []string{storetest.A1, storetest.S1, storetest.D1} {
		c := a.client(b, slug, importer)
		id := fresh()
		for _, tt := range []struct{ name, mode, id string }{{"initial", "initial", id}, {"new", "upsert", id + "-more"}, {"again", "upsert", id + "-more"}, {"without id", "create", ""}} {
			b.Run(slug+"/"+tt.name, func(b *testing.B) {
				var took, server, database time.Duration
				for range b.N {
					where := c.kickImport(importing(tt.mode, "Observation a.ndjson", "Observation b.ndjson"))
					for n := range 2 {
						c.upload(200, where, n+1, vitals(tt.id, n*lines/2, lines/2))
					}
					begun, s, d := time.Now(), ownCPU(b), databaseCPU(b)
					m := c.imported(where)
					took, server, database = took+time.Since(begun), server+ownCPU(b)-s, database+databaseCPU(b)-d
					if m.Output[0].Count+m.Output[1].Count != lines {
						b.Fatalf("%+v %v", m, c.faults(m))
					}
				}
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(float64(lines*b.N)/took.Seconds(), "resources/s")
				b.ReportMetric(float64(server.Microseconds())/float64(lines*b.N), "server-µs/resource")
				b.ReportMetric(float64(database.Microseconds())/float64(lines*b.N), "database-µs/resource")
			})
		}
	}
}

// ownCPU is the CPU time of this process.
func ownCPU(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// databaseCPU is the CPU time of the processes of PostgreSQL that there are, as
// Linux counts it: in ticks of 10 ms.
func databaseCPU(b *testing.B) time.Duration {
	server := strconv.Itoa(storetest.Server(b).PID())
	processes, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		b.Fatal(err)
	}
	var ticks int
	for _, name := range processes {
		stat, err := os.ReadFile(name)
		if err != nil { // it has ended
			continue
		}
		_, rest, _ := bytes.Cut(stat, []byte(") "))
		f := strings.Fields(string(rest))
		if f[1] != server {
			continue
		}
		user, _ := strconv.Atoi(f[11])
		system, _ := strconv.Atoi(f[12])
		ticks += user + system
	}
	return time.Duration(ticks) * 10 * time.Millisecond
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
