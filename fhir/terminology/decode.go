package terminology

import (
	"github.com/go-json-experiment/json/jsontext"

	"github.com/cordon-fhir/cordon/fhir"
)

// A decoder reads JSON in one pass, without a tree: that of half a million
// concepts would take more memory than all else.
type decoder struct{ *jsontext.Decoder }

// wrong says that a member is not of the type that its element has.
func wrong() error { return fhir.Errorf(fhir.Structure, "an element is not of its type") }

// object calls member with the name of each member of the object that comes
// next. It must read the value.
func (d decoder) object(member func(name string) error) error {
	if d.PeekKind() != '{' {
		return d.not()
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			return err
		}
		if err := member(name.String()); err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}

// array calls item for each item of the array that comes next.
func (d decoder) array(item func() error) error {
	if d.PeekKind() != '[' {
		return d.not()
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	for k := d.PeekKind(); k != ']' && k != 0; k = d.PeekKind() {
		if err := item(); err != nil {
			return err
		}
	}
	_, err := d.ReadToken()
	return err
}

// text reads a primitive: a string, or what a number or boolean looks like.
func (d decoder) text(into *string) error {
	switch d.PeekKind() {
	case '"', '0', 't', 'f':
		t, err := d.ReadToken()
		if err == nil {
			*into = t.String()
		}
		return err
	}
	return d.not()
}

func (d decoder) coding(into *Coding) error {
	return d.object(func(name string) error {
		switch name {
		case "system":
			return d.text(&into.System)
		case "version":
			return d.text(&into.Version)
		case "code":
			return d.text(&into.Code)
		case "display":
			return d.text(&into.Display)
		}
		return d.skip()
	})
}

func (d decoder) skip() error { return d.SkipValue() }

// not says that what comes next is not what was to come.
func (d decoder) not() error {
	if _, err := d.ReadToken(); err != nil {
		return err // it is not even JSON
	}
	return wrong()
}
