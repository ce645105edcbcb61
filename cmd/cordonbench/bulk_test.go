package main

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestImportsAndExportsAreJudgedByTheCPUThatTheyTake(t *testing.T) {
	b := Bulk{
		Mode:    "schema",
		Initial: Flow{ServerCPU: 50, DatabaseCPU: 50, CPUs: 2, Peak: 100 << 20}, Incremental: Flow{ServerCPU: 200, DatabaseCPU: 300, CPUs: 2, Peak: 300 << 20},
		Export: Flow{ServerCPU: 10, DatabaseCPU: 10, CPUs: 2},
		Quiet:  Pace{P95: 10}, Beside: Pace{P95: 14},
	}
	want := []Goal{
		{"reads beside imports and exports, p95", "schema", 1.4, 1.5, false, "× quiet", true},
		{"first load, CPU's worth", "schema", 20_000, 15_000, true, "resources/s", true},
		{"first load, memory", "schema", 100, 256, false, "MiB", true},
		{"import, CPU's worth", "schema", 4_000, 5_000, true, "resources/s", false},
		{"import, memory", "schema", 300, 256, false, "MiB", false},
		{"export, CPU's worth", "schema", 100_000, 60_000, true, "resources/s", true},
		{"export, memory", "schema", 0, 256, false, "MiB", true},
	}
	if diff := cmp.Diff(want, b.goals()); diff != "" {
		t.Errorf("goals differ (-want +got):\n%s", diff)
	}
}

func TestResidentsAreImportedInTwoFilesOfEachTypeTheSmallestLast(t *testing.T) {
	files, err := ndjsonOf(40, 4)
	if err != nil {
		t.Fatal(err)
	}
	of, lines := map[string]int{}, 0
	for i, f := range files {
		of[f.typ]++
		lines += bytes.Count(f.text, []byte("\n"))
		if i > 0 && len(f.text) > len(files[i-1].text) {
			t.Errorf("file %d is larger than the one before", i)
		}
		for line := range bytes.Lines(f.text) {
			var r struct{ ResourceType, ID string }
			if err := json.Unmarshal(line, &r); err != nil || r.ResourceType != f.typ || r.ID == "" {
				t.Errorf("%s: %v %+v", line, err, r)
			}
		}
	}
	records := 0
	for r := resident(40); r < 44; r++ {
		records += len(r.records())
	}
	if want := map[string]int{"Patient": 2, "Encounter": 2, "Condition": 2, "Observation": 2}; !cmp.Equal(of, want) || lines != records {
		t.Errorf("files %v with %d lines of %d records", of, lines, records)
	}
}
