package gate

import (
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// constant is text known at compile time. Only an untyped constant converts to
// it outside this package, so nobody can pass SQL that was put together.
type constant string

// A Clause is a piece of SQL and the arguments for its question marks. A tilde
// before a table stands for the schema of the tenant: ~resource. $1 is always
// the tenant's number.
type Clause struct {
	text   string
	args   []any
	custom bool
}

// Custom returns c to be planned for its arguments each time it runs. Other
// statements are planned once for any arguments, which saves what often costs
// more than running them; but only a plan of its own can tell which of two
// conditions is the rarer.
func (c Clause) Custom(custom bool) Clause {
	c.custom = custom
	return c
}

// SQL makes a Clause of constant text.
func SQL(text constant, args ...any) Clause { return Clause{text: string(text), args: args} }

// With returns c followed by the other clauses.
func (c Clause) With(others ...Clause) Clause {
	n, a := len(c.text), len(c.args)
	for _, o := range others {
		n += len(o.text) + 1
		a += len(o.args)
	}
	var b strings.Builder
	b.Grow(n)
	b.WriteString(c.text)
	args := append(make([]any, 0, a), c.args...)
	for _, o := range others {
		b.WriteByte(' ')
		b.WriteString(o.text)
		args = append(args, o.args...)
	}
	return Clause{text: b.String(), args: args, custom: c.custom}
}

// A Row names a row in a composed statement: row 0 is r, the others x1, x2, ….
type Row int

// Alias returns the name of the row as a Clause.
func (r Row) Alias() Clause { return Clause{text: r.name()} }

// Col returns a column of the row.
func (r Row) Col(name constant) Clause { return Clause{text: r.name() + "." + string(name)} }

func (r Row) name() string {
	if r == 0 {
		return "r"
	}
	return "x" + strconv.Itoa(int(r))
}

// rendered remembers the final text of clauses, because most are used again.
var (
	rendered sync.Map // renderKey → string
	renders  atomic.Int64
)

type renderKey struct{ schema, text string }

// maxRendered bounds the memory; past it nothing more is remembered.
const maxRendered = 20_000

// render puts the schema in place of each tilde and $2, $3, … in place of each
// question mark.
func (c Clause) render(schema string) string {
	key := renderKey{schema, c.text}
	if s, ok := rendered.Load(key); ok {
		return s.(string)
	}
	var b strings.Builder
	n := 1
	for i := 0; i < len(c.text); i++ {
		switch c.text[i] {
		case '?':
			n++
			b.WriteString("$" + strconv.Itoa(n))
		case '~':
			b.WriteString(schema + ".")
		default:
			b.WriteByte(c.text[i])
		}
	}
	s := b.String()
	if renders.Add(1) <= maxRendered {
		rendered.Store(key, s)
	}
	return s
}

// IsZero reports whether c has no text.
func (c Clause) IsZero() bool { return c.text == "" }
