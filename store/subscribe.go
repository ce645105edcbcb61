package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
	"github.com/cordon-fhir/cordon/tenant"
)

const subscriptionType fhir.Type = "Subscription"

// A Subscriber reads what a Subscription asks for that g is about to store. before is
// what was kept of it, nil if it is new or was somebody else's. The error is for the
// client.
type Subscriber func(ctx context.Context, g *smart.Grant, d *fhir.Document, before []byte) (Wanted, error)

// Wanted is what a Subscription asks for.
type Wanted struct {
	Document *fhir.Document // as it is to be stored, without what is secret
	// Off says that nobody is told anything.
	Off bool
	// Kept is what the server needs to tell its subscriber; it is stored sealed.
	Kept []byte
	// Queries are the searches that decide of what the subscriber is told.
	Queries []*search.Query
}

// Subscribers sets who reads Subscriptions, before the first is written. Without, they
// are resources like any other.
func (db *DB) Subscribers(s Subscriber) { db.subscriber = s }

// Changed sets who is told that something of a tenant was written here.
func (db *DB) Changed(tell func(tenant.ID)) { db.changed.Store(&tell) }

// maxSubscriptions bounds those of a tenant that are not off, and maxOwn those of one
// subscriber.
const (
	maxSubscriptions = 1000
	maxOwn           = 200
)

// subscribe keeps what a Subscription asks for, and returns it as it is to be stored.
func (tx *Tx) subscribe(ctx context.Context, p smart.Permit, ref fhir.Ref, d *fhir.Document) (*fhir.Document, error) {
	if ref.Type != subscriptionType || tx.db.subscriber == nil {
		return d, nil
	}
	if _, err := tx.grant.PermitStatus(); err == nil {
		return d, nil // the server says how it is
	}
	if tx.imports != nil {
		return nil, fhir.Errorf(fhir.BusinessRule, "a Subscription is created by its subscriber, and not imported").At(string(subscriptionType))
	}
	before, err := tx.subscribed(ctx, p, ref)
	if err != nil {
		return nil, err
	}
	asked, err := tx.db.subscriber(ctx, tx.grant, d, before)
	if err != nil {
		return nil, err
	}
	rid := tx.rid(ref)
	if asked.Off {
		return asked.Document, tx.unsubscribe(p, rid)
	}
	if err := tx.maySubscribe(asked.Queries); err != nil {
		return nil, err
	}
	if err := tx.mayHaveMore(ctx, p, rid); err != nil {
		return nil, err
	}
	sealed, err := tx.keys.Seal(nil, subscriptionKey, asked.Kept, subscriptionPlace(tx.grant.Tenant(), ref.ID))
	if err != nil {
		return nil, fmt.Errorf("sealing what a Subscription asks for: %w", err)
	}
	owner := tx.owner()
	// Who takes a Subscription over begins anew: what was counted was what another may see.
	err = errors.Join(
		tx.gate.Defer(p, gate.SQL(`
			DELETE FROM ~subscription_event e USING ~subscription s
			WHERE  e.tenant_id = $1 AND s.tenant_id = $1 AND e.rid = ? AND s.rid = e.rid AND s.owner <> ?`, rid, owner)),
		tx.gate.Defer(p, gate.SQL(`
			INSERT INTO ~subscription AS s (tenant_id, rid, owner, due, state, id, sealed)
			VALUES ($1, ?, ?, ?, 'r', ?, ?)
			ON CONFLICT (tenant_id, rid) DO UPDATE
			SET    owner = excluded.owner, due = excluded.due, state = 'r', sealed = excluded.sealed, turn = s.turn + 1,
			       attempts = 0, beat = NULL, lease = NULL, holder = NULL,
			       events = CASE WHEN s.owner = excluded.owner THEN s.events ELSE 0 END,
			       told   = CASE WHEN s.owner = excluded.owner THEN s.told ELSE 0 END`, rid, owner, now(), ref.ID, sealed)),
		tx.gate.Defer(p, anotherGeneration))
	return asked.Document, err
}

var anotherGeneration = gate.SQL(`
	INSERT INTO ~subscription_feed AS f (tenant_id, generation) VALUES ($1, 1)
	ON CONFLICT (tenant_id) DO UPDATE SET generation = f.generation + 1`)

// subscribed returns what was kept of the Subscription, if it is the same subscriber's.
func (tx *Tx) subscribed(ctx context.Context, p smart.Permit, ref fhir.Ref) ([]byte, error) {
	rows, err := tx.query(ctx, p, gate.SQL(`SELECT sealed FROM ~subscription WHERE tenant_id = $1 AND rid = ? AND owner = ?`, tx.rid(ref), tx.owner()))
	if err != nil {
		return nil, fmt.Errorf("looking for a subscription: %w", err)
	}
	sealed, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[[]byte])
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for a subscription: %w", err)
	}
	return tx.keys.Open(subscriptionKey, sealed, subscriptionPlace(tx.grant.Tenant(), ref.ID))
}

// maySubscribe refuses a Subscription to what its subscriber may not read, may not
// search, or may not search like that.
func (v *View) maySubscribe(queries []*search.Query) error {
	for _, q := range queries {
		for _, do := range []fhir.Interaction{fhir.Read, fhir.SearchType} {
			if _, err := v.gate.Permit(do, q.Type); err != nil {
				return err
			}
		}
		if err := v.mayAsk(q); err != nil {
			return err
		}
	}
	return nil
}

// mayHaveMore refuses one Subscription too many.
func (tx *Tx) mayHaveMore(ctx context.Context, p smart.Permit, rid int64) error {
	var own, all int
	if err := tx.flush(ctx); err != nil { // those of the same Bundle count
		return err
	}
	err := tx.one(ctx, p, gate.SQL(`
		SELECT count(*) FILTER (WHERE owner = ?), count(*) FROM ~subscription WHERE tenant_id = $1 AND rid <> ?`, tx.owner(), rid), &own, &all)
	switch {
	case err != nil:
		return err
	case own >= maxOwn:
		return fhir.Errorf(fhir.Throttled, "a client has at most %d subscriptions that are not off", maxOwn)
	case all >= maxSubscriptions:
		return fhir.Errorf(fhir.Throttled, "a tenant has at most %d subscriptions that are not off", maxSubscriptions)
	}
	return nil
}

// unsubscribe forgets what a Subscription asked for.
func (tx *Tx) unsubscribe(p smart.Permit, rid int64) error {
	return errors.Join(
		tx.gate.Defer(p, gate.SQL(`DELETE FROM ~subscription_event WHERE tenant_id = $1 AND rid = ?`, rid)),
		tx.gate.Defer(p, gate.SQL(`DELETE FROM ~subscription WHERE tenant_id = $1 AND rid = ?`, rid)),
		tx.gate.Defer(p, anotherGeneration))
}

func subscriptionPlace(t *tenant.Tenant, id string) []byte {
	return fmt.Appendf(nil, "subscription|%s|%s", t.ID, id)
}
