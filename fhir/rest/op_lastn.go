package rest

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/store"
)

// lastnOperations answer with the last observations of each kind.
// https://hl7.org/fhir/R4/observation-operation-lastn.html
var lastnOperations = []operation{
	{
		name: "lastn", url: definition("Observation-lastn"), level: onType, on: []fhir.Type{"Observation"},
		in: []parameter{{name: "max", typ: "positiveInt", max: 1}}, searches: true, parse: parseLastn, look: lastn,
	},
}

// maxLastn bounds the parameter max.
const maxLastn = 100

// parseLastn reads whose observations are meant, and which: what a search of
// Observation takes, but for what shapes the answer.
func parseLastn(req *request) (err error) {
	of := slices.ContainsFunc(req.params, func(p search.Param) bool {
		name, _, _ := strings.Cut(p.Name, ":")
		return (name == "patient" || name == "subject") && p.Value != ""
	})
	if !of {
		return fhir.Errorf(fhir.Required, "parameter patient or subject is missing").WithStatus(http.StatusBadRequest)
	}
	if req.in.number("max", 1) > maxLastn {
		return fhir.Errorf(fhir.TooCostly, "parameter max is at most %d", maxLastn)
	}
	for _, p := range req.params {
		if name, _, _ := strings.Cut(p.Name, ":"); slices.Contains(notCriteria, name) {
			return fhir.Errorf(fhir.NotSupported, "the operation has no parameter %s", name)
		}
	}
	req.search, err = searchQuery(req.ref.Type, req)
	return err
}

// lastn answers with the newest observations of each code, up to max of each,
// those of one code together.
func lastn(ctx context.Context, v *store.View, req *request) (*response, error) {
	groups := kinds{of: map[string]int{}}
	most := req.in.number("max", 1)
	group := map[fhir.Ref]int{}
	found, err := v.Sift(ctx, req.search, func(r fhir.Resource) (keep, more bool) {
		g := groups.find(member(r.Body, "code"))
		if groups.sizes[g] == most {
			return false, true
		}
		groups.sizes[g]++
		group[r.Ref] = g
		return true, true
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(found, func(a, b fhir.Resource) int { return group[a.Ref] - group[b.Ref] })
	b := newBundle("searchset", req.now())
	b.total(len(found))
	b.links(req.pages(append(req.search.Applied, search.Param{Name: "max", Value: strconv.Itoa(most)}), "")...)
	b.page(req, &store.Page{Matches: found})
	return &response{status: http.StatusOK, body: b.bytes()}, nil
}

// Kinds tell observations apart by their codes: two are of one kind if they
// share a coding, or the text where there is no coding.
type kinds struct {
	of    map[string]int
	sizes []int
}

// find returns the kind of a CodeableConcept.
func (k *kinds) find(code []byte) int {
	var names []string
	for _, c := range list(member(code, "coding")) {
		names = append(names, "c"+text(member(c, "system"))+"|"+text(member(c, "code")))
	}
	if len(names) == 0 {
		names = []string{"t" + search.Fold(text(member(code, "text")))}
	}
	kind := -1
	for _, n := range names {
		if known, ok := k.of[n]; ok {
			kind = known
			break
		}
	}
	if kind < 0 {
		kind = len(k.sizes)
		k.sizes = append(k.sizes, 0)
	}
	for _, n := range names {
		if _, ok := k.of[n]; !ok {
			k.of[n] = kind
		}
	}
	return kind
}
