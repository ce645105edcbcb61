package store

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/consent"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
)

// consents are what a View knows of the consents of its tenant. They are read in
// the snapshot of what they are about and kept no longer, so that one that was
// withdrawn is out with the next request.
type consents struct {
	asked, some bool
	of          map[string][]*consent.Consent // by the id of the patient
	read        map[int64]bool                // by the rid of the patient: those of whom all are in of
	hint        *atomic.Bool
}

// tell notes whether the tenant has consents in force.
func (c *consents) tell(some bool) {
	if !c.asked {
		c.asked, c.some = true, some
		if c.hint.Load() != some {
			c.hint.Store(some)
		}
	}
}

// changed forgets what a Tx has changed itself.
func (c *consents) changed(on fhir.Type) {
	if on == "Consent" {
		c.asked, c.some, c.of, c.read = true, true, nil, nil
	}
}

// active is the condition of a Consent that is in force.
// https://hl7.org/fhir/R4/valueset-consent-state-codes.html
var active = func() search.HasToken {
	q, err := search.Parse("Consent", []search.Param{{Name: "status", Value: "active"}}, search.Options{})
	if err != nil {
		panic(err) // R4 has the parameter
	}
	return q.Where.(search.HasToken)
}()

// anyConsent is a column that says whether the tenant has consents in force, for
// a statement that reads something else. It is false where that is known.
func (v *View) anyConsent() gate.Clause {
	if v.consents.asked {
		return never
	}
	return gate.SQL(`EXISTS (SELECT 1 FROM ~idx_token k WHERE k.tenant_id = $1 AND k.key = ?)`, v.tokenKey(search.Token(active)))
}

// where returns the condition of p, and for whom the consents of patients are to
// be asked beside it; nil if there are none that could matter.
func (v *View) where(ctx context.Context, p smart.Permit) (search.Expr, *search.Asker, error) {
	rest, by := search.Apart(v.allowed(p))
	if by == nil || consent.Needed(by) {
		return rest, by, nil
	}
	if !v.consents.asked {
		rows, err := v.gate.Query(ctx, p, gate.SQL(`SELECT`).With(v.anyConsent(), gate.SQL(`WHERE $1 <> 0`)))
		if err != nil {
			return nil, nil, fmt.Errorf("asking for consents: %w", err)
		}
		some, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[bool])
		if err != nil {
			return nil, nil, fmt.Errorf("asking for consents: %w", err)
		}
		v.consents.tell(some)
	}
	if !v.consents.some {
		by = nil
	}
	return rest, by, nil
}

// free reports whether p covers every resource of its type.
func (v *View) free(ctx context.Context, p smart.Permit) (bool, error) {
	where, by, err := v.where(ctx, p)
	return err == nil && by == nil && all(where), err
}

// withhold opens the candidates and marks those that a consent keeps from who
// asks.
func (v *View) withhold(ctx context.Context, pl plan, list []candidate) error {
	resources, may := make([]fhir.Resource, len(list)), make([]bool, len(list))
	for i := range list {
		res, err := v.open(list[i].row)
		if err != nil {
			return err
		}
		resources[i], may[i] = res, true
		list[i].opened = &resources[i]
	}
	if err := v.consented(ctx, pl.permit, pl.by, resources, may); err != nil {
		return err
	}
	for i := range list {
		list[i].withheld = !may[i]
	}
	return nil
}

// consented clears in may what a consent keeps from who asks.
func (v *View) consented(ctx context.Context, p smart.Permit, by *search.Asker, resources []fhir.Resource, may []bool) error {
	about := make([][]string, len(resources))
	for i, res := range resources {
		if !may[i] || res.Deleted {
			continue
		}
		err := fhir.Peek(res.Body, func(d *fhir.Document) error {
			about[i] = v.schema.About(d)
			return nil
		})
		if err != nil {
			return err
		}
	}
	if err := v.readConsents(ctx, p, about); err != nil {
		return err
	}
	for i, res := range resources {
		for _, patient := range about[i] {
			if patient == by.Self || slices.Contains(by.Spared, patient) || !may[i] {
				continue
			}
			var err error
			if may[i], err = v.leaves(by, v.consents.of[patient], res); err != nil {
				return err
			}
		}
	}
	return nil
}

// leaves reports whether the consents of a patient leave the resource to who
// asks: none denies it, and where one has to permit it, one does.
func (v *View) leaves(by *search.Asker, list []*consent.Consent, res fhir.Resource) (bool, error) {
	permitted, denied := !consent.Needed(by), false
	if len(list) == 0 {
		return permitted, nil
	}
	err := fhir.Peek(res.Body, func(d *fhir.Document) error {
		for _, c := range list {
			switch c.Says(by, consent.Resource{Resource: res, Document: d, Schema: v.schema}) {
			case consent.Deny:
				denied = true
			case consent.Permit:
				permitted = true
			}
		}
		return nil
	})
	return permitted && !denied, err
}

