package rest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/cordon-fhir/cordon/fhir/terminology"
	"github.com/cordon-fhir/cordon/store"
)

// errands are the questions of one request to a terminology server. Each is
// asked once, and none while a connection to the database is held: then it is
// noted, the work is given up, and done again when there are answers.
type errands struct {
	to   terminology.Elsewhere
	away away

	mu      sync.Mutex
	known   map[string]reply
	held    bool // a connection may be
	waiting map[string]func(context.Context) reply
}

// away does work of a request that waits for others than the database.
type away func(ctx context.Context, work func()) error

// A reply is what was answered.
type reply struct {
	answer terminology.Answer
	list   []terminology.Contains
	err    error
}

// errLater says that a question is to be asked later.
var errLater = errors.New("rest: this is asked when no connection is held")

// Has implements terminology.Elsewhere.
func (e *errands) Has(ctx context.Context, p terminology.Part, c terminology.Coding) (terminology.Answer, error) {
	r := e.ask(ctx, fmt.Sprintf("has %q %q %q %q", p, c.System, c.Version, c.Code), func(ctx context.Context) (r reply) {
		r.answer, r.err = e.to.Has(ctx, p, c)
		return r
	})
	return r.answer, r.err
}

// List implements terminology.Elsewhere.
func (e *errands) List(ctx context.Context, p terminology.Part) ([]terminology.Contains, error) {
	r := e.ask(ctx, fmt.Sprintf("list %q", p), func(ctx context.Context) (r reply) {
		r.list, r.err = e.to.List(ctx, p)
		return r
	})
	return r.list, r.err
}

func (e *errands) ask(ctx context.Context, key string, question func(context.Context) reply) reply {
	e.mu.Lock()
	defer e.mu.Unlock()
	if r, ok := e.known[key]; ok {
		return r
	}
	if e.held {
		if e.waiting == nil {
			e.waiting = map[string]func(context.Context) reply{}
		}
		e.waiting[key] = question
		return reply{err: errLater}
	}
	return e.learn(ctx, key, question)
}

func (e *errands) learn(ctx context.Context, key string, question func(context.Context) reply) reply {
	var r reply
	if err := e.away(ctx, func() { r = question(ctx) }); err != nil {
		return reply{err: err}
	}
	if e.known == nil {
		e.known = map[string]reply{}
	}
	if ctx.Err() == nil { // else it is no answer but the end of the request
		e.known[key] = r
	}
	return r
}

// run asks what waits.
func (e *errands) run(ctx context.Context) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for key, question := range e.waiting {
		e.learn(ctx, key, question)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// holding does work that may hold a connection. What it had to ask it asks
// before it is done again, whatever came of it.
func (e *errands) holding(work func() error) error {
	if e == nil {
		return work()
	}
	e.hold(true)
	err := work()
	if e.hold(false) > 0 {
		return &store.Waiting{For: e.run}
	}
	return err
}

// hold says whether a connection may be held, and returns how many questions
// wait. Those from before it forgets.
func (e *errands) hold(held bool) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.held = held; held {
		e.waiting = nil
	}
	return len(e.waiting)
}

// viewing is fn, holding a connection.
func (e *errands) viewing(fn func(*store.View) error) func(*store.View) error {
	return func(v *store.View) error { return e.holding(func() error { return fn(v) }) }
}

// writing is fn, holding a connection.
func (e *errands) writing(fn func(*store.Tx) error) func(*store.Tx) error {
	return func(tx *store.Tx) error { return e.holding(func() error { return fn(tx) }) }
}
