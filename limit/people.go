package limit

import (
	"fmt"
	"sync"
	"time"
)

// A person is what is counted of one who asks.
type person struct {
	requests, cost bucket
	slowUntil      time.Time

	refused int64 // the second of the last refusal that was reported
	unsaid  int   // refusals since
}

// A Report says how a refusal is to be audited. Of each who is refused one
// refusal per second is written, with how many others came before it: a flood
// neither fills the trail nor leaves it.
type Report struct {
	Write  bool
	Unsaid int // refusals before this one of which nothing was written
}

// String is what the audit trail says of it.
func (r Report) String() string {
	if r.Unsaid == 0 {
		return "too many requests"
	}
	return fmt.Sprintf("too many requests; %d refused before, each without an entry", r.Unsaid)
}

// one counts a request against a rate.
func (p *person) one(now time.Time, rate int) (time.Duration, Report) {
	if wait := p.requests.wait(now, rate); wait > 0 {
		return wait, p.refuse(now)
	}
	p.requests.take(1)
	return 0, Report{}
}

func (p *person) refuse(now time.Time) Report {
	if second := now.Unix(); p.refused != second {
		r := Report{Write: true, Unsaid: p.unsaid}
		p.refused, p.unsaid = second, 0
		return r
	}
	p.unsaid++
	return Report{}
}

// people are those who asked of late. When there are too many, those who asked
// least of late are forgotten.
type people[K comparable] struct {
	max int

	mu         sync.Mutex
	fresh, old map[K]*person
	turned     time.Time
	owing      map[K]*person // of whom refusals were not written
}

func newPeople[K comparable](max int) *people[K] {
	return &people[K]{max: max, fresh: map[K]*person{}, old: map[K]*person{}, owing: map[K]*person{}}
}

// with runs fn with what is counted of k, and all of p is held meanwhile.
func (p *people[K]) with(k K, now time.Time, fn func(*person)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	one := p.fresh[k]
	if one == nil {
		if len(p.fresh) >= p.max/2 || now.Sub(p.turned) > idle {
			p.fresh, p.old, p.turned = map[K]*person{}, p.fresh, now
		}
		if one = p.old[k]; one == nil {
			one = &person{}
		}
		delete(p.old, k)
		p.fresh[k] = one
	}
	fn(one)
	if one.unsaid > 0 && len(p.owing) < p.max {
		p.owing[k] = one
	}
}

// takeUnsaid calls fn for each of whom refusals of past seconds were not written.
func (p *people[K]) takeUnsaid(now time.Time, fn func(K, int)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k, one := range p.owing {
		if one.refused == now.Unix() {
			continue
		}
		delete(p.owing, k)
		if one.unsaid > 0 {
			fn(k, one.unsaid)
			one.unsaid = 0
		}
	}
}
