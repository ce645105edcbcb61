package conformance

import (
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	attacks "github.com/cordon-fhir/cordon/breakout"
)

// Whatever the tests before this one did, no canary is found, in whatever form, in a
// dump of any database, in any file of PostgreSQL or the server, in any log, or in
// what is measured.
// KMS-01, OBS-05, AUD-05, AUD-13, T260
func TestTraces(t *testing.T) {
	// Ids are in clear in the tables, and documented: they are no names.
	h := newHunter(append(sys.parties[:len(sys.parties):len(sys.parties)], sys.Z9), "id")
	s := &scan{h, map[string]*scanned{}}
	super, err := sys.asSuperuser(t.Context(), "postgres")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := super.Exec(t.Context(), `CHECKPOINT`); err != nil {
		t.Fatal(err)
	}

	t.Run("no dump of a database holds a canary", func(t *testing.T) {
		dump, err := exec.LookPath("pg_dump")
		if err != nil {
			t.Skip("pg_dump is not installed")
		}
		for _, database := range []string{"cordon", "cordon_registry", sys.D1.database} {
			out, err := exec.CommandContext(t.Context(), dump, strings.Replace(sys.super, "/postgres?", "/"+database+"?", 1)).Output()
			if err != nil || len(out) < 10_000 {
				t.Fatalf("dumping %s: %v, %d bytes", database, err, len(out))
			}
			s.look(t, inDumps, database, out)
			// bytea is written in hex: look into it too.
			s.look(t, inDumps, database+", read from hex", unhex(out))
		}
	})

	t.Run("no file of the server, nor what it measures, holds a canary", func(t *testing.T) {
		if err := s.files(t, sys.Dir); err != nil {
			t.Error(err)
		}
		s.look(t, inMetrics, "/metrics", []byte(sys.metrics(t)))
		s.done(t, inLog, inMetrics, inCheckpoints, inDatabaseLog, inTables, inWAL)
	})

	t.Run("C5 no goroutine was left behind", func(t *testing.T) {
		sys.http.CloseIdleConnections()
		var left int
		for range 50 {
			for line := range strings.Lines(sys.metrics(t)) {
				if n, ok := strings.CutPrefix(line, "go_goroutines "); ok {
					left, _ = strconv.Atoi(strings.TrimSpace(n))
				}
			}
			if left > 0 && left < 100 {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Errorf("%d goroutines run in a server that has nothing to do", left)
	})

	t.Run("what was hunted for is really in the records", func(t *testing.T) {
		p := &probe{T: t, attacker: sys.A1, victim: sys.A2}
		var all []byte
		for _, path := range []string{"/Patient/p1", "/Patient/p2", "/Observation/o1", "/DocumentReference/d1"} {
			all = append(all, p.want(p.get("reader", path), 200).body...)
		}
		found := map[string]bool{}
		for _, w := range h.Find(all) {
			found[w.Place] = true
		}
		for _, place := range attacks.Places {
			if place != "id" && !found[place] {
				t.Errorf("no canary at %s", place)
			}
		}
	})
}

// unhex reads all pairs of hex digits in b that follow each other.
func unhex(b []byte) []byte {
	out := make([]byte, 0, len(b)/2)
	value := func(c byte) int { return strings.IndexByte("0123456789abcdef", c) }
	for i := 0; i+1 < len(b); i++ {
		hi, lo := value(b[i]), value(b[i+1])
		if hi < 0 || lo < 0 {
			continue
		}
		out = append(out, byte(hi<<4|lo))
		i++
	}
	return out
}
