package rest

import (
	"fmt"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/r4"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// unsupported reports whether an answer says that what was asked is not there
// to be asked.
func unsupported(t testing.TB, w *httptest.ResponseRecorder) bool {
	t.Helper()
	if w.Code < 400 {
		return false
	}
	return w.Code == 405 || w.Code >= 500 || at(shown(t, w), "issue", 0, "code") == string(fhir.NotSupported)
}

// example is a value for a search parameter of the type.
func example(t fhir.Type, name, kind string) string {
	of := map[string]string{"token": "true", "string": "x", "date": "2020", "number": "1", "quantity": "1", "uri": "urn:x", "reference": "Patient/x"}
	switch name {
	case "near":
		return "1|2|3|km"
	case "_filter":
		return "_id eq x"
	case "outcome":
		return "0"
	}
	if kind != "composite" && of[kind] != "" {
		return of[kind]
	}
	for _, p := range r4.SearchParameters(t) {
		if p.Code != name || len(p.Composites) == 0 {
			continue
		}
		var parts []string
		for _, c := range p.Composites[0].Components {
			parts = append(parts, of[c.Type])
		}
		return strings.Join(parts, "$")
	}
	return "x"
}

// H-52, S-18, INT-01: all that the CapabilityStatement claims is there, for each type:
// every interaction, search parameter, include and operation.
func TestWhatTheCapabilityStatementClaimsIsServed(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.S2, all)
	rest := at(shown(t, c.must(200, "GET", "/metadata", "")), "rest", 0)
	resources, _ := at(rest, "resource").([]any)
	var wait sync.WaitGroup
	work := make(chan func(*client))
	for range 4 {
		wait.Go(func() {
			own := a.client(t, storetest.S2, all)
			for do := range work {
				do(own)
			}
		})
	}
	ask := func(method, path, body string, claim ...any) {
		work <- func(c *client) {
			if w := c.do(method, path, body); unsupported(t, w) {
				t.Errorf("claimed %s, but %s %.200s: %d %s", fmt.Sprint(claim...), method, path, w.Code, w.Body)
			}
		}
	}
	asked := map[string]int{}
	// Searches take many parameters at once.
	together := func(path, what string, params []string) {
		for some := range slices.Chunk(params, 40) {
			asked[what] += len(some)
			work <- func(c *client) {
				if w := c.do("GET", path+"?_count=1&"+strings.Join(some, "&"), ""); w.Code != 200 {
					t.Errorf("claimed as %s of %s: %.300s: %d %s", what, path, some, w.Code, w.Body)
				}
			}
		}
	}
	params := func(t fhir.Type, of any) (list []string) {
		all, _ := at(of, "searchParam").([]any)
		for _, p := range all {
			name := at(p, "name").(string)
			key := name
			if name == "_has" {
				key = "_has:Observation:subject:_id"
			}
			list = append(list, key+"="+url.QueryEscape(example(t, name, at(p, "type").(string))))
		}
		return list
	}
	for _, r := range resources {
		on := at(r, "type").(string)
		minimal := `{"resourceType":"` + on + `","id":"claim"}`
		for _, i := range at(r, "interaction").([]any) {
			asked["interactions"]++
			switch does := at(i, "code").(string); fhir.Interaction(does) {
			case fhir.Read:
				ask("GET", "/"+on+"/none", "", does)
			case fhir.Vread:
				ask("GET", "/"+on+"/none/_history/1", "", does)
			case fhir.Update:
				ask("PUT", "/"+on+"/claim", minimal, does)
			case fhir.Patch:
				ask("PATCH", "/"+on+"/none", `[{"op":"test","path":"/id","value":"x"}]`, does)
			case fhir.Delete:
				ask("DELETE", "/"+on+"/none", "", does)
			case fhir.HistoryInstance:
				ask("GET", "/"+on+"/none/_history", "", does)
			case fhir.HistoryType:
				ask("GET", "/"+on+"/_history?_count=1", "", does)
			case fhir.Create:
				ask("POST", "/"+on, minimal, does)
			case fhir.SearchType:
				ask("GET", "/"+on+"?_count=1", "", does)
			default:
				t.Errorf("%s: what is %s?", on, does)
			}
		}
		for what, claimed := range map[string]string{"_include": "searchInclude", "_revinclude": "searchRevInclude"} {
			var list []string
			all, _ := at(r, claimed).([]any)
			for _, v := range all {
				list = append(list, what+"="+url.QueryEscape(v.(string)))
			}
			together("/"+on, claimed, list)
		}
		together("/"+on, "searchParam", params(fhir.Type(on), r))
		list, _ := at(r, "operation").([]any)
		for _, o := range list {
			asked["operations"]++
			work <- func(c *client) { c.callsOperation(on, at(o, "name").(string)) }
		}
	}
	together("", "searchParam of the system", params("", rest))
	list, _ := at(rest, "operation").([]any)
	for _, o := range list {
		work <- func(c *client) { c.callsOperation("", at(o, "name").(string)) }
	}
	for _, i := range at(rest, "interaction").([]any) {
		switch does := at(i, "code").(string); fhir.Interaction(does) {
		case fhir.SearchSystem:
			ask("GET", "?_type=Patient&_count=1", "", does)
		case fhir.HistorySystem:
			ask("GET", "/_history?_count=1", "", does)
		case fhir.Transaction, fhir.Batch:
			ask("POST", "", `{"resourceType":"Bundle","type":"`+does+`"}`, does)
		default:
			t.Errorf("what is %s?", does)
		}
	}
	close(work)
	wait.Wait()
	t.Log(asked)
}

