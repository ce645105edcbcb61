package faults

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// asked is what clients ask while the audit trail fails. Not all of it would
// succeed; all of it is to be audited.
var asked = []struct{ method, path, body string }{
	{"GET", "Basic/audited", ""},
	{"GET", "Basic/audited/_history/1", ""},
	{"GET", "Basic?_count=5", ""},
	{"GET", "Basic/_history?_count=5", ""},
	{"GET", "Basic/there-is-none", ""},
	{"POST", "Basic", compact(record("", "", "unaudited", ""))},
	{"PUT", "Basic/audited", compact(record("audited", "", "unaudited", ""))},
	{"DELETE", "Basic/audited", ""},
	{"POST", "", pair([]string{"unaudited1", "unaudited2"}, "unaudited", false)},
}

func TestWithoutItsAuditTrailTheServerGivesNothingAway(t *testing.T) {
	whole(t)
	const seen = "only-with-an-audit-entry"
	for _, tt := range []struct {
		name    string
		fail    func(*testing.T, *party) (mend func())
		tenants int
		writes  bool // fail too; else they are audited by their own transaction
	}{
		{"no role may insert", revoke, 3, true},
		{"its table is locked", lock, 1, true}, // the same in each mode, and slow
		{"its role cannot connect", func(*testing.T, *party) func() {
			sys.wire.bar("audit")
			return func() { sys.wire.bar("") }
		}, 3, false},
	} {
		for _, p := range sys.tenants[:tt.tenants] {
			t.Run(tt.name+", "+p.mode, func(t *testing.T) {
				r, err := p.backend.do(t.Context(), http.MethodPut, "Basic/audited", compact(record("audited", "", seen, "")))
				if err != nil || r.status >= 300 {
					t.Fatalf("storing a resource: %v %v", r, err)
				}
				before := p.stored(t)
				mend := sync.OnceFunc(tt.fail(t, p))
				defer mend()
				var got statuses
				var wait sync.WaitGroup
				for _, x := range asked {
					if x.method != http.MethodGet && !tt.writes {
						continue
					}
					wait.Go(func() {
						r, err := p.backend.do(t.Context(), x.method, x.path, x.body)
						if err != nil {
							t.Errorf("%s %s: %v", x.method, x.path, err)
							return
						}
						got.add(r.status)
						if r.status != http.StatusServiceUnavailable {
							t.Errorf("%s %s: got %d, want 503", x.method, x.path, r.status)
						}
						if bytes.Contains(r.body, []byte(seen)) || bytes.Contains(r.body, []byte(`"Basic"`)) {
							t.Errorf("%s %s was answered with data: %.300s", x.method, x.path, r.body)
						}
					})
				}
				wait.Wait() // nobody waits for the trail to be back
				mend()
				if after := p.stored(t); after != before {
					t.Errorf("%d versions were stored without an audit entry", after-before)
				}
				if r, err = p.backend.do(t.Context(), http.MethodGet, "Basic/audited", ""); err != nil || r.status != http.StatusOK || markOf(r.body) != seen {
					t.Errorf("when its trail is back, the server answers %v %v", r, err)
				}
				measured(fmt.Sprintf("AUD-01 the audit trail fails: %s, %s", tt.name, p.mode), got.String(), "all 503, nothing stored")
			})
		}
	}
}

// revoke takes the right to append to the trail from all who have it.
func revoke(t *testing.T, p *party) (mend func()) {
	table := pgx.Identifier{p.schema, "audit"}.Sanitize()
	var roles string
	change := func(do func(*pgx.Conn) error) {
		t.Helper()
		if err := sys.asSuperuser(context.Background(), p.database, do); err != nil {
			t.Error(err)
		}
	}
	change(func(c *pgx.Conn) error {
		err := c.QueryRow(t.Context(), `
			SELECT string_agg(DISTINCT grantee::regrole::text, ', ')
			FROM   pg_class, aclexplode(relacl)
			WHERE  oid = $1::regclass AND privilege_type = 'INSERT' AND grantee <> relowner`, table).Scan(&roles)
		if err != nil {
			return err
		}
		_, err = c.Exec(t.Context(), `REVOKE INSERT ON `+table+` FROM `+roles)
		return err
	})
	return func() {
		change(func(c *pgx.Conn) error {
			_, err := c.Exec(context.Background(), `GRANT INSERT ON `+table+` TO `+roles)
			return err
		})
	}
}

// lock holds a lock on the trail.
func lock(t *testing.T, p *party) (mend func()) {
	locked, release, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		err := sys.asSuperuser(context.Background(), p.database, func(c *pgx.Conn) error {
			_, err := c.Exec(context.Background(), `BEGIN; LOCK TABLE `+pgx.Identifier{p.schema, "audit"}.Sanitize()+` IN EXCLUSIVE MODE`)
			close(locked)
			<-release
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}()
	<-locked
	return func() {
		close(release)
		<-done
	}
}

// stored counts the versions in the tables of the tenant.
func (p *party) stored(t *testing.T) (n int) {
	t.Helper()
	err := sys.asSuperuser(t.Context(), p.database, func(c *pgx.Conn) error {
		schema := pgx.Identifier{p.schema}.Sanitize()
		return c.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM `+schema+`.resource) + (SELECT count(*) FROM `+schema+`.history)`).Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
