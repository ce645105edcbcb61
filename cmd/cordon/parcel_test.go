package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// urls returns the requests of a parcel's entries.
func urls(t *testing.T, p parcel) (all []string) {
	t.Helper()
	var b struct {
		Type  string
		Entry []struct{ Request struct{ Method, URL string } }
	}
	if err := json.Unmarshal(p.body, &b); err != nil {
		t.Fatalf("a parcel is not JSON: %v", err)
	}
	for _, e := range b.Entry {
		all = append(all, e.Request.Method+" "+e.Request.URL)
	}
	return all
}

func TestPack(t *testing.T) {
	for _, tt := range []struct {
		claim, text string
		want        []string
		again       bool
		parts       bool
	}{
		{"a transaction goes as it is, and only once if it creates",
			`{"resourceType":"Bundle","type":"transaction","entry":[{"resource":{"resourceType":"Patient"},"request":{"method":"POST","url":"Patient"}}]}`,
			[]string{"POST Patient"}, false, false},
		{"a transaction of updates may go again",
			`{"resourceType":"Bundle","type":"transaction","entry":[{"resource":{"resourceType":"Patient","id":"a"},"request":{"method":"PUT","url":"Patient/a"}}]}`,
			[]string{"PUT Patient/a"}, true, false},
		{"a conditional create may go again",
			`{"resourceType":"Bundle","type":"batch","entry":[{"resource":{"resourceType":"Patient"},"request":{"method":"POST","url":"Patient","ifNoneExist":"identifier=x"}}]}`,
			[]string{"POST Patient"}, true, false},
		{"a collection becomes a transaction of updates under the same ids",
			`{"resourceType":"Bundle","type":"collection","entry":[{"fullUrl":"https://other.example/Patient/a","resource":{"resourceType":"Patient","id":"a"}},{"resource":{"resourceType":"Basic","id":"b"}}]}`,
			[]string{"PUT Patient/a", "PUT Basic/b"}, true, true},
		{"a resource without an id is created",
			`{"resourceType":"Patient"}`,
			[]string{"POST Patient"}, false, true},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			p, err := pack([]byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, urls(t, p)); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
			if p.again != tt.again || p.parts != tt.parts || p.entries != len(tt.want) {
				t.Errorf("got again %t, parts %t, %d entries", p.again, p.parts, p.entries)
			}
		})
	}
}

func TestNarrativeKeepsItsBytes(t *testing.T) {
	div := `"<div xmlns=\"http://www.w3.org/1999/xhtml\">a &amp; b</div>"`
	p, err := pack([]byte(`{"resourceType":"Basic","id":"x","text":{"status":"generated","div":` + div + `}}`))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(p.body, []byte(div)) {
		t.Errorf("the narrative was rewritten: %s", p.body)
	}
}

func TestLinesAreSentInBundlesOfMany(t *testing.T) {
	var text strings.Builder
	for i := range perParcel + 10 {
		fmt.Fprintf(&text, "{\"resourceType\":\"Basic\",\"id\":\"b%d\"}\n\n", i)
	}
	dir := t.TempDir()
	plain := filepath.Join(dir, "Basic.ndjson")
	if err := os.WriteFile(plain, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	io.WriteString(z, text.String())
	z.Close()
	zipped := plain + ".gz"
	if err := os.WriteFile(zipped, packed.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{plain, zipped} {
		var sizes []int
		var counted bytes.Buffer
		for p, err := range parcels(file, &counted) {
			if err != nil {
				t.Fatal(err)
			}
			sizes = append(sizes, p.entries)
		}
		if diff := cmp.Diff([]int{perParcel, 10}, sizes); diff != "" {
			t.Errorf("%s: entries (-want +got):\n%s", filepath.Base(file), diff)
		}
		if info, err := os.Stat(file); err != nil || int64(counted.Len()) != info.Size() {
			t.Errorf("%s: progress counted %d bytes", filepath.Base(file), counted.Len())
		}
	}
}

func TestAFaultyFileIsNamedWithItsLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.ndjson")
	if err := os.WriteFile(file, []byte("{\"resourceType\":\"Basic\"}\nsecret words\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, err := range parcels(file, io.Discard) {
		if err != nil {
			if !strings.Contains(err.Error(), "line 2") || strings.Contains(err.Error(), "secret") {
				t.Errorf("got %v", err)
			}
			return
		}
	}
	t.Error("no fault was found")
}

func TestEntriesSentApartReferToEachOtherById(t *testing.T) {
	got, err := asBatch([]byte(`{"resourceType":"Bundle","type":"transaction","entry":[
		{"fullUrl":"urn:uuid:1","resource":{"resourceType":"Patient","id":"p"},"request":{"method":"POST","url":"Patient"}},
		{"fullUrl":"urn:uuid:2","resource":{"resourceType":"Observation","id":"o","subject":{"reference":"urn:uuid:1"}},"request":{"method":"POST","url":"Observation"}},
		{"request":{"method":"DELETE","url":"Patient/gone"}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"resourceType":"Bundle","type":"batch","entry":[` +
		`{"resource":{"resourceType":"Patient","id":"p"},"request":{"method":"PUT","url":"Patient/p"}},` +
		`{"resource":{"resourceType":"Observation","id":"o","subject":{"reference":"Patient/p"}},"request":{"method":"PUT","url":"Observation/o"}},` +
		`{"request":{"method":"DELETE","url":"Patient/gone"}}]}` + "\n"
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