// callsOperation calls an operation wherever it can be.
func (c *client) callsOperation(on, name string) {
	c.t.Helper()
	for _, o := range operations() {
		if o.name != name || on == "" && o.level&onSystem == 0 || on != "" && (o.level&^onSystem == 0 || !o.isOn(fhir.Type(on))) {
			continue
		}
		paths := map[level]string{onSystem: "", onType: "/" + on, onInstance: "/" + on + "/none", onVersion: "/" + on + "/none/_history/1"}
		for l, path := range paths {
			if o.level&l == 0 || (on == "") != (l == onSystem) {
				continue
			}
			if w := c.do("POST", path+"/$"+name, ""); unsupported(c.t, w) {
				c.t.Errorf("claimed $%s of %s, but got %d %s", name, on, w.Code, w.Body)
			}
			if w := c.do("GET", path+"/$"+name, ""); o.simple() == unsupported(c.t, w) {
				c.t.Errorf("$%s of %s by GET: %d %s", name, on, w.Code, w.Body)
			}
		}
	}
}

// H-52, INT-01: what the CapabilityStatement does not claim is refused.
func TestWhatTheCapabilityStatementDoesNotClaimIsRefused(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.S2, all)
	rest := at(shown(t, c.must(200, "GET", "/metadata", "")), "rest", 0)
	resources, _ := at(rest, "resource").([]any)
	for _, r := range resources {
		on := at(r, "type").(string)
		for _, query := range []string{"?nonsense=x", "?_include=" + on + ":nonsense", "?_revinclude=" + on + ":nonsense", "?_sort=nonsense"} {
			if w := c.do("GET", "/"+on+query, ""); w.Code != 400 {
				t.Errorf("%s%s: %d %s", on, query, w.Code, w.Body)
			}
		}
		claimed := map[any]bool{}
		for _, i := range at(r, "interaction").([]any) {
			claimed[at(i, "code")] = true
		}
		for does, ask := range map[fhir.Interaction][3]string{
			fhir.Create: {"POST", "/" + on, `{"resourceType":"` + on + `"}`}, fhir.Update: {"PUT", "/" + on + "/x", `{"resourceType":"` + on + `","id":"x"}`},
			fhir.Delete: {"DELETE", "/" + on + "/x", ""}, fhir.Patch: {"PATCH", "/" + on + "/x", "[]"}, fhir.HistoryType: {"GET", "/" + on + "/_history", ""},
		} {
			if w := c.do(ask[0], ask[1], ask[2]); !claimed[string(does)] && w.Code != 405 {
				t.Errorf("%s of %s: %d", does, on, w.Code)
			}
		}
		has, _ := at(r, "operation").([]any)
		for _, o := range operations() {
			if slices.ContainsFunc(has, func(x any) bool { return at(x, "name") == o.name }) {
				continue
			}
			if w := c.do("POST", "/"+on+"/$"+o.name, ""); w.Code != 404 {
				t.Errorf("$%s of %s: %d %s", o.name, on, w.Code, w.Body)
			}
		}
	}
	c.must(404, "GET", "/Nonsense", "")
	c.must(400, "GET", "?nonsense=x", "")
}

// H-52
func TestTheCapabilityStatementHasModes(t *testing.T) {
	a := newAPI(t)
	c := a.client(t, storetest.D1, all)
	full := shown(t, c.must(200, "GET", "/metadata?mode=full", ""))
	part := shown(t, c.must(200, "GET", "/metadata?mode=normative", ""))
	if n := len(at(part, "rest", 0, "resource").([]any)); n != len(normative) || n >= len(at(full, "rest", 0, "resource").([]any)) {
		t.Errorf("%d types are normative", n)
	}
	c.must(400, "GET", "/metadata?mode=nonsense", "")
	w := c.must(200, "POST", "", `{"resourceType":"Bundle","type":"batch","entry":[{"request":{"method":"GET","url":"metadata"}},{"request":{"method":"GET","url":"openapi.json"}}]}`)
	if at(shown(t, w), "entry", 1, "response", "status") != "400 Bad Request" {
		t.Errorf("what is no resource, in a batch: %.300s", w.Body)
	}
	if at(shown(t, w), "entry", 0, "resource", "resourceType") != "CapabilityStatement" {
		t.Errorf("in a batch: %.300s", w.Body)
	}
}
