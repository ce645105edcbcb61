package smart

import (
	"crypto/sha256"
	"sync"
	"time"
)

// A digest is the SHA-256 of a bearer, so that no bearer lies in memory.
type digest [sha256.Size]byte

// tokens are those that were verified, by the slug of
// their tenant, so that a busy tenant cannot push out another's.
type tokens struct {
	mu       sync.RWMutex
	byTenant map[string]map[digest]*verified
}

// maxTokens bounds the tokens that are remembered of one tenant.
const maxTokens = 4096

func (s *tokens) get(slug string, key digest) *verified {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byTenant[slug][key]
}

func (s *tokens) put(slug string, key digest, tok *verified, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := s.byTenant[slug]
	if own == nil {
		own = map[digest]*verified{}
		s.byTenant[slug] = own
	}
	if len(own) >= maxTokens {
		makeRoom(own, now)
	}
	own[key] = tok
}

// makeRoom drops what has expired, or if that is nothing, something.
func makeRoom(own map[digest]*verified, now time.Time) {
	for key, tok := range own {
		if tok.claims.Expires <= now.Unix() {
			delete(own, key)
		}
	}
	for key := range own {
		if len(own) < maxTokens {
			return
		}
		delete(own, key)
	}
}
