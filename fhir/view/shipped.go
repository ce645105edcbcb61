package view

import (
	"embed"
	"strings"
	"sync"

	"github.com/cordon-fhir/cordon/fhir"
)

//go:embed shipped/*.json
var files embed.FS

// Shipped returns the views that come with Cordon, by name. docs/views.md lists
// them.
var Shipped = sync.OnceValue(func() []*View {
	entries, err := files.ReadDir("shipped")
	if err != nil {
		panic("view: " + err.Error())
	}
	list := make([]*View, 0, len(entries))
	for _, e := range entries {
		v, err := Parse(Source(strings.TrimSuffix(e.Name(), ".json")))
		if err != nil {
			panic("view: " + e.Name() + ": " + err.Error())
		}
		list = append(list, v)
	}
	return list
})

// Source returns the ViewDefinition of a shipped view, nil if there is none of the
// name.
func Source(name string) []byte {
	b, err := files.ReadFile("shipped/" + name + ".json")
	if err != nil || !ValidName(name) {
		return nil
	}
	return b
}

// Named returns the shipped view that a reference names: ViewDefinition/name, with
// - or _, or its canonical URL.
func Named(reference string) (*View, error) {
	reference, _, _ = strings.Cut(reference, "|")
	id, relative := strings.CutPrefix(reference, "ViewDefinition/")
	for _, v := range Shipped() {
		if v.URL == reference || relative && v.Name == strings.ReplaceAll(id, "-", "_") {
			return v, nil
		}
	}
	return nil, fhir.Errorf(fhir.NotFound, "there is no such ViewDefinition here")
}
