package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"

	"github.com/cordon-fhir/cordon/cmd/cordon/demo"
)

// A step is a block of shell in a page of documentation, and what the page
// says that it will print; "" if it does not say. A block that begins with
// ```sh production is for a system that a test has not got: it is only read.
type step struct {
	shell, prints string
	production    bool
}

var fence = regexp.MustCompile("(?ms)^```sh( production)?\n(.*?)^```\n(?:```text\n(.*?)^```\n)?")

func steps(page string) (all []step) {
	for _, m := range fence.FindAllStringSubmatch(page, -1) {
		all = append(all, step{m[2], m[3], m[1] != ""})
	}
	return all
}

// pages returns the steps of README.md and of each page of docs, by name.
func pages(t *testing.T) map[string][]step {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][]step{}
	for _, file := range append(files, filepath.Join("..", "..", "README.md")) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(file)] = steps(string(text))
	}
	return all
}

// documented returns the text of the pages that match one of the names.
func documented(t *testing.T, names ...string) string {
	t.Helper()
	var all strings.Builder
	for _, name := range names {
		files, err := filepath.Glob(filepath.Join("..", "..", name))
		if err != nil || len(files) == 0 {
			t.Fatal(name, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			all.Write(text)
		}
	}
	return all.String()
}

// DOC-05
func TestTheDocumentationHasEveryCommandVariableAndFlagOfAServer(t *testing.T) {
	all, operations := documented(t, "README.md", "docs/*.md"), documented(t, "docs/operations.md")
	parser, err := kong.New(&commands{})
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range parser.Model.Leaves(true) {
		said := command
		if command.Parent.DefaultCmd == command { // then its name may be left out
			said = command.Parent
		}
		name := strings.TrimPrefix(said.Path(), "cordon ")
		mention := name
		if !strings.Contains(name, " ") {
			mention = "cordon " + name
		}
		if !strings.Contains(all, mention) {
			t.Errorf("no page has a word about cordon %s", name)
		}
		server := slices.Contains([]string{"dev", "serve", "control", "migrate"}, name)
		var variables []string
		for _, f := range command.Flags {
			variables = append(variables, f.Envs...)
			if server && f.Name != "help" && !strings.Contains(operations, "`--"+f.Name+"`") {
				t.Errorf("operations.md does not tell of --%s of cordon %s", f.Name, name)
			}
		}
		for _, a := range command.Positional {
			variables = append(variables, a.Tag.Envs...)
		}
		for _, v := range variables {
			if !strings.Contains(all, v) {
				t.Errorf("no page tells of %s of cordon %s", v, name)
			}
		}
	}
}

// With everything on. API-02, AUTHZ-21, DOC-05
func TestTheCommandsInTheDocumentationWorkAsPasted(t *testing.T) {
	if testing.Short() {
		t.Skip("starts PostgreSQL and a server")
	}
	all := pages(t)
	tour := all["README.md"]
	if len(tour) < 8 {
		t.Fatalf("found %d blocks of shell in README.md", len(tour))
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
	environment := append(os.Environ(), "CORDON_DIR="+dir, "RECORDS="+records)
	follow := func(t *testing.T, list []step) {
		var script strings.Builder
		script.WriteString("set -eo pipefail\n")
		for i, s := range list {
			fmt.Fprintf(&script, "echo '== %d'\n%s", i, strings.ReplaceAll(s.shell, "http://127.0.0.1:8080/fhir", p.FHIR))
		}
		cmd := exec.Command("bash", "-c", script.String())
		cmd.Dir, cmd.Env = home, environment
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("the commands ended with %v", err)
		}
		compare(t, list, string(out))
	}
	t.Run("README.md", func(t *testing.T) { follow(t, tour) })
	for _, page := range slices.Sorted(maps.Keys(all)) {
		run := slices.DeleteFunc(slices.Clone(all[page]), func(s step) bool { return s.production })
		if page != "README.md" && len(run) > 0 {
			// A page goes on where the tour begins: with BASE, TOKEN, fhir and code.
			t.Run(page, func(t *testing.T) { follow(t, append([]step{tour[0]}, run...)) })
		}
	}
}

// compare holds what was printed against what the page says.
func compare(t *testing.T, list []step, printed string) {
	t.Helper()
	for i, s := range list {
		_, rest, ok := strings.Cut(printed, fmt.Sprintf("== %d\n", i))
		if !ok {
			t.Fatalf("the commands did not come to step %d:\n%s\n%s", i, s.shell, printed)
		}
		got, _, _ := strings.Cut(rest, fmt.Sprintf("== %d\n", i+1))
		if s.prints != "" {
			if diff := cmp.Diff(s.prints, got); diff != "" {
				t.Errorf("step %d (-page +got):\n%s\n%s", i, s.shell, diff)
			}
		}
		t.Logf("%s\n%s", s.shell, got)
	}
}

func TestTheCommandsForProductionInTheDocumentationParse(t *testing.T) {
	for page, list := range pages(t) {
		t.Run(page, func(t *testing.T) {
			for _, s := range list {
				if !s.production {
					continue
				}
				if out, err := exec.Command("bash", "-n", "-c", s.shell).CombinedOutput(); err != nil {
					t.Errorf("%s", out)
				}
				for line := range strings.Lines(strings.ReplaceAll(s.shell, "\\\n", " ")) {
					understood(t, words(line))
				}
			}
		})
	}
}

// understood fails if a command is one of ours and has a flag or target that
// there is not. Commands of others are theirs to know.
func understood(t *testing.T, command []string) {
	t.Helper()
	for len(command) > 0 { // what it finds in its environment
		name, value, set := strings.Cut(command[0], "=")
		if !set && name != "export" {
			break
		}
		if set {
			t.Setenv(name, value)
		}
		command = command[1:]
	}
	if len(command) < 2 {
		return
	}
	switch program, args := filepath.Base(command[0]), command[1:]; program {
	case "cordon":
		parser, err := kong.New(&commands{}, kong.Exit(func(int) {}), kong.Writers(io.Discard, io.Discard))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parser.Parse(args); err != nil {
			t.Errorf("%q: %v", command, err)
		}
	case "make":
		if out, err := exec.Command("make", append([]string{"-n", "-C", filepath.Join("..", "..")}, args...)...).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	case "go":
		for _, a := range args {
			if strings.HasPrefix(a, "./") {
				if _, err := os.Stat(filepath.Join("..", "..", strings.TrimSuffix(a, "/..."))); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// word is a word of shell: what is quoted in one way or another, or has no
// space. A number sign begins a comment.
var word = regexp.MustCompile(`#.*|(?:'[^']*'|"[^"]*"|[^\s'"#])+`)

// words splits a line of shell. Variables stay as they are written.
func words(line string) (all []string) {
	for _, w := range word.FindAllString(line, -1) {
		if strings.HasPrefix(w, "#") {
			break
		}
		all = append(all, strings.NewReplacer(`'`, ``, `"`, ``).Replace(w))
	}
	return all
}

func TestWordsOfShell(t *testing.T) {
	got := words(`A='b c' cordon tenant  create --name "St. $X" --mode=schema s1 # why 'not`)
	want := []string{"A=b c", "cordon", "tenant", "create", "--name", "St. $X", "--mode=schema", "s1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
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
