package breakout

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// An Exchange is a request and its answer.
type Exchange struct {
	Method, URL string
	Sent        string // body of the request
	ID          string // X-Request-Id
	Owner       string // slug of the tenant whose token was shown, "" for none
	Actor       string // who showed it

	Status int
	Header http.Header
	Body   []byte
	// Unread says that the server refused it before it was a request: then it
	// has no entry in an audit trail.
	Unread bool
}

// A request is one before it is sent.
type request struct {
	method, url, body string
	header            http.Header
	actor             *actor
	bearer            string // instead of the actor's
	raw               bool   // the path is sent as it is written
	http              *http.Client
}

const (
	maxBody = 64 << 20
	// patience is how often a request that is told to wait is sent again.
	patience = 5
)

// pacer lets requests go at a bounded rate.
type pacer struct {
	mu    sync.Mutex
	every time.Duration
	next  time.Time
}

func (p *pacer) wait(ctx context.Context) error {
	p.mu.Lock()
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	at := p.next
	p.next = p.next.Add(p.every)
	p.mu.Unlock()
	return sleep(ctx, time.Until(at))
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// requestID returns an id that no other request of the run has.
func (s *Suite) requestID() string {
	return "breakout-" + s.run + "-" + strconv.FormatInt(s.requests.Add(1), 10)
}

// do sends the request. If the server asks to wait it waits, and sends it again.
func (s *Suite) do(ctx context.Context, r request) (*Exchange, error) {
	for n := 0; ; n++ {
		if err := s.pace.wait(ctx); err != nil {
			return nil, err
		}
		x, err := s.once(ctx, r)
		if err != nil || x.Status != http.StatusTooManyRequests || n == patience {
			return x, err
		}
		seconds, _ := strconv.Atoi(x.Header.Get("Retry-After"))
		if err := sleep(ctx, time.Duration(min(max(seconds, 1), 60))*time.Second); err != nil {
			return nil, err
		}
	}
}

func (s *Suite) once(ctx context.Context, r request) (*Exchange, error) {
	x := &Exchange{Method: r.method, URL: r.url, Sent: r.body}
	header := r.header.Clone()
	if header == nil {
		header = http.Header{}
	}
	bearer := r.bearer
	if r.actor != nil {
		x.Owner, x.Actor = r.actor.Slug, r.actor.ID
		if bearer == "" {
			var err error
			if bearer, err = r.actor.token(ctx); err != nil {
				return nil, fmt.Errorf("%s of %s gets no token: %w", r.actor.ID, r.actor.Slug, err)
			}
		}
	}
	if bearer != "" {
		header.Set("Authorization", "Bearer "+bearer)
	}
	if x.ID = header.Get("X-Request-Id"); x.ID == "" {
		x.ID = s.requestID()
		header.Set("X-Request-Id", x.ID)
	}
	if r.raw {
		return x, s.wire(ctx, x, header)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, r.url, strings.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	req.Header = header
	client := s.http
	if r.http != nil {
		client = r.http
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	return x, x.read(resp)
}

// read takes the answer.
func (x *Exchange) read(resp *http.Response) (err error) {
	defer resp.Body.Close()
	x.Status, x.Header = resp.StatusCode, resp.Header
	if given := resp.Header.Get("X-Request-Id"); given != "" {
		x.ID = given
	}
	x.Body, err = io.ReadAll(io.LimitReader(resp.Body, maxBody))
	return err
}

// wire sends a request whose path no library would send so.
func (s *Suite) wire(ctx context.Context, x *Exchange, header http.Header) error {
	origin, path, err := split(x.URL)
	if err != nil {
		return err
	}
	conn, err := dial(ctx, origin)
	if err != nil {
		return err
	}
	defer conn.Close()
	var head bytes.Buffer
	fmt.Fprintf(&head, "%s %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n", x.Method, path, origin.Host)
	header.Write(&head)
	head.WriteString("\r\n")
	if _, err := conn.Write(head.Bytes()); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	x.Unread = resp.Header.Get("X-Request-Id") == ""
	return x.read(resp)
}

// split parts a URL into its origin and the rest, which stays as it is written.
func split(text string) (*url.URL, string, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	host, path, _ := strings.Cut(rest, "/")
	origin, err := url.Parse(scheme + "://" + host)
	if err != nil || !ok {
		return nil, "", errors.New("not a URL")
	}
	return origin, "/" + path, nil
}

func dial(ctx context.Context, origin *url.URL) (net.Conn, error) {
	address := origin.Host
	if origin.Port() == "" {
		address = net.JoinHostPort(origin.Hostname(), map[string]string{"http": "80", "https": "443"}[origin.Scheme])
	}
	d := &net.Dialer{Timeout: 10 * time.Second}
	var conn net.Conn
	var err error
	if origin.Scheme == "https" {
		conn, err = (&tls.Dialer{NetDialer: d, Config: &tls.Config{NextProtos: []string{"http/1.1"}}}).DialContext(ctx, "tcp", address)
	} else {
		conn, err = d.DialContext(ctx, "tcp", address)
	}
	if err == nil {
		err = conn.SetDeadline(time.Now().Add(30 * time.Second))
	}
	return conn, err
}

// A bundle is what is looked at of a Bundle.
type bundle struct {
	ResourceType string
	Total        *int
	Link         []struct{ Relation, URL string }
	Entry        []struct {
		FullURL  string
		Resource json.RawMessage
		Response struct{ Status, Location string }
	}
}

func (x *Exchange) bundle() (*bundle, bool) {
	b := new(bundle)
	err := json.Unmarshal(x.Body, b)
	return b, err == nil && x.Status == http.StatusOK && b.ResourceType == "Bundle"
}

func (b *bundle) next() string {
	for _, l := range b.Link {
		if l.Relation == "next" {
			return l.URL
		}
	}
	return ""
}

// refs returns Type/id of the entries.
func (b *bundle) refs() []string {
	all := []string{}
	for _, e := range b.Entry {
		all = append(all, refOf(e.Resource))
	}
	return all
}

// statuses returns the status of each entry of a batch-response.
func (b *bundle) statuses() []string {
	var all []string
	for _, e := range b.Entry {
		code, _, _ := strings.Cut(e.Response.Status, " ")
		all = append(all, code)
	}
	return all
}

// refOf returns Type/id of a resource, "" if it is none.
func refOf(resource []byte) string {
	var r struct{ ResourceType, ID string }
	if json.Unmarshal(resource, &r) != nil || r.ID == "" {
		return ""
	}
	return r.ResourceType + "/" + r.ID
}

// stored are the references of what the answer says was made.
func (x *Exchange) stored() []string {
	var all []string
	note := func(location string) {
		location, _, _ = strings.Cut(location, "/_history/")
		if parts := strings.Split(location, "/"); len(parts) >= 2 {
			all = append(all, strings.Join(parts[len(parts)-2:], "/"))
		}
	}
	if x.Status == http.StatusCreated {
		note(x.Header.Get("Location"))
	}
	if b, ok := x.bundle(); ok && x.Method == http.MethodPost {
		for _, e := range b.Entry {
			if strings.HasPrefix(e.Response.Status, "201") {
				note(e.Response.Location)
			}
		}
	}
	return all
}
