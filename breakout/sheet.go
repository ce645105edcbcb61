package breakout

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// A Sheet is what came of a run.
type Sheet struct {
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"`
	Tenants  []Side    `json:"tenants"`
	Pairs    int       `json:"pairs"`    // ordered, of tenants
	Requests int64     `json:"requests"` // that were sent
	// Without are tenants of the target that took no part: they have no client
	// that plays backend.
	Without    []string    `json:"without,omitempty"`
	Attacks    []Result    `json:"attacks"`
	Conditions []Condition `json:"conditions"`
	// Unseen is what no client can see from outside.
	Unseen []Unseen `json:"not_observable_here"`
	// Left are records of the run that could not be removed.
	Left []string `json:"left,omitempty"`
}

// A Side is a tenant that took part.
type Side struct {
	Slug   string   `json:"slug"`
	Mode   string   `json:"mode,omitempty"`
	Region string   `json:"region,omitempty"`
	Actors []string `json:"actors"`
}

// A Result is what came of one attack.
type Result struct {
	ID    string `json:"id"`
	Also  string `json:"also,omitempty"` // another line that it is
	Group int    `json:"group"`
	Title string `json:"title"`
	// Tried is for how many pairs the attack was made, Held in how many of them
	// everything was as it must be.
	Tried int `json:"tried"`
	Held  int `json:"held"`
	// NotRun says why it was not made, where it was not.
	NotRun []string `json:"not_run,omitempty"`
	// Broken are the trials in which something was not.
	Broken []Broken `json:"broken,omitempty"`
}

// A Broken trial is one with findings.
type Broken struct {
	Attacker string    `json:"attacker"`
	Victim   string    `json:"victim"`
	Findings []Finding `json:"findings"`
}

// An Unseen part of the suite cannot be tried from outside.
type Unseen struct {
	Group int    `json:"group"`
	Title string `json:"title"`
	Why   string `json:"why"`
}

var unseen = []Unseen{
	{13, "Audit: tamper evidence", "it takes a hand in the database; `cordon audit verify` shows that the log is as it was signed"},
	{14, "Database isolation", "roles, policies and row-level security are inside the database; `cordon evidence` states them, ./conformance attacks them"},
	{15, "Keys, encryption, residency", "keys and places are inside; `cordon evidence` states them"},
}

// mostFindings bounds what is written down of one trial.
const mostFindings = 20

func (s *Suite) sheet(chosen []Attack, started time.Time) *Sheet {
	sheet := &Sheet{
		Started: started.UTC(), Pairs: len(s.order) * (len(s.order) - 1), Without: s.without,
		Conditions: slices.Clone(conditions), Unseen: unseen, Tenants: []Side{}, Attacks: []Result{},
	}
	for _, p := range s.order {
		side := Side{Slug: p.Slug, Mode: p.Mode, Region: p.Region}
		for role := range p.actors {
			side.Actors = append(side.Actors, role)
		}
		slices.Sort(side.Actors)
		sheet.Tenants = append(sheet.Tenants, side)
		if p.actors["auditor"] == nil {
			sheet.condition("C3").Unseen = "some tenants have no client that plays auditor"
		}
	}
	sheet.condition("C3").Unseen = strings.TrimPrefix(sheet.condition("C3").Unseen+"; the trail of requests without a good token is the platform's", "; ")
	if s.ops == "" {
		sheet.condition("C6").Unseen = "the target names no ops"
	}
	for _, a := range chosen {
		sheet.Attacks = append(sheet.Attacks, Result{ID: a.ID, Also: a.Also, Group: a.Group, Title: a.Title})
	}
	return sheet
}

func (s *Sheet) condition(id string) *Condition {
	i := slices.IndexFunc(s.Conditions, func(c Condition) bool { return c.ID == id })
	return &s.Conditions[i]
}

