package evidence

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Readme says for people what the files of a pack say.
func (c Contents) Readme() string {
	r := &readme{}
	f := c.Facts
	r.line("# Evidence for tenant %s", f.Tenant.Slug)
	r.line("")
	r.line("Made %s by Cordon %s for operator %s. `cordon evidence verify --key KEY .` shows, without any server, that nothing in this directory was", show(f.Made), f.Build.Version, f.Operator)
	r.line("changed; KEY is the public key of the tenant's audit log, as it was taken down when the tenant was made. What the control plane")
	r.line("stated is in `%s` and `%s`; what the operator added is named as such.", FactsFile, PolicyFile)
	r.summary(c)
	r.places(f)
	r.database(f)
	r.access(f)
	r.proof(c)
	r.keys(f)
	r.results(c.Results)
	return r.String()
}

// Summary is what a pack says on a screen.
func (c Contents) Summary() []string {
	f := c.Facts
	lines := []string{
		fmt.Sprintf("tenant %s: mode %s, region %s, %s", f.Tenant.Slug, f.Tenant.Mode, f.Tenant.Region, f.Tenant.Status),
		fmt.Sprintf("tables: %s", f.kept()),
		fmt.Sprintf("access: %d principals under version %d of the policy, %d operators", len(f.Principals), f.Policy.Version, len(f.Operators)),
	}
	switch {
	case c.Audit == nil:
		lines = append(lines, "audit trail: not verified for this pack")
	case len(c.Audit.Faults) > 0:
		lines = append(lines, fmt.Sprintf("audit trail: NOT as it was signed, %d faults", len(c.Audit.Faults)))
	default:
		lines = append(lines, fmt.Sprintf("audit trail: %d entries, %d signed, as they were signed", c.Audit.Entries, c.Audit.Signed))
	}
	if c.Results == nil {
		return append(lines, "tests: no results were given")
	}
	if len(c.Results.Failed) > 0 {
		lines = append(lines, "tests: FAILED in "+strings.Join(c.Results.Failed, ", "))
	}
	return append(lines,
		fmt.Sprintf("isolation: %s", c.Results.Score()),
		fmt.Sprintf("requirements: %d of %d evidenced by tests of revision %s", c.Results.evidenced(), len(c.Results.Requirements), c.Results.Revision))
}

// kept says which tables PostgreSQL keeps apart by itself.
func (f Facts) kept() string {
	var open, shut []string
	for _, t := range f.Tables {
		touches := func(p Privilege) bool { return p.Table == t.Name }
		switch {
		case t.RowSecurity && t.Forced && t.Policies > 0:
		case slices.ContainsFunc(f.Privileges, touches):
			open = append(open, t.Name)
		default:
			shut = append(shut, t.Name)
		}
	}
	text := fmt.Sprintf("%d of %d under forced row-level security", len(f.Tables)-len(open)-len(shut), len(f.Tables))
	if len(shut) > 0 {
		text += "; no role but the owner has a right on " + strings.Join(shut, ", ")
	}
	if len(open) > 0 {
		text += "; OPEN: " + strings.Join(open, ", ")
	}
	return text
}

// Score is how much of the breakout suite held, as counts.
func (r Results) Score() string {
	tried := 0
	for _, l := range r.Breakout {
		tried += l.Tried
	}
	return fmt.Sprintf("%d of %d lines of the breakout suite held, in %d trials between tenants of all modes; broken: %s", r.Held(), len(r.Breakout), tried, r.broken())
}

func (r Results) evidenced() (n int) {
	for _, one := range r.Requirements {
		if one.Evidenced() {
			n++
		}
	}
	return n
}

// A readme is a page of Markdown.
type readme struct{ strings.Builder }

func (r *readme) line(format string, args ...any) { fmt.Fprintf(r, format+"\n", args...) }

func (r *readme) head(title string) { r.line("\n## %s\n", title) }

func (r *readme) table(columns ...string) {
	r.line("| %s |", strings.Join(columns, " | "))
	r.line("|%s", strings.Repeat("---|", len(columns)))
}

// row writes one; what stands in a cell cannot end it.
func (r *readme) row(cells ...string) {
	for i, cell := range cells {
		cells[i] = strings.NewReplacer("|", `\|`, "\n", " ").Replace(cell)
	}
	r.line("| %s |", strings.Join(cells, " | "))
}

