package validate_test

import (
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/fhirtest"
	"github.com/cordon-fhir/cordon/fhir/validate"
)

func BenchmarkResource(b *testing.B) {
	for _, name := range []string{"Patient-example.json", "Observation-f001.json", "Encounter-example.json"} {
		body, ok := examples(b, fhirtest.Examples)[name]
		if !ok {
			b.Fatalf("no example %s", name)
		}
		b.Run(name, func(b *testing.B) { benchmark(b, body) })
	}
	for name, body := range bundles(b, "synthea") {
		b.Run("bundle", func(b *testing.B) {
			b.Log(name)
			benchmark(b, body)
		})
		return
	}
}

func benchmark(b *testing.B, body []byte) {
	d, err := fhir.Parse(body, fhir.Limits{})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(d.JSON)))
	b.ReportAllocs()
	for b.Loop() {
		if err := validate.Resource(d); err != nil {
			b.Fatal(err)
		}
	}
}
