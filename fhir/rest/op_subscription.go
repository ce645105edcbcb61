package rest

import (
	"context"
	"net/http"
	"slices"
	"strconv"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/subscriptions"
)

const subscriptionDefinitions = "http://hl7.org/fhir/uv/subscriptions-backport/OperationDefinition/"

// subscriptionOperations tell a subscriber how its subscriptions are, and of events
// again.
// https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/operations.html
var subscriptionOperations = []operation{
	{
		name: "status", url: subscriptionDefinitions + "backport-subscription-status", level: onType | onInstance, on: []fhir.Type{"Subscription"},
		in: []parameter{{name: "id", typ: "id"}, {name: "status", typ: "code"}}, whole: subscriptionStatus,
	},
	{
		name: "events", url: subscriptionDefinitions + "backport-subscription-events", level: onInstance, on: []fhir.Type{"Subscription"},
		in:    []parameter{{name: "eventsSinceNumber", typ: "string", max: 1}, {name: "eventsUntilNumber", typ: "string", max: 1}, {name: "content", typ: "code", max: 1}},
		whole: subscriptionEvents,
	},
}

// mine returns the subscriptions of who asks, and of nobody else.
func (req *request) mine(ctx context.Context, s *server, ids []string, doing string) ([]store.Subscription, error) {
	if _, err := req.grant.Permit(fhir.Read, "Subscription"); err != nil {
		return nil, err
	}
	list, err := s.DB.MySubscriptions(ctx, req.grant, ids, doing)
	if err == nil && req.ref.ID != "" && len(list) == 0 {
		err = fhir.Errorf(fhir.NotFound, "%s is not known", req.ref)
	}
	return list, err
}

func subscriptionStatus(ctx context.Context, s *server, req *request) (*response, error) {
	ids := req.in.texts("id")
	if req.ref.ID != "" {
		ids = []string{req.ref.ID}
	}
	list, err := req.mine(ctx, s, ids, "$status")
	if err != nil {
		return nil, err
	}
	b := newBundle("searchset", req.now())
	var shown [][]byte
	for _, x := range list {
		if want := req.in.texts("status"); len(want) > 0 && !slices.Contains(want, subscriptions.Status(x)) {
			continue
		}
		p, err := subscriptions.StatusOf(req.base, x)
		if err != nil {
			return nil, err
		}
		shown = append(shown, p)
	}
	b.total(len(shown))
	for _, p := range shown {
		b.entry().raw(`"fullUrl":"urn:uuid:` + store.NewID() + `",`).resource(p).mode("match").end()
	}
	return &response{status: http.StatusOK, body: b.bytes()}, nil
}

func subscriptionEvents(ctx context.Context, s *server, req *request) (*response, error) {
	from, err := req.eventNumber("eventsSinceNumber", 1)
	if err != nil {
		return nil, err
	}
	upTo, err := req.eventNumber("eventsUntilNumber", store.End)
	if err != nil {
		return nil, err
	}
	list, err := req.mine(ctx, s, []string{req.ref.ID}, "$events")
	if err != nil {
		return nil, err
	}
	body, err := subscriptions.EventsOf(ctx, s.DB, req.grant.Entry(), req.base, list[0], from, upTo, req.in.text("content"))
	if err != nil {
		return nil, err
	}
	return &response{status: http.StatusOK, body: body}, nil
}

// eventNumber reads the number of an event, which R4 has in a string.
func (req *request) eventNumber(name string, otherwise int64) (int64, error) {
	text := req.in.text(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, fhir.Errorf(fhir.Invalid, "parameter %s is the number of an event", name)
	}
	return n, nil
}
