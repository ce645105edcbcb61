package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cordon-fhir/cordon/cmd/cordon/demo"
)

// A step is a block of shell in the README, and what it says will be printed;
// "" if it does not say.
type step struct{ shell, prints string }

func steps(readme string) (all []step) {
	block := regexp.MustCompile("(?ms)^```sh\n(.*?)^```\n(?:```text\n(.*?)^```\n)?")
	for _, m := range block.FindAllStringSubmatch(readme, -1) {
		all = append(all, step{m[1], m[2]})
	}
	return all
}

func TestTheTourInTheReadmeWorksAsPasted(t *testing.T) { // API-02: with everything on
	if testing.Short() {
		t.Skip("starts PostgreSQL and a server")
	}
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	tour := steps(string(readme))
	if len(tour) < 8 {
		t.Fatalf("found %d blocks of shell", len(tour))
	}
	dir := tempDir(t)
	p := startDev(t, dir, "--demo", "--patients", "3")
	defer p.stop(t)

	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(binary(t), filepath.Join(home, "bin", "cordon")); err != nil {
		t.Fatal(err)
	}
	records := t.TempDir()
	for i, b := range slices.Collect(demo.Bundles(2, 2)) {
		if err := os.WriteFile(filepath.Join(records, fmt.Sprintf("%d.json", i)), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var script strings.Builder
	script.WriteString("set -eo pipefail\n")
	for i, s := range tour {
		fmt.Fprintf(&script, "echo '== %d'\n%s", i, strings.ReplaceAll(s.shell, "http://127.0.0.1:8080/fhir", p.FHIR))
	}
	cmd := exec.Command("bash", "-c", script.String())
	cmd.Dir = home
	cmd.Env = append(os.Environ(), "CORDON_DIR="+dir, "RECORDS="+records)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("the tour ended with %v", err)
	}
	printed := string(out)
	for i, s := range tour {
		_, rest, ok := strings.Cut(printed, fmt.Sprintf("== %d\n", i))
		if !ok {
			t.Fatalf("the tour did not come to step %d:\n%s\n%s", i, s.shell, printed)
		}
		got, _, _ := strings.Cut(rest, fmt.Sprintf("== %d\n", i+1))
		if s.prints != "" {
			if diff := cmp.Diff(s.prints, got); diff != "" {
				t.Errorf("step %d (-README +got):\n%s\n%s", i, s.shell, diff)
			}
		}
		t.Logf("%s\n%s", s.shell, got)
	}
}

func TestEveryFileThatTheReadmeLinksToIsThere(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`\]\(([^)#:]+)\)`).FindAllStringSubmatch(string(readme), -1) {
		if _, err := os.Stat(filepath.Join("..", "..", m[1])); err != nil {
			t.Errorf("README.md links to %s: %v", m[1], err)
		}
	}
}
