package outbound

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
)

// A Cache keeps what servers say at URLs, each for as long as Read lets it. When
// half of that is over it is read again, by one of those who ask; if that fails
// the others go on with what there is, until its time is up. Then there is
// nothing but the error.
type Cache[T any] struct {
	// Read returns what is at the URL and how long that is good, 0 for this once.
	// before is what was there before, zero if nothing was. Required.
	Read func(ctx context.Context, url string, before T) (T, time.Duration, error)
	// Now tells the time. Default time.Now.
	Now func() time.Time

	reading singleflight.Group
	mu      sync.RWMutex
	known   map[string]*place[T]
}

// place is what is known of one URL.
type place[T any] struct {
	said atomic.Pointer[said[T]]
	// tried is when it was last asked, in nanoseconds; failed says that this
	// came to nothing.
	tried  atomic.Int64
	failed atomic.Bool
}

type said[T any] struct {
	what         T
	renew, until time.Time
}

// The bounds of a Cache.
const (
	maxPlaces = 10_000
	// readTime bounds one reading, which several may wait for.
	readTime = 10 * time.Second
	// A server that fails is left alone for retryAfter, and one that is asked
	// for something new for newsAfter.
	retryAfter = 5 * time.Second
	newsAfter  = 30 * time.Second
)

// ErrUnavailable says that a server did not say what was asked for, just now or
// a moment ago.
var ErrUnavailable = errors.New("outbound: the server does not answer as it should")

// Get returns what is at the URL.
func (c *Cache[T]) Get(ctx context.Context, url string) (T, error) {
	p, now := c.place(url), c.now()
	s := p.said.Load()
	if s == nil || !now.Before(s.until) {
		if p.failed.Load() && now.Before(p.last().Add(retryAfter)) {
			return *new(T), ErrUnavailable
		}
		return c.read(ctx, url, p)
	}
	if before := p.tried.Load(); !now.Before(s.renew) && now.Sub(time.Unix(0, before)) >= newsAfter && p.tried.CompareAndSwap(before, now.UnixNano()) {
		if what, err := c.read(ctx, url, p); err == nil {
			return what, nil
		}
	}
	return s.what, nil
}

// News returns what is at the URL now, for who has not found something in what
// Get returned. It asks no more than twice a minute; ok is false if it did not.
func (c *Cache[T]) News(ctx context.Context, url string) (what T, ok bool, err error) {
	p, now := c.place(url), c.now()
	before := p.tried.Load()
	if now.Sub(time.Unix(0, before)) < newsAfter || !p.tried.CompareAndSwap(before, now.UnixNano()) {
		return what, false, nil
	}
	what, err = c.read(ctx, url, p)
	return what, err == nil, err
}

func (p *place[T]) last() time.Time { return time.Unix(0, p.tried.Load()) }

func (c *Cache[T]) now() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

func (c *Cache[T]) place(url string) *place[T] {
	c.mu.RLock()
	p := c.known[url]
	c.mu.RUnlock()
	if p != nil {
		return p
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if p = c.known[url]; p != nil {
		return p
	}
	if c.known == nil || len(c.known) >= maxPlaces {
		c.known = map[string]*place[T]{}
	}
	p = &place[T]{}
	c.known[url] = p
	return p
}

// read asks the server, once for all who wait. The end of one of them is not
// that of the others.
func (c *Cache[T]) read(ctx context.Context, url string, p *place[T]) (T, error) {
	got := c.reading.DoChan(url, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTime)
		defer cancel()
		var before T
		if s := p.said.Load(); s != nil {
			before = s.what
		}
		begun := c.now()
		p.tried.Store(begun.UnixNano())
		what, life, err := c.Read(ctx, url, before)
		if p.failed.Store(err != nil); err != nil {
			return what, err
		}
		p.said.Store(&said[T]{what, begun.Add(life / 2), begun.Add(life)})
		return what, nil
	})
	select {
	case <-ctx.Done():
		return *new(T), fmt.Errorf("%w: %w", ErrUnavailable, ctx.Err())
	case r := <-got:
		if r.Err != nil {
			return *new(T), fmt.Errorf("%w: %w", ErrUnavailable, r.Err)
		}
		return r.Val.(T), nil
	}
}
