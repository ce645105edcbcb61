package rest

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/validate"
	"github.com/cordon-fhir/cordon/store"
)

// A patcher is what a patch does: a JSON Patch or a FHIRPath Patch.
type patcher interface {
	// apply returns the JSON of a resource after the patch, which may become
	// limit bytes long.
	apply(body []byte, limit int) ([]byte, error)
}

// patch changes a resource by a patch.
// https://hl7.org/fhir/R4/http.html#patch
func patch(ctx context.Context, tx *store.Tx, req *request) (*response, error) {
	if err := current(ctx, tx, req, fhir.Patch); err != nil {
		return nil, err
	}
	old, err := tx.Current(ctx, fhir.Patch, req.ref)
	if err != nil {
		return nil, err
	}
	d, err := applyPatch(req.ops, old, req.limits.Body)
	if err == nil {
		err = req.admit(ctx, d, string(d.Type))
	}
	if err != nil {
		return nil, err
	}
	r, err := tx.Patch(ctx, req.ref, d, old.Version)
	if err != nil {
		return nil, err
	}
	return written(ctx, tx, req, r, false)
}

// parsePatch reads the body of a patch: Parameters, or a JSON Patch.
func parsePatch(req *request) (err error) {
	if d := req.parameters; d != nil {
		if d.Type != "Parameters" {
			return fhir.Errorf(fhir.Invalid, "a FHIRPath Patch is a Parameters resource")
		}
		req.ops, err = decodePathPatch(d.JSON, "Parameters", req.limits.PatchOp)
		return err
	}
	req.ops, err = decodePatch(req.patch, req.limits.PatchOp)
	return err
}

func tooManyOps(max int) error {
	return fhir.Errorf(fhir.TooCostly, "a patch has at most %d operations", max)
}

// A jsonPatch is a JSON Patch that changes nothing that a patch may not.
// https://hl7.org/fhir/R4/http.html#jsonpatch
type jsonPatch jsonpatch.Patch

// decodePatch reads a JSON Patch of at most max operations, and refuses those
// that would change what a patch may not: which resource it is, and its
// version, tags and security labels.
// https://www.rfc-editor.org/rfc/rfc6902
func decodePatch(body []byte, max int) (jsonPatch, error) {
	// The library would take the last of two members with one name.
	if !jsontext.Value(body).IsValid() || deeper(body, 64) {
		return nil, fhir.Errorf(fhir.Structure, "the body is not a JSON Patch")
	}
	ops, err := jsonpatch.DecodePatch(body)
	if err != nil {
		return nil, fhir.Errorf(fhir.Structure, "the body is not a JSON Patch")
	}
	if len(ops) > max {
		return nil, tooManyOps(max)
	}
	for _, op := range ops {
		path, err := op.Path()
		if err != nil {
			return nil, fhir.Errorf(fhir.Structure, "an operation of the patch has no path")
		}
		var touched []string
		needs := "value"
		switch op.Kind() {
		case "test":
		case "add", "replace":
			touched = []string{path}
		case "remove":
			touched, needs = []string{path}, "path"
		case "copy":
			touched, needs = []string{path}, "from"
		case "move":
			from, _ := op.From()
			touched, needs = []string{path, from}, "from"
		default:
			return nil, fhir.Errorf(fhir.Structure, "the patch has an operation that RFC 6902 does not have")
		}
		if _, ok := op[needs]; !ok {
			return nil, fhir.Errorf(fhir.Structure, "an operation of the patch has no %s", needs)
		}
		for _, p := range touched {
			if untouchable(p) {
				return nil, untouched()
			}
		}
	}
	return jsonPatch(ops), nil
}

func untouched() error {
	return fhir.Errorf(fhir.BusinessRule, "a patch cannot change the id, type, version, tags or security labels of a resource")
}

// deeper reports whether arrays and objects nest more than max times in b.
func deeper(b []byte, max int) bool {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i = skipString(b, i) - 1
		case '{', '[':
			if depth++; depth > max {
				return true
			}
		case '}', ']':
			depth--
		}
	}
	return false
}

// untouchable reports whether the JSON Pointer leads to what a patch may not
// change. Of meta that is everything but what tells about the content.
func untouchable(pointer string) bool {
	switch below, _ := strings.CutPrefix(pointer, "/meta/"); {
	case pointer == "", pointer == "/meta":
		return true
	case below != pointer:
		name, _, _ := strings.Cut(below, "/")
		return name != "profile" && name != "source" && name != "extension"
	}
	name, _, _ := strings.Cut(pointer[1:], "/")
	return pointer[0] != '/' || name == "id" || name == "resourceType" || name == "_id"
}

// apply applies p. The copies in it may add limit bytes.
func (p jsonPatch) apply(body []byte, limit int) (patched []byte, err error) {
	// The library was not written for patches by strangers: what it cannot
	// handle does not fit the resource.
	defer func() {
		if recover() != nil {
			patched, err = nil, misfit()
		}
	}()
	patched, err = jsonpatch.Patch(p).ApplyWithOptions(body, &jsonpatch.ApplyOptions{AccumulatedCopySizeLimit: int64(limit)})
	var grown *jsonpatch.AccumulatedCopySizeError
	switch {
	case errors.As(err, &grown):
		return nil, fhir.Errorf(fhir.TooCostly, "the copies of the patch are too large")
	case errors.Is(err, jsonpatch.ErrTestFailed):
		return nil, fhir.Errorf(fhir.BusinessRule, "a test of the patch failed")
	case err != nil:
		return nil, misfit()
	}
	return patched, nil
}

func misfit() error {
	return fhir.Errorf(fhir.BusinessRule, "an operation of the patch does not fit the resource")
}

// applyPatch returns the document that the patch makes of a resource.
func applyPatch(ops patcher, old fhir.Resource, limit int) (*fhir.Document, error) {
	patched, err := ops.apply(old.Body, limit)
	if err != nil {
		return nil, err
	}
	d, err := fhir.Parse(patched, fhir.Limits{Bytes: limit})
	if err != nil {
		// It was the patch that made it so: the request was well-formed.
		return nil, clientError(err).WithStatus(http.StatusUnprocessableEntity)
	}
	if d.Type != old.Ref.Type || d.ID != old.Ref.ID || !sameMembers(old.Body, d.JSON, "_id") ||
		!sameMembers(member(old.Body, "meta"), member(d.JSON, "meta"), "id", "versionId", "lastUpdated", "security", "tag") {
		return nil, untouched()
	}
	if err := validate.Resource(d); err != nil {
		return nil, clientError(err).WithStatus(http.StatusUnprocessableEntity)
	}
	return d, nil
}

// sameMembers reports whether the objects have the same bytes at the names,
// and beside them.
func sameMembers(a, b []byte, names ...string) bool {
	for _, name := range names {
		if !bytes.Equal(member(a, name), member(b, name)) || !bytes.Equal(member(a, "_"+name), member(b, "_"+name)) {
			return false
		}
	}
	return true
}
