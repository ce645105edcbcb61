package rest

import (
	"context"
	"net/http"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/profile"
	"github.com/cordon-fhir/cordon/fhir/terminology"
	"github.com/cordon-fhir/cordon/fhir/validate"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/tenant"
)

// Rules are what resources of a tenant are held against before they are
// stored, beyond their structure.
type rules struct {
	validator  *profile.Validator
	validation tenant.Validation
	errands    *errands
}

// rules returns those of the tenant of g. It may ask the database, so it is
// called before the door opens.
func (s *server) rules(ctx context.Context, g *smart.Grant, away away) (*rules, error) {
	set, err := s.DB.Definitions(ctx, g)
	if err != nil {
		return nil, err
	}
	terms, errands := s.terminology(ctx, g, set, away)
	inValueSet := func(ctx context.Context, valueSet, system, code string) (terminology.Answer, error) {
		return terms.Within(ctx).InValueSet(valueSet, system, code)
	}
	return &rules{profile.New(set, inValueSet), g.Tenant().Settings.Validation, errands}, nil
}

// options returns what the level of validation asks for.
func (r *rules) options() profile.Options {
	o := profile.Options{Errors: true}
	switch r.validation.Level {
	case tenant.Claimed:
		o.Claimed = true
	case tenant.Required:
		o.Claimed, o.Any = true, r.validation.Profiles
	default:
		o.Base = true
	}
	return o
}

// asks returns the errands of a request, nil if it has none.
func (req *request) asks() *errands {
	if req.rules == nil {
		return nil
	}
	return req.rules.errands
}

// valid holds a resource that is to be stored against the structure of its
// type, and then against what its tenant asks for. The client knows it by the
// place.
// https://hl7.org/fhir/R4/validation.html
func (req *request) valid(ctx context.Context, d *fhir.Document, place string) error {
	if err := validate.At(d, place); err != nil {
		return err
	}
	return req.admit(ctx, d, place)
}

// admit holds a resource, whose structure is valid, against what its tenant
// asks for. What fails is answered with 422.
func (req *request) admit(ctx context.Context, d *fhir.Document, place string) error {
	if req.rules.validation.Level == tenant.Off {
		return nil
	}
	o := req.rules.options()
	o.Place = place
	issues, err := req.rules.validator.Validate(ctx, d, o)
	if err != nil {
		return err
	}
	if len(issues) > 0 {
		return (&fhir.Error{Issues: issues}).WithStatus(http.StatusUnprocessableEntity)
	}
	return nil
}
