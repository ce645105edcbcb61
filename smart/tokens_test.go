package smart

import (
	"encoding/binary"
	"testing"
	"time"
)

func digestOf(i int) (d digest) {
	binary.BigEndian.PutUint64(d[:], uint64(i))
	return d
}

// A busy tenant keeps to its share and leaves the others theirs.
func TestRememberedTokensAreBoundedByTenant(t *testing.T) {
	s := tokens{byTenant: map[string]map[digest]*verified{}}
	now := time.Now()
	good := &verified{claims: Token{Expires: now.Add(time.Minute).Unix()}}
	s.put("quiet", digestOf(1), good, now)
	for i := range 3 * maxTokens {
		s.put("busy", digestOf(i), good, now)
	}
	if n := len(s.byTenant["busy"]); n > maxTokens {
		t.Errorf("%d tokens are remembered, want at most %d", n, maxTokens)
	}
	if s.get("busy", digestOf(3*maxTokens-1)) == nil {
		t.Error("the last token was not remembered")
	}
	if s.get("quiet", digestOf(1)) == nil || s.get("busy", digestOf(1<<40)) != nil {
		t.Error("the tenants are not kept apart")
	}
}

func TestExpiredTokensMakeRoomFirst(t *testing.T) {
	s := tokens{byTenant: map[string]map[digest]*verified{}}
	now := time.Now()
	good := &verified{claims: Token{Expires: now.Add(time.Minute).Unix()}}
	old := &verified{claims: Token{Expires: now.Unix()}}
	s.put("north", digestOf(0), good, now)
	for i := range maxTokens {
		s.put("north", digestOf(i+1), old, now)
	}
	if s.get("north", digestOf(0)) == nil {
		t.Error("a good token made room while others had expired")
	}
}
