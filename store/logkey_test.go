package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/cordon-fhir/cordon/audit/ledger"
	"github.com/cordon-fhir/cordon/audit/ledgertest"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
	"github.com/cordon-fhir/cordon/tenant"
)

// rotate makes the next key of the trail's log.
func (r *trailTest) rotate(t testing.TB, alone bool) ledger.Key {
	t.Helper()
	text, err := r.f.Migrator.RotateLogKey(t.Context(), r.tenant, alone)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ledger.ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// texts returns the public keys of the log.
func (r *trailTest) texts(t testing.TB) (list []string) {
	t.Helper()
	keys, err := r.f.Registry.LogKeys(t.Context(), r.tenant)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		list = append(list, k.Key)
	}
	return list
}

// signer returns the first private key of the log, as a thief of the registry and of
// the key-encryption keys has it.
func (r *trailTest) signer(t testing.TB) ledger.Signer {
	t.Helper()
	conn := connect(t, in(storetest.Superuser(t), "cordon_registry"))
	sealed := query[[]byte](t, conn, `SELECT data FROM registry.log_key WHERE tenant_id = $1`, r.tenant.ID.Int())[0]
	secret, err := keys.Unwrap(r.f.KMS, storetest.KEK, sealed, fmt.Appendf(nil, "cordon|tenant|%d|log_key", r.tenant.ID.Int()))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ledger.ParseSigner(string(secret))
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// shortKey is how faults name a public key.
func shortKey(text string) string { return strings.Join(strings.SplitN(text, "+", 3)[:2], "+") }

// newest returns the checkpoint that was kept last.
func (r *trailTest) newest(t testing.TB) []byte {
	t.Helper()
	text, err := r.vault.Last(t.Context(), ledger.Origin(r.slug))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Whoever took down a key of the log verifies all of it, before and after: the first
// key by what each key signed of the next, a later one by what it signed of those before.
func TestALogGoesOnUnderAnotherKey(t *testing.T) {
	for _, mode := range []tenant.Mode{tenant.Shared, tenant.Schema, tenant.Database} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			r := newTrail(t, mode)
			keys := []ledger.Key{r.key(t)}
			r.logged(t, 3)
			before := r.newest(t)
			keys = append(keys, r.rotate(t, false))
			r.logged(t, 3)
			overlap := r.newest(t)
			keys = append(keys, r.rotate(t, true))
			r.logged(t, 3)
			alone := r.newest(t)
			for i, key := range keys {
				if faults, report := r.verifyBy(t, r.vault, key); len(faults) > 0 || report.Signed != 9 || len(report.Keys) != 2 {
					t.Errorf("by key %d: %v, %d signed under %d keys", i+1, faults, report.Signed, len(report.Keys)+1)
				}
			}
			for what, tt := range map[string]struct {
				text []byte
				by   []bool // which key alone, as any reader of notes has it, opens it
			}{
				"what was signed before": {before, []bool{true, false, false}},
				"what is signed by both": {overlap, []bool{true, true, false}},
				"what is signed alone":   {alone, []bool{false, false, true}},
			} {
				for i, key := range keys {
					if _, err := note.Open(tt.text, note.VerifierList(key)); (err == nil) != tt.by[i] {
						t.Errorf("%s: key %d: %v", what, i+1, err)
					}
				}
			}
			if _, err := ledger.Open(alone, keys[0]); err != nil {
				t.Errorf("the first key does not lead to the last: %v", err)
			}
			list, err := r.f.Registry.LogKeys(t.Context(), r.tenant)
			if err != nil || len(list) != 3 || list[2].Key != r.texts(t)[2] || !list[2].Until.IsZero() {
				t.Fatalf("%+v, %v", list, err)
			}
			if !list[0].Until.Equal(list[2].Since) || !list[1].Until.Equal(list[2].Since) {
				t.Errorf("%+v", list)
			}
		})
	}
}

func TestThePlatformsLogGoesOnUnderAnotherKey(t *testing.T) {
	r := openTrail(t, storetest.New(t), nil)
	first := r.key(t)
	r.logged(t, 2)
	r.rotate(t, false)
	r.logged(t, 2)
	if faults, report := r.verifyBy(t, r.vault, first); len(faults) > 0 || len(report.Keys) != 1 {
		t.Errorf("%v, %+v", faults, report)
	}
	if !slices.ContainsFunc(query[string](t, r.super(t), `SELECT reason FROM registry.platform_audit`), func(s string) bool {
		return strings.HasPrefix(s, "made the next key of the audit log cordon/_platform: ")
	}) {
		t.Error("it is not in the platform's trail")
	}
}

