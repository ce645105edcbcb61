// Package view makes tables of resources, as ViewDefinitions of SQL on FHIR say.
//
// https://sql-on-fhir.org/ig/StructureDefinition-ViewDefinition.html
package view

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/path"
)

// A View is a ViewDefinition that was read and checked. It never changes, so that
// many goroutines may use it.
type View struct {
	// Name is that of the table, "" if it has none.
	Name string
	// Title says in a few words what the table is, and URL is its canonical name.
	Title, URL string
	// Of is the type of the resources that rows are made of.
	Of fhir.Type
	// Columns are those of the table, in order.
	Columns []Column

	where     []expression
	root      *selection
	constants []byte // as Parameters, nil for none
}

// A Column is one of a table.
type Column struct {
	Name       string
	Kind       Kind
	Collection bool // its cells are lists
	of         string
}

// Bounds on a definition.
const (
	maxColumns    = 1000
	maxSelections = 1000
	maxNesting    = 16
	maxConstants  = 100
	maxName       = 128      // bytes
	maxText       = 64 << 10 // bytes, of all expressions
	maxStates     = 20_000   // of all regular expressions
)

// An expression is one of the definition, and its place.
type expression struct {
	*path.Expr
	at string
}

// A selection is a select that was read.
// https://sql-on-fhir.org/ig/StructureDefinition-ViewDefinition.html#specifying-a-select
type selection struct {
	each    *expression // forEach or forEachOrNull
	orNull  bool
	repeat  []expression
	columns []column
	selects []*selection
	union   []*selection
	width   int // columns of all of it
}

// A column is one with what fills it.
type column struct {
	Column
	expression
}

// Parse reads and checks the JSON of a ViewDefinition, which is well-formed. A
// *fhir.Error says what is wrong and where, without values.
func Parse(json []byte) (*View, error) {
	d, err := decode(json)
	if err != nil {
		return nil, err
	}
	if err := d.check(); err != nil {
		return nil, err
	}
	c := &compiler{}
	v := &View{Name: d.Name, Title: d.Title, URL: d.URL, Of: d.Resource}
	if v.constants, c.known, err = d.constants(); err != nil {
		return nil, err
	}
	if v.root, err = c.selection(&selectJSON{Select: d.Select}, "ViewDefinition", 0); err != nil {
		return nil, err
	}
	if v.Columns, err = v.root.heads("ViewDefinition"); err != nil {
		return nil, err
	}
	for i, w := range d.Where {
		e, err := c.expression(w.Path, fmt.Sprintf("ViewDefinition.where[%d].path", i))
		if err != nil {
			return nil, err
		}
		v.where = append(v.where, *e)
	}
	return v, v.distinct()
}

// invalid is what is wrong with a definition at the place.
func invalid(at, format string, args ...any) *fhir.Error {
	return fhir.Errorf(fhir.Value, "the ViewDefinition: "+format, args...).At(at)
}

// distinct returns an error if two columns have one name.
func (v *View) distinct() error {
	names := map[string]bool{}
	for _, c := range v.Columns {
		if names[c.Name] {
			return invalid("ViewDefinition.select", "two columns have the same name")
		}
		names[c.Name] = true
	}
	return nil
}

// A compiler reads the expressions of a definition.
type compiler struct {
	known                             map[string][]path.Node
	columns, selections, text, states int
}

// expression reads one expression.
func (c *compiler) expression(text, at string) (*expression, error) {
	if c.text += len(text); c.text > maxText {
		return nil, fhir.Errorf(fhir.TooCostly, "the expressions of a ViewDefinition have at most %d bytes", maxText)
	}
	if text == "" {
		return nil, invalid(at, "an expression is missing")
	}
	e, err := path.ParseView(text)
	if err != nil {
		return nil, placed(err, at)
	}
	if c.states += e.States(); c.states > maxStates {
		return nil, fhir.Errorf(fhir.TooCostly, "the regular expressions of a ViewDefinition unfold to more than %d states", maxStates)
	}
	if e.Unknown(c.known) {
		return nil, invalid(at, "a constant that is not defined")
	}
	return &expression{e, at}, nil
}

// placed returns an error of an expression with its place in the definition.
func placed(err error, at string) error {
	e, ok := err.(*fhir.Error)
	if !ok {
		return err
	}
	if e.Code() == fhir.Invalid { // of the request it is no fault, but of the view
		e.Issues[0].Code = fhir.Value
	}
	return e.At(at)
}

