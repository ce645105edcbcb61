package conformance

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/conformance/harness"
)

var mutants = flag.Bool("mutants", false, "put each seeded fault into the program, and require that the suite turns red")

// A mutant is a fault in the program: each text is replaced by the other.
type mutant struct {
	number string // in the list of seeded faults; "" for one of our own
	fault  string
	edits  []edit
	// run names the test of this package that must turn red; atOnce says that
	// with the fault not even the records of the tests can be stored. Where pkg
	// is set a test of that package must turn red, of those that match run if it
	// is set too: it can make tokens that no client can earn, or kill servers.
	run, pkg string
}

const atOnce = "seeding"

type edit struct{ file, old, with string }

// programFaults are the seeded faults that live in the program. What every
// isolation fault that is found later would have been is added here.
var programFaults = []mutant{
	{"5", "the tenant is set for the session, not the transaction", []edit{
		{"store/internal/gate/gate.go", "set_config('role', $1, true), set_config('cordon.tenant', $2, true)", "set_config('role', $1, false), set_config('cordon.tenant', $2, false)"},
		{"store/internal/gate/gate.go", "SELECT set_config('cordon.tenant', $1, true)", "SELECT set_config('cordon.tenant', $1, false)"},
	}, atOnce, ""},
	{"6", "a transaction does not bind its tenant", []edit{
		{"store/internal/gate/tx.go", "\ttext, args := bind(t.tenant)\n\tb.Queue(text, args...)\n\treturn b.Len()", "\treturn b.Len()"},
	}, atOnce, ""},
	{"12", "statements are remembered without their schema", []edit{
		{"store/internal/gate/clause.go", "renderKey{schema, c.text}", `renderKey{"", c.text}`},
	}, atOnce, ""},
	{"13", "a page is bound to nobody", []edit{
		{"store/cursor.go", `return fmt.Appendf(nil, "cursor|%s|%d|%s", g.Tenant().ID, g.Tenant().PolicyVersion, g.Principal())`, `return fmt.Appendf(nil, "cursor")`},
	}, "TestCursors/T146", ""},
	{"15", "what is allowed is remembered without whom", []edit{
		{"smart/permit.go", "a.decided.", "decidedForAll."},
		{"smart/permit.go", "// A question is what", "var decidedForAll atomic.Pointer[map[question]answer]\n\n// A question is what"},
		{"smart/permit.go", "import (\n", "import (\n\t\"sync/atomic\"\n\n"},
	}, "TestCursors/T151", ""},
	{"16, 17", "includes show what is hidden", []edit{
		{"store/include.go", "\t\tif covered[i] {\n\t\t\tfound = append(found, res)", "\t\tif covered[i] || !covered[i] {\n\t\t\tfound = append(found, res)"},
	}, "TestSearch/T086", ""},
	{"18", "chains look at what is hidden", []edit{
		{"store/compile.go", "return p, and(x, where), err", "return p, x, err"},
	}, "TestSearch/T084", ""},
	{"19", "totals count what is hidden", []edit{
		{"store/search.go", "\tif !pl.exact || pl.by != nil {\n\t\terr := v.scan(", "\tpl.where, pl.by, pl.exact = search.And{}, nil, true\n\tif !pl.exact || pl.by != nil {\n\t\terr := v.scan("},
	}, "TestSearch/T090", ""},
	{"20", "_id is searched without the permit", []edit{
		{"store/search.go", "\twhere, followed, err := v.settledFor(", "\tif fmt.Sprintf(\"%T\", search.Simplify(where)) == \"search.HasID\" {\n\t\tallowed = search.And{}\n\t}\n\twhere, followed, err := v.settledFor("},
	}, "TestAccess/T075", ""},
	{"21", "a user who is nobody is staff", []edit{
		{"smart/permit.go", "\t\treturn compartment(a.user.ID, q)\n\t}\n\treturn nil", "\t\treturn compartment(a.user.ID, q)\n\t}\n\treturn search.And{}"},
	}, "", "./smart"},
	{"22", "no patient means all", []edit{
		{"smart/permit.go", "if patient == \"\" {\n\t\treturn nil", "if patient == \"\" {\n\t\treturn search.And{}"},
	}, "", "./smart"},
	{"24", "a type has no rule of the compartment", []edit{
		{"smart/permit.go", "if e, ok := search.Compartment(", "if q.on == \"Flag\" {\n\t\treturn search.And{}\n\t}\n\tif e, ok := search.Compartment("},
	}, "TestAccess/T075", ""},
	{"25", "a route does not authenticate", []edit{
		{"fhir/rest/serve.go", "\ttoken := bearer(c.http.Header)\n", "\tif c.place.pattern == root+\"/:type/:id/_history\" {\n\t\treturn nil\n\t}\n\ttoken := bearer(c.http.Header)\n"},
	}, "TestStranger/INT-03", ""},
	{"26", "a past version is not looked at", []edit{
		{"store/read.go", "\t\tif err := v.visible(ctx, p, found); err != nil {\n\t\t\treturn fhir.Resource{}, err\n\t\t}\n", ""},
	}, "TestAccess/T061", ""},
	{"26", "a history shows what is hidden", []edit{
		{"store/read.go", "\t\t\tseen[i] = covered[k]\n", "\t\t\tseen[i] = covered[k] || true\n"},
	}, "TestAccess/T061", ""},
	{"27", "a write shows what may not be read", []edit{
		{"fhir/rest/create.go", "\t\tif ok {\n\t\t\tresp.body", "\t\tif ok || r.Version > 0 {\n\t\t\tresp.body"},
	}, "TestBundles/T125", ""},
	{"33", "the issuer of a token is not looked at", []edit{
		{"smart/verify.go", "if u.claims.Issuer != v.cfg.Issuer(own) {", "if u.claims.Issuer == \"\" {"},
	}, "", "./smart"},
	{"34", "the audience of a token is not looked at", []edit{
		{"smart/verify.go", "if claims.Audience != base {", "if claims.Audience == \"\" {"},
	}, "", "./smart"},
	{"37", "a sealed body is bound to no place", []edit{
		{"store/codec.go", "return append(b, ref.ID...)", "return append(b[:0], \"place\"...)"},
	}, "TestSealedBodies", ""},
	{"39", "the audit trail is written after the answer", []edit{
		{"store/internal/gate/gate.go", "\tif aerr := g.Append(ctx, t.tenant, t.trail.settle(grant, err)...); aerr != nil {\n\t\treturn aerr\n\t}\n\tcrash", "\tgo g.Append(context.WithoutCancel(ctx), t.tenant, t.trail.settle(grant, err)...)\n\tcrash"},
	}, "TestAuditFailure", ""},
	{"40", "a failure of the audit trail is passed over", []edit{
		{"store/internal/gate/gate.go", "\tif aerr := g.Append(ctx, t.tenant, t.trail.settle(grant, err)...); aerr != nil {\n\t\treturn aerr\n\t}\n\tcrash", "\tg.Append(ctx, t.tenant, t.trail.settle(grant, err)...)\n\tcrash"},
	}, "TestAuditFailure", ""},
	{"", "an entry of the audit trail counts before it is durable", []edit{
		{"store/internal/gate/audit.go", "\tcase a.work <- p:\n\t\ta.mu.RUnlock()\n", "\tcase a.work <- p:\n\t\ta.mu.RUnlock()\n\t\treturn nil\n"},
	}, "TestEachAnsweredRequestHasExactlyOneEvent", "./conformance/faults"},
	{"", "a tenant among others has all turns", []edit{
		{"limit/turn.go", "return q.used() < t.share || q.now.used < half", "return true"},
	}, "TestATenantAmongOthers", "./limit"},
	{"", "requests take no turns", []edit{
		{"fhir/rest/request.go", "if err := c.takeTurn(ctx); err != nil {", "if err := ctx.Err(); err != nil {"},
	}, "TestATenantWhoseTurns", "./fhir/rest"},
	{"43", "values of parameters are logged", []edit{
		{"fhir/rest/log.go", "name := p.Name", "name := p.Value"},
		{"fhir/rest/log.go", "if !parameterNames()[name] {", "if false {"},
	}, "TestErrors/T262", ""},
	{"44", "words of the database are passed on", []edit{
		{"store/internal/gate/tx.go", "return Scrub(err)", "return fhir.Errorf(fhir.Conflict, \"%s\", err)"},
		{"store/internal/gate/tx.go", `case "40001", "40P01", "23505":`, `case "40001", "40P01":`},
	}, "TestErrors/T257", ""},
	{"52", "names are read in any case", []edit{
		{"fhir/document.go", "switch string(name) {\n\tcase \"resourceType\":", "switch strings.ToLower(string(name)) {\n\tcase \"resourcetype\":"},
	}, "", "./fhir"}, // behind it fhir/validate refuses them too
	{"", "a token is good at every tenant", []edit{
		{"smart/verify.go", "if tn.Slug.String() != slug || tn.Status != tenant.Active {", "if tn.Status != tenant.Active {"},
	}, "TestRouting/T001", ""},
	{"", "a suspended tenant is served", []edit{
		{"smart/verify.go", "if tn.Slug.String() != slug || tn.Status != tenant.Active {", "if tn.Slug.String() != slug || tn.Status == tenant.Provisioning {"},
		{"store/provision.go", "tenant.Suspended, expel)", "tenant.Suspended, admit)"}, // the second lock
	}, "TestRouting/T012", ""},
	{"", "the place of a suspended tenant knows it", []edit{
		{"store/provision.go", "tenant.Suspended, expel)", "tenant.Suspended, admit)"},
	}, "", "./store"},
	{"", "nobody is told of a token in the wrong place", []edit{
		{"smart/verify.go", "\t\tv.alert(CrossTenant, own, slug, client, o)\n", ""},
	}, "TestRouting/T001", ""},
	{"41", "the audit log is held against no checkpoint", []edit{
		{"audit/ledger/verify.go", "if root != c.Root && !v.broken {", "if false && root != c.Root && !v.broken {"},
	}, "TestRewritingTheLog", "./store"},
	{"42", "the audit log ends with the last row that is found", []edit{
		{"audit/ledger/verify.go", "v.checkpoints[n-1].Size > v.tree.Size {", "v.checkpoints[n-1].Size < 0 {"},
	}, "TestTampering", "./store"},
	{"", "an entry that is committed late is left out of the log", []edit{
		{"store/sequence.go", "\t\t\tpending = append(pending, p)\n", ""},
	}, "TestALateEntry", "./store"},
	{"", "entries that no server wrote become leaves", []edit{
		{"store/sequence.go", "if !b.opens(e.seq, sealed) {", "if false && !b.opens(e.seq, sealed) {"},
	}, "TestAForgedEntry", "./store"},
	{"", "a log is signed that does not contain what was signed before", []edit{
		{"store/checkpoint.go", "if err := c.contains(tree, old); err != nil {", "if err := c.contains(tree, old); err != nil && false {"},
	}, "TestARestoredDatabase", "./store"},
	{"", "sessions that are over are kept", []edit{
		{"store/revocation.go", "\t\t`DELETE FROM registry.session        WHERE expires < now() - interval '1 day'`,\n", ""},
	}, "TestWhatIsKeptForATimeIsSwept", "./store"},
	{"", "the role that appends to the trails of all tenants reads their records", []edit{
		{"migrations/placement/000002_resource.up.sql", "ON {{schema}}.resource TO {{app}};", "ON {{schema}}.resource TO {{app}}, {{audit}};"},
	}, "TestNoRoleAccount", "./store"},
	{"", "a next key of the audit log need not be named by the one before", []edit{
		{"audit/ledger/succession.go", "err != nil || !from.Verify([]byte(s.text()), signature)", "err != nil || false && !from.Verify([]byte(s.text()), signature)"},
	}, "TestAKeyOfSomebodyElse", "./store"},
	{"", "the log goes on from a key that counts no longer", []edit{
		{"audit/ledger/verify.go", "if !GoesOn(c.Keys, v.keys) {", "if false && !GoesOn(c.Keys, v.keys) {"},
	}, "TestAKeyOfSomebodyElse", "./store"},
	{"", "an export of the trail is for anybody who reads some of it", []edit{
		{"store/logproof.go", "if err == nil && !all(p.Where()) {", "if err == nil && do == fhir.Read && !all(p.Where()) {"},
	}, "TestAnExportOfTheTrail", "./fhir/rest"},
	{"", "pages of an export need not follow each other", []edit{
		{"audit/ledger/export.go", " || p.After != c.said:", ":"},
	}, "TestAnExportThatTheLog", "./audit/ledger"},
	{"", "a tombstone that nobody signed is believed", []edit{
		{"audit/ledger/tombstone.go", "\to, err := trust.open(signed)\n", "\to, err := trust.open(signed)\n\tif err != nil {\n\t\ttext, _, _ := strings.Cut(string(signed), \"\\n\\n\")\n\t\to, err = opened{text: text + \"\\n\", by: &believed{}}, nil\n\t}\n"},
	}, "TestWhatATenantKeepsNoLonger", "./store"},
	{"", "what is of a patient on hold is removed", []edit{
		{"store/sweep.go", "\tfor _, p := range s.holds.patients {", "\tfor _, p := range s.holds.patients[:0] {"},
	}, "TestALegalHold", "./store"},
	{"", "the database lets young entries of the trail be removed", []edit{
		{"migrations/placement/000016_audit_retention.up.sql", "        OR     g.recorded >= now() - interval '6 years'\n", ""},
	}, "TestTheDatabaseRemovesNothing", "./store"},
	{"", "a tombstone lets any entry be removed", []edit{
		{"migrations/placement/000016_audit_retention.up.sql", "AND n.leaves @> l.leaf\n", "\n"},
	}, "TestTheDatabaseRemovesNothing", "./store"},
	{"", "one operator purges a patient", []edit{
		{"store/purge.go", "case p.AskedBy == operator:", "case p.AskedBy == \"nobody\":"},
		{"migrations/registry/000023_purge.up.sql", "    CHECK (approved_by <> asked_by),\n", ""},
	}, "TestAPurgeRemoves", "./store"},
	{"", "a purge removes what is on hold", []edit{
		{"store/purge.go", "if h.Cover(fhir.Ref{}) || h.Cover(p.patient) {", "if h.Cover(fhir.Ref{}) {"},
	}, "TestALegalHoldKeepsWhatIsToBePurged", "./store"},
	{"", "a purge removes what tells of others too", []edit{
		{"store/purging.go", "return !v.ours || v.others })", "return !v.ours })"},
	}, "TestAPurgeRemoves", "./store"},
	{"", "a purge leaves what was deleted before", []edit{
		{"store/purging.go", "\t\tUNION ALL\n\t\tSELECT h.rid, h.type, h.id, h.version, h.updated, h.deleted, h.body, 0\n\t\tFROM   ~history h\n\t\tWHERE  h.tenant_id = $1 AND h.rid = ANY(?::bigint[])`, rids, rids)", "`, rids)"},
	}, "TestAPurgeRemoves", "./store"},
	{"", "an export keeps what was purged", []edit{
		{"store/purging.go", "if tellsOf(about, key) {", "if false && tellsOf(about, key) {"},
	}, "TestNothingKeptShowsWhatWasPurged", "./fhir/rest"},
	{"", "the database lets versions be removed of which nothing tells", []edit{
		{"migrations/placement/000019_purge.up.sql", " AND r.rid = g.rid AND", " AND"},
	}, "TestTheDatabaseRemovesNoVersion", "./store"},
	{"", "one operator lifts a legal hold", []edit{
		{"store/hold.go", "case h.AskedBy == operator:", "case h.AskedBy == \"nobody\":"},
	}, "TestALegalHold", "./store"},
	{"", "what nobody has signed is removed", []edit{
		{"store/sweep.go", "s.collect(ctx, x, newest.Size)", "s.collect(ctx, x, newest.Size+1<<40)"},
	}, "TestWhatATenantKeepsNoLonger", "./store"},
	{"", "proofs of the audit log are for anybody who reads some of it", []edit{
		{"store/logproof.go", "if err == nil && !all(p.Where()) {", "if false && !all(p.Where()) {"},
	}, "TestProofsOfTheAuditLog", "./fhir/rest"},
	{"", "requests of nobody are not audited", []edit{
		{"store/audit.go", "\tif g == nil || g.Tenant() == nil {\n", "\tif g == nil || g.Tenant() == nil {\n\t\treturn nil\n"},
	}, "TestStranger/INT-03", ""},
	{"", "staff see the audit trail", []edit{
		{"smart/permit.go", "if q.on == auditEvent && !a.audits(of) {", "if q.on == \"\" && !a.audits(of) {"},
	}, "TestTheTrailIsForAuditors", "./fhir/rest"},
	{"", "a patient sees all that an entry says of others", []edit{
		{"store/trail.go", "\tif !t.bound {\n\t\treturn\n", "\tif !t.bound || t.permit.On() == auditEvent {\n\t\treturn\n"},
	}, "TestTheTrailIsForAuditors", "./fhir/rest"},
	{"", "what an index finds in the audit trail is taken for found", []edit{
		{"store/trail.go", "\tcase all(t.where):\n", "\tcase all(t.where) || !t.bound:\n"},
	}, "TestASearchOfTheTrail", "./store"},
	{"", "a patient is told of entries that may be of others", []edit{
		{"store/trail.go", "\t\tcase !t.bound: // whose", "\t\tcase t.permit.On() == auditEvent: // whose"},
	}, "TestAnEntryThatCannotBeOpened", "./store"},
	{"", "definitions are remembered without their tenant", []edit{
		{"store/definitions.go", "\tr := db.rules.of(t.ID)\n", "\tr := db.rules.of(tenant.ID{})\n"},
	}, "TestDefinitions/T102", ""},
	{"", "search parameters are remembered without their tenant", []edit{
		{"store/custom.go", "\tx := db.customs.of(g.Tenant().ID)\n", "\tx := db.customs.of(tenant.ID{})\n"},
	}, "TestDefinitions/T102", ""},
	{"", "a permit for rules opens a client's transaction", []edit{
		{"store/internal/gate/tx.go", "p.ForRules() != t.rules || ", ""},
	}, "", "./store"},
	{"", "every token works on the index", []edit{
		{"smart/index.go", "g.access == nil || !g.access.indexes {", "g.access == nil {"},
	}, "", "./store"},
	{"", "an answer that comes later is anyone's", []edit{
		{"store/deferred.go", `v.keys.Hash("q", v.grant.Holder())`, `v.keys.Hash("q", "")`},
	}, "TestCursors/T156", ""},
	{"", "who has an import no longer goes on with it", []edit{
		{"store/importing.go", "AND n = ? AND lines = ? AND NOT done AND EXISTS (SELECT FROM own)", "AND n = ? AND lines = ? AND NOT done"},
	}, "TestLinesOfAnImport", "./store"},
	{"", "lines of an import are taken twice", []edit{
		{"store/importing.go", "AND n = ? AND lines = ? AND NOT done", "AND n = ? AND lines >= ? - lines AND NOT done"},
	}, "TestLinesOfAnImport", "./store"},
	{"", "a first load tells anybody whether there are resources", []edit{
		{"store/importing.go", "!all(where) {\n\t\treturn fhir.Errorf(fhir.Forbidden, \"an import in mode", "!all(where) && on == \"\" {\n\t\treturn fhir.Errorf(fhir.Forbidden, \"an import in mode"},
	}, "TestAFirstLoadIsFor", "./fhir/rest"},
	{"", "a first load overwrites what has come meanwhile", []edit{
		{"store/write.go", "\treturn tx.put(ctx, p, fhir.Update, ref, d, nil)\n", "\treturn tx.put(ctx, p, fhir.Update, ref, d, tx.fetched[ref])\n"},
		{"store/write.go", "\tif tx.fetched[ref] != nil {\n", "\tif tx.fetched[ref] != nil && p.On() == \"\" {\n"},
	}, "TestAFirstLoadStores", "./fhir/rest"},
	{"", "an import fetches from anywhere", []edit{
		{"tenant/imports.go", "if len(text) > len(s) && strings.HasPrefix(text, s) {", "if len(text) > len(s) {"},
	}, "TestAURLIsOfASource", "./tenant"},
	{"", "an import reads what the server keeps for itself", []edit{
		{"fhir/rest/op_import.go", "(c.ImportObjects == nil || c.ImportObjects.Own(in.URL))", "c.ImportObjects == nil"},
		{"store/blob/reader.go", "\tif r.Own(url) {\n", "\tif r.Own(url) && url == \"\" {\n"},
	}, "TestAnImportFetchesFromTheBuckets", "./fhir/rest"},
	{"", "a path leads an import out of its source", []edit{
		{"tenant/imports.go", `if segment == "." || segment == ".." {`, `if segment == "." {`},
	}, "TestAURLIsOfASource", "./tenant"},
	{"", "a source of an import may be behind the walls", []edit{
		{"fhir/rest/import.go", "Private: c.ImportNetworks,", `Private: append(c.ImportNetworks, netip.MustParsePrefix("127.0.0.0/8")),`},
		{"fhir/rest/import.go", "	\"net/http\"\n", "	\"net/http\"\n	\"net/netip\"\n"},
	}, "TestASourceBehind", "./fhir/rest"},
	{"", "an import overwrites what its client does not see", []edit{
		{"fhir/rest/import.go", "	_, err := update(ctx, tx, req)\n", "	_, err := tx.Create(ctx, d.ID, d)\n"},
	}, "TestAnImportDoesWhatItsClientMay", "./fhir/rest"},
	{"", "an import goes on without its client", []edit{
		{"fhir/rest/import.go", "Grant: c.again,", "Grant: func(context.Context) (*smart.Grant, error) { return c.grant.Entry(), nil },"},
	}, "TestAnImportStops", "./fhir/rest"},
	{"", "an answer that is kept outlives what hides it", []edit{
		{"store/kept.go", "if err == nil && !stands {", "if err == nil && !stands && d.Kind == Export {"},
	}, "TestAnAnswerThatIsKept", "./fhir/rest"},
	{"", "what a number counts is not kept with it", []edit{
		{"store/kept.go", "\t\t\tif !free {\n\t\t\t\tv.keep(res)\n", "\t\t\tif !free && n < 0 {\n\t\t\t\tv.keep(res)\n"},
	}, "TestAnAnswerThatIsKept", "./fhir/rest"},
	{"", "what a match was found by is not kept with it", []edit{
		{"store/kept.go", "if v.keeps() == nil || !search.Follows(where) {", "if v.keeps() != nil || !search.Follows(where) {"},
	}, "TestAnAnswerThatIsKept", "./fhir/rest"},
	{"", "a number of what may all be seen outlives that", []edit{
		{"store/kept.go", "if free, err := v.seesEvery(ctx, on); err != nil || !free {", "if _, err := v.seesEvery(ctx, on); err != nil {"},
	}, "TestAnAnswerThatIsKept", "./fhir/rest"},
	{"", "what a write or a batch shows is not kept with its answer", []edit{
		{"audit/trail.go", ", Shown: t.Shown}", "}"},
	}, "TestAnAnswerThatIsKept", "./fhir/rest"},
	{"", "the files of an export are anyone's", []edit{
		{"store/deferred.go", `v.keys.Hash("q", v.grant.Holder())`, `v.keys.Hash("q", "")`},
		{"store/deferred.go", `v.grant.Tenant().PolicyVersion, v.grant.Holder(), id)`, `v.grant.Tenant().PolicyVersion, "", id)`}, // the second lock
		{"store/sealedfile.go", `f.grant.Holder()`, `""`},                                                                         // the third
	}, "TestAnExportHasWhatASearchShows", "./fhir/rest"},
	{"", "a subscriber is told what it may not see", []edit{
		{"store/tell.go", "\t\tif seen[i] {\n", "\t\tif seen[i] || true {\n"},
	}, "TestASubscriberIsToldWhatItMaySee", "./fhir/rest"},
	{"", "a notification shows what is masked", []edit{
		{"store/tell.go", "\t\tif res, err = v.shown(res); err != nil {\n", "\t\tif err != nil {\n"},
	}, "TestANotificationIsUnderThePolicy", "./fhir/rest"},
	{"", "who loses an endpoint goes on with it", []edit{
		{"subscriptions/deliver.go", "\tcase !g.Tenant().Settings.Subscriptions.Admits(f.Endpoint):\n", "\tcase g == nil:\n"},
	}, "TestAnEndpointIsToldAsLong", "./fhir/rest"},
	{"", "who gets de-identified exports alone is told of records", []edit{
		{"subscriptions/deliver.go", "\tcase g.Tenant().Settings.Export.Deidentifies(g.Agent().Client):", "\tcase g == nil:"},
	}, "TestWhoGetsDeidentified", "./fhir/rest"},
	{"", "an endpoint may be anywhere", []edit{
		{"tenant/subscriptions.go", "\t\tif strings.HasPrefix(text, e) {\n", "\t\tif strings.HasPrefix(text, e) || strings.HasPrefix(text, \"https\") {\n"},
	}, "TestASubscriptionThatIsNotSupported", "./fhir/rest"},
	{"", "who takes a subscription over is told what waited for another", []edit{
		{"store/subscribe.go", "CASE WHEN s.owner = excluded.owner THEN s.events ELSE 0 END", "s.events"},
	}, "TestANotificationIsUnderThePolicy", "./fhir/rest"},
	{"", "a subscription is anyone's", []edit{
		{"store/tell.go", "WHERE  tenant_id = $1 AND owner = ? AND (?", "WHERE  tenant_id = $1 AND ?::bigint IS NOT NULL AND (?"},
	}, "TestASubscriberAsks", "./fhir/rest"},
	{"", "what is for the endpoint alone is stored for all to read", []edit{
		{"subscriptions/subscription.go", "if out.Document, err = withoutHeader(d); err != nil {", "if out.Document = d; err != nil {"},
	}, "TestASubscriberIsToldOfItsEvents", "./fhir/rest"},
	{"", "an export shows what is masked", []edit{
		{"store/export.go", "if res, err = x.shown(res); err != nil {", "if err != nil {"},
	}, "TestAnExportHidesWhatASearchHides", "./fhir/rest"},
	{"", "a table outlives who treats the patients in it", []edit{
		{"store/tablefile.go", "for ; err == nil && n > 0; n-- {", "for ; err == nil && n > n; n-- {"},
	}, "TestATableIsKeptFromWhomItsPatientsLeft", "./fhir/rest"},
	{"", "a view of a patient is of all", []edit{
		{"fhir/rest/op_view.go", `p.e.Records = p.in.has("patient") || p.in.has("group")`, `p.e.Records = false && p.in.has("group")`},
		{"fhir/rest/op_export.go", "\tif !p.e.Records {\n\t\treturn fhir.Errorf(fhir.Invalid, \"parameter patient", "\tif false {\n\t\treturn fhir.Errorf(fhir.Invalid, \"parameter patient"},
	}, "TestARunOfAViewHasWhatASearchShows", "./fhir/rest"},
	{"", "a view passes over what it does not know", []edit{
		{"fhir/view/definition.go", "json.RejectUnknownMembers(true)", "json.RejectUnknownMembers(false)"},
	}, "TestWhatIsNoViewIsRefusedWithItsPlace", "./fhir/view"},
	{"", "an export does not look at what has become of a resource", []edit{
		{"store/export.go", "!may[0] || !may[1]", "!may[1]"},
	}, "TestAnExportHidesWhatWasHiddenSince", "./fhir/rest"},
	{"", "a file outlives the consents of who is in it", []edit{
		{"store/exporting.go", "\tif touched {\n", "\tif touched && f.Size < 0 {\n"},
	}, "TestAConsentIsHeldInExports", "./fhir/rest"},
	{"", "a file outlives the labels of what is in it", []edit{
		{"store/exporting.go", "\tif labelled {\n", "\tif labelled && f.Size < 0 {\n"},
	}, "TestAFileIsKeptFromWhomALabelHides", "./fhir/rest"},
	{"", "a file outlives who treats the patients in it", []edit{
		{"store/exporting.go", "|| sharesType(p) && f", "|| sharesType(p) && f.Size < 0 && f"},
	}, "TestAFileIsKeptFromWhomItsPatientsLeft", "./fhir/rest"},
	{"", "a file of blocks outlives what may be seen of it", []edit{
		{"store/exporting.go", "f.Kind == BlockFile || sharesType(p)", "f.Kind != BlockFile && sharesType(p)"},
	}, "TestAFileOfBlocksIsKeptFromWhom", "./fhir/rest"},
	{"", "a link to a file is one to any", []edit{
		{"fhir/rest/export_link.go", `return "file|" + job + "|" + file`, `return "file"`},
	}, "TestAFileIsAtALinkWhereTheTenantAllowsThat", "./fhir/rest"},
	{"", "a link is good for ever", []edit{
		{"smart/lend.go", " || v.cfg.Now().Unix() >= l.Until {", " {"},
	}, "TestAGrantIsLentForOneThing", "./smart"},
	{"", "text is left in what is de-identified", []edit{
		{"fhir/deid/deid.go", "\tcase r4.Time:\n", "\tcase r4.String:\n\t\treturn value\n\tcase r4.Time:\n"},
	}, "TestNoTextOfAnyElement", "./fhir/deid"},
	{"", "who gets de-identified exports reads what is not", []edit{
		{"fhir/rest/serve.go", "\tif err := c.onlyExports(); err != nil {\n", "\tif err := c.onlyExports(); err != nil && c.place.route == nil {\n"},
	}, "TestWhoGetsDeidentifiedExportsGetsNothingElse", "./fhir/rest"},
	{"", "a file from before outlives that a client is only shown what is de-identified", []edit{
		{"store/exporting.go", "\tcase f.Kind != MaskedFile && v.grant", "\tcase f.Size < 0 && v.grant"},
	}, "TestAFileFromBeforeAClientIsDeidentified", "./fhir/rest"},
	{"", "a reverse chain forgets what the index holds joined", []edit{
		{"store/compile.go", "\t\tinner = and(inner, search.HasToken(e.Pair))\n", ""},
	}, "TestAReverseChainByCode", "./store"},
	{"", "a terminology server or a webhook may be anywhere", []edit{
		{"outbound/outbound.go", "\tif !public(to) {", "\tif !to.IsValid() {"},
	}, "", "./outbound"},
	{"", "an access policy takes nothing from the scopes", []edit{
		{"smart/decision.go", "return search.And{scoped, allowed}", "return scoped"},
	}, "", "./smart"},
	{"", "a policy that is not there lets all in", []edit{
		{"smart/policy.go", "\tif p == nil {\n\t\treturn verdict{where: no}\n", "\tif p == nil {\n\t\treturn verdict{where: yes}\n"},
	}, "TestAForbidOverridesEveryPermit", "./smart"},
	{"", "what is hidden is answered in other words", []edit{
		{"fhir/rest/outcome.go", "if e.Code() == fhir.NotFound {", "if e.Code() == fhir.NotFound && e.Status != 0 {"},
	}, "TestAccess/T058", ""},
	{"", "what never was is answered sooner than what is hidden", []edit{
		{"store/write.go", "\t\terr = tx.pretend(ctx, p, ref)\n", ""},
	}, "TestWhatIsHiddenIsAskedForLikeWhatNeverWas", "./store"},
	{"", "the access policy is not asked", []edit{
		{"smart/decision.go", "\tif g.policy != nil && g.policy.open {\n", "\tif true {\n"},
	}, "TestANurse", "./fhir/rest"},
	{"", "what a policy asks of others always holds", []edit{
		{"store/relation.go", "return relations[j].end.holds[rid] }), true", "return true || relations[j].end.holds[rid] }), true"},
	}, "TestWhatAPolicyLets", "./store"},
	{"", "an operator asks for what a record holds by a scope", []edit{
		{"store/inquiry.go", "\tnarrowed := who.Narrowed()\n", "\tnarrowed := who.Narrowed()[:0]\n"},
	}, "TestAnInquiryIsAnswered", "./store"},
	{"", "what a policy asks early is taken for so", []edit{
		{"store/foresee.go", "holds[end.Int64] = i < len(facts) && facts[i]", "holds[end.Int64] = i < len(facts)"},
	}, "TestWhatIsKeptBeside", "./store"},
	{"", "consents that are read with a resource are not heard", []edit{
		{"store/foresee.go", "f.v.keepConsents(consents, ", "f.v.keepConsents(consents[:0], "},
	}, "TestAConsentKeeps", "./fhir/rest"},
	{"", "a search of one patient asks nothing of them", []edit{
		{"store/relation.go", "\t\t\tif list[i].end.holds[rid] {\n", "\t\t\tif list[i].end.holds[rid] || rid != 0 {\n"},
	}, "TestWhatAPolicyLets", "./store"},
	{"", "the trail says that a refusal failed by what held", []edit{
		{"smart/failed.go", "\t\tif f.met(one, f.holds) {\n", "\t\tif !f.met(one, f.holds) {\n"},
	}, "TestTheTrailSaysWhat", "./store"},
	{"", "a patient sees by what others were refused", []edit{
		{"store/trail.go", "e.Query, e.Failed, e.Origin.Address", "e.Query, _, e.Origin.Address"},
	}, "TestTheTrailSaysWhat", "./store"},
	{"", "a server writes whatever its clock says", []edit{
		{"store/clock.go", "off.Abs() > maxClockOff", "off.Abs() > 1e6*maxClockOff"},
	}, "TestAServerWhoseClock", "./store"},
	{"", "a server tells of alerts of every region", []edit{
		{"store/alertsink.go", "t.region <> $3))", "t.region = ''))"},
	}, "TestWebhooksAreTold", "./store"},
	{"", "the evidence names the key of something else", []edit{
		{"store/evidence.go", `under("whole", answerKey), hours`, `under("whole", requestKey), hours`},
	}, "TestEvidenceNamesTheKey", "./store"},
	{"", "the evidence leaves out who may become a role through another", []edit{
		{"store/evidence.go", "JOIN   pg_auth_members m ON m.roleid = b.oid", "JOIN   pg_auth_members m ON m.roleid = b.oid AND false"},
	}, "TestEvidenceIsStated", "./control"},
	{"", "a file that nobody signed passes for evidence", []edit{
		{"evidence/pack.go", "if name != statementFile && !slices.Contains(want", "if false && !slices.Contains(want"},
	}, "TestAPackVerifies", "./evidence"},
	{"", "the evidence says for people what nobody signed", []edit{
		{"evidence/pack.go", "if !bytes.Equal(readme, []byte(c.Readme())) {", "if len(readme) == 0 {"},
	}, "TestAPackVerifies", "./evidence"},
	{"", "a witness takes a log for the one that it saw", []edit{
		{"audit/ledger/witness.go", "seen.Size, seen.Root) != nil {", "seen.Size, seen.Root) != nil && p.Hashes == nil {"},
	}, "TestAWitnessFinds", "./audit/ledger"},
	{"", "a witness forgets the end of a log", []edit{
		{"audit/ledger/witness.go", "case c.Size < seen.Size, c.Time.Before(seen.Time), c.Size", "case c.Size"},
	}, "TestAWitnessFinds", "./audit/ledger"},
	{"", "an operator counts the labels of a patient", []edit{
		{"smart/residual.go", "if r.outline && at.told {", "if r.outline && at.told && false {"},
	}, "TestExplanationsAndDryRuns", "./store"},
	{"", "an operator counts what consents keep", []edit{
		{"store/dryrun.go", "\t\trest, _ := search.Apart(ruling.Where)\n\t\tif seen, err = r.meet(ctx, p, rest, list); err != nil {\n\t\t\treturn DrySeen{}, nil, err\n\t\t}\n", "\t\trest, by := search.Apart(ruling.Where)\n\t\tif seen, err = r.meet(ctx, p, rest, list); err != nil {\n\t\t\treturn DrySeen{}, nil, err\n\t\t}\n\t\tif by != nil {\n\t\t\tif err = r.consented(ctx, p, by, list, seen); err != nil {\n\t\t\t\treturn DrySeen{}, nil, err\n\t\t\t}\n\t\t}\n"},
	}, "TestExplanationsAndDryRuns", "./store"},
	{"", "any token looks into records as an inquiry does", []edit{
		{"smart/inquiry.go", " || !g.access.inquires {", " {"},
	}, "TestAnInquiryIsADoor", "./store"},
	{"", "an explanation does not ask for consents", []edit{
		{"store/why.go", "\tif by != nil {\n\t\tif err := h.consented(", "\tif by != nil {\n\t\tif err := h.consented(ctx, h.permit, by, nil, left); err == nil {\n\t\t} else if err := h.consented("},
	}, "TestExplanations", "./store"},
	{"", "an explanation takes what a chain leads to for seen", []edit{
		{"store/whychain.go", "ok, says := of.Decision == allowed, ", "ok, says := of.Decision != \"\", "},
	}, "TestASearchAlongAChain", "./store"},
	{"", "who was on a care team for a time stays on it", []edit{
		{"fhir/search/standing.go", "range t.namedDuring(who)", "range []DateRange{{Hi: Forever}}"},
	}, "TestWhoIsNamed", "./fhir/rest"},
	{"", "a shift never ends", []edit{
		{"smart/principal.go", "types.Boolean(p.access.person.onShift(now))", "types.True"},
	}, "TestANurse", "./fhir/rest"},
	{"", "a broken glass shows every patient", []edit{
		{"smart/glass.go", "any = append(any, search.And{more, e})", "any = append(any, search.And{more})"},
	}, "TestABrokenGlassIsOf", "./fhir/rest"},
	{"", "a broken glass is everybody's", []edit{
		{"smart/glass.go", " && b.User == user.String() &&", " &&"},
	}, "TestWhoCanWriteToTheRegistry", "./store"},
	{"", "a broken glass is every app's", []edit{
		{"smart/glass.go", " && b.Client == tok.Client", ""},
	}, "TestABrokenGlassIsOf", "./fhir/rest"},
	{"", "a broken glass is every login's", []edit{
		{"smart/glass.go", "return b.Session == tok.Session && ", "return "},
	}, "TestABrokenGlassIsOf", "./fhir/rest"},
	{"", "a broken glass lets write", []edit{
		{"smart/glass.go", "len(g.glasses) == 0 || q.letter&(canRead|canSearch) == 0 || ", "len(g.glasses) == 0 || "},
		{"smart/profiles/clinic.cedar", "permit (principal is User, action in Action::\"view\", resource)\nwhen { context.breakGlass", "permit (principal is User, action, resource)\nwhen { context.breakGlass"},
	}, "TestABrokenGlassIsOf", "./fhir/rest"},
	{"", "a broken glass is for ever", []edit{
		{"smart/glass.go", "now.Before(time.Unix(b.Expires, 0)) && ", ""},
	}, "TestABrokenGlassEnds", "./fhir/rest"},
	{"", "a page does not know of a broken glass", []edit{
		{"smart/grant.go", "\t\tname += \"+\" + b.ID\n", "\t\t_ = b\n"},
	}, "TestABrokenGlassEnds", "./fhir/rest"},
	{"", "who asks approves it", []edit{
		{"store/breakglass.go", "row.user == x.grant.Agent().User || row.subject == subject", "row.subject != subject && row.user == \"\""},
		{"migrations/registry/000020_glass.up.sql", "    CHECK (decided_by <> fhir_user AND decider <> subject),\n", ""},
	}, "TestWhoCanWriteToTheRegistry", "./store"},
	{"", "a glass is broken again before the review", []edit{
		{"store/glass.go", "case overdue > 0:", "case false && overdue > 0:"},
	}, "TestAGlassIsBrokenWithAnApproval", "./fhir/rest"},
	{"", "a glass is broken before the audit trail says so", []edit{
		{"store/breakglass.go", "\tif err := x.db.gate.Append(ctx, t, glassEvent(t, audit.GlassBroken, row, asked, why, x.grant.Origin())); err != nil {\n\t\treturn nil, err\n\t}\n", "\t_ = why\n"},
	}, "TestAGlassIsNotBroken", "./store"},
	{"", "a glass is broken before anybody is alerted", []edit{
		{"store/glass.go", "\t\tif err == nil && d != nil {\n\t\t\terr = sightIn(ctx, tx, d.sighting)\n\t\t}\n\t\treturn err\n\t})\n}\n\n// nullable", "\t\treturn err\n\t})\n}\n\n// nullable"},
	}, "TestAGlassIsNotBroken", "./store"},
	{"", "what is seen through a broken glass is not told", []edit{
		{"store/internal/gate/audit.go", "\tthrough(g, &main)\n", ""},
	}, "TestTheAuditTrailTellsWhat", "./fhir/rest"},
	{"", "what no checkpoint has passes for logged", []edit{
		{"fhir/rest/op_trail.go", "len(leaves) == len(list)", "true"},
	}, "TestWhatWasSeenThrough", "./fhir/rest"},
	{"", "who asks much in an emergency gets much", []edit{
		{"store/glass.go", "case open >= maxOpenGlasses:", "case open < 0:"},
	}, "TestAUserHasFiveGlasses", "./fhir/rest"},
	{"", "a broken glass outlives the login on record", []edit{
		{"store/glass.go", "a.id = g.session AND a.revoked IS NOT NULL", "a.id = g.session AND false"},
	}, "TestABrokenGlassEndsWithTheLogin", "./smart/launch"},
	{"", "who asks in an emergency names any login", []edit{
		{"smart/launch/emergency.go", "return a.ID == approval", "return true"},
	}, "TestThePagesAboutEmergencies", "./smart/launch"},
	{"", "one of several patients of a name is as good as another", []edit{
		{"store/breakglass.go", "if !one.IsZero() && r.Ref != one {", "if false && r.Ref != one {"},
	}, "TestThePagesAboutEmergencies", "./smart/launch"},
	{"", "what is revoked is not looked up", []edit{
		{"smart/verify.go", "; err != nil || void {\n", "; err != nil || false && void {\n"},
	}, "TestARevokedToken", "./smart/launch"},
	{"", "a code needs no proof", []edit{
		{"smart/launch/code.go", "case !proves(form", "case false && !proves(form"},
	}, "TestACodeIsGoodOnce", "./smart/launch"},
	{"", "a code is any client's", []edit{
		{"smart/launch/code.go", "case a.Client != l.client.ID:", "case false && a.Client != l.client.ID:"},
	}, "TestACodeIsGoodOnce", "./smart/launch"},
	{"", "a used code makes nothing void", []edit{
		{"store/approval.go", "\tif err := r.Revoke(ctx, t, a.ID); err != nil {\n\t\treturn err\n\t}\n", ""},
	}, "TestACodeIsGoodOnce", "./smart/launch"},
	{"", "a refresh token gets more than was agreed to", []edit{
		{"smart/launch/refresh.go", "if !sc.Within(hadScopes) {", "if false && !sc.Within(hadScopes) {"},
	}, "TestARefreshToken", "./smart/launch"},
	{"", "a code goes to any address", []edit{
		{"smart/launch/request.go", "if !slices.Contains(l.client.RedirectURIs, r.RedirectURI) {", "if false && !slices.Contains(l.client.RedirectURIs, r.RedirectURI) {"},
	}, "TestABadAuthorizationRequest", "./smart/launch"},
	{"", "a form is any browser's", []edit{
		{"smart/launch/request.go", `"auth|" + string(to) + "|" + browser`, `"auth|" + string(to)`},
	}, "TestAFormIsGood", "./smart/launch"},
	{"", "a user chooses among all patients", []edit{
		{"smart/launch/authorize.go", "t := s.tokenOf(b.tenant.Slug.String(), b.session.Identity, l.client", "t := s.tokenOf(b.tenant.Slug.String(), store.Identity{Subject: \"anybody\", User: \"Practitioner/anybody\", Person: smart.Person{Roles: []string{\"service\"}}}, l.client"},
	}, "TestAUserChooses", "./smart/launch"},
	{"", "a token from elsewhere is for anybody", []edit{
		{"smart/outside.go", "|| cmp.Or(is.Audience, v.cfg.Base(own)) != audience", ""},
	}, "TestATokenFromElsewhere", "./smart/launch"},
	{"", "any issuer will do", []edit{
		{"smart/outside.go", "is == nil || is.URL != f.says.Issuer ||", "is == nil ||"},
	}, "TestATokenFromElsewhere", "./smart/launch"},
	{"", "a key that an issuer took away is still believed", []edit{
		{"smart/outside.go", "\tif key != tok.outside.key {\n\t\treturn nil, nil, nil\n\t}\n", "\t_ = key\n"},
	}, "TestKeysOfAnIssuerRotate", "./smart/launch"},
	{"", "an issuer is never asked about its tokens", []edit{
		{"smart/outside.go", "\tif !is.introspects() {\n\t\treturn true, nil", "\tif is != nil {\n\t\treturn true, nil"},
	}, "TestAnIssuerTakesTokensBack", "./smart/launch"},
	{"", "a tenant that trusts another issuer takes its own tokens as well", []edit{
		{"smart/verify.go", "errors.Is(err, tenant.ErrUnknown) || err == nil && tn.Issuer != 0", "errors.Is(err, tenant.ErrUnknown)"},
	}, "TestATenantTrusts", "./smart/launch"},
	{"", "an app manages what another registered", []edit{
		{"smart/launch/manage.go", "err == nil && !client.IsRegistration(token)", "false"},
	}, "TestAnAppManages", "./smart/launch"},
	{"", "an app that changed itself need not be let in", []edit{
		{"smart/launch/manage.go", "next.Disabled = app.client.Disabled || rules.Policy != tenant.Statement", "next.Disabled = false"},
	}, "TestAnAppThatIsShutOut", "./smart/launch"},
	{"", "users log in at a server of another region", []edit{
		{"smart/launch/server.go", `case s.cfg.Region != "" && t.Region != s.cfg.Region:`, "case false:"},
	}, "TestATenantOfAnotherRegion", "./smart/launch"},
	{"", "keys of access tokens are believed for ever", []edit{
		{"store/registry.go", "WHERE  class <> 'signing' OR NOT EXISTS (", "WHERE  true OR NOT EXISTS ("},
	}, "TestAKeyInTheWrongHands", "./smart/launch"},
	{"", "a user chooses among the visits of all patients", []edit{
		{"smart/launch/encounter.go", `params := append([]search.Param{{Name: "patient", Value: "Patient/" + patient}}, more...)`, "params := more"},
	}, "TestAVisitIs", "./smart/launch"},
	{"", "two issuers have the same users", []edit{
		{"smart/verify.go", ".named(claims.Tenant, claims.Issuer, claims.Subject)", ".named(claims.Tenant, claims.Subject)"},
	}, "TestEqualSubjects", "./smart/launch"},
	{"", "no consent is read", []edit{
		{"store/consent.go", "\tif !v.consents.some {\n", "\tif v.consents.asked {\n"},
	}, "TestNoPathLeadsToWhatAConsentDenies", "./fhir/rest"},
	{"", "a consent that denies is not heard", []edit{
		{"store/consent.go", "return permitted && !denied, err", "return permitted && (!denied || len(list) > 0), err"},
	}, "TestAConsentKeeps", "./fhir/rest"},
	{"", "no resource has a label", []edit{
		{"smart/attributes.go", `hasToken("_security")`, `hasToken("_tag")`},
	}, "TestALabelHides", "./fhir/rest"},
	{"", "labels are anybody's to change", []edit{
		{"store/label.go", "if err == nil && all(p.Where()) {", "if err == nil || err != nil {"},
	}, "TestLabelsAreChangedByWhoThePolicyLets", "./fhir/rest"},
	{"", "a masked element is in what is read", []edit{
		{"store/read.go", "return v.shown(r)", "return r, nil"},
	}, "TestAHiddenElement", "./fhir/rest"},
	{"", "a care team never ends", []edit{
		{"fhir/search/standing.go", `range t.during(tb.byCode["date"])`, "range []DateRange{{Hi: Forever}}"},
	}, "TestGovernance/policies/T237", ""},
	{"", "a masked element is in what is found", []edit{
		{"store/search.go", "if err := v.showAll(page.Matches); err != nil {", "if err := v.showAll(nil); err != nil {"},
	}, "TestAHiddenElement", "./fhir/rest"},
	{"", "a masked element is in what is included", []edit{
		{"store/search.go", "return page, v.showAll(page.Included)", "return page, nil"},
	}, "TestAHiddenElement", "./fhir/rest"},
	{"", "a masked element is in a history", []edit{
		{"store/history.go", "return page, v.showAll(page.Versions)", "return page, nil"},
	}, "TestAHiddenElement", "./fhir/rest"},
	{"", "a masked element is in all of a record", []edit{
		{"store/compartment.go", "\tseen, err := r.shown(res)\n", "\tseen, err := res, error(nil)\n"},
	}, "TestAHiddenElement", "./fhir/rest"},
	{"", "a masked element is searched by", []edit{
		{"store/search.go", "v.mayAsk(q)", "error(nil)"},
	}, "TestAHiddenElement", "./fhir/rest"},
	{"", "a masked element sorts", []edit{
		{"store/mask.go", "len(q.Sort) == 0 && v.hidesDate(q.Type)", "false"},
	}, "TestAHiddenElement", "./fhir/rest"},
	{"", "a masked element is written", []edit{
		{"store/mask.go", "\tif v.grant.Hidden(on) == nil {\n\t\treturn nil\n\t}\n", "\tif v.grant.Hidden(on) == nil || true {\n\t\treturn nil\n\t}\n"},
	}, "TestAHiddenElement", "./fhir/rest"},
	{"", "everybody is in the care team", []edit{
		{"store/keyed.go", `v.keys.Hash("st", string(how), who)`, `v.keys.Hash("st", string(how), who[:strings.IndexByte(who, '/')])`},
		{"store/keyed.go", "import (\n", "import (\n\t\"strings\"\n"},
	}, "TestANurse", "./fhir/rest"},
	{"", "every patient is where the user is", []edit{
		{"smart/attributes.go", `stands("Encounter", "location", at, now)`, `search.ReverseChain{Type: "Encounter", Paths: search.SubjectPaths("Encounter"), ByPolicy: true, X: search.And{}}`},
	}, "TestANurse", "./fhir/rest"},
	{"", "a request goes by what its client might do when it began", []edit{
		{"fhir/rest/serve.go", "case c.Now().Sub(c.begun) < smart.RevocationDelay:", "case c.Now().Sub(c.begun) < smart.RevocationDelay || true:"},
	}, "TestWhoIsRevokedWhile", "./fhir/rest"},
	{"", "a request goes on when its client was revoked while a terminology server was asked", []edit{
		{"fhir/rest/limit.go", "_, err = c.earned(ctx)", "_, _ = c.earned(ctx)"},
	}, "TestWhoIsRevokedWhile", "./fhir/rest"},
	{"", "a consent is what it was when it was first read", []edit{
		{"store/consent.go", "!ok || one.version != r.version || !bytes.Equal(one.sealed, r.body)", "!ok || one.version > r.version && bytes.Equal(one.sealed, r.body)"},
	}, "TestAConsentThatChanges", "./fhir/rest"},
	{"", "who stood to a patient once still does", []edit{
		{"store/pending.go", "range without(slices.Concat(was.stands, others.stands), is.stands) {", "range is.stands[:0] {"},
	}, "TestWhatEndsAnAccess", "./fhir/rest"},
	{"", "standings are asked without their time", []edit{
		{"store/compile.go", "goes := gate.SQL(`AND`).With(x.Col(\"lo\"), gate.SQL(`<= ? AND`, now), x.Col(\"hi\"), gate.SQL(`> ?`, now))", "goes, _ := always, now"},
		{"store/compile.go", "With(in, gate.SQL(`AND`), x.Col(\"target\"), gate.SQL(`=`), s.anchor.Col(\"rid\"), goes,", "With(in, gate.SQL(`AND`), x.Col(\"target\"), gate.SQL(`=`), s.anchor.Col(\"rid\"), gate.SQL(`AND`), goes,"},
	}, "TestWhoIsNamed", "./fhir/rest"},
	{"", "an Encounter that is of no matter is taken to hold", []edit{
		{"store/relation.go", "return holds, holds || known", "return holds || !known, true"},
	}, "TestWhatAPolicyLets", "./store"},
	{"", "a patient never leaves", []edit{
		{"fhir/search/standing.go", "if ok, err := matches(status, &fhir.Resource{Ref: fhir.Ref{Type: on}}, t); !ok || err != nil {", "if false {"},
	}, "TestANurse", "./fhir/rest"},
	{"32", "a code goes to what begins as an address that is registered", []edit{
		{"smart/launch/request.go", "if !slices.Contains(l.client.RedirectURIs, r.RedirectURI) {", "if !slices.ContainsFunc(l.client.RedirectURIs, func(uri string) bool { return strings.HasPrefix(r.RedirectURI, uri) }) {"},
	}, "TestLaunch/users/T041", ""},
	{"", "PKCE may be plain", []edit{
		{"smart/launch/request.go", `form.Get("code_challenge_method") != "S256" || `, ""},
	}, "TestLaunch/users/T038", ""},
	{"", "a code is good twice", []edit{
		{"store/approval.go", "\tcase used:\n\t\treturn Approval{}, r.reused(ctx, t, a)\n\tcase revoked, late:", "\tcase revoked, late:"},
		{"store/approval.go", "id = $2 AND code_used IS NULL AND revoked IS NULL", "id = $2 AND revoked IS NULL"},
	}, "TestLaunch/users/T040", ""},
	{"", "who fails to log in need not wait", []edit{
		{"smart/launch/login.go", "if !allowed {", "if !allowed && !known {"},
	}, "TestWhoFailsTooOften", "./smart/launch"},
	{"", "a one-time code is good twice", []edit{
		{"smart/launch/login.go", "if err == nil && !fresh {", "if err == nil && !fresh && !ok {"},
	}, "TestAOneTimeCode", "./smart/launch"},
	{"", "an ID token of another login logs in", []edit{
		{"smart/federation/federation.go", `token.Nonce == "" || token.Nonce != r.Nonce`, `token.Nonce == ""`},
	}, "TestAnAnswerThatIsNotAsItShouldBe", "./smart/launch"},
	{"", "a login at a provider ends in any browser", []edit{
		{"store/provider.go", "state = $2 AND browser = $3 AND expires > now()", "state = $2 AND $3::bytea IS NOT NULL AND expires > now()"},
		{"smart/launch/federate.go", "formAD(awayPage, b.secret)", `formAD(awayPage, "")`},
	}, "TestALoginAtAProvider", "./smart/launch"},
	{"", "one provider passes for another", []edit{
		{"smart/federation/federation.go", `if issuer != p.Issuer && (issuer != "" || known.namesIssuer) {`, `if false {`},
		{"smart/launch/federate.go", `if !strings.HasSuffix(c.http.URL.Path, "/callback/"+a.Provider) {`, `if false {`},
	}, "TestAnAnswerThatIsNotAsItShouldBe", "./smart/launch"},
	{"", "what is asked is not counted", []edit{
		{"limit/limit.go", "\t\tp.requests.take(1)\n\t\ts.requests.take(1)\n", ""},
	}, "TestAClientThatAsksTooMuch", "./fhir/rest"},
	{"", "what a client takes is not counted", []edit{
		{"limit/limit.go", "\t\tp.cost.take(cost)\n\t\ts.cost.take(cost)\n", ""},
	}, "TestWhatAClientTakes", "./fhir/rest"},
	{"", "a webhook for alerts may be anywhere", []edit{
		{"alert/sender.go", "Private: s.Private", `Private: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}`},
	}, "TestAWebhookBehindTheWalls", "./store"},
	{"", "what was asked before the client was disabled is answered", []edit{
		{"smart/verify.go", "v.registered(ctx, tn, tok); err != nil || !ok {", "v.registered(ctx, tn, tok); err != nil || !ok && ok {"},
	}, "TestWhatNobodyMayHaveIsNotDone", "./fhir/rest"},
	{"", "a code never ends", []edit{
		{"store/approval.go", "a.code_expires <= now()", "false"},
		{"store/approval.go", " AND code_expires > now()", ""},
	}, "TestLaunch/users/T040_T043", ""},
	{"", "a refresh token never ends", []edit{
		{"store/approval.go", "f.expires <= now()", "false"},
		{"store/approval.go", " AND f.expires > now()", ""},
	}, "TestLaunch/users/T040_T043", ""},
	{"", "a refresh token is good twice", []edit{
		{"store/approval.go", "\tcase used:\n\t\treturn Approval{}, r.reused(ctx, t, a)\n\tcase dead:", "\tcase dead:"},
		{"store/approval.go", "f.approval = $3 AND f.used IS NULL AND", "f.approval = $3 AND"},
	}, "TestARefreshToken", "./smart/launch"},
	{"", "a refresh token is any client's", []edit{
		{"smart/launch/refresh.go", "if a.Client != l.client.ID {", "if false && a.Client != l.client.ID {"},
	}, "TestARefreshToken", "./smart/launch"},
	{"", "a token is made for any server that an app believes to speak to", []edit{
		{"smart/launch/request.go", `strings.TrimSuffix(aud, "/") != s.cfg.Base(c.slug)`, `aud == ""`},
	}, "TestABadAuthorizationRequest", "./smart/launch"},
	{"", "a launch is taken up at any tenant", []edit{
		{"store/launch.go", "tenant_id = $1 AND handle = $2", "$1::int > 0 AND handle = $2"},
		{"store/approval.go", "tenant_id = $1 AND handle = $17", "handle = $17"},
	}, "TestLaunch/users/T029_T043", ""},
	{"", "a launch is any user's", []edit{
		{"smart/launch/authorize.go", `case launched.Subject != "" && launched`, `case launched.Subject == "" && launched`},
	}, "TestLaunch/users/T029_T043", ""},
	{"", "a launch is any app's", []edit{
		{"store/launch.go", "handle = $2 AND app = $3", "handle = $2 AND $3 <> ''"},
		{"store/approval.go", "handle = $17 AND app = $3", "handle = $17"},
	}, "TestLaunch/users/T029_T043", ""},
	{"", "a launch is taken up twice", []edit{
		{"store/launch.go", "AND used IS NULL AND expires", "AND expires"},
		{"store/approval.go", "AND app = $3 AND used IS NULL", "AND app = $3"},
	}, "TestLaunch/users/T029_T043", ""},
	{"", "a launch never ends", []edit{
		{"store/launch.go", " AND expires > now()", ""},
		{"store/approval.go", "used IS NULL AND expires > now()", "used IS NULL"},
	}, "TestLaunch/users/T040_T043", ""},
	{"", "a user names a patient whom they may not see", []edit{
		{"smart/launch/patient.go", "\t\t\treturn p, e, errNotVisible\n", "\t\t\tcontinue\n"},
	}, "TestAUserChooses", "./smart/launch"},
	{"", "a scope for a patient's record allows a user's, and the other way", []edit{
		{"smart/scope.go", "sc.whose != other.whose || ", ""},
	}, "TestWhatIsGrantedIsWhatBothAllow", "./smart"},
	{"", "a refresh token for a patient's record gets a user's", []edit{
		{"smart/scope.go", "return sc.whose == other.whose && ", "return "},
	}, "TestARefreshToken", "./smart/launch"},
	{"", "an app of users gets what is for services", []edit{
		{"smart/launch/request.go", "slices.DeleteFunc(smart.Narrow(resources, may), smart.Scope.OfSystem)", "smart.Narrow(resources, may)"},
		{"smart/client.go", "err == nil && !sc.OfSystem()", "err == nil"}, // the second lock
	}, "TestABadAuthorizationRequest", "./smart/launch"},
}

