package store

import (
	"sync"
	"time"

	"github.com/cordon-fhir/cordon/tenant"
)

// tenantIdle is how long is kept what is of a tenant that nobody asks for.
const tenantIdle = 10 * time.Minute

// byTenant keeps a T of each tenant that is in use. Who asks gets the one that
// is there, or a new one, and may hold it past the time that it is kept.
type byTenant[T any] struct {
	mu    sync.Mutex
	kept  map[tenant.ID]*keptOf[T]
	swept time.Time
}

type keptOf[T any] struct {
	it   T
	used time.Time
}

func (b *byTenant[T]) of(id tenant.ID) *T {
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if now.Sub(b.swept) > time.Minute {
		b.swept = now
		for id, x := range b.kept {
			if now.Sub(x.used) > tenantIdle {
				delete(b.kept, id)
			}
		}
	}
	x := b.kept[id]
	if x == nil {
		if b.kept == nil {
			b.kept = map[tenant.ID]*keptOf[T]{}
		}
		x = &keptOf[T]{}
		b.kept[id] = x
	}
	x.used = now
	return &x.it
}