// selection reads a select and what is in it.
func (c *compiler) selection(s *selectJSON, at string, depth int) (*selection, error) {
	c.selections++
	c.columns += len(s.Column)
	switch {
	case depth > maxNesting:
		return nil, fhir.Errorf(fhir.TooCostly, "the selects of a ViewDefinition are nested at most %d deep", maxNesting).At(at)
	case c.selections > maxSelections:
		return nil, fhir.Errorf(fhir.TooCostly, "a ViewDefinition has at most %d selects", maxSelections)
	case c.columns > maxColumns:
		return nil, fhir.Errorf(fhir.TooCostly, "a ViewDefinition has at most %d columns", maxColumns)
	}
	out := &selection{}
	if err := c.each(out, s, at); err != nil {
		return nil, err
	}
	for i, col := range s.Column {
		one, err := c.column(col, fmt.Sprintf("%s.column[%d]", at, i))
		if err != nil {
			return nil, err
		}
		out.columns = append(out.columns, one)
	}
	for _, list := range []struct {
		name string
		from []selectJSON
		into *[]*selection
	}{{"select", s.Select, &out.selects}, {"unionAll", s.UnionAll, &out.union}} {
		for i := range list.from {
			one, err := c.selection(&list.from[i], fmt.Sprintf("%s.%s[%d]", at, list.name, i), depth+1)
			if err != nil {
				return nil, err
			}
			*list.into = append(*list.into, one)
		}
	}
	return out, nil
}

// each reads what a select walks over.
func (c *compiler) each(out *selection, s *selectJSON, at string) error {
	ways := 0
	for name, text := range map[string]*string{"forEach": s.ForEach, "forEachOrNull": s.ForEachOrNull} {
		if text == nil {
			continue
		}
		ways++
		e, err := c.expression(*text, at+"."+name)
		if err != nil {
			return err
		}
		out.each, out.orNull = e, name == "forEachOrNull"
	}
	for i, text := range s.Repeat {
		e, err := c.expression(text, fmt.Sprintf("%s.repeat[%d]", at, i))
		if err != nil {
			return err
		}
		out.repeat = append(out.repeat, *e)
	}
	if len(out.repeat) > 0 {
		ways++
	}
	if ways > 1 {
		return invalid(at, "a select has one of forEach, forEachOrNull and repeat")
	}
	return nil
}

// sqlName is what tables and columns can be called.
// https://sql-on-fhir.org/ig/StructureDefinition-ViewDefinition.html
var sqlName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*$`)

// ValidName reports whether a table can be called so.
func ValidName(s string) bool { return len(s) <= maxName && sqlName.MatchString(s) }

func (c *compiler) column(j columnJSON, at string) (column, error) {
	if !ValidName(j.Name) {
		return column{}, invalid(at+".name", "a name is letters, digits and underscores, begins with a letter, and has at most %d bytes", maxName)
	}
	k, of, ok := kindOf(j.Type)
	if !ok {
		return column{}, invalid(at+".type", "a type that R4 does not have")
	}
	e, err := c.expression(j.Path, at+".path")
	if err != nil {
		return column{}, err
	}
	return column{Column{Name: j.Name, Kind: k, Collection: j.Collection, of: of}, *e}, nil
}

// heads returns the columns of all that s selects: its own, those of its selects,
// and those of its unions, which must be the same in each.
func (s *selection) heads(at string) ([]Column, error) {
	var list []Column
	for _, c := range s.columns {
		list = append(list, c.Column)
	}
	for i, inner := range s.selects {
		more, err := inner.heads(fmt.Sprintf("%s.select[%d]", at, i))
		if err != nil {
			return nil, err
		}
		list = append(list, more...)
	}
	var union []Column
	for i, inner := range s.union {
		place := fmt.Sprintf("%s.unionAll[%d]", at, i)
		more, err := inner.heads(place)
		if err != nil {
			return nil, err
		}
		if i > 0 && !slices.Equal(union, more) {
			return nil, invalid(place, "the parts of a union have not the same columns, with the same types and in the same order")
		}
		union = more
	}
	list = append(list, union...)
	s.width = len(list)
	if s.width == 0 {
		return nil, invalid(at, "there is no column in it")
	}
	return list, nil
}
