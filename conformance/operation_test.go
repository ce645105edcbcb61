package conformance

import (
	"strings"
	"testing"
	"time"
)

// Group 6 of the breakout suite, and of group 8 what is refused at once.
func TestOperations(t *testing.T) {
	outside(t, 6)
	outside(t, 8)
}

// later asks for an answer that comes later, waits for it, and returns where it is.
func (p *probe) later(who, ask string) string {
	p.Helper()
	r := p.want(p.send(p.as(who, "GET", ask).with("Prefer", "respond-async")), 202)
	path, ok := strings.CutPrefix(r.header.Get("Content-Location"), p.attacker.base)
	if !ok {
		p.Fatalf("Content-Location %s", r.header.Get("Content-Location"))
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if r := p.get(who, path); r.status == 200 {
			return path
		} else if p.want(r, 202); time.Now().After(end) {
			p.Fatal("there is no answer")
		}
	}
}
