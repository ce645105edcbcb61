package evidence_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"

	"github.com/cordon-fhir/cordon/audit/ledger"
	"github.com/cordon-fhir/cordon/audit/ledgertest"
	"github.com/cordon-fhir/cordon/evidence"
)

func TestEachRequirementIsListedOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range evidence.Requirements() {
		if seen[r.ID] || r.Title == "" {
			t.Errorf("%s: twice, or without a title", r.ID)
		}
		seen[r.ID] = true
	}
	if len(seen) < 200 {
		t.Errorf("%d requirements", len(seen))
	}
}

// What tests of this project claim is listed, so that a wrong id is no claim of nothing.
func TestTestsClaimRequirementsThatThereAre(t *testing.T) {
	claims, err := evidence.Claims(os.DirFS(".."))
	if err != nil {
		t.Fatal(err)
	}
	var known, kinds []string
	for _, r := range evidence.Requirements() {
		known = append(known, r.ID)
		kinds = append(kinds, r.ID[:strings.Index(r.ID, "-")])
	}
	for id, tests := range claims {
		if slices.Contains(kinds, id[:strings.Index(id, "-")]) && !slices.Contains(known, id) {
			t.Errorf("%v claim %s, which is no requirement", tests, id)
		}
	}
	if len(claims["TEN-09"]) == 0 {
		t.Error("no test claims TEN-09")
	}
}

func TestATestClaimsWhatIsInItsComments(t *testing.T) {
	claims, err := evidence.Claims(fstest.MapFS{
		"a/b/x_test.go": {Data: []byte(`package b
// TestOne proves TEN-01 to TEN-03. AUD-07
func TestOne(t *testing.T) { testPart(t) }

// testPart is of TestOne. AI-04
func testPart(t *testing.T) {
	// KMS-02
}

// helper: TEN-11 is proven elsewhere.
func helper() {}

// FuzzX: TEN-09, TEN-3
func FuzzX(f *testing.F) {}

func TestMain(m *testing.M) {} // TEN-12
`)},
		"a/b/x.go":                 {Data: []byte("package b // TEN-20")},
		"node_modules/x/y_test.go": {Data: []byte("no Go")},
	})
	if err != nil {
		t.Fatal(err)
	}
	one, fuzz := []evidence.Test{{Package: "a/b", Name: "TestOne"}}, []evidence.Test{{Package: "a/b", Name: "FuzzX"}}
	want := map[string][]evidence.Test{"TEN-01": one, "TEN-02": one, "TEN-03": one, "AUD-07": one, "AI-04": one, "KMS-02": one, "TEN-09": fuzz}
	if diff := cmp.Diff(want, claims); diff != "" {
		t.Error(diff)
	}
}

