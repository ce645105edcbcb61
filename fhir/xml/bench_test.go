package xml

import (
	"os"
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/fhirtest"
)

func BenchmarkXML(b *testing.B) {
	for _, name := range []string{"observation-example.xml", "list-example-long.xml"} {
		x, err := os.ReadFile(fhirtest.Path(b, "test-cases/examples/"+name))
		if err != nil {
			b.Fatal(err)
		}
		j, err := ToJSON(x, fhir.Limits{})
		if err != nil {
			b.Fatal(err)
		}
		b.Run("to JSON/"+name, func(b *testing.B) {
			b.SetBytes(int64(len(x)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := ToJSON(x, fhir.Limits{}); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("from JSON/"+name, func(b *testing.B) {
			b.SetBytes(int64(len(j)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := FromJSON(j, false); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
