package store_test

import (
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
)

// A wire passes on what is sent to PostgreSQL, and notes each statement that is run.
type wire struct {
	net.Listener
	to string

	mu  sync.Mutex
	ran int
}

func newWire(t *testing.T, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{Listener: l, to: to}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go w.pass(c)
		}
	}()
	return w
}

func (w *wire) pass(c net.Conn) {
	defer c.Close()
	up, err := net.Dial("tcp", w.to)
	if err != nil {
		return
	}
	defer up.Close()
	go func() {
		defer c.Close()
		io.Copy(c, up)
	}()
	// https://www.postgresql.org/docs/17/protocol-message-formats.html
	for first := true; ; first = false {
		head := make([]byte, 5)
		if first { // without a kind
			head = head[:4]
		}
		if _, err := io.ReadFull(c, head); err != nil {
			return
		}
		rest := make([]byte, binary.BigEndian.Uint32(head[len(head)-4:])-4)
		if _, err := io.ReadFull(c, rest); err != nil {
			return
		}
		if kind := head[0]; !first && (kind == 'E' || kind == 'Q') { // Execute, Query
			w.mu.Lock()
			w.ran++
			w.mu.Unlock()
		}
		if _, err := up.Write(slices.Concat(head, rest)); err != nil {
			return
		}
	}
}

// count returns how many statements fn runs.
func (w *wire) count(fn func()) int {
	w.mu.Lock()
	w.ran = 0
	w.mu.Unlock()
	fn()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ran
}

// T058, AUTHZ-13: what is hidden takes as many statements as what never was, also to
// find out for the audit trail by what it is hidden.
func TestWhatIsHiddenIsAskedForLikeWhatNeverWas(t *testing.T) {
	d := openDoor(t)
	const slug = "oracle"
	d.governed(t, slug)
	for _, p := range []string{"p", "v"} {
		d.put(t, slug, "Patient/"+p, `{"resourceType":"Patient","id":"%s"}`, p)
		d.put(t, slug, "Encounter/"+p, `{"resourceType":"Encounter","id":"%s","status":"in-progress","class":{"code":"x"},"subject":{"reference":"Patient/%s"}}`, p, p)
		d.put(t, slug, "Observation/"+p, `{"resourceType":"Observation","id":"%s","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/%s"},"encounter":{"reference":"Encounter/%s"}}`, p, p, p)
	}
	clinic, _ := smart.Profile("clinic")
	d.choose(t, slug, clinic)
	at, err := url.Parse(d.URLs.App)
	if err != nil {
		t.Fatal(err)
	}
	w := newWire(t, at.Host)
	at.Host = w.Addr().String()
	q := at.Query()
	q.Set("sslmode", "disable")
	at.RawQuery = q.Encode()
	db, err := store.Open(t.Context(), store.Config{DatabaseURL: at.String(), AuditURL: d.URLs.Audit, Keys: d.Keyring, Platform: d.Registry, Packages: d.Registry, Base: base})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	for name, do := range map[string]func(*smart.Grant, fhir.Ref) error{
		"read": func(g *smart.Grant, ref fhir.Ref) error {
			_, err := db.Read(t.Context(), g, ref)
			return err
		},
		"history": func(g *smart.Grant, ref fhir.Ref) error {
			return db.View(t.Context(), g, func(v *store.View) error {
				_, err := v.History(t.Context(), store.HistoryQuery{Ref: ref, Count: 5})
				return err
			})
		},
		"update": func(g *smart.Grant, ref fhir.Ref) error {
			return db.Update(t.Context(), g, func(tx *store.Tx) error {
				_, err := tx.Current(t.Context(), fhir.Update, ref)
				return err
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, on := range []fhir.Type{"Patient", "Observation"} {
				got := map[string]int{}
				for _, id := range []string{"warm", "p", "never-was", "v"} {
					g := d.as(t, slug, smart.Token{Scope: "user/*.cruds", Client: "app", User: "Practitioner/them",
						Person: smart.Person{Roles: []string{"nurse"}, Facilities: []string{"w"}, Location: "w", ShiftEnd: 1 << 40}})
					got[id] = w.count(func() {
						if err := do(g, fhir.Ref{Type: on, ID: id}); !fhir.IsCode(err, fhir.NotFound) {
							t.Errorf("%s/%s: %v", on, id, err)
						}
					})
				}
				delete(got, "warm") // which also makes the connection and what is prepared on it
				if n := got["never-was"]; n == 0 || !cmp.Equal(got, map[string]int{"p": n, "never-was": n, "v": n}) {
					t.Errorf("statements for a %s: %v", on, got)
				}
			}
		})
	}
}