func show(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// shown is show of a time that there may be.
func shown(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return show(t)
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (r *readme) summary(c Contents) {
	r.line("")
	for _, line := range c.Summary() {
		r.line("* %s", line)
	}
}

func (r *readme) places(f Facts) {
	r.head("Where the data is")
	r.table("what", "where", "region", "sealed", "kept")
	for _, p := range f.Places {
		r.row(p.What, p.Where, p.Region, p.Sealed, p.Kept)
	}
	r.line("\nBackups, replicas and the disks of the database are the operator's; they hold the same as the database, and are not stated here.")
}

func (r *readme) database(f Facts) {
	r.head("What the database itself allows")
	r.line("As PostgreSQL described it. A superuser of the cluster can do everything, and is found out by the audit log.\n")
	r.table("table", "row-level security", "for its owner too", "policies")
	for _, t := range f.Tables {
		r.row(t.Name, yes(t.RowSecurity), yes(t.Forced), fmt.Sprint(t.Policies))
	}
	r.line("")
	r.table("role", "owner", "logs in", "superuser", "passes row-level security by", "may become", "privileges")
	for _, role := range f.Roles {
		r.row(role.Name, yes(role.Owner), yes(role.Login), yes(role.Superuser), yes(role.BypassesRLS), strings.Join(role.Becomes, ", "), f.may(role.Name))
	}
}

// may lists what a role may do, with the tables of which it may do the same.
func (f Facts) may(role string) string {
	tables := map[string][]string{}
	for _, p := range f.Privileges {
		if p.Role == role {
			tables[p.May] = append(tables[p.May], p.Table)
		}
	}
	var list []string
	for _, may := range slices.Sorted(maps.Keys(tables)) {
		list = append(list, may+": "+strings.Join(tables[may], ", "))
	}
	return strings.Join(list, "; ")
}

func (r *readme) access(f Facts) {
	r.head("Who can reach it")
	r.line("Scopes and the access policy in force, version %d, together; consents can only take away from it. Letters are those of SMART, in capitals", f.Policy.Version)
	r.line("for every resource of a type, small for those that the rules or the scopes speak of. It is so at the time above: who is off shift has nothing then.\n")
	r.table("who", "kind", "acts as", "roles", "may ask for", "allowed")
	for _, p := range f.Principals {
		id := p.ID
		if p.Disabled {
			id += " (disabled)"
		}
		r.row(id, p.Kind, p.User, strings.Join(p.Roles, ", "), strings.Join(p.Scopes, " "), p.allowed())
	}
	r.line("\nRules of the policy (`%s`%s):\n", PolicyFile, f.Policy.approval())
	for _, rule := range f.Policy.Rules {
		does := "permits"
		if rule.Forbids {
			does = "forbids"
		}
		r.line("* %s, %s: %s", rule.ID, does, rule.Says)
	}
	r.line("\nOperators of the control API, which reads no record:\n")
	for _, o := range f.Operators {
		r.line("* %s, %s, disabled: %s", o.ID, o.Name, yes(o.Disabled))
	}
}

func (p Policy) approval() string {
	if p.ApprovedBy == "" {
		return ""
	}
	return fmt.Sprintf(", proposed by %s, approved by %s on %s", p.ProposedBy, p.ApprovedBy, show(p.Approved))
}

// allowed lists the types of which the same is allowed together.
func (p Principal) allowed() string {
	types := map[string][]string{}
	for _, on := range slices.Sorted(maps.Keys(p.Allowed)) {
		types[p.Allowed[on]] = append(types[p.Allowed[on]], on)
	}
	var list []string
	for _, letters := range slices.Sorted(maps.Keys(types)) {
		on := strings.Join(types[letters], ", ")
		if n := len(types[letters]); n > 12 {
			on = fmt.Sprintf("%d types", n)
		}
		list = append(list, letters+": "+on)
	}
	if list == nil {
		return "nothing by itself"
	}
	return strings.Join(list, "; ")
}

func (r *readme) proof(c Contents) {
	r.head("How access is proven")
	r.line("Every access leaves an entry in the tenant's audit trail, which is a Merkle log with signed checkpoints.\n")
	switch {
	case c.Audit == nil:
		r.line("The operator did not have it verified for this pack.")
	default:
		a := c.Audit
		r.line("Given by the operator (`%s`): verified %s in %s, %d entries in the log, %d of them signed by %d checkpoints, %d yet to come into it, %d removed when their time was up.", AuditFile, show(a.At), a.Took, a.Entries, a.Signed, a.Checkpoints, a.Waiting, a.Removed)
		for _, fault := range a.Faults {
			r.line("\n**%s**", fault)
		}
	}
	if c.Checkpoint != nil {
		r.line("\nThe newest checkpoint (`%s`) says: %d entries, %s. A log that does not contain these was changed since.", CheckpointFile, c.Checkpoint.Size, show(c.Checkpoint.Time))
	}
}

func (r *readme) keys(f Facts) {
	r.head("Keys")
	r.table("class", "algorithm", "wrapped by", "fingerprint", "since", "until")
	for _, k := range f.Keys {
		r.row(k.Class, k.Algorithm, k.Wrapped, k.Fingerprint, shown(k.Since), shown(k.Until))
	}
}

func (r *readme) results(results *Results) {
	r.head("Which test proves what")
	if results == nil {
		r.line("No results of tests were given: no requirement is evidenced by this pack.")
		return
	}
	r.line("Given by the operator (`%s`): tests of revision %s, finished %s.\n", ResultsFile, results.Revision, show(results.Finished))
	r.table("requirement", "", "evidenced by")
	for _, one := range results.Requirements {
		r.row(one.ID, one.Title, one.by())
	}
}

// by names the tests, and how each ended if it did not pass.
func (r Result) by() string {
	var tests []string
	for _, t := range r.Tests {
		text := t.Package + " " + t.Name
		if t.Ended != "pass" {
			text += " (" + t.Ended + ")"
		}
		tests = append(tests, text)
	}
	if !r.Evidenced() {
		tests = append([]string{"**not evidenced**"}, tests...)
	}
	return strings.Join(tests, ", ")
}

func (r Results) broken() string {
	var list []string
	for _, l := range r.Breakout {
		if l.Failed > 0 {
			list = append(list, l.ID)
		}
	}
	if list == nil {
		return "none"
	}
	return strings.Join(list, ", ")
}
