package faults

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// Findings are what is wrong, by kind, and what is late.
type findings struct {
	lost, torn, duplicated, resurrected, unaudited []string
	late                                           int
	versions, requests                             int // that were held against the ledger
}

// bad returns everything that must not be.
func (f *findings) bad() []string {
	var all []string
	for _, k := range []struct {
		name string
		list []string
	}{{"lost", f.lost}, {"torn", f.torn}, {"duplicated", f.duplicated}, {"resurrected", f.resurrected}, {"unaudited", f.unaudited}} {
		for i, x := range k.list {
			if i == 20 {
				all = append(all, fmt.Sprintf("%s: and %d more", k.name, len(k.list)-i))
				break
			}
			all = append(all, k.name+": "+x)
		}
	}
	return all
}

func (f *findings) String() string {
	return fmt.Sprintf("lost %d, torn %d, duplicated %d, resurrected %d, unaudited %d, late %d; of %d versions, %d requests",
		len(f.lost), len(f.torn), len(f.duplicated), len(f.resurrected), len(f.unaudited), f.late, f.versions, f.requests)
}

// zero is the bar of every fault: nothing but lateness.
const zero = "lost, torn, duplicated, resurrected, unaudited 0"

// check ends the load and holds the ledger against what is stored.
func (l *load) check(t *testing.T) *findings {
	t.Helper()
	l.end()
	f := &findings{}
	for _, w := range l.writers {
		for _, fault := range w.faults {
			t.Errorf("%s at %s: %s", w.name, w.slug, fault)
		}
	}
	if t.Failed() {
		t.Logf("the server has logged:\n%s", sys.server.errors())
	}
	for _, p := range sys.tenants {
		if err := l.checkTenant(t.Context(), p, f); err != nil {
			t.Fatalf("reading back %s: %v", p.slug, err)
		}
		if err := p.checkTables(t.Context(), f); err != nil {
			t.Fatalf("reading the tables of %s: %v", p.slug, err)
		}
	}
	for _, x := range f.bad() {
		t.Error(x)
	}
	return f
}

// A version is one of a resource, as its history tells.
type version struct {
	ref, mark, key, subject string
	number                  int
	deleted                 bool
}

// A shelf is all versions of a resource, in order.
type shelf []version

// read returns every version of every Basic of the tenant.
func (p *party) read(ctx context.Context) (map[string]shelf, error) {
	all := map[string]shelf{}
	err := p.backend.pages(ctx, "Basic/_history?_count=1000", func(page []byte) error {
		var b struct {
			Entry []struct {
				Resource struct {
					ID         string
					Meta       struct{ VersionID string }
					Identifier []struct{ System, Value string }
					Subject    struct{ Reference string }
				}
				Request  struct{ Method, URL string }
				Response struct{ Etag string }
			}
		}
		if err := json.Unmarshal(page, &b); err != nil {
			return err
		}
		for _, e := range b.Entry {
			v := version{ref: e.Request.URL, deleted: e.Request.Method == http.MethodDelete, subject: e.Resource.Subject.Reference}
			if _, err := fmt.Sscanf(e.Response.Etag, `W/"%d"`, &v.number); err != nil {
				return fmt.Errorf("an entry of a history has the etag %q: %w", e.Response.Etag, err)
			}
			for _, id := range e.Resource.Identifier {
				switch id.System {
				case "urn:ledger:mark":
					v.mark = id.Value
				case "urn:ledger:key":
					v.key = id.Value
				}
			}
			all[v.ref] = append(all[v.ref], v)
		}
		return nil
	})
	for _, s := range all {
		slices.SortFunc(s, func(a, b version) int { return a.number - b.number })
	}
	return all, err
}

// An event is an entry of the audit trail, as its AuditEvent tells.
type event struct {
	id     string
	parent string // the event that it is a part of, "" for that of a request
	what   string // what was read or written
}

// events returns the audit trail of the tenant, by the ids of the requests.
func (p *party) events(ctx context.Context) (map[string][]event, error) {
	all := map[string][]event{}
	err := p.auditor.pages(ctx, "AuditEvent?_count=1000", func(page []byte) error {
		var b struct {
			Entry []struct {
				Resource struct {
					ID     string
					Entity []struct {
						What struct {
							Reference  string
							Identifier struct{ Value string }
						}
						Role struct{ Code string }
					}
				}
			}
		}
		if err := json.Unmarshal(page, &b); err != nil {
			return err
		}
		for _, e := range b.Entry {
			v, request := event{id: e.Resource.ID}, ""
			for _, x := range e.Resource.Entity {
				switch x.Role.Code {
				case "4": // the resource
					v.what, _, _ = strings.Cut(x.What.Reference, "/_history/")
				case "20": // what it was done for
					v.parent = strings.TrimPrefix(x.What.Reference, "AuditEvent/")
				}
				request = cmp.Or(request, x.What.Identifier.Value)
			}
			if request != "" {
				all[request] = append(all[request], v)
			}
		}
		return nil
	})
	return all, err
}

