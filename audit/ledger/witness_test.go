package ledger_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/cordon-fhir/cordon/audit/ledger"
	"github.com/cordon-fhir/cordon/audit/ledgertest"
)

// A lying server has a log, or another one than before.
type lying struct {
	memory
	size   int64
	at     time.Time
	signer note.Signer
	down   bool
}

func (l *lying) Checkpoint(context.Context) ([]byte, error) {
	if l.down {
		return nil, errors.New("no answer")
	}
	root, err := ledger.NewTree(l.size, l.source).Root(l.size)
	if err != nil {
		return nil, err
	}
	return ledger.Checkpoint{Origin: l.signer.Name(), Size: l.size, Root: root, Time: l.at}.Sign(l.signer)
}

func (l *lying) Consistency(_ context.Context, from, to int64) (ledger.Proof, error) {
	hashes, err := tlog.ProveTree(to, from, ledger.NewTree(to, l.source))
	return ledger.Proof{From: from, To: to, Hashes: hashes}, err
}

// with returns the log of another history: leaf number at is another one.
func (l *lying) with(t testing.TB, at, size int64) memory {
	t.Helper()
	m := memory{}
	for n := range size {
		tree := ledger.NewTree(n, m.source)
		leaf := hashOf(n)
		if n == at {
			leaf = hashOf(-1)
		}
		nodes, err := tree.Append(leaf)
		if err != nil {
			t.Fatal(err)
		}
		m[[2]int64{0, n}] = leaf
		for _, x := range nodes {
			m[[2]int64{int64(x.Level), x.N}] = x.Hash
		}
	}
	return m
}

// AUD-04: with all of a log's storage and its key, nobody changes what another party
// has seen.
func TestAWitnessFindsALogThatDoesNotGoOnFromTheOneItSaw(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	begin := func(t *testing.T) (*lying, ledger.Witness) {
		t.Helper()
		signer, key, _ := ledgertest.NewKey(t, "cordon/harbor")
		own, _, _ := ledgertest.NewKey(t, "auditor.example")
		l := &lying{memory: memory{}, signer: signer, at: now}
		l.size = l.grow(t, 0, 10, 3)
		w := ledger.Witness{Key: key, Seen: ledger.Dir(t.TempDir()), Signer: own, Now: func() time.Time { return now }}
		for _, by := range []note.Signer{own, nil} { // the second look sees nothing new
			w.Signer = by
			if _, err := w.Look(t.Context(), l); err != nil {
				t.Fatal(err)
			}
		}
		w.Signer = own
		l.size = l.grow(t, l.size, 7, 2)
		if c, err := w.Look(t.Context(), l); err != nil || c.Size != 17 {
			t.Fatalf("%+v %v", c, err)
		}
		return l, w
	}
	for claim, lie := range map[string]func(*testing.T, *lying, *ledger.Witness){
		"the end is cut off":                 func(_ *testing.T, l *lying, _ *ledger.Witness) { l.size = 16 },
		"an entry is another":                func(t *testing.T, l *lying, _ *ledger.Witness) { l.memory = l.with(t, 3, 17) },
		"an entry is another, and more came": func(t *testing.T, l *lying, _ *ledger.Witness) { l.memory, l.size = l.with(t, 3, 20), 20 },
		"an old copy went on otherwise":      func(t *testing.T, l *lying, _ *ledger.Witness) { l.memory, l.size = l.with(t, 12, 30), 30 },
		"the clock was put back":             func(_ *testing.T, l *lying, _ *ledger.Witness) { l.at = now.Add(-time.Minute) },
		"nothing is signed any more": func(_ *testing.T, _ *lying, w *ledger.Witness) {
			w.Now = func() time.Time { return now.Add(time.Hour) }
		},
		"it is signed in advance": func(_ *testing.T, l *lying, _ *ledger.Witness) { l.at = now.Add(time.Hour) },
		"another key signs": func(t *testing.T, l *lying, _ *ledger.Witness) {
			l.signer, _, _ = ledgertest.NewKey(t, "cordon/harbor")
		},
		"it is the log of another": func(t *testing.T, l *lying, _ *ledger.Witness) {
			l.signer, _, _ = ledgertest.NewKey(t, "cordon/lakeside")
		},
		"the server does not answer": func(_ *testing.T, l *lying, _ *ledger.Witness) { l.down = true },
	} {
		t.Run(claim, func(t *testing.T) {
			l, w := begin(t)
			before, err := w.Seen.Files("cordon/harbor")
			if err != nil {
				t.Fatal(err)
			}
			lie(t, l, &w)
			if c, err := w.Look(t.Context(), l); err == nil {
				t.Errorf("it is believed: %+v", c)
			}
			if after, err := w.Seen.Files("cordon/harbor"); err != nil || len(after) != len(before) {
				t.Errorf("it is kept: %v %v", after, err)
			}
		})
	}
	t.Run("what it keeps is signed by both", func(t *testing.T) {
		_, w := begin(t)
		text, err := w.Seen.Last(t.Context(), "cordon/harbor")
		if err != nil || strings.Count(string(text), "\n— ") != 2 {
			t.Errorf("%s %v", text, err)
		}
	})
}
