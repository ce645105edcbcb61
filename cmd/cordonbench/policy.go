package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// A PolicyCost is what one shape of work costs somebody under a policy, and what
// it costs them where the scopes alone decide.
type PolicyCost struct {
	Shape  string `json:"shape"`
	Who    string `json:"who"`
	Policy string `json:"policy"` // "clinic", or "clinic and consents"
	Under  Figure `json:"under"`
	Scopes Figure `json:"scopes"` // of the same minute
}

// Ratio is how many times as much CPU it takes under the policy.
func (c PolicyCost) Ratio() float64 { return c.Under.CPU() / c.Scopes.CPU() }

// goal is what a policy may cost at most.
func (c PolicyCost) goal() Goal {
	limit := 1.5
	if c.Under.Entries == 0 {
		limit = 1.3 // a read
	}
	return newGoal(c.Shape+", "+c.Who+", "+c.Policy, policyMode, c.Ratio(), limit, "× by scopes")
}

const policyMode = "schema"

// The ward is measured by somebody who treats some of its patients.
const (
	wardPatients = 120
	wardTreated  = 20
	perPatient   = 5 // Observations
)

// A ward is a tenant of its own with the same patients as the others.
type ward struct {
	*endpoint
	consents bool
	policy   string // "" is that the scopes decide
}

// policies measures reads and searches in three tenants that are equal but for
// policy and consents, in turn, so that what is compared is of the same minute.
func (s *suite) policies(ctx context.Context) error {
	if !s.policy {
		return nil
	}
	tenants, err := s.cordon.tenants(policyMode)
	if err != nil {
		return err
	}
	wards := []*ward{{policy: ""}, {policy: "clinic"}, {policy: "clinic", consents: true}}
	for i, w := range wards {
		w.endpoint = &endpoint{server: s.cordon, slug: "bench-ward-" + strconv.Itoa(i), host: tenants[0].host}
		w.path = path.Join(path.Dir(tenants[0].path), w.slug)
		if err := s.open(ctx, w); err != nil {
			return fmt.Errorf("opening %s: %w", w.slug, err)
		}
	}
	if err := s.pg.vacuum(ctx); err != nil {
		return fmt.Errorf("vacuuming: %w", err)
	}
	for _, shape := range wardShapes {
		if !s.wants(shape.name) {
			continue
		}
		for _, who := range []string{"nurse", "physician"} {
			if err := s.compare(ctx, wards, shape, who); err != nil {
				return err
			}
		}
	}
	return nil
}

// A wardShape is a request about the i-th of the patients who are treated.
type wardShape struct {
	name   string
	target func(i int) string
}

var wardShapes = []wardShape{
	{readPatient, func(i int) string { return "Patient/w" + strconv.Itoa(i) }},
	{"read Observation", func(i int) string { return "Observation/w" + strconv.Itoa(i) + "-" + strconv.Itoa(i%perPatient) }},
	{"Observation?patient", func(i int) string { return "Observation?patient=w" + strconv.Itoa(i) + "&_count=20" }},
	{"Observation?code", func(i int) string { return "Observation?code=" + wardCode(i%perPatient) + "&_count=20" }},
	{"Observation, newest", func(int) string { return "Observation?_count=20" }},
}

func wardCode(i int) string { return "http://loinc.org%7C8302-" + strconv.Itoa(i) }

// apart is for how long no other tenant has asked when one is measured.
const apart = 6 * time.Second

// compare measures the shape in each ward.
func (s *suite) compare(ctx context.Context, wards []*ward, shape wardShape, who string) error {
	figures := make([]Figure, len(wards))
	for i, w := range wards {
		w.client, w.scope = who, "user/*.rs"
		w.until = w.until.Add(-tokenLife) // it is somebody else's
		if err := w.authorize(ctx); err != nil {
			return err
		}
		requests := make([][]byte, wardTreated)
		for n := range requests {
			requests[n] = w.request("GET", shape.target(n), nil)
		}
		s.say("%s: %s, %s", w.slug, shape.name, who)
		var err error
		// It is to be alone: while others ask, a tenant has fewer requests in work, and
		// fewer of them share a commit of the audit trail.
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(apart):
		}
		work := send(w.host, requests, http.StatusOK, nil)
		figures[i], err = s.measure(ctx, shape.name, s.cordon.pid(), goalClients, s.duration, work)
		if err == nil && s.profile != "" {
			err = s.look(ctx, fmt.Sprintf("%s %s %d", shape.name, who, i), work)
		}
		if err != nil {
			return err
		}
		if figures[i].Entries == 0 && strings.Contains(shape.name, "Observation?") {
			return fmt.Errorf("%s finds nothing as %s of %s", shape.name, who, w.slug)
		}
	}
	for i, w := range wards[1:] {
		c := PolicyCost{Shape: shape.name, Who: who, Policy: w.policy, Under: figures[i+1], Scopes: figures[0]}
		if w.consents {
			c.Policy += " and consents"
		}
		s.report.Policies = append(s.report.Policies, c)
		s.report.Goals = append(s.report.Goals, c.goal())
	}
	return nil
}

