//go:build crashpoints

package gate

import (
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// left counts down to the crash.
var left atomic.Int64

// where is the point at which to crash, "" for none. CORDON_CRASH names it, and
// how many times it is passed before: "before COMMIT:3".
var where = func() crashPoint {
	at, n, _ := strings.Cut(os.Getenv("CORDON_CRASH"), ":")
	times, err := strconv.ParseInt(n, 10, 64)
	if err != nil {
		return ""
	}
	left.Store(times)
	return crashPoint(at)
}()

// crash ends the program at once, as kill -9 does, if its time has come.
func crash(at crashPoint) {
	if at != where || left.Add(-1) >= 0 {
		return
	}
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // until the signal has arrived
}
