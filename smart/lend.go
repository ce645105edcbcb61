package smart

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/keys"
	"github.com/cordon-fhir/cordon/tenant"
)

// A loan is a Grant that whoever has its text may use for one thing, for a while.
// https://www.w3.org/TR/capability-urls/
type loan struct {
	Grant []byte `json:"grant"` // as Keep returns it
	Until int64  `json:"until"` // in seconds since 1970
}

func loanPlace(t *tenant.Tenant, what string) []byte {
	return fmt.Appendf(nil, "loan|%s|%s", t.ID, what)
}

// Lend returns a text by which anybody may do as g might, what the caller calls so and nothing
// else, until the time. Nobody can guess it.
func (v *Verifier) Lend(ctx context.Context, g *Grant, what string, until time.Time) (string, error) {
	kept, err := v.Keep(ctx, g)
	if err != nil {
		return "", err
	}
	set, err := v.cfg.Keys.Of(ctx, g.tenant.ID)
	if err != nil {
		return "", err
	}
	plain, err := json.Marshal(loan{kept, until.Unix()})
	if err != nil {
		return "", fmt.Errorf("lending a grant: %w", err)
	}
	sealed, err := set.Seal(nil, keys.Cursor, plain, loanPlace(g.tenant, what))
	return base64.RawURLEncoding.EncodeToString(sealed), err
}

// Borrow earns the Grant that was lent again, for what it was lent for, as Resume
// does. The error is the same whatever is wrong with the text.
func (v *Verifier) Borrow(ctx context.Context, slug, what, text string, o audit.Origin) (*Grant, error) {
	tn, err := v.cfg.Tenants.Tenant(ctx, slug)
	if errors.Is(err, tenant.ErrUnknown) {
		return nil, badToken()
	}
	if err != nil {
		return nil, fmt.Errorf("looking up the tenant of a grant: %w", err)
	}
	set, err := v.cfg.Keys.Of(ctx, tn.ID)
	if err != nil {
		return nil, err
	}
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return nil, badToken()
	}
	var l loan
	plain, err := set.Open(keys.Cursor, sealed, loanPlace(tn, what))
	if err != nil || json.Unmarshal(plain, &l) != nil || v.cfg.Now().Unix() >= l.Until {
		return nil, badToken()
	}
	return v.Resume(ctx, tn, l.Grant, o)
}
