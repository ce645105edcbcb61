package fhirconf

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/runes"
	"golang.org/x/text/transform"
	"golang.org/x/text/unicode/norm"
)

// What follows tells whether a resource meets a search parameter, from the JSON
// as any client sees it. It shares nothing with the server's own matcher.

// elements are where the parameters that US Core uses look, by type where types
// differ.
var elements = map[string]string{
	"patient": "subject patient beneficiary", "category": "category", "code": "code", "type": "type", "status": "status", "identifier": "identifier",
	"clinical-status": "clinicalStatus", "lifecycle-status": "lifecycleStatus", "intent": "intent", "class": "class", "gender": "gender",
	"encounter": "encounter", "location": "location.location", "specialty": "specialty", "practitioner": "practitioner",
	"name": "name", "family": "name.family", "address": "address", "address-city": "address.city", "address-state": "address.state", "address-postalcode": "address.postalCode",
	"birthdate": "birthDate", "death-date": "deceasedDateTime", "onset-date": "onsetDateTime onsetPeriod", "abatement-date": "abatementDateTime abatementPeriod",
	"asserted-date": "extension(http://hl7.org/fhir/StructureDefinition/condition-assertedDate).valueDateTime",
	"role":          "participant.role", "discharge-disposition": "hospitalization.dischargeDisposition", "description": "description", "given": "name.given",
	"questionnaire": "questionnaire", "QuestionnaireResponse.authored": "authored",
	"recorded-date": "recordedDate", "target-date": "target.dueDate", "authoredon": "authoredOn", "authored": "authoredOn",
	"CarePlan.date": "period", "Encounter.date": "period", "Observation.date": "effectiveDateTime effectivePeriod effectiveInstant",
	"DiagnosticReport.date": "effectiveDateTime effectivePeriod", "DocumentReference.date": "date", "DocumentReference.period": "context.period",
	"Immunization.date": "occurrenceDateTime", "Procedure.date": "performedDateTime performedPeriod",
}

// kinds are the types of those that are no tokens.
var kinds = map[string]string{
	"patient": "reference", "encounter": "reference", "location": "reference", "practitioner": "reference",
	"name": "string", "family": "string", "given": "string", "address": "string", "address-city": "string", "address-state": "string", "address-postalcode": "string",
	"birthdate": "date", "death-date": "date", "onset-date": "date", "abatement-date": "date", "asserted-date": "date", "recorded-date": "date", "target-date": "date",
	"authoredon": "date", "authored": "date", "date": "date", "period": "date",
}

// reach returns the values at a path, through lists.
func reach(v any, path []string) (found []any) {
	if len(path) == 0 {
		return list(v)
	}
	url, isExtension := strings.CutPrefix(path[0], "extension(")
	for _, m := range list(v) {
		if !isExtension {
			found = append(found, reach(at(m, path[0]), path[1:])...)
			continue
		}
		for _, e := range list(at(m, "extension")) {
			if at(e, "url") == url {
				found = append(found, reach(e, path[1:])...)
			}
		}
	}
	return found
}

// read returns the values that a parameter reads in a resource.
func read(on, name string, r any) (found []any) {
	if name == "_id" {
		return list(at(r, "id"))
	}
	paths, ok := elements[on+"."+name]
	if !ok {
		paths = elements[name]
	}
	for path := range strings.FieldsSeq(paths) {
		steps := strings.Split(path, ".")
		if head, rest, ok := strings.Cut(path, ")."); ok { // dots of the URL
			steps = append([]string{head}, strings.Split(rest, ".")...)
		}
		found = append(found, reach(r, steps)...)
	}
	return found
}

// values returns what a client would search by to find the resource.
func values(on, name string, r any) (texts []string) {
	for _, v := range read(on, name, r) {
		switch kinds[name] {
		case "reference":
			_, id, _ := strings.Cut(fmt.Sprint(at(v, "reference")), "/")
			texts = append(texts, id)
		case "date":
			if s, ok := v.(string); ok {
				texts = append(texts, s)
			} else if s, ok := at(v, "start").(string); ok {
				texts = append(texts, s)
			}
		case "string":
			for _, s := range strs(v) {
				if words := strings.Fields(s); len(words) > 0 {
					texts = append(texts, words[0])
				}
			}
		default:
			for _, c := range codes(v) {
				texts = append(texts, c.code)
			}
		}
	}
	return slices.DeleteFunc(texts, func(s string) bool { return s == "" || strings.ContainsAny(s, ",$|\\") })
}

// variants returns other ways to write a value, and for dates other questions.
func variants(on, name, value string, i int) []string {
	switch kinds[name] {
	case "reference":
		targets := map[string]string{"patient": "Patient", "encounter": "Encounter", "location": "Location", "practitioner": "Practitioner"}
		return []string{targets[name] + "/" + value}
	case "date":
		if name == "birthdate" || name == "death-date" {
			return []string{"ge" + value, "lt" + value}
		}
		day := value[:min(len(value), 10)]
		all := []string{"gt" + value, "ge" + value, "lt" + value, "le" + value, "gt" + day, "ge" + day, "lt" + day, "le" + day, day[:4], "ne" + day, "sa" + day, "eb" + day}
		if i > 1 {
			return all[i%4*2 : i%4*2+4]
		}
		return all
	case "string":
		return []string{strings.ToUpper(value), value[:min(len(value), 3)]}
	}
	if systems := systemsOf[name]; name != "_id" && systems != "" {
		return []string{systems + "|" + value, systems + "|nonsense"}
	}
	return nil
}

