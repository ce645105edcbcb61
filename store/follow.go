package store

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

// Subscriptions are matched with the changes of a tenant in the order of the
// transactions that made them, up to the oldest that is still running: nothing comes
// before that any more. How far they have been matched is written in the commit that
// keeps the events, and only if it is still where the matching began. So any number of
// servers may follow, and each event is kept once.

// A FeedPlace is a place in the order of the changes of a tenant.
type FeedPlace struct{ xid, seq int64 }

// After reports whether p comes after q.
func (p FeedPlace) After(q FeedPlace) bool { return p.xid > q.xid || p.xid == q.xid && p.seq > q.seq }

// A Feed is what there is to do for the subscriptions of a tenant.
type Feed struct {
	Generation int64 // of which subscriptions there are
	Live       int   // how many are active
	Any        bool  // whether there are some at all
	Due        bool  // something waits to be delivered
	From       FeedPlace
	at         FeedPlace // as the database has it
}

// Feed returns what there is to do. It sees that and no more, and leaves no entry in
// the audit trail.
func (db *DB) Feed(ctx context.Context, t *tenant.Tenant) (f Feed, err error) {
	err = db.follow(ctx, t, func(v *View, p smart.Permit) error {
		f, err = v.feed(ctx, p)
		return err
	})
	if err != nil {
		return f, fmt.Errorf("looking for subscriptions of tenant %s: %w", t.ID, err)
	}
	return f, nil
}

// due says which subscriptions wait for who delivers: for the handshake, with events,
// or with a heartbeat.
var due = gate.SQL(`(due <= clock_timestamp() AND (state = 'r' OR state = 'a' AND told < events)
	OR state = 'a' AND told = events AND beat <= clock_timestamp()) AND (lease IS NULL OR lease < clock_timestamp())`)

func (v *View) feed(ctx context.Context, p smart.Permit) (f Feed, err error) {
	var since int64
	err = v.one(ctx, p, gate.SQL(`
		SELECT coalesce(max(f.generation), 0), coalesce(max(f.xid), 0), coalesce(max(f.seq), 0),
		       coalesce(max(s.since), 0), coalesce(max(s.live), 0), coalesce(max(s.total), 0) > 0, coalesce(bool_or(s.due), false)
		FROM   ~subscription_feed f, LATERAL (
		       SELECT min(since) FILTER (WHERE state = 'a') AS since, count(*) FILTER (WHERE state = 'a') AS live, count(*) AS total, bool_or(`).With(due, gate.SQL(`) AS due
		       FROM   ~subscription WHERE tenant_id = $1) s
		WHERE  f.tenant_id = $1`)), &f.Generation, &f.at.xid, &f.at.seq, &since, &f.Live, &f.Any, &f.Due)
	if f.From = f.at; since > f.at.xid {
		f.From = FeedPlace{since, -1}
	}
	return f, err
}

// follow runs fn on a snapshot, without an entry in the audit trail: what it reads
// leaves the server only under the Grant of a subscriber.
func (db *DB) follow(ctx context.Context, t *tenant.Tenant, fn func(*View, smart.Permit) error) error {
	g := smart.Following(t)
	p, err := g.PermitMatching()
	if err != nil {
		return err
	}
	return db.gate.Rules(ctx, g, func(tx *gate.Tx) error {
		v, err := db.view(ctx, tx)
		if err != nil {
			return err
		}
		return fn(v, p)
	})
}

// following runs fn in a transaction of the tenant's own work on subscriptions.
func (db *DB) following(ctx context.Context, t *tenant.Tenant, doing string, fn func(*View, smart.Permit) error) error {
	g := smart.Following(t)
	return db.job(ctx, g, g.PermitFollowing, doing, fn)
}

// A Subscription is one that is not off, as those see it who work on it.
type Subscription struct {
	Ref    fhir.Ref
	Active bool
	Failed bool   // its status is error
	Kept   []byte // as its Subscriber said
	Events int64  // the number of its last event
	Told   int64  // the number of the last that was delivered
	Turns  int    // how often the delivery of the next has failed

	rid, turn int64
	holder    string
	tenant    *tenant.Tenant
}

