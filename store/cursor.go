package store

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/smart"
)

// A Cursor names a page of a search or history: what was asked, and where the
// page begins. Only the principal who got it can open it, and only for a day.
type Cursor struct {
	Interaction fhir.Interaction `json:"i"`
	// Operation is the name of the operation, if it is one.
	Operation string `json:"o,omitempty"`
	// Ref is what was in the path.
	Ref fhir.Ref `json:"r"`
	// Query is the query that was asked, URL-encoded.
	Query string `json:"q"`
	// Page is counted from 1; the first Next is 2.
	Page int `json:"p"`

	After position `json:"a"`
	// Said is, of an export of the audit trail, what was said of the page before.
	Said    [32]byte  `json:"x,omitzero"`
	Expires time.Time `json:"e"`
}

// position is the place after which a page begins, in the order of the search.
type position struct {
	Time *time.Time `json:"t,omitempty"` // nil: before all time
	Type int16      `json:"y,omitempty"`
	ID   string     `json:"d,omitempty"`
	RID  int64      `json:"n,omitempty"`
	// Version and Seq are of a history.
	Version int64    `json:"v,omitempty"`
	Seq     int64    `json:"s,omitempty"`
	Keys    []string `json:"k,omitempty"` // of an order that only opened bodies have
	// Stage is how many of the keys of the order have no value here; Low and
	// High are the rungs in an order along an element.
	Stage  int    `json:"g,omitempty"`
	Low    *int64 `json:"l,omitempty"`
	High   *int64 `json:"h,omitempty"`
	From   bool   `json:"-"` // begins with all that are equal to it
	Total  *int   `json:"c,omitempty"`
	Beside []byte `json:"b,omitempty"` // of a record: what came along before
}

// cursorLife is how long a cursor opens.
const cursorLife = 24 * time.Hour

// errCursor is the answer to every cursor that does not open, whatever is wrong
// with it.
var errCursor = fhir.Errorf(fhir.Invalid, "the page is not known or no longer available")

// maxCursor bounds what is decoded. It must hold a query and a position.
const maxCursor = 64 << 10

// bound is the associated data of cursors: whose they are, and under which
// policy they were made.
func bound(g *smart.Grant) []byte {
	return fmt.Appendf(nil, "cursor|%s|%d|%s", g.Tenant().ID, g.Tenant().PolicyVersion, g.Principal())
}

// seal makes the text of a cursor: nobody can read it, change it or use it for
// another tenant or principal.
func (v *View) seal(c Cursor) (string, error) {
	c.Expires = time.Now().Add(cursorLife).UTC().Truncate(time.Second)
	plain, err := json.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("writing a cursor: %w", err)
	}
	sealed, err := v.keys.Seal(nil, keys.Cursor, plain, bound(v.grant))
	if err != nil {
		return "", fmt.Errorf("sealing a cursor: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(sealed), nil
}

// OpenCursor is that of the DB, for the Grant of v.
func (v *View) OpenCursor(ctx context.Context, sealed string) (Cursor, error) {
	return v.db.OpenCursor(ctx, v.grant, sealed)
}

// OpenCursor reads a sealed cursor. Any fault is a *fhir.Error with the same
// words: code Invalid, status 400.
func (db *DB) OpenCursor(ctx context.Context, g *smart.Grant, sealed string) (Cursor, error) {
	if g == nil || g.Tenant() == nil || len(sealed) > maxCursor {
		return Cursor{}, errCursor
	}
	set, err := db.keys.Of(ctx, g.Tenant().ID)
	if err != nil {
		return Cursor{}, err
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(sealed)
	if err != nil {
		return Cursor{}, errCursor
	}
	plain, err := set.Open(keys.Cursor, raw, bound(g))
	if err != nil {
		return Cursor{}, errCursor
	}
	var c Cursor
	if err := json.Unmarshal(plain, &c); err != nil || time.Now().After(c.Expires) {
		return Cursor{}, errCursor
	}
	return c, nil
}
