package rest

import (
	"bytes"
	"cmp"
	"context"
	"net/http"
	"slices"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/store"
)

// metaOperations show and change the profiles, tags and security labels of a
// resource.
// https://hl7.org/fhir/R4/resource-operation-meta.html
// https://hl7.org/fhir/R4/resource-operation-meta-add.html
// https://hl7.org/fhir/R4/resource-operation-meta-delete.html
var metaOperations = []operation{
	{name: "meta", url: definition("Resource-meta"), level: onSystem | onType | onInstance | onVersion, look: meta},
	{name: "meta-add", url: definition("Resource-meta-add"), level: onInstance, affectsState: true, in: takesMeta, change: metaAdd},
	{name: "meta-delete", url: definition("Resource-meta-delete"), level: onInstance, affectsState: true, in: takesMeta, change: metaDelete},
}

var takesMeta = []parameter{{name: "meta", typ: "Meta", min: 1, max: 1}}

// definition returns the canonical URL of an operation of R4.
func definition(id string) string { return "http://hl7.org/fhir/OperationDefinition/" + id }

// meta answers with the meta of a resource, of one of its versions, or with what
// the resources of a type, or of all types, have.
func meta(ctx context.Context, v *store.View, req *request) (*response, error) {
	if req.ref.ID == "" {
		return metaOfMany(ctx, v, req)
	}
	var r fhir.Resource
	var err error
	if req.version != 0 {
		r, err = v.Vread(ctx, req.ref, req.version)
	} else {
		r, err = v.Read(ctx, req.ref)
	}
	if err != nil {
		return nil, err
	}
	return returnMeta(r), nil
}

// maxLabelled bounds the resources whose labels are read for a summary.
const maxLabelled = 10_000

// metaOfMany answers with the profiles, tags and labels that some resource of
// the type has, or of any type. It reads those that have some and that the
// caller may see, so nobody learns of a label from what is hidden.
func metaOfMany(ctx context.Context, v *store.View, req *request) (*response, error) {
	all, read := []byte(`{}`), 0
	for _, name := range metaLists {
		q, err := search.Parse(req.ref.Type, []search.Param{{Name: "_" + name + ":missing", Value: "false"}}, req.strict())
		if err != nil {
			return nil, err
		}
		q.Total = search.TotalNone
		var has [][]byte
		_, err = v.Sift(ctx, q, func(r fhir.Resource) (keep, more bool) {
			has = union(has, list(member(member(r.Body, "meta"), name)))
			read++
			return false, read <= maxLabelled
		})
		if err != nil {
			return nil, err
		}
		if read > maxLabelled {
			return nil, fhir.Errorf(fhir.TooCostly, "more than %d resources have profiles, tags or labels: ask for one type", maxLabelled)
		}
		all = withList(all, name, has)
	}
	var out results
	if len(all) > len(`{}`) {
		out.value("return", "Meta", all)
	}
	return out.response(), nil
}

// metaLists are the members of meta that operations show and change.
var metaLists = []string{"profile", "security", "tag"}

func union(has, given [][]byte) [][]byte {
	for _, g := range given {
		if !slices.ContainsFunc(has, func(h []byte) bool { return sameLabel(h, g) }) {
			has = append(has, g)
		}
	}
	return has
}

func returnMeta(r fhir.Resource) *response {
	var out results
	out.value("return", "Meta", member(r.Body, "meta"))
	resp := out.response()
	resp.version = r
	return resp
}

// metaAdd adds what the resource does not have yet.
func metaAdd(ctx context.Context, tx *store.Tx, req *request) (*response, error) {
	return changeMeta(ctx, tx, req, union)
}

// metaDelete takes away what the resource has.
func metaDelete(ctx context.Context, tx *store.Tx, req *request) (*response, error) {
	return changeMeta(ctx, tx, req, func(has, given [][]byte) [][]byte {
		return slices.DeleteFunc(has, func(h []byte) bool {
			return slices.ContainsFunc(given, func(g []byte) bool { return sameLabel(h, g) })
		})
	})
}

// sameLabel reports whether two Codings have one system and code, or two
// canonicals are equal.
func sameLabel(a, b []byte) bool {
	if a[0] == '"' || b[0] == '"' {
		return text(a) == text(b)
	}
	return text(member(a, "system")) == text(member(b, "system")) && text(member(a, "code")) == text(member(b, "code"))
}

// changeMeta stores the resource with other profiles, tags and labels, as its
// next version, unless nothing changes.
func changeMeta(ctx context.Context, tx *store.Tx, req *request, change func(has, given [][]byte) [][]byte) (*response, error) {
	if err := current(ctx, tx, req, fhir.Update); err != nil {
		return nil, err
	}
	r, err := tx.Current(ctx, fhir.Update, req.ref)
	if err != nil {
		return nil, err
	}
	was, given := member(r.Body, "meta"), req.in.json("meta")
	is := was
	for _, name := range metaLists {
		has := list(member(was, name))
		changed := change(slices.Clone(has), list(member(given, name)))
		if len(changed) == len(has) {
			continue
		}
		if name == "security" {
			if may, err := tx.MayLabel(ctx, r); err != nil || !may {
				return nil, cmp.Or(err, store.LabelsKept(req.ref.Type))
			}
		}
		is = withList(is, name, changed)
	}
	if !bytes.Equal(was, is) {
		if r, err = putMeta(ctx, tx, req, r, is); err != nil {
			return nil, err
		}
	}
	if ok, err := tx.Readable(ctx, r); err != nil || !ok {
		return &response{status: http.StatusOK, version: r}, err
	}
	return returnMeta(r), nil
}

func putMeta(ctx context.Context, tx *store.Tx, req *request, r fhir.Resource, meta []byte) (fhir.Resource, error) {
	at := offset(r.Body, member(r.Body, "meta"))
	d, err := fhir.Reopen(splice(r.Body, []edit{{at, at + len(member(r.Body, "meta")), meta}}))
	if err != nil {
		return fhir.Resource{}, err
	}
	if err := req.valid(ctx, d, string(d.Type)); err != nil {
		return fhir.Resource{}, err
	}
	r, _, err = tx.Put(ctx, req.ref, d, r.Version)
	return r, err
}

// list returns the elements of a JSON array, none of nothing.
func list(b []byte) [][]byte {
	var all [][]byte
	if len(b) > 0 && b[0] == '[' {
		elements(b, func(one []byte) bool {
			all = append(all, one)
			return true
		})
	}
	return all
}

// withList returns the object b with the list as its member of the name.
func withList(b []byte, name string, list [][]byte) []byte {
	out := []byte{'{'}
	put := func(name string, value []byte) {
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(append(append(append(out, '"'), name...), `":`...), value...)
	}
	members(b, func(n string, value []byte) bool {
		if n != name && n != "_"+name {
			put(n, value)
		}
		return true
	})
	if len(list) > 0 {
		put(name, slices.Concat([]byte{'['}, bytes.Join(list, []byte{','}), []byte{']'}))
	}
	return append(out, '}')
}