const subscriptionColumns = `rid, id, state::text, events, told, attempts, turn, sealed`

func (v *View) scanSubscription(row pgx.CollectableRow) (s Subscription, err error) {
	s.Ref.Type, s.tenant = subscriptionType, v.grant.Tenant()
	var state string
	var sealed []byte
	if err := row.Scan(&s.rid, &s.Ref.ID, &state, &s.Events, &s.Told, &s.Turns, &s.turn, &sealed); err != nil {
		return s, err
	}
	s.Active, s.Failed = state == "a", state == "e"
	s.Kept, err = v.keys.Open(subscriptionKey, sealed, subscriptionPlace(s.tenant, s.Ref.ID))
	return s, err
}

// Subscriptions returns those that are not off, and their generation.
func (db *DB) Subscriptions(ctx context.Context, t *tenant.Tenant) (list []Subscription, generation int64, err error) {
	err = db.follow(ctx, t, func(v *View, p smart.Permit) error {
		f, err := v.feed(ctx, p)
		if err != nil {
			return err
		}
		generation = f.Generation
		rows, err := v.query(ctx, p, gate.SQL(`SELECT `+subscriptionColumns+` FROM ~subscription WHERE tenant_id = $1 ORDER BY rid`))
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, v.scanSubscription)
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("reading subscriptions of tenant %s: %w", t.ID, err)
	}
	return list, generation, nil
}

// A Change is a version that was stored. Now and Before are nil where there is no such
// version, or it was removed for good.
type Change struct {
	Ref         fhir.Ref
	Version     int64
	At          time.Time
	Op          fhir.Interaction // Create, Update or Delete
	Now, Before *fhir.Resource

	rid   int64
	place FeedPlace
}

// Place is where the change is in the order.
func (c Change) Place() FeedPlace { return c.place }

// changesAtOnce bounds the changes that are read together.
const changesAtOnce = 500

// Changes calls fn for the changes after the place, with the versions of those of the
// types, one after the other. It returns the generation of the subscriptions that the
// changes were read with, and whether there may be more.
func (db *DB) Changes(ctx context.Context, t *tenant.Tenant, after FeedPlace, types []fhir.Type, fn func(Change) error) (generation int64, more bool, err error) {
	numbers := make([]int16, len(types))
	for i, on := range types {
		numbers[i] = on.Number()
	}
	err = db.follow(ctx, t, func(v *View, p smart.Permit) error {
		f, err := v.feed(ctx, p)
		if err != nil {
			return err
		}
		generation = f.Generation
		rows, err := v.query(ctx, p, gate.SQL(`
			SELECT c.xid::text::bigint, c.seq, c.rid, c.type, c.version, c.updated, c.op::text, coalesce(r.id, ''),
			       CASE WHEN r.version = c.version THEN r.body ELSE n.body END, b.version, b.updated, b.body
			FROM  (SELECT xid, seq, rid, type, version, updated, op FROM ~change
			       WHERE  tenant_id = $1 AND (xid, seq) > (?::text::xid8, ?) AND xid < pg_snapshot_xmin(pg_current_snapshot())
			       ORDER  BY xid, seq
			       LIMIT  ?) c
			LEFT   JOIN ~resource r ON r.tenant_id = $1 AND r.rid = c.rid AND c.type = ANY(?::smallint[])
			LEFT   JOIN ~history n ON n.tenant_id = $1 AND n.rid = r.rid AND n.version = c.version AND n.updated = c.updated AND NOT n.deleted
			LEFT   JOIN ~history b ON b.tenant_id = $1 AND b.rid = r.rid AND b.version = c.version - 1 AND b.updated <= c.updated AND NOT b.deleted
			ORDER  BY c.xid, c.seq`, strconv.FormatInt(after.xid, 10), after.seq, changesAtOnce, numbers))
		if err != nil {
			return err
		}
		defer rows.Close()
		n := 0
		for ; rows.Next(); n++ {
			c, err := v.scanChange(rows)
			if err == nil {
				err = fn(c)
			}
			if err != nil {
				return err
			}
		}
		more = n == changesAtOnce
		return rows.Err()
	})
	if err != nil {
		return 0, false, fmt.Errorf("following the changes of tenant %s: %w", t.ID, err)
	}
	return generation, more, nil
}

