package breakout

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
)

// routing is group 1: which tenant a request is for.
func routing() []Attack {
	return []Attack{
		{ID: "T001", Group: 1, Title: "a token of one tenant is refused by another", Steps: []Step{
			get("backend", "«victim»/Patient/«p1»").want(403).same("tenant").alert(CrossTenant),
			get("backend", "«nowhere»/Patient/«p1»").want(403).same("tenant").alert(CrossTenant),
		}},
		{ID: "T002", Group: 1, Title: "the public document of another tenant says nothing to a token", Steps: []Step{
			get("backend", "«victim»/metadata").want(403).same("tenant").alert(CrossTenant),
			get("backend", "«nowhere»/metadata").want(403).same("tenant").alert(CrossTenant),
		}},
		{ID: "T004", Group: 1, Title: "headers that name another tenant do not lead there", Steps: slices.Concat(
			repeated([][2]string{
				{"X-Forwarded-Host", "«v».example.org"}, {"Forwarded", "host=«v»"}, {"X-Original-URL", "/fhir/«v»/Patient"},
				{"X-Rewrite-URL", "/fhir/«v»/Patient"}, {"X-HTTP-Method-Override", "DELETE"}, {"X-Forwarded-Prefix", "/fhir/«v»"},
			}, func(h [2]string) Step {
				return get("backend", "/Patient?identifier=mrn|«run»-10001").with(h[0], h[1]).want(200).find("Patient/«p1»").show("«attacker»/Patient/", "«a:name»")
			}),
			[]Step{
				get("backend", "/Patient?_id=«p1»").with("X-Tenant-Id", "«v»").want(400).alert(OtherInHeader),
				get("backend", "/Patient/«p1»").with("X-Tenant-Id", "«a»").want(200).show("«a:name»"),
			})},
		{ID: "T005", Group: 1, Title: "a header that names two tenants is refused", Steps: []Step{
			get("backend", "/Patient?_id=«p1»").with("X-Tenant-Id", "«a»", "X-Tenant-Id", "«v»").want(400).alert(OtherInHeader),
			get("backend", "/Patient?_id=«p1»").with("X-Tenant-Id", "«v»", "X-Tenant-Id", "«a»").want(400).alert(OtherInHeader),
			get("backend", "/Patient?_id=«p1»").with("X-Tenant-Id", "«a»", "X-Tenant-Id", "«a»").want(400).alert(OtherInHeader),
		}},
		{ID: "T006", Group: 1, Title: "no spelling of a path leads to another tenant", do: spellings, needs: []string{"backend"}},
		{ID: "T008", Group: 1, Title: "a connection has no tenant", do: oneConnection},
		{ID: "T009", Group: 1, Title: "a request cannot hide in another", do: smuggle, needs: []string{"backend"}},
		{ID: "T010", Group: 1, Title: "a tenant has one spelling", do: oneSpelling, needs: []string{"backend"}},
		{ID: "T017", Group: 1, Title: "many at once never meet", do: meet, needs: []string{"backend", "victim:backend"}, moves: true},
	}
}

// inPath reports whether the slugs are where FHIR bases end, so that paths can be
// spelled in other ways.
func (t *Trial) inPath() bool {
	a, v := t.at["attacker"], t.at["victim"]
	root := strings.TrimSuffix(a.FHIRBase, a.Slug)
	if root == a.FHIRBase || root+v.Slug != v.FHIRBase {
		t.NotRun = "the slugs of the tenants are not where their FHIR bases end"
		return false
	}
	return true
}

