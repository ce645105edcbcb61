package rest

import (
	"fmt"
	"runtime"
	"strings"
)

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

// callers lists the functions that were running when a panic came.
func callers() string {
	pcs := make([]uintptr, 16)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(4, pcs)])
	var b strings.Builder
	for {
		f, more := frames.Next()
		fmt.Fprintf(&b, "%s:%d ", f.Function, f.Line)
		if !more {
			return b.String()
		}
	}
}
