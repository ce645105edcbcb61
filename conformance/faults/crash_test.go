package faults

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/conformance/harness"
)

// F002
func TestCrashingAtTheWorstMomentsLosesNothing(t *testing.T) {
	whole(t)
	bin, err := harness.Build(t.Context(), t.TempDir(), buildFlags("-tags", "crashpoints")...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		sys.server.kill()
		sys.restart(t)
	}()
	for _, point := range []string{"after BEGIN", "before COMMIT", "after COMMIT", "before audit", "after audit"} {
		t.Run(point, func(t *testing.T) {
			n := 5 * *rounds
			l := startLoad(t)
			for i := range n {
				sys.server.kill()
				if sys.server, err = sys.serve(t.Context(), bin, fmt.Sprintf("CORDON_CRASH=%s:%d", point, 5+3*i)); err != nil {
					t.Fatal(err)
				}
				select {
				case <-sys.server.done:
					if sys.server.err == nil || !strings.Contains(sys.server.err.Error(), "killed") {
						t.Fatalf("the server ended with %v\n%s", sys.server.err, sys.server.words())
					}
				case <-time.After(20 * time.Second):
					t.Fatalf("the server does not come to %q", point)
				}
			}
			sys.restart(t)
			l.await(t, 10)
			f := l.check(t)
			if point == "after COMMIT" && f.late == 0 {
				t.Error("no write was done without an answer: the point is not where it should be")
			}
			measured(fmt.Sprintf("F002 crash %s, %d times", point, n), f.String(), zero)
		})
	}
}
