package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/cordon-fhir/cordon/oplog"
)

// An endpoint is an address and what answers there.
type endpoint struct {
	name    string // "FHIR", for people
	listen  net.Listener
	handler http.Handler
	tls     *tls.Config // nil for plain HTTP
}

// listen takes the address, so that one that is in use is known before
// anything is started.
func listen(ctx context.Context, flag, address string) (net.Listener, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("--%s: %w", flag, err)
	}
	return l, nil
}

// A front is what a plane answers by.
type front struct {
	public    publicURL
	tls       *tls.Config // nil for plain HTTP
	main, ops net.Listener
}

// front takes the addresses of a plane with the public URL.
func (f listenFlags) front(ctx context.Context, public, address string) (*front, error) {
	at := &front{}
	var err error
	if at.public, err = parsePublicURL(public); err != nil {
		return nil, err
	}
	if at.tls, err = readTLS(f.TLSCert, f.TLSKey); err != nil {
		return nil, err
	}
	if at.main, err = listen(ctx, "listen", address); err != nil {
		return nil, err
	}
	if at.ops, err = listen(ctx, "ops-listen", f.OpsListen); err != nil {
		at.main.Close()
		return nil, err
	}
	return at, nil
}

func (f *front) close() {
	f.main.Close()
	f.ops.Close()
}

// serve is serve for the plane that the handler answers for.
func (f *front) serve(ctx context.Context, log *oplog.Logger, ops *ops, name string, handler http.Handler) error {
	return serve(ctx, log, ops,
		endpoint{name: name, listen: f.main, handler: handler, tls: f.tls},
		endpoint{name: "ops", listen: f.ops, handler: ops.handler()})
}

// readTLS returns the configuration for a certificate, nil if there is none.
func readTLS(certFile, keyFile string) (*tls.Config, error) {
	if certFile == "" && keyFile == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("reading the TLS certificate: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil
}

// newServer returns an HTTP server that a slow or greedy client cannot hold.
func newServer(e endpoint, log *oplog.Logger) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(e.tls != nil) // never in clear text
	return &http.Server{
		Handler:           e.handler,
		TLSConfig:         e.tls,
		Protocols:         protocols,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       2 * time.Minute, // the largest Bundle on a slow line
		WriteTimeout:      5 * time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          log.HTTP(),
	}
}

// grace is how long running requests may take when the server stops.
const grace = 20 * time.Second

// serve answers at the endpoints until ctx is done or one of them fails. Then
// it takes no more requests and returns when those that run have finished. The
// last endpoint is that of ops.
func serve(ctx context.Context, log *oplog.Logger, ops *ops, endpoints ...endpoint) error {
	failed := make(chan error, len(endpoints))
	var servers []*http.Server
	for _, e := range endpoints {
		srv := newServer(e, log)
		servers = append(servers, srv)
		go func() {
			var err error
			if e.tls != nil {
				err = srv.ServeTLS(e.listen, "", "")
			} else {
				err = srv.Serve(e.listen)
			}
			failed <- fmt.Errorf("serving %s on %s: %w", e.name, e.listen.Addr(), err)
		}()
		log.Info("serving", oplog.Named("endpoint", e.name), oplog.Address(e.listen.Addr().String()), oplog.Is("tls", e.tls != nil))
	}
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
		log.Info("stopping")
	}
	ops.draining()
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
	defer cancel()
	// The ops endpoint comes last: it says all the while that the server is
	// not ready.
	last := len(servers) - 1
	var g errgroup.Group
	for _, srv := range servers[:last] {
		g.Go(func() error { return srv.Shutdown(drain) })
	}
	return errors.Join(err, g.Wait(), servers[last].Shutdown(drain))
}