// maxConsents bounds the consents that are read at once.
const maxConsents = 5000

// readConsents reads the consents of the patients that are not known yet, in one
// statement.
func (v *View) readConsents(ctx context.Context, p smart.Permit, patients [][]string) error {
	var rids []int64
	for _, ids := range patients {
		for _, id := range ids {
			if rid := v.rid(fhir.Ref{Type: "Patient", ID: id}); !v.consents.read[rid] && !slices.Contains(rids, rid) {
				rids = append(rids, rid)
			}
		}
	}
	if len(rids) == 0 || v.consents.asked && !v.consents.some {
		return nil
	}
	rows, err := v.query(ctx, p, gate.SQL(`
		SELECT r.rid, r.type, r.id, r.version, r.updated, r.body
		FROM   ~idx_ref x
		JOIN   ~resource r ON r.tenant_id = $1 AND r.rid = x.rid
		WHERE  x.tenant_id = $1 AND x.key = ? AND x.target = ANY(?::bigint[]) AND NOT r.deleted
		LIMIT  ?`, v.refKey(search.ConsentPatient, search.Token{}), rids, maxConsents+1))
	if err != nil {
		return fmt.Errorf("reading consents: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanRow)
	if err != nil {
		return fmt.Errorf("reading consents: %w", err)
	}
	return v.keepConsents(list, rids)
}

// keepConsents keeps the consents that were read, which are all of the patients.
func (v *View) keepConsents(list []row, patients []int64) error {
	if len(list) > maxConsents {
		return fhir.Errorf(fhir.TooCostly, "the request would have to ask more than %d consents; narrow it", maxConsents)
	}
	if v.consents.of == nil {
		v.consents.of, v.consents.read = map[string][]*consent.Consent{}, map[int64]bool{}
	}
	for _, rid := range patients {
		v.consents.read[rid] = true
	}
	for _, r := range list {
		if err := v.readConsent(r); err != nil {
			return err
		}
	}
	return nil
}

// warnEvery is how often a tenant's consents that cannot be followed are told of.
const warnEvery = time.Minute

// warn tells operators of a consent that denies because it cannot be followed.
func (v *View) warn(ref fhir.Ref, why string) {
	last, now := v.db.warned.of(v.grant.Tenant().ID), time.Now().UnixNano()
	if was := last.Load(); now-was >= int64(warnEvery) && last.CompareAndSwap(was, now) {
		v.db.log.Warn("a consent cannot be followed and denies", oplog.Tenant(v.grant.Tenant().Slug.String()), oplog.Named("consent", ref.ID), oplog.Because(why))
	}
}

// readConsent keeps a consent with the patient whose it is, if it is in force.
func (v *View) readConsent(r row) error {
	had := v.db.opened.of(v.grant.Tenant().ID)
	one, ok := had.look(r)
	if !ok {
		res, err := v.open(r)
		if err != nil {
			return err
		}
		err = fhir.Peek(res.Body, func(d *fhir.Document) error {
			if one.says = consent.Read(v.schema, d); one.says != nil {
				for _, id := range v.schema.About(d) {
					one.of = append(one.of, strings.Clone(id))
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		had.keep(r, one)
	}
	if one.says == nil {
		return nil
	}
	if one.says.Unclear != "" {
		v.warn(r.ref, one.says.Unclear)
	}
	for _, id := range one.of {
		v.consents.of[id] = append(v.consents.of[id], one.says)
	}
	return nil
}

// openedConsents are consents of a tenant that were read before: most requests about a
// patient ask the same ones. Each is that of the sealed bytes that it was read from, so
// that what the database has now is what counts.
type openedConsents struct {
	mu   sync.Mutex
	list map[int64]openedConsent // by rid
}

type openedConsent struct {
	sealed  []byte
	version int64
	says    *consent.Consent // nil: nothing, or it is not in force
	of      []string         // the patients whose it is
}

// maxOpened bounds them.
const maxOpened = 2000

func (o *openedConsents) look(r row) (one openedConsent, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	one, ok = o.list[r.rid]
	if !ok || one.version != r.version || !bytes.Equal(one.sealed, r.body) {
		return openedConsent{}, false
	}
	return one, true
}

func (o *openedConsents) keep(r row, one openedConsent) {
	one.sealed, one.version = r.body, r.version
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.list == nil || len(o.list) >= maxOpened {
		o.list = map[int64]openedConsent{}
	}
	o.list[r.rid] = one
}
