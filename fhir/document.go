package fhir

import (
	"time"

	"github.com/valyala/fastjson"
)

// A Document is the JSON of one resource as a client sent it, read once and
// known to be well-formed. Whether it is a valid resource is for fhir/validate.
type Document struct {
	Type Type
	ID   string // the id in it, "" if there is none
	// JSON is what was sent without insignificant white space, all else byte
	// for byte.
	JSON []byte
	// Tree is JSON as a tree, for walking. It must not be changed.
	Tree *fastjson.Value
}

// Limits bound what Parse accepts.
type Limits struct {
	Bytes int // default 16 MiB
	Depth int // nesting of arrays and objects; default 64
	Nodes int // values of any kind; default 1,000,000
}

// Parse reads the JSON of one resource. A *fhir.Error with code Structure (or
// TooLong) says what is wrong and where; it holds no value of the resource.
// Refused are malformed JSON, invalid UTF-8, duplicate keys, text after the
// document, and what exceeds the limits.
// https://hl7.org/fhir/R4/json.html
func Parse(body []byte, lim Limits) (*Document, error) { panic("stub") }

// Stamp returns the JSON of the document as it is stored and served: with the
// id, meta.versionId and meta.lastUpdated given and everything else as it was.
func (d *Document) Stamp(id string, version int64, updated time.Time) []byte { panic("stub") }

// Reopen reads JSON that Stamp made, without checking it again.
func Reopen(json []byte) (*Document, error) { panic("stub") }
