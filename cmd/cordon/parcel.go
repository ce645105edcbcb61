package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strconv"
	"strings"
)

// A parcel is one Bundle to post, and what is known of it.
type parcel struct {
	file    string
	name    string // of the file, with the lines if it has many parcels
	body    []byte // a transaction Bundle
	entries int
	// again says that sending it twice does no harm: every entry is a PUT,
	// a DELETE, a GET or a conditional create.
	again bool
	// parts says that it may be sent as a batch, if it is refused as a
	// transaction, to keep what is good of it: we, not its author, made one of
	// it, or the user wants it so.
	parts bool
}

type bundleEntry struct {
	FullURL  string          `json:"fullUrl,omitempty"`
	Resource json.RawMessage `json:"resource,omitempty"`
	Request  *entryRequest   `json:"request,omitempty"`
}

type entryRequest struct {
	Method      string `json:"method"`
	URL         string `json:"url"`
	IfMatch     string `json:"ifMatch,omitempty"`
	IfNoneMatch string `json:"ifNoneMatch,omitempty"`
	IfNoneExist string `json:"ifNoneExist,omitempty"`
}

// perParcel is how many lines of NDJSON make a Bundle.
const perParcel = 250

// maxLine bounds a line of NDJSON: the server takes no larger resource.
const maxLine = 16 << 20

// parcels yields what is in the file: a Bundle, a resource, or resources in
// NDJSON; any of them may be compressed with gzip. Each byte that is read of
// the file is counted on progress.
func parcels(file string, progress io.Writer) iter.Seq2[parcel, error] {
	return func(yield func(parcel, error) bool) {
		if err := readParcels(file, progress, func(p parcel) bool { return yield(p, nil) }); err != nil {
			yield(parcel{}, fmt.Errorf("%s: %w", file, err))
		}
	}
}

func readParcels(file string, progress io.Writer, yield func(parcel) bool) error {
	f, err := os.Open(file)
	if err != nil {
		return errors.Unwrap(err)
	}
	defer f.Close()
	in := bufio.NewReaderSize(io.TeeReader(f, progress), 1<<16)
	if magic, _ := in.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		plain, err := gzip.NewReader(in)
		if err != nil {
			return err
		}
		in = bufio.NewReaderSize(plain, 1<<16)
	}
	if strings.HasSuffix(strings.TrimSuffix(file, ".gz"), ".ndjson") {
		return readLines(file, in, yield)
	}
	text, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	p, err := pack(text)
	if err != nil {
		return err
	}
	p.file, p.name = file, file
	yield(p)
	return nil
}

