// Package subscriptions tells subscribers of events: it knows the topics, matches what
// changes with what they ask for, and delivers it.
//
// https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/
package subscriptions

import (
	"embed"
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/path"
	"github.com/cordon-fhir/cordon/fhir/search"
)

//go:embed topics/*.json
var files embed.FS

// A topic says of which events one can be told. R4 has no such resource; what is
// embedded is in the form of R5.
// https://hl7.org/fhir/R5/subscriptiontopic.html
type topic struct {
	URL      string    `json:"url"`
	Triggers []trigger `json:"resourceTrigger"`
	Filters  []struct {
		Resource  string `json:"resource"`
		Parameter string `json:"filterParameter"`
	} `json:"canFilterBy"`
}

// A trigger is a kind of change that is an event.
type trigger struct {
	Resource     string             `json:"resource"`
	Interactions []fhir.Interaction `json:"supportedInteraction"`
	Query        *struct {
		Previous        string `json:"previous"`
		ResultForCreate string `json:"resultForCreate"`
		Current         string `json:"current"`
	} `json:"queryCriteria"`
	FHIRPath string `json:"fhirPathCriteria"`

	on                fhir.Type
	previous, current search.Expr // nil without
	path              *path.Expr  // nil without
}

// topics are those that can be subscribed to, by canonical URL.
var topics = func() map[string]*topic {
	list, err := files.ReadDir("topics")
	if err != nil {
		panic(err)
	}
	all := map[string]*topic{}
	for _, f := range list {
		text, err := files.ReadFile("topics/" + f.Name())
		t := &topic{}
		if err == nil {
			err = json.Unmarshal(text, t)
		}
		if err == nil {
			err = t.compile()
		}
		if err != nil {
			panic(fmt.Sprintf("subscriptions: %s: %v", f.Name(), err))
		}
		all[t.URL] = t
	}
	return all
}()

// Topics are the canonical URLs of those that can be subscribed to, in order.
func Topics() []string {
	var list []string
	for url := range topics {
		list = append(list, url)
	}
	slices.Sort(list)
	return list
}

const definitions = "http://hl7.org/fhir/StructureDefinition/"

func typeOf(definition string) fhir.Type {
	return fhir.Type(strings.TrimPrefix(definition, definitions))
}

func (t *topic) compile() error {
	for i := range t.Triggers {
		if err := t.Triggers[i].compile(); err != nil {
			return err
		}
	}
	for _, f := range t.Filters {
		on := typeOf(f.Resource)
		if !t.about(on) || paramOf(on, f.Parameter) == nil {
			return fmt.Errorf("no filter %s.%s", on, f.Parameter)
		}
	}
	return nil
}

func (x *trigger) compile() (err error) {
	if x.on = typeOf(x.Resource); !x.on.Known() {
		return fmt.Errorf("no type %s", x.on)
	}
	if x.FHIRPath != "" {
		if x.path, err = path.Parse(x.FHIRPath); err != nil {
			return err
		}
	}
	if x.Query == nil {
		return nil
	}
	if x.previous, err = condition(x.on, x.Query.Previous); err != nil {
		return err
	}
	x.current, err = condition(x.on, x.Query.Current)
	return err
}

// condition reads a search, nil if it is empty.
func condition(on fhir.Type, text string) (search.Expr, error) {
	if text == "" {
		return nil, nil
	}
	params, err := search.ParseQuery(text)
	if err != nil {
		return nil, err
	}
	q, err := search.Parse(on, params, search.Options{})
	if err != nil {
		return nil, err
	}
	return q.Where, nil
}

func (t *topic) about(on fhir.Type) bool {
	return slices.ContainsFunc(t.Triggers, func(x trigger) bool { return x.on == on })
}

// types are those that the topic is about.
func (t *topic) types() []fhir.Type {
	var list []fhir.Type
	for _, x := range t.Triggers {
		if !slices.Contains(list, x.on) {
			list = append(list, x.on)
		}
	}
	return list
}

// filters reports whether the topic can be filtered by the parameter of a type.
func (t *topic) filters(on fhir.Type, name string) bool {
	for _, f := range t.Filters {
		if typeOf(f.Resource) == on && f.Parameter == name {
			return true
		}
	}
	return false
}

func paramOf(on fhir.Type, name string) *search.Parameter {
	for _, p := range append(search.Parameters(on), search.General(on)...) {
		if p.Name == name {
			return &p
		}
	}
	return nil
}
