package rest

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/cordon-fhir/cordon/bulk"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/blob"
)

// importOperations store what is in files.
// https://github.com/smart-on-fhir/bulk-import/blob/master/import-pnp.md
var importOperations = []operation{{
	name: "import", url: ours("import"), level: onSystem, affectsState: true,
	in: []parameter{
		{name: "inputFormat", typ: "code", max: 1},
		{name: "inputSource", typ: "uri", max: 1},
		{name: "mode", typ: "code", max: 1},
		{name: "storageDetail", max: 1, parts: []parameter{{name: "type", typ: "code", max: 1}}}, // which the URLs say
		{name: "input", min: 1, parts: []parameter{
			{name: "type", typ: "code", min: 1, max: 1}, {name: "url", typ: "uri", min: 1, max: 1},
			{name: "etag", typ: "string", max: 1},
		}},
	},
	parse: parseImport, later: beginImport,
	whole: func(context.Context, *server, *request) (*response, error) {
		return nil, fhir.Errorf(fhir.NotSupported, "an import is asked for by itself, not in a Bundle")
	},
}}

// parseImport reads what is to be imported.
func parseImport(req *request) error {
	if !req.prefer.async {
		return fhir.Errorf(fhir.Invalid, "an import is asked for with the header Prefer: respond-async")
	}
	switch req.in.text("inputFormat") {
	case "", "application/fhir+ndjson", "application/ndjson", "ndjson":
	default:
		return fhir.Errorf(fhir.NotSupported, "parameter inputFormat is application/fhir+ndjson here")
	}
	i := &bulk.Import{}
	switch req.in.text("mode") {
	case "", "upsert":
	case "create":
		i.CreateOnly = true
	case "initial":
		i.Initial = true
	default:
		return fhir.Errorf(fhir.NotSupported, "parameter mode is upsert, create or initial")
	}
	if d, _ := req.in.find("storageDetail"); d.parts.has("type") && !slices.Contains([]string{"upload", "https", "aws-s3"}, d.parts.text("type")) {
		return fhir.Errorf(fhir.NotSupported, "parameter storageDetail.type is upload, https or aws-s3 here")
	}
	for _, a := range req.in {
		if a.name != "input" {
			continue
		}
		in, err := req.input(a.parts)
		if err != nil {
			return err
		}
		i.Inputs = append(i.Inputs, in)
	}
	if len(i.Inputs) > maxInputs {
		return fhir.Errorf(fhir.TooCostly, "an import has at most %d inputs", maxInputs)
	}
	req.imports = i
	return nil
}

const (
	// maxInputs bounds the inputs of one import.
	maxInputs = 200
	// maxInputName bounds the bytes of their names.
	maxInputName = 100
)

// input reads one input. The client has to be allowed to write its type.
func (req *request) input(parts arguments) (bulk.Input, error) {
	in := bulk.Input{Type: fhir.Type(parts.text("type")), Name: parts.text("url")}
	switch {
	case !in.Type.Known():
		return in, fhir.Errorf(fhir.NotSupported, "parameter input.type is no resource type")
	case in.Type == auditEvent:
		return in, fhir.Errorf(fhir.NotSupported, "the audit trail can be read and searched only")
	case strings.Contains(in.Name, ":"):
		if _, ok := req.grant.Tenant().Settings.Import.Source(in.Name); !ok {
			return in, fhir.Errorf(fhir.NotSupported, "parameter input.url is not below a source that this tenant has")
		}
		in.URL, in.ETag = in.Name, parts.text("etag")
	case len(in.Name) > maxInputName || strings.Trim(in.Name, nameCharacters) != "" || strings.HasPrefix(in.Name, "."):
		return in, fhir.Errorf(fhir.NotSupported, "parameter input.url is the name of a file that is uploaded, or a URL below a source of the tenant")
	}
	_, err := req.grant.Permit(fhir.Update, in.Type)
	if err != nil {
		if _, cerr := req.grant.Permit(fhir.Create, in.Type); cerr == nil {
			err = nil
		}
	}
	return in, err
}

// nameCharacters are those of names of inputs.
const nameCharacters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"

// beginImport sees to it that the import is done, once its inputs are here.
func beginImport(ctx context.Context, c *call) (*response, error) {
	if !c.DB.KeepsFiles() {
		return nil, fhir.Errorf(fhir.NotSupported, "this server has no place for what is to be imported").WithStatus(http.StatusNotImplemented)
	}
	p := postponed{path: pathOf[store.Import], within: exportTime, kind: store.Import}
	for _, in := range c.req.imports.Inputs {
		if blob.IsS3(in.URL) && (c.ImportObjects == nil || c.ImportObjects.Own(in.URL)) {
			return nil, fhir.Errorf(fhir.NotSupported, "parameter input.url is not where this server reads what is to be imported")
		}
		p.inputs = append(p.inputs, store.ImportInput{Type: in.Type, Fetched: in.URL != "", Initial: c.req.imports.Initial})
	}
	return c.postpone(ctx, p)
}
