package profile_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/fhir/fhirtest"
	"github.com/cordon-fhir/cordon/fhir/profile"
	base "github.com/cordon-fhir/cordon/fhir/validate"
)

// BenchmarkValidate is what a write costs: the structure and the base
// definitions, and with them the profile that the resource claims.
func BenchmarkValidate(b *testing.B) {
	v := profile.New(guide(b, fhirtest.USCore6), nil)
	list := examples(b, fhirtest.USCore6, "package/example/")
	for _, name := range []string{"Observation-serum-glucose.json", "Observation-blood-pressure.json", "Patient-example.json", "Condition-encounter-diagnosis-example1.json"} {
		body, ok := list[name]
		if !ok {
			b.Fatalf("no example %s", name)
		}
		d := parse(b, body)
		for _, with := range []struct {
			name string
			o    profile.Options
		}{{"base", profile.Options{Errors: true}}, {"claimed", profile.Options{Errors: true, Claimed: true}}} {
			b.Run(name+"/"+with.name, func(b *testing.B) {
				b.ReportAllocs()
				begun := cpu(b)
				for b.Loop() {
					if err := base.Resource(d); err != nil {
						b.Fatal(err)
					}
					if issues := validate1(b, v, d, with.o); len(issues) > 0 {
						b.Fatal(issues)
					}
				}
				b.ReportMetric(float64((cpu(b)-begun).Nanoseconds())/1000/float64(b.N), "cpu-µs/op")
			})
		}
	}
}

// cpu returns the processor time that was spent so far, which other programs
// on the machine do not change much.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