// open makes the tenant of a ward, who works there, and its patients.
func (s *suite) open(ctx context.Context, w *ward) error {
	s.say("%s: opening", w.slug)
	user := []string{"--user", "Practitioner/us", "--facilities", "ward", "--location", "ward", "--shift", "8h"}
	for _, args := range [][]string{
		{"tenant", "create", "--mode", policyMode, w.slug},
		{"client", "add", "--tenant", w.slug, "keeper", "--scopes", "system/*.cruds", "--roles", "service"},
		append([]string{"client", "add", "--tenant", w.slug, "nurse", "--scopes", "user/*.rs", "--roles", "nurse"}, user...),
		append([]string{"client", "add", "--tenant", w.slug, "physician", "--scopes", "user/*.rs", "--roles", "physician"}, user...),
	} {
		if err := s.cordon.run(ctx, args...); err != nil {
			return err
		}
	}
	w.client, w.scope = "keeper", "system/*.cruds"
	if err := w.authorize(ctx); err != nil {
		return err
	}
	c := newClient(w.host)
	defer c.close()
	for i := range wardPatients {
		for _, r := range w.records(i) {
			answer, err := c.do(w.request("PUT", r.ref, []byte(r.body)))
			if err != nil {
				return err
			}
			if answer.status != http.StatusCreated {
				return fmt.Errorf("creating %s: %w", r.ref, unexpected(answer))
			}
		}
	}
	if w.policy == "" {
		return nil
	}
	if err := s.cordon.run(ctx, "policy", "propose", "--tenant", w.slug, "--profile", w.policy); err != nil {
		return err
	}
	return s.cordon.run(ctx, "policy", "approve", "--tenant", w.slug, "1")
}

// A wardRecord is what is stored under a name.
type wardRecord struct{ ref, body string }

// records are those of the i-th patient of the ward.
func (w *ward) records(i int) []wardRecord {
	id := "w" + strconv.Itoa(i)
	member := "others"
	if i < wardTreated {
		member = "us"
	}
	subject := `"subject":{"reference":"Patient/` + id + `"}`
	list := []wardRecord{
		{"Patient/" + id, `{"resourceType":"Patient","id":"` + id + `","active":true}`},
		{"CareTeam/" + id, `{"resourceType":"CareTeam","id":"` + id + `","status":"active",` + subject + `,"participant":[{"member":{"reference":"Practitioner/` + member + `"}}]}`},
		{"Encounter/" + id, `{"resourceType":"Encounter","id":"` + id + `","status":"in-progress","class":{"code":"IMP"},` + subject + `,"location":[{"location":{"reference":"Location/ward"}}]}`},
	}
	for n := range perPatient {
		ref := id + "-" + strconv.Itoa(n)
		list = append(list, wardRecord{"Observation/" + ref, fmt.Sprintf(`{"resourceType":"Observation","id":%q,"status":"final","code":{"coding":[{"system":"http://loinc.org","code":"8302-%d"}]},%s,
			"encounter":{"reference":"Encounter/%s"},"effectiveDateTime":"2026-01-%02dT08:30:00Z","valueQuantity":{"value":%d,"unit":"cm"}}`, ref, n, subject, id, 1+i%28, 150+n)})
	}
	if w.consents {
		list = append(list, wardRecord{"Consent/" + id, fmt.Sprintf(`{"resourceType":"Consent","id":%q,"status":"active","scope":{"coding":[{"code":"patient-privacy"}]},"category":[{"text":"privacy"}],
			"patient":{"reference":"Patient/%s"},"policyRule":{"coding":[{"code":"OPTIN"}]},"provision":{"type":"permit","provision":[{"type":"deny","securityLabel":[{"code":"PSY"}]}]}}`, id, id)})
	}
	return list
}

// run runs a command of cordon on the server.
func (s *server) run(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, s.binary, append(args, "--dir", s.dir)...)
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("cordon %s: %w: %s", args[0], err, bytes.TrimSpace(said.Bytes()))
	}
	return nil
}

// printPolicies writes what policies cost.
func printPolicies(w io.Writer, list []PolicyCost) {
	if len(list) == 0 {
		return
	}
	fmt.Fprintf(w, "\n== policies, mode %s: CPU ms per operation, %d clients\n\n", policyMode, goalClients)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "shape\twho\tpolicy\tby scopes\t= server\t+ database\tunder it\t= server\t+ database\t×\tforeign\t")
	for _, c := range list {
		note := ""
		if n := c.Under.Errors + c.Scopes.Errors; n > 0 {
			note = fmt.Sprintf("%d ERRORS: %.120s%.120s", n, c.Scopes.Problem, c.Under.Problem)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t%.3f\t%.2f\t%.0f %%\t%s\n", c.Shape, c.Who, c.Policy, c.Scopes.CPU(), c.Scopes.ServerCPU, c.Scopes.DatabaseCPU,
			c.Under.CPU(), c.Under.ServerCPU, c.Under.DatabaseCPU, c.Ratio(), 100*max(c.Under.Foreign, c.Scopes.Foreign), note)
	}
	t.Flush()
}
