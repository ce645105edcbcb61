package xml

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/r4"
)

// ToJSON returns the JSON of the resource whose XML body is. A *fhir.Error says
// what is wrong and where; it holds no value of the resource. Refused are
// document type declarations, entities that XML itself does not define,
// processing instructions, other namespaces, elements that R4 does not have or
// has in another order, text outside of attributes, and what exceeds the
// limits. Whether it is a valid resource is for fhir/validate.
func ToJSON(body []byte, lim fhir.Limits) ([]byte, error) {
	if lim.Bytes <= 0 {
		lim.Bytes = 16 << 20
	}
	if lim.Depth <= 0 {
		lim.Depth = 64
	}
	if lim.Nodes <= 0 {
		lim.Nodes = 1_000_000
	}
	if len(body) > lim.Bytes {
		return nil, fhir.Errorf(fhir.TooLong, "the resource is longer than %d bytes", lim.Bytes)
	}
	d := decoder{body: body, lim: lim, xml: xml.NewDecoder(bytes.NewReader(body))}
	d.out.Grow(len(body))
	if err := d.document(); err != nil {
		return nil, err
	}
	return d.out.Bytes(), nil
}

// A decoder reads one document.
type decoder struct {
	body  []byte
	lim   fhir.Limits
	xml   *xml.Decoder
	begin int64 // of the token that was read last
	depth int
	nodes int
	path  []place
	out   bytes.Buffer
}

// A place is a step from the root to where the decoder is.
type place struct {
	name  string
	index int // -1 if it does not repeat
}

// fault is an error at the current place.
func (d *decoder) fault(code fhir.IssueCode, format string, args ...any) error {
	e := fhir.Errorf(code, format, args...)
	if len(d.path) == 0 {
		return e
	}
	var b strings.Builder
	for i, p := range d.path {
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(p.name)
		if p.index >= 0 {
			b.WriteString("[" + strconv.Itoa(p.index) + "]")
		}
	}
	return e.At(b.String())
}

// token returns the next start or end of an element, nil at the end. White
// space and comments mean nothing and are skipped.
func (d *decoder) token() (xml.Token, error) {
	for {
		d.begin = d.xml.InputOffset()
		t, err := d.xml.Token()
		if err == io.EOF {
			return nil, nil
		}
		if err != nil {
			return nil, d.malformed(err)
		}
		switch t := t.(type) {
		case xml.StartElement:
			if d.depth++; d.depth > d.lim.Depth {
				return nil, d.fault(fhir.Structure, "elements are nested more than %d deep", d.lim.Depth)
			}
			if d.nodes += 1 + len(t.Attr); d.nodes > d.lim.Nodes {
				return nil, d.fault(fhir.TooLong, "the resource has more than %d elements and attributes", d.lim.Nodes)
			}
			return t, nil
		case xml.EndElement:
			d.depth--
			return t, nil
		case xml.CharData:
			if len(bytes.TrimSpace(t)) > 0 {
				return nil, d.fault(fhir.Structure, "text between elements; values are attributes")
			}
		case xml.Directive:
			return nil, d.fault(fhir.Structure, "a document type declaration is not accepted")
		case xml.ProcInst:
			if t.Target != "xml" || d.begin > 3 { // a byte order mark may come first
				return nil, d.fault(fhir.Structure, "a processing instruction is not accepted")
			}
		}
	}
}

// malformed says that the XML is not well-formed, in words of our own because
// the reader's may quote the text.
func (d *decoder) malformed(err error) error {
	at := d.xml.InputOffset()
	var syntax *xml.SyntaxError
	switch {
	case !utf8.Valid(d.body):
		return d.fault(fhir.Structure, "the body is not UTF-8")
	case errors.As(err, &syntax) && strings.Contains(syntax.Msg, "entity"):
		return d.fault(fhir.Structure, "an entity that is not one of XML's own, at byte %d", at)
	}
	return d.fault(fhir.Structure, "the XML is malformed at byte %d", at)
}

