package evidence

import "time"

// Facts are what the control plane states about a tenant at one moment. They hold
// no content of a record, no secret and no name of a patient.
type Facts struct {
	Tenant     Tenant      `json:"tenant"`
	Made       time.Time   `json:"made"`
	Operator   string      `json:"operator"` // who asked
	Build      Build       `json:"build"`
	Places     []Place     `json:"places"`
	Tables     []Table     `json:"tables"`
	Roles      []Role      `json:"roles"`
	Privileges []Privilege `json:"privileges"`
	Keys       []Key       `json:"keys"`
	Policy     Policy      `json:"policy"`
	Principals []Principal `json:"principals"`
	Operators  []Operator  `json:"operators"`
	// Settings are those of the tenant, as operators set them.
	Settings any `json:"settings"`
}

// Tenant is whose data it is about.
type Tenant struct {
	Slug   string `json:"slug"`
	Number int32  `json:"number"`
	Mode   string `json:"mode"` // shared, schema or database
	Region string `json:"region"`
	Status string `json:"status"`
}

// Build is the program that states the facts.
type Build struct {
	Version string `json:"version"`
	// Schema and SchemaLatest are the migration that the tables are at, and the last one.
	Schema       uint `json:"schema"`
	SchemaLatest uint `json:"schema_latest"`
}

// A Place is where one kind of copy of the tenant's data is.
type Place struct {
	What   string `json:"what"`
	Where  string `json:"where"`
	Region string `json:"region"`
	Sealed string `json:"sealed"` // under which of its keys; what is in clear
	Kept   string `json:"kept"`   // how long
}

// A Table is one of the tenant's place, as PostgreSQL describes it.
type Table struct {
	Name string `json:"name"`
	// RowSecurity says that rows are kept apart by PostgreSQL, Forced that it holds
	// the owner of the table too, and Policies by how many policies.
	RowSecurity bool `json:"row_security"`
	Forced      bool `json:"forced"`
	Policies    int  `json:"policies"`
}

// A Role is one of PostgreSQL that has a privilege on a table of the place, or may
// become one that has.
type Role struct {
	Name        string `json:"name"`
	Login       bool   `json:"login"`
	Superuser   bool   `json:"superuser"`
	BypassesRLS bool   `json:"bypasses_rls"`
	Owner       bool   `json:"owner"` // of a table
	// Becomes are the others of these roles that it is a member of, through
	// whichever: it can act as them.
	Becomes []string `json:"becomes,omitempty"`
}

// A Privilege is what a role may do with a table.
type Privilege struct {
	Role  string `json:"role"`
	Table string `json:"table"`
	May   string `json:"may"`
}

// A Key is one that the tenant's data is sealed or signed with.
type Key struct {
	Class       string `json:"class"`
	Algorithm   string `json:"algorithm"`
	Wrapped     string `json:"wrapped_by"`  // URI of the key-encryption key
	Fingerprint string `json:"fingerprint"` // tells keys apart, and nothing else about them
	// Since is from when it signs, and Until when what it alone has signed counts no
	// longer, of keys of the audit log.
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
}

// Policy is the access policy in force.
type Policy struct {
	Version    int64     `json:"version"`
	SHA256     string    `json:"sha256"`
	ProposedBy string    `json:"proposed_by,omitzero"`
	ApprovedBy string    `json:"approved_by,omitzero"`
	Approved   time.Time `json:"approved,omitzero"`
	Rules      []Rule    `json:"rules"`
}

// A Rule is one permit or forbid of a policy.
type Rule struct {
	ID      string `json:"id"`
	Says    string `json:"says,omitzero"`
	Forbids bool   `json:"forbids,omitzero"`
}

// A Principal is somebody who may ask for a token, or a source of such.
type Principal struct {
	Kind     string   `json:"kind"` // client, user, identity-provider or issuer
	ID       string   `json:"id"`
	User     string   `json:"user,omitzero"` // the fhirUser
	Roles    []string `json:"roles,omitempty"`
	Scopes   []string `json:"scopes,omitempty"` // at most
	Disabled bool     `json:"disabled,omitzero"`
	// Allowed is what scopes and policy together allow, by type, in the letters of
	// SMART: in capitals every resource of the type, small those that the policy or
	// the scopes speak of. Of a source of users it is not known beforehand.
	Allowed map[string]string `json:"allowed,omitempty"`
}

// An Operator is somebody who may use the control API. That reads no record.
type Operator struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Disabled bool   `json:"disabled,omitzero"`
}
