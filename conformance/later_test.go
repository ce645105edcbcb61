package conformance

import "testing"

// later are lines of the groups tested here that need what Cordon does not
// have yet, or that stand elsewhere. They are shown with each run, so that
// none is forgotten.
var later = []struct{ line, why string }{
	{"T013, T014", "a tenant cannot be deprovisioned yet, and its slug and number are never given again"},
	{"T016, T072", "a tenant cannot move yet"},
	{"T018, T265", "a panic cannot be injected into a program as it is shipped; fhir/rest tests what a panic leaves"},
	{"T024, T025, T028", "no client can earn such tokens; smart signs them and tests it"},
	{"T036", "smart/launch tests the keys that clients and identity providers publish"},
	{"T037", "smart/launch and outbound test where an identity provider may be"},
	{"T053", "tokens are bearers'; there are none that are bound"},
	{"T069", "there is no right to choose ids apart from update; that hidden and free ids are answered alike is tested"},
	{"T085", "a body cannot be planted: it is sealed for its tenant, and database_test.go plants rows"},
	{"T142", "fhir/canonical tests it"},
	{"T139, T141, T143, T144", "there is no such operation"},
	{"T217", "HTTP/2 is spoken under TLS only, by net/http and within its bounds; nothing here floods it"},
	{"T226", "a slug cannot hold what these attacks are made of; tenant tests it"},
	{"T232", "conformance/fhir, store and T087 test granular scopes; there is no export or subscription yet"},
	{"T238", "no header says a purpose, it is the token's; that shift, place, facility and care team count, and are named in the trail, is tested"},
	{"T241", "there is no alert about it; that nobody lets themselves in is tested"},
	{"T242, T244", "fhir/rest tests it, with staff who have logged in"},
	{"T245", "tested as T362"},
	{"T252", "there are no administrators of tenants; clients are registered by operators"},
	{"T158", "the alert after many misses is tested with T058 and by cmd/cordon; the misses are tested"},
	{"T266", "there is no object store or model yet whose errors could be logged"},
	{"T268", "fhir/rest tests it: limits count what one tenant asks, whatever the others do"},
	{"T304", "no PgBouncer is started here; the binding is made in the transaction, so a pooler in transaction mode keeps it"},
	{"T310", "the server does not refuse an old PostgreSQL at start yet; the version is tested"},
}

func TestLinesThatComeLater(t *testing.T) {
	for _, x := range later {
		t.Logf("%s: %s", x.line, x.why)
	}
}
