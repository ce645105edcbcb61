package store

import (
	"context"
	"fmt"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
)

// An Event is one of a subscription. Ref and Version name its focus; they are zero if
// the subscriber may not be told of it any more. Resource is the focus, if it was asked
// for and is there.
type Event struct {
	N        int64
	Ref      fhir.Ref
	Version  int64
	At       time.Time
	Op       fhir.Interaction
	Resource *fhir.Resource

	rid int64
}

// Hidden reports whether the subscriber may not be told of the event any more.
func (e Event) Hidden() bool { return e.Ref.ID == "" }

func ofSubscription(ref fhir.Ref, doing string) audit.Entry {
	return audit.Entry{Interaction: fhir.Operation, Type: subscriptionType, Entity: ref, Query: doing}
}

// Told says how much of events is told.
type Told byte

// The payloads.
// https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/payloads.html
const (
	ToldEmpty Told = iota
	ToldIDs
	ToldFull
)

// Events returns up to max events of s from the number on, up to another, as its
// subscriber g may be told of them now. Once it returns they are in the audit trail.
func (db *DB) Events(ctx context.Context, g *smart.Grant, s Subscription, queries []*search.Query, from, upTo int64, max int, how Told, doing string) (list []Event, err error) {
	err = db.View(ctx, g, func(v *View) error {
		v.Operation(ofSubscription(s.Ref, doing))
		p, err := g.PermitAnswers()
		if err != nil {
			return err
		}
		if list, err = v.events(ctx, p, s, from, upTo, max); err != nil {
			return err
		}
		may := make([]bool, len(list))
		rows, err := v.tellable(ctx, queries, list, may)
		if err != nil {
			return err
		}
		for i := range list {
			e := &list[i]
			if !may[i] {
				*e = Event{N: e.N}
				continue
			}
			if err := v.tell(e, rows[key{e.rid, e.Version}], how); err != nil {
				return err
			}
		}
		return nil
	})
	return list, err
}

func (v *View) events(ctx context.Context, p smart.Permit, s Subscription, from, upTo int64, max int) ([]Event, error) {
	rows, err := v.query(ctx, p, gate.SQL(`
		SELECT n, focus, type, version, at, op::text FROM ~subscription_event
		WHERE  tenant_id = $1 AND rid = ? AND n >= ? AND n <= ?
		ORDER  BY n
		LIMIT  ?`, s.rid, from, upTo, max))
	if err != nil {
		return nil, fmt.Errorf("reading events of a subscription: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (e Event, err error) {
		var number int16
		var op string
		err = row.Scan(&e.N, &e.rid, &number, &e.Version, &e.At, &op)
		e.Ref.Type, e.At = fhir.TypeNumbered(number), e.At.UTC()
		e.Op = map[string]fhir.Interaction{"c": fhir.Create, "u": fhir.Update, "d": fhir.Delete}[op]
		return e, err
	})
}

type key struct{ rid, version int64 }

// tellable sets may for the events of which the Grant may be told. It returns the
// versions that they name.
func (v *View) tellable(ctx context.Context, queries []*search.Query, events []Event, may []bool) (map[key]row, error) {
	if v.maySubscribe(queries) != nil {
		return nil, nil // it may ask no longer
	}
	found := map[key]row{}
	permits := map[fhir.Interaction]map[fhir.Type]smart.Permit{fhir.Read: {}, fhir.SearchType: {}}
	var some smart.Permit
	var rids []int64
	var versions []int32
	var at []time.Time
	for _, e := range events {
		for do, of := range permits {
			p, err := v.gate.Permit(do, e.Ref.Type)
			if err != nil {
				return nil, nil
			}
			some, of[e.Ref.Type] = p, p
		}
		rids, versions, at = append(rids, e.rid), append(versions, int32(e.Version)), append(at, e.At)
	}
	if len(events) == 0 {
		return found, nil
	}
	list, err := v.versionsOf(ctx, some, gate.SQL(`
		WITH  asked AS (SELECT DISTINCT * FROM unnest(?::bigint[], ?::int[], ?::timestamptz[]) AS x (rid, version, updated))
		SELECT r.rid, r.type, r.id, r.version, r.updated, r.deleted, r.body, 0::bigint
		FROM   asked a JOIN ~resource r ON r.tenant_id = $1 AND r.rid = a.rid AND r.version = a.version AND r.updated = a.updated
		UNION  ALL
		SELECT h.rid, h.type, h.id, h.version, h.updated, h.deleted, h.body, 0::bigint
		FROM   asked a JOIN ~history h ON h.tenant_id = $1 AND h.rid = a.rid AND h.version = a.version AND h.updated = a.updated`, rids, versions, at))
	if err != nil {
		return nil, err
	}
	seen := make([]bool, len(list))
	for i := range seen {
		seen[i] = true
	}
	for _, of := range permits {
		s := shown{view: v, now: map[int64]bool{}}
		ok, err := s.seen(ctx, of, list)
		if err != nil {
			return nil, err
		}
		for i := range seen {
			seen[i] = seen[i] && ok[i]
		}
	}
	for i, r := range list {
		if seen[i] {
			found[key{r.rid, r.version}] = r
		}
	}
	for i, e := range events {
		_, may[i] = found[key{e.rid, e.Version}]
	}
	return found, nil
}

