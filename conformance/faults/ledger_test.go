package faults

import (
	"encoding/json"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// A ledger is what clients sent and what they were answered, written to disk
// as it happens.
type ledger struct {
	mu       sync.Mutex
	file     *os.File
	attempts []*attempt
}

// An attempt is one request that was sent. Its ID is the X-Request-Id.
type attempt struct {
	ID     string  `json:"id"`
	Tenant string  `json:"tenant"`
	Writes []write `json:"writes,omitempty"` // none: a read
	// Order counts the attempts of one client, which come one after the other.
	Order int `json:"order"`

	// Status is 0 until there is an answer.
	Status int `json:"status,omitempty"`
}

// A write is what an attempt asks to be stored, and what the answer says.
type write struct {
	Verb string `json:"verb"`
	Ref  string `json:"ref,omitempty"` // given by the client, or told by the answer
	Key  string `json:"key,omitempty"` // of a conditional create
	Mark string `json:"mark,omitempty"`
	// Version is told by the answer; 0 if it is not.
	Version int `json:"version,omitempty"`
}

// answered reports whether the attempt was answered as done.
func (a *attempt) answered() bool { return a.Status >= 200 && a.Status < 300 }

// refused reports whether the answer says that nothing was done.
func (a *attempt) refused() bool { return a.Status >= 400 && a.Status < 500 }

func newLedger(t *testing.T) *ledger {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "ledger.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &ledger{file: f}
}

// sent notes an attempt before it is made.
func (l *ledger) sent(a *attempt) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.attempts = append(l.attempts, a)
	return l.write("sent", a)
}

// settled notes how an attempt ended. Without a status nobody knows.
func (l *ledger) settled(a *attempt, status int, writes []write) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	a.Status = status
	if writes != nil {
		a.Writes = writes
	}
	what := "answered"
	if status == 0 {
		what = "unknown"
	}
	return l.write(what, a)
}

func (l *ledger) write(what string, a *attempt) error {
	if err := json.NewEncoder(l.file).Encode(map[string]any{what: a}); err != nil {
		return err
	}
	return l.file.Sync()
}

// count returns how many attempts ended in which way.
func (l *ledger) count() (answered, refused, unknown int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.attempts {
		switch {
		case a.answered():
			answered++
		case a.refused():
			refused++
		default:
			unknown++
		}
	}
	return answered, refused, unknown
}
