package alert

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/outbound"
)

// A Delivery is an alert that a webhook is to be told of.
type Delivery struct {
	Alert   Alert
	Sink    int64
	Attempt int // which this is, from 1
	URL     string
	Secret  []byte
}

// A Queue holds the deliveries. store.Registry is one.
type Queue interface {
	// Claim takes up to max deliveries that are due, for the time of the lease:
	// those of the region's tenants and of no tenant, or all if it is "".
	Claim(ctx context.Context, region string, max int, lease time.Duration) ([]Delivery, error)
	// Delivered notes that it is done, or that it is to be tried again after a
	// time that is not 0.
	Delivered(ctx context.Context, d Delivery, again time.Duration) error
}

// A Sender tells webhooks of alerts, at least once each. What it has not told
// when it dies another tells.
type Sender struct {
	Queue Queue // required
	// Region is where this server runs. It tells of no alerts of tenants of other
	// regions. Default: it tells of all.
	Region string
	// Private are networks, other than the public internet, in which webhooks may
	// be. Default none.
	Private []netip.Prefix
	// Count is told of each message, and whether it was taken. Default: nobody is.
	Count func(delivered bool)
	// Every is how often it looks for what others opened. Default 1s.
	Every time.Duration
	Log   *oplog.Logger
}

const (
	sendTimeout = 10 * time.Second
	sendLease   = time.Minute
	sendAtOnce  = 8
	maxBackoff  = time.Hour
)

// Run sends until ctx is done, and returns when what is on its way has ended.
func (s *Sender) Run(ctx context.Context) {
	if s.Every == 0 {
		s.Every = time.Second
	}
	if s.Count == nil {
		s.Count = func(bool) {}
	}
	for {
		if err := s.turn(ctx); err != nil && ctx.Err() == nil {
			s.Log.Error("sending alerts", oplog.Cause(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(s.Every):
		}
	}
}

// turn sends what is due.
func (s *Sender) turn(ctx context.Context) error {
	list, err := s.Queue.Claim(ctx, s.Region, sendAtOnce, sendLease)
	if err != nil {
		return err
	}
	var all sync.WaitGroup
	for _, d := range list {
		all.Go(func() {
			again := time.Duration(0)
			err := s.send(ctx, d)
			s.Count(err == nil)
			if err != nil {
				again = backoff(d.Attempt)
				s.Log.Warn("telling of an alert", oplog.Number("alert", int(d.Alert.ID)), oplog.Number("attempt", d.Attempt), oplog.Again(again), oplog.Cause(err))
			}
			if err := s.Queue.Delivered(context.WithoutCancel(ctx), d, again); err != nil {
				s.Log.Error("sending alerts", oplog.Cause(err))
			}
		})
	}
	all.Wait()
	return nil
}

// backoff is how long to wait after so many attempts.
func backoff(attempts int) time.Duration {
	return min(maxBackoff, time.Second<<min(attempts, 20))
}

// A message is what a webhook is told: who, when and by which rule. What else is
// known is for those who may use the control API.
type message struct {
	ID     int64  `json:"id"`
	Tenant string `json:"tenant,omitzero"`
	Rule   string `json:"rule"`
	Principal
	Addressed []string  `json:"addressed,omitzero"`
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"`
	Count     int64     `json:"count"`
}

func (s *Sender) send(ctx context.Context, d Delivery) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	a := d.Alert
	body, err := json.Marshal(message{a.ID, a.Tenant, string(a.Rule), a.Principal, a.Addressed, a.First, a.Last, a.Count})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.URL, bytes.NewReader(body))
	if err != nil {
		return errors.New("the URL is malformed")
	}
	now := time.Now()
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Cordon-Signature", "t="+strconv.FormatInt(now.Unix(), 10)+",v1="+Sign(d.Secret, now, body))
	client := outbound.Client(outbound.Config{URL: d.URL, Private: s.Private, Timeout: sendTimeout, Conns: 1})
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, 4<<10) // what it says is of no interest
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

// Sign returns the signature of a message that is sent at the time: the
// HMAC-SHA-256 of the seconds since 1970, a dot and the body, in hex.
func Sign(secret []byte, at time.Time, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%d.", at.Unix())
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}
