package smart

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

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

// revocationLease is how long a Verifier trusts what it has read of the record.
const revocationLease = 500 * time.Millisecond

// RevocationDelay is how long after it is on record a revocation holds on every
// server. Who revokes waits for it before saying that it is done: then no later
// request gets through, wherever it goes. Only the length of time counts, no
// clock is compared with another.
const RevocationDelay = revocationLease + 100*time.Millisecond

// revoked is what a Verifier knows of the record. Requests read it without a
// lock; when the lease is over one of them reads on, and the others wait.
type revoked struct {
	record Revocations
	now    func() time.Time

	state   atomic.Pointer[revokedState]
	reading singleflight.Group
}

type revokedState struct {
	void  map[revokedKey]time.Time
	next  int64
	until time.Time
}

type revokedKey struct {
	tenant int32
	id     string
}

// holds reports whether the token was revoked. An error means that nobody
// knows; then it must be refused.
func (r *revoked) holds(ctx context.Context, t *tenant.Tenant, tok Token) (bool, error) {
	if r.record == nil {
		return false, nil
	}
	s := r.state.Load()
	if s == nil || !r.now().Before(s.until) {
		var err error
		if s, err = r.fresh(ctx); err != nil {
			return true, err
		}
	}
	if _, void := s.void[revokedKey{t.ID.Int(), tok.ID}]; void {
		return true, nil
	}
	_, void := s.void[revokedKey{t.ID.Int(), tok.Session}]
	return void && tok.Session != "", nil
}

// readingTime bounds one reading of the record.
const readingTime = 5 * time.Second

// fresh returns a state whose lease was not over when fresh was called. One
// that was being read already may be older than that: then it is read again.
func (r *revoked) fresh(ctx context.Context) (*revokedState, error) {
	called := r.now()
	for {
		result := r.reading.DoChan("", func() (any, error) {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readingTime)
			defer cancel()
			return r.read(ctx)
		})
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case got := <-result:
			if got.Err != nil {
				return nil, fmt.Errorf("looking up what was revoked: %w", got.Err)
			}
			if s := got.Val.(*revokedState); called.Before(s.until) {
				return s, nil
			}
		}
	}
}

func (r *revoked) read(ctx context.Context) (*revokedState, error) {
	old := r.state.Load()
	if old == nil {
		old = &revokedState{}
	}
	began := r.now() // the lease begins before the record is read
	if began.Before(old.until) {
		return old, nil // another has read meanwhile
	}
	list, next, err := r.record.RevokedSince(ctx, old.next)
	if err != nil {
		return nil, err
	}
	if next < old.next {
		return nil, errors.New("smart: the record of revocations went back")
	}
	s := &revokedState{void: old.void, next: next, until: began.Add(revocationLease)}
	// What has expired goes when something comes, or about once a minute.
	if len(list) > 0 || len(old.void) > 0 && began.Unix()/60 != old.until.Unix()/60 {
		s.void = old.with(list, began)
	}
	r.state.Store(s)
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
