package subscriptions

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/store"
)

// The types of notifications.
// https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/notifications.html
const (
	Handshake   = "handshake"
	Heartbeat   = "heartbeat"
	Events      = "event-notification"
	QueryStatus = "query-status"
	QueryEvents = "query-event"
)

// A notification is a Bundle for a subscriber.
type notification struct {
	base   string
	ref    fhir.Ref
	kind   string
	status string
	topic  string
	how    store.Told
	count  int64 // of all events
	events []store.Event
	why    string // the status is error
	at     time.Time
}

// instant is how FHIR writes a time.
// https://hl7.org/fhir/R4/datatypes.html#instant
const instant = "2006-01-02T15:04:05.000Z"

func quote(s string) string {
	b, err := jsontext.AppendQuote(nil, s)
	if err != nil {
		return `""`
	}
	return string(b)
}

// parameters is the status of the subscription, in the form of R4.
// https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/StructureDefinition-backport-subscription-status-r4.html
func (n *notification) parameters() []byte {
	b := []byte(`{"resourceType":"Parameters","meta":{"profile":["` + backport + `backport-subscription-status-r4"]},"parameter":[`)
	add := func(format string, args ...any) { b = fmt.Appendf(b, format, args...) }
	add(`{"name":"subscription","valueReference":{"reference":%s}}`, quote(n.base+"/"+n.ref.String()))
	if n.how != store.ToldEmpty || n.kind == QueryStatus {
		add(`,{"name":"topic","valueCanonical":%s}`, quote(n.topic))
	}
	add(`,{"name":"status","valueCode":"%s"},{"name":"type","valueCode":"%s"}`, n.status, n.kind)
	add(`,{"name":"events-since-subscription-start","valueString":"%d"}`, n.count)
	for _, e := range n.events {
		add(`,{"name":"notification-event","part":[{"name":"event-number","valueString":"%d"}`, e.N)
		if !e.Hidden() {
			add(`,{"name":"timestamp","valueInstant":"%s"}`, e.At.Format(instant))
			if n.how != store.ToldEmpty {
				add(`,{"name":"focus","valueReference":{"reference":%s}}`, quote(n.base+"/"+e.Ref.String()))
			}
		}
		add(`]}`)
	}
	if n.why != "" {
		add(`,{"name":"error","valueCodeableConcept":{"text":%s}}`, quote(n.why))
	}
	return append(b, `]}`...)
}

// bundle is the notification.
func (n *notification) bundle() []byte {
	b := fmt.Appendf(nil, `{"resourceType":"Bundle","meta":{"profile":["%sbackport-subscription-notification-r4"]},"type":"history","timestamp":"%s","entry":[`, backport, n.at.UTC().Format(instant))
	b = fmt.Appendf(b, `{"fullUrl":"urn:uuid:%s","resource":`, store.NewID())
	b = append(b, n.parameters()...)
	b = fmt.Appendf(b, `,"request":{"method":"GET","url":%s},"response":{"status":"200"}}`, quote(n.base+"/"+n.ref.String()+"/$status"))
	if n.how != store.ToldEmpty {
		for _, e := range n.events {
			if !e.Hidden() {
				b = n.entry(b, e)
			}
		}
	}
	return append(b, `]}`...)
}

// methods are the requests of a history, and the status of their answers.
var methods = map[fhir.Interaction]struct {
	name   string
	status int
}{
	fhir.Create: {http.MethodPost, http.StatusCreated},
	fhir.Update: {http.MethodPut, http.StatusOK},
	fhir.Delete: {http.MethodDelete, http.StatusNoContent},
}

func (n *notification) entry(b []byte, e store.Event) []byte {
	m, url := methods[e.Op], e.Ref.String()
	if e.Op == fhir.Create {
		url = string(e.Ref.Type)
	}
	b = fmt.Appendf(b, `,{"fullUrl":%s`, quote(n.base+"/"+e.Ref.String()))
	if e.Resource != nil {
		b = append(append(b, `,"resource":`...), e.Resource.Body...)
	}
	return fmt.Appendf(b, `,"request":{"method":"%s","url":%s},"response":{"status":"%s","etag":%s,"lastModified":"%s"}}`,
		m.name, quote(url), strconv.Itoa(m.status), quote(fhir.ETag(e.Version)), e.At.Format(instant))
}
