package ledger_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/cordon-fhir/cordon/audit/ledger"
	"github.com/cordon-fhir/cordon/audit/ledgertest"
)

// An exporter makes exports of a log.
type exporter struct {
	signer ledger.Signer
	record [][]byte
	memory
	checkpoint []byte
}

func newExporter(t testing.TB, signer ledger.Signer, n int) *exporter {
	t.Helper()
	x := &exporter{signer: signer, memory: memory{}}
	tree := ledger.NewTree(0, x.source)
	for i := range n {
		at := swept.Add(time.Duration(i) * time.Second)
		r := ledger.Record("cordon/harbor", int64(i), []string{"seq", "recorded", "outcome", "sealed"}, []any{int64(i + 1), at, int16(0), []byte{byte(i)}})
		x.record = append(x.record, r)
		leaf := tlog.RecordHash(r)
		x.memory[[2]int64{0, int64(i)}] = leaf
		nodes, err := tree.Append(leaf)
		if err != nil {
			t.Fatal(err)
		}
		for _, node := range nodes {
			x.memory[[2]int64{int64(node.Level), node.N}] = node.Hash
		}
	}
	root, err := tree.Root(tree.Size)
	if err != nil {
		t.Fatal(err)
	}
	x.checkpoint, err = ledger.Checkpoint{Origin: "cordon/harbor", Size: tree.Size, Root: root, Time: swept}.Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// entry is the entry i of the log, as an export has it.
func (x *exporter) entry(t testing.TB, i int) ledger.ExportEntry {
	t.Helper()
	proof, err := tlog.ProveRecord(int64(len(x.record)), int64(i), ledger.NewTree(int64(len(x.record)), x.source))
	if err != nil {
		t.Fatal(err)
	}
	e := ledger.ExportEntry{ID: fmt.Sprintf("%016x", i+1), Record: string(x.record[i])}
	for _, h := range proof {
		e.Hashes = append(e.Hashes, h[:])
	}
	at := swept.Add(time.Duration(i) * time.Second).Format("2006-01-02T15:04:05.000Z")
	e.Event = json.RawMessage(fmt.Sprintf(`{"id":%q,"recorded":%q,"outcome":"0","x":"<&>"}`, e.ID, at))
	return e
}

// export is of the pages, each of which has some of the entries.
func (x *exporter) export(t testing.TB, why string, pages ...[]ledger.ExportEntry) (text []byte) {
	t.Helper()
	var said tlog.Hash
	for i, entries := range pages {
		p := ledger.Page{Origin: "cordon/harbor", Number: i + 1, After: said, Last: i == len(pages)-1, Asked: ledger.Asked{Client: "auditor", Why: why, Query: "patient=7"}, Time: swept}
		lines, next, err := ledger.WritePage(p, x.checkpoint, entries, x.signer)
		if err != nil {
			t.Fatal(err)
		}
		text, said = append(text, lines...), next
	}
	return text
}

func (x *exporter) pages(t testing.TB, sizes ...int) (pages [][]ledger.ExportEntry) {
	t.Helper()
	i := 0
	for _, n := range sizes {
		var page []ledger.ExportEntry
		for range n {
			page = append(page, x.entry(t, i))
			i++
		}
		pages = append(pages, page)
	}
	return pages
}

func custody(t testing.TB, text []byte, to string, by ledger.Signer) []byte {
	t.Helper()
	added, err := ledger.AddCustody(text, to, "the court asked for it", swept, by)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Concat(text, added)
}

func faultsOf(text []byte, key ledger.Key, custodians ...ledger.Key) (faults []string, r ledger.ExportReport) {
	r = ledger.CheckExport(text, key, custodians, func(f string) { faults = append(faults, f) })
	return faults, r
}

// AUD-10: of a thousand alterations of an export each is found, and there is no
// false alarm.
func TestWhateverIsAlteredInAnExportIsFound(t *testing.T) {
	signer, key, _ := ledgertest.NewKey(t, "cordon/harbor")
	clerk, clerkKey, _ := ledgertest.NewKey(t, "clerk.example")
	lawyer, lawyerKey, _ := ledgertest.NewKey(t, "lawyer.example")
	x := newExporter(t, signer, 700)
	entries := x.pages(t, 5, 7, 3)
	entries[1] = append(entries[1], ledger.ExportEntry{ID: fmt.Sprintf("%016x", 900), Event: json.RawMessage(`{}`)}) // that no checkpoint has yet
	entries[2] = append(entries[2], ledger.ExportEntry{ID: fmt.Sprintf("%016x", 901)})                               // that cannot be opened
	whole := custody(t, custody(t, x.export(t, "audit", entries...), "lawyer.example", clerk), "court.example", lawyer)
	other := custody(t, x.export(t, "another", x.pages(t, 4, 4)...), "lawyer.example", clerk)
	faults, r := faultsOf(whole, key, clerkKey, lawyerKey)
	if len(faults) > 0 || r.Entries != 17 || r.Proven != 15 || r.Unsigned != 2 || r.Unreadable != 1 || r.Pages != 3 || len(r.Custody) != 2 || r.Asked.Why != "audit" {
		t.Fatalf("a false alarm: %v %+v", faults, r)
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	lines, others := bytes.SplitAfter(whole, []byte("\n")), bytes.SplitAfter(other, []byte("\n"))
	lines, others = lines[:len(lines)-1], others[:len(others)-1]
	for n := range 1000 {
		got := slices.Clone(lines)
		at, to := rnd.IntN(len(lines)), rnd.IntN(len(lines))
		switch n % 6 {
		case 0, 1:
			l := slices.Clone(got[at])
			l[rnd.IntN(len(l))] ^= 1 << rnd.IntN(8)
			got[at] = l
		case 2: // the newest hand-overs nobody misses who was not told of them
			at = rnd.IntN(len(lines) - 2)
			got = slices.Delete(got, at, at+1)
		case 3:
			got = slices.Insert(got, to, got[at])
		case 4:
			got[at], got[to] = got[to], got[at]
		case 5:
			got = slices.Insert(got, at, others[rnd.IntN(len(others))])
		}
		text := bytes.Join(got, nil)
		if bytes.Equal(text, whole) {
			continue
		}
		if faults, _ := faultsOf(text, key, clerkKey, lawyerKey); len(faults) == 0 {
			t.Fatalf("alteration %d of line %d is not found", n, at+1)
		}
	}
}

// What a server with another log, or with the key and no log, would have to write is
// found too.
func TestAnExportThatTheLogDoesNotBearOutIsFound(t *testing.T) {
	signer, key, _ := ledgertest.NewKey(t, "cordon/harbor")
	stranger, strangerKey, _ := ledgertest.NewKey(t, "cordon/harbor")
	clerk, clerkKey, _ := ledgertest.NewKey(t, "clerk.example")
	x := newExporter(t, signer, 20)
	changed := func(change func(*ledger.ExportEntry)) []byte {
		pages := x.pages(t, 3)
		change(&pages[0][1])
		return x.export(t, "audit", pages...)
	}
	good := x.export(t, "audit", x.pages(t, 3)...)
	split := func(sizes ...int) [][]byte {
		return bytes.SplitAfter(x.export(t, "audit", x.pages(t, sizes...)...), []byte("\n"))
	}
	for want, text := range map[string][]byte{
		"is not in the log":        changed(func(e *ledger.ExportEntry) { e.Record = strings.Replace(e.Record, `"outcome":0`, `"outcome":8`, 1) }),
		"has the record of":        changed(func(e *ledger.ExportEntry) { e.ID = x.entry(t, 9).ID }),
		"does not read as":         changed(func(e *ledger.ExportEntry) { e.Event = x.entry(t, 9).Event }),
		"is there twice":           x.export(t, "audit", append(x.pages(t, 3)[0], x.entry(t, 1))),
		"not signed by the key":    newExporter(t, stranger, 20).export(t, "audit", x.pages(t, 3)...),
		"the last page is missing": bytes.Join(bytes.SplitAfter(x.export(t, "audit", x.pages(t, 3, 3)...), []byte("\n"))[:5], nil),
		"signed by a key that is":  custody(t, good, "court", stranger),
		"gave away what":           custody(t, custody(t, good, "lawyer.example", clerk), "court", clerk),
		"does not follow page 1":   bytes.Join(slices.Concat(split(3, 3)[:5], split(4, 3)[6:]), nil), // of two exports with one why
		"ends within a line":       good[:len(good)-1],
		"no line":                  []byte("{}\n"),
	} {
		if faults, _ := faultsOf(text, key, clerkKey); !strings.Contains(strings.Join(faults, "\n"), want) {
			t.Errorf("want %q, found %v", want, faults)
		}
	}
	if faults, _ := faultsOf(nil, key); len(faults) == 0 {
		t.Error("nothing is a whole export")
	}
	if faults, _ := faultsOf(good, strangerKey); len(faults) == 0 {
		t.Error("another key verifies it")
	}
	for _, bad := range [][2]string{{"", "why"}, {"court", " "}, {"a\nb", "why"}} {
		if _, err := ledger.AddCustody(good, bad[0], bad[1], swept, clerk); err == nil {
			t.Errorf("%q is a hand-over", bad)
		}
	}
	if _, err := ledger.AddCustody([]byte("x\n"), "court", "why", swept, clerk); err == nil {
		t.Error("a hand-over of what is no export")
	}
}

// Nothing that is read as an export makes it panic.
func FuzzCheckExport(f *testing.F) {
	signer, key, _ := ledgertest.NewKey(f, "cordon/harbor")
	x := newExporter(f, signer, 3)
	f.Add(x.export(f, "audit", x.pages(f, 2)...))
	f.Fuzz(func(_ *testing.T, text []byte) {
		ledger.CheckExport(text, key, nil, func(string) {})
	})
}
