package view

import (
	"io"
	"strconv"
	"time"

	"github.com/parquet-go/parquet-go"
)

// A parquetTable is a file of Apache Parquet. Rows are gathered in memory and
// written in groups.
// https://parquet.apache.org/docs/file-format/
type parquetTable struct {
	out     *parquet.GenericWriter[any]
	columns []Column
	row     parquet.Row
	held    int // bytes of the rows that are gathered, about
}

// groupSize bounds the bytes of a group of rows before they are compressed.
const groupSize = 8 << 20

func newParquet(out io.Writer, columns []Column) (*parquetTable, error) {
	schema := parquet.NewSchema("view", newRoot(columns))
	w := parquet.NewGenericWriter[any](out, schema, parquet.Compression(&parquet.Snappy), parquet.CreatedBy("cordon", "1", ""))
	return &parquetTable{out: w, columns: columns}, nil
}

// A root is a group whose fields keep the order of the columns.
type root struct {
	parquet.Group
	columns []Column
}

func newRoot(columns []Column) root {
	g := parquet.Group{}
	for _, c := range columns {
		node := c.node()
		if c.Collection {
			node = parquet.List(node)
		}
		g[c.Name] = parquet.Optional(node)
	}
	return root{g, columns}
}

// Fields implements parquet.Node.
func (r root) Fields() []parquet.Field {
	byName := map[string]parquet.Field{}
	for _, f := range r.Group.Fields() {
		byName[f.Name()] = f
	}
	list := make([]parquet.Field, 0, len(r.columns))
	for _, c := range r.columns {
		list = append(list, byName[c.Name])
	}
	return list
}

// node is what one value of the column is. Decimals are DOUBLE, which analysis
// wants; their digits are in the other formats.
func (c Column) node() parquet.Node {
	switch c.Kind {
	case Boolean:
		return parquet.Leaf(parquet.BooleanType)
	case Integer:
		return parquet.Int(64)
	case Decimal:
		return parquet.Leaf(parquet.DoubleType)
	case Instant:
		return parquet.Timestamp(parquet.Microsecond)
	case Complex:
		return parquet.JSON()
	}
	return parquet.String()
}

// Write implements Table.
func (t *parquetTable) Write(r Row) error {
	t.row = t.row[:0]
	for i, v := range r {
		list, many := v.(List)
		switch {
		case v == nil:
			t.row = append(t.row, parquet.NullValue().Level(0, 0, i))
		case many && len(list) == 0:
			t.row = append(t.row, parquet.NullValue().Level(0, 1, i))
		case many:
			for n, x := range list {
				t.row = append(t.row, t.value(i, x).Level(b2i(n > 0), 2, i))
			}
		default:
			t.row = append(t.row, t.value(i, v).Level(0, 1, i))
		}
		t.held += 16 + 64*weight(v)
	}
	if _, err := t.out.WriteRows([]parquet.Row{t.row}); err != nil {
		return err
	}
	if t.held < groupSize {
		return nil
	}
	t.held = 0
	return t.out.Flush()
}

func (t *parquetTable) value(column int, v Value) parquet.Value {
	switch t.columns[column].Kind {
	case Boolean:
		return parquet.BooleanValue(v.(bool))
	case Integer:
		return parquet.Int64Value(v.(int64))
	case Decimal:
		f, _ := strconv.ParseFloat(asText(v), 64) // out of range is infinite
		return parquet.DoubleValue(f)
	case Instant:
		at, _ := time.Parse(time.RFC3339, v.(string)) // Column.value has
		return parquet.Int64Value(at.UnixMicro())
	}
	return parquet.ByteArrayValue([]byte(asText(v)))
}

// Close implements Table.
func (t *parquetTable) Close() error { return t.out.Close() }
