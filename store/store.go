// Package store keeps resources in PostgreSQL, one tenant at a time.
package store

import (
	"context"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
)

// DB is the door to the data of every tenant. It opens for a Grant only.
type DB struct{}

// Close waits for running transactions and closes the connections.
func (db *DB) Close() {}

// View runs fn on a snapshot of the tenant of g. What fn reads may leave the
// process only after View returns nil: by then the reads are audited. If they
// cannot be, View returns a *fhir.Error with code Transient.
func (db *DB) View(ctx context.Context, g *smart.Grant, fn func(*View) error) error { panic("stub") }

// Read is a View that reads one resource, in one round trip.
func (db *DB) Read(ctx context.Context, g *smart.Grant, ref fhir.Ref) (fhir.Resource, error) {
	panic("stub")
}

// Update runs fn on one transaction of the tenant of g and commits what it
// wrote together with the audit entries, or nothing. fn may be run again when
// the database asks for a retry (deadlock, serialization), so it must not
// keep state from an earlier run.
func (db *DB) Update(ctx context.Context, g *smart.Grant, fn func(*Tx) error) error { panic("stub") }

// Record makes sure that the request of g has its audit entry: it writes one
// if no View or Update did, or if the request is a Bundle. e gives what is
// known of the request: Interaction, Type, Entity, Outcome, Status, Reason.
func (db *DB) Record(ctx context.Context, g *smart.Grant, e audit.Entry) error { panic("stub") }

// View reads from a snapshot.
type View struct{}

// Read returns the current version of the resource. The error is a
// *fhir.Error: Forbidden if the Grant does not reach the type, NotFound if
// there is none that it may see, Deleted if the last version is a deletion.
func (v *View) Read(ctx context.Context, ref fhir.Ref) (fhir.Resource, error) { panic("stub") }

// Vread returns one version of the resource; errors as for Read.
func (v *View) Vread(ctx context.Context, ref fhir.Ref, version int64) (fhir.Resource, error) {
	panic("stub")
}

// A Page is a page of search results.
type Page struct {
	// Matches are the resources found, in the order asked for.
	Matches []fhir.Resource
	// Included are those that _include and _revinclude add.
	Included []fhir.Resource
	// Total is the number of matches; nil if it was not asked for.
	Total *int
	// Next is the sealed cursor of the next page, "" on the last.
	Next string
}

// Search returns the first page of the answer to q.
func (v *View) Search(ctx context.Context, q *search.Query) (*Page, error) { panic("stub") }

// A Cursor names a page of a search or history: what was asked, and where the
// page begins. Only the principal who got it can open it, and only for a day.
type Cursor struct {
	Interaction fhir.Interaction
	Ref         fhir.Ref // what was in the path
	Query       string   // the query that was asked, URL-encoded
	Page        int      // counted from 1; the first Next is 2
	position    []byte
}

// OpenCursor reads a sealed cursor. Any fault is a *fhir.Error with the same
// words: code Invalid, status 400.
func (db *DB) OpenCursor(ctx context.Context, g *smart.Grant, sealed string) (Cursor, error) {
	panic("stub")
}

// SearchFrom returns the page of q at the cursor; q is what Cursor.Query says.
func (v *View) SearchFrom(ctx context.Context, q *search.Query, c Cursor) (*Page, error) {
	panic("stub")
}

// Count returns how many resources q matches.
func (v *View) Count(ctx context.Context, q *search.Query) (int, error) { panic("stub") }

// A HistoryQuery asks for versions, newest first.
type HistoryQuery struct {
	Ref   fhir.Ref  // Type and ID, Type alone, or zero for the system
	Since time.Time // zero: all
	At    time.Time // zero: all; else those current at that instant
	Count int       // page size
	Query string    // the query as asked, kept in the cursor
}

// A HistoryPage is a page of versions. Deletions have no Body.
type HistoryPage struct {
	Versions []fhir.Resource
	Total    *int // only for an instance
	Next     string
}

// History returns versions, newest first. The history of an instance that the
// Grant may not see, or that never was, is NotFound.
func (v *View) History(ctx context.Context, q HistoryQuery) (*HistoryPage, error) { panic("stub") }

// HistoryFrom is History at a cursor.
func (v *View) HistoryFrom(ctx context.Context, q HistoryQuery, c Cursor) (*HistoryPage, error) {
	panic("stub")
}

// Tx is a View that can also write. It sees its own writes.
type Tx struct{ View }

// Lock makes other transactions of the tenant that Lock an equal name wait
// until this one ends. Conditional interactions lock their criteria, so that
// equal ones happen one after the other.
func (tx *Tx) Lock(ctx context.Context, name string) error { panic("stub") }

// Fetch reads the current versions of refs for a later Put or Delete, locked,
// in one round trip. Put and Delete fetch what was not fetched.
func (tx *Tx) Fetch(ctx context.Context, refs ...fhir.Ref) error { panic("stub") }

// Create stores d as the first version of a resource of its type under a
// new id, which it chooses, unless id is set. d has passed
// fhir/validate; its id, meta.versionId and meta.lastUpdated
// are replaced.
func (tx *Tx) Create(ctx context.Context, id string, d *fhir.Document) (fhir.Resource, error) {
	panic("stub")
}

// NewID returns an id for a resource that is about to be created.
func NewID() string { panic("stub") }

// Put stores d as the next version of the resource, or as the first.
// created tells which. If ifMatch is not 0 the current version must be that,
// else the error has code Conflict and status 412. Put of a resource that the
// Grant may not see is NotFound.
func (tx *Tx) Put(ctx context.Context, ref fhir.Ref, d *fhir.Document, ifMatch int64) (r fhir.Resource, created bool, err error) {
	panic("stub")
}

// Delete stores a deletion as the next version. deleted is false if there was
// nothing to delete.
func (tx *Tx) Delete(ctx context.Context, ref fhir.Ref, ifMatch int64) (r fhir.Resource, deleted bool, err error) {
	panic("stub")
}