func spellings(ctx context.Context, t *Trial) {
	if !t.inPath() {
		return
	}
	origin, prefix, err := split(t.fill("«root»"))
	if err != nil {
		t.NotRun = "the FHIR base is not a URL"
		return
	}
	for _, path := range []string{
		"«/»«a»/../«v»/Patient", "«/»«a»/%2e%2e/«v»/Patient", "«/»«a»/%2e%2e%2f«v»/Patient",
		"«/»«a»/..;/«v»/Patient", "«/»/«v»/Patient", "«/»«a»//../«v»/Patient",
		"«/»«a»%5c..%5c«v»/Patient", "«/»«v»./Patient", "«/»«v»%20/Patient", "«/»«v»%00/Patient",
		"«/»" + strings.ToUpper(t.Victim) + "/Patient", "«/»" + strings.ToUpper(t.Victim[:1]) + t.Victim[1:] + "/Patient", "«/»" + fullWidth(t.Victim) + "/Patient",
		fmt.Sprintf("«/»%%%02x%s/Patient", t.Victim[0], t.Victim[1:]), "«/»«a»%2f«v»/Patient", "«/»«a»;«v»/Patient",
		"«/»«a»@«v»/Patient", "/«v»/Patient", "/«/»«v»/Patient", "«/»./«v»/Patient",
	} {
		path = strings.ReplaceAll(path, "«/»", prefix)
		// In a path that is no path of the API there is no tenant that the token
		// could be of.
		t.take(ctx, raw("backend", origin.String()+path).want(400, 403, 404).alert(CrossTenant))
	}
}

func oneSpelling(ctx context.Context, t *Trial) {
	if !t.inPath() {
		return
	}
	a := t.Attacker
	for _, other := range []string{strings.ToUpper(a), strings.ToUpper(a[:1]) + a[1:], a + "%00", a + "%20", "%20" + a, a + ".", a + "-", fullWidth(a)} {
		t.take(ctx, raw("backend", "«root»"+other+"/Patient/«p1»").want(403).alert(CrossTenant))
		t.take(ctx, raw("", "«root»"+other+"/metadata").want(401, 404))
	}
	t.take(ctx, raw("", "«nowhere»/metadata").want(404))
}

// fullWidth spells a slug with its first letter of full width, escaped.
func fullWidth(s string) string {
	return url.PathEscape(string(rune(s[0])-'a'+'ａ')) + s[1:]
}

// own is a read of the shared patient, which must be the reader's own.
func (t *Trial) own(ctx context.Context, p *party, client *http.Client) bool {
	x := t.send(ctx, request{method: http.MethodGet, url: p.FHIRBase + "/Patient/" + t.suite.id("p1"), actor: p.reader(), http: client})
	if x == nil {
		return false
	}
	if x.Status != http.StatusOK || !bytes.Contains(x.Body, []byte(p.canaries["name"])) {
		t.finding("answer", x, "it is answered %d, and not the own record", x.Status)
		return false
	}
	return true
}

// interleaved is how often two tenants take turns on one connection.
const interleaved = 300

func oneConnection(ctx context.Context, t *Trial) {
	one := &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxConnsPerHost: 1, DisableCompression: true, Proxy: http.ProxyFromEnvironment}}
	defer one.CloseIdleConnections()
	for i := range interleaved * t.suite.opt.Times {
		if !t.own(ctx, []*party{t.at["attacker"], t.at["victim"]}[i%2], one) {
			return
		}
	}
}

// smuggle hides a request in the body of another in all ways that two parsers
// could disagree about.
func smuggle(ctx context.Context, t *Trial) {
	target, err := url.Parse(t.at["victim"].FHIRBase)
	if err != nil {
		t.NotRun = "the FHIR base is not a URL"
		return
	}
	hidden := "GET " + target.Path + "/Patient/" + t.suite.id("p1") + " HTTP/1.1\r\nHost: " + target.Host + "\r\n\r\n"
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
		t.smuggled(ctx, name, head+hidden)
	}
}

