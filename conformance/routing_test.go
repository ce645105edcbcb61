package conformance

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// The rules of alerts.
const (
	crossTenant   = "cross-tenant-token"  // a good token in the wrong place
	otherInHeader = "tenant-header"       // X-Tenant-Id names another tenant
	otherInBundle = "cross-tenant-entry"  // the url of an entry does
	adminOnData   = "admin-token-on-data" // an operator's token at a FHIR endpoint
)

// Group 1 of the breakout suite: which tenant a request is for. GOV-04
func TestRouting(t *testing.T) {
	// TEN-13, TEN-19, TEN-27, AUTHZ-09, OBS-10
	breakout(t, "T001 a token of one tenant is refused by another", func(p *probe) {
		p.alert(crossTenant, 2)
		there := p.want(p.send(p.as("backend", "GET", p.victim.base+"/Patient/p1")), 403)
		nowhere := p.want(p.send(p.as("backend", "GET", sys.FHIR+"/"+X0+"/Patient/p1")), 403)
		p.same("a tenant that is there and one that is not", there, nowhere)
	})

	breakout(t, "T002 the public document of another tenant says nothing to a token", func(p *probe) {
		p.alert(crossTenant, 2)
		there := p.want(p.send(p.as("backend", "GET", p.victim.base+"/metadata")), 403)
		nowhere := p.want(p.send(p.as("backend", "GET", sys.FHIR+"/"+X0+"/metadata")), 403)
		p.same("a tenant that is there and one that is not", there, nowhere)
	})

	// TEN-13
	breakout(t, "T004 headers that name another tenant do not lead there", func(p *probe) {
		for _, h := range [][2]string{
			{"X-Forwarded-Host", p.victim.slug + ".example.org"}, {"Forwarded", "host=" + p.victim.slug},
			{"X-Original-URL", "/fhir/" + p.victim.slug + "/Patient"}, {"X-Rewrite-URL", "/fhir/" + p.victim.slug + "/Patient"},
			{"X-HTTP-Method-Override", "DELETE"}, {"X-Forwarded-Prefix", "/fhir/" + p.victim.slug},
		} {
			b := p.bundle(p.want(p.send(p.as("backend", "GET", "/Patient?identifier=mrn|10001").with(h[0], h[1])), 200))
			if len(b.Entry) != 1 || !strings.HasPrefix(b.Entry[0].FullURL, p.attacker.base) {
				p.Errorf("%s: got %d entries", h[0], len(b.Entry))
			}
		}
		p.alert(otherInHeader, 1)
		p.want(p.send(p.as("backend", "GET", "/Patient").with("X-Tenant-Id", p.victim.slug)), 400)
		p.want(p.send(p.as("backend", "GET", "/Patient/p1").with("X-Tenant-Id", p.attacker.slug)), 200)
	})

	// The header names another tenant, so the alert of T004 is due here too. TEN-13
	breakout(t, "T005 a header that names two tenants is refused", func(p *probe) {
		p.alert(otherInHeader, 3)
		p.want(p.send(p.as("backend", "GET", "/Patient").with("X-Tenant-Id", p.attacker.slug, "X-Tenant-Id", p.victim.slug)), 400)
		p.want(p.send(p.as("backend", "GET", "/Patient").with("X-Tenant-Id", p.victim.slug, "X-Tenant-Id", p.attacker.slug)), 400)
		p.want(p.send(p.as("backend", "GET", "/Patient").with("X-Tenant-Id", p.attacker.slug, "X-Tenant-Id", p.attacker.slug)), 400)
	})

	// TEN-27
	breakout(t, "T006 no spelling of a path leads to another tenant", func(p *probe) {
		a, v := p.attacker.slug, p.victim.slug
		tricks := []string{
			"/fhir/" + a + "/../" + v + "/Patient", "/fhir/" + a + "/%2e%2e/" + v + "/Patient", "/fhir/" + a + "/%2e%2e%2f" + v + "/Patient",
			"/fhir/" + a + "/..;/" + v + "/Patient", "/fhir//" + v + "/Patient", "/fhir/" + a + "//../" + v + "/Patient",
			"/fhir/" + a + "%5c..%5c" + v + "/Patient", "/fhir/" + v + "./Patient", "/fhir/" + v + "%20/Patient", "/fhir/" + v + "%00/Patient",
			"/fhir/" + strings.ToUpper(v) + "/Patient", "/fhir/" + strings.ToUpper(v[:1]) + v[1:] + "/Patient", "/fhir/" + fullWidth(v) + "/Patient",
			"/fhir/%61" + v[1:] + "/Patient", "/fhir/" + a + "%2f" + v + "/Patient", "/fhir/" + a + ";" + v + "/Patient",
			"/fhir/" + a + "@" + v + "/Patient", "/" + v + "/Patient", "//fhir/" + v + "/Patient", "/fhir/./" + v + "/Patient",
		}
		for _, trick := range tricks {
			r := p.raw("backend", "GET", trick)
			p.want(r, 400, 403, 404)
		}
		// In a path that is no path of the API there is no tenant that the
		// token could be of.
		p.alert(crossTenant, len(tricks))
	})

	breakout(t, "T008 a connection has no tenant", func(p *probe) {
		one := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}, Timeout: time.Minute}
		defer one.CloseIdleConnections()
		several := sys.http
		sys.http = one
		defer func() { sys.http = several }()
		for i := range often(1000) {
			own := []*party{p.attacker, p.victim}[i%2]
			r := p.want(p.send(p.of(own, "reader", "GET", "/Patient/p1")), 200)
			if !bytes.Contains(r.body, []byte(own.canaries["name"])) {
				p.Fatalf("request %d: not the record of %s", i, own.slug)
			}
		}
	})

	breakout(t, "T009 a request cannot hide in another", func(p *probe) {
		hidden := "GET /fhir/" + p.victim.slug + "/Patient/p1 HTTP/1.1\r\nHost: x\r\n\r\n"
		for name, head := range map[string]string{
			"CL.TE":                   "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
			"TE.CL":                   "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
			"two lengths":             "Content-Length: 0\r\nContent-Length: 5\r\n\r\n",
			"two encodings":           "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
			"an odd encoding":         "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
			"a bare CR in a header":   "X-Odd: a\rTransfer-Encoding: chunked\r\n\r\n",
			"a bare CR before a name": "\rX-Odd: a\r\n\r\n",
			"a space before a colon":  "Content-Length : 4\r\n\r\n",
			"a folded header":         "X-Odd: a\r\n\tTransfer-Encoding: chunked\r\n\r\n",
		} {
			answers := p.wire("backend", "POST", "/fhir/"+p.attacker.slug+"/Patient/_search", head+hidden)
			for i, status := range answers {
				// What is answered behind it is a request of its own, without
				// a token: it is nobody's.
				if i == 0 && status != 400 && status != 501 && status != 415 && status != 200 || i > 0 && status != 401 && status != 400 {
					p.Errorf("%s: the answers are %v", name, answers)
				}
			}
			if len(answers) == 0 {
				p.Errorf("%s: no answer", name)
			}
		}
	})

	breakout(t, "T010 a tenant has one spelling", func(p *probe) {
		a := p.attacker.slug
		for _, other := range []string{strings.ToUpper(a), strings.ToUpper(a[:1]) + a[1:], a + "%00", a + "%20", "%20" + a, a + ".", a + "-", fullWidth(a)} {
			p.alert(crossTenant, 1)
			p.want(p.raw("backend", "GET", "/fhir/"+other+"/Patient/p1"), 403)
			p.want(p.raw("", "GET", "/fhir/"+other+"/metadata"), 401, 404)
			p.want(p.raw("", "GET", "/fhir/"+X0+"/metadata"), 404)
		}
		for _, other := range []string{strings.ToUpper(a), a + " ", a + "\x00", fullWidthText(a), "a", strings.Repeat("a", 64), "pg-temp;", "public", "registry", `"; SET role postgres`} {
			if strings.Contains(other, "\x00") {
				continue // no program can be called with it
			}
			if out, err := sys.Cordon(p.Context(), "tenant", "create", "--mode", "shared", other); err == nil {
				p.Errorf("a tenant %q was made: %s", other, out)
			}
		}
	})

	sys.earnBeforeSuspension(t)
	// TEN-35
	breakout(t, "T012 a suspended tenant is closed to its own tokens", func(p *probe) {
		for _, path := range []string{"/Patient", "/Patient/p1", "/Patient/" + sys.Z9.canaries["id"], "/_history"} {
			p.want(p.send(p.of(sys.Z9, "backend", "GET", path)), 403)
		}
		p.alert(crossTenant, 1)
		elsewhere := p.want(p.send(p.as("backend", "GET", sys.FHIR+"/"+X0+"/Patient")), 403)
		closed := p.send(p.of(sys.Z9, "backend", "GET", "/Patient"))
		p.same("a suspended tenant and one that is not there", elsewhere, closed)
		p.suspended = 5
	})

	breakout(t, "T017 many at once never meet", func(p *probe) {
		p.writes = true
		length := time.Duration(often(2100)) * time.Millisecond
		if testing.Short() {
			length = 300 * time.Millisecond
		}
		until := time.Now().Add(length)
		g, _ := errgroup.WithContext(p.Context())
		for i := range 100 {
			own := []*party{p.attacker, p.victim}[i%2]
			g.Go(func() error {
				for n := 0; time.Now().Before(until); n++ {
					if err := p.meet(own, fmt.Sprintf("meet-%d", i)); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			p.Error(err)
		}
	})
}

// meet reads, searches or writes at random, and fails if what comes back is
// another tenant's. Both tenants use the same ids.
func (p *probe) meet(own *party, id string) error {
	name := own.canaries["name"]
	switch rand.IntN(4) {
	case 0:
		body := fmt.Sprintf(`{"resourceType":"Basic","id":%q,"code":{"text":%q}}`, id, name)
		r, err := p.try(p.of(own, "backend", "PUT", "/Basic/"+id, body))
		if err != nil || r.status != 200 && r.status != 201 || !bytes.Contains(r.body, []byte(name)) {
			return fmt.Errorf("PUT Basic/%s in %s: %v %v", id, own.slug, r, err)
		}
	case 1:
		r, err := p.try(p.of(own, "reader", "GET", "/Patient?identifier=mrn|10001"))
		if err != nil || r.status != 200 || !bytes.Contains(r.body, []byte(name)) {
			return fmt.Errorf("a search in %s: %v %v", own.slug, r, err)
		}
	case 2:
		r, err := p.try(p.of(own, "reader", "GET", "/Patient/p1/_history"))
		if err != nil || r.status != 200 || !bytes.Contains(r.body, []byte(name)) {
			return fmt.Errorf("a history in %s: %v %v", own.slug, r, err)
		}
	default:
		r, err := p.try(p.of(own, "reader", "GET", "/Patient/p1"))
		if err != nil || r.status != 200 || !bytes.Contains(r.body, []byte(name)) {
			return fmt.Errorf("a read in %s: %v %v", own.slug, r, err)
		}
	}
	return nil
}

// fullWidth spells a slug with one letter of full width, escaped.
func fullWidth(s string) string { return "%EF%BD%81" + s[1:] }

func fullWidthText(s string) string { return "ａ" + s[1:] }

// raw sends a path as it is, which no client library would do.
func (p *probe) raw(id, method, path string) *reply {
	p.Helper()
	c := &call{method: method, url: path, header: http.Header{}}
	head := ""
	if id != "" {
		c.actor, c.trail = p.attacker.actors[id], p.attacker
		token, err := c.actor.Token(p.Context())
		if err != nil {
			p.Fatal(err)
		}
		head = "Authorization: Bearer " + token + "\r\n"
	}
	request := "t-" + strconv.FormatInt(requests.Add(1), 10)
	text := method + " " + path + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Request-Id: " + request + "\r\n" + head + "\r\n"
	conn := p.dial()
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		p.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		p.Fatalf("%s %s: %v", method, path, err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.Fatal(err)
	}
	r := &reply{status: resp.StatusCode, header: resp.Header, body: body, id: request}
	p.sent = append(p.sent, sent{id: request, trail: c.trail, status: r.status, what: method + " " + path})
	p.clean(c, r)
	p.wellFormed(c, r)
	return r
}

func (p *probe) dial() net.Conn {
	p.Helper()
	conn, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(sys.FHIR, "http://"), "/fhir"))
	if err != nil {
		p.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	return conn
}

// wire sends the start of a request and then bytes as they are, and returns
// the status of each answer until the connection closes or stays silent.
func (p *probe) wire(id, method, path, rest string) []int {
	p.Helper()
	token, err := p.attacker.actors[id].Token(p.Context())
	if err != nil {
		p.Fatal(err)
	}
	request := "t-" + strconv.FormatInt(requests.Add(1), 10)
	conn := p.dial()
	defer conn.Close()
	io.WriteString(conn, method+" "+path+" HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\nAuthorization: Bearer "+
		token+"\r\nX-Request-Id: "+request+"\r\n"+rest)
	conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	in := bufio.NewReader(conn)
	var statuses []int
	for {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return statuses
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return statuses
		}
		statuses = append(statuses, resp.StatusCode)
		r := &reply{status: resp.StatusCode, header: resp.Header, body: body, id: resp.Header.Get("X-Request-Id")}
		p.clean(&call{actor: p.attacker.actors[id]}, r)
		if r.id == "" {
			continue // net/http itself refused it: nothing of it was read
		}
		whose := p.attacker
		if r.id != request {
			whose = nil
		}
		p.sent = append(p.sent, sent{id: r.id, trail: whose, status: r.status, what: "on the wire"})
	}
}

// earnBeforeSuspension gives the suspended tenant's backend a token that was
// earned while the tenant was served, and has not expired since.
func (s *system) earnBeforeSuspension(t *testing.T) {
	t.Helper()
	if out, err := s.Cordon(t.Context(), "tenant", "resume", s.Z9.slug); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	backend := s.Z9.actors["backend"]
	backend.Forget()
	var err error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if _, err = backend.Token(t.Context()); err == nil {
			break
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if out, err := s.Cordon(t.Context(), "tenant", "suspend", s.Z9.slug); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}
