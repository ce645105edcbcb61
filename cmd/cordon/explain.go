package main

import (
	"fmt"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/store"
)

// explainCommand tells an operator what a search costs. It asks no server and
// prints no value of the search, so that what it prints can be shown.
type explainCommand struct {
	Search string `arg:"" help:"The search as in a URL: 'Observation?patient=p1&code=1234-5', or '?_type=…' for the system."`
}

// Run prints the way in which the search would be answered.
func (e *explainCommand) Run(c console) error {
	on, query, _ := strings.Cut(e.Search, "?")
	params, err := search.ParseQuery(query)
	if err != nil {
		return err
	}
	q, err := search.Parse(fhir.Type(strings.Trim(on, "/")), params, search.Options{})
	if err != nil {
		return err
	}
	for _, line := range store.Explain(q) {
		if _, err := fmt.Fprintln(c.out, line); err != nil {
			return err
		}
	}
	return nil
}