// systemsOf are systems of codes in the reference patients.
var systemsOf = map[string]string{
	"clinical-status": "http://terminology.hl7.org/CodeSystem/condition-clinical", "category": "http://terminology.hl7.org/CodeSystem/observation-category",
	"code": "http://loinc.org", "class": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "specialty": "http://nucc.org/provider-taxonomy", "gender": "http://hl7.org/fhir/administrative-gender",
}

type code struct{ system, code string }

// codes returns the codes of a value of any datatype that tokens look at.
func codes(v any) (found []code) {
	text := func(name string) string { s, _ := at(v, name).(string); return s }
	switch m := v.(type) {
	case string:
		return []code{{"*", m}} // its binding implies the system
	case map[string]any:
		for _, c := range list(m["coding"]) {
			found = append(found, codes(c)...)
		}
		if text("code") != "" {
			found = append(found, code{text("system"), text("code")})
		}
		if text("value") != "" {
			found = append(found, code{text("system"), text("value")})
		}
	}
	return found
}

// strs returns the strings of a name, an address or a string.
func strs(v any) (found []string) {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		for _, m := range v {
			found = append(found, strs(m)...)
		}
	case map[string]any:
		for _, part := range []string{"text", "family", "given", "prefix", "suffix", "line", "city", "district", "state", "postalCode", "country"} {
			found = append(found, strs(v[part])...)
		}
	}
	return found
}

func folded(s string) string {
	s, _, _ = transform.String(transform.Chain(norm.NFD, runes.Remove(runes.In(unicode.Mn))), strings.ToLower(s))
	s = strings.Map(func(r rune) rune {
		if r == '.' || r == '\'' {
			return -1
		}
		if !unicode.IsLetter(r) && !unicode.IsNumber(r) {
			return ' '
		}
		return r
	}, s)
	return strings.Join(strings.Fields(s), " ")
}

// meets reports whether a resource has a value that the text, or one of its
// alternatives, means.
func meets(on, name, text string, r any) bool {
	for value := range strings.SplitSeq(text, ",") {
		for _, v := range read(on, name, r) {
			if meetsOne(name, value, v) {
				return true
			}
		}
	}
	return false
}

func meetsOne(name, value string, v any) bool {
	switch kinds[name] {
	case "reference":
		ref := fmt.Sprint(at(v, "reference"))
		return ref == value || !strings.Contains(value, "/") && strings.HasSuffix(ref, "/"+value)
	case "string":
		return slices.ContainsFunc(strs(v), func(s string) bool { return strings.HasPrefix(folded(s), folded(value)) })
	case "date":
		return meetsDate(value, v)
	}
	if name == "_id" {
		return v == value
	}
	system, want, ok := strings.Cut(value, "|")
	if !ok {
		system, want = "*", value
	}
	return slices.ContainsFunc(codes(v), func(c code) bool {
		return strings.EqualFold(c.code, want) && (system == "*" || c.system == "*" || c.system == system)
	})
}

// span returns the time that a date or dateTime covers, in UTC.
func span(s string) (from, to time.Time) {
	for layout, add := range map[string][3]int{"2006": {1}, "2006-01": {0, 1}, "2006-01-02": {0, 0, 1}} {
		if at, err := time.Parse(layout, s); err == nil {
			return at, at.AddDate(add[0], add[1], add[2])
		}
	}
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		panic("not a date: " + s)
	}
	precision := time.Second
	if _, fraction, ok := strings.Cut(s, "."); ok {
		for i := 0; i < len(fraction) && unicode.IsDigit(rune(fraction[i])); i++ {
			precision /= 10
		}
	}
	return at, at.Add(precision)
}

// meetsDate compares as the table of prefixes says.
// https://hl7.org/fhir/R4/search.html#prefix
func meetsDate(value string, v any) bool {
	prefix := "eq"
	if value[0] >= 'a' {
		prefix, value = value[:2], value[2:]
	}
	from, to := span(value)
	lo, hi := time.Time{}, time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
	if s, ok := v.(string); ok {
		lo, hi = span(s)
	} else {
		if s, ok := at(v, "start").(string); ok {
			lo, _ = span(s)
		}
		if s, ok := at(v, "end").(string); ok {
			_, hi = span(s)
		}
	}
	within := !lo.Before(from) && !hi.After(to)
	switch prefix {
	case "eq":
		return within
	case "ne":
		return !within
	case "gt":
		return hi.After(to)
	case "lt":
		return lo.Before(from)
	case "ge":
		return within || hi.After(to)
	case "le":
		return within || lo.Before(from)
	case "sa":
		return !lo.Before(to)
	case "eb":
		return !hi.After(from)
	}
	panic("no such prefix: " + prefix)
}
