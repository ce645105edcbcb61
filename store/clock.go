package store

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
)

// maxClockOff is by how much the clock of a server may differ from that of the
// registry's database, which all servers share. So two servers differ by twice
// that at most, which bulk exports wait for.
const maxClockOff = 500 * time.Millisecond

// A clock is this server's, as the registry's database sees it.
type clock struct {
	now func() time.Time
	off atomic.Int64 // ns, by which it is at least ahead
}

// saw takes in that it was there o'clock at some moment between sent and received.
func (c *clock) saw(sent, received, there time.Time) {
	var off time.Duration
	switch {
	case there.Before(sent):
		off = sent.Sub(there)
	case there.After(received):
		off = received.Sub(there)
	}
	c.off.Store(int64(off))
}

// wrong returns by how much the clock is at least ahead, if that is too much.
func (c *clock) wrong() (off time.Duration, wrong bool) {
	off = time.Duration(c.off.Load())
	return off, off.Abs() > maxClockOff
}

// check fails while the clock is wrong.
func (c *clock) check() error {
	if _, wrong := c.wrong(); wrong {
		return fhir.Errorf(fhir.Transient, "the clock of this server is not that of the database: nothing is written until it is")
	}
	return nil
}

// CheckClock asks the registry's database for the time. It fails if the clock of
// this server differs by more than half a second: then nothing is written.
func (r *Registry) CheckClock(ctx context.Context) error {
	sent := r.clock.now()
	var there time.Time
	if err := r.pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&there); err != nil {
		return fmt.Errorf("asking for the time: %w", scrubbed(err))
	}
	r.clock.saw(sent, r.clock.now(), there)
	if off, wrong := r.clock.wrong(); wrong {
		return fmt.Errorf("the clock is off by %s", off)
	}
	return nil
}
