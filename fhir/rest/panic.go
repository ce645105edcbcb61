package rest

import (
	"fmt"
	"runtime"

	"github.com/cordon-fhir/cordon/oplog"
)

// recovered is what a deferred function calls with the p that it recovered.
func recovered(p any) *panicked {
	return &panicked{p, oplog.Callers(3)} // of the panic, not of what recovers from it
}

// A panicked is a panic as an error. What it was called with is not in it,
// for that may be a resource.
type panicked struct {
	with   any
	frames string
}

func (p *panicked) Error() string {
	words := fmt.Sprintf("panic with a %T", p.with)
	// What the runtime says of itself holds indexes and types, no data.
	if e, ok := p.with.(runtime.Error); ok {
		words = "panic: " + e.Error()
	}
	return words + " at " + p.frames
}

// Cause is Error, for the operational log.
func (p *panicked) Cause() string { return p.Error() }
