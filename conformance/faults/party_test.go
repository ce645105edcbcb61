package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/jackc/pgx/v5"

	"github.com/cordon-fhir/cordon/conformance/harness"
	"github.com/cordon-fhir/cordon/smart/backend"
)

// A party is a tenant and two of its clients.
type party struct {
	sys              *system
	slug, mode       string
	number           int32
	database, schema string
	backend, auditor client
}

// place asks the registry where the rows of the tenant are.
func (p *party) place(ctx context.Context) error {
	return p.sys.asSuperuser(ctx, "cordon_registry", func(c *pgx.Conn) (err error) {
		p.number, p.database, p.schema, err = harness.PlaceOf(ctx, c, p.slug)
		return err
	})
}

// web is how clients speak to the server. No request waits longer than this
// for its answer.
var web = &http.Client{
	Timeout:   40 * time.Second,
	Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true},
}

// A client is a registered client of a tenant, who earns tokens when needed.
type client struct {
	*party
	backend.Service
}

func (c *client) register(p *party, id, scope, keyFile string) error {
	text, err := os.ReadFile(keyFile)
	if err != nil {
		return err
	}
	c.party, c.TokenURL = p, "http://"+p.sys.listen+"/auth/"+p.slug+"/token"
	c.Client, c.Scope, c.Key, c.HTTP = id, scope, new(jose.JSONWebKey), web
	return json.Unmarshal(text, c.Key)
}

// A reply is an answer that arrived as a whole.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// do sends a request below the tenant's base. path "" is the base; one that
// begins with http is taken as it is. headers are names and values.
func (c *client) do(ctx context.Context, method, path, body string, headers ...string) (*reply, error) {
	token, err := c.Token(ctx)
	if err != nil {
		return nil, err
	}
	target := path
	if !strings.HasPrefix(path, "http") {
		target = strings.TrimSuffix("http://"+c.sys.listen+"/fhir/"+c.slug+"/"+path, "/")
	}
	req, err := http.NewRequestWithContext(ctx, method, target, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		req.Header.Set("Content-Type", "application/fhir+json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := web.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if n := resp.Header.Get("Content-Length"); method != http.MethodHead && n != "" && n != fmt.Sprint(len(text)) {
		return nil, fmt.Errorf("an answer of %s bytes came with %d", n, len(text))
	}
	return &reply{resp.StatusCode, resp.Header, text}, nil
}

// pages gives fn every page of a search or history. It tries again when it is
// told to: connections may just have been cut.
func (c *client) pages(ctx context.Context, path string, fn func([]byte) error) error {
	for tries := 1; path != ""; tries++ {
		r, err := c.do(ctx, http.MethodGet, path, "")
		if err != nil {
			return err
		}
		if r.status == http.StatusServiceUnavailable && tries < 50 {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		if r.status != http.StatusOK {
			return fmt.Errorf("GET %s: %d %.300s", path, r.status, r.body)
		}
		var page struct {
			Link []struct{ Relation, URL string }
		}
		if err := json.Unmarshal(r.body, &page); err != nil {
			return err
		}
		if err := fn(r.body); err != nil {
			return err
		}
		path = ""
		for _, l := range page.Link {
			if l.Relation == "next" {
				path = l.URL
			}
		}
	}
	return nil
}

// compact writes v as JSON; what is given here always can be.
func compact(v any) string {
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(v); err != nil {
		panic(err)
	}
	return strings.TrimSpace(b.String())
}
