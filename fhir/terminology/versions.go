package terminology

import (
	"slices"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
)

// versioned returns the value set that req means, with the versions of code
// systems that it asks for. They go for what the value set includes itself.
func (s *Service) versioned(req ExpandRequest) (*valueSet, error) {
	v, err := s.find(req.Source)
	if err != nil {
		return nil, err
	}
	w := req.Versions
	if len(w.Default)+len(w.Force) > 0 {
		changed := *v.valueSetJSON
		changed.Compose = w.apply(v.Compose)
		if v, err = s.compile(&changed); err != nil {
			return nil, err
		}
	}
	for _, in := range v.includes {
		if version, ok := versionFor(w.Check, in.System); ok && (in.system == nil || in.system.Version != version) {
			return nil, fhir.Errorf(fhir.BusinessRule, "the value set is not of the version of the code system that check-system-version names").At(in.place)
		}
	}
	return v, nil
}

// apply returns c with the versions changed.
func (w SystemVersions) apply(c *composeJSON) *composeJSON {
	out := *c
	out.Include, out.Exclude = slices.Clone(c.Include), slices.Clone(c.Exclude)
	for in := range out.all() {
		if version, ok := versionFor(w.Force, in.System); ok {
			in.Version = version
		} else if version, ok := versionFor(w.Default, in.System); ok && in.Version == "" {
			in.Version = version
		}
	}
	return &out
}

// versionFor returns the version in a list of "system|version".
func versionFor(list []string, system string) (string, bool) {
	for _, c := range list {
		if url, version, ok := strings.Cut(c, "|"); ok && url == system && system != "" {
			return version, true
		}
	}
	return "", false
}
