package store

import (
	"bytes"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
)

// subsetted says that a resource lacks something.
// https://hl7.org/fhir/R4/resource.html#Meta
const subsetted = `{"system":"http://terminology.hl7.org/CodeSystem/v3-ObservationValue","code":"SUBSETTED"}`

// shown returns the resource as the Grant may see it: without what the policy
// of the tenant hides. Whatever leaves comes through here or Readable.
func (v *View) shown(r fhir.Resource) (fhir.Resource, error) {
	v.keep(r)
	hidden := v.grant.Hidden(r.Ref.Type)
	if hidden == nil || r.Deleted {
		return r, nil
	}
	var err error
	if r.Body, err = lacking(r.Body, hidden); err != nil {
		return fhir.Resource{}, fmt.Errorf("hiding elements of %s: %w", r.Ref.Type, err)
	}
	return r, nil
}

// showAll is shown for each of the list, in place.
func (v *View) showAll(list []fhir.Resource) (err error) {
	for i := range list {
		if list[i], err = v.shown(list[i]); err != nil {
			return err
		}
	}
	return nil
}

// lacking returns the JSON of a resource without its members that are hidden,
// tagged as a part.
func lacking(body []byte, hidden smart.Mask) ([]byte, error) {
	return rewrite(body, func(name string, value jsontext.Value) (jsontext.Value, error) {
		switch {
		case hidden.Hides(name):
			return nil, nil
		case name == "meta":
			return tagged(value)
		}
		return value, nil
	})
}

// tagged returns meta with the tag SUBSETTED.
func tagged(meta []byte) ([]byte, error) {
	had := false
	meta, err := rewrite(meta, func(name string, value jsontext.Value) (jsontext.Value, error) {
		if name == "tag" {
			had = true
			value = append(append(value[:len(value)-1:len(value)-1], ','), subsetted+`]`...)
		}
		return value, nil
	})
	if err != nil || had {
		return meta, err
	}
	return append(meta[:len(meta)-1], `,"tag":[`+subsetted+`]}`...), nil
}

// rewrite returns the object with each member as change returns its value,
// without those for which that is nothing. All other bytes stay.
func rewrite(object []byte, change func(name string, value jsontext.Value) (jsontext.Value, error)) ([]byte, error) {
	d := jsontext.NewDecoder(bytes.NewReader(object))
	if _, err := d.ReadToken(); err != nil {
		return nil, err
	}
	out := append(make([]byte, 0, len(object)+len(subsetted)), '{')
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		text := name.String()
		value, err := d.ReadValue()
		if err != nil {
			return nil, err
		}
		if value, err = change(text, value); err != nil {
			return nil, err
		}
		if value == nil {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		if out, err = jsontext.AppendQuote(out, text); err != nil {
			return nil, err
		}
		out = append(append(out, ':'), value...)
	}
	return append(out, '}'), nil
}

// mayAsk refuses a search that depends on what the policy hides: its answer
// would tell.
func (v *View) mayAsk(q *search.Query) error {
	if !q.SortsAlone() && v.hidesDate(q.Type) {
		return fhir.Errorf(fhir.Forbidden, "the access policy hides the date of %s, so that they are sorted by _id or _lastUpdated only", q.Type)
	}
	for _, path := range q.Asks() {
		if on, name := path.Element(); v.hides(path) {
			if len(v.grant.Hidden(on)) > 0 && name != "*" {
				return fhir.Errorf(fhir.Forbidden, "the access policy hides %s.%s, so that no search may depend on it", on, name)
			}
			return fhir.Errorf(fhir.Forbidden, "the access policy hides parts of %s, so that no search may depend on all of it", on)
		}
	}
	return nil
}

// order is indexOrder, unless the policy hides the date that the order would
// tell of.
func (v *View) order(q *search.Query) (order, bool) {
	if len(q.Sort) == 0 && v.hidesDate(q.Type) {
		return order{by: search.ByID, asc: true}, true
	}
	return indexOrder(q)
}

// hidesDate reports whether the policy hides the main date of the type, by which
// resources are in order where nothing else tells.
func (v *View) hidesDate(on fhir.Type) bool {
	main, _ := search.MainDate(on)
	return main != "" && v.hides(main)
}

// hides reports whether the policy hides the element at the path.
func (v *View) hides(path search.Path) bool {
	on, name := path.Element()
	return v.grant.Hidden(on).HidesAsked(on, name)
}

// mayReplace refuses to change resources of a type of which the policy hides
// something: what is not seen would be lost.
func (v *View) mayReplace(on fhir.Type) error {
	if v.grant.Hidden(on) == nil {
		return nil
	}
	return fhir.Errorf(fhir.Forbidden, "the access policy hides parts of every %s, so that none can be replaced or patched", on)
}

// mayHave refuses a new resource with what the policy hides.
func (v *View) mayHave(d *fhir.Document) error {
	hidden := v.grant.Hidden(d.Type)
	if hidden == nil {
		return nil
	}
	_, err := rewrite(d.JSON, func(name string, value jsontext.Value) (jsontext.Value, error) {
		if hidden.Hides(name) {
			return nil, fhir.Errorf(fhir.Forbidden, "the access policy hides this element, so that it cannot be written").At(string(d.Type) + "." + name)
		}
		return value, nil
	})
	return err
}
