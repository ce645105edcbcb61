package smart

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
)

// recordLease is for how long a Verifier trusts what it has read of a record
// that all servers share.
const recordLease = 500 * time.Millisecond

// readingTime bounds one reading of a record.
const readingTime = 5 * time.Second

// leased is what was read of a record. Requests read it without a lock; when the
// lease is over one of them reads on, and the others wait.
type leased[S any] struct {
	now func() time.Time
	// read returns what the record says, given what it said before; nil at
	// first. It changes nothing of that.
	read func(context.Context, *S) (*S, error)

	state   atomic.Pointer[lease[S]]
	reading singleflight.Group
}

type lease[S any] struct {
	value *S
	until time.Time
}

// get returns what the record says. An error means that nobody knows.
func (l *leased[S]) get(ctx context.Context) (*S, error) {
	if s := l.state.Load(); s != nil && l.now().Before(s.until) {
		return s.value, nil
	}
	return l.fresh(ctx)
}

// fresh returns what is known under a lease that was not over when fresh was
// called. One that was being read already may be older than that: then it is
// read again.
func (l *leased[S]) fresh(ctx context.Context) (*S, error) {
	called := l.now()
	for {
		result := l.reading.DoChan("", func() (any, error) {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readingTime)
			defer cancel()
			return l.again(ctx)
		})
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case got := <-result:
			if got.Err != nil {
				return nil, got.Err
			}
			if s := got.Val.(*lease[S]); called.Before(s.until) {
				return s.value, nil
			}
		}
	}
}

func (l *leased[S]) again(ctx context.Context) (*lease[S], error) {
	old := l.state.Load()
	began := l.now() // the lease begins before the record is read
	if old == nil {
		old = &lease[S]{}
	} else if began.Before(old.until) {
		return old, nil // another has read meanwhile
	}
	value, err := l.read(ctx, old.value)
	if err != nil {
		return nil, err
	}
	s := &lease[S]{value, began.Add(recordLease)}
	l.state.Store(s)
	return s, nil
}