func (v *View) scanChange(rows pgx.Rows) (c Change, err error) {
	var number int16
	var op string
	var now, before []byte
	var past pgtype.Int8
	var at pgtype.Timestamptz
	if err := rows.Scan(&c.place.xid, &c.place.seq, &c.rid, &number, &c.Version, &c.At, &op, &c.Ref.ID, &now, &past, &at, &before); err != nil {
		return c, err
	}
	c.Ref.Type, c.At = fhir.TypeNumbered(number), c.At.UTC()
	c.Op = map[string]fhir.Interaction{"c": fhir.Create, "u": fhir.Update, "d": fhir.Delete}[op]
	if len(now) > 0 && c.Op != fhir.Delete {
		if c.Now, err = v.opened(row{ref: c.Ref, version: c.Version, updated: c.At, body: now}); err != nil {
			return c, err
		}
	}
	if len(before) > 0 {
		c.Before, err = v.opened(row{ref: c.Ref, version: past.Int64, updated: at.Time, body: before})
	}
	return c, err
}

func (v *View) opened(r row) (*fhir.Resource, error) {
	res, err := v.open(r)
	return &res, err
}

// A Happened is a change that a subscription asks for.
type Happened struct {
	Subscription Subscription
	Change       Change
}

// MayTell reports which of the changes g may be told of: it may read and search them,
// as they are and as the resources are now, and still may ask as the queries do.
func (db *DB) MayTell(ctx context.Context, g *smart.Grant, s Subscription, queries []*search.Query, changes []Change) (may []bool, err error) {
	err = db.View(ctx, g, func(v *View) error {
		v.Operation(ofSubscription(s.Ref, "matching"))
		list := make([]Event, len(changes))
		for i, c := range changes {
			list[i] = Event{Ref: c.Ref, Version: c.Version, At: c.At, rid: c.rid}
		}
		may = make([]bool, len(changes))
		_, err := v.tellable(ctx, queries, list, may)
		return err
	})
	return may, err
}

// KeepEvents keeps the events and moves the feed on to the place, if it is where it was
// in f. kept is false if another server was there first.
func (db *DB) KeepEvents(ctx context.Context, t *tenant.Tenant, f Feed, to FeedPlace, events []Happened) (kept bool, err error) {
	err = db.following(ctx, t, "keeping events of subscriptions", func(v *View, p smart.Permit) error {
		var n int
		err := v.one(ctx, p, gate.SQL(`
			WITH moved AS (
				UPDATE ~subscription_feed SET xid = ?, seq = ?
				WHERE  tenant_id = $1 AND xid = ? AND seq = ? RETURNING 1)
			SELECT count(*) FROM moved`, to.xid, to.seq, f.at.xid, f.at.seq), &n)
		if kept = n > 0; err != nil || !kept {
			return err
		}
		for len(events) > 0 {
			s := events[0].Subscription
			var of []Change
			for len(events) > 0 && events[0].Subscription.rid == s.rid {
				of, events = append(of, events[0].Change), events[1:]
			}
			if err := v.keepEvents(p, s, of); err != nil {
				return err
			}
		}
		return nil
	})
	return kept, err
}

