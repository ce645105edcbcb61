package rest

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/profile"
	"github.com/cordon-fhir/cordon/fhir/validate"
	"github.com/cordon-fhir/cordon/store"
)

// validateOperations say whether a resource is valid, or would be accepted.
// https://hl7.org/fhir/R4/resource-operation-validate.html
var validateOperations = []operation{{
	name: "validate", url: definition("Resource-validate"), level: onType | onInstance,
	in: []parameter{
		{name: "resource", typ: "Resource", max: 1},
		{name: "mode", typ: "code", max: 1},
		{name: "profile", typ: "canonical", max: 1},
		{name: "mustSupport", typ: "boolean", max: 1},
	},
	parse: parseValidate, look: validateResource,
}}

// parseValidate holds the parameters against each other.
func parseValidate(req *request) error {
	mode, onInstance := req.in.text("mode"), req.ref.ID != ""
	d, err := req.in.resource("resource")
	if err != nil {
		return clientError(err).WithStatus(http.StatusBadRequest)
	}
	switch {
	case mode != "" && !slices.Contains([]string{"create", "update", "delete", "profile"}, mode):
		return fhir.Errorf(fhir.Invalid, "mode is create, update, delete or profile")
	case mode == "create" && onInstance:
		return fhir.Errorf(fhir.Invalid, "mode create is for a type, not for an instance")
	case mode == "delete" && !onInstance:
		return fhir.Errorf(fhir.Invalid, "mode delete is for an instance")
	case mode == "profile" && !req.in.has("profile"):
		return fhir.Errorf(fhir.Invalid, "mode profile needs the parameter profile")
	case d == nil && (!onInstance || mode == "update"):
		return fhir.Errorf(fhir.Required, "parameter resource is missing").WithStatus(http.StatusBadRequest)
	case d != nil && d.Type != req.ref.Type:
		return fhir.Errorf(fhir.Invalid, "the resource is not of the type in the URL")
	}
	req.document = d
	return nil
}

// validateResource says what is wrong with the resource that was sent, or with
// the stored one. Nothing that is stored is read but the instance itself.
func validateResource(ctx context.Context, v *store.View, req *request) (*response, error) {
	if err := mayValidate(req); err != nil {
		return nil, err
	}
	d := req.document
	if req.ref.ID != "" {
		stored, err := v.Read(ctx, req.ref)
		if err != nil {
			return nil, err
		}
		if d == nil {
			if d, err = fhir.Reopen(stored.Body); err != nil {
				return nil, err
			}
		}
	}
	if req.in.text("mode") == "delete" {
		return &response{status: http.StatusOK, body: information("the resource may be deleted")}, nil
	}
	issues, err := req.faults(ctx, d)
	if err != nil {
		return nil, err
	}
	if len(issues) == 0 {
		return &response{status: http.StatusOK, body: information("no issues were found")}, nil
	}
	return &response{status: http.StatusOK, body: outcome(issues)}, nil
}

// mayValidate refuses who may not do what the mode asks about; without one,
// who may do nothing with the type.
func mayValidate(req *request) (err error) {
	about := []fhir.Interaction{fhir.Create, fhir.Update, fhir.Read, fhir.SearchType}
	switch mode := fhir.Interaction(req.in.text("mode")); mode {
	case fhir.Create, fhir.Update, fhir.Delete:
		about = []fhir.Interaction{mode}
	}
	for _, do := range about {
		if _, err = req.grant.Permit(do, req.ref.Type); err == nil {
			return nil
		}
	}
	return err
}

// faults returns everything that is wrong with d, and what should be better.
func (req *request) faults(ctx context.Context, d *fhir.Document) ([]fhir.Issue, error) {
	var issues []fhir.Issue
	var broken *fhir.Error
	if err := validate.Resource(d); errors.As(err, &broken) {
		issues = broken.Issues
	}
	if needs := req.in.text("mode") == "update"; needs && d.ID != req.ref.ID && req.ref.ID != "" || needs && d.ID == "" {
		issues = append(issues, fhir.Issue{Severity: "error", Code: fhir.Invalid,
			Diagnostics: "the resource does not have the id that an update names", Expression: []string{string(d.Type) + ".id"}})
	}
	o := profile.Options{Claimed: true, MustSupport: req.in.boolean("mustSupport", false)}
	if canonical := req.in.text("profile"); canonical != "" {
		o.Profiles = []string{canonical}
	}
	more, err := req.rules.validator.Validate(ctx, d, o)
	return append(issues, more...), err
}
