package subscriptions

import (
	"bytes"
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/tenant"
)

// Profile is what a Subscription to a topic conforms to.
// https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/StructureDefinition-backport-subscription.html
const Profile = backport + "backport-subscription"

const backport = "http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/"

// The extensions that are understood.
const (
	filterCriteria  = backport + "backport-filter-criteria"
	payloadContent  = backport + "backport-payload-content"
	heartbeatPeriod = backport + "backport-heartbeat-period"
	timeoutOf       = backport + "backport-timeout"
	maxCount        = backport + "backport-max-count"
)

// Bounds of a Subscription.
const (
	maxFilters  = 20
	maxHeaders  = 20
	maxHeader   = 4 << 10 // bytes
	maxTimeout  = 10      // seconds
	mostAtOnce  = 100
	usualAtOnce = 20
	minPeriod   = 5 // seconds
)

// A kept Subscription is what the server needs to tell its subscriber.
type kept struct {
	Grant     []byte    `json:"grant"` // the name of the subscriber's
	Topic     string    `json:"topic"`
	Filters   []string  `json:"filters,omitempty"`
	Endpoint  string    `json:"endpoint"`
	Header    []string  `json:"header,omitempty"`
	Content   string    `json:"content"`
	Heartbeat int       `json:"heartbeat,omitzero"` // seconds
	Timeout   int       `json:"timeout"`            // seconds
	AtOnce    int       `json:"atOnce"`             // events
	End       time.Time `json:"end,omitzero"`
}

type extension struct {
	URL      string         `json:"url"`
	String   *string        `json:"valueString"`
	Code     *string        `json:"valueCode"`
	Unsigned *int           `json:"valueUnsignedInt"`
	Positive *int           `json:"valuePositiveInt"`
	Rest     jsontext.Value `json:",inline"`
}

type extended struct {
	Extension []extension    `json:"extension"`
	Rest      jsontext.Value `json:",inline"`
}

// A sent Subscription is what its client wrote.
type sent struct {
	Status    string      `json:"status"`
	End       time.Time   `json:"end"`
	Criteria  string      `json:"criteria"`
	MoreOf    extended    `json:"_criteria"`
	Extension []extension `json:"extension"`
	Modifier  []extension `json:"modifierExtension"`
	Channel   struct {
		Type      string      `json:"type"`
		TypeMore  extended    `json:"_type"`
		Endpoint  string      `json:"endpoint"`
		Payload   string      `json:"payload"`
		MoreOf    extended    `json:"_payload"`
		Header    []string    `json:"header"`
		Extension []extension `json:"extension"`
		Modifier  []extension `json:"modifierExtension"`
	} `json:"channel"`
}

// Where is where and for whom a Subscription is.
type Where struct {
	Base      string // the FHIR base of the tenant
	Endpoints tenant.Subscriptions
	Grant     func() ([]byte, error) // the name of the subscriber's
}

// Read reads a Subscription that is about to be stored. before is what was kept of it
// for the same subscriber. The error is for the client: what is not supported is
// refused, and the place told.
func Read(d *fhir.Document, w Where, before []byte) (store.Wanted, error) {
	var s sent
	if err := json.Unmarshal(d.JSON, &s); err != nil {
		return store.Wanted{}, refused(fhir.Value, "", "the Subscription cannot be read")
	}
	out := store.Wanted{}
	var err error
	if out.Document, err = withoutHeader(d); err != nil {
		return out, err
	}
	switch s.Status {
	case "requested":
	case "off":
		out.Off = true
		return out, nil
	default:
		return out, refused(fhir.BusinessRule, "status", "a client asks with the status requested, or ends with off; the others are for the server to say")
	}
	k := kept{End: s.End, Timeout: maxTimeout, AtOnce: usualAtOnce}
	if err := s.known(); err != nil {
		return out, err
	}
	if out.Queries, err = k.criteria(&s, w.Base); err != nil {
		return out, err
	}
	if err := k.channel(&s, w.Endpoints); err != nil {
		return out, err
	}
	if !s.End.IsZero() && !s.End.After(time.Now()) {
		return out, refused(fhir.BusinessRule, "end", "the end is over")
	}
	if len(k.Header) == 0 { // nobody is shown them, so nobody can send them again
		var was kept
		if before != nil && json.Unmarshal(before, &was) == nil && was.Endpoint == k.Endpoint {
			k.Header = was.Header
		}
	}
	if k.Grant, err = w.Grant(); err != nil {
		return out, err
	}
	out.Kept, err = json.Marshal(k)
	return out, err
}

func refused(code fhir.IssueCode, place, format string, args ...any) error {
	if place != "" {
		place = "." + place
	}
	return fhir.Errorf(code, format, args...).At("Subscription" + place).WithStatus(http.StatusUnprocessableEntity)
}

// known refuses what would change the meaning and is not understood.
func (s *sent) known() error {
	if len(s.Modifier) > 0 || len(s.Channel.Modifier) > 0 {
		return refused(fhir.NotSupported, "modifierExtension", "the Subscription has a modifier extension, and none is supported")
	}
	if len(s.Channel.TypeMore.Extension) > 0 {
		return refused(fhir.NotSupported, "channel.type.extension", "no other type of channel is supported")
	}
	for _, e := range s.Extension {
		if strings.HasPrefix(e.URL, backport) || strings.HasPrefix(e.URL, "http://hl7.org/fhir/5.0/") || strings.HasPrefix(e.URL, "http://hl7.org/fhir/4.3/") {
			return refused(fhir.NotSupported, "extension", "the extension is not supported here; the Subscription is one of R4, with the extensions of the Backport guide")
		}
	}
	return nil
}

