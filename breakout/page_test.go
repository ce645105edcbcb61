package breakout

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

// The page says what the sheet says, needs nothing but itself, and is read as well
// without eyes: each table has a name and each of its heads says what it is of.
func TestThePageOfARunNeedsNothingElse(t *testing.T) {
	sheet := &Sheet{
		Started: time.Unix(0, 0), Finished: time.Unix(60, 0), Pairs: 2, Conditions: conditions, Unseen: unseen,
		Tenants: []Side{{Slug: "north", Mode: "shared", Actors: []string{"backend", "pA"}}}, Without: []string{"west"}, Left: []string{"north/Patient/1"},
		Attacks: []Result{
			{ID: "T001", Group: 1, Title: "a token of one tenant", Tried: 2, Held: 2},
			{ID: "T077", Group: 4, Title: "an id", Tried: 2, Held: 1, NotRun: []string{"no pB"},
				Broken: []Broken{{"north", "south", []Finding{{Condition: "C1", What: "holds <script>alert(1)</script>", Request: `GET /x?a="b"`}}}}},
		},
	}
	var b strings.Builder
	if err := sheet.HTML(&b); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	for _, want := range []string{
		`<html lang="en">`, "<title>1 of 2 attacks held", "What did not hold", "T077 an id: north against south", "C1: holds &lt;script&gt;", "no pB",
		"2 ordered pairs", "backend, pA", "took no part: west", "north/Patient/1", `<time datetime="1970-01-01T00:01:00Z">`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in the page", want)
		}
	}
	for _, never := range []string{"<script", "http:", "https:", "src=", "<link", " on"} {
		if at := strings.Index(tags(page), never); at >= 0 {
			t.Errorf("the page has %q", never)
		}
	}
	for _, m := range regexp.MustCompile(`(?:href="#|aria-labelledby=")([^"]*)"`).FindAllStringSubmatch(page, -1) {
		if strings.Count(page, ` id="`+m[1]+`"`) != 1 {
			t.Errorf("%s is not there once", m[1])
		}
	}
	if heads := strings.Count(page, "<th"); heads != strings.Count(page, "<th scope=")+strings.Count(page, "<thead") {
		t.Error("a head of a table does not say what it is of")
	}
	if strings.Count(page, "<table>") != strings.Count(page, `role="region" aria-labelledby=`) {
		t.Error("a table has no name")
	}
}

// tags returns what is between < and >.
func tags(page string) string {
	return strings.Join(regexp.MustCompile(`<[^>]*>`).FindAllString(page, -1), "\n")
}
