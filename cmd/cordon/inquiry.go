package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
)

// asker says of whom a policy is asked: what a token would say.
type asker struct {
	Client    string `help:"client_id. Without --scope, the rest is as it is registered."`
	User      string `placeholder:"REF" help:"fhirUser: 'Practitioner/dr1'."`
	Scope     string `help:"Scopes for resources, one space apart."`
	Patient   string `placeholder:"ID" help:"Patient in context."`
	Encounter string `placeholder:"ID" help:"Encounter in context."`
	Purpose   string `placeholder:"CODE" help:"Purpose of use."`
	personFlags
}

func (a asker) who() smart.Asker {
	who := smart.Asker{
		Client: a.Client, User: a.User, Patient: a.Patient, Encounter: a.Encounter, Purpose: a.Purpose, Scope: a.Scope,
		Person: a.person(time.Now()),
	}
	who.Person.ShiftStart = 0 // whatever the clock of the server says
	return who
}

// policyExplainCommand explains what was, what might be of a resource, or what a
// policy says of a type; only the last asks no server about records.
type policyExplainCommand struct {
	tenantSlug
	asker
	Audit    string `placeholder:"ID" help:"id of an AuditEvent, or of a request: why that was allowed or denied."`
	Resource string `placeholder:"REF" help:"A resource, 'Observation/o1': whether it would be shown, and why."`
	Query    string `placeholder:"SEARCH" help:"With --resource: whether a search like '_has:Observation:patient:code=x' finds it by what they may see."`
	Type     string `help:"Only a type of resource: what the policy says, rule by rule."`
	Change   int64  `help:"With --type: a proposed change instead of what is in force."`
	Do       string `default:"read" enum:"read,search-type,create,update,delete" help:"Interaction: read, search-type, create, update or delete."`
}

func (p *policyExplainCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	explain := p.ofAccess
	if p.Type != "" {
		explain = p.ofType
	}
	lines, err := explain(ctx, api)
	if err != nil {
		return err
	}
	return printLines(c, lines)
}

func (p *policyExplainCommand) ofType(ctx context.Context, api *controlAPI) ([]string, error) {
	on := fhir.Type(p.Type)
	if !on.Known() {
		return nil, errors.New("there is no such type of resource")
	}
	row, err := api.policy(ctx, p.Slug, 0, p.Change)
	if err != nil {
		return nil, err
	}
	policy, err := smart.ParsePolicy(row.Text)
	if err != nil {
		return nil, err
	}
	return policy.Explain(p.who(), fhir.Interaction(p.Do), on, time.Now())
}

func (p *policyExplainCommand) ofAccess(ctx context.Context, api *controlAPI) ([]string, error) {
	if p.Audit == "" && p.Resource == "" {
		return nil, errors.New("give --audit, --resource or --type")
	}
	q := store.AccessQuestion{Audit: strings.TrimPrefix(p.Audit, "AuditEvent/"), Query: p.Query}
	if p.Audit == "" {
		q.Who, q.Interaction = p.who(), fhir.Interaction(p.Do)
	}
	if p.Query != "" {
		q.Interaction = fhir.SearchType
	}
	if p.Resource != "" {
		ref, err := fhir.ParseRef(p.Resource)
		if err != nil {
			return nil, errors.New("the resource has to be a reference like Observation/o1")
		}
		q.Type, q.ID = ref.Type, ref.ID
	}
	var e store.Explanation
	if err := api.do(ctx, http.MethodPost, tenantPath(p.Slug, "policy", "explain"), q, &e); err != nil {
		return nil, err
	}
	return e.Lines(), nil
}

// policyDryRunCommand counts what somebody would see.
type policyDryRunCommand struct {
	tenantSlug
	asker
	Change   int64    `help:"A proposed change to hold against the policy in force."`
	Proposed string   `type:"existingfile" placeholder:"FILE" help:"The same of a file that is not proposed yet."`
	EachRole bool     `help:"For each role that the policies name, in place of --roles."`
	Types    []string `placeholder:"TYPE" help:"Types of resource. Default: all."`
	Limit    int      `help:"How many resources of a type are looked at, the newest. Default 200, at most 1000."`
}

func (p *policyDryRunCommand) Run(ctx context.Context, c console, api *controlAPI) error {
	var q struct {
		store.DryRunQuestion
		Change int64 `json:"change,omitzero"`
	}
	q.Who, q.EachRole, q.Limit, q.Change = p.who(), p.EachRole, p.Limit, p.Change
	for _, name := range p.Types {
		q.Types = append(q.Types, fhir.Type(name))
	}
	if p.Proposed != "" {
		text, err := (policySource{File: p.Proposed}).read()
		if err != nil {
			return err
		}
		q.Proposed = text
	}
	var run store.DryRun
	if err := api.do(ctx, http.MethodPost, tenantPath(p.Slug, "policy", "dry-run"), q, &run); err != nil {
		return err
	}
	return printLines(c, run.Lines())
}

func printLines(c console, lines []string) error {
	for _, line := range lines {
		if _, err := fmt.Fprintln(c.out, line); err != nil {
			return err
		}
	}
	return nil
}