// document reads the whole document.
func (d *decoder) document() error {
	d.body = bytes.TrimPrefix(d.body, []byte("\uFEFF"))
	d.xml = xml.NewDecoder(bytes.NewReader(d.body))
	t, err := d.token()
	if err != nil {
		return err
	}
	start, ok := t.(xml.StartElement)
	if !ok {
		return d.fault(fhir.Structure, "the body is empty")
	}
	if err := d.resource(&start); err != nil {
		return err
	}
	t, err = d.token()
	if err == nil && t != nil {
		err = fhir.Errorf(fhir.Structure, "something follows the end of the resource")
	}
	return err
}

// resource reads a resource, whose element has been begun.
func (d *decoder) resource(start *xml.StartElement) error {
	name := start.Name.Local
	if start.Name.Space != namespace {
		return d.fault(fhir.Structure, "the element of a resource is in the namespace %s", namespace)
	}
	if !fhir.Type(name).Known() {
		return d.fault(fhir.Structure, "the element is not named as a resource type of R4")
	}
	if len(d.path) == 0 {
		d.path = append(d.path, place{name, -1})
	}
	if err := d.attributes(start); err != nil {
		return err
	}
	d.out.WriteString(`{"resourceType":"` + name + `"`)
	if err := d.children(r4.TypeOf(name), true); err != nil {
		return err
	}
	d.out.WriteByte('}')
	return nil
}

// attributes refuses attributes but those allowed; of namespaces they may
// declare any.
func (d *decoder) attributes(start *xml.StartElement, allowed ...string) error {
next:
	for i, a := range start.Attr {
		switch {
		case a.Name.Space == "xmlns", a.Name.Space == "" && a.Name.Local == "xmlns", a.Name.Space == schema:
			continue
		case a.Name.Space == "":
			for _, name := range allowed {
				if a.Name.Local == name {
					for _, b := range start.Attr[:i] {
						if a.Name == b.Name {
							return d.fault(fhir.Structure, "an attribute occurs twice")
						}
					}
					continue next
				}
			}
		}
		return d.fault(fhir.Structure, "an attribute that the element cannot have")
	}
	return nil
}

// children reads the elements in an object of type t up to its end, and writes
// them as members. some says that a member was written before.
// https://hl7.org/fhir/R4/xml.html#complex
func (d *decoder) children(t *r4.Type, some bool) error {
	c := children{d: d, t: t, some: some}
	for {
		tok, err := d.token()
		if err != nil {
			return err
		}
		start, ok := tok.(xml.StartElement)
		if !ok {
			c.flush()
			return nil
		}
		if err := c.child(&start); err != nil {
			return err
		}
	}
}

// children are those of one object, as far as they are read.
type children struct {
	d    *decoder
	t    *r4.Type
	some bool
	next int         // place among the elements of t that the next child may have
	of   *r4.Element // which is being read, nil at first
	read int         // how many values of it
	// The values of a primitive, and what stands beside them. Those of other
	// elements are written as they are read.
	values, sides [][]byte
}

// child reads one child.
func (c *children) child(start *xml.StartElement) error {
	name, d := start.Name.Local, c.d
	if err := c.advance(start); err != nil {
		return err
	}
	e, index := c.of, -1
	if e.Many() {
		index = c.read
	} else if c.read > 0 {
		return d.fault(fhir.Structure, "%s does not repeat", name)
	}
	if choice := e.Choice(); choice != "" {
		name = choice
	}
	d.path = append(d.path, place{name, index})
	if e.Primitive() != 0 {
		if err := c.primitive(e, start); err != nil {
			return err
		}
	} else {
		if c.read == 0 {
			c.begin(e.Name, e.Many())
		} else {
			d.out.WriteByte(',')
		}
		if err := d.complex(c.t, e, start); err != nil {
			return err
		}
	}
	c.read++
	d.path = d.path[:len(d.path)-1]
	return nil
}