// criteria reads the topic and the filters.
func (k *kept) criteria(s *sent, base string) ([]*search.Query, error) {
	t := topics[s.Criteria]
	if t == nil {
		return nil, refused(fhir.NotSupported, "criteria", "the criteria have to be the canonical URL of a topic that the CapabilityStatement names")
	}
	k.Topic = s.Criteria
	for i, e := range s.MoreOf.Extension {
		place := fmt.Sprintf("criteria.extension[%d]", i)
		if e.URL != filterCriteria {
			return nil, refused(fhir.NotSupported, place, "the extension is not supported")
		}
		if e.String == nil || *e.String == "" || i >= maxFilters {
			return nil, refused(fhir.Value, place, "a filter is a text, and there are at most %d", maxFilters)
		}
		k.Filters = append(k.Filters, *e.String)
	}
	queries, place, err := k.queries(base)
	if err != nil {
		return nil, refused(fhir.NotSupported, "criteria.extension["+place+"]", "%s", err)
	}
	return queries, nil
}

// channel reads how the subscriber is told.
func (k *kept) channel(s *sent, endpoints tenant.Subscriptions) error {
	c := &s.Channel
	if c.Type != "rest-hook" {
		return refused(fhir.NotSupported, "channel.type", "the only type of channel that is supported is rest-hook")
	}
	if !endpoints.Admits(c.Endpoint) {
		return refused(fhir.BusinessRule, "channel.endpoint", "the endpoint is not one that the tenant's operator has admitted; it has to be https, without user and query")
	}
	if c.Payload != "application/fhir+json" {
		return refused(fhir.NotSupported, "channel.payload", "the only payload that is supported is application/fhir+json")
	}
	k.Endpoint = c.Endpoint
	if len(c.MoreOf.Extension) != 1 || c.MoreOf.Extension[0].URL != payloadContent || c.MoreOf.Extension[0].Code == nil {
		return refused(fhir.Required, "channel.payload.extension", "the payload has to have one extension, backport-payload-content")
	}
	if k.Content = *c.MoreOf.Extension[0].Code; !slices.Contains([]string{"empty", "id-only", "full-resource"}, k.Content) {
		return refused(fhir.CodeInvalid, "channel.payload.extension[0]", "the content is empty, id-only or full-resource")
	}
	if err := k.headers(c.Header); err != nil {
		return err
	}
	for i, e := range c.Extension {
		if err := k.bound(e); err != nil {
			return refused(fhir.NotSupported, fmt.Sprintf("channel.extension[%d]", i), "%s", err)
		}
	}
	return nil
}

// bound reads one of the numbers of a channel.
func (k *kept) bound(e extension) error {
	n := e.Unsigned
	if n == nil {
		n = e.Positive
	}
	within := func(least, most int) bool { return n != nil && *n >= least && *n <= most }
	switch {
	case e.URL == heartbeatPeriod && within(minPeriod, 1<<30):
		k.Heartbeat = *n
	case e.URL == timeoutOf && within(1, 1<<30):
		k.Timeout = min(*n, maxTimeout)
	case e.URL == maxCount && within(1, 1<<30):
		k.AtOnce = min(*n, mostAtOnce)
	case e.URL == heartbeatPeriod:
		return fmt.Errorf("a period is at least %d seconds", minPeriod)
	case e.URL == timeoutOf || e.URL == maxCount:
		return fmt.Errorf("the number has to be positive")
	default:
		return fmt.Errorf("the extension is not supported")
	}
	return nil
}

// ours are headers that the server sets.
var ours = []string{"Host", "Content-Length", "Content-Type", "Content-Encoding", "Transfer-Encoding", "Connection", "Te", "Trailer", "Upgrade", "Expect"}

func (k *kept) headers(list []string) error {
	if len(list) > maxHeaders {
		return refused(fhir.TooCostly, "channel.header", "there are at most %d headers", maxHeaders)
	}
	for i, h := range list {
		name, value, ok := strings.Cut(h, ":")
		if value = strings.TrimSpace(value); !ok || len(h) > maxHeader || !headerName(name) || !headerValue(value) ||
			slices.Contains(ours, textproto.CanonicalMIMEHeaderKey(name)) {
			return refused(fhir.Value, fmt.Sprintf("channel.header[%d]", i), "a header is a name, a colon and a value, and not one that the server sets")
		}
		k.Header = append(k.Header, name+":"+value)
	}
	return nil
}

// headerName reports whether s is a token.
// https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2
func headerName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune("\"(),/:;<=>?@[\\]{}", r)
	})
}

// headerValue reports whether s is in visible ASCII.
func headerValue(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

// withoutHeader returns the Subscription without channel.header: it may hold what
// nobody but the endpoint is to see.
func withoutHeader(d *fhir.Document) (*fhir.Document, error) {
	if len(d.Tree.GetArray("channel", "header"))+len(d.Tree.GetArray("channel", "_header")) == 0 {
		return d, nil
	}
	body := change(d.JSON, func(name string, value []byte) []byte {
		if name != "channel" {
			return value
		}
		return change(value, func(name string, value []byte) []byte {
			if name == "header" || name == "_header" {
				return nil
			}
			return value
		})
	})
	return fhir.Parse(body, fhir.Limits{Bytes: len(d.JSON)})
}

// change returns the object with what f makes of its members; without those of which
// it makes nothing.
func change(object []byte, f func(name string, value []byte) []byte) []byte {
	var b bytes.Buffer
	b.WriteByte('{')
	for name, value := range fhir.Members(object) {
		if value = f(string(name), value); value == nil {
			continue
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"%s":%s`, name, value)
	}
	b.WriteByte('}')
	return b.Bytes()
}
