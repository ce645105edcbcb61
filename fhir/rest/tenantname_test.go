package rest

import (
	"net/url"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/store/storetest"
)

// What names no tenant is refused like a tenant that is not there, whatever is
// wrong with it, and like a tenant that is another's. TEN-17
func TestEveryNameOfNoTenantIsRefusedInTheSameWords(t *testing.T) {
	c := newAPI(t).client(t, storetest.A1, "system/*.cruds")
	ask := func(bearer, slug string) string {
		w := c.send("GET", "/fhir/"+slug+"/Patient/p1", "", "X-Request-Id", "same", "Authorization", bearer)
		return w.Result().Status + "\n" + w.Body.String()
	}
	known, nobody := ask("Bearer "+c.bearer, "nobody-here"), ask("", "nobody-here")
	if !strings.HasPrefix(known, "403") || !strings.HasPrefix(nobody, "401") {
		t.Fatalf("got %s and %s", known, nobody)
	}
	a := storetest.A1
	for what, slug := range map[string]string{
		"another's": storetest.A2, "empty": "", "too short": "a", "too long": strings.Repeat("a", 33), "far too long": strings.Repeat("a", 4000),
		"in capitals": strings.ToUpper(a), "with one capital": strings.ToUpper(a[:1]) + a[1:], "with a Cyrillic letter": url.PathEscape(strings.Replace(a, "a", "а", 1)),
		"of wide letters": url.PathEscape("ａ" + a[1:]), "with a joiner": url.PathEscape(a + "\u200d"), "with a combining mark": url.PathEscape(a + "\u0301"),
		"encoded": "%" + "61" + a[1:], "with a null": a + "%00", "with a space": a + "%20", "with a point": a + ".", "with SQL": url.PathEscape(a + "'--"), "a number": "1", "not UTF-8": a + "%ff",
	} {
		if got := ask("Bearer "+c.bearer, slug); got != known {
			t.Errorf("%s, with a token: %s\nwant %s", what, got, known)
		}
		if got := ask("", slug); got != nobody {
			t.Errorf("%s, without one: %s\nwant %s", what, got, nobody)
		}
	}
}
