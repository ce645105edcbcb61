package subscriptions

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	random "math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/outbound"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/tenant"
)

const (
	// maxTurns is how often the delivery of an event is tried. With doubling waits of
	// at most an hour that is about nine hours.
	maxTurns = 20
	maxWait  = time.Hour
	// maxAnswer bounds what is read of an answer, which is of no interest.
	maxAnswer = 64 << 10
	// maxBacklog bounds the events that wait for one subscriber.
	maxBacklog = 100_000
)

// Why a subscription is not told any more, for its status.
const (
	whyEnded    = "the subscriber may not subscribe any more: the token, the client or its rights are gone"
	whyTooMany  = "more events wait than are kept for a subscriber"
	whyNotOpen  = "the endpoint is not one that the tenant's operator admits"
	whySilent   = "the endpoint cannot be reached, or does not answer in time"
	whyAnswered = "the endpoint answers with the status "
)

var payloads = map[string]store.Told{"empty": store.ToldEmpty, "id-only": store.ToldIDs, "full-resource": store.ToldFull}

// deliver tells a subscriber what waits for it: the handshake, events or that all is
// well. Whatever it is, its Grant is earned first.
func (w *Worker) deliver(ctx context.Context, t *tenant.Tenant, s store.Subscription) error {
	f, err := newFollower(w.Base(t.Slug.String()), s)
	if err != nil {
		return w.DB.SetStatus(ctx, s, "error", whyEnded, 0)
	}
	g, over, err := w.stands(ctx, t, f)
	if over || err != nil {
		return err
	}
	n, upTo, err := w.notification(ctx, g, f)
	if err != nil {
		return errors.Join(err, w.DB.Undelivered(context.WithoutCancel(ctx), s, backoff(s.Turns)))
	}
	why := w.send(ctx, f, n.bundle())
	if ctx.Err() != nil {
		return nil // its lease runs out, and it is told again
	}
	period := time.Duration(f.Heartbeat) * time.Second
	switch {
	case why == "" && !s.Active:
		return w.DB.SetStatus(ctx, s, "active", "", period)
	case why == "":
		return w.DB.Delivered(ctx, s, upTo, period)
	case !s.Active || s.Turns >= maxTurns:
		return w.DB.SetStatus(ctx, s, "error", why, 0)
	}
	w.Log.Warn("telling a subscriber", oplog.Tenant(t.Slug.String()), oplog.Number("attempt", s.Turns+1))
	return w.DB.Undelivered(ctx, s, backoff(s.Turns))
}

// backoff is how long to wait after so many attempts, give or take a half.
func backoff(turns int) time.Duration {
	d := min(maxWait, time.Second<<min(turns, 20))
	return d/2 + random.N(d)
}

// stands earns the Grant of the subscriber again, and ends the subscription if there is
// none, if its time is over or if it cannot be told any more. over says that it did.
func (w *Worker) stands(ctx context.Context, t *tenant.Tenant, f *follower) (g *smart.Grant, over bool, err error) {
	g, err = w.Verifier.Resume(ctx, t, f.Grant, audit.Origin{RequestID: rand.Text(), Method: "JOB", Trail: audit.NewTrail()})
	status, why := "error", ""
	switch {
	case fhir.IsCode(err, fhir.Login), fhir.IsCode(err, fhir.Forbidden):
		why = whyEnded
	case err != nil:
		return nil, false, err
	case g.Tenant().Settings.Export.Deidentifies(g.Agent().Client): // it gets nothing else by now
		why = whyEnded
	case !f.End.IsZero() && time.Now().After(f.End):
		status = "off"
	case !g.Tenant().Settings.Subscriptions.Admits(f.Endpoint):
		why = whyNotOpen
	case f.Events-f.Told > maxBacklog:
		why = whyTooMany
	default:
		return g, false, nil
	}
	return nil, true, w.DB.SetStatus(ctx, f.Subscription, status, why, 0)
}

// notification makes what a subscriber is to be told now, up to the event with the number.
func (w *Worker) notification(ctx context.Context, g *smart.Grant, f *follower) (n *notification, upTo int64, err error) {
	n = &notification{base: w.Base(g.Tenant().Slug.String()), ref: f.Ref, kind: Handshake, status: "requested", topic: f.Topic, how: payloads[f.Content], count: f.Events, at: time.Now()}
	if !f.Active {
		return n, 0, nil
	}
	if n.kind, n.status = Heartbeat, "active"; f.Events == f.Told {
		return n, f.Told, nil
	}
	n.kind = Events
	if n.events, err = w.DB.Events(ctx, g, f.Subscription, f.queries, f.Told+1, store.End, f.AtOnce, n.how, "delivering"); err != nil {
		return nil, 0, err
	}
	if len(n.events) == 0 {
		return nil, 0, errors.New("subscriptions: events are counted that are not there")
	}
	return n, n.events[len(n.events)-1].N, nil
}

// send posts the notification, and returns why it was not taken, "" if it was.
func (w *Worker) send(ctx context.Context, f *follower, body []byte) (why string) {
	timeout := time.Duration(f.Timeout) * time.Second
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, f.Endpoint, bytes.NewReader(body))
	if err != nil {
		return whyNotOpen
	}
	for _, h := range f.Header {
		name, value, _ := strings.Cut(h, ":")
		req.Header.Add(name, value)
	}
	req.Header.Set("Content-Type", "application/fhir+json")
	client := outbound.Client(outbound.Config{URL: f.Endpoint, Private: w.Networks, Timeout: timeout, Conns: 1, MaxAnswer: maxAnswer})
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return whySilent
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return whyAnswered + strconv.Itoa(resp.StatusCode)
	}
	_, _ = io.Copy(io.Discard, resp.Body) // it was taken, whatever else it says
	return ""
}
