package store

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/tenant"
)

// GlassEnds tells the audit trails of broken glasses that have ended: by somebody,
// with their time, or with the login that they were for. Each end is told once,
// however many servers run it and whenever one dies.
type GlassEnds struct {
	DB *DB // required
	// Tenants returns the tenants to look after. Required.
	Tenants func(context.Context) ([]*tenant.Tenant, error)
	// Every is how often they are looked at. Default 2s.
	Every time.Duration

	Log *oplog.Logger
}

// Run tells until ctx is done.
func (x *GlassEnds) Run(ctx context.Context) {
	x.Every = cmp.Or(x.Every, 2*time.Second)
	for ctx.Err() == nil {
		x.round(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(x.Every):
		}
	}
}

func (x *GlassEnds) round(ctx context.Context) {
	if err := x.tell(ctx); err != nil && ctx.Err() == nil {
		x.Log.Error("telling of the ends of broken glasses", oplog.Cause(err))
	}
}

// tell looks at the tenants that have any: they are few.
func (x *GlassEnds) tell(ctx context.Context) error {
	some, err := x.DB.packages.tenantsWithGlasses(ctx)
	if err != nil || len(some) == 0 {
		return err
	}
	list, err := x.Tenants(ctx)
	for _, t := range list {
		if some[t.ID.Int()] {
			err = errors.Join(err, x.DB.tellEnds(ctx, t))
		}
	}
	return err
}

// tellEnds writes the audit entries of what has ended at the tenant.
func (db *DB) tellEnds(ctx context.Context, t *tenant.Tenant) error {
	ended, err := db.packages.endedGlasses(ctx, t)
	if err != nil || len(ended) == 0 {
		return err
	}
	set, err := db.keys.Of(ctx, t.ID)
	if err != nil {
		return err
	}
	for _, row := range ended {
		err = errors.Join(err, db.tellEnd(ctx, t, set, row))
	}
	return err
}

// tellEnd writes one. The number of the entry is on record before it, so that
// who does it again writes no second.
func (db *DB) tellEnd(ctx context.Context, t *tenant.Tenant, set *keys.Set, row glassRow) error {
	asked, err := readAsked(set, t, row)
	if err != nil {
		return err
	}
	why := "its time is over, or the login"
	if *row.endedBy != "" {
		why = "ended by " + *row.endedBy
	}
	e := glassEvent(t, audit.GlassEnded, row, asked, why, audit.Origin{})
	if e.Seq, err = db.packages.tellGlass(ctx, t, row.id, e.Seq); err != nil {
		return err
	}
	if err := db.gate.AppendAgain(ctx, t, e); err != nil {
		return err
	}
	return db.packages.toldGlass(ctx, t, row.id)
}
