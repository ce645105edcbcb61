package rest

import (
	"context"
	"crypto/rand"
	"errors"
	"strconv"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/limit"
	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/smart"
)

// A refusal is why a request is answered 429, or 503 when its turn did not come. Nothing
// was read or written for it, so the trail lacks nothing if it has one entry for
// many of them; see limit.Report.
type refusal struct {
	wait   time.Duration
	report limit.Report
}

// retryAfter is the seconds after which to try again.
func (r *refusal) retryAfter() string {
	if r == nil {
		return "1"
	}
	return limit.RetryAfter(r.wait)
}

// silent reports whether a later entry tells of the refusal.
func (r *refusal) silent() bool { return r != nil && !r.report.Write }

func (c *call) refuse(wait time.Duration, report limit.Report) error {
	if wait == 0 {
		return nil
	}
	c.refused = &refusal{wait, report}
	return fhir.Errorf(fhir.Throttled, "too many requests")
}

// stranger refuses a request that has yet to prove whose it is, if too many from
// its address did not. Who was here before with the same token is not held up
// by what others do behind the same address.
func (c *call) stranger(token string) error {
	address := c.origin.Address
	wait := c.Limit.Stranger(address)
	if wait == 0 || c.Verifier.Remembers(c.place.tenant, token) {
		return nil
	}
	return c.refuse(wait, c.Limit.Refused(address))
}

// limit counts the request, and refuses it if its client makes too many.
func (c *call) limit() error {
	if c.grant == nil || c.grant.Tenant() == nil {
		return nil
	}
	return c.refuse(c.Limit.Take(c.grant.Tenant(), whoAsks(c.grant)))
}

// takeTurn waits until the tenant may have one more request in work, which has
// arrived as a whole by then: who sends slowly keeps nobody waiting.
func (c *call) takeTurn(ctx context.Context) error {
	if c.again != nil { // it was taken up
		return c.nextTurn(ctx)
	}
	done, report, err := c.Limit.Turn(ctx, c.grant.Tenant(), whoAsks(c.grant))
	if err != nil {
		c.refused = &refusal{time.Second, report}
	}
	switch {
	case errors.Is(err, limit.ErrFull):
		return fhir.Errorf(fhir.Throttled, "too many requests of this tenant are under way, try again")
	case err != nil: // the tenant asks too much, or what it asks hangs
		return fhir.Errorf(fhir.Transient, "other requests of this tenant did not end in time, try again")
	}
	c.done = done
	return nil
}

// nextTurn is takeTurn for a request that is not refused any more: some of what it
// asks may have been done, or it has waited for long.
func (c *call) nextTurn(ctx context.Context) (err error) {
	c.done, err = c.Limit.LaterTurn(ctx, c.grant.Tenant())
	return err
}

// endTurn lets another request be worked on.
func (c *call) endTurn() {
	if c.done != nil {
		c.done()
		c.done = nil
	}
}

// away does work that waits for others than the database, without a turn. If who asks
// may not any more it stops the request.
func (c *call) away(ctx context.Context, work func()) error {
	c.endTurn()
	work()
	err := c.nextTurn(ctx)
	if err == nil {
		_, err = c.earned(ctx)
	}
	if err != nil {
		c.stop(err)
	}
	return err
}

func whoAsks(g *smart.Grant) limit.Who {
	return limit.Who{Client: g.Agent().Client, User: g.Agent().User}
}

// spend counts what the answer took.
func (c *call) spend(resp *response) {
	switch {
	case c.refused != nil:
	case c.grant == nil || c.grant.Tenant() == nil:
		c.Limit.Failed(c.origin.Address)
	default:
		c.Limit.Spend(c.grant.Tenant(), whoAsks(c.grant), cost(c.req.does, c.took, len(resp.body)))
	}
}

// What bytes take, in bytes that take as much as reading a resource: those that
// are received are parsed, indexed and stored.
const (
	receivedPerUnit = 2 << 10
	answeredPerUnit = 16 << 10
)

// cost is about how much the server has to do, in what reading a resource by its
// id takes. It follows from the request and the answer alone, never from the
// time, which would tell of what others do.
func cost(does fhir.Interaction, received, answered int) int {
	n := 1
	switch does {
	case fhir.SearchType, fhir.SearchSystem, fhir.HistoryInstance, fhir.HistoryType, fhir.HistorySystem:
		n = 3
	case fhir.Create, fhir.Update, fhir.Patch, fhir.Delete:
		n = 3
	case fhir.Operation:
		n = 5
	}
	return n + received/receivedPerUnit + answered/answeredPerUnit
}

// TellRefusals writes, each second until ctx is done and once more then, an
// entry for the refused requests that have none.
func (h *Handler) TellRefusals(ctx context.Context) {
	var owed []limit.Refusals
	for last := false; !last; {
		select {
		case <-ctx.Done():
			last = true
		case <-time.After(time.Second):
		}
		if len(owed) == 0 { // else the Limiter goes on counting, until those are written
			owed = h.server.Limit.Unsaid(last)
		}
		owed = h.server.tell(context.WithoutCancel(ctx), owed)
	}
}

// tell writes an entry for each, and returns those for which that failed.
func (s *server) tell(ctx context.Context, list []limit.Refusals) (failed []limit.Refusals) {
	for _, r := range list {
		origin := audit.Origin{RequestID: rand.Text(), Address: r.Address, Method: "?", Trail: audit.NewTrail()}
		e := audit.Entry{Interaction: fhir.Operation, Outcome: audit.MinorFailure, Status: 429, Origin: origin,
			Reason: "too many requests; " + strconv.Itoa(r.Count) + " refused, each without an entry"}
		var g *smart.Grant
		if r.Tenant != nil {
			g = smart.Denied(r.Tenant, audit.Agent{Client: r.Who.Client, User: r.Who.User}, origin)
		}
		if err := s.DB.Record(ctx, g, e); err != nil {
			s.Log.Error("auditing refusals", oplog.Cause(err))
			failed = append(failed, r)
		}
	}
	return failed
}