func TestARequirementIsEvidencedByATestThatPassed(t *testing.T) {
	const pkg = "github.com/cordon-fhir/cordon/"
	printed := `{"Time":"2026-01-02T03:04:05Z","Action":"pass","Package":"` + pkg + `a","Test":"TestGood","Elapsed":1}
{"Action":"run","Package":"` + pkg + `a","Test":"TestBad"}
{"Action":"fail","Package":"` + pkg + `a","Test":"TestBad"}
{"Action":"pass","Package":"` + pkg + `a","Test":"TestGood/sub"}
# not JSON
{"Action":"skip","Package":"` + pkg + `a","Test":"TestSkipped"}
{"Action":"pass","Package":"` + pkg + `conformance","Test":"TestX/T001_T002_no_way/alpha-one_against_alpha-two"}
{"Action":"fail","Package":"` + pkg + `conformance","Test":"TestX/T001_T002_no_way/sigma-one"}
{"Action":"fail","Package":"` + pkg + `conformance","Test":"TestX/T001_T002_no_way"}
{"Action":"pass","Package":"` + pkg + `conformance","Test":"TestX/group/T003_nor_so/delta-one"}
{"Action":"pass","Package":"` + pkg + `conformance","Test":"TestX/T004_after_all/delta-one"}
{"Action":"fail","Package":"` + pkg + `conformance","Test":"TestX/T004_after_all"}
{"Action":"fail","Package":"` + pkg + `conformance"}
`
	test := func(name string) evidence.Test { return evidence.Test{Package: "a", Name: name} }
	results, err := evidence.Judge(strings.NewReader(printed), map[string][]evidence.Test{
		"TEN-01": {test("TestGood")}, "TEN-02": {test("TestGood"), test("TestBad")}, "TEN-03": {test("TestSkipped")},
		"TEN-04": {test("TestGone")}, "TEN-05": {test("TestGood"), test("TestGone")},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, r := range results.Requirements[:6] {
		got[r.ID] = r.Evidenced()
	}
	want := map[string]bool{"TEN-01": true, "TEN-02": false, "TEN-03": false, "TEN-04": false, "TEN-05": true, "TEN-06": false}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	lines := []evidence.Line{{ID: "T001", Tried: 2, Failed: 1}, {ID: "T002", Tried: 2, Failed: 1}, {ID: "T003", Tried: 1}, {ID: "T004", Tried: 1, Failed: 1}}
	if diff := cmp.Diff(lines, results.Breakout); diff != "" {
		t.Error(diff)
	}
	if len(results.Failed) != 1 || results.Failed[0] != "conformance" {
		t.Errorf("failed are %q", results.Failed)
	}
	if results.Held() != 1 || !results.Finished.Equal(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)) {
		t.Errorf("%d lines held, finished %s", results.Held(), results.Finished)
	}
}

// A made pack is one that a control plane signed.
type made struct {
	dir    string
	signer note.Signer
	key    ledger.Key
}

func makePack(t testing.TB) made {
	t.Helper()
	m := made{dir: filepath.Join(t.TempDir(), "pack")}
	var public string
	m.signer, m.key, public = ledgertest.NewKey(t, "cordon/harbor")
	policy := []byte("permit (principal, action, resource);")
	facts := evidence.Facts{
		Tenant: evidence.Tenant{Slug: "harbor", Mode: "shared"}, Made: time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC),
		Tables:     []evidence.Table{{Name: "resource", RowSecurity: true, Forced: true, Policies: 3}, {Name: "left", RowSecurity: true}},
		Privileges: []evidence.Privilege{{Role: "cordon_app", Table: "left", May: "SELECT"}},
		Policy:     evidence.Policy{Version: 2, SHA256: evidence.SumOf("", policy).SHA256},
	}
	checkpoint, err := ledger.Checkpoint{Origin: "cordon/harbor", Size: 3, Root: tlog.Hash{1}, Time: facts.Made}.Sign(m.signer)
	if err != nil {
		t.Fatal(err)
	}
	pack := evidence.Pack{
		evidence.FactsFile: text(t, facts), evidence.PolicyFile: policy, evidence.CheckpointFile: checkpoint,
		evidence.ResultsFile: text(t, evidence.Results{Revision: "abc", Failed: []string{"store"}}),
		evidence.AuditFile:   text(t, evidence.Audit{Key: public, Entries: 3, Faults: []string{}}),
	}
	s := evidence.Statement{Origin: "cordon/harbor", Time: facts.Made}
	for _, name := range slices.Sorted(maps.Keys(pack)) {
		if name == evidence.FactsFile || name == evidence.PolicyFile {
			s.Stated = append(s.Stated, evidence.SumOf(name, pack[name]))
		} else {
			s.Given = append(s.Given, evidence.SumOf(name, pack[name]))
		}
	}
	signed, err := s.Sign(m.signer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pack.Write(m.dir, signed, m.key); err != nil {
		t.Fatal(err)
	}
	return m
}

func text(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// files are those of a pack, to be changed.
func (m made) files(t testing.TB) fstest.MapFS {
	t.Helper()
	files := fstest.MapFS{}
	entries, err := os.ReadDir(m.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(m.dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = &fstest.MapFile{Data: content}
	}
	return files
}

// DOC-06: a pack verifies offline, and not after any change.
func TestAPackVerifiesAsItWasSignedAndNotOtherwise(t *testing.T) {
	m := makePack(t)
	c, err := evidence.Verify(os.DirFS(m.dir), m.key)
	if err != nil {
		t.Fatal(err)
	}
	if c.Facts.Tenant.Slug != "harbor" || c.Audit.Entries != 3 || c.Results.Revision != "abc" || c.Checkpoint.Size != 3 {
		t.Errorf("it says %+v", c)
	}
	if said := strings.Join(c.Summary(), "\n"); !strings.Contains(said, "OPEN: left") || !strings.Contains(said, "FAILED in store") {
		t.Errorf("a table that is open, or a package that failed, is not named: %s", said)
	}
	refused := func(what string, files fs.FS, key ledger.Key) {
		t.Helper()
		if _, err := evidence.Verify(files, key); err == nil {
			t.Errorf("%s: it verifies", what)
		}
	}
	rapid.Check(t, func(r *rapid.T) {
		files := m.files(t)
		name := rapid.SampledFrom(slices.Sorted(maps.Keys(files))).Draw(r, "file")
		content := bytes.Clone(files[name].Data)
		at := rapid.IntRange(0, len(content)-1).Draw(r, "at")
		content[at] ^= byte(rapid.IntRange(1, 255).Draw(r, "bits"))
		files[name].Data = content
		refused("byte changed in "+name, files, m.key)
	})
	for name := range m.files(t) {
		files := m.files(t)
		delete(files, name)
		refused(name+" removed", files, m.key)
	}
	files := m.files(t)
	files["more.md"] = &fstest.MapFile{Data: []byte("trust us")}
	refused("a file added", files, m.key)
	_, other, _ := ledgertest.NewKey(t, "cordon/harbor")
	refused("another key", m.files(t), other)
	_, neighbour, _ := ledgertest.NewKey(t, "cordon/lakeside")
	refused("the key of another tenant", m.files(t), neighbour)
}

// What was signed after the key of the log was changed verifies with the first one.
func TestTheFirstKeyOfTheLogVerifiesLaterEvidence(t *testing.T) {
	first, key, text := ledgertest.NewKey(t, "cordon/harbor")
	next, _, nextText := ledgertest.NewKey(t, "cordon/harbor")
	now := time.Unix(0, 0)
	s, err := ledger.Succeed(first, text, nextText, now, now)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := evidence.Statement{Origin: "cordon/harbor", Time: now}.Sign(&ledger.Holder{Signer: next, Keys: []ledger.Succession{s}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := evidence.OpenStatement(signed, key); err != nil {
		t.Error(err)
	}
	_, stranger, _ := ledgertest.NewKey(t, "cordon/harbor")
	if _, err := evidence.OpenStatement(signed, stranger); err == nil {
		t.Error("another key verifies it")
	}
}

// What signs checkpoints and evidence is one key: neither is taken for the other.
func TestEvidenceIsNoCheckpoint(t *testing.T) {
	signer, key, _ := ledgertest.NewKey(t, "cordon/harbor")
	signed, err := evidence.Statement{Origin: "cordon/harbor", Time: time.Unix(0, 0)}.Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ledger.Open(signed, key); err == nil {
		t.Error("a statement is a checkpoint")
	}
	signed, err = ledger.Checkpoint{Origin: "cordon/harbor", Time: time.Unix(0, 0)}.Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := evidence.OpenStatement(signed, key); err == nil {
		t.Error("a checkpoint is a statement")
	}
}

func TestWhatIsGivenIsAFileOfAPack(t *testing.T) {
	sum := evidence.SumOf(evidence.ResultsFile, []byte("x"))
	if err := evidence.CheckGiven(sum); err != nil {
		t.Error(err)
	}
	for _, bad := range []evidence.Sum{
		{SHA256: sum.SHA256, File: evidence.FactsFile}, {SHA256: sum.SHA256, File: "x\nstated"}, {SHA256: sum.SHA256 + "\n", File: evidence.AuditFile},
		{SHA256: strings.ToUpper(sum.SHA256), File: evidence.AuditFile}, {File: evidence.AuditFile}, {SHA256: sum.SHA256},
	} {
		if evidence.CheckGiven(bad) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
