package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// F016
func TestKillingPostgreSQLLosesNothing(t *testing.T) {
	whole(t)
	l := startLoad(t)
	var recovery times
	n := 5 * *rounds
	for range n {
		l.await(t, 10)
		time.Sleep(rand.N(400 * time.Millisecond))
		began := time.Now()
		sys.signalPostgres(t, syscall.SIGKILL)
		sys.restartPostgres(t)
		answersAgain(t, sys.tenants[0])
		recovery = append(recovery, time.Since(began))
	}
	l.await(t, 10)
	f := l.check(t)
	measured(fmt.Sprintf("F016 kill -9 of all of PostgreSQL, %d times", n), f.String(), zero)
	measured("F016 from kill -9 to the first write", recovery.String(), "max 10s")
}

// F017
func TestKillingOneBackendLosesNothing(t *testing.T) {
	whole(t)
	l := startLoad(t)
	var recovery times
	n := 3 * *rounds
	for range n {
		l.await(t, 10)
		pid := 0
		err := sys.asSuperuser(t.Context(), "postgres", func(c *pgx.Conn) error {
			return c.QueryRow(t.Context(), `SELECT pid FROM pg_stat_activity WHERE usename = 'cordon_app' ORDER BY random() LIMIT 1`).Scan(&pid)
		})
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		answersAgain(t, sys.tenants[0])
		recovery = append(recovery, time.Since(began))
	}
	l.await(t, 10)
	f := l.check(t)
	measured(fmt.Sprintf("F017 kill -9 of one backend, %d times", n), f.String(), zero)
	measured("F017 from kill -9 to the first write", recovery.String(), "max 10s")
}

// hangs is how long PostgreSQL hangs. What comes meanwhile waits for a
// connection, and then for its entry in the audit trail; what had a connection
// waits for the minute that a request may take, for nobody can tell a database
// that hangs from one that works hard.
const hangs = 15 * time.Second

// F018
func TestAHangingPostgreSQLBoundsEveryAnswer(t *testing.T) {
	whole(t)
	goroutines := sys.gauge(t, "go_goroutines")
	l := startLoad(t)
	l.await(t, 10)
	sys.signalPostgres(t, syscall.SIGSTOP)
	began := time.Now()
	time.Sleep(100 * time.Millisecond)
	ctx, cancel := context.WithDeadline(t.Context(), began.Add(hangs))
	defer cancel()
	var askers sync.WaitGroup
	var mu sync.Mutex
	var got statuses
	var slowest time.Duration
	for i := range 60 { // many more than there are connections
		askers.Go(func() {
			p := sys.tenants[i%len(sys.tenants)]
			for ctx.Err() == nil {
				sent := time.Now()
				method, path, body := http.MethodGet, "Basic?_count=1", ""
				if i%2 == 0 {
					method, path, body = http.MethodPost, "Basic", compact(record("", "", fmt.Sprintf("hang-%d", rand.Uint64()), ""))
				}
				r, err := p.backend.do(t.Context(), method, path, body)
				if err != nil {
					t.Errorf("%s %s: %v", method, path, err)
					return
				}
				got.add(r.status)
				mu.Lock()
				slowest = max(slowest, time.Since(sent))
				mu.Unlock()
			}
		})
	}
	time.Sleep(time.Until(began.Add(hangs)))
	sys.signalPostgres(t, syscall.SIGCONT)
	recovered := answersAgain(t, sys.tenants[0])
	askers.Wait()
	l.await(t, 10)
	f := l.check(t)
	if slowest > hangs+20*time.Second {
		t.Errorf("an answer took %s", slowest)
	}
	for status := range got.n {
		if status != http.StatusServiceUnavailable && status != http.StatusTooManyRequests && status/100 != 2 {
			t.Errorf("answers were %s", &got)
		}
	}
	if recovered > 10*time.Second {
		t.Errorf("the server needed %s after PostgreSQL went on", recovered)
	}
	var before time.Duration
	for _, w := range l.writers {
		before = max(before, w.slowest)
	}
	measured(fmt.Sprintf("F018 SIGSTOP of PostgreSQL for %s", hangs), f.String(), zero)
	measured("F018 answers meanwhile", fmt.Sprintf("%s; the slowest after %s; of those on their way before, after %s", &got, slowest.Round(time.Millisecond), before.Round(time.Millisecond)), "10s, or when PostgreSQL goes on")
	measured("F018 goroutines", fmt.Sprintf("%.0f before, %.0f after; first write %s after SIGCONT", goroutines, settle(t, goroutines), recovered.Round(time.Millisecond)), "none left")
}

// settle returns how many goroutines the server has when what served the
// requests has gone, which must be about as many as before.
func settle(t *testing.T, before float64) (after float64) {
	t.Helper()
	web.CloseIdleConnections()
	for range 100 {
		if after = sys.gauge(t, "go_goroutines"); after <= before+10 {
			return after
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("the server has %.0f goroutines and had %.0f before", after, before)
	return after
}
