package view

import (
	"bytes"
	"encoding/csv"
	"io"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// A Format is how a table is written.
// https://sql-on-fhir.org/ig/OperationDefinition-ViewDefinitionRun.html
type Format string

// The formats.
const (
	JSONArray Format = "json"
	NDJSON    Format = "ndjson"
	CSV       Format = "csv"
	Parquet   Format = "parquet"
)

// MediaType returns that of the format.
func (f Format) MediaType() string {
	switch f {
	case JSONArray:
		return "application/json"
	case NDJSON:
		return "application/x-ndjson"
	case CSV:
		return "text/csv; charset=utf-8"
	}
	return "application/vnd.apache.parquet"
}

// A Table writes rows in a format.
type Table interface {
	Write(Row) error
	// Close writes what is left of the table.
	Close() error
}

// NewTable returns a Table of the columns that is written to out. header says
// whether CSV begins with the names.
func NewTable(out io.Writer, f Format, columns []Column, header bool) (Table, error) {
	switch f {
	case CSV:
		return newCSV(out, columns, header)
	case Parquet:
		return newParquet(out, columns)
	}
	return newJSON(out, columns, f == JSONArray), nil
}

// jsonTable is an array of objects, or lines of them.
type jsonTable struct {
	out   io.Writer
	names [][]byte
	array bool
	begun bool
	line  []byte
}

func newJSON(out io.Writer, columns []Column, array bool) *jsonTable {
	t := &jsonTable{out: out, array: array}
	for i, c := range columns {
		name := []byte("{")
		if i > 0 {
			name = []byte(",")
		}
		t.names = append(t.names, append(quote(name, c.Name), ':'))
	}
	return t
}

func (t *jsonTable) Write(r Row) error {
	t.line = t.line[:0]
	if t.array {
		t.line = append(t.line, "[,"[b2i(t.begun)])
	}
	for i, v := range r {
		t.line = appendJSON(append(t.line, t.names[i]...), v)
	}
	t.line = append(t.line, "}\n"...)
	t.begun = true
	_, err := t.out.Write(t.line)
	return err
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (t *jsonTable) Close() error {
	end := ""
	switch {
	case t.array && t.begun:
		end = "]"
	case t.array:
		end = "[]"
	}
	_, err := io.WriteString(t.out, end)
	return err
}

// quote appends s as JSON. A string of a Document is UTF-8.
func quote(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s)
	return b
}

func appendJSON(b []byte, v Value) []byte {
	switch v := v.(type) {
	case bool:
		return strconv.AppendBool(b, v)
	case int64:
		return strconv.AppendInt(b, v, 10)
	case Number:
		return append(b, v...)
	case string:
		return quote(b, v)
	case JSON:
		return append(b, v...)
	case List:
		b = append(b, '[')
		for i, x := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendJSON(b, x)
		}
		return append(b, ']')
	}
	return append(b, "null"...)
}

// asText returns v as text, as it is in a cell of CSV: a list is JSON.
func asText(v Value) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	}
	return string(appendJSON(nil, v))
}

// csvTable is comma-separated values.
// https://www.rfc-editor.org/rfc/rfc4180
type csvTable struct {
	out   *csv.Writer
	cells []string
}

func newCSV(out io.Writer, columns []Column, header bool) (*csvTable, error) {
	t := &csvTable{csv.NewWriter(out), make([]string, len(columns))}
	if !header {
		return t, nil
	}
	for i, c := range columns {
		t.cells[i] = c.Name
	}
	return t, t.out.Write(t.cells)
}

func (t *csvTable) Write(r Row) error {
	for i, v := range r {
		t.cells[i] = asText(v)
	}
	return t.out.Write(t.cells)
}

func (t *csvTable) Close() error {
	t.out.Flush()
	return t.out.Error()
}

// Bytes returns the rows as a table in memory.
func Bytes(f Format, columns []Column, header bool, rows []Row) ([]byte, error) {
	var out bytes.Buffer
	t, err := NewTable(&out, f, columns, header)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		if err := t.Write(r); err != nil {
			return nil, err
		}
	}
	if err := t.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
