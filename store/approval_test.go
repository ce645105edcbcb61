package store_test

import (
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
)

func TestAnApprovalIsRemovedOnceNoTokenCanComeOfIt(t *testing.T) {
	f := storetest.New(t)
	tn := f.Tenant(t, storetest.A1)
	conn := connect(t, f.URLs.Registry)
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	approve := func(age string) string {
		t.Helper()
		a := store.Approval{ID: rand.Text(), Client: "app", Session: "s", Identity: store.Identity{Source: "local", Subject: "purged", Person: smart.Person{}}}
		if err := f.Registry.Approve(t.Context(), tn, a, rand.Text(), time.Now(), ""); err != nil {
			t.Fatal(err)
		}
		exec(`UPDATE registry.approval SET code_expires = now() - $2::interval WHERE id = $1`, a.ID, age)
		return a.ID
	}
	old, renewable, fresh := approve("25 hours"), approve("25 hours"), approve("1 hour")
	exec(`INSERT INTO registry.refresh_token (tenant_id, hash, approval, expires) VALUES ($1, sha256($2::text::bytea), $2, now())`, tn.ID.Int(), renewable)
	f.Registry.Purge(t.Context())
	for name, tt := range map[string]struct {
		id   string
		gone bool
	}{"old": {old, true}, "old, of a refresh token that was used": {renewable, false}, "of an hour ago": {fresh, false}} {
		_, err := f.Registry.Approval(t.Context(), tn, tt.id)
		if errors.Is(err, store.ErrNoApproval) != tt.gone || err != nil && !tt.gone {
			t.Errorf("%s: %v", name, err)
		}
	}
	exec(`DELETE FROM registry.refresh_token WHERE approval = $1`, renewable)
	f.Registry.Purge(t.Context())
	if _, err := f.Registry.Approval(t.Context(), tn, renewable); !errors.Is(err, store.ErrNoApproval) {
		t.Errorf("once the refresh token is removed: %v", err)
	}
}
