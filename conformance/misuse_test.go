package conformance

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/conformance/harness"
)

// A misuse is a mistake that must not compile: forgetting the tenant, the
// authorization or the audit trail, or going round them.
type misuse struct {
	claim string
	in    string // the folder that the mistake is made in
	code  string // a function's body
	says  string // part of the compiler's answer; "" compiles
}

// The names that each body can use.
const surroundings = `package misuse

import (
	"context"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/tenant"
	GATE
)

var (
	ctx  context.Context
	db   *store.DB
	view *store.View
	tx   *store.Tx
	g    *smart.Grant
	ref  fhir.Ref
	doc  *fhir.Document
	tn   *tenant.Tenant
	name string
	INSIDE
)

func _() {
	BODY
}
`

var misuses = []misuse{
	{"the right way compiles", "fhir", `
		_ = db.View(ctx, g, func(v *store.View) error { _, err := v.Read(ctx, ref); return err })
		_ = db.Update(ctx, g, func(tx *store.Tx) error { _, _, err := tx.Put(ctx, ref, doc, 0); return err })`, ""},
	{"a view without a Grant", "fhir", `_ = db.View(ctx, func(*store.View) error { return nil })`, "not enough arguments"},
	{"an update without a Grant", "fhir", `_ = db.Update(ctx, func(*store.Tx) error { return nil })`, "not enough arguments"},
	{"a view for a tenant instead of a Grant", "fhir", `_ = db.View(ctx, tn, func(*store.View) error { return nil })`, "as *smart.Grant value"},
	{"a read without a view", "fhir", `_, _ = db.Read(ctx, ref)`, "not enough arguments"},
	{"a write in a view", "fhir", `_, _, _ = view.Put(ctx, ref, doc, 0)`, "view.Put undefined"},
	{"a deletion in a view", "fhir", `_, _, _ = view.Delete(ctx, ref, 0)`, "view.Delete undefined"},
	{"a create in a view", "fhir", `_, _ = view.Create(ctx, "", doc)`, "view.Create undefined"},
	{"a forged Grant", "fhir", `_ = smart.Grant{tenant: tn}`, "unexported field tenant"},
	{"a Grant for another tenant", "fhir", `g.tenant = tn`, "g.tenant undefined"},
	{"a forged Permit", "fhir", `_ = smart.Permit{grant: g}`, "unexported field grant"},
	{"a Permit for more", "fhir", `p, _ := g.Permit(fhir.Read, "Patient"); p.where = nil`, "p.where undefined"},
	{"a forged tenant number", "fhir", `_ = tenant.ID{1}`, "unexported field n"},
	{"a tenant number from an integer", "fhir", `_ = tenant.ID(1)`, "cannot convert 1"},
	{"a slug from text", "fhir", `_ = tenant.Slug("harbor")`, "cannot convert"},
	{"the connections behind the door", "fhir", `_ = db.gate`, "db.gate undefined"},
	{"the transaction behind a view", "fhir", `_ = view.gate`, "view.gate undefined"},
	{"the keys behind a view", "fhir", `_ = view.keys`, "view.keys undefined"},

	{"SQL of constants compiles", "store", `
		p, _ := work.Permit(fhir.Read, "Patient")
		_, _ = work.Query(ctx, p, gate.SQL("SELECT 1 FROM ~resource WHERE tenant_id = $1 AND id = ?", name))`, ""},
	{"SQL put together from text", "store", `_ = gate.SQL("SELECT * FROM ~resource WHERE id = '" + name + "'")`, "as gate.constant value"},
	{"SQL from a variable", "store", `_ = gate.SQL(name)`, "as gate.constant value"},
	{"SQL by conversion", "store", `_ = gate.SQL(gate.constant(name))`, "not exported"},
	{"a Clause by hand", "store", `_ = gate.Clause{text: name}`, "unexported field text"},
	{"a statement without a Permit", "store", `_, _ = work.Query(ctx, gate.SQL("SELECT 1"))`, "not enough arguments"},
	{"a statement that is text", "store", `p, _ := work.Permit(fhir.Read, "Patient"); _, _ = work.Query(ctx, p, "SELECT 1")`, "as gate.Clause value"},
	{"the connection behind a transaction", "store", `_ = work.conn`, "work.conn undefined"},
	{"the pool behind the gate", "store", `_ = pool.places`, "pool.places undefined"},
	{"a transaction without a Grant", "store", `_ = pool.View(ctx, func(*gate.Tx) error { return nil })`, "not enough arguments"},
}

// What must not happen does not compile, or the compiler says why.
// TEN-09, TEN-10, AUTHZ-01
func TestMisuse(t *testing.T) {
	root, err := harness.Root()
	if err != nil {
		t.Fatal(err)
	}
	replace := map[string]string{}
	args := []string{"build", "-gcflags=-e", "-overlay", filepath.Join(t.TempDir(), "overlay.json")}
	folders := make([]string, len(misuses))
	for i, m := range misuses {
		text := strings.Replace(surroundings, "BODY", m.code, 1)
		if m.in == "store" {
			text = strings.Replace(text, "GATE", `"github.com/cordon-fhir/cordon/store/internal/gate"`, 1)
			text = strings.Replace(text, "INSIDE", "work *gate.Tx\n\tpool *gate.Gate", 1)
		}
		text = strings.NewReplacer("GATE", "", "INSIDE", "").Replace(text)
		real := filepath.Join(t.TempDir(), "misuse.go")
		if err := os.WriteFile(real, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		folders[i] = m.in + "/misuse" + string(rune('a'+i/10)) + string(rune('0'+i%10))
		replace[filepath.Join(root, folders[i], "misuse.go")] = real
		args = append(args, "./"+folders[i])
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err == nil {
		err = os.WriteFile(args[3], overlay, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = root
	out, _ := cmd.CombinedOutput() // it fails, as it must
	said := map[string]string{}
	folder := ""
	for line := range strings.Lines(string(out)) {
		if name, ok := strings.CutPrefix(line, "# github.com/cordon-fhir/cordon/"); ok {
			folder = strings.TrimSpace(name)
			continue
		}
		said[folder] += line
	}
	for i, m := range misuses {
		t.Run(m.claim, func(t *testing.T) {
			words := said[folders[i]]
			switch {
			case m.says == "" && words != "":
				t.Errorf("the compiler says: %s", words)
			case m.says != "" && !strings.Contains(words, m.says):
				t.Errorf("the compiler says %q, want %q\n%s", words, m.says, out)
			}
		})
	}

	t.Run("the gate from outside the store", func(t *testing.T) {
		real := filepath.Join(t.TempDir(), "misuse.go")
		text := "package misuse\n\nimport _ \"github.com/cordon-fhir/cordon/store/internal/gate\"\n"
		overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, "fhir/rest/misuse/misuse.go"): real}})
		if err == nil {
			err = os.WriteFile(real, []byte(text), 0o600)
		}
		file := filepath.Join(t.TempDir(), "overlay.json")
		if err == nil {
			err = os.WriteFile(file, overlay, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "go", "build", "-overlay", file, "./fhir/rest/misuse")
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "use of internal package") {
			t.Errorf("the compiler says: %v %s", err, out)
		}
	})
}
