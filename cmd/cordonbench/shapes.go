package main

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
)

// A search is one shape of query. Its values are drawn from what was imported,
// so that it finds something.
type search struct {
	name  string
	query func(*catalog) string
}

// searches are the shapes, without _count.
var searches = []search{
	{"Patient?_id", func(c *catalog) string { return "Patient?_id=" + pick(c.patients).id }},
	{"Patient?family", func(c *catalog) string { return "Patient?family=" + esc(pick(c.patients).family) }},
	{"Patient?name:contains", func(c *catalog) string {
		name := []rune(pick(c.patients).family)
		return "Patient?name:contains=" + esc(string(name[1:min(5, len(name))]))
	}},
	{"Patient?identifier", func(c *catalog) string { return "Patient?identifier=" + esc(pick(c.patients).identifier) }},
	{"Patient?birthdate range", func(c *catalog) string {
		y := pick(c.patients).birthYear
		return fmt.Sprintf("Patient?birthdate=ge%s-01-01&birthdate=le%s-12-31", y, y)
	}},
	{"Observation?patient", func(c *catalog) string { return "Observation?patient=" + pick(c.pairs).patient }},
	{"Observation?patient&code", func(c *catalog) string { return observed(pick(c.pairs)) }},
	{"Observation?patient&code&date newest", func(c *catalog) string {
		return observed(pick(c.pairs)) + "&date=ge1900-01-01&_sort=-date"
	}},
	{"Observation?code", byCode},
	{"Observation?code _total", func(c *catalog) string { return byCode(c) + "&_total=accurate" }},
	{"Observation?category&date newest", func(c *catalog) string {
		return "Observation?category=" + pick(c.categories) + "&date=ge" + c.since[:4] + "-01-01&_sort=-date"
	}},
	{"Observation?code&value-quantity", func(c *catalog) string {
		return fmt.Sprintf("Observation?code=%s&value-quantity=gt%g", esc(c.quantity), c.threshold*(0.9+0.1*rand.Float64()))
	}},
	{"Observation?patient.family", func(c *catalog) string { return "Observation?patient.family=" + esc(pick(c.patients).family) }},
	{"Observation?code _include", func(c *catalog) string { return byCode(c) + "&_include=Observation:patient" }},
	{"Patient?_id _revinclude", func(c *catalog) string {
		return "Patient?_id=" + pick(c.patients).id + "&_revinclude=Observation:patient"
	}},
	{"Patient?_has", func(c *catalog) string { return "Patient?_has:Observation:patient:code=" + esc(pick(c.codes)) }},
	{"Encounter?date range", func(c *catalog) string {
		y := pick(c.years)
		return fmt.Sprintf("Encounter?date=ge%s-01-01&date=le%s-12-31", y, y)
	}},
	{"Condition?patient&clinical-status", func(c *catalog) string {
		return "Condition?patient=" + pick(c.activeOf) + "&clinical-status=active"
	}},
}

// growing are shapes that find more where there is more, whatever their values.
var growing = []string{
	"Patient?name:contains", "Patient?birthdate range", "Observation?category&date newest", "Encounter?date range",
}

// nextPage is one more shape: the second page of Observation?code.
const nextPage = "Observation?code second page"

func byCode(c *catalog) string { return "Observation?code=" + esc(pick(c.codes)) }

// longPage is one more: fifty Observations of one patient and code.
const longPage = "Observation?patient&code newest, page of 50"

func newest(c *catalog) string { return observed(pick(c.long)) + "&_sort=-date&_count=50" }

func observed(p pair) string { return "Observation?patient=" + p.patient + "&code=" + esc(p.code) }

// esc escapes a value: as a token or string of FHIR, then for the URL.
func esc(value string) string {
	return url.QueryEscape(strings.NewReplacer(`\`, `\\`, `,`, `\,`, `$`, `\$`).Replace(value))
}
