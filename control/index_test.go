package control_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/store/storetest"
)

func TestIndex(t *testing.T) {
	p := newPlane(t)
	path := "/control/v1/tenants/" + storetest.A2
	t.Run("what nobody asked for is not asked for", func(t *testing.T) {
		w := p.do(t, "GET", path+"/index", "")
		if w.Code != 200 || body(t, w)["reindex"] != nil {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
	})
	t.Run("a request is taken and shown", func(t *testing.T) {
		w := p.do(t, "POST", path+"/reindex", `{"types":["Patient"]}`, "X-Request-Id", "reindex-1")
		if w.Code != 202 || body(t, w)["number"] != 1.0 {
			t.Fatalf("got %d %s", w.Code, w.Body)
		}
		var got struct {
			Requested struct {
				Number int
				Types  []string
			}
		}
		w = p.do(t, "GET", path+"/index", "")
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got.Requested.Number != 1 || len(got.Requested.Types) != 1 {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
		if trail := p.trail(t, "reindex-1"); len(trail) != 2 || !strings.Contains(trail[1], "made again, for [Patient]") {
			t.Errorf("the trail has %q", trail)
		}
	})
	t.Run("what is no type, and who is no tenant, is refused", func(t *testing.T) {
		if w := p.do(t, "POST", path+"/reindex", `{"types":["Nothing"]}`); w.Code != 400 {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
		if w := p.do(t, "POST", path+"/reindex", `{"type":"Patient"}`); w.Code != 400 {
			t.Errorf("got %d %s", w.Code, w.Body)
		}
		for _, call := range [][2]string{{"GET", "/index"}, {"POST", "/reindex"}} {
			if w := p.do(t, call[0], "/control/v1/tenants/nobody-there"+call[1], `{}`); w.Code != 404 {
				t.Errorf("%v: got %d %s", call, w.Code, w.Body)
			}
		}
	})
}
