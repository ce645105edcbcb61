package main

import (
	"bytes"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// https://hl7.org/fhir/R4/valueset.html
type valueSet struct {
	URL     string
	Compose struct {
		Include []include
		Exclude []include
	}
}

type include struct {
	System   string
	Concept  []concept
	Filter   []any
	ValueSet []string
}

// https://hl7.org/fhir/R4/codesystem.html
type codeSystem struct {
	URL     string
	Content string
	Concept []concept
}

type concept struct {
	Code    string
	Concept []concept
}

// A checkedSet is a value set that required bindings name and that the package
// suffices to enumerate.
type checkedSet struct {
	url   string
	codes map[string][]string // by system
}

// checkedValueSets returns them in order of URL. Left out are those over
// systems that the package does not hold: currencies, MIME types, UCUM and a
// LOINC answer list.
func (p *definitions) checkedValueSets() ([]checkedSet, error) {
	sets, err := all[valueSet](p, "ValueSet")
	if err != nil {
		return nil, err
	}
	byURL := map[string]valueSet{}
	for _, v := range sets {
		byURL[v.URL] = v
	}
	systems, err := all[codeSystem](p, "CodeSystem")
	if err != nil {
		return nil, err
	}
	complete := map[string][]concept{}
	for _, s := range systems {
		if s.Content == "complete" {
			complete[s.URL] = s.Concept
		}
	}
	list, err := p.structures()
	if err != nil {
		return nil, err
	}
	checked := map[string]checkedSet{}
	for _, s := range list {
		for _, e := range s.Snapshot.Element {
			url, _, _ := strings.Cut(e.Binding.ValueSet, "|")
			if e.Binding.Strength != "required" {
				continue
			}
			if codes, ok := byURL[url].enumerate(complete); ok {
				checked[url] = checkedSet{url, codes}
			}
		}
	}
	return slices.SortedFunc(maps.Values(checked), func(a, b checkedSet) int { return strings.Compare(a.url, b.url) }), nil
}

// enumerate returns the codes of v by system. ok is false if v asks for more
// than the complete code systems tell.
func (v valueSet) enumerate(complete map[string][]concept) (codes map[string][]string, ok bool) {
	codes = map[string][]string{}
	if len(v.Compose.Include) == 0 || len(v.Compose.Exclude) > 0 {
		return nil, false
	}
	for _, in := range v.Compose.Include {
		concepts := in.Concept
		if len(concepts) == 0 {
			concepts = complete[in.System]
		}
		if len(concepts) == 0 || len(in.Filter) > 0 || len(in.ValueSet) > 0 {
			return nil, false
		}
		codes[in.System] = appendCodes(codes[in.System], concepts)
	}
	for system, list := range codes {
		slices.Sort(list)
		codes[system] = slices.Compact(list)
	}
	return codes, true
}

func appendCodes(codes []string, concepts []concept) []string {
	for _, c := range concepts {
		codes = appendCodes(append(codes, c.Code), c.Concept)
	}
	return codes
}

// writeValueSets writes the value sets of required bindings.
func writeValueSets(p *definitions, root string) error {
	sets, err := p.checkedValueSets()
	if err != nil {
		return err
	}
	var b bytes.Buffer
	b.WriteString("// valueSets are the value sets of required bindings, sorted by URL; the codes\n// of each system are sorted.\nvar valueSets = [...]ValueSet{\n{},\n")
	for _, v := range sets {
		fmt.Fprintf(&b, "{%q, []system{\n", v.url)
		for _, system := range sortedKeys(v.codes) {
			fmt.Fprintf(&b, "{%q, []string{\"%s\"}},\n", system, strings.Join(v.codes[system], `", "`))
		}
		b.WriteString("}},\n")
	}
	b.WriteString("}\n")
	return writeGo(filepath.Join(root, "fhir/r4/valuesets_gen.go"), "r4", &b)
}
