package rest

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/validate"
	"github.com/cordon-fhir/cordon/store"
)

// documentOperations make a document of a Composition and what it refers to.
// https://hl7.org/fhir/R4/composition-operation-document.html
// https://hl7.org/fhir/R4/documents.html#content
var documentOperations = []operation{
	{
		name: "document", url: definition("Composition-document"), level: onType | onInstance, on: []fhir.Type{"Composition"},
		in:    []parameter{{name: "id", typ: "uri", max: 1}, {name: "persist", typ: "boolean", max: 1}, {name: "graph", typ: "uri", max: 1}},
		parse: parseDocument, look: document, change: persistDocument,
	},
}

// maxDocument bounds what a document holds beside its Composition.
const maxDocument = 1000

// parseDocument finds out which Composition is meant.
func parseDocument(req *request) error {
	if req.persist = req.in.boolean("persist", false); req.persist && req.safe {
		return fhir.Errorf(fhir.NotSupported, "with persist this operation is called by POST").WithStatus(http.StatusMethodNotAllowed)
	}
	switch id := req.in.text("id"); {
	case req.in.has("graph"):
		return fhir.Errorf(fhir.NotSupported, "parameter graph is not supported: a document holds all that its Composition leads to")
	case id == "" && req.ref.ID == "":
		return fhir.Errorf(fhir.Required, "parameter id is missing").WithStatus(http.StatusBadRequest)
	case id != "" && req.ref.ID != "":
		return fhir.Errorf(fhir.Invalid, "parameter id is for calls on the type")
	case id != "":
		ref, err := fhir.ParseRef("Composition/" + strings.TrimPrefix(strings.TrimPrefix(id, req.base+"/"), "Composition/"))
		if err != nil {
			return fhir.Errorf(fhir.Invalid, "parameter id names no Composition of this tenant")
		}
		req.ref.ID = ref.ID
	}
	return nil
}

// document answers with the document.
func document(ctx context.Context, v *store.View, req *request) (*response, error) {
	if req.persist {
		return nil, fhir.Errorf(fhir.NotSupported, "a document cannot be stored within a transaction")
	}
	body, err := makeDocument(ctx, v, req)
	if err != nil {
		return nil, err
	}
	return &response{status: http.StatusOK, body: body}, nil
}

// persistDocument stores the document, and answers with it.
func persistDocument(ctx context.Context, tx *store.Tx, req *request) (*response, error) {
	body, err := makeDocument(ctx, &tx.View, req)
	if err != nil {
		return nil, err
	}
	d, err := fhir.Parse(body, fhir.Limits{Bytes: req.limits.Body})
	if err != nil {
		return nil, err
	}
	if err := validate.Resource(d); err != nil {
		return nil, err
	}
	r, err := tx.Create(ctx, "", d)
	if err != nil {
		return nil, err
	}
	return &response{status: http.StatusOK, version: r, location: versionURL(req.base, r), body: r.Body}, nil
}

// makeDocument reads the Composition and what it refers to. A document is
// attested as a whole: where a part of it is missing or hidden there is none.
func makeDocument(ctx context.Context, v *store.View, req *request) ([]byte, error) {
	composition, err := v.Read(ctx, req.ref)
	if err != nil {
		return nil, err
	}
	parts, err := documentParts(ctx, v, req, composition)
	if err != nil {
		return nil, err
	}
	b := newBundle("document", req.now())
	b.raw(`,"identifier":{"system":"urn:ietf:rfc:3986","value":"urn:uuid:`).raw(uuid.NewString()).raw(`"}`)
	for _, r := range append([]fhir.Resource{composition}, parts...) {
		b.entry().fullURL(req.base, r.Ref).resource(r.Body).end()
	}
	return b.bytes(), nil
}

// documentParts returns what the Composition refers to, in the order in which it
// does, and behind that what those refer to, and so on. What the Composition
// itself names is there, or there is no document; what is further away comes along
// where it is there and may be seen, and names no patient but those of the
// Composition.
func documentParts(ctx context.Context, v *store.View, req *request, composition fhir.Resource) ([]fhir.Resource, error) {
	next, versions, err := referred(composition.Body, req.base)
	if err != nil {
		return nil, err
	}
	var parts []fhir.Resource
	ofPatients, seen := next, map[fhir.Ref]bool{composition.Ref: true}
	for near := true; len(next) > 0; near = false {
		next = slices.DeleteFunc(next, func(ref fhir.Ref) bool { return seen[ref] || !near && ref.Type == "Patient" })
		found, err := readVersions(ctx, v, next, versions)
		if err != nil {
			return nil, err
		}
		var further []fhir.Ref
		for _, ref := range next {
			seen[ref] = true
			r, ok := found[ref]
			if !ok && near {
				return nil, fhir.Errorf(fhir.NotFound, "what the Composition refers to is not known")
			}
			if !ok {
				continue
			}
			refs, of, err := referred(r.Body, req.base)
			if err != nil {
				return nil, err
			}
			if !near && slices.ContainsFunc(refs, func(ref fhir.Ref) bool { return ref.Type == "Patient" && !slices.Contains(ofPatients, ref) }) {
				continue
			}
			if parts = append(parts, r); len(parts) > maxDocument {
				return nil, tooMuchForADocument()
			}
			further = append(further, refs...)
			maps.Copy(versions, of)
		}
		slices.SortStableFunc(further, func(a, b fhir.Ref) int { return cmp.Compare(a.String(), b.String()) })
		next = slices.Compact(further)
	}
	return parts, nil
}

// readVersions reads the resources, each in the version that is meant.
func readVersions(ctx context.Context, v *store.View, refs []fhir.Ref, versions map[fhir.Ref]int64) (map[fhir.Ref]fhir.Resource, error) {
	if len(refs) > maxDocument {
		return nil, tooMuchForADocument()
	}
	found, err := v.ReadAll(ctx, refs...)
	if err != nil {
		return nil, err
	}
	for ref, r := range found {
		if version := versions[ref]; version != 0 && version != r.Version {
			if found[ref], err = v.Vread(ctx, ref, version); err != nil {
				return nil, err
			}
		}
	}
	return found, nil
}

func tooMuchForADocument() error {
	return fhir.Errorf(fhir.TooCostly, "the document would hold more than %d resources", maxDocument)
}

// referred returns the resources of this tenant that a resource refers to by a
// Reference, wherever it is, each once, and the version that is meant where
// there is one.
func referred(body []byte, base string) (refs []fhir.Ref, versions map[fhir.Ref]int64, err error) {
	versions = map[fhir.Ref]int64{}
	seen := map[fhir.Ref]bool{}
	w := rewriter{target: func(url string, literal bool) string {
		if !literal {
			return ""
		}
		plain, version, _ := strings.Cut(strings.TrimPrefix(url, base+"/"), "/_history/")
		ref, perr := fhir.ParseRef(plain)
		if perr != nil || seen[ref] {
			return ""
		}
		seen[ref] = true
		refs = append(refs, ref)
		if n, perr := strconv.ParseInt(version, 10, 64); perr == nil {
			versions[ref] = n
		}
		return ""
	}}
	w.rewrite(body)
	if len(refs) > maxDocument {
		return nil, nil, tooMuchForADocument()
	}
	return refs, versions, nil
}
