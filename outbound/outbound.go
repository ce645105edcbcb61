// Package outbound makes HTTP clients that go to the server that somebody chose,
// and nowhere else.
package outbound

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// Config says where a client goes.
type Config struct {
	// URL is that of the server. It is https, unless the server is within Private.
	URL string
	// Private are networks that are reached although they are not of the public
	// internet. Default none: nobody who chooses a URL can reach what is behind
	// the operator's walls.
	Private []netip.Prefix
	// Timeout bounds each step of a request: connecting, the handshake, and the
	// wait for an answer. Required.
	Timeout time.Duration
	// Conns bounds the connections. Required.
	Conns int
	// MaxAnswer cuts off what is longer of a body, in bytes. Default: nothing is.
	MaxAnswer int64
}

// Client returns a client that goes to the server and nowhere else: not by
// redirects, not by proxies, and not to addresses behind the operator's walls
// unless they are named.
func Client(cfg Config) *http.Client {
	d := &net.Dialer{Timeout: cfg.Timeout, Control: func(_, address string, _ syscall.RawConn) error {
		// By now names are resolved, so that what is looked at is where the
		// connection goes.
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("outbound: %w", err)
		}
		return admit(to.Addr(), strings.HasPrefix(cfg.URL, "https://"), cfg.Private)
	}}
	var wire http.RoundTripper = &http.Transport{
		DialContext: d.DialContext, TLSHandshakeTimeout: cfg.Timeout, ResponseHeaderTimeout: cfg.Timeout,
		MaxConnsPerHost: cfg.Conns, MaxIdleConns: cfg.Conns, IdleConnTimeout: time.Minute,
		MaxResponseHeaderBytes: 64 << 10, ForceAttemptHTTP2: true,
	}
	if cfg.MaxAnswer > 0 {
		wire = bounded{wire, cfg.MaxAnswer}
	}
	return &http.Client{
		Transport:     wire,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// bounded cuts answers off that are too long.
type bounded struct {
	http.RoundTripper
	most int64
}

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, b.most), resp.Body}
	}
	return resp, err
}

// CloseIdleConnections lets http.Client close those of the wire.
func (b bounded) CloseIdleConnections() {
	if w, ok := b.RoundTripper.(*http.Transport); ok {
		w.CloseIdleConnections()
	}
}

// SameScheme reports whether text is a URL as safe as the one of the server that
// named it: who is known by https sends nobody anywhere else.
func SameScheme(text, server string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && u.User == nil && strings.HasPrefix(server, u.Scheme+"://")
}

// admit returns an error for an address that may not be reached.
func admit(to netip.Addr, secure bool, private []netip.Prefix) error {
	to = to.Unmap()
	for _, p := range private {
		if p.Contains(to) {
			return nil
		}
	}
	if !public(to) {
		return errors.New("outbound: the address is not one of the public internet")
	}
	if !secure {
		return errors.New("outbound: a server of the public internet is reached by https only")
	}
	return nil
}

// notPublic are networks that netip has no word for.
// https://www.iana.org/assignments/iana-ipv4-special-registry
// https://www.iana.org/assignments/iana-ipv6-special-registry
var notPublic = prefixes(
	"0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24",
	"203.0.113.0/24", "240.0.0.0/4",
	"64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fec0::/10",
)

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, p := range list {
		out[i] = netip.MustParsePrefix(p)
	}
	return out
}

func public(a netip.Addr) bool {
	if !a.IsGlobalUnicast() || a.IsPrivate() {
		return false
	}
	for _, p := range notPublic {
		if p.Contains(a) {
			return false
		}
	}
	return true
}
