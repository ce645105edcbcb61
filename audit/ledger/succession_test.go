package ledger_test

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/cordon-fhir/cordon/audit/ledger"
	"github.com/cordon-fhir/cordon/audit/ledgertest"
)

// succeeded returns what signs for the log under its second key, and the public keys.
func succeeded(t testing.TB) (first ledger.Signer, holder *ledger.Holder, keys [2]ledger.Key) {
	t.Helper()
	first, key, text := ledgertest.NewKey(t, "cordon/harbor")
	next, nextKey, nextText := ledgertest.NewKey(t, "cordon/harbor")
	s, err := ledger.Succeed(first, text, nextText, swept, swept.Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return first, &ledger.Holder{Signer: next, Keys: []ledger.Succession{s}}, [2]ledger.Key{key, nextKey}
}

// A tombstone and an export that are signed under the next key verify with the first
// alone, and what was signed before verifies as it did.
func TestTheFirstKeyVerifiesWhatALaterOneSigned(t *testing.T) {
	first, holder, keys := succeeded(t)
	_, stranger, _ := ledgertest.NewKey(t, "cordon/harbor")
	for when, by := range map[string]ledger.Signer{"before": first, "after": holder} {
		x := newExporter(t, by, 6)
		text := x.export(t, "audit", x.pages(t, 3, 3)...)
		if faults, r := faultsOf(text, keys[0]); len(faults) > 0 || r.Proven != 6 {
			t.Errorf("an export of %s: %v", when, faults)
		}
		if faults, _ := faultsOf(text, stranger); len(faults) == 0 {
			t.Errorf("an export of %s: another key verifies it", when)
		}
		stone, err := ledger.Tombstone{Origin: "cordon/harbor", Leaves: []ledger.Span{{From: 0, To: 3}}, Before: swept, Years: 6, Time: swept, By: "a"}.Sign(by)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ledger.OpenTombstone(stone, keys[0]); err != nil {
			t.Errorf("a tombstone of %s: %v", when, err)
		}
		if _, err := ledger.OpenTombstone(stone, stranger); err == nil {
			t.Errorf("a tombstone of %s: another key verifies it", when)
		}
	}
}

// A tombstone that is signed with the first key after that counts no longer lets
// nothing be missing.
func TestATombstoneOfAKeyThatCountsNoLongerIsNone(t *testing.T) {
	first, holder, keys := succeeded(t)
	m, vault := memory{}, ledger.Dir(t.TempDir())
	m.grow(t, 0, 20, 20)
	for size, at := range map[int64]time.Time{10: swept.Add(time.Minute), 15: swept.Add(time.Hour)} {
		root, err := ledger.NewTree(size, m.source).Root(size)
		if err != nil {
			t.Fatal(err)
		}
		c := ledger.Checkpoint{Origin: "cordon/harbor", Size: size, Root: root, Time: at}
		text, err := c.Sign(holder)
		if err != nil {
			t.Fatal(err)
		}
		if err := vault.Keep(t.Context(), c, text); err != nil {
			t.Fatal(err)
		}
	}
	stone, err := ledger.Tombstone{Origin: "cordon/harbor", Leaves: []ledger.Span{{From: 0, To: 3}}, Before: swept.AddDate(-7, 0, 0), Years: 6, Time: swept, By: "a"}.Sign(first)
	if err != nil {
		t.Fatal(err)
	}
	for leaf, want := range map[int64]bool{12: false, 16: true, -1: true} {
		var faults []string
		v, err := ledger.NewVerifier(ledger.Rules{Key: keys[0]}, vault.Kept(t.Context()), func(f ledger.Fault) { faults = append(faults, f.Text) })
		if err != nil {
			t.Fatal(err)
		}
		faults = nil
		v.Tombstone(leaf, "x", stone)
		if found := strings.Contains(strings.Join(faults, "\n"), "counted no longer"); found != want {
			t.Errorf("in leaf %d: found %v", leaf, faults)
		}
	}
}

// A line about a key is read in the one way in which it is written.
func FuzzParseSuccession(f *testing.F) {
	_, holder, _ := succeeded(f)
	f.Add(holder.Keys[0].String())
	f.Fuzz(func(t *testing.T, line string) {
		if s, err := ledger.ParseSuccession(line); err == nil && s.String() != line {
			t.Errorf("%q is read as %q", line, s)
		}
	})
}

// A witness goes along with the next key, signs who named it, and refuses what is signed
// with the first one alone from then on.
func TestAWitnessSeesTheNextKey(t *testing.T) {
	first, holder, keys := succeeded(t)
	witness, witnessKey, _ := ledgertest.NewKey(t, "witness.example")
	l := &lying{memory: memory{}, at: swept, signer: first}
	l.grow(t, 0, 20, 20)
	w := ledger.Witness{Key: keys[0], Seen: ledger.Dir(t.TempDir()), Signer: witness, Now: func() time.Time { return l.at }}
	look := func(by ledger.Signer) error {
		l.size, l.at, l.signer = l.size+5, l.at.Add(time.Minute), by
		_, err := w.Look(t.Context(), l)
		return err
	}
	if err := look(first); err != nil {
		t.Fatal(err)
	}
	if err := look(holder); err != nil {
		t.Fatal(err)
	}
	kept, err := w.Seen.Last(t.Context(), "cordon/harbor")
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open(kept, note.VerifierList(witnessKey, keys[1]))
	if err != nil || len(n.Sigs) != 2 || !strings.Contains(n.Text, holder.Keys[0].String()) {
		t.Errorf("the witness kept %s, %v", kept, err)
	}
	if err := look(first); err == nil || !strings.Contains(err.Error(), "had gone on") {
		t.Errorf("a log without the next key: %v", err)
	}
}
