package conformance

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
)

// Group 7 of the breakout suite: paging and caches.
func TestCursors(t *testing.T) {
	breakout(t, "T145 a page of one tenant opens for no other", func(p *probe) {
		for _, path := range []string{"/Patient?_count=2", "/Patient/_history?_count=2", "/_history?_count=2", "/Patient?family=Unseen,Solitary,Kept&_count=1"} {
			next := p.nextOf("reader", path)
			page := strings.TrimPrefix(next, p.attacker.base)
			p.alert(crossTenant, 1)
			p.want(p.send(p.of(p.victim, "reader", "GET", next)), 403)
			p.want(p.send(p.of(p.victim, "reader", "GET", page)), 400, 403, 404)
			p.want(p.send(p.as("reader", "GET", next)), 200)
		}
	})

	once(t, "T146 a page of one client opens for no other", func(p *probe) {
		for _, path := range []string{"/Patient?_count=2", "/Patient/_history?_count=2", "/Patient?_total=accurate&_count=1"} {
			next := p.nextOf("dr1", path)
			for _, other := range []string{"dr2", "reader", "pA"} {
				p.want(p.send(p.as(other, "GET", next)), 400, 403, 404)
			}
			p.want(p.send(p.as("dr1", "GET", next)), 200)
		}
		next := p.nextOf("auditor", "/AuditEvent?_count=1")
		p.want(p.send(p.as("backend", "GET", next)), 400, 403, 404)
		p.want(p.send(p.as("pA", "GET", next)), 400, 403, 404)
	})

	once(t, "T148 a page that was touched is one that never was", func(p *probe) {
		next := p.nextOf("reader", "/Patient?_count=2")
		at, sealed, _ := strings.Cut(next, "_page=")
		raw, err := base64.RawURLEncoding.DecodeString(sealed)
		if err != nil {
			p.Fatal(err)
		}
		flipped := func(i int) string {
			b := bytes.Clone(raw)
			b[i] ^= 1
			return base64.RawURLEncoding.EncodeToString(b)
		}
		never := p.want(p.get("reader", "/Patient?_page=never-was"), 400)
		for _, forged := range []string{
			flipped(0), flipped(5), flipped(len(raw) / 2), flipped(len(raw) - 1), sealed[:len(sealed)-4], sealed[4:], sealed + "AAAA", strings.ToLower(sealed), sealed + "=",
			base64.RawURLEncoding.EncodeToString([]byte(`{"i":"search-type","r":{"Type":"Patient"},"q":"","p":2}`)),
		} {
			p.same("a forged page", never, p.send(p.as("reader", "GET", at+"_page="+forged)))
		}
		p.same("a page with more to ask", never, p.send(p.as("reader", "GET", next+"&_count=1000")))
		p.same("a page of another type", never, p.get("reader", "/Observation?_page="+sealed))
		p.same("a page of a search as history", never, p.get("reader", "/Patient/_history?_page="+sealed))
		p.want(p.send(p.as("reader", "GET", next)), 200)
	})

	once(t, "T149 a page says nothing to who holds it", func(p *probe) {
		family := p.attacker.canaries["name"]
		next := p.nextOf("reader", "/Patient?family="+family+",Unseen,Kept&_count=1")
		_, sealed, _ := strings.Cut(next, "_page=")
		sealed, err := url.QueryUnescape(sealed)
		if err != nil {
			p.Fatal(err)
		}
		raw, err := base64.RawURLEncoding.DecodeString(sealed)
		if err != nil {
			p.Fatalf("not base64: %v", err)
		}
		for _, word := range []string{"Patient", "family", "SELECT", "tenant", p.attacker.slug, "Unseen", family} {
			if bytes.Contains(raw, []byte(word)) || strings.Contains(sealed, word) {
				p.Errorf("it holds %q", word)
			}
		}
		again := p.nextOf("reader", "/Patient?family="+family+",Unseen,Kept&_count=1")
		if again == next {
			p.Errorf("equal searches have equal pages: they can be compared")
		}
	})

	// TEN-32
	breakout(t, "T150 no answer is shared", func(p *probe) {
		g, _ := errgroup.WithContext(p.Context())
		g.SetLimit(8)
		for i := range 170 {
			own := []*party{p.attacker, p.victim}[i%2]
			g.Go(func() error {
				r, err := p.try(p.of(own, "reader", "GET", "/Patient?identifier=mrn|10001&_total=accurate"))
				if err == nil && (r.status != 200 || !bytes.Contains(r.body, []byte(own.canaries["name"])) || !bytes.Contains(r.body, []byte(`"total":1`))) {
					err = fmt.Errorf("a search in %s answers %s", own.slug, r)
				}
				return err
			})
		}
		if err := g.Wait(); err != nil {
			p.Error(err)
		}
	})

	// TEN-32
	once(t, "T151 an answer follows the client, not the question", func(p *probe) {
		for range 20 {
			if b := p.bundle(p.get("pA", "/Observation?_id=o1,o2")); len(b.Entry) != 1 || refOf(b.Entry[0].Resource) != "Observation/o1" {
				p.Fatalf("patient A finds %v", b.refs())
			}
			if b := p.bundle(p.get("pB", "/Observation?_id=o1,o2")); len(b.Entry) != 1 || refOf(b.Entry[0].Resource) != "Observation/o2" {
				p.Fatalf("patient B finds %v", b.refs())
			}
		}
	})

	// Cache-Control is looked at in every answer of every line; Vary here.
	once(t, "T152 no answer is kept by those between", func(p *probe) {
		for _, r := range []*reply{p.get("reader", "/Patient/p1"), p.get("reader", "/Patient"), p.get("reader", "/Patient/never-was"), p.get("reader", "/metadata")} {
			if !strings.Contains(r.header.Get("Vary"), "Authorization") || r.header.Get("Cache-Control") != "no-store" {
				p.Errorf("%d with Vary: %s, Cache-Control: %s", r.status, r.header.Get("Vary"), r.header.Get("Cache-Control"))
			}
		}
	})
}

// nextOf returns the next link of a page.
func (p *probe) nextOf(id, path string) string {
	p.Helper()
	next := p.bundle(p.get(id, path)).next()
	if next == "" {
		p.Fatalf("%s has one page", path)
	}
	return next
}

func decode64(s string) (string, error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	return string(b), err
}

func encode64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