func (l *load) checkTenant(ctx context.Context, p *party, f *findings) error {
	shelves, err := p.read(ctx)
	if err != nil {
		return err
	}
	audited, err := p.events(ctx)
	if err != nil {
		return err
	}
	c := checker{findings: f, shelves: shelves, marks: map[string]version{}, keys: map[string]string{}, by: map[string]*attempt{}}
	for _, a := range l.ledger.attempts {
		if a.Tenant != p.slug {
			continue
		}
		for _, w := range a.Writes {
			if w.Mark != "" {
				c.by[w.Mark] = a
			}
		}
	}
	c.index()
	for _, a := range l.ledger.attempts {
		if a.Tenant != p.slug {
			continue
		}
		f.requests++
		switch {
		case a.answered():
			c.stored(a)
		case a.refused():
			c.absent(a)
		default:
			c.whole(a)
		}
		if (a.answered() || a.refused()) && len(audited[a.ID]) == 0 {
			f.unaudited = append(f.unaudited, "request "+a.ID)
		}
	}
	c.order()
	return c.findable(ctx, p)
}

// A checker holds the ledger of a tenant against its resources.
type checker struct {
	*findings
	shelves map[string]shelf
	marks   map[string]version  // where each mark is
	keys    map[string]string   // ref by key of a conditional create
	by      map[string]*attempt // by mark
}

// index finds what is there more than once, and gaps.
func (c *checker) index() {
	for ref, s := range c.shelves {
		for i, v := range s {
			c.versions++
			if v.number != i+1 {
				c.lost = append(c.lost, fmt.Sprintf("%s has no version %d", ref, i+1))
			}
			if c.by[v.mark] != nil {
				if other, ok := c.marks[v.mark]; ok {
					c.duplicated = append(c.duplicated, fmt.Sprintf("%s is at %s version %d and at %s version %d", v.mark, other.ref, other.number, ref, v.number))
				}
				c.marks[v.mark] = v
			}
			if v.key == "" {
				continue
			}
			if other := c.keys[v.key]; other != "" && other != ref {
				c.duplicated = append(c.duplicated, fmt.Sprintf("criteria %s made %s and %s", v.key, other, ref))
			}
			c.keys[v.key] = ref
		}
	}
}

// stored finds everything that an answer promises.
func (c *checker) stored(a *attempt) {
	for _, w := range a.Writes {
		s := c.shelves[w.Ref]
		switch {
		case w.Verb == "DELETE":
			i := slices.IndexFunc(s, func(v version) bool { return v.deleted && (w.Version == 0 || v.number == w.Version) })
			if i < 0 {
				c.lost = append(c.lost, fmt.Sprintf("%s: the deletion of %s", a.ID, w.Ref))
			} else if i < len(s)-1 {
				c.resurrected = append(c.resurrected, fmt.Sprintf("%s deleted %s, which has %d versions since", a.ID, w.Ref, len(s)-1-i))
			}
		case w.Version < 1 || w.Version > len(s):
			c.lost = append(c.lost, fmt.Sprintf("%s: %s version %d", a.ID, w.Ref, w.Version))
		case w.Verb == "POST" && s[w.Version-1].key != w.Key && s[0].key != w.Key, w.Verb == "PUT" && s[w.Version-1].mark != w.Mark:
			c.lost = append(c.lost, fmt.Sprintf("%s: %s version %d is another's", a.ID, w.Ref, w.Version))
		}
	}
	c.linked(a)
}

// linked finds out whether the entries of a transaction refer to its first,
// under the id that it got.
func (c *checker) linked(a *attempt) {
	if len(a.Writes) < 2 {
		return
	}
	first := c.keys[a.Writes[0].Key]
	for _, w := range a.Writes[1:] {
		if v, ok := c.marks[w.Mark]; ok && v.subject != first {
			c.torn = append(c.torn, fmt.Sprintf("%s: %s refers to %s and not to %s", a.ID, w.Mark, v.subject, first))
		}
	}
}

// absent finds nothing of what was refused.
func (c *checker) absent(a *attempt) {
	for _, w := range a.Writes {
		if v, ok := c.marks[w.Mark]; ok && w.Mark != "" {
			c.resurrected = append(c.resurrected, fmt.Sprintf("%s was answered %d, and is %s version %d", a.ID, a.Status, v.ref, v.number))
		}
	}
}

// whole finds all or nothing of what got no answer.
func (c *checker) whole(a *attempt) {
	there := slices.ContainsFunc(a.Writes, func(w write) bool { _, ok := c.marks[w.Mark]; return ok && w.Mark != "" })
	if !there {
		return
	}
	c.late++
	for _, w := range a.Writes {
		ok := false
		switch w.Verb {
		case "PUT":
			_, ok = c.marks[w.Mark]
		case "POST": // an earlier try may have made it
			_, ok = c.keys[w.Key]
		case "DELETE":
			ok = slices.ContainsFunc(c.shelves[w.Ref], func(v version) bool { return v.deleted })
		}
		if !ok {
			c.torn = append(c.torn, fmt.Sprintf("%s: all but the %s of %s%s", a.ID, w.Verb, w.Ref, w.Key))
		}
	}
	c.linked(a)
}

