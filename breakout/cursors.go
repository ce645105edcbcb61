package breakout

import (
	"bytes"
	"context"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// cursors is group 7: paging, caches, answers that come later.
func cursors() []Attack {
	const page = "/Patient?identifier=urn:breakout:run|«run»&_count=2"
	return []Attack{
		{ID: "T145", Group: 7, Title: "a page of one tenant opens for no other", Steps: slices.Concat(
			elsewhere(page), elsewhere("/Patient/_history?_count=2"), elsewhere("/_history?_count=2"))},
		{ID: "T146", Group: 7, Alone: true, Title: "a page of one client opens for no other", Steps: []Step{
			get("dr1", page).want(200).keep("page"),
			get("reader", "«page»").want(400, 403, 404), get("pA", "«page»").want(400, 403, 404), get("backend", "«page»").want(400, 403, 404),
			get("dr1", "«page»").want(200),
			get("auditor", "/AuditEvent?_count=1").want(200).keep("trail"),
			get("backend", "«trail»").want(400, 403, 404), get("pA", "«trail»").want(400, 403, 404),
		}},
		{ID: "T146", Group: 7, Alone: true, Title: "a page of one user opens for no other", Steps: []Step{
			get("dr1", page).want(200).keep("page"), get("dr2", "«page»").want(400, 403, 404), get("dr1", "«page»").want(200),
		}},
		{ID: "T148", Group: 7, Alone: true, Title: "a page that was touched is one that never was", do: forgedPages, needs: []string{"reader"}},
		{ID: "T149", Group: 7, Alone: true, Title: "a page says nothing to who holds it", do: opaquePages, needs: []string{"reader"}},
		{ID: "T150", Group: 7, Title: "no answer is shared", do: sharedAnswers},
		{ID: "T151", Group: 7, Alone: true, Title: "an answer follows the client, not the question", Steps: slices.Repeat([]Step{
			get("reader", "/Observation?_id=«mine»,«o2»").want(200).find("Observation/«mine»", "Observation/«o2»"),
			get("pA", "/Observation?_id=«mine»,«o2»").want(200).find("Observation/«mine»"),
		}, 20)},
		{ID: "T152", Group: 7, Alone: true, Title: "no answer is kept by those between", do: uncached, needs: []string{"reader"}},
		{ID: "T156", Also: "T157", Group: 7, Title: "an answer that comes later is of who asked alone", do: laterAnswers, needs: []string{"backend", "reader", "victim:backend"}},
	}
}

// elsewhere turns a page with the victim's token, at its tenant and at the
// victim's own.
func elsewhere(path string) []Step {
	return []Step{
		get("reader", path).want(200).keep("page"),
		get("victim:reader", "«page»").want(403).alert(CrossTenant),
		get("victim:reader", "«page@victim»").want(400, 403, 404),
		get("reader", "«page»").want(200),
	}
}

// sealed parts a link of the run's Patients into what is before the page and the
// page itself.
func (t *Trial) sealed(ctx context.Context) (at, page string, raw []byte) {
	if t.take(ctx, get("reader", "/Patient?identifier=urn:breakout:run|«run»&_count=2").want(200).keep("page")) == nil || t.vars["page"] == "" {
		return "", "", nil
	}
	at, page, ok := strings.Cut(t.vars["page"], "_page=")
	if unescaped, err := url.QueryUnescape(page); err == nil {
		page = unescaped
	}
	raw, err := base64.RawURLEncoding.DecodeString(page)
	if !ok || err != nil || len(raw) < 16 {
		t.NotRun = "the pages of this server are of another form"
		return "", "", nil
	}
	return at, page, raw
}

func forgedPages(ctx context.Context, t *Trial) {
	at, page, raw := t.sealed(ctx)
	if raw == nil {
		return
	}
	flipped := func(i int) string {
		b := bytes.Clone(raw)
		b[i] ^= 1
		return base64.RawURLEncoding.EncodeToString(b)
	}
	t.take(ctx, get("reader", "/Patient?_page=never-was").want(400).same("forged"))
	for _, forged := range []string{
		flipped(0), flipped(5), flipped(len(raw) / 2), flipped(len(raw) - 1), page[:len(page)-4], page[4:], page + "AAAA", strings.ToLower(page), page + "=",
		base64.RawURLEncoding.EncodeToString([]byte(`{"i":"search-type","r":{"Type":"Patient"},"q":"","p":2}`)),
	} {
		t.take(ctx, get("reader", at+"_page="+forged).same("forged"))
	}
	t.take(ctx, get("reader", at+"_page="+page+"&_count=1000").same("forged"))
	t.take(ctx, get("reader", "/Observation?_page="+page).same("forged"))
	t.take(ctx, get("reader", "/Patient/_history?_page="+page).same("forged"))
	t.take(ctx, get("reader", at+"_page="+page).want(200))
}

func opaquePages(ctx context.Context, t *Trial) {
	_, page, raw := t.sealed(ctx)
	if raw == nil {
		return
	}
	for _, word := range []string{"Patient", "identifier", "SELECT", "tenant", t.Attacker, t.suite.run} {
		if bytes.Contains(raw, []byte(word)) || strings.Contains(page, word) {
			t.finding("answer", nil, "the page holds %q", word)
		}
	}
	if _, again, _ := t.sealed(ctx); again == page {
		t.finding("answer", nil, "equal searches have equal pages: they can be compared")
	}
}

// sharedAnswers asks one question in both tenants, many times at once.
func sharedAnswers(ctx context.Context, t *Trial) {
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 20 {
				p := []*party{t.at["attacker"], t.at["victim"]}[(i+n)%2]
				x := t.send(ctx, request{method: http.MethodGet, url: p.FHIRBase + "/Patient?identifier=mrn|" + t.suite.run + "-10001&_total=accurate", actor: p.reader()})
				if x == nil {
					return
				}
				b, ok := x.bundle()
				if !ok || len(b.Entry) != 1 || b.Total != nil && *b.Total != 1 || !bytes.Contains(x.Body, []byte(p.canaries["name"])) {
					t.finding("answer", x, "it is answered %d, and not with the one own record", x.Status)
				}
			}
		})
	}
	all.Wait()
}

func uncached(ctx context.Context, t *Trial) {
	for _, path := range []string{"/Patient/«p1»", "/Patient?_id=«p1»", "/Patient/«never»", "/metadata"} {
		x := t.take(ctx, get("reader", path))
		if x == nil {
			return
		}
		cached := x.Header.Get("Cache-Control")
		if !strings.Contains(cached, "no-store") && !(strings.Contains(cached, "private") && strings.Contains(x.Header.Get("Vary"), "Authorization")) {
			t.finding("answer", x, "a cache between may keep the answer")
		}
	}
}
