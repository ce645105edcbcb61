package external

import (
	"crypto/sha256"
	"sync"
	"time"

	"github.com/cordon-fhir/cordon/fhir/terminology"
)

// A cache keeps answers. When it is full the older half is dropped.
type cache struct {
	mu         sync.Mutex
	fresh, old map[[sha256.Size]byte]answered
}

type answered struct {
	answer terminology.Answer
	until  time.Time
}

func (c *cache) get(key string, now time.Time) (terminology.Answer, bool) {
	k := sha256.Sum256([]byte(key))
	c.mu.Lock()
	defer c.mu.Unlock()
	a, ok := c.fresh[k]
	if !ok {
		a, ok = c.old[k]
	}
	return a.answer, ok && now.Before(a.until)
}

func (c *cache) put(key string, a terminology.Answer, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fresh == nil || len(c.fresh) >= maxKnown/2 {
		c.fresh, c.old = map[[sha256.Size]byte]answered{}, c.fresh
	}
	c.fresh[sha256.Sum256([]byte(key))] = answered{a, until}
}
