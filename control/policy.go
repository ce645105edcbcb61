package control

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
)

// policyBody is a policy as the API takes it: Cedar text, and what to say of it.
type policyBody struct {
	Text string `json:"text"`
	Note string `json:"note,omitempty"`
}

// policyView is a change of a policy as the API shows it. One that was approved
// is a version.
type policyView struct {
	Change     int64      `json:"change,omitempty"`
	Base       int64      `json:"base,omitempty"`
	Note       string     `json:"note,omitempty"`
	Text       string     `json:"text,omitempty"`
	ProposedBy string     `json:"proposed_by,omitempty"`
	Proposed   *time.Time `json:"proposed,omitempty"`
	Version    int64      `json:"version,omitempty"`
	ApprovedBy string     `json:"approved_by,omitempty"`
	Approved   *time.Time `json:"approved,omitempty"`
}

func viewPolicy(c store.PolicyChange) policyView {
	at := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		t = t.UTC().Truncate(time.Second)
		return &t
	}
	return policyView{c.Number, c.Base, c.Note, c.Text, c.ProposedBy, at(c.Proposed), c.Version, c.ApprovedBy, at(c.Approved)}
}

// showPolicy shows the version that is in force.
func (a *api) showPolicy(ctx context.Context, c call) (answer, error) {
	row, err := a.Migrator.TenantBySlug(ctx, c.slug)
	if err != nil {
		return answer{}, err
	}
	return a.policyVersion(ctx, c.slug, row.PolicyVersion)
}

func (a *api) showPolicyVersion(ctx context.Context, c call) (answer, error) {
	return a.policyVersion(ctx, c.slug, c.number)
}

func (a *api) policyVersion(ctx context.Context, slug string, version int64) (answer, error) {
	p, err := a.Migrator.PolicyVersion(ctx, slug, version)
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, viewPolicy(p), fmt.Sprintf("showed version %d of the policy of tenant %s", version, slug)}, nil
}

func (a *api) listPolicyChanges(ctx context.Context, c call) (answer, error) {
	changes, err := a.Migrator.PolicyChanges(ctx, c.slug)
	if err != nil {
		return answer{}, err
	}
	list := make([]policyView, 0, len(changes))
	for _, p := range changes {
		list = append(list, viewPolicy(p))
	}
	return answer{http.StatusOK, list, "listed the changes of the policy of tenant " + c.slug}, nil
}

func (a *api) showPolicyChange(ctx context.Context, c call) (answer, error) {
	p, err := a.Migrator.PolicyChange(ctx, c.slug, c.number)
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, viewPolicy(p), fmt.Sprintf("showed change %d of the policy of tenant %s", c.number, c.slug)}, nil
}

// checkPolicy answers whether the text could be proposed.
func (a *api) checkPolicy(_ context.Context, c call) (answer, error) {
	var b policyBody
	if err := decode(c.body, &b); err != nil {
		return answer{}, err
	}
	if _, err := smart.ParsePolicy(b.Text); err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, struct{}{}, "checked a policy"}, nil
}

// proposePolicy keeps a policy for somebody else to approve.
func (a *api) proposePolicy(ctx context.Context, c call) (answer, error) {
	var b policyBody
	if err := decode(c.body, &b); err != nil {
		return answer{}, err
	}
	p, err := a.Migrator.ProposePolicy(ctx, c.slug, c.operator, b.Note, b.Text)
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusCreated, viewPolicy(p),
		fmt.Sprintf("proposed change %d of the policy of tenant %s, on version %d", p.Number, c.slug, p.Base)}, nil
}

// approvePolicy brings a proposal of somebody else into force. It answers when
// no request can begin under the version before.
func (a *api) approvePolicy(ctx context.Context, c call) (answer, error) {
	p, err := a.Migrator.ApprovePolicy(ctx, c.slug, c.operator, c.number)
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, viewPolicy(p),
		fmt.Sprintf("approved change %d of %s as version %d of the policy of tenant %s", p.Number, p.ProposedBy, p.Version, c.slug)}, nil
}

// number reads what stands for {number} in a path, in its one spelling.
func number(text string) (n int64, ok bool) {
	n, err := strconv.ParseInt(text, 10, 32)
	return n, err == nil && n > 0 && strconv.FormatInt(n, 10) == text
}
