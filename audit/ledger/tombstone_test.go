package ledger_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"github.com/cordon-fhir/cordon/audit/ledger"
	"github.com/cordon-fhir/cordon/audit/ledgertest"
)

var swept = time.Date(2026, 1, 2, 3, 4, 5, 6e6, time.UTC)

func tombstone(leaves ...int64) ledger.Tombstone {
	return ledger.Tombstone{Origin: "cordon/harbor", Leaves: ledger.Spans(leaves), Before: swept.AddDate(-7, 0, 0), Years: 7, Time: swept, By: "node-1"}
}

// A tombstone is read in the one way in which it is written, and passes for no
// checkpoint.
func TestATombstoneIsOfOneLog(t *testing.T) {
	signer, key, _ := ledgertest.NewKey(t, "cordon/harbor")
	_, otherKey, _ := ledgertest.NewKey(t, "cordon/lakeside")
	want := tombstone(0, 1, 2, 7, 9, 10)
	text, err := want.Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ledger.OpenTombstone(text, key); err != nil || fmt.Sprint(got) != fmt.Sprint(want) || len(got.Leaves) != 3 {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := ledger.Open(text, key); err == nil {
		t.Error("it passes for a checkpoint")
	}
	checkpoint, err := ledger.Checkpoint{Origin: "cordon/harbor", Size: 1}.Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	signed := func(from, to string) []byte {
		body, _, _ := bytes.Cut(text, []byte("\n\n"))
		b, err := note.Sign(&note.Note{Text: string(bytes.Replace(append(body, '\n'), []byte(from), []byte(to), 1))}, signer)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for what, bad := range map[string][]byte{
		"a checkpoint": checkpoint, "nothing": nil, "one that was changed": bytes.Replace(text, []byte("[7,8)"), []byte("[6,8)"), 1),
		"of no leaves": signed("{[0,3),[7,8),[9,11)}", "{}"), "of leaves out of order": signed("[0,3),[7,8)", "[7,8),[0,3)"), "of an empty span": signed("[7,8)", "[7,7)"),
		"of spans that touch": signed("[7,8)", "[3,8)"), "another spelling": signed("[7,8)", "[07,8)"), "another log": signed("cordon/harbor", "cordon/lakeside"), "a line more": signed("by node-1", "by node-1\nby x"),
	} {
		if got, err := ledger.OpenTombstone(bad, key); err == nil {
			t.Errorf("%s was read as %+v", what, got)
		}
	}
	if _, err := ledger.OpenTombstone(text, otherKey); err == nil {
		t.Error("the key of another log opens it")
	}
}

// AUD-09: whichever entries were removed, those that a tombstone names are counted,
// and each of the others is named.
func TestWhatIsMissingWithoutATombstoneIsNamed(t *testing.T) {
	signer, key, _ := ledgertest.NewKey(t, "cordon/harbor")
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.Int64Range(2, 300).Draw(rt, "size")
		missing := rapid.SliceOfDistinct(rapid.Int64Range(0, size-2), rapid.ID).Draw(rt, "missing")
		slices.Sort(missing)
		named := rapid.SliceOfDistinct(rapid.Int64Range(0, size-2), rapid.ID).Draw(rt, "named")
		slices.Sort(named)
		var got []int64
		v, err := ledger.NewVerifier(ledger.Rules{Key: key, Now: func() time.Time { return swept }}, ledger.Dir(t.TempDir()), func(f ledger.Fault) {
			if f.Kind != ledger.Stale {
				got = append(got, f.Leaf)
			}
		})
		if err != nil {
			rt.Fatal(err)
		}
		half := len(named) / 2 // there may be many tombstones
		for _, part := range [][]int64{named[:half], named[half:]} {
			if len(part) == 0 {
				continue
			}
			text, err := tombstone(part...).Sign(signer)
			if err != nil {
				rt.Fatal(err)
			}
			v.Tombstone(size-1, "t", text)
		}
		var want []int64
		removed := int64(0)
		for n := range size {
			l := ledger.Leaf{Number: n, Hash: tlog.RecordHash([]byte{1}), Record: []byte{1}, Recorded: swept}
			if slices.Contains(missing, n) {
				l.Record = nil
				if slices.Contains(named, n) {
					removed++
				} else {
					want = append(want, n)
				}
			}
			if err := v.Leaf(l); err != nil {
				rt.Fatal(err)
			}
		}
		if r := v.End(size); !slices.Equal(got, want) || r.Removed != removed {
			rt.Fatalf("found %v, want %v; %d removed, want %d", got, want, r.Removed, removed)
		}
	})
}

// A tombstone of what came after it, or of what was not old enough, is a fault.
func TestATombstoneThatCannotBeIsAFault(t *testing.T) {
	signer, key, _ := ledgertest.NewKey(t, "cordon/harbor")
	for want, tt := range map[ledger.Kind]struct {
		leaf  int64
		stone func(*ledger.Tombstone)
	}{
		ledger.Unverified: {leaf: 5, stone: func(*ledger.Tombstone) {}},
		ledger.Early:      {leaf: 9, stone: func(s *ledger.Tombstone) { s.Before = s.Time.AddDate(-5, 0, 0) }},
	} {
		var got []ledger.Kind
		v, err := ledger.NewVerifier(ledger.Rules{Key: key}, ledger.Dir(t.TempDir()), func(f ledger.Fault) { got = append(got, f.Kind) })
		if err != nil {
			t.Fatal(err)
		}
		s := tombstone(4, 5)
		tt.stone(&s)
		text, err := s.Sign(signer)
		if err != nil {
			t.Fatal(err)
		}
		v.Tombstone(tt.leaf, "t", text)
		if !slices.Equal(got, []ledger.Kind{want}) {
			t.Errorf("found %v, want %s", got, want)
		}
	}
}