// tell fills an event in, so far as its subscriber asked for it, and notes what is told.
func (v *View) tell(e *Event, r row, how Told) error {
	e.Ref = r.ref
	if how == ToldEmpty {
		return nil
	}
	res, err := v.open(r)
	if err != nil {
		return err
	}
	entry, about := audit.Entry{Interaction: fhir.Operation, Type: res.Ref.Type, Entity: res.Ref, Version: res.Version}, v.patients(res)
	if r.deleted {
		if res.Ref.Type == "Patient" {
			about = []fhir.Ref{res.Ref}
		}
		v.noteOf(entry, about)
		return nil
	}
	if how == ToldFull {
		entry = v.disclosed(fhir.Read, res)
		if res, err = v.shown(res); err != nil {
			return err
		}
		e.Resource = &res
	}
	v.noteOf(entry, about)
	return nil
}

// SetStatus says in the Subscription that its status is another one, and why: error, off
// or active. It does nothing if s is another server's by now, or was edited. Once it is
// active its subscriber is told of what is stored from then on.
// https://hl7.org/fhir/R4/valueset-subscription-status.html
func (db *DB) SetStatus(ctx context.Context, s Subscription, status, why string, beat time.Duration) error {
	g := smart.Following(s.tenant)
	return db.update(ctx, g, false, func(tx *Tx) error {
		p, err := g.PermitFollowing()
		if err != nil {
			return err
		}
		var holder any
		if s.holder != "" {
			holder = s.holder
		}
		var n int
		if err := tx.one(ctx, p, gate.SQL(`
			WITH own AS (
				UPDATE ~subscription
				SET    state = ?::text::"char", turn = turn + 1, attempts = 0, lease = NULL, holder = NULL,
				       due = clock_timestamp(), beat = clock_timestamp() + nullif(?::interval, '0'),
				       since = CASE ?::text WHEN 'a' THEN pg_snapshot_xmax(pg_current_snapshot())::text::bigint ELSE since END
				WHERE  tenant_id = $1 AND rid = ? AND turn = ? AND (?::uuid IS NULL OR holder = ?::uuid)
				RETURNING 1)
			SELECT count(*) FROM own`, status[:1], beat, status[:1], s.rid, s.turn, holder, holder), &n); err != nil || n == 0 {
			return err
		}
		if status == "off" {
			if err := tx.unsubscribe(p, s.rid); err != nil {
				return err
			}
		} else if err := tx.gate.Defer(p, anotherGeneration); err != nil {
			return err
		}
		return tx.writeStatus(ctx, g, s, status, why)
	})
}

// writeStatus stores the Subscription with its status as the next version.
func (tx *Tx) writeStatus(ctx context.Context, g *smart.Grant, s Subscription, status, why string) error {
	p, err := g.PermitStatus()
	if err != nil {
		return err
	}
	list, err := tx.versionsOf(ctx, p, gate.SQL(`
		SELECT rid, type, id, version, updated, deleted, body, 0::bigint FROM ~resource
		WHERE  tenant_id = $1 AND rid = ?
		FOR    UPDATE`, s.rid))
	if err != nil || len(list) == 0 || list[0].deleted {
		return err
	}
	was, err := tx.open(list[0])
	if err != nil {
		return err
	}
	body, err := withStatus(was.Body, status, why)
	if err != nil {
		return err
	}
	d, err := fhir.Reopen(body)
	if err != nil {
		return err
	}
	_, err = tx.put(ctx, p, fhir.Update, s.Ref, d, &list[0])
	return err
}

// withStatus returns the JSON of a Subscription with another status.
func withStatus(body []byte, status, why string) ([]byte, error) {
	out, err := rewrite(body, func(name string, value jsontext.Value) (jsontext.Value, error) {
		switch name {
		case "status":
			return jsontext.Value(`"` + status + `"`), nil
		case "error", "_error", "_status":
			return nil, nil
		}
		return value, nil
	})
	if err != nil || why == "" {
		return out, err
	}
	text, err := jsontext.AppendQuote(nil, why)
	return append(append(append(out[:len(out)-1], `,"error":`...), text...), '}'), err
}

// MySubscriptions returns those of the subscriber g with one of the ids, or all of them
// without any.
func (db *DB) MySubscriptions(ctx context.Context, g *smart.Grant, ids []string, doing string) (list []Subscription, err error) {
	err = db.View(ctx, g, func(v *View) error {
		v.Operation(audit.Entry{Interaction: fhir.Operation, Type: subscriptionType, Query: doing})
		p, err := g.PermitAnswers()
		if err != nil {
			return err
		}
		rows, err := v.query(ctx, p, gate.SQL(`
			SELECT `+subscriptionColumns+` FROM ~subscription
			WHERE  tenant_id = $1 AND owner = ? AND (? OR id = ANY(?::text[]))
			ORDER  BY rid`, v.owner(), len(ids) == 0, ids))
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, v.scanSubscription)
		return err
	})
	return list, err
}
