package control

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/cordon-fhir/cordon/store"
)

// explainAccess says why an access was, or would be, allowed or denied.
func (a *api) explainAccess(ctx context.Context, c call) (answer, error) {
	var q store.AccessQuestion
	if err := decode(c.body, &q); err != nil {
		return answer{}, err
	}
	ans, err := a.inquire(ctx, c, store.Inquiry{Access: &q})
	if err != nil {
		return answer{}, err
	}
	about := strings.TrimSpace("AuditEvent/" + q.Audit)
	if q.Audit == "" {
		about = ans.Access.Resource
	}
	return answer{http.StatusOK, ans.Access, fmt.Sprintf("explained the access to %s of tenant %s", about, c.slug)}, nil
}

// dryRunBody is a DryRunQuestion, of which a proposal can be named.
type dryRunBody struct {
	store.DryRunQuestion `json:",inline"`
	Change               int64 `json:"change,omitzero"`
}

// dryRun counts what somebody would see, with the policy in force and one that is
// proposed.
func (a *api) dryRun(ctx context.Context, c call) (answer, error) {
	var b dryRunBody
	if err := decode(c.body, &b); err != nil {
		return answer{}, err
	}
	if b.Change != 0 {
		p, err := a.Migrator.PolicyChange(ctx, c.slug, b.Change)
		if err != nil {
			return answer{}, known(err)
		}
		b.Proposed = p.Text
	}
	ans, err := a.inquire(ctx, c, store.Inquiry{DryRun: &b.DryRunQuestion})
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, ans.DryRun, "counted what somebody would see of tenant " + c.slug}, nil
}

// inquire has a server of the tenant answer.
func (a *api) inquire(ctx context.Context, c call, q store.Inquiry) (store.InquiryAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, a.Wait)
	defer cancel()
	q.Operator, q.Request = c.operator, c.request
	ans, err := a.Migrator.Inquire(ctx, c.slug, q)
	return ans, known(err)
}
