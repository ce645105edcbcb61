package fhir

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// An IssueCode is a code of http://hl7.org/fhir/issue-type. A few codes that
// R4 lumps together have a name of their own here, because the status differs;
// IssueType gives the code that R4 knows.
// https://hl7.org/fhir/R4/valueset-issue-type.html
type IssueCode string

// The issue codes that Cordon uses. fhir/rest/outcome.go maps them to statuses.
const (
	Invalid       IssueCode = "invalid"          // 400 the request cannot be understood
	Structure     IssueCode = "structure"        // 400 the body is not the JSON of a resource
	Required      IssueCode = "required"         // 422 in a resource, an element is missing
	Value         IssueCode = "value"            // 422 in a resource, an element is wrong
	CodeInvalid   IssueCode = "code-invalid"     // 422 in a resource, a code is not in its value set
	BusinessRule  IssueCode = "business-rule"    // 422
	Invariant     IssueCode = "invariant"        // 422
	Login         IssueCode = "login"            // 401
	Forbidden     IssueCode = "forbidden"        // 403
	NotFound      IssueCode = "not-found"        // 404
	NotSupported  IssueCode = "not-supported"    // 400, or 405 for an interaction
	Deleted       IssueCode = "deleted"          // 410
	Conflict      IssueCode = "conflict"         // 409, or 412 where a precondition failed
	MultipleMatch IssueCode = "multiple-matches" // 412
	TooLong       IssueCode = "too-long"         // 413
	TooCostly     IssueCode = "too-costly"       // 422
	Throttled     IssueCode = "throttled"        // 429
	Transient     IssueCode = "transient"        // 503
	Exception     IssueCode = "exception"        // 500
	Informational IssueCode = "informational"    // no error
)

// An Issue is one entry of an OperationOutcome.
// https://hl7.org/fhir/R4/operationoutcome.html
type Issue struct {
	Severity    string // "error", "warning" or "information"; default "error"
	Code        IssueCode
	Diagnostics string   // words that hold no value of a resource
	Expression  []string // FHIRPath of each place
}

// An Error is for the client: issues from the standard in words that hold no
// patient. Any other error is ours and is answered with "internal error".
type Error struct {
	Issues []Issue
	// Status overrides the status of the first issue's code; 0 does not.
	Status int
}

// Errorf returns an Error of one issue. The words must hold no value of a
// resource and no value of a search parameter.
func Errorf(code IssueCode, format string, args ...any) *Error {
	return &Error{Issues: []Issue{{Severity: "error", Code: code, Diagnostics: fmt.Sprintf(format, args...)}}}
}

// WithStatus returns e with the HTTP status that answers it.
func (e *Error) WithStatus(status int) *Error {
	e.Status = status
	return e
}

// At returns e with the place of its first issue set to the FHIRPath expr.
func (e *Error) At(expr string) *Error {
	e.Issues[0].Expression = append(e.Issues[0].Expression, expr)
	return e
}

// Code returns the code of the first issue.
func (e *Error) Code() IssueCode {
	if len(e.Issues) == 0 {
		return Exception
	}
	return e.Issues[0].Code
}

func (e *Error) Error() string {
	var b strings.Builder
	for i, is := range e.Issues {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(string(is.Code) + ": " + is.Diagnostics)
	}
	return b.String()
}

// Cause is Error, for the operational log.
func (e *Error) Cause() string { return e.Error() }

// IsCode reports whether err is an *Error of the code.
func IsCode(err error, code IssueCode) bool {
	var e *Error
	return errors.As(err, &e) && e.Code() == code
}

// ETag returns the weak entity tag of a version, W/"3".
// https://hl7.org/fhir/R4/http.html#versioning
func ETag(version int64) string { return `W/"` + strconv.FormatInt(version, 10) + `"` }

// ParseETag reads a version from an entity tag, W/"3" or "3".
func ParseETag(s string) (int64, error) {
	s = strings.TrimPrefix(strings.TrimSpace(s), "W/")
	if len(s) < 3 || s[0] != '"' || s[len(s)-1] != '"' {
		return 0, Errorf(Invalid, "malformed entity tag, want W/\"version\"")
	}
	v, err := strconv.ParseInt(s[1:len(s)-1], 10, 64)
	if err != nil || v < 1 {
		return 0, Errorf(Invalid, "malformed entity tag, want W/\"version\"")
	}
	return v, nil
}
