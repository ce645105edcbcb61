// Package jwks reads the public keys of others where they publish them, and
// keeps them for a while.
//
// https://www.rfc-editor.org/rfc/rfc7517#section-5
package jwks

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cordon-fhir/cordon/outbound"
)

// Config says how keys are read.
type Config struct {
	// Private are networks in which keys may be published although they are not
	// of the public internet. Default none.
	Private []netip.Prefix
	// Timeout bounds each question. Default 5s.
	Timeout time.Duration
	// Least is how long keys are kept although their owner says that it is less.
	// Default 0: what the owner says counts.
	Least time.Duration
	// Now tells the time. Default time.Now.
	Now func() time.Time
}

// A Reader reads keys.
type Reader struct {
	cfg   Config
	cache outbound.Cache[set]
}

// A set is the keys that can be told by their names.
type set map[string]*jose.JSONWebKey

// New returns a Reader.
func New(cfg Config) *Reader {
	if cfg.Timeout <= 0 {
		cfg.Timeout = 5 * time.Second
	}
	r := &Reader{cfg: cfg}
	r.cache = outbound.Cache[set]{Read: r.read, Now: cfg.Now}
	return r
}

// Key returns the key for signatures of the name that is published at the URL,
// nil if there is none. As long as a key does not change it is the same pointer.
// What is not known is asked for again, twice a minute at most: so a new key is
// found at once, and nobody makes us ask for what was never there. An error is
// outbound.ErrUnavailable.
func (r *Reader) Key(ctx context.Context, url, kid string) (*jose.JSONWebKey, error) {
	keys, err := r.cache.Get(ctx, url)
	if err != nil {
		return nil, err
	}
	if key := keys[kid]; key != nil {
		return key, nil
	}
	keys, _, err = r.cache.News(ctx, url)
	return keys[kid], err
}

// The bounds of what is read.
const (
	maxAnswer = 256 << 10
	maxKeys   = 100
	// life is how long keys are good, unless their owner says that it is less: as
	// long, a key that was taken away is still believed.
	life = 10 * time.Minute
)

func (r *Reader) read(ctx context.Context, url string, before set) (set, time.Duration, error) {
	client := outbound.Client(outbound.Config{URL: url, Private: r.cfg.Private, Timeout: r.cfg.Timeout, Conns: 1, MaxAnswer: maxAnswer})
	client.Timeout = r.cfg.Timeout
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, 0, errors.New("jwks: the URL is malformed")
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := client.Do(req)
	if err != nil {
		return nil, 0, errors.New("jwks: the keys cannot be read") // the error names an address
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("jwks: the keys are answered with %d", resp.StatusCode)
	}
	var doc struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&doc); err != nil || len(doc.Keys) > maxKeys {
		return nil, 0, errors.New("jwks: what is there is no JSON Web Key Set, or too long")
	}
	return parse(doc.Keys, before), max(lifeOf(resp.Header), r.cfg.Least), nil
}

// parse returns the keys that verify signatures. One of a kind that we do not
// know is none; two of one name are none.
func parse(list []json.RawMessage, before set) set {
	keys := set{}
	for _, text := range list {
		var key jose.JSONWebKey
		if key.UnmarshalJSON(text) != nil || !key.IsPublic() || !key.Valid() || key.KeyID == "" || key.Use != "" && key.Use != "sig" {
			continue
		}
		if _, twice := keys[key.KeyID]; twice {
			keys[key.KeyID] = nil
			continue
		}
		keys[key.KeyID] = &key
		if old := before[key.KeyID]; old != nil && same(*old, key) {
			keys[key.KeyID] = old
		}
	}
	return keys
}

func same(a, b jose.JSONWebKey) bool {
	of, err1 := a.Thumbprint(crypto.SHA256)
	with, err2 := b.Thumbprint(crypto.SHA256)
	return err1 == nil && err2 == nil && slices.Equal(of, with) && a.Algorithm == b.Algorithm
}

// lifeOf returns how long keys may be kept.
// https://www.rfc-editor.org/rfc/rfc9111#section-5.2.2
func lifeOf(h http.Header) time.Duration {
	least := life
	for _, line := range h.Values("Cache-Control") {
		for part := range strings.SplitSeq(line, ",") {
			name, value, _ := strings.Cut(strings.ToLower(strings.TrimSpace(part)), "=")
			switch name {
			case "no-store", "no-cache":
				return 0
			case "max-age":
				if n, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31); err == nil {
					least = min(least, time.Duration(n)*time.Second)
				}
			}
		}
	}
	return least
}
