package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/internal/gate"
)

// An answer that is kept is given away only while who comes for it may still see
// every version of a resource that it shows: by a label, a consent, a care team or
// whatever else decides, as it is when they come. So the answer is kept together
// with what it rests on.

// A basis is what a kept answer rests on.
type basis struct {
	Shows []audit.ShownVersion `json:"shows"`
	// Beyond says that it tells of resources that it does not show. Which ones
	// nobody knows any more: it holds until a consent changes.
	Beyond bool `json:"beyond"`
	// Consents is how often consents had changed before it was made.
	Consents int64 `json:"consents"`
}

// keeps collects what the request shows, nil if its answer is not kept.
func (v *View) keeps() *audit.Shown { return v.grant.Origin().Trail.Shown }

// keptAt is the associated data of an answer that has its basis before it.
func (v *View) keptAt(id string) []byte { return append([]byte("kept|"), v.answerOf(id)...) }

// sealAnswer seals the answer, and before it what it rests on. The files of an
// export have a basis of their own.
func (v *View) sealAnswer(w Work, answer []byte) ([]byte, error) {
	if w.Export {
		return v.keys.Seal(nil, answerKey, answer, v.answerOf(w.ID))
	}
	shown := v.keeps()
	if shown == nil {
		return nil, errors.New("store: nobody knows what the answer shows")
	}
	b := basis{Consents: w.consents}
	b.Shows, b.Beyond = shown.All()
	plain, err := json.Marshal(b)
	if err != nil {
		return nil, err
	}
	return v.keys.Seal(nil, answerKey, append(append(plain, '\n'), answer...), v.keptAt(w.ID))
}

// openAnswer opens what sealAnswer sealed, if the Grant may still see it.
func (v *View) openAnswer(ctx context.Context, p smart.Permit, d Deferred, sealed []byte) ([]byte, error) {
	if d.Export {
		answer, err := v.keys.Open(answerKey, sealed, v.answerOf(d.ID))
		if err != nil {
			return nil, unknownAnswer()
		}
		return answer, nil
	}
	plain, err := v.keys.Open(answerKey, sealed, v.keptAt(d.ID))
	if err != nil {
		return nil, unknownAnswer()
	}
	head, answer, _ := bytes.Cut(plain, []byte{'\n'})
	var b basis
	if err := json.Unmarshal(head, &b); err != nil {
		return nil, fmt.Errorf("reading what an answer rests on: %w", err)
	}
	stands, err := v.stands(ctx, p, b)
	if err == nil && !stands {
		err = fhir.Errorf(fhir.Deleted, "not all that the answer shows may be seen any more; ask again")
	}
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// consentChanges counts the changes to consents of the tenant, ever: the version
// of each grows by one with every change, deletions too.
func (v *View) consentChanges(ctx context.Context, p smart.Permit) (n int64, err error) {
	rows, err := v.query(ctx, p, gate.SQL(`
		SELECT coalesce(sum(version), 0)::bigint FROM ~resource
		WHERE  tenant_id = $1 AND type = ?`, fhir.Type("Consent").Number()))
	if err != nil {
		return 0, fmt.Errorf("counting changes to consents: %w", err)
	}
	n, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int64])
	if err != nil {
		return 0, fmt.Errorf("counting changes to consents: %w", err)
	}
	return n, nil
}

// stands reports whether the Grant may see all that an answer rests on.
func (v *View) stands(ctx context.Context, p smart.Permit, b basis) (bool, error) {
	if b.Beyond {
		if n, err := v.consentChanges(ctx, p); err != nil || n != b.Consents {
			return false, err
		}
	}
	for some := range slices.Chunk(b.Shows, maxFetch) {
		rows, err := v.asShown(ctx, p, some)
		if err != nil || rows == nil {
			return false, err
		}
		if ok, err := v.seesAll(ctx, rows); err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

// asShown returns the versions, and the current ones of the same resources: as
// for Vread both decide. It is nil if one of them is not there any more.
func (v *View) asShown(ctx context.Context, p smart.Permit, list []audit.ShownVersion) ([]row, error) {
	rids, versions := make([]int64, len(list)), make([]int64, len(list))
	for i, s := range list {
		rids[i], versions[i] = s.RID, s.Version
	}
	rows, err := v.query(ctx, p, gate.SQL(`
		SELECT rid, type, id, version, updated, deleted, body, 0::bigint
		FROM   ~resource
		WHERE  tenant_id = $1 AND rid = ANY(?::bigint[])
		UNION ALL
		SELECT h.rid, h.type, h.id, h.version, h.updated, h.deleted, h.body, 0
		FROM   unnest(?::bigint[], ?::bigint[]) AS k (rid, version)
		JOIN   ~history h ON h.tenant_id = $1 AND h.rid = k.rid AND h.version = k.version`, rids, rids, versions))
	if err != nil {
		return nil, fmt.Errorf("reading what an answer shows: %w", err)
	}
	found, err := pgx.CollectRows(rows, scanVersion)
	if err != nil {
		return nil, fmt.Errorf("reading what an answer shows: %w", err)
	}
	there := map[audit.ShownVersion]bool{}
	for _, r := range found {
		there[audit.ShownVersion{RID: r.rid, Version: r.version}] = true
	}
	if slices.ContainsFunc(list, func(s audit.ShownVersion) bool { return !there[s] }) {
		return nil, nil
	}
	return found, nil
}

// seesAll reports whether the Grant may see all of the versions.
func (v *View) seesAll(ctx context.Context, rows []row) (bool, error) {
	permits := map[fhir.Type]smart.Permit{}
	for _, r := range rows {
		if _, ok := permits[r.ref.Type]; ok {
			continue
		}
		p, err := v.anyPermit(r.ref.Type)
		if err != nil || p.On() == "" {
			return false, err
		}
		permits[r.ref.Type] = p
	}
	seen, err := v.seen(ctx, permits, rows)
	return err == nil && !slices.Contains(seen, false), err
}

// anyPermit returns a permit to read resources of the type in some way, zero if
// there is none.
func (v *View) anyPermit(on fhir.Type) (smart.Permit, error) {
	for _, do := range []fhir.Interaction{fhir.SearchType, fhir.Read, fhir.HistoryType} {
		p, err := v.gate.Permit(do, on)
		if err == nil || !fhir.IsCode(err, fhir.Forbidden) {
			return p, err
		}
	}
	return smart.Permit{}, nil
}
