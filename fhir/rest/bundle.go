package rest

import (
	"net/http"
	"strconv"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
)

// instant is how FHIR writes a time, to the millisecond and in UTC.
// https://hl7.org/fhir/R4/datatypes.html#instant
const instant = "2006-01-02T15:04:05.000Z"

// A bundle is a Bundle in the making. Resources go into it as the bytes that
// the store keeps.
// https://hl7.org/fhir/R4/bundle.html
type bundle struct {
	json    []byte
	entries int
}

// newBundle begins a Bundle of the type.
func newBundle(kind string, now time.Time) *bundle {
	b := &bundle{json: make([]byte, 0, 8<<10)}
	b.raw(`{"resourceType":"Bundle","type":"`).raw(kind).raw(`","timestamp":"`).raw(now.UTC().Format(instant)).raw(`"`)
	return b
}

func (b *bundle) raw(s string) *bundle {
	b.json = append(b.json, s...)
	return b
}

func (b *bundle) text(s string) *bundle {
	b.json = quote(b.json, s)
	return b
}

func (b *bundle) total(n int) {
	b.raw(`,"total":`).raw(strconv.Itoa(n))
}

// A link relates a page to others.
// https://hl7.org/fhir/R4/http.html#paging
type link struct{ relation, url string }

func (b *bundle) links(links ...link) {
	for i, l := range links {
		b.raw([]string{`,"link":[`, `,`}[min(i, 1)])
		b.raw(`{"relation":"`).raw(l.relation).raw(`","url":`).text(l.url).raw(`}`)
	}
	b.raw(`]`)
}

// entry begins the next entry and returns b, to be followed by members, each
// with a comma after it, and by end.
func (b *bundle) entry() *bundle {
	b.raw([]string{`,"entry":[{`, `,{`}[min(b.entries, 1)])
	b.entries++
	return b
}

func (b *bundle) fullURL(base string, ref fhir.Ref) *bundle {
	return b.raw(`"fullUrl":`).text(base + "/" + ref.String()).raw(`,`)
}

func (b *bundle) resource(body []byte) *bundle {
	b.raw(`"resource":`)
	b.json = append(b.json, body...)
	return b.raw(`,`)
}

func (b *bundle) request(method, url string) *bundle {
	return b.raw(`"request":{"method":"`).raw(method).raw(`","url":`).text(url).raw(`},`)
}

// response tells how an entry of a batch, transaction or history ended.
func (b *bundle) response(r *response) *bundle {
	b.raw(`"response":{"status":"`).raw(strconv.Itoa(r.status) + " " + http.StatusText(r.status)).raw(`"`)
	if r.location != "" {
		b.raw(`,"location":`).text(r.location)
	}
	if r.version.Version != 0 {
		b.raw(`,"etag":`).text(r.version.ETag())
		b.raw(`,"lastModified":"`).raw(r.version.Updated.UTC().Format(instant)).raw(`"`)
	}
	if r.isOutcome() {
		b.raw(`,"outcome":`)
		b.json = append(b.json, r.body...)
	}
	return b.raw(`},`)
}

// isOutcome reports whether the body of r is an OperationOutcome.
func (r *response) isOutcome() bool {
	return r.body != nil && (r.status >= 400 || r.applied == "OperationOutcome")
}

func (b *bundle) mode(mode string) *bundle {
	return b.raw(`"search":{"mode":"`).raw(mode).raw(`"},`)
}

// end ends an entry.
func (b *bundle) end() { b.json[len(b.json)-1] = '}' }

// bytes ends the Bundle and returns its JSON.
func (b *bundle) bytes() []byte {
	if b.entries > 0 {
		b.raw(`]`)
	}
	return append(b.json, '}')
}
