package audit

import (
	"crypto/rand"
	"encoding/binary"
	"sync/atomic"
	"time"
)

// A Trail follows one HTTP request, or one entry of a Bundle, to its place in
// the audit trail. It says whether the entry has been written, so that there
// is exactly one.
type Trail struct {
	Seq     int64 // of the entry
	Parent  int64 // of the Bundle's entry; 0 for a request
	Written bool  // the entry is durable
	Late    bool  // it waited in vain for as long as one may

	Shown *Shown // collects what the request shows, if its answer is kept
}

// NewTrail begins the trail of a request.
func NewTrail() *Trail { return &Trail{Seq: NextSeq()} }

// Entry begins the trail of an entry of the Bundle that t follows.
func (t *Trail) Entry() *Trail { return &Trail{Seq: NextSeq(), Parent: t.Seq, Shown: t.Shown} }

// lastSeq is the number that NextSeq gave last; node tells processes apart.
var (
	lastSeq atomic.Int64
	node    = func() int64 {
		var b [2]byte
		rand.Read(b[:])
		return int64(binary.BigEndian.Uint16(b[:]) & (1<<nodeBits - 1))
	}()
)

const nodeBits = 10

// NextSeq returns a number that is greater than any it gave before, follows
// the clock and differs from those of other processes: microseconds since
// 2020, then bits that name the process.
func NextSeq() int64 {
	for {
		now := time.Now().UnixMicro() - 1577836800e6
		prev := lastSeq.Load()
		next := max(now, prev+1)
		if lastSeq.CompareAndSwap(prev, next) {
			return next<<nodeBits | node
		}
	}
}

// SeqAt returns the least number that NextSeq gives at t.
func SeqAt(t time.Time) int64 { return (t.UnixMicro() - 1577836800e6) << nodeBits }
