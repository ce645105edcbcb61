package tenant

import (
	"strings"
	"testing"
)

// T226: a slug goes into URLs and log lines, and the schema of a tenant
// is named by its number alone, so no slug can be made to mean anything else.
func TestASlugHasOneSpelling(t *testing.T) {
	for _, text := range []string{"harbor", "a-1", strings.Repeat("a", 32)} {
		if s, err := ParseSlug(text); err != nil || s.String() != text {
			t.Errorf("%q: got %q, %v", text, s, err)
		}
	}
	for _, text := range []string{
		"", "ab", strings.Repeat("a", 33), "Harbor", "1harbor", "-harbor", "har bor", "harbor ", "harbor/", "har.bor", "pg_temp", "har%62or", "hárbor", "harbor\n", "harbor\x00",
		`x"; SET cordon.tenant = '1'; --`, "x';DROP SCHEMA shared", "../harbor", "harbor?", "harbor#", "$user",
	} {
		if s, err := ParseSlug(text); err == nil {
			t.Errorf("%q is taken as %q", text, s)
		}
	}
}
