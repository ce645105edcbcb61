package store

import (
	"cmp"
	"math"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
)

// The index holds keyed hashes only. Each kind of thing is hashed under a name
// of its own, so that equal texts of different kinds have different keys.

// hashed is the keyed hash of at most three parts. Of an import, whose lines say much
// the same, it is remembered for a batch.
func (v *View) hashed(parts ...string) int64 {
	if v.imports == nil {
		return v.keys.Hash(parts...)
	}
	var what [3]string
	copy(what[:], parts)
	h, ok := v.imports.hashes[what]
	if !ok {
		h = v.keys.Hash(parts...)
		if len(v.imports.hashes) < maxHashes {
			v.imports.hashes[what] = h
		}
	}
	return h
}

// maxHashes bounds how many are remembered.
const maxHashes = 4096

func (v *View) tokenKey(t search.Token) int64 { return v.hashed("t", string(t.Path), t.Value) }

func (v *View) refKey(path search.Path, pair search.Token) int64 {
	if pair == (search.Token{}) {
		return v.hashed("r", string(path))
	}
	return v.keys.Hash("p", string(path), string(pair.Path), pair.Value)
}

// target is the key of what a reference points at; rid that of a resource of
// this tenant, by which the database knows it. Were two resources ever to have
// one rid, the second could not be stored: with a billion resources in a tenant
// the chance that any two do is 3 %, and no read can mistake one for the other.
func (v *View) target(s string) int64  { return v.keys.Hash("s", s) }
func (v *View) rid(ref fhir.Ref) int64 { return v.target(ref.String()) }

func (v *View) dateKey(p search.Path) int64 { return v.keys.Hash("d", string(p)) }

func (v *View) numberKey(p search.Path, unit string) int64 {
	return v.hashed("n", string(p), unit)
}

func (v *View) standKey(how search.Path, who string) int64 {
	return v.keys.Hash("st", string(how), who)
}

// lockKey is the advisory lock for a name. It differs between tenants, since
// their index keys do.
func (v *View) lockKey(name string) int64 { return v.keys.Hash("l", name) }

// stamp is t as the database keeps it, to the microsecond; the zero Time and
// Forever are its infinities.
func stamp(t time.Time) pgtype.Timestamptz {
	switch {
	case t.IsZero():
		return pgtype.Timestamptz{InfinityModifier: pgtype.NegativeInfinity, Valid: true}
	case !t.Before(search.Forever):
		return pgtype.Timestamptz{InfinityModifier: pgtype.Infinity, Valid: true}
	}
	return pgtype.Timestamptz{Time: t.UTC().Truncate(time.Microsecond), Valid: true}
}

// compareTimes orders as the database does.
func compareTimes(a, b pgtype.Timestamptz) int {
	if a.InfinityModifier != b.InfinityModifier {
		return cmp.Compare(a.InfinityModifier, b.InfinityModifier)
	}
	return a.Time.Compare(b.Time)
}

// finite keeps a number within what float8 compares as a number.
func finite(f float64) float64 {
	if math.IsNaN(f) {
		return 0
	}
	return f
}

// now is the time of a change, in the precision of meta.lastUpdated.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
