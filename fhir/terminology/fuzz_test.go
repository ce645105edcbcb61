package terminology_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/canonical"
	"github.com/cordon-fhir/cordon/fhir/terminology"
)

// Whatever a tenant writes as the compose element, it is answered in time, and
// what is listed is also said to be in it.
func FuzzCompose(f *testing.F) {
	for _, seed := range []string{
		`{"include":[{"system":"http://example.org/animals"}]}`,
		`{"include":[{"system":"http://example.org/animals","filter":[{"property":"concept","op":"is-a","value":"layer"}]}],"exclude":[{"valueSet":["http://hl7.org/fhir/ValueSet/administrative-gender"]}]}`,
		`{"inactive":false,"include":[{"system":"http://example.org/animals","concept":[{"code":"cat"},{"code":""}]},{"valueSet":["http://example.org/vs"]}]}`,
		`{"include":[{"system":"http://example.org/animals","filter":[{"property":"code","op":"regex","value":"(a*)*b{1,900}"}]}]}`,
		`{"include":[{"system":"urn:ietf:bcp:47","filter":[{"property":"region","op":"exists","value":"true"}]},{"system":"urn:iso:std:iso:4217"}]}`,
	} {
		f.Add(seed)
	}
	animals, err := canonical.New([]byte(animals))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, compose string) {
		d, err := canonical.New([]byte(`{"resourceType":"ValueSet","url":"http://example.org/vs","status":"active","compose":` + compose + `}`))
		if err != nil {
			return
		}
		s := terminology.New(canonical.NewSet(canonical.Core(), []*canonical.Definition{animals, d}))
		begun := time.Now()
		defer func() {
			if took := time.Since(begun); took > time.Minute {
				t.Errorf("it took %v", took)
			}
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		x, err := s.Expand(ctx, terminology.ExpandRequest{Source: terminology.Source{URL: "http://example.org/vs"}, Count: 100, IncludeDesignations: true})
		var known *fhir.Error
		if err != nil && !errors.As(err, &known) {
			t.Fatal(err)
		}
		if err != nil {
			return
		}
		for _, c := range x.Expansion.Contains {
			if is, err := s.InValueSet("http://example.org/vs", c.System, c.Code); err != nil || is != terminology.In {
				t.Fatalf("%s|%s is listed and said to be %v, %v", c.System, c.Code, is, err)
			}
		}
	})
}
