package rest

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
)

// record makes sure that the request is in the audit trail.
func (c *call) record(ctx context.Context, resp *response) error {
	if c.refused.silent() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	e := audit.Entry{
		Recorded: c.begun, Interaction: c.req.does, Status: resp.status, Outcome: outcomeOf(resp.status),
		Origin: c.origin, Entity: c.req.ref, Type: c.req.ref.Type, Query: c.req.query,
	}
	if c.req.ref.ID == "" {
		e.Entity = fhir.Ref{}
	}
	if e.Interaction == "" && c.place.route != nil {
		e.Interaction = c.place.route.does
	}
	if c.grant != nil {
		e.Agent = c.grant.Agent()
	}
	if c.err != nil {
		e.Reason = clientError(c.err).Error()
	}
	if c.refused != nil {
		e.Reason = c.refused.report.String()
	}
	return c.DB.Record(ctx, c.grant, e)
}

// outcomeOf says how a request with the status ended.
func outcomeOf(status int) audit.Outcome {
	switch {
	case status < 400:
		return audit.Success
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return audit.Serious
	case status < 500:
		return audit.MinorFailure
	}
	return audit.MajorFailure
}

// origin says where a request came from.
func (s *server) origin(r *http.Request) audit.Origin {
	id, ok := requestID(r.Header)
	if !ok {
		id = rand.Text()
	}
	return audit.Origin{RequestID: id, Address: s.address(r), Method: method(r.Method) + " " + shape(r.URL.Path), Trail: audit.NewTrail()}
}

func (s *server) address(r *http.Request) string { return Address(s.TrustedProxies, r) }

// Address returns the IP address of the client: who holds the connection, or
// whom a trusted proxy names last.
func Address(proxies []netip.Prefix, r *http.Request) string {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	trusted := func(a netip.Addr) bool {
		return slices.ContainsFunc(proxies, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	client := peer.Addr().Unmap()
	named := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(named) - 1; i >= 0 && trusted(client); i-- {
		a, err := netip.ParseAddr(strings.TrimSpace(named[i]))
		if err != nil {
			break
		}
		client = a.Unmap()
	}
	return client.String()
}