// begin begins a member.
func (c *children) begin(name string, array bool) {
	if c.some {
		c.d.out.WriteByte(',')
	}
	c.some = true
	c.d.out.WriteString(`"` + name + `":`)
	if array {
		c.d.out.WriteByte('[')
	}
}

// primitive reads a value of the primitive element e.
func (c *children) primitive(e *r4.Element, start *xml.StartElement) error {
	d := c.d
	mark := d.out.Len()
	side, err := d.value(e, start)
	if err != nil {
		return err
	}
	c.values, c.sides = append(c.values, bytes.Clone(d.out.Bytes()[mark:])), append(c.sides, side)
	d.out.Truncate(mark)
	return nil
}

// advance finds the element that start begins. It is the current one or a
// later one.
func (c *children) advance(start *xml.StartElement) error {
	list := c.t.Elements()
	for i := c.next; i < len(list); i++ {
		e := &list[i]
		if e.Name != start.Name.Local || formOf(c.t, e) == asAttribute {
			continue
		}
		want := namespace
		if formOf(c.t, e) == asNarrative {
			want = xhtml
		}
		if start.Name.Space != want {
			return c.d.fault(fhir.Structure, "an element is not in the namespace %s", want)
		}
		if e != c.of {
			c.flush()
			c.of, c.next = e, i
		}
		return nil
	}
	name := start.Name.Local
	if e := c.t.Element(name); e != nil && formOf(c.t, e) != asAttribute {
		return c.d.fault(fhir.Structure, "%s is not in its place: elements are in the order of the standard", name)
	}
	if !fhir.IsElementName(name) {
		name = "an element"
	}
	return c.d.fault(fhir.Structure, "%s is not an element of %s; names are case-sensitive", name, c.t.Path)
}

// flush ends the members of the current element.
func (c *children) flush() {
	e := c.of
	switch {
	case e == nil:
	case e.Primitive() != 0:
		c.member(e.Name, c.values, e.Many())
		c.member("_"+e.Name, c.sides, e.Many())
		c.values, c.sides = c.values[:0], c.sides[:0]
	case e.Many():
		c.d.out.WriteByte(']')
	}
	c.read = 0
}

// member writes the values, of which those that are not there are null in an
// array.
func (c *children) member(name string, values [][]byte, array bool) {
	there := false
	for _, v := range values {
		there = there || len(v) > 0
	}
	if !there {
		return
	}
	c.begin(name, array)
	for i, v := range values {
		if i > 0 {
			c.d.out.WriteByte(',')
		}
		if len(v) == 0 {
			v = []byte("null")
		}
		c.d.out.Write(v)
	}
	if array {
		c.d.out.WriteByte(']')
	}
}

// complex reads a value of the complex element e of type t up to its end.
func (d *decoder) complex(t *r4.Type, e *r4.Element, start *xml.StartElement) error {
	if formOf(t, e) == asResource {
		return d.wrapped(start)
	}
	return d.object(e.Complex(), start)
}

// value reads a value of the primitive element e up to its end and writes its
// JSON. It returns what stands beside it.
// https://hl7.org/fhir/R4/xml.html#primitive
func (d *decoder) value(e *r4.Element, start *xml.StartElement) (side []byte, err error) {
	if e.Primitive() == r4.XHTML {
		return nil, d.narrative(start)
	}
	if err := d.attributes(start, "id", "value"); err != nil {
		return nil, err
	}
	v, hasValue := attribute(start, "value")
	if hasValue {
		if err := d.primitive(e.Primitive(), v); err != nil {
			return nil, err
		}
	}
	mark := d.out.Len()
	if err := d.members(elementType, start, "id"); err != nil {
		return nil, err
	}
	if d.out.Len() > mark+len("{}") {
		side = bytes.Clone(d.out.Bytes()[mark:])
	} else if !hasValue {
		return nil, d.fault(fhir.Structure, "an element must have a value or children")
	}
	d.out.Truncate(mark)
	return side, nil
}