// order finds versions that nobody sent, and those of a later attempt below
// those of an earlier one.
func (c *checker) order() {
	for ref, s := range c.shelves {
		last := 0
		for _, v := range s {
			if v.mark == "" {
				continue
			}
			a := c.by[v.mark]
			if a == nil {
				continue // of another load
			}
			if a.Order < last && a.answered() {
				c.resurrected = append(c.resurrected, fmt.Sprintf("%s version %d is by %s, which was answered before the version below was sent", ref, v.number, a.ID))
			}
			last = max(last, a.Order)
		}
	}
}

// findable asks for some of the resources by their criteria: the index must
// know what the resources say.
func (c *checker) findable(ctx context.Context, p *party) error {
	n := 0
	for key, ref := range c.keys {
		s := c.shelves[ref]
		if last := s[len(s)-1]; last.deleted || last.key != key {
			continue
		}
		if n++; n > 40 {
			break
		}
		r, err := p.backend.do(ctx, http.MethodGet, "Basic?"+criteria(key), "")
		if err != nil {
			return err
		}
		var b struct {
			Entry []struct{ Resource struct{ ID string } }
		}
		if err := json.Unmarshal(r.body, &b); err != nil {
			return err
		}
		switch {
		case r.status != http.StatusOK:
			return fmt.Errorf("searching: %d %.300s", r.status, r.body)
		case len(b.Entry) == 0:
			c.lost = append(c.lost, ref+" is not found by its identifier")
		case len(b.Entry) > 1:
			c.duplicated = append(c.duplicated, "criteria "+key)
		case "Basic/"+b.Entry[0].Resource.ID != ref:
			c.torn = append(c.torn, fmt.Sprintf("criteria %s find %s and not %s", key, b.Entry[0].Resource.ID, ref))
		}
	}
	return nil
}

// The tables of a placement, seen as a superuser: every version has its change
// and its audit entry, and nothing else has. In storage, interactions 3, 4, 5
// and 9 are update, patch, delete and create.
const tables = `
	WITH r AS (SELECT rid, version, deleted FROM ~.resource WHERE tenant_id = $1),
	     v AS (SELECT rid, version FROM r UNION ALL SELECT rid, version FROM ~.history WHERE tenant_id = $1),
	     c AS (SELECT rid, version FROM ~.change WHERE tenant_id = $1),
	     a AS (SELECT entity AS rid, version FROM ~.audit
	           WHERE tenant_id = $1 AND outcome = 0 AND version > 0 AND interaction IN (3, 4, 5, 9)),
	     i AS (SELECT rid FROM ~.idx_token WHERE tenant_id = $1 UNION ALL SELECT rid FROM ~.idx_ref WHERE tenant_id = $1)
	SELECT 'lost',       'a version below ' || max(version) || ' of resource ' || rid FROM v GROUP BY rid HAVING max(version) <> count(*)
	UNION ALL
	SELECT 'duplicated', 'resource ' || rid || ' version ' || version FROM v GROUP BY rid, version HAVING count(*) > 1
	UNION ALL
	SELECT 'torn',       'resource ' || rid || ' version ' || version || ' has no change' FROM (SELECT * FROM v EXCEPT SELECT * FROM c) x
	UNION ALL
	SELECT 'torn',       'change ' || rid || ' version ' || version || ' has no resource' FROM (SELECT * FROM c EXCEPT SELECT * FROM v) x
	UNION ALL
	SELECT 'torn',       'audit entry of ' || rid || ' version ' || version || ' has no resource' FROM (SELECT * FROM a EXCEPT SELECT * FROM v) x
	UNION ALL
	SELECT 'unaudited',  'resource ' || rid || ' version ' || version FROM (SELECT * FROM v EXCEPT SELECT * FROM a) x
	UNION ALL
	SELECT 'torn',       'index of ' || rid || ' has no resource' FROM (SELECT rid FROM i EXCEPT SELECT rid FROM r WHERE NOT deleted) x`

func (p *party) checkTables(ctx context.Context, f *findings) error {
	return p.sys.asSuperuser(ctx, p.database, func(conn *pgx.Conn) error {
		rows, err := conn.Query(ctx, strings.ReplaceAll(tables, "~", pgx.Identifier{p.schema}.Sanitize()), p.number)
		if err != nil {
			return err
		}
		var kind, what string
		_, err = pgx.ForEachRow(rows, []any{&kind, &what}, func() error {
			list := map[string]*[]string{"lost": &f.lost, "torn": &f.torn, "duplicated": &f.duplicated, "unaudited": &f.unaudited}[kind]
			*list = append(*list, p.slug+": "+what)
			return nil
		})
		return err
	})
}