// keepEvents numbers the events of one subscription, unless it was edited meanwhile.
func (v *View) keepEvents(p smart.Permit, s Subscription, of []Change) error {
	var focus []int64
	var at []time.Time
	var versions []int32
	var types []int16
	var ops []string
	for _, c := range of {
		focus, at, versions, types = append(focus, c.rid), append(at, c.At), append(versions, int32(c.Version)), append(types, c.Ref.Type.Number())
		ops = append(ops, map[fhir.Interaction]string{fhir.Create: "c", fhir.Update: "u", fhir.Delete: "d"}[c.Op])
	}
	return v.gate.Defer(p, gate.SQL(`
		WITH s AS (
			UPDATE ~subscription SET events = events + ?, due = CASE WHEN attempts = 0 THEN least(due, ?) ELSE due END
			WHERE  tenant_id = $1 AND rid = ? AND state = 'a' AND turn = ?
			RETURNING rid, events)
		INSERT INTO ~subscription_event (tenant_id, rid, n, focus, at, version, type, op)
		SELECT $1, s.rid, s.events - ? + x.n, x.focus, x.at, x.version, x.type, x.op::"char"
		FROM   s, unnest(?::bigint[], ?::timestamptz[], ?::int[], ?::smallint[], ?::text[]) WITH ORDINALITY AS x (focus, at, version, type, op, n)`,
		len(of), now(), s.rid, s.turn, len(of), focus, at, versions, types, ops))
}

// TakeUpSubscription takes up a subscription that waits: for its handshake, with events
// or with a heartbeat. It is this server's own until its lease has run out.
func (db *DB) TakeUpSubscription(ctx context.Context, t *tenant.Tenant) (s Subscription, found bool, err error) {
	holder := uuid.NewString()
	err = db.following(ctx, t, "taking up a subscription", func(v *View, p smart.Permit) error {
		rows, err := v.gate.Query(ctx, p, gate.SQL(`
			UPDATE ~subscription SET holder = ?, lease = clock_timestamp() + ?::interval
			WHERE  tenant_id = $1 AND rid = (
			       SELECT rid FROM ~subscription WHERE tenant_id = $1 AND`, holder, db.Lease).With(due, gate.SQL(`
			       ORDER BY due, rid LIMIT 1 FOR UPDATE SKIP LOCKED)
			RETURNING `+subscriptionColumns)))
		if err != nil {
			return err
		}
		list, err := pgx.CollectRows(rows, v.scanSubscription)
		if found = len(list) > 0; found {
			s = list[0]
			s.holder = holder
		}
		return err
	})
	return s, found && err == nil, err
}

// Delivered notes that s was told up to the event with the number, and when it is next
// told that all is well; 0 is never. What waits besides is due at once.
func (db *DB) Delivered(ctx context.Context, s Subscription, upTo int64, beat time.Duration) error {
	return db.following(ctx, s.tenant, "noting what a subscription was told", func(v *View, p smart.Permit) error {
		return v.gate.Defer(p, gate.SQL(`
			UPDATE ~subscription
			SET    told = greatest(told, ?), attempts = 0, due = ?, beat = clock_timestamp() + nullif(?::interval, '0'), lease = NULL, holder = NULL
			WHERE  tenant_id = $1 AND rid = ? AND holder = ?`, upTo, now(), beat, s.rid, s.holder))
	})
}

// Undelivered notes that s could not be told, and is to be told again after a time.
func (db *DB) Undelivered(ctx context.Context, s Subscription, again time.Duration) error {
	return db.following(ctx, s.tenant, "noting that a subscription could not be told", func(v *View, p smart.Permit) error {
		return v.gate.Defer(p, gate.SQL(`
			UPDATE ~subscription
			SET    attempts = attempts + 1, due = clock_timestamp() + ?::interval, beat = clock_timestamp() + ?::interval, lease = NULL, holder = NULL
			WHERE  tenant_id = $1 AND rid = ? AND holder = ?`, again, again, s.rid, s.holder))
	})
}

// SweepEvents forgets events that were told long ago.
func (db *DB) SweepEvents(ctx context.Context, t *tenant.Tenant) error {
	return db.following(ctx, t, "forgetting events of subscriptions", func(v *View, p smart.Permit) error {
		return v.gate.Defer(p, gate.SQL(`
			DELETE FROM ~subscription_event e USING ~subscription s
			WHERE  e.tenant_id = $1 AND s.tenant_id = $1 AND s.rid = e.rid AND e.n <= s.told AND e.at < ?`, now().Add(-EventLife)))
	})
}

// EventLife is how long events are kept that were told.
const EventLife = 7 * 24 * time.Hour

// End is the end of all numbers of events.
const End = math.MaxInt64
