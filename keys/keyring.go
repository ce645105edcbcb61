package keys

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/cordon-fhir/cordon/tenant"
)

// A Wrapped key as it is kept at rest: useless without the KMS.
type Wrapped struct {
	Class Class
	// KEK is the URI of the key that wraps it, "file://…" or "hcvault://…".
	KEK string
	// Data is the wrapped key. The tenant's number and the class are its
	// associated data, so that it opens in no other row.
	Data []byte
	// Fingerprint tells equal keys, so that the database can refuse a second
	// one. It says nothing about the key.
	Fingerprint []byte
}

// A Source keeps wrapped keys. store.Registry is one.
type Source interface {
	// Keys returns all wrapped keys of the tenant that are in use. Of those of the
	// class Signing the first signs.
	Keys(ctx context.Context, id tenant.ID) ([]Wrapped, error)
}

// A Keyring opens the keys of tenants and remembers them for a while. When the
// KMS is out of reach, the keys that it remembers run out and then it fails:
// there is no other way to open or seal.
type Keyring struct {
	src Source
	kms KMS

	// Lifetime is how long opened keys are remembered, and so how long a
	// tenant outlives the loss of its KMS key. Default 1 min. It must not be
	// changed once the Keyring is in use.
	Lifetime time.Duration
	// Failed is told, at most once a minute, that the keys of a tenant could be read
	// and not opened. It may be nil, and must not be changed either.
	Failed func(tenant.ID)

	opening singleflight.Group

	mu   sync.Mutex
	open map[tenant.ID]opened
	// era counts the calls of Forget, so that keys whose opening began before
	// one are not remembered after it.
	era uint64
	// told is when Failed was told of a tenant.
	told map[tenant.ID]time.Time
}

type opened struct {
	set   *Set
	until time.Time
	timer *time.Timer
}

// maxOpen bounds the number of tenants whose keys are in memory.
const maxOpen = 10_000

// openingTime bounds one opening, which several callers may wait for.
const openingTime = 10 * time.Second

// NewKeyring returns a Keyring that opens the keys of src with kms.
func NewKeyring(src Source, kms KMS) *Keyring {
	return &Keyring{src: src, kms: kms, Lifetime: time.Minute, open: map[tenant.ID]opened{}, told: map[tenant.ID]time.Time{}}
}

// Of returns the keys of the tenant. A Set outlives what the Keyring remembers,
// so it should be kept for one request only.
func (k *Keyring) Of(ctx context.Context, id tenant.ID) (*Set, error) {
	if id.IsZero() {
		return nil, errors.New("keys: no tenant")
	}
	k.mu.Lock()
	o, ok := k.open[id]
	era := k.era
	k.mu.Unlock()
	if ok && time.Now().Before(o.until) {
		return o.set, nil
	}
	// The era is part of the name, so that nobody joins an opening that began
	// before a Forget. One caller's end must not be the others'.
	name := id.String() + "/" + strconv.FormatUint(era, 10)
	ch := k.opening.DoChan(name, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), openingTime)
		defer cancel()
		return k.load(ctx, id, era)
	})
	select {
	case r := <-ch:
		if r.Err != nil {
			return nil, r.Err
		}
		return r.Val.(*Set), nil
	case <-ctx.Done():
		return nil, fmt.Errorf("opening the keys of tenant %s: %w", id, ctx.Err())
	}
}

func (k *Keyring) load(ctx context.Context, id tenant.ID, era uint64) (*Set, error) {
	rows, err := k.src.Keys(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("reading the keys of tenant %s: %w", id, err)
	}
	set, err := openSet(k.kms, id, rows)
	if err != nil {
		k.failed(id)
		return nil, fmt.Errorf("opening the keys of tenant %s: %w", id, err)
	}
	k.remember(id, set, era)
	return set, nil
}

// failed tells that the keys of the tenant do not open, now and then.
func (k *Keyring) failed(id tenant.ID) {
	if k.Failed == nil {
		return
	}
	k.mu.Lock()
	due := time.Since(k.told[id]) >= time.Minute
	if due {
		k.told[id] = time.Now()
	}
	k.mu.Unlock()
	if due {
		k.Failed(id)
	}
}

func (k *Keyring) remember(id tenant.ID, set *Set, era uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.era != era {
		return
	}
	k.drop(id)
	for other := range k.open {
		if len(k.open) < maxOpen {
			break
		}
		k.drop(other)
	}
	o := opened{set: set, until: time.Now().Add(k.Lifetime)}
	o.timer = time.AfterFunc(k.Lifetime, func() { k.expire(id, set) })
	k.open[id] = o
}

// expire drops keys that nobody asks for any more.
func (k *Keyring) expire(id tenant.ID, set *Set) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.open[id].set == set {
		delete(k.open, id)
	}
}

// drop needs k.mu.
func (k *Keyring) drop(id tenant.ID) {
	if o, ok := k.open[id]; ok {
		o.timer.Stop()
		delete(k.open, id)
	}
}

// Forget drops what k remembers of the tenant.
func (k *Keyring) Forget(id tenant.ID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.era++
	k.drop(id)
}