// A fault that cannot be put in any more would go unnoticed.
func TestSeededFaultsStillFit(t *testing.T) {
	root, err := harness.Root()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range programFaults {
		if _, err := m.overlay(root, t.TempDir()); err != nil {
			t.Errorf("%s %s: %v", m.number, m.fault, err)
		}
	}
}

// overlay writes the changed files and returns the file that tells go build of
// them.
func (m mutant) overlay(root, dir string) (string, error) {
	replace := map[string]string{}
	for i, e := range m.edits {
		file := filepath.Join(root, e.file)
		from := file
		if changed := replace[file]; changed != "" {
			from = changed
		}
		text, err := os.ReadFile(from)
		if err != nil {
			return "", err
		}
		if !strings.Contains(string(text), e.old) {
			return "", fmt.Errorf("%s does not hold %q", e.file, e.old)
		}
		to := filepath.Join(dir, fmt.Sprintf("%d-%s", i, filepath.Base(file)))
		if err := os.WriteFile(to, []byte(strings.ReplaceAll(string(text), e.old, e.with)), 0o600); err != nil {
			return "", err
		}
		replace[file] = to
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, text, 0o600)
}

// Each fault in the program turns the test red that is named for it. GOV-03
func TestSeededProgramFaults(t *testing.T) {
	if !*mutants {
		t.Skip("takes minutes: run make breakout-mutants")
	}
	root, err := harness.Root()
	if err != nil {
		t.Fatal(err)
	}
	caught := 0
	for _, m := range programFaults {
		t.Run(m.number+" "+m.run+m.pkg+" sees that "+m.fault, func(t *testing.T) {
			overlay, err := m.overlay(root, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", m.run, "-test.timeout", "5m")
			if m.pkg != "" {
				cmd = exec.CommandContext(t.Context(), "go", "test", "-vet=off", "-overlay", overlay, "-run", m.run, m.pkg)
				cmd.Dir = root
			}
			if m.pkg == "" || m.pkg == "./conformance/faults" { // they run the program
				bin, err := harness.Build(t.Context(), t.TempDir(), withRace("-overlay", overlay)...)
				if err != nil {
					t.Fatal(err)
				}
				cmd.Env = append(os.Environ(), "CORDON_TEST_BINARY="+bin)
			}
			out, err := cmd.CombinedOutput()
			switch {
			case err == nil:
				t.Errorf("nothing turned red:\n%s", out)
			case m.run == atOnce && strings.Contains(string(out), "starting the system: seeding "):
				caught++
			case !strings.Contains(string(out), "--- FAIL: "+firstOf(m.run)):
				t.Errorf("something else broke:\n%s", out)
			default:
				caught++
			}
		})
	}
	t.Logf("%d of %d faults caught", caught, len(programFaults))
}

func firstOf(run string) string {
	first, _, _ := strings.Cut(run, "/")
	return first
}
