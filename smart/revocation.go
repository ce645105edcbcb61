package smart

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cordon-fhir/cordon/tenant"
)

// A Revoked is something that is void although it has not expired: all tokens
// with the Session ID, or the one token with that ID, of the tenant.
type Revoked struct {
	Tenant  int32
	ID      string
	Expires time.Time // then no token is left that it is about
}

// Revocations is the record of what was revoked. store.Registry is one.
type Revocations interface {
	// RevokedSince returns what was revoked since an earlier call returned
	// next, of all tenants; since 0, everything.
	RevokedSince(ctx context.Context, since int64) (list []Revoked, next int64, err error)
}

// RevocationDelay is how long after it is on record a revocation holds on every
// server. Who revokes waits for it before saying that it is done: then no later
// request gets through, wherever it goes. Only the length of time counts, no
// clock is compared with another.
const RevocationDelay = recordLease + 100*time.Millisecond

// revoked is what a Verifier knows of the record, nil if it has none.
type revoked struct {
	record Revocations
	leased[revokedState]
}

type revokedState struct {
	void map[revokedKey]time.Time
	next int64
	at   time.Time // of the reading
}

func newRevoked(record Revocations, now func() time.Time) *revoked {
	if record == nil {
		return nil
	}
	r := &revoked{record: record}
	r.now, r.read = now, r.readOn
	return r
}

type revokedKey struct {
	tenant int32
	id     string
}

// holds reports whether the token was revoked. An error means that nobody
// knows; then it must be refused.
func (r *revoked) holds(ctx context.Context, t *tenant.Tenant, tok Token) (bool, error) {
	if r == nil {
		return false, nil
	}
	s, err := r.get(ctx)
	if err != nil {
		return true, fmt.Errorf("looking up what was revoked: %w", err)
	}
	if _, void := s.void[revokedKey{t.ID.Int(), tok.ID}]; void {
		return true, nil
	}
	_, void := s.void[revokedKey{t.ID.Int(), tok.Session}]
	return void && tok.Session != "", nil
}

// readOn reads what was revoked since.
func (r *revoked) readOn(ctx context.Context, old *revokedState) (*revokedState, error) {
	if old == nil {
		old = &revokedState{}
	}
	began := r.now()
	list, next, err := r.record.RevokedSince(ctx, old.next)
	if err != nil {
		return nil, err
	}
	if next < old.next {
		return nil, errors.New("smart: the record of revocations went back")
	}
	s := &revokedState{void: old.void, next: next, at: began}
	// What has expired goes when something comes, or about once a minute.
	if len(list) > 0 || len(old.void) > 0 && began.Unix()/60 != old.at.Unix()/60 {
		s.void = old.with(list, began)
	}
	return s, nil
}

// with returns what is void with the list, without what has expired.
func (s *revokedState) with(list []Revoked, now time.Time) map[revokedKey]time.Time {
	void := make(map[revokedKey]time.Time, len(s.void)+len(list))
	for key, until := range s.void {
		if now.Before(until) {
			void[key] = until
		}
	}
	for _, v := range list {
		void[revokedKey{v.Tenant, v.ID}] = v.Expires
	}
	return void
}