// readLines makes parcels of NDJSON.
// https://github.com/ndjson/ndjson-spec
func readLines(file string, in io.Reader, yield func(parcel) bool) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 1<<16), maxLine)
	var entries []bundleEntry
	var size, number, first int
	send := func() (more bool, err error) {
		p, err := bundleOf(entries)
		if err != nil {
			return false, err
		}
		p.file, p.name = file, fmt.Sprintf("%s lines %d-%d", file, first, number)
		entries, size = nil, 0
		return yield(p), nil
	}
	for lines.Scan() {
		number++
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		e, err := entryOf(bundleEntry{Resource: bytes.Clone(line)})
		if err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
		if len(entries) == 0 {
			first = number
		}
		entries = append(entries, e)
		if size += len(line); len(entries) == perParcel || size > maxLine/4 {
			if more, err := send(); !more || err != nil {
				return err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("after line %d: %w", number, err)
	}
	if len(entries) == 0 {
		return nil
	}
	_, err := send()
	return err
}

// pack makes a parcel of one JSON document. Transactions and batches go as
// they are; what else is a Bundle, or one resource, becomes a transaction.
func pack(text []byte) (parcel, error) {
	var b struct {
		ResourceType string        `json:"resourceType"`
		Type         string        `json:"type"`
		Entry        []bundleEntry `json:"entry"`
	}
	if err := json.Unmarshal(text, &b); err != nil {
		return parcel{}, errors.New("not the JSON of a resource")
	}
	if b.ResourceType != "Bundle" {
		b.Entry = []bundleEntry{{Resource: text}}
	}
	if b.Type == "transaction" || b.Type == "batch" {
		p := parcel{body: text, entries: len(b.Entry), again: true}
		for _, e := range b.Entry {
			p.again = p.again && e.Request != nil && (e.Request.Method != "POST" || e.Request.IfNoneExist != "") && e.Request.Method != "PATCH"
		}
		return p, nil
	}
	entries := make([]bundleEntry, 0, len(b.Entry))
	for i, e := range b.Entry {
		if e.Resource == nil {
			continue
		}
		e, err := entryOf(e)
		if err != nil {
			return parcel{}, fmt.Errorf("entry %d: %w", i, err)
		}
		entries = append(entries, e)
	}
	return bundleOf(entries)
}

// entryOf adds the request to an entry: a PUT under the id of the resource, or
// a POST if it has none.
func entryOf(e bundleEntry) (bundleEntry, error) {
	var r struct {
		ResourceType string `json:"resourceType"`
		ID           string `json:"id"`
	}
	if err := json.Unmarshal(e.Resource, &r); err != nil || r.ResourceType == "" {
		return e, errors.New("not the JSON of a resource")
	}
	if r.ID == "" {
		e.Request = &entryRequest{Method: "POST", URL: r.ResourceType}
		return e, nil
	}
	// The resource keeps its id, so that references to Type/id hold; a fullUrl
	// of another server would make the entry look like that server's.
	if !strings.HasPrefix(e.FullURL, "urn:") {
		e.FullURL = ""
	}
	e.Request = &entryRequest{Method: "PUT", URL: r.ResourceType + "/" + r.ID}
	return e, nil
}

// asBatch returns the entries of a transaction as a batch, in which none may
// refer to another by its fullUrl: what would be created and has an id is put
// there, and referred to by it.
func asBatch(bundle []byte) ([]byte, error) {
	var b struct {
		Entry []bundleEntry `json:"entry"`
	}
	if err := json.Unmarshal(bundle, &b); err != nil {
		return nil, fmt.Errorf("reading a Bundle: %w", err)
	}
	var names []string // of strings.NewReplacer: what is replaced, and by what
	for i, e := range b.Entry {
		if e.Request == nil || e.Resource == nil || e.Request.Method != "POST" && e.Request.Method != "PUT" || e.Request.IfNoneExist != "" {
			continue
		}
		put, err := entryOf(e)
		if err != nil || put.Request.Method != "PUT" || !strings.HasPrefix(e.FullURL, "urn:") {
			continue
		}
		names = append(names, strconv.Quote(e.FullURL), strconv.Quote(put.Request.URL))
		put.FullURL = ""
		b.Entry[i] = put
	}
	replacer := strings.NewReplacer(names...)
	for i := range b.Entry {
		b.Entry[i].Resource = json.RawMessage(replacer.Replace(string(b.Entry[i].Resource)))
	}
	return encodeBundle("batch", b.Entry)
}

func encodeBundle(kind string, entries []bundleEntry) ([]byte, error) {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false) // narrative keeps its bytes
	err := enc.Encode(struct {
		ResourceType string        `json:"resourceType"`
		Type         string        `json:"type"`
		Entry        []bundleEntry `json:"entry"`
	}{"Bundle", kind, entries})
	if err != nil {
		return nil, fmt.Errorf("making a Bundle: %w", err)
	}
	return body.Bytes(), nil
}

func bundleOf(entries []bundleEntry) (parcel, error) {
	body, err := encodeBundle("transaction", entries)
	if err != nil {
		return parcel{}, err
	}
	p := parcel{body: body, entries: len(entries), again: true, parts: true}
	for _, e := range entries {
		p.again = p.again && e.Request.Method == "PUT"
	}
	return p, nil
}
