package fhir

import (
	"log/slog"
	"time"
)

// A Resource is one version of a stored resource.
type Resource struct {
	Ref     Ref
	Version int64
	// Updated is meta.lastUpdated, in UTC, to the millisecond.
	Updated time.Time
	// Deleted says that this version is a deletion; it has no Body.
	Deleted bool
	// Body is the compact JSON of the resource, with id, meta.versionId and
	// meta.lastUpdated in it. It is what the client sent otherwise, byte for
	// byte. Nobody may change it.
	Body []byte
}

// ETag returns the weak entity tag of the version, W/"3".
// https://hl7.org/fhir/R4/http.html#versioning
func (r Resource) ETag() string { return ETag(r.Version) }

// LogValue keeps clinical content out of logs: only the name of r is shown.
func (r Resource) LogValue() slog.Value {
	return slog.GroupValue(slog.String("ref", r.Ref.String()), slog.Int64("version", r.Version))
}
