package limit

import (
	"math"
	"time"
)

// burst is for how many seconds' worth a bucket has room: what an ordinary
// client asks comes in bursts.
const burst = 30

// A bucket is a token bucket. It is full when it is used for the first time.
// https://www.rfc-editor.org/rfc/rfc2697#section-3
type bucket struct {
	left float64
	at   time.Time // when that was so
}

// wait fills in what has come since, at rate per second, and returns how long
// it takes until there is room for one.
func (b *bucket) wait(now time.Time, rate int) time.Duration {
	room := float64(rate) * burst
	switch since := now.Sub(b.at).Seconds(); {
	case b.at.IsZero():
		b.left, b.at = room, now
	case since > 0:
		b.left, b.at = b.left+since*float64(rate), now
	}
	b.left = min(b.left, room)
	if b.left >= 1 {
		return 0
	}
	return time.Duration(math.Ceil((1 - b.left) / float64(rate) * float64(time.Second)))
}

// take takes n, which may be more than there is.
func (b *bucket) take(n int) { b.left -= float64(n) }
