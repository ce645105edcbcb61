package rest

import (
	"strings"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/audit/ledger"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// openLog returns the key of the log of a tenant's trail, and what makes leaves of
// all its entries and signs them.
func openLog(t *testing.T, f *storetest.Fixture, slug string) (key ledger.Key, sign func()) {
	t.Helper()
	x := f.Tenant(t, slug)
	l, err := store.OpenLedger(store.LedgerConfig{
		DatabaseURL: f.URLs.Log, RegistryURL: f.URLs.LogRegistry, Registry: f.Registry, Keys: f.Keyring, Every: time.Nanosecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	text, err := f.Registry.LogVerifier(t.Context(), x)
	if err != nil {
		t.Fatal(err)
	}
	if key, err = ledger.ParseKey(text); err != nil {
		t.Fatal(err)
	}
	return key, func() {
		t.Helper()
		for more := true; more; {
			if _, more, err = l.Sequence(t.Context(), x); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(2 * time.Millisecond) // so that it has a time of its own
		if err := l.Checkpoint(t.Context(), x); err != nil {
			t.Fatal(err)
		}
	}
}

// What the operations answer proves itself to whoever has the key, in
// every mode, and anything else in its place does not.
func TestProofsOfTheAuditLogAreCheckedWithoutTheServer(t *testing.T) {
	a, f := newAPI(t), storetest.New(t)
	for _, slug := range []string{storetest.A1, storetest.S1, storetest.D1} {
		t.Run(slug, func(t *testing.T) {
			key, sign := openLog(t, f, slug)
			c := a.client(t, slug, all)
			auditor := a.client(t, slug, "system/AuditEvent.rs")
			prove := func(path string) ledger.Proof {
				t.Helper()
				p, err := ledger.ParseProof(auditor.must(200, "GET", path, "").Body.Bytes())
				if err != nil {
					t.Fatal(err)
				}
				return p
			}

			id := fresh()
			c.must(201, "PUT", "/Patient/"+id, patient(id, "x"))
			event, _ := at(shown(t, auditor.must(200, "GET", "/AuditEvent?entity=Patient/"+id, "")), "entry", 0, "resource", "id").(string)
			auditor.must(409, "GET", "/AuditEvent/"+event+"/$log-inclusion", "")
			sign()
			old := prove("/AuditEvent/$log-checkpoint").Checkpoint
			first, err := ledger.Open(old, key)
			if err != nil {
				t.Fatal(err)
			}

			p := prove("/AuditEvent/" + event + "/$log-inclusion")
			if got, err := p.Check(key); err != nil || !strings.HasPrefix(got, "entry "+event+" is leaf ") || !strings.Contains(string(p.Record), `"log":"cordon/`+slug+`"`) {
				t.Errorf("got %q, %v for %s", got, err, p.Record)
			}
			forged := p
			forged.Record = []byte(strings.Replace(string(p.Record), `"outcome":0`, `"outcome":8`, 1))
			if _, err := forged.Check(key); err == nil {
				t.Error("another entry was proven")
			}

			c.must(200, "GET", "/Patient/"+id, "")
			sign()
			from := func(n string) string { return "/AuditEvent/$log-consistency?from=" + n }
			size := strings.Split(string(old), "\n")[1]
			grown := prove(from(size))
			if got, err := grown.Check(key, old); err != nil || !strings.Contains(got, "begins with the "+size) || grown.To <= first.Size {
				t.Errorf("got %q, %v", got, err)
			}
			if _, err := grown.Check(key); err == nil {
				t.Error("a log was proven to grow out of nothing")
			}
			same := prove(from(size) + "&to=" + size)
			if _, err := same.Check(key, old); err != nil || same.Checkpoint != nil {
				t.Errorf("got %v", err)
			}

			for _, bad := range []string{from("0"), from("x"), from("2147483647"), from("2") + "&to=1", "/AuditEvent/$log-consistency"} {
				auditor.must(400, "GET", bad, "")
			}
			for _, none := range []string{fresh(), "0000000000000001", strings.ToUpper(event) + "x"} {
				auditor.must(404, "GET", "/AuditEvent/"+none+"/$log-inclusion", "")
			}
			auditor.must(404, "GET", "/Patient/$log-checkpoint", "")
			for _, other := range []*client{
				a.client(t, slug, "system/Patient.rs"),
				a.client(t, slug, "patient/*.rs", func(tok *smart.Token) { tok.Patient = id }),
			} {
				for _, path := range []string{"/AuditEvent/$log-checkpoint", from("1"), "/AuditEvent/" + event + "/$log-inclusion"} {
					other.must(403, "GET", path, "")
				}
			}
		})
	}
}
