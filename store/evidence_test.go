package store_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/evidence"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// DOC-06, TEN-21: what the evidence says of the key under which each kind of data
// is sealed is what the bytes at rest say, and it claims a region for none of the
// databases.
func TestEvidenceNamesTheKeyThatSealsEachKindOfData(t *testing.T) {
	d := openDoor(t)
	const slug = "evidence-keys"
	d.governed(t, slug)
	d.keepOneOfEach(t, slug)
	f, err := d.Migrator.Evidence(t.Context(), slug)
	if err != nil {
		t.Fatal(err)
	}
	on := d.Tenant(t, slug)
	place := database(t, d.Fixture, on)
	registry := connect(t, in(storetest.Superuser(t), registryDatabase(t, d.Fixture)))
	class := d.sealedUnder(t, slug)
	tables := on.Placement.Schema
	for _, at := range []struct{ what, sql string }{
		{"resources and their history", `SELECT body FROM ` + tables + `.resource WHERE tenant_id = $1 UNION ALL SELECT body FROM ` + tables + `.history WHERE tenant_id = $1`},
		{"audit trail and its log", `SELECT sealed FROM ` + tables + `.audit WHERE tenant_id = $1`},
		{"requests that are answered later", `SELECT request FROM ` + tables + `.deferred WHERE tenant_id = $1 AND NOT done`},
		{"answers that are fetched later", `SELECT answer FROM ` + tables + `.deferred WHERE tenant_id = $1 AND done`},
		{"broken glasses", `SELECT unnest(ARRAY[request, signed]) FROM registry.glass WHERE tenant_id = $1`},
	} {
		conn := place
		if at.what == "broken glasses" {
			conn = registry
		}
		found := query[[]byte](t, conn, at.sql, on.ID.Int())
		if len(found) == 0 {
			t.Errorf("there are no %s", at.what)
		}
		for _, bytes := range found {
			if got, want := class(bytes), statedKey(t, f, at.what); got != want {
				t.Errorf("%s are sealed under the key %q, the evidence says %q", at.what, got, want)
			}
		}
	}
	files, err := filepath.Glob(filepath.Join(d.Files, on.ID.String(), "*", "*"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if got, want := class(text), statedKey(t, f, "files of bulk exports"); got != want {
		t.Errorf("files are sealed under the key %q, the evidence says %q", got, want)
	}
	for _, p := range f.Places {
		if in := regexp.MustCompile(`^database `).MatchString(p.Where); in != regexp.MustCompile(`not told`).MatchString(p.Region) {
			t.Errorf("%s, in %s, are said to be in the region %q", p.What, p.Where, p.Region)
		}
	}
}

// keepOneOfEach makes the tenant keep something of each kind that is sealed.
func (d *door) keepOneOfEach(t *testing.T, slug string) {
	t.Helper()
	ctx := t.Context()
	d.put(t, slug, "Patient/p", `{"resourceType":"Patient","id":"p"}`)
	d.put(t, slug, "Patient/p", `{"resourceType":"Patient","id":"p","active":true}`)
	d.broken(t, slug, smart.Glass{User: "Practitioner/a", Client: "tester", Session: "s", Patient: "p"})
	ask := func(kind store.Kind) *smart.Grant {
		g := d.grant(t, slug, everything)
		if _, err := d.DB.Defer(ctx, g, audit.Entry{Interaction: fhir.Operation}, []byte("a question"), time.Minute, kind); err != nil {
			t.Fatal(err)
		}
		return g
	}
	for _, kind := range []store.Kind{store.Export, store.Asked} {
		ask(kind)
		w, found, err := d.DB.TakeUp(ctx, d.Tenant(t, slug))
		if err != nil || !found {
			t.Fatal(found, err)
		}
		g := d.grant(t, slug, everything)
		g.Origin().Trail.Shown = &audit.Shown{}
		if kind == store.Export {
			if err := d.DB.PutExportFile(context.WithoutCancel(ctx), g, w, store.ExportFile{Type: "Patient", Kind: store.OutputFile, Lines: 1, Plain: 1}, []byte("x"), nil); err != nil {
				t.Fatal(err)
			}
		}
		if kept, err := d.DB.Answer(ctx, g, w, []byte("an answer")); err != nil || !kept {
			t.Fatal(kept, err)
		}
	}
	ask(store.Asked)
}

// sealedUnder returns what tells by its first bytes under which key something of
// the tenant was sealed.
func (d *door) sealedUnder(t *testing.T, slug string) func([]byte) keys.Class {
	t.Helper()
	const name = 5 // bytes of a sealed text that name the key
	set, err := d.Keyring.Of(t.Context(), d.Tenant(t, slug).ID)
	if err != nil {
		t.Fatal(err)
	}
	by := map[string]keys.Class{}
	for _, c := range []keys.Class{keys.Clinical, keys.Audit, keys.Cursor, keys.Export} {
		sealed, err := set.Seal(nil, c, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		by[string(sealed[:name])] = c
	}
	return func(sealed []byte) keys.Class { return by[string(sealed[:min(len(sealed), name)])] }
}

// statedKey is the key that the evidence says seals what.
func statedKey(t *testing.T, f evidence.Facts, what string) keys.Class {
	t.Helper()
	for _, p := range f.Places {
		if p.What == what {
			if m := regexp.MustCompile(`under the key (\w+)`).FindStringSubmatch(p.Sealed); m != nil {
				return keys.Class(m[1])
			}
		}
	}
	t.Errorf("the evidence names no key of %s", what)
	return ""
}
