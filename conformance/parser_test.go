package conformance

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// Group 10 of the breakout suite, as far as it needs a whole program: what
// parsers are given in bad faith. The parsers have tests and fuzz targets of
// their own.
func TestParsers(t *testing.T) {
	once(t, "T213 XML opens nothing and unfolds nothing", func(p *probe) {
		lol := `<!ENTITY a "aaaaaaaaaa">`
		for i, c := range "bcdefghi" {
			lol += `<!ENTITY ` + string(c) + ` "` + strings.Repeat("&"+string(rune('a'+i))+";", 10) + `">`
		}
		patient := func(head, inside string) string {
			return head + `<Patient xmlns="http://hl7.org/fhir">` + inside + `</Patient>`
		}
		for _, body := range []string{
			patient(`<!DOCTYPE Patient [`+lol+`]>`, `<name><family value="&i;"/></name>`),
			patient(`<!DOCTYPE Patient [<!ENTITY x SYSTEM "file:///etc/hostname">]>`, `<name><family value="&x;"/></name>`),
			patient(`<!DOCTYPE Patient SYSTEM "http://127.0.0.1:9/x.dtd">`, ``),
			patient(`<?xml-stylesheet href="http://127.0.0.1:9/x.xsl"?>`, ``),
			patient(``, `<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="file:///etc/hostname"/>`),
			patient(``, strings.Repeat("<contact>", 200_000)),
			patient(``, `<name><family value="x"/></name>`) + `<Patient xmlns="http://hl7.org/fhir"/>`,
			`x` + patient(``, ``), `<Patient/>`, `<Patient xmlns="http://hl7.org/fhir">`,
		} {
			c := p.as("backend", "POST", "/Patient", body)
			c.header.Set("Content-Type", "application/fhir+xml")
			p.want(p.send(c), 400)
		}
	})

	once(t, "T214 a body that unfolds beyond the limit is refused", func(p *probe) {
		bomb := gzipped(t, 256<<20)
		for _, x := range []struct {
			coding string
			body   []byte
			want   int
		}{
			{"gzip", bomb, 413}, {"gzip, gzip", bomb, 415}, {"br", bomb, 415}, {"zstd", bomb, 415}, {"deflate", bomb, 415}, {"gzip", []byte("nothing of the kind"), 400},
		} {
			c := p.as("backend", "POST", "/Patient", string(x.body))
			c.header.Set("Content-Encoding", x.coding)
			p.want(p.send(c), x.want)
		}
	})

	once(t, "T218 an expression that would not end is ended", func(p *probe) {
		for _, expression := range []string{
			"Patient.repeat(children() | $this)", "Patient.descendants().descendants().descendants().descendants()", "Patient.name.where(family.matches('(a+)+$'))",
			"(1|2|3).aggregate($total | $this | $this.toString() + $total.toString(), '')", strings.Repeat("(", 100_000), "Patient.name.family" + strings.Repeat(".toChars()", 500),
		} {
			patch := `{"resourceType":"Parameters","parameter":[{"name":"operation","part":[{"name":"type","valueCode":"delete"},{"name":"path","valueString":"` + expression + `"}]}]}`
			c := p.as("backend", "PATCH", "/Patient/p2", patch)
			c.header.Set("Content-Type", "application/fhir+json")
			c.header.Set("If-Match", `W/"999"`) // whatever it does, it changes nothing
			p.want(p.send(c), 400, 412, 413, 422)
		}
	})

	once(t, "T220 a search asks no more than it may", func(p *probe) {
		for _, query := range []string{
			"/Patient?" + strings.Repeat("_has:Observation:patient:", 1) + strings.Repeat("_has:Observation:patient:", 8) + "code=x",
			"/Observation?subject:Patient." + strings.Repeat("organization:Organization.partof:Organization.", 5) + "name=x",
			"/Patient?_id=" + strings.Repeat("x,", 2000) + "x", "/Patient?" + strings.Repeat("family=x&", 200) + "family=x",
			"/Patient?_sort=" + strings.Repeat("family,", 20) + "family", "/Patient?_count=-1", "/Patient?_offset=1000000000",
		} {
			p.want(p.get("reader", query), 400, 422)
		}
		for _, filter := range []string{
			strings.Repeat("(", 5000) + "family eq x" + strings.Repeat(")", 5000), strings.Repeat("family eq x or ", 1500) + "family eq x", strings.Repeat("not (", 800) + "family eq x" + strings.Repeat(")", 800),
		} {
			p.want(p.send(p.as("reader", "POST", "/Patient/_search", "_filter="+url.QueryEscape(filter))), 400, 422)
		}
		p.want(p.get("reader", "/Patient?family="+strings.Repeat("x", 10_000)), 414)
		p.want(p.get("reader", "/Patient?_count=2147483647&_elements=id"), 200)
	})

	once(t, "T221 T224 what means something to a database means nothing here", func(p *probe) {
		p.alertsOptional("cross-tenant-token") // some paths lead out of the tenant
		for _, text := range []string{
			"%", "_", "%25", `\`, "'", "''", `"`, "';DROP TABLE resource;--", "x' OR '1'='1", "1;SELECT pg_sleep(5)", "$1", "$$x$$", "?", "~resource", "x\x00y", ".*", "(a+)+$", "{{schema}}",
		} {
			v := url.QueryEscape(text)
			for _, query := range []string{
				"/Patient?family=" + v, "/Patient?family:contains=" + v, "/Patient?_content=" + v, "/Patient?_text=" + v, "/Patient?identifier=" + v + "|" + v,
				"/Patient?_id=" + v, "/Patient?_sort=" + v, "/Patient?_elements=" + v, "/Patient?" + v + "=x", "/Patient?family:" + v + "=x", "/Patient?birthdate=" + v,
				"/Patient?_filter=" + url.QueryEscape(`family eq "`+strings.ReplaceAll(text, `"`, `\"`)+`"`), "/Patient?_has:Observation:patient:" + v + "=x", "/Patient?_include=" + v,
				"/Observation?value-quantity=" + v, "/Observation?subject:" + v + ".name=x", "/Location?near=" + v, "/Patient?_lastUpdated=" + v, "/Patient?_list=" + v,
				"/ValueSet/$expand?url=" + v + "&filter=" + v, "/Patient/" + url.PathEscape(text), "/" + url.PathEscape(text) + "/x",
			} {
				r := p.get("reader", query)
				if r.status != 200 && (r.status < 400 || r.status > 422) {
					p.Errorf("%s: %s", query, r)
				}
				if bytes.Contains(r.body, []byte("SQLSTATE")) || bytes.Contains(r.body, []byte("syntax error at")) {
					p.Errorf("%s tells what the database says: %s", query, r)
				}
				if b := strings.Contains(query, "family=") && r.status == 200; b && len(p.bundle(r).Entry) > 0 {
					p.Errorf("%s finds %v", query, p.bundle(r).refs())
				}
			}
		}
	})

	once(t, "T225 a body of gigabytes is refused before it is read", func(p *probe) {
		// It says how long it will be, and would go on for as long.
		token, err := p.attacker.actors["backend"].Token(p.Context())
		if err != nil {
			p.Fatal(err)
		}
		req, err := http.NewRequestWithContext(p.Context(), "POST", p.attacker.base+"/Patient", endless{})
		if err != nil {
			p.Fatal(err)
		}
		req.ContentLength = 2 << 30
		req.Header = http.Header{"Authorization": {"Bearer " + token}, "Content-Type": {"application/fhir+json"}, "X-Request-Id": {"observer-" + p.fresh("large")}}
		resp, err := sys.http.Do(req)
		if err != nil {
			return // it was cut while it was sent, which says the same
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusRequestEntityTooLarge {
			p.Errorf("got %s, want 413", resp.Status)
		}
	})

	once(t, "T228 dates at the ends of time have an answer", func(p *probe) {
		for _, at := range []string{"9999-12-31T23:59:60%2B14:00", "9999-12-31T23:59:59-14:00", "0000", "0001-01-01T00:00:00%2B14:00", "2016-12-31T23:59:60Z", "2020-01-01T24:00:00Z", "9999", "-0001"} {
			for _, query := range []string{"/Patient?birthdate=", "/Patient?birthdate=ap", "/Observation?date=gt", "/Patient?_lastUpdated=lt", "/Patient/_history?_since=", "/Patient/p1/$everything?start="} {
				p.want(p.get("reader", query+at), 200, 400)
			}
		}
	})
}

// endless reads as one long string.
type endless struct{}

func (endless) Read(b []byte) (int, error) { return copy(b, strings.Repeat("[", len(b))), nil }

// gzipped returns n spaces, compressed.
func gzipped(t *testing.T, n int64) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.CopyN(z, spaces{}, n); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

type spaces struct{}

func (spaces) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}