// smuggled sends the start of a search of the attacker and then bytes as they
// are. What is answered behind it is a request of its own, without a token: it
// is nobody's.
func (t *Trial) smuggled(ctx context.Context, name, rest string) {
	a := t.at["attacker"].actors["backend"]
	x := &Exchange{Method: http.MethodPost, URL: a.FHIRBase + "/Patient/_search", ID: t.suite.requestID()}
	answers, err := t.suite.onWire(ctx, x, a, rest)
	if err != nil {
		t.finding("answer", x, "%s: %s", name, plain(err))
		return
	}
	if len(answers) == 0 {
		t.finding("answer", x, "%s: there is no answer", name)
	}
	for i, y := range answers {
		if y.ID == x.ID {
			y.Owner, y.Actor = a.Slug, a.Client.ID
		}
		if i == 0 && !slices.Contains([]int{400, 501, 415, 200}, y.Status) || i > 0 && y.Status != 401 && y.Status != 400 {
			t.finding("answer", y, "%s: answer %d is %d", name, i+1, y.Status)
		}
		t.took(y)
	}
}

// onWire returns the answers until the connection closes or stays silent.
func (s *Suite) onWire(ctx context.Context, x *Exchange, a *actor, rest string) (answers []*Exchange, err error) {
	if err := s.pace.wait(ctx); err != nil {
		return nil, err
	}
	bearer, err := a.token(ctx)
	if err != nil {
		return nil, err
	}
	origin, path, err := split(x.URL)
	if err != nil {
		return nil, err
	}
	conn, err := dial(ctx, origin)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	_, err = io.WriteString(conn, x.Method+" "+path+" HTTP/1.1\r\nHost: "+origin.Host+"\r\nContent-Type: application/x-www-form-urlencoded\r\nAuthorization: Bearer "+
		bearer+"\r\nX-Request-Id: "+x.ID+"\r\n"+rest)
	if err != nil {
		return nil, nil // it was closed before all was said
	}
	in := bufio.NewReader(conn)
	for silence := 10 * time.Second; ; silence = 300 * time.Millisecond {
		if err := conn.SetReadDeadline(time.Now().Add(silence)); err != nil {
			return answers, err
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			return answers, nil
		}
		y := &Exchange{Method: x.Method, URL: x.URL, Unread: resp.Header.Get("X-Request-Id") == ""}
		if err := y.read(resp); err != nil {
			return answers, nil
		}
		answers = append(answers, y)
	}
}

const (
	crowd    = 100 // who meet
	meetings = 3   // of each
)

// meet reads, searches and writes at random, as many at once. Both tenants use
// the same ids.
func meet(ctx context.Context, t *Trial) {
	var g errgroup.Group
	for i := range crowd {
		p := []*party{t.at["attacker"], t.at["victim"]}[i%2]
		g.Go(func() error {
			for range meetings * t.suite.opt.Times {
				t.meetOnce(ctx, p, t.suite.id(fmt.Sprintf("meet-%d", i)))
			}
			return nil
		})
	}
	_ = g.Wait() // what went wrong is found
}

func (t *Trial) meetOnce(ctx context.Context, p *party, id string) {
	name := p.canaries["name"]
	r := request{method: http.MethodGet, actor: p.reader()}
	switch rand.IntN(4) {
	case 0:
		r = request{method: http.MethodPut, url: p.FHIRBase + "/Basic/" + id, actor: p.actors["backend"], header: http.Header{"Content-Type": {"application/fhir+json"}},
			body: fmt.Sprintf(`{"resourceType":"Basic","id":%q,"code":{"text":%q}}`, id, name)}
	case 1:
		r.url = p.FHIRBase + "/Patient?identifier=mrn|" + t.suite.run + "-10001"
	case 2:
		r.url = p.FHIRBase + "/Patient/" + t.suite.id("p1") + "/_history"
	default:
		r.url = p.FHIRBase + "/Patient/" + t.suite.id("p1")
	}
	x := t.send(ctx, r)
	if x != nil && (x.Status != http.StatusOK && x.Status != http.StatusCreated || !bytes.Contains(x.Body, []byte(name))) {
		t.finding("answer", x, "it is answered %d, and not what is %s's own", x.Status, p.Slug)
	}
}
