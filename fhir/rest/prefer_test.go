package rest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/store/storetest"
)

// Every interaction that writes answers as Prefer asks, and says that it did.
// https://hl7.org/fhir/R4/http.html#ops
func TestEveryWriteAnswersAsIsPreferred(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.A1, all)
	person := func(id, mark string) string {
		return fmt.Sprintf(`{"resourceType":"Patient",%s"identifier":[{"system":"s","value":"%s"}]}`, id, mark)
	}
	const birth = `[{"op":"add","path":"/birthDate","value":"2000-01-01"}]`
	for _, tt := range []struct {
		claim, method, path, body, more string
		isThere                         bool // the resource is there before
		status                          int
	}{
		{"create", "POST", "/Patient", "new", "", false, 201},
		{"conditional create", "POST", "/Patient", "new", "identifier=s|MARK", false, 201},
		{"conditional create of what is there", "POST", "/Patient", "new", "identifier=s|MARK", true, 200},
		{"update", "PUT", "/Patient/MARK", "own", "", true, 200},
		{"update of what is not there", "PUT", "/Patient/MARK", "own", "", false, 201},
		{"conditional update", "PUT", "/Patient?identifier=s|MARK", "new", "", true, 200},
		{"patch", "PATCH", "/Patient/MARK", birth, "", true, 200},
		{"conditional patch", "PATCH", "/Patient?identifier=s|MARK", birth, "", true, 200},
		{"delete", "DELETE", "/Patient/MARK", "", "", true, 204},
		{"conditional delete", "DELETE", "/Patient?identifier=s|MARK", "", "", true, 204},
	} {
		for _, prefer := range []string{"", "minimal", "representation", "OperationOutcome"} {
			mark := fresh()
			own := person(`"id":"`+mark+`",`, mark)
			if tt.isThere {
				c.must(201, "PUT", "/Patient/"+mark, own)
			}
			fill := strings.NewReplacer("MARK", mark)
			body := map[string]string{"new": person("", mark), "own": own}[tt.body]
			if body == "" {
				body = tt.body
			}
			w := c.do(tt.method, fill.Replace(tt.path), body, "Prefer", "return="+prefer, "If-None-Exist", fill.Replace(tt.more))
			status, want := tt.status, map[string]string{"": "Patient", "representation": "Patient", "OperationOutcome": "OperationOutcome"}[prefer]
			if tt.method == "DELETE" {
				if want != "OperationOutcome" {
					want = "" // nothing is left to be shown
				} else {
					status = 200
				}
			}
			got := ""
			if w.Body.Len() > 0 {
				got, _ = at(shown(t, w), "resourceType").(string)
			}
			applied := ""
			if prefer != "" && (tt.method != "DELETE" || want != "" || prefer == "minimal") {
				applied = "return=" + prefer
			}
			if w.Code != status || got != want || w.Header().Get("Preference-Applied") != applied {
				t.Errorf("%s, preferring %q: %d %q, applied %q", tt.claim, prefer, w.Code, got, w.Header().Get("Preference-Applied"))
			}
			if w.Header().Get("ETag") == "" {
				t.Errorf("%s: no ETag", tt.claim)
			}
		}
	}
}
