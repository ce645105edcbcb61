package tenant

import (
	"context"
	"sync"
	"time"
)

// A Row is a tenant as the source of record keeps it.
type Row struct {
	ID            int32
	Slug          string
	Name          string
	Mode          string
	Status        string
	Region        string
	PolicyVersion int64
	// Settings are the JSON of Settings; none is the default.
	Settings []byte
	// Issuer is the version of the outside issuer that it trusts, or 0.
	Issuer int64
	// Packages counts the changes of which packages it has.
	Packages  int64
	Placement Placement
}

// A Source is the record of tenants. store.Registry is one.
type Source interface {
	// TenantBySlug returns ErrUnknown if there is none.
	TenantBySlug(ctx context.Context, slug string) (Row, error)
}

// A Registry answers which tenant a slug names. It remembers an answer for a
// short time, so a suspension takes effect everywhere within Lifetime.
type Registry struct {
	src Source

	// Lifetime is how long an answer is remembered. Default 1s.
	Lifetime time.Duration

	mu    sync.Mutex
	known map[string]answer
}

type answer struct {
	tenant *Tenant
	until  time.Time
}

// NewRegistry returns a Registry over src.
func NewRegistry(src Source) *Registry {
	return &Registry{src: src, Lifetime: time.Second, known: map[string]answer{}}
}

// maxKnown bounds the memory that a Registry uses.
const maxKnown = 100_000

// Tenant returns the tenant with the slug. It returns ErrUnknown if there is
// none, also when the slug is malformed.
func (r *Registry) Tenant(ctx context.Context, text string) (*Tenant, error) {
	s, err := ParseSlug(text)
	if err != nil {
		return nil, ErrUnknown
	}
	now := time.Now()
	r.mu.Lock()
	a, ok := r.known[s.s]
	r.mu.Unlock()
	if ok && now.Before(a.until) {
		return a.tenant, nil
	}
	row, err := r.src.TenantBySlug(ctx, s.s)
	if err != nil {
		return nil, err
	}
	t, err := fromRow(row)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	if len(r.known) >= maxKnown {
		clear(r.known)
	}
	r.known[s.s] = answer{t, now.Add(r.Lifetime)}
	r.mu.Unlock()
	return t, nil
}

// Forget drops what r remembers of the slug.
func (r *Registry) Forget(slug string) {
	r.mu.Lock()
	delete(r.known, slug)
	r.mu.Unlock()
}

func fromRow(row Row) (*Tenant, error) {
	s, err := ParseSlug(row.Slug)
	if err != nil {
		return nil, err
	}
	m, err := ParseMode(row.Mode)
	if err != nil {
		return nil, err
	}
	settings, err := storedSettings(row.Settings)
	if err != nil {
		return nil, err
	}
	return &Tenant{
		ID: ID{row.ID}, Slug: s, Name: row.Name, Mode: m, Status: Status(row.Status),
		Region: row.Region, PolicyVersion: row.PolicyVersion, Settings: settings, Issuer: row.Issuer, Packages: row.Packages,
		Placement: row.Placement,
	}, nil
}
