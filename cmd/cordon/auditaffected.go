package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// auditAffectedCommand lists the patients whose records somebody saw or changed: who
// is to be told of a breach.
// https://www.ecfr.gov/current/title-45/section-164.404
type auditAffectedCommand struct {
	systemFlags
	From    string `placeholder:"TIME" help:"Entries of this time and after: 2026-01 or 2026-01-31T08:00:00Z."`
	To      string `placeholder:"TIME" help:"Entries of this time and before."`
	User    string `placeholder:"WHO" help:"By this user, app or login: Practitioner/7."`
	Address string `placeholder:"ADDRESS" help:"From this address."`
	Token   string `placeholder:"JTI" help:"With the token of this id."`
}

// Run prints a patient a line, with how many entries are about them and of when.
func (a *auditAffectedCommand) Run(ctx context.Context, c console) error {
	s, err := a.open(ctx, "auditor", "system/AuditEvent.rs")
	if err != nil {
		return err
	}
	query := url.Values{}
	for name, value := range map[string]string{"start": a.From, "end": a.To, "agent": a.User, "address": a.Address, "token": a.Token} {
		if value != "" {
			query.Set(name, value)
		}
	}
	all := map[string]affected{}
	unreadable := 0
	for next := s.base + "/AuditEvent/$affected-patients?" + query.Encode(); next != ""; {
		var page affectedPage
		if page, err = s.affected(ctx, next); err != nil {
			return err
		}
		for _, one := range page.patients {
			all[one.patient] = all[one.patient].and(one)
		}
		next, unreadable = page.next, unreadable+page.unreadable
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PATIENT\tENTRIES\tFIRST\tLAST")
	for _, patient := range slices.Sorted(maps.Keys(all)) {
		one := all[patient]
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", patient, one.entries, one.first.Format(time.RFC3339), one.last.Format(time.RFC3339))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if unreadable > 0 {
		return fmt.Errorf("%d entries cannot be opened: whom they are about is not known", unreadable)
	}
	return nil
}

// affected is a patient whose record was seen or changed.
type affected struct {
	patient     string
	entries     int
	first, last time.Time
}

// and adds what another page says of the same patient.
func (a affected) and(b affected) affected {
	if a.entries == 0 {
		return b
	}
	a.entries += b.entries
	if b.first.Before(a.first) {
		a.first = b.first
	}
	if b.last.After(a.last) {
		a.last = b.last
	}
	return a
}

type affectedPage struct {
	patients   []affected
	unreadable int
	next       string
}

// maxAffectedPage bounds the answer with a page, in bytes.
const maxAffectedPage = 16 << 20

// affected asks for a page. The next one has to be at the same server, which gets the
// token.
func (s *system) affected(ctx context.Context, at string) (page affectedPage, err error) {
	if !strings.HasPrefix(at, s.base+"/") {
		return page, errors.New("the next page is at another server")
	}
	resp, err := s.ask(ctx, http.MethodGet, at, nil, http.StatusOK)
	if err != nil {
		return page, err
	}
	defer resp.Body.Close()
	var parameters struct {
		Parameter []struct {
			Name string `json:"name"`
			Next string `json:"valueUri"`
			Part []struct {
				Name    string    `json:"name"`
				Text    string    `json:"valueString"`
				Integer int       `json:"valueInteger"`
				Instant time.Time `json:"valueInstant"`
			} `json:"part"`
		} `json:"parameter"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAffectedPage)).Decode(&parameters); err != nil {
		return page, fmt.Errorf("reading affected patients: %w", err)
	}
	for _, p := range parameters.Parameter {
		switch p.Name {
		case "next":
			page.next = p.Next
		case "unreadable":
			page.unreadable++
		case "patient":
			var one affected
			for _, part := range p.Part {
				switch part.Name {
				case "reference":
					one.patient = part.Text
				case "entries":
					one.entries = part.Integer
				case "first":
					one.first = part.Instant
				case "last":
					one.last = part.Instant
				}
			}
			page.patients = append(page.patients, one)
		}
	}
	return page, nil
}
