package rest

import (
	"errors"
	"net/http"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/go-json-experiment/json/jsontext"
)

// status is the only table from code to HTTP status.
// https://hl7.org/fhir/R4/http.html#summary
// https://hl7.org/fhir/R4/valueset-issue-type.html
var status = map[fhir.IssueCode]int{
	fhir.Invalid:       http.StatusBadRequest,
	fhir.Structure:     http.StatusBadRequest,
	fhir.NotSupported:  http.StatusBadRequest,
	fhir.Required:      http.StatusUnprocessableEntity,
	fhir.Value:         http.StatusUnprocessableEntity,
	fhir.CodeInvalid:   http.StatusUnprocessableEntity,
	fhir.BusinessRule:  http.StatusUnprocessableEntity,
	fhir.Invariant:     http.StatusUnprocessableEntity,
	fhir.TooCostly:     http.StatusUnprocessableEntity,
	fhir.Login:         http.StatusUnauthorized,
	fhir.Forbidden:     http.StatusForbidden,
	fhir.NotFound:      http.StatusNotFound,
	fhir.Deleted:       http.StatusGone,
	fhir.Conflict:      http.StatusConflict,
	fhir.MultipleMatch: http.StatusPreconditionFailed,
	fhir.TooLong:       http.StatusRequestEntityTooLarge,
	fhir.Throttled:     http.StatusTooManyRequests,
	fhir.Transient:     http.StatusServiceUnavailable,
	fhir.Exception:     http.StatusInternalServerError,
	fhir.Informational: http.StatusOK,
}

// clientError returns what the client may know of err: err itself if it is a
// *fhir.Error, else "internal error".
func clientError(err error) *fhir.Error {
	var e *fhir.Error
	if errors.As(err, &e) && len(e.Issues) > 0 {
		return e
	}
	return fhir.Errorf(fhir.Exception, "internal error")
}

// statusOf returns the HTTP status that answers e.
func statusOf(e *fhir.Error) int {
	if e.Status != 0 {
		return e.Status
	}
	if s := status[e.Code()]; s != 0 {
		return s
	}
	return http.StatusInternalServerError
}

// notFound is what is said of what is hidden and of what never was, so that
// nothing tells the two apart. In a Bundle the entry is named with it.
const notFound = "there is no such resource"

// failure is the answer to a request that failed with e.
func failure(e *fhir.Error) *response {
	issues := e.Issues
	if e.Code() == fhir.NotFound {
		issues = []fhir.Issue{{Severity: "error", Code: fhir.NotFound, Diagnostics: notFound, Expression: issues[0].Expression}}
	}
	return &response{status: statusOf(e), body: outcome(issues)}
}

// outcome renders issues as an OperationOutcome.
// https://hl7.org/fhir/R4/operationoutcome.html
func outcome(issues []fhir.Issue) []byte {
	b := append([]byte(nil), `{"resourceType":"OperationOutcome","issue":[`...)
	for i, is := range issues {
		if i > 0 {
			b = append(b, ',')
		}
		severity := is.Severity
		if severity == "" {
			severity = "error"
		}
		b = append(b, `{"severity":`...)
		b = quote(b, severity)
		b = append(b, `,"code":`...)
		b = quote(b, string(is.Code))
		if is.Diagnostics != "" {
			b = append(b, `,"diagnostics":`...)
			b = quote(b, is.Diagnostics)
		}
		for j, x := range is.Expression {
			if j == 0 {
				b = append(b, `,"expression":[`...)
			} else {
				b = append(b, ',')
			}
			b = quote(b, x)
			if j == len(is.Expression)-1 {
				b = append(b, ']')
			}
		}
		b = append(b, '}')
	}
	return append(b, `]}`...)
}

// quote appends s as a JSON string. Invalid UTF-8 becomes U+FFFD.
func quote(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s)
	return b
}

// information is an OperationOutcome that reports no fault.
func information(words string) []byte {
	return outcome([]fhir.Issue{{Severity: "information", Code: fhir.Informational, Diagnostics: words}})
}