// object reads an element of the complex type t.
func (d *decoder) object(t *r4.Type, start *xml.StartElement) error {
	allowed := []string{"id"}
	if t.Path == "Extension" {
		allowed = append(allowed, "url")
	}
	if err := d.attributes(start, allowed...); err != nil {
		return err
	}
	return d.members(t, start, allowed...)
}

// members writes an object with the attributes and the children of an element.
func (d *decoder) members(t *r4.Type, start *xml.StartElement, attributes ...string) error {
	d.out.WriteByte('{')
	some := false
	for _, name := range attributes {
		v, ok := attribute(start, name)
		if !ok {
			continue
		}
		if some {
			d.out.WriteByte(',')
		}
		some = true
		d.out.WriteString(`"` + name + `":`)
		if err := d.quote(v); err != nil {
			return err
		}
	}
	if err := d.children(t, some); err != nil {
		return err
	}
	d.out.WriteByte('}')
	return nil
}

// primitive writes the value of a primitive type.
// https://hl7.org/fhir/R4/json.html#primitive
func (d *decoder) primitive(p r4.Primitive, v string) error {
	if !isBare(p) {
		return d.quote(v)
	}
	raw := jsontext.Value(v)
	isBoolean := v == "true" || v == "false"
	if (p == r4.Boolean) != isBoolean || !isBoolean && (raw.Kind() != '0' || !raw.IsValid() || strings.TrimSpace(v) != v) {
		return d.fault(fhir.Value, "the value is not a valid %s", p)
	}
	d.out.WriteString(v)
	return nil
}

// quote writes v as a string of JSON.
func (d *decoder) quote(v string) error {
	b, err := jsontext.AppendQuote(d.out.AvailableBuffer(), v)
	if err != nil {
		return d.fault(fhir.Structure, "the value is not UTF-8")
	}
	d.out.Write(b)
	return nil
}

// wrapped reads the one resource in an element.
// https://hl7.org/fhir/R4/xml.html#resources
func (d *decoder) wrapped(start *xml.StartElement) error {
	if err := d.attributes(start); err != nil {
		return err
	}
	t, err := d.token()
	if err != nil {
		return err
	}
	inner, ok := t.(xml.StartElement)
	if !ok {
		return d.fault(fhir.Structure, "the element must hold a resource")
	}
	if err := d.resource(&inner); err != nil {
		return err
	}
	if t, err = d.token(); err != nil {
		return err
	}
	if _, ok := t.(xml.EndElement); !ok {
		return d.fault(fhir.Structure, "the element must hold one resource")
	}
	return nil
}

// narrative writes the div that has been begun as a string: the bytes of it,
// as they are.
// https://hl7.org/fhir/R4/xml.html#xhtml
func (d *decoder) narrative(start *xml.StartElement) error {
	if ns, ok := attribute(start, "xmlns"); !ok || ns != xhtml {
		return d.fault(fhir.Structure, "div must declare %s as its default namespace", xhtml)
	}
	begin := d.begin
	for open := 1; open > 0; {
		t, err := d.xml.Token()
		if err != nil {
			return d.malformed(err)
		}
		switch t := t.(type) {
		case xml.StartElement:
			if open++; open+d.depth > 2*d.lim.Depth {
				return d.fault(fhir.Structure, "elements are nested more than %d deep", 2*d.lim.Depth)
			}
			if d.nodes += 1 + len(t.Attr); d.nodes > d.lim.Nodes {
				return d.fault(fhir.TooLong, "the resource has more than %d elements and attributes", d.lim.Nodes)
			}
			if t.Name.Space != xhtml {
				return d.fault(fhir.Structure, "an element of the narrative is not in the namespace %s", xhtml)
			}
		case xml.EndElement:
			open--
		case xml.Directive, xml.ProcInst:
			return d.fault(fhir.Structure, "a declaration or processing instruction is not accepted")
		}
	}
	d.depth--
	return d.quote(string(d.body[begin:d.xml.InputOffset()]))
}
