package control

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/cordon-fhir/cordon/evidence"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/tenant"
)

// An EvidenceRequest names the files that the operator adds to an evidence pack.
type EvidenceRequest struct {
	Given []evidence.Sum `json:"given"`
}

// Evidence is what the control plane states and signs for a pack.
type Evidence struct {
	Facts     string `json:"facts"`  // the file evidence.FactsFile
	Policy    string `json:"policy"` // the file evidence.PolicyFile
	Statement string `json:"statement"`
}

// maxGiven bounds how many files an operator adds.
const maxGiven = 8

// evidence states what is so of a tenant now, and signs it together with the names
// and hashes of what the operator adds.
func (a *api) evidence(ctx context.Context, c call) (answer, error) {
	var b EvidenceRequest
	t, err := a.asked(ctx, c, &b)
	if err != nil {
		return answer{}, err
	}
	if len(b.Given) > maxGiven {
		return answer{}, fhir.Errorf(fhir.Invalid, "more than %d files are given", maxGiven)
	}
	for _, one := range b.Given {
		if err := evidence.CheckGiven(one); err != nil {
			return answer{}, fhir.Errorf(fhir.Invalid, "given: %s", err)
		}
	}
	facts, policy, err := a.facts(ctx, c, t)
	if err != nil {
		return answer{}, known(err)
	}
	text, err := json.Marshal(facts, jsontext.WithIndent(" "), json.Deterministic(true))
	if err != nil {
		return answer{}, err
	}
	statement := evidence.Statement{
		Time:   facts.Made,
		Stated: []evidence.Sum{evidence.SumOf(evidence.FactsFile, text), evidence.SumOf(evidence.PolicyFile, []byte(policy))},
		Given:  b.Given,
	}
	signed, err := a.Registry.SignEvidence(ctx, t, statement)
	if err != nil {
		return answer{}, known(err)
	}
	return answer{http.StatusOK, Evidence{string(text), policy, string(signed)}, "stated and signed evidence for tenant " + c.slug}, nil
}

// facts returns what is so of the tenant, and the text of its access policy.
func (a *api) facts(ctx context.Context, c call, t *tenant.Tenant) (evidence.Facts, string, error) {
	f, err := a.Migrator.Evidence(ctx, c.slug)
	if err != nil {
		return f, "", err
	}
	f.Made, f.Operator, f.Build.Version = a.Now().UTC().Truncate(time.Second), c.operator, a.Version
	if f.Settings, _, err = a.Migrator.Settings(ctx, c.slug); err != nil {
		return f, "", err
	}
	change, err := a.Migrator.PolicyVersion(ctx, c.slug, t.PolicyVersion)
	if err != nil {
		return f, "", err
	}
	policy, err := smart.ReadPolicy(change.Text)
	if err != nil {
		return f, "", err
	}
	f.Policy = evidence.Policy{
		Version: change.Version, SHA256: evidence.SumOf("", []byte(change.Text)).SHA256,
		ProposedBy: change.ProposedBy, ApprovedBy: change.ApprovedBy, Approved: change.Approved,
	}
	for _, r := range policy.Rules() {
		f.Policy.Rules = append(f.Policy.Rules, evidence.Rule{ID: r.Name, Says: r.Says, Forbids: r.Forbids})
	}
	f.Principals, err = a.principals(ctx, t, policy)
	return f, change.Text, err
}

// principals are all who may ask for a token, and the sources of such, with what
// scopes and policy allow them.
func (a *api) principals(ctx context.Context, t *tenant.Tenant, policy *smart.Policy) ([]evidence.Principal, error) {
	list, err := a.clientPrincipals(ctx, t, policy)
	if err != nil {
		return nil, err
	}
	users, err := a.userPrincipals(ctx, t, policy)
	if err != nil {
		return nil, err
	}
	providers, err := a.Registry.Providers(ctx, t)
	if err != nil {
		return nil, err
	}
	list = append(list, users...)
	for _, p := range providers {
		list = append(list, evidence.Principal{Kind: "identity-provider", ID: p.Name + ", " + p.Issuer + ", open: " + strconv.FormatBool(p.Open)})
	}
	is, version, err := a.Registry.Issuer(ctx, t)
	if err != nil && !errors.Is(err, store.ErrNoIssuer) {
		return nil, err
	}
	if err == nil && version != 0 {
		list = append(list, evidence.Principal{Kind: "issuer", ID: is.URL})
	}
	return list, nil
}

func (a *api) clientPrincipals(ctx context.Context, t *tenant.Tenant, policy *smart.Policy) (list []evidence.Principal, err error) {
	clients, err := a.Registry.Clients(ctx, t)
	if err != nil {
		return nil, err
	}
	for _, cl := range clients {
		p := evidence.Principal{Kind: "client", ID: cl.ID, User: cl.User, Roles: cl.Person.Roles, Scopes: cl.Scopes, Disabled: cl.Disabled}
		who := smart.Asker{Client: cl.ID, Person: cl.Person}
		who.Fill(cl)
		if p.Allowed, err = a.allowed(t, policy, who); err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

// anyUser are scopes by which an app can get at most what its user may do.
const anyUser = "user/*.cruds"

func (a *api) userPrincipals(ctx context.Context, t *tenant.Tenant, policy *smart.Policy) (list []evidence.Principal, err error) {
	accounts, err := a.Registry.Accounts(ctx, t)
	if err != nil {
		return nil, err
	}
	for _, ac := range accounts {
		p := evidence.Principal{Kind: "user", ID: ac.Login, User: ac.User, Roles: ac.Person.Roles, Disabled: ac.Disabled}
		if p.Allowed, err = a.allowed(t, policy, smart.Asker{User: ac.User, Scope: anyUser, Person: ac.Person}); err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

// allowed is what scopes and policy allow somebody, by type.
func (a *api) allowed(t *tenant.Tenant, policy *smart.Policy, who smart.Asker) (map[string]string, error) {
	by, err := policy.Allows(t, who, a.Now())
	if err != nil {
		return nil, err
	}
	allowed := map[string]string{}
	for on, letters := range by {
		allowed[string(on)] = letters
	}
	return allowed, nil
}
