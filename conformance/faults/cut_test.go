package faults

import (
	"fmt"
	"testing"
	"time"
)

// trail is a part of the statement that writes the audit trail, which is the
// last of every transaction.
const trail = ".audit (tenant_id, seq"

// F019
func TestACommitWhoseAnswerIsCutHappensOnce(t *testing.T) {
	whole(t)
	for _, tt := range []struct {
		name string
		cut  cut
	}{
		{"F019 writes: connection cut after COMMIT, before its answer", cut{user: "cordon_app", sql: trail, after: true}},
		{"F020 writes: connection cut within the last message of a transaction", cut{user: "cordon_app", sql: trail}},
		{"F020 writes: connection cut when resources are locked", cut{user: "cordon_app", sql: "FOR    UPDATE"}},
		{"F019 reads: connection of the audit trail cut after its commit", cut{user: "cordon_audit", sql: trail, after: true}},
		{"F020 reads: connection of the audit trail cut before its commit", cut{user: "cordon_audit", sql: trail}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := startLoad(t)
			l.await(t, 10)
			n := 10 * *rounds
			sys.wire.arm(&tt.cut, n)
			for began := time.Now(); sys.wire.pending(&tt.cut) > 0 && time.Since(began) < 20*time.Second; {
				time.Sleep(10 * time.Millisecond)
			}
			hits := sys.wire.disarm(&tt.cut)
			if hits < n {
				t.Errorf("cut %d times, want %d", hits, n)
			}
			l.await(t, 10)
			f := l.check(t)
			if tt.cut.after && tt.cut.user == "cordon_app" && f.late == 0 {
				t.Error("no write was done without an answer: nothing was cut in time")
			}
			measured(fmt.Sprintf("%s, %d times", tt.name, hits), f.String(), zero)
		})
	}
}
