package conformance

import (
	"maps"

	attacks "github.com/cordon-fhir/cordon/breakout"
)

// newHunter finds the canaries of the parties, those in the records of package
// breakout too, but for those of some places.
func newHunter(parties []*party, except ...string) *attacks.Hunter {
	all := map[string]map[string]string{}
	given := sys.suite.Canaries()
	for _, p := range parties {
		all[p.slug] = map[string]string{}
		for place, canary := range p.canaries {
			all[p.slug][place] = canary
		}
		for place, canary := range given[p.slug] {
			all[p.slug]["attacked "+place] = canary
		}
		for _, place := range except {
			maps.DeleteFunc(all[p.slug], func(have, _ string) bool { return have == place || have == "attacked "+place })
		}
	}
	return attacks.NewHunter(all)
}
