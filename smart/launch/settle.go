package launch

import (
	"context"
	"time"

	"github.com/cordon-fhir/cordon/smart"
)

// settle waits until what was revoked is refused on every server, so that the
// answer, which comes after it, is true.
func (s *Server) settle(ctx context.Context) {
	select {
	case <-time.After(smart.RevocationDelay):
	case <-ctx.Done(): // nobody waits for the answer
	}
}
