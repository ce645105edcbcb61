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

// hangs is how long PostgreSQL hangs, and bound is how long an answer may take
// meanwhile.
const (
	hangs = 15 * time.Second
	bound = 11 * time.Second
)

// F018
func TestAHangingPostgreSQLBoundsEveryAnswer(t *testing.T) {
	whole(t)
	goroutines := sys.gauge(t, "go_goroutines")
	l := startLoad(t)
	l.await(t, 10)
	sys.signalPostgres(t, syscall.SIGSTOP)
	began := time.Now()
	var askers sync.WaitGroup
	var mu sync.Mutex
	statuses := map[int]int{}
	ctx, cancel := context.WithTimeout(t.Context(), hangs)
	defer cancel()
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
				took := time.Since(sent)
				mu.Lock()
				slowest = max(slowest, took)
				if err != nil {
					statuses[0]++
				} else {
					statuses[r.status]++
				}
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
	for _, w := range l.writers {
		slowest = max(slowest, w.slowest)
	}
	if slowest > bound {
		t.Errorf("an answer took %s, want at most %s", slowest, bound)
	}
	for status := range statuses {
		if status != http.StatusServiceUnavailable && status/100 != 2 {
			t.Errorf("an answer was %d", status)
		}
	}
	if recovered > 10*time.Second {
		t.Errorf("the server needed %s after PostgreSQL went on", recovered)
	}
	// What served the requests goes away; the connections of these clients
	// are kept, each with its goroutines.
	web.CloseIdleConnections()
	after := 0.0
	for range 100 {
		if after = sys.gauge(t, "go_goroutines"); after <= goroutines+30 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if after > goroutines+30 {
		t.Errorf("the server has %.0f goroutines and had %.0f before", after, goroutines)
	}
	measured(fmt.Sprintf("F018 SIGSTOP of PostgreSQL for %s", hangs), f.String(), zero)
	measured("F018 the slowest answer meanwhile", fmt.Sprintf("%s; statuses %v; goroutines %.0f, then %.0f; back after %s", slowest.Round(time.Millisecond), statuses, goroutines, after, recovered.Round(time.Millisecond)), bound.String())
}
