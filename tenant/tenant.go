// Package tenant says who the tenants are and where each one's data lies.
package tenant

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
)

// An ID is the number of a tenant. Only a Registry makes one, from its source
// of record, and a number is never used again.
type ID struct{ n int32 }

// Int returns the number, for the database. It is 0 for the zero ID.
func (id ID) Int() int32 { return id.n }

// IsZero reports whether id is the tenant of nobody.
func (id ID) IsZero() bool { return id.n == 0 }

// String returns the number in decimal.
func (id ID) String() string { return strconv.Itoa(int(id.n)) }

// A Slug is the name of a tenant in URLs. It never changes.
type Slug struct{ s string }

// String returns the text of the slug.
func (s Slug) String() string { return s.s }

var slug = regexp.MustCompile(`^[a-z][a-z0-9-]{1,30}[a-z0-9]$`)

// reserved slugs would read like a route or a schema of the system.
var reserved = map[string]bool{"metadata": true, "registry": true, "control": true, "public": true, "information-schema": true, "cordon": true, "shared": true}

// ErrUnknown says that no tenant has the slug. The outside world must not be
// able to tell it from a tenant it may not address.
var ErrUnknown = errors.New("tenant: unknown")

// ParseSlug reads a slug: 3 to 32 of a-z 0-9 and hyphen, beginning with a
// letter. Nothing is folded, trimmed or decoded: one tenant has one spelling.
func ParseSlug(s string) (Slug, error) {
	if !slug.MatchString(s) || reserved[s] {
		return Slug{}, fmt.Errorf("tenant: malformed slug")
	}
	return Slug{s}, nil
}

// A Mode says what isolates a tenant's rows from others'.
type Mode string

// The partition modes.
const (
	Shared   Mode = "shared"   // one schema; row-level security
	Schema   Mode = "schema"   // a schema and a role of its own; row-level security
	Database Mode = "database" // a database and credentials of its own; row-level security
)

// ParseMode reads a Mode.
func ParseMode(s string) (Mode, error) {
	switch m := Mode(s); m {
	case Shared, Schema, Database:
		return m, nil
	}
	return "", fmt.Errorf("tenant: mode must be shared, schema or database")
}

// A Status is a stage in the life of a tenant.
type Status string

// The stages. Only an active tenant is served.
const (
	Provisioning Status = "provisioning"
	Active       Status = "active"
	Suspended    Status = "suspended"
)

// FirstPolicy is the PolicyVersion of a tenant that has chosen no policy.
const FirstPolicy = 1

// A Tenant is a row of the registry.
type Tenant struct {
	ID     ID
	Slug   Slug
	Name   string // for people
	Mode   Mode
	Status Status
	// Region is where its data may be processed.
	Region string
	// PolicyVersion counts the changes of its access policy. Cursors and
	// caches are bound to it.
	PolicyVersion int64
	Settings      Settings
	// Issuer is the version of the authorization server outside of Cordon that
	// it trusts instead of its own, 0 if it has its own.
	Issuer int64
	// Packages counts the changes of which packages of definitions it has.
	Packages  int64
	Placement Placement
}

// A Placement says where the rows of a tenant lie.
type Placement struct {
	// Schema qualifies its tables: "shared", or "t12".
	Schema string
	// Role is what a transaction becomes before it touches the tables; ""
	// means that the login role itself holds the rights.
	Role string
	// DSN is the database of a tenant in Database mode, with its own
	// credentials; "" means the common database.
	DSN string
	// AuditDSN is the same for the role that only appends to the audit trail.
	AuditDSN string
	// LogDSN is the same for the role that makes a log of the audit trail.
	LogDSN string
	// Signer is the secret that signs the tenant's number for the database.
	Signer []byte
}

// String keeps credentials out of logs.
func (p Placement) String() string { return "placement " + p.Schema }
