package smart

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/tenant"
)

// A revocationRecord answers as it is told.
type revocationRecord struct {
	list []Revoked
	err  error
	read int
}

func (r *revocationRecord) RevokedSince(context.Context, int64) ([]Revoked, int64, error) {
	r.read++
	return r.list, int64(r.read), r.err
}

// T034: what was revoked is refused when the lease is over, what has no session
// by its own name only; and who cannot read the record lets nothing through.
func TestARevocationHoldsOnceTheLeaseIsOver(t *testing.T) {
	at := time.Now()
	record := &revocationRecord{}
	r := newRevoked(record, func() time.Time { return at })
	tn := &tenant.Tenant{}
	holds := func(tok Token) bool {
		t.Helper()
		void, err := r.holds(t.Context(), tn, tok)
		if err != nil {
			t.Fatal(err)
		}
		return void
	}
	user, service := Token{ID: "j1", Session: "s1"}, Token{ID: "j2"}
	if holds(user) || holds(service) || record.read != 1 {
		t.Fatalf("nothing is revoked, and read %d times", record.read)
	}
	record.list = []Revoked{{ID: "s1", Expires: at.Add(time.Hour)}, {ID: "", Expires: at.Add(time.Hour)}}
	at = at.Add(RevocationDelay)
	if !holds(user) || holds(service) || holds(Token{ID: "s2", Session: "s2"}) {
		t.Error("what was revoked and what is refused differ")
	}
	record.list, record.err = nil, errors.New("no record")
	if !holds(user) {
		t.Error("within the lease it is forgotten")
	}
	at = at.Add(RevocationDelay)
	if void, err := r.holds(t.Context(), tn, service); err == nil || !void {
		t.Errorf("without the record: %t, %v", void, err)
	}
	record.err = nil
	if !holds(user) {
		t.Error("it is forgotten by the next reading")
	}
}