// note writes down what came of a trial.
func (s *Sheet) note(r *Result, t *Trial, looked []string) {
	if t.NotRun != "" {
		if !slices.Contains(r.NotRun, t.NotRun) {
			r.NotRun = append(r.NotRun, t.NotRun)
		}
		return
	}
	r.Tried++
	for _, id := range looked {
		s.condition(id).Looked++
	}
	if len(t.Findings) == 0 {
		r.Held++
		return
	}
	for _, c := range []string{"C1", "C2", "C3", "C4", "C6"} {
		if slices.ContainsFunc(t.Findings, func(f Finding) bool { return f.Condition == c }) {
			s.condition(c).Broken++
		}
	}
	r.Broken = append(r.Broken, Broken{t.Attacker, t.Victim, t.Findings[:min(len(t.Findings), mostFindings)]})
}

// Score is how many attacks were made, and in how many everything was as it must
// be.
func (s *Sheet) Score() (tried, held int) {
	for _, r := range s.Attacks {
		if r.Tried > 0 {
			tried++
			if len(r.Broken) == 0 {
				held++
			}
		}
	}
	return tried, held
}

// Missed is how many attacks could not be made for some of the tenants, or for
// any.
func (s *Sheet) Missed() (n int) {
	for _, r := range s.Attacks {
		if len(r.NotRun) > 0 {
			n++
		}
	}
	return n
}

// Markdown writes the sheet for people.
func (s *Sheet) Markdown(w io.Writer) error {
	var b strings.Builder
	tried, held := s.Score()
	fmt.Fprintf(&b, "# Breakout score sheet\n\n%d of %d attacks held, between %d tenants (%d ordered pairs), with %d requests, from %s to %s. %d could not be made everywhere.\n\n",
		held, tried, len(s.Tenants), s.Pairs, s.Requests, s.Started.Format(time.RFC3339), s.Finished.Format(time.RFC3339), s.Missed())
	s.sides(&b)
	s.broken(&b)
	b.WriteString("## Attacks\n\n| attack | what holds | tried | held | not run |\n|---|---|--:|--:|---|\n")
	group := 0
	for _, r := range s.Attacks {
		if r.Group != group {
			group = r.Group
			fmt.Fprintf(&b, "| | **%d. %s** | | | |\n", group, Groups[group])
		}
		fmt.Fprintf(&b, "| %s | %s | %d | %d | %s |\n", r.ID, r.Title, r.Tried, r.Held, strings.Join(r.NotRun, "; "))
	}
	b.WriteString("\n## After every attack\n\n| | what holds | looked at | broken | not observable here |\n|---|---|--:|--:|---|\n")
	for _, c := range s.Conditions {
		fmt.Fprintf(&b, "| %s | %s | %d | %d | %s |\n", c.ID, c.Title, c.Looked, c.Broken, c.Unseen)
	}
	b.WriteString("\n## Not observable here\n\n| group | what | why |\n|--:|---|---|\n")
	for _, u := range s.Unseen {
		fmt.Fprintf(&b, "| %d | %s | %s |\n", u.Group, u.Title, u.Why)
	}
	if len(s.Left) > 0 {
		fmt.Fprintf(&b, "\n## Left behind\n\nThese records of the run could not be removed:\n\n* %s\n", strings.Join(s.Left, "\n* "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (s *Sheet) sides(b *strings.Builder) {
	b.WriteString("| tenant | mode | region | attacked as |\n|---|---|---|---|\n")
	for _, t := range s.Tenants {
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", t.Slug, t.Mode, t.Region, strings.Join(t.Actors, ", "))
	}
	if len(s.Without) > 0 {
		fmt.Fprintf(b, "\nWithout a client that plays backend, these took no part: %s.\n", strings.Join(s.Without, ", "))
	}
	b.WriteString("\n")
}

func (s *Sheet) broken(b *strings.Builder) {
	if tried, held := s.Score(); tried == held {
		return
	}
	b.WriteString("## What did not hold\n\n")
	for _, r := range s.Attacks {
		for _, x := range r.Broken {
			fmt.Fprintf(b, "**%s %s**, %s against %s\n\n", r.ID, r.Title, x.Attacker, x.Victim)
			for _, f := range x.Findings {
				fmt.Fprintf(b, "* %s: %s", f.Condition, f.What)
				if f.Request != "" {
					fmt.Fprintf(b, " (`%s`)", f.Request)
				}
				b.WriteString("\n")
			}
			b.WriteString("\n")
		}
	}
}
