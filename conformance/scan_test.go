package conformance

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	attacks "github.com/cordon-fhir/cordon/breakout"
)

var scanFile = flag.String("scan", "", "write where was looked for canaries, and in which forms, to this file")

// A scan looks for canaries in what a run of the suite left, place by place.
type scan struct {
	hunter *attacks.Hunter
	places map[string]*scanned
}

// scanned is what was looked at of a place, and how often a canary was found in which
// form.
type scanned struct {
	files, bytes int
	found        map[string]int
}

// look looks into something at a place.
func (s *scan) look(t testing.TB, place, name string, b []byte) {
	t.Helper()
	p := s.places[place]
	if p == nil {
		p = &scanned{found: map[string]int{}}
		s.places[place] = p
	}
	p.files++
	p.bytes += len(b)
	for _, w := range s.hunter.Dig(b) {
		p.found[formOf(w.Disguise)]++
		t.Errorf("%s: %s holds the %s of %s %s", place, name, w.Place, w.Owner, w.Disguise)
	}
}

// forms are the columns of the table.
var forms = []string{"as it is", "other case", "reversed", "JSON escapes", "URL", "base64", "hex", "UTF-16", "compressed"}

// formOf returns the column of a disguise.
func formOf(disguise string) string {
	for _, f := range []struct{ word, form string }{
		{", in ", "compressed"}, {"case", "other case"}, {"reversed", "reversed"}, {"JSON", "JSON escapes"}, {"URL", "URL"},
		{"base64", "base64"}, {"hex", "hex"}, {"UTF-16", "UTF-16"},
	} {
		if strings.Contains(disguise, f.word) {
			return f.form
		}
	}
	return "as it is"
}

// table is what was looked at, for people.
func (s *scan) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| place | files | KiB | %s |\n|---|--:|--:|%s\n", strings.Join(forms, " | "), strings.Repeat("--:|", len(forms)))
	for _, place := range slices.Sorted(maps.Keys(s.places)) {
		p := s.places[place]
		fmt.Fprintf(&b, "| %s | %d | %d |", place, p.files, p.bytes>>10)
		for _, form := range forms {
			fmt.Fprintf(&b, " %d |", p.found[form])
		}
		b.WriteString("\n")
	}
	return b.String()
}

// The places where a server leaves something.
const (
	inLog         = "log of the server"
	inConsole     = "what the server printed, panics"
	inMetrics     = "metrics"
	inTemporary   = "temporary files"
	inFiles       = "files: exports and attachments"
	inCheckpoints = "checkpoints of the audit trails"
	inDatabaseLog = "log of PostgreSQL"
	inTables      = "tables and indexes of PostgreSQL"
	inWAL         = "write-ahead log of PostgreSQL"
	inDumps       = "dumps of the databases"
	inElse        = "configuration, keys and the rest"
)

// placeOf says what a file in the directory of the server is.
func placeOf(file string) string {
	for _, p := range []struct{ begins, place string }{
		{"cordon.log", inLog}, {"console.log", inConsole}, {"tmp/", inTemporary}, {"files/", inFiles}, {"checkpoints/", inCheckpoints},
		{"pg/postgres.log", inDatabaseLog}, {"pg/data/pg_wal/", inWAL}, {"pg/data/base/", inTables}, {"pg/data/global/", inTables},
	} {
		if strings.HasPrefix(file, p.begins) {
			return p.place
		}
	}
	return inElse
}

// files looks into all files of the directory.
func (s *scan) files(t testing.TB, dir string) error {
	t.Helper()
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // PostgreSQL removes files while we look
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		name, err := filepath.Rel(dir, path)
		s.look(t, placeOf(name), name, b)
		return err
	})
}

// done tells what was looked at, and requires that the places were.
func (s *scan) done(t testing.TB, places ...string) {
	t.Helper()
	for _, place := range places {
		if p := s.places[place]; p == nil || p.bytes == 0 {
			t.Errorf("nothing was looked at: %s", place)
		}
	}
	t.Logf("canaries that were found, by place and form:\n%s", s.table())
	if *scanFile != "" {
		if err := os.WriteFile(*scanFile, []byte(s.table()), 0o644); err != nil {
			t.Error(err)
		}
	}
}

// recorder is a testing.TB that only counts what is told.
type recorder struct {
	testing.TB
	told int
}

func (r *recorder) Errorf(string, ...any) { r.told++ }
func (r *recorder) Helper()               {}

// A scan that finds nothing proves something only if it would find what is there: a
// canary in each form, left in each place, turns it red.
func TestAScanFindsACanaryInEachFormAndPlace(t *testing.T) {
	canary := attacks.Canary()
	hunter := attacks.NewHunter(map[string]map[string]string{"north": {"name": canary}})
	dir := t.TempDir()
	for _, file := range []string{
		"cordon.log", "console.log", "tmp/upload", "files/1/export.ndjson", "checkpoints/north/x", "pg/postgres.log", "pg/data/pg_wal/01",
		"pg/data/base/5/1259", "dev.json",
	} {
		s := &scan{hunter, map[string]*scanned{}}
		left := attacks.Disguises(canary)
		left["gzip"] = zipped(t, canary)
		for form, text := range left {
			at := filepath.Join(dir, filepath.FromSlash(file))
			if err := cmp.Or(os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, []byte("before "+text+" after"), 0o644)); err != nil {
				t.Fatal(err)
			}
			r := &recorder{TB: t}
			if err := s.files(r, dir); err != nil || r.told == 0 {
				t.Errorf("%s in %s: %d found, %v", form, file, r.told, err)
			}
		}
		if err := os.Remove(filepath.Join(dir, filepath.FromSlash(file))); err != nil {
			t.Fatal(err)
		}
		for _, column := range forms {
			if s.places[placeOf(file)].found[column] == 0 {
				t.Errorf("%s: the table has nothing under %s", file, column)
			}
		}
	}
}

// zipped returns the text as gzip has it.
func zipped(t testing.TB, text string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write([]byte(text))
	if err := errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
