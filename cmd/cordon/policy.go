package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cordon-fhir/cordon/smart"
)

// policyCommand speaks to the control API about access policies.
type policyCommand struct {
	Show    policyShowCommand    `cmd:"" help:"Print the access policy of a tenant."`
	History policyHistoryCommand `cmd:"" help:"List what was proposed as a tenant's policy, by whom, and what of it is a version."`
	Diff    policyDiffCommand    `cmd:"" help:"Print how two versions or changes of a tenant's policy differ."`
	Check   policyCheckCommand   `cmd:"" help:"Say what is wrong with a policy."`
	Page    policyPageCommand    `cmd:"" name:"explain-page" help:"Explain a policy on one page."`
	Explain policyExplainCommand `cmd:"" help:"Say why somebody may or may not have something: what was, by its audit entry, or what might be."`
	DryRun  policyDryRunCommand  `cmd:"" help:"Count what somebody would see, whatever records say, and with a proposed policy too."`
	Propose policyProposeCommand `cmd:"" help:"Propose a policy for a tenant. Somebody else has to approve it."`
	Approve policyApproveCommand `cmd:"" help:"Bring what somebody else proposed into force."`
}

// policyRow is a change of a policy as the control API shows it.
type policyRow struct {
	Change     int64     `json:"change"`
	Base       int64     `json:"base"`
	Note       string    `json:"note"`
	Text       string    `json:"text"`
	ProposedBy string    `json:"proposed_by"`
	Proposed   time.Time `json:"proposed"`
	Version    int64     `json:"version"`
	ApprovedBy string    `json:"approved_by"`
}

// policyText is a policy on its way to the control API.
type policyText struct {
	Text string `json:"text"`
	Note string `json:"note,omitempty"`
}

// policySource is a file, or a policy that comes with Cordon.
type policySource struct {
	File    string `arg:"" optional:"" help:"File of Cedar text."`
	Profile string `placeholder:"NAME" help:"A policy that comes with Cordon, instead of a file: clinic, insurer, patient-app or scopes."`
}

func (p policySource) read() (string, error) {
	if (p.File == "") == (p.Profile == "") {
		return "", fmt.Errorf("give either a file or --profile, one of %s", strings.Join(smart.Profiles(), ", "))
	}
	if p.Profile != "" {
		text, ok := smart.Profile(p.Profile)
		if !ok {
			return "", fmt.Errorf("there is no such profile: there are %s", strings.Join(smart.Profiles(), ", "))
		}
		return text, nil
	}
	text, err := os.ReadFile(p.File)
	if err != nil {
		return "", fmt.Errorf("reading the policy: %w", err)
	}
	return string(text), nil
}

type policyShowCommand struct {
	tenantSlug
	Version int64 `help:"An earlier version."`
	Change  int64 `help:"A proposed change instead."`
}

func (p *policyShowCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	row, err := api.policy(ctx, p.Slug, p.Version, p.Change)
	if err != nil {
		return err
	}
	_, err = io.WriteString(c.out, row.Text)
	return err
}

// policy returns a change or a version of a policy; of neither, what is in force.
func (a *controlAPI) policy(ctx context.Context, slug string, version, change int64) (row policyRow, err error) {
	path := tenantPath(slug, "policy")
	switch {
	case change != 0:
		path = tenantPath(slug, "policy", "changes", strconv.FormatInt(change, 10))
	case version != 0:
		path = tenantPath(slug, "policy", "versions", strconv.FormatInt(version, 10))
	}
	err = a.do(ctx, http.MethodGet, path, nil, &row)
	return row, err
}

type policyHistoryCommand struct{ tenantSlug }

func (p *policyHistoryCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	var list []policyRow
	if err := api.do(ctx, http.MethodGet, tenantPath(p.Slug, "policy", "changes"), nil, &list); err != nil {
		return err
	}
	t := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CHANGE\tVERSION\tON\tPROPOSED BY\tAPPROVED BY\tNOTE")
	for _, x := range list {
		version := "-"
		if x.Version != 0 {
			version = strconv.FormatInt(x.Version, 10)
		}
		fmt.Fprintf(t, "%d\t%s\t%d\t%s\t%s\t%s\n", x.Change, version, x.Base, x.ProposedBy, x.ApprovedBy, x.Note)
	}
	return t.Flush()
}

type policyDiffCommand struct {
	tenantSlug
	From   int64 `help:"A version. Default: the one in force."`
	To     int64 `help:"Another version."`
	Change int64 `help:"A proposed change instead of --to."`
}

func (p *policyDiffCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	if (p.To == 0) == (p.Change == 0) {
		return fmt.Errorf("give either --to or --change")
	}
	from, err := api.policy(ctx, p.Slug, p.From, 0)
	if err != nil {
		return err
	}
	to, err := api.policy(ctx, p.Slug, p.To, p.Change)
	if err != nil {
		return err
	}
	for _, line := range diff(strings.Split(from.Text, "\n"), strings.Split(to.Text, "\n")) {
		if _, err := fmt.Fprintln(c.out, line); err != nil {
			return err
		}
	}
	return nil
}

// diff returns the lines that are not in both texts, after - or +, by their
// longest common part.
func diff(a, b []string) (lines []string) {
	common := make([][]int, len(a)+1)
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	i, j := 0, 0
	for i < len(a) || j < len(b) {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && common[i+1][j] >= common[i][j+1]:
			lines = append(lines, "- "+a[i])
			i++
		default:
			lines = append(lines, "+ "+b[j])
			j++
		}
	}
	return lines
}

type policyCheckCommand struct{ policySource }

func (p *policyCheckCommand) Run(c console) error {
	text, err := p.read()
	if err != nil {
		return err
	}
	if _, err := smart.ParsePolicy(text); err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.out, "the policy can be proposed")
	return err
}

type policyPageCommand struct {
	controlFlags
	Tenant string `help:"Slug of the tenant whose policy in force it is."`
	policySource
}

func (p *policyPageCommand) Run(ctx context.Context, c console) error {
	title, text := p.Profile, ""
	var err error
	if p.Tenant != "" {
		api, err := p.api()
		if err != nil {
			return err
		}
		row, err := api.policy(ctx, p.Tenant, 0, 0)
		if err != nil {
			return err
		}
		title, text = fmt.Sprintf("%s, version %d", p.Tenant, row.Version), row.Text
	} else if text, err = p.read(); err != nil {
		return err
	}
	policy, err := smart.ParsePolicy(text)
	if err != nil {
		return err
	}
	_, err = io.WriteString(c.out, policy.Page(cmp.Or(title, p.File)))
	return err
}

type policyProposeCommand struct {
	ofTenant
	policySource
	Note string `help:"What the change is for."`
}

func (p *policyProposeCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	text, err := p.read()
	if err != nil {
		return err
	}
	var row policyRow
	if err := api.do(ctx, http.MethodPost, p.path("policy", "changes"), policyText{text, p.Note}, &row); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.out, "change %d waits for somebody else to approve it\n", row.Change)
	return err
}

type policyApproveCommand struct {
	ofTenant
	Change int64 `arg:"" help:"Number of the change."`
}

func (p *policyApproveCommand) Run(ctx context.Context, c console) error {
	api, err := p.reviewer()
	if err != nil {
		return err
	}
	var row policyRow
	if err := api.do(ctx, http.MethodPost, p.path("policy", "changes", strconv.FormatInt(p.Change, 10), "approve"), nil, &row); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.out, "version %d is in force\n", row.Version)
	return err
}
