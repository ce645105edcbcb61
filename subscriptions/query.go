package subscriptions

import (
	"context"
	"fmt"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
)

// Status returns the code of the status of s.
// https://hl7.org/fhir/R4/valueset-subscription-status.html
func Status(s store.Subscription) string {
	switch {
	case s.Active:
		return "active"
	case s.Failed:
		return "error"
	}
	return "requested"
}

// StatusOf is what $status answers of s: a Parameters resource.
// https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/OperationDefinition-backport-subscription-status.html
func StatusOf(base string, s store.Subscription) ([]byte, error) {
	f, err := newFollower(base, s)
	if err != nil {
		return nil, fmt.Errorf("reading a subscription: %w", err)
	}
	n := notification{base: base, ref: s.Ref, kind: QueryStatus, status: Status(s), topic: f.Topic, count: s.Events}
	return n.parameters(), nil
}

// maxQueried bounds the events of one answer.
const maxQueried = 100

// EventsOf is what $events answers of s to its subscriber g: a Bundle of the events from
// a number up to another, as they may be seen now. content "" is that of the channel.
// https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/OperationDefinition-backport-subscription-events.html
func EventsOf(ctx context.Context, db *store.DB, g *smart.Grant, base string, s store.Subscription, from, upTo int64, content string) ([]byte, error) {
	f, err := newFollower(base, s)
	if err != nil {
		return nil, fmt.Errorf("reading a subscription: %w", err)
	}
	if content == "" {
		content = f.Content
	}
	how, ok := payloads[content]
	if !ok {
		return nil, fhir.Errorf(fhir.Invalid, "parameter content is empty, id-only or full-resource")
	}
	n := notification{base: base, ref: s.Ref, kind: QueryEvents, status: Status(s), topic: f.Topic, how: how, count: s.Events, at: time.Now()}
	if n.events, err = db.Events(ctx, g, s, f.queries, from, upTo, maxQueried, how, "$events"); err != nil {
		return nil, err
	}
	return n.bundle(), nil
}
