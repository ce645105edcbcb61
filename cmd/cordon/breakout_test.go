package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/breakout"
)

// The exit code tells what was found from what could not be tried. TEN-16
func TestBreakoutSaysByItsExitCodeWhetherAnythingGotOut(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	// It takes everything from anybody, and finds nothing.
	careless := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"resourceType":"Bundle","type":"searchset"}`)
	}))
	defer careless.Close()
	target := breakout.Target{}
	for _, slug := range []string{"north", "south"} {
		target.Tenants = append(target.Tenants, &breakout.Tenant{Slug: slug, FHIRBase: careless.URL + "/" + slug, Clients: []*breakout.Client{
			{ID: "etl", Scopes: []string{"system/*.cruds"}, TokenFile: write("token", "x")},
		}})
	}
	text, err := json.Marshal(target)
	if err != nil {
		t.Fatal(err)
	}
	file, sheet := write("target.json", string(text)), filepath.Join(dir, "sheet.json")
	for _, tt := range []struct {
		args []string
		want int
		says string
	}{
		{[]string{"--target", file, "--only", "T001", "--rate", "100000", "--json", sheet, "--report", filepath.Join(dir, "sheet.md")}, 1, "records of the run could not be removed"},
		{[]string{"--target", file, "--only", "T277"}, 2, "1 could not be made everywhere"}, // there is no client for it
		{[]string{"--target", file, "--only", "T999"}, 2, "there is no attack"},
		{[]string{"--target", file, "--tenant", "north"}, 2, "two sides"},
		{[]string{"--target", file, "--rate", "0"}, 2, "--rate"},
		{[]string{"--target", filepath.Join(dir, "none.json")}, 2, "no such file"},
		{[]string{"--list"}, 0, `"id":"T001"`},
	} {
		var out, faults strings.Builder
		if got := run(t.Context(), append([]string{"breakout"}, tt.args...), &out, &faults); got != tt.want {
			t.Errorf("%v ends with %d, want %d: %s%s", tt.args, got, tt.want, &out, &faults)
		}
		if said := out.String() + faults.String(); !strings.Contains(said, tt.says) {
			t.Errorf("%v does not say %q: %s", tt.args, tt.says, said)
		}
	}
	var says breakout.Sheet
	if err := readJSON(sheet, &says); err != nil {
		t.Fatal(err)
	}
	if len(says.Attacks) != 1 || len(says.Attacks[0].Broken) != 2 || len(says.Left) == 0 {
		t.Errorf("the sheet says %+v", says)
	}
	if page, err := os.ReadFile(filepath.Join(dir, "sheet.md")); err != nil || !strings.Contains(string(page), "0 of 1 attacks held") {
		t.Errorf("%v: %s", err, page)
	}
}
