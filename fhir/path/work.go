package path

import "context"

// A Work bounds what many evaluations, and what is done around them, take
// together. Only one goroutine at a time may use it. It counts steps and looks
// at no clock, so that what is refused is refused on every machine.
type Work struct {
	ctx  context.Context
	left int
}

// NewWork returns a Work of so many steps. It ends early if ctx does.
func NewWork(ctx context.Context, steps int) *Work { return &Work{ctx, steps} }

// Do counts n steps, of which each takes a quarter of a microsecond at most. It reports
// false if there are none left, for ever after.
func (w *Work) Do(n int) bool {
	if w.left < 0 {
		return false
	}
	before := w.left
	w.left -= n
	if before/checkEvery != w.left/checkEvery && w.ctx.Err() != nil {
		w.left = -1
	}
	return w.left >= 0
}

// Left returns how many steps there are left.
func (w *Work) Left() int { return max(w.left, 0) }