// Somebody with the vault and the database, and a key of their own or one that
// counts no longer, is found, and the key is named.
func TestAKeyOfSomebodyElseIsFound(t *testing.T) {
	r := newTrail(t, tenant.Schema)
	origin := ledger.Origin(r.slug)
	first := r.key(t)
	r.logged(t, 3)
	stolen := r.signer(t)
	second := r.rotate(t, true)
	r.logged(t, 3)
	r.logged(t, 3)
	good, err := ledger.Open(r.newest(t), first)
	if err != nil {
		t.Fatal(err)
	}
	own, _, ownText := ledgertest.NewKey(t, origin)
	named := shortKey(ownText)
	firstText, secondText := r.texts(t)[0], r.texts(t)[1]
	now := time.Now()
	// signed is the newest checkpoint, under the keys, by somebody.
	signed := func(by ledger.Signer, chain ...ledger.Succession) []byte {
		text, err := good.Sign(&ledger.Holder{Signer: by, Keys: chain})
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	succeed := func(by ledger.Signer, from string) ledger.Succession {
		s, _ := ledger.Succeed(by, from, ownText, now, now)
		return s
	}
	for _, tt := range []struct {
		what string
		text []byte
		want ledger.Kind
		says string
	}{
		{"a key that nobody named", signed(own), ledger.Unverified, named},
		{"a key that names itself the next of the first", signed(own, succeed(own, firstText)), ledger.Unverified, named},
		{"a key that names itself the next of the second", signed(own, good.Keys[0], succeed(own, secondText)), ledger.Unverified, named},
		{"a key that the stolen one names, as the second had been", signed(own, succeed(stolen, firstText)), ledger.Forked, shortKey(secondText)},
		{"the stolen key, as if there were no next", signed(stolen), ledger.Forked, shortKey(secondText)},
		{"the stolen key under the name of the next", signed(stolen, good.Keys...), ledger.Unverified, shortKey(firstText)},
		{"a signature of the succession is another's", bytes.Replace(r.newest(t), []byte(" signed "), []byte(" signed A"), 1), ledger.Unverified, ""},
	} {
		t.Run(tt.what, func(t *testing.T) {
			vault := ledger.Dir(t.TempDir())
			if err := os.CopyFS(string(vault), os.DirFS(string(r.vault))); err != nil {
				t.Fatal(err)
			}
			files, err := vault.Files(origin)
			if err != nil {
				t.Fatal(err)
			}
			last := files[slices.IndexFunc(files, func(f ledger.File) bool { return !f.Leaves && f.To == good.Size })]
			if err := rewriteFile(vault, last, tt.text); err != nil {
				t.Fatal(err)
			}
			for i, key := range []ledger.Key{first, second} {
				faults, _ := r.verifyBy(t, vault, key)
				if !slices.ContainsFunc(faults, func(f ledger.Fault) bool {
					return (f.Kind == tt.want || i == 1 && f.Kind == ledger.Unverified) && strings.Contains(f.Text, tt.says)
				}) {
					t.Errorf("by key %d: found %v", i+1, faults)
				}
			}
			// Nor does a server go on from it.
			other := *r
			other.vault = vault
			other.open(t, vault)
			other.record(t, 1)
			other.sequence(t)
			var broken *store.Broken
			if err := other.Checkpoint(t.Context(), other.tenant); !errors.As(err, &broken) {
				t.Errorf("a server signed after it: %v", err)
			}
		})
	}
}

// A row of the registry that names a key that the one before did not sign is no key.
func TestAServerSignsWithNoKeyThatTheOneBeforeDidNotName(t *testing.T) {
	r := newTrail(t, tenant.Shared)
	r.logged(t, 2)
	r.rotate(t, false)
	own, _, ownText := ledgertest.NewKey(t, ledger.Origin(r.slug))
	forged, _ := ledger.Succeed(own, r.texts(t)[0], ownText, time.Now(), time.Now())
	conn := connect(t, in(storetest.Superuser(t), "cordon_registry"))
	must(t, conn, `SET session_replication_role = replica`)
	must(t, conn, `UPDATE registry.log_succession SET said = $2 WHERE tenant_id = $1`, r.tenant.ID.Int(), forged.String())
	r.record(t, 1)
	r.sequence(t)
	if err := r.Checkpoint(t.Context(), r.tenant); err == nil || !strings.Contains(err.Error(), shortKey(ownText)) {
		t.Errorf("got %v", err)
	}
}
