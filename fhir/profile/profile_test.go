package profile_test

import (
	"sync"
	"testing"

	"github.com/cordon-fhir/cordon/fhir/profile"
)

// One Validator serves many requests at a time, also while it compiles.
func TestManyValidateAtATime(t *testing.T) {
	v := profile.New(setOf(t, derived("it", "Patient", slicedBy("open", "false")+
		`,{"path":"Patient.maritalStatus","patternCodeableConcept":{"text":"a \"quote\"","coding":[{"system":"urn:s"}]}}`)), nil)
	const body = `{"resourceType":"Patient","identifier":[{"system":"urn:a","value":"1"}],"maritalStatus":{"text":"a \"quote\"","coding":[{"system":"urn:s"}]}}`
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			issues, err := v.Validate(t.Context(), parse(t, []byte(body)), profile.Options{Profiles: []string{here + "it"}})
			if errs := errorsIn(issues); err != nil || len(errs) > 0 {
				t.Errorf("got %v, %v", errs, err)
			}
		})
	}
	wg.Wait()
}
