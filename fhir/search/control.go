package search

import (
	"slices"
	"strconv"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
)

// passedOver are parameters for the one who answers, not for the search.
// https://hl7.org/fhir/R4/http.html#parameters
var passedOver = map[string]bool{"_format": true, "_pretty": true}

// controls are the parameters that say what the answer looks like.
// https://hl7.org/fhir/R4/search.html#return
var controls map[string]func(*reader, Param) error

func init() { // the members refer to controls through Parse
	controls = map[string]func(*reader, Param) error{
		"_sort":       (*reader).sort,
		"_count":      (*reader).count,
		"_offset":     (*reader).offset,
		"_total":      (*reader).total,
		"_summary":    (*reader).summary,
		"_elements":   (*reader).elements,
		"_include":    (*reader).include,
		"_revinclude": (*reader).include,
		"_type":       (*reader).typed,
		"_contained":  (*reader).contained,

		"_containedType": (*reader).containedType,
	}
}

// typed passes _type, which readTypes has read.
func (r *reader) typed(p Param) error {
	if r.query.Type != "" {
		return errUnknown
	}
	return nil
}

// contained reads _contained.
// https://hl7.org/fhir/R4/search.html#contained
func (r *reader) contained(p Param) error {
	c := &r.query.Contained
	switch p.Value {
	case "false", "true", "both":
		c.Only, c.Both = p.Value == "true", p.Value == "both"
		return nil
	}
	return invalid(p.Name, "must be false, true or both")
}

// containedType reads _containedType.
func (r *reader) containedType(p Param) error {
	if p.Value != "container" && p.Value != "contained" {
		return invalid(p.Name, "must be container or contained")
	}
	r.query.Contained.Parts = p.Value == "contained"
	return nil
}

// count reads _count; 0 asks for the count alone.
// https://hl7.org/fhir/R4/search.html#count
func (r *reader) count(p Param) error {
	n, err := strconv.Atoi(p.Value)
	if err != nil || n < 0 || !isDigits(p.Value) {
		return invalid(p.Name, "must be a number, 0 or more")
	}
	r.query.Count = n
	return nil
}

// maxOffset bounds _offset: what is passed over has to be read.
const maxOffset = 10_000

// offset reads _offset, which is not in the standard; clients of other servers
// page by it. Links to pages are the better way.
func (r *reader) offset(p Param) error {
	n, err := strconv.Atoi(p.Value)
	if err != nil || n < 0 || !isDigits(p.Value) {
		return invalid(p.Name, "must be a number, 0 or more")
	}
	if n > maxOffset {
		return fhir.Errorf(fhir.TooCostly, "%s passes over more than %d matches; follow the links of the pages", p.Name, maxOffset)
	}
	r.query.Offset = n
	return nil
}

// total reads _total.
// https://hl7.org/fhir/R4/search.html#total
func (r *reader) total(p Param) error {
	t := Total(p.Value)
	if t != TotalNone && t != TotalEstimate && t != TotalAccurate {
		return invalid(p.Name, "must be none, estimate or accurate")
	}
	r.query.Total = t
	return nil
}

// summary reads _summary.
// https://hl7.org/fhir/R4/search.html#summary
func (r *reader) summary(p Param) error {
	if !slices.Contains([]string{"true", "text", "data", "count", "false"}, p.Value) {
		return invalid(p.Name, "must be true, text, data, count or false")
	}
	r.query.Summary = p.Value
	return nil
}

// elements reads _elements.
// https://hl7.org/fhir/R4/search.html#elements
func (r *reader) elements(p Param) error {
	for name := range strings.SplitSeq(p.Value, ",") {
		if name = strings.TrimSpace(name); name != "" {
			r.query.Elements = append(r.query.Elements, name)
		}
	}
	return nil
}

// include reads _include and _revinclude: Type:parameter, Type:parameter:Target,
// Type:* and *, with the modifier :iterate, formerly :recurse.
// https://hl7.org/fhir/R4/search.html#include
func (r *reader) include(p Param) error {
	name, modifier, _ := strings.Cut(p.Name, ":")
	if modifier != "" && modifier != "iterate" && modifier != "recurse" {
		return unsupportedModifier(p.Name)
	}
	in := Include{Reverse: name == "_revinclude", Iterate: modifier != ""}
	part := strings.Split(p.Value, ":")
	if p.Value == "*" && !in.Reverse {
		in.All = true
		if !in.Iterate && len(r.types) == 1 { // else from whatever is on the page
			in.Source = r.types[0]
		}
		r.query.Include = append(r.query.Include, in)
		return nil
	}
	in.Source = fhir.Type(part[0])
	if len(part) < 2 || len(part) > 3 || !in.Source.Known() {
		return invalid(p.Name, "must be as in Observation:subject or Observation:subject:Patient")
	}
	if len(part) == 3 && part[2] != "" {
		if in.Target = fhir.Type(part[2]); !in.Target.Known() {
			return invalid(p.Name, "names a target type that is not known")
		}
	}
	if in.Source == auditEvent || in.Target == auditEvent {
		return ofTrail(p.Name)
	}
	if in.All = part[1] == "*"; !in.All {
		sp := r.o.Custom.table(in.Source).byCode[part[1]]
		if sp == nil || sp.Type != "reference" || in.Target != "" && !sp.canTarget(in.Target) {
			return invalid(p.Name, "names no reference of that type")
		}
		if err := r.o.use(sp); err != nil {
			return err
		}
		in.Paths, in.Cited = sp.paths(in.Target), sp.canonicals(in.Target)
		if in.Target == "" {
			in.Target = sp.onlyTarget()
		}
	}
	r.query.Include = append(r.query.Include, in)
	return nil
}

// onlyTarget returns the type that all elements of p are restricted to, "" if
// there is none.
func (p *parameter) onlyTarget() fhir.Type {
	for _, e := range p.elements {
		if e.only == "" || e.only != p.elements[0].only {
			return ""
		}
	}
	return fhir.Type(p.elements[0].only)
}
