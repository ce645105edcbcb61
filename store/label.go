package store

import (
	"context"
	"slices"

	"github.com/cordon-fhir/cordon/fhir"
)

// A label is a Coding of meta.security, by what tells it from others.
// https://hl7.org/fhir/R4/security-labels.html
type label struct{ system, code string }

func labelsOf(d *fhir.Document) []label {
	var list []label
	for _, c := range d.Tree.GetArray("meta", "security") {
		list = append(list, label{string(c.GetStringBytes("system")), string(c.GetStringBytes("code"))})
	}
	return list
}

// labelled returns d with the labels that the resource is to have: those of d
// for who may change them, else those that it had. A label that it did not have
// is refused then: who sent it would take the resource for protected.
func (tx *Tx) labelled(ctx context.Context, old *row, d *fhir.Document) (*fhir.Document, error) {
	if old == nil || old.deleted {
		return d, nil
	}
	p, err := tx.grant.PermitLabels(d.Type)
	if err == nil && all(p.Where()) {
		return d, nil
	}
	was, err := tx.open(*old)
	if err != nil {
		return nil, err
	}
	var had []label
	if err := fhir.Peek(was.Body, func(d *fhir.Document) error {
		had = labelsOf(d)
		return nil
	}); err != nil {
		return nil, err
	}
	has := labelsOf(d)
	lacks := func(list []label) func(label) bool {
		return func(l label) bool { return !slices.Contains(list, l) }
	}
	added, dropped := slices.ContainsFunc(has, lacks(had)), slices.ContainsFunc(had, lacks(has))
	if !added && !dropped {
		return d, nil
	}
	may, err := tx.cover(ctx, p, was, fhir.Resource{Ref: was.Ref, Updated: was.Updated, Body: d.JSON})
	if err != nil {
		return nil, err
	}
	if may[0] && may[1] {
		return d, nil
	}
	if added {
		return nil, LabelsKept(d.Type)
	}
	return withLabels(d, was.Body)
}

// LabelsKept is the error for who may not change the security labels.
func LabelsKept(on fhir.Type) error {
	return fhir.Errorf(fhir.Forbidden, "the security labels of this resource are not for you to change").At(string(on) + ".meta.security")
}

// MayLabel reports whether the Grant may change the security labels of the
// resource, as it is stored.
func (tx *Tx) MayLabel(ctx context.Context, r fhir.Resource) (bool, error) {
	p, err := tx.grant.PermitLabels(r.Ref.Type)
	if err != nil {
		return false, nil
	}
	return tx.covers(ctx, p, r)
}

// withLabels returns d with the meta.security that body has.
func withLabels(d *fhir.Document, body []byte) (*fhir.Document, error) {
	labels := memberOf(memberOf(body, "meta"), "security")
	meta := []byte(`{"security":`)
	meta = append(meta, labels...)
	for name, value := range fhir.Members(memberOf(d.JSON, "meta")) {
		if s := string(name); s != "security" {
			meta = appendMember(meta, name, value)
		}
	}
	out := []byte(`{"meta":`)
	out = append(append(out, meta...), '}')
	for name, value := range fhir.Members(d.JSON) {
		if string(name) != "meta" {
			out = appendMember(out, name, value)
		}
	}
	return fhir.Reopen(append(out, '}'))
}

// memberOf returns the value of the member of the object, nil if there is none.
func memberOf(object []byte, name string) []byte {
	for n, value := range fhir.Members(object) {
		if string(n) == name {
			return value
		}
	}
	return nil
}

func appendMember(out, name, value []byte) []byte {
	out = append(append(append(out, `,"`...), name...), `":`...)
	return append(out, value...)
}
