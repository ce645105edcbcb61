package rest

import (
	"encoding/json"

	"github.com/cordon-fhir/cordon/fhir/terminology"
)

// terminologyStatement makes the TerminologyCapabilities: the code systems of
// R4 and of the tenant's packages, which everybody may know, and what the
// operations take. What the tenant wrote itself is not in it.
// https://hl7.org/fhir/R4/terminologycapabilities.html
func (s *server) terminologyStatement(g guides, _ string) []byte {
	st := terminologyCapabilities{
		ResourceType: "TerminologyCapabilities", URL: g.base + "/metadata?mode=terminology", Version: s.Version, Name: "Cordon",
		Status: "active", Date: s.Now().UTC().Format(instant), Kind: "instance",
		Software:       software{"Cordon", s.Version},
		Implementation: implementation{"the terminology of one tenant", g.base},
		CodeSearch:     "all",
	}
	for system := range terminology.New(g.set).Systems() {
		n := len(st.CodeSystem)
		if n == 0 || st.CodeSystem[n-1].URI != system.URL {
			st.CodeSystem = append(st.CodeSystem, codeSystemCapability{URI: system.URL, Subsumption: system.Subsumes})
			n++
		}
		if system.Version != "" {
			st.CodeSystem[n-1].Version = append(st.CodeSystem[n-1].Version, versionOfCodeSystem{system.Version, system.Default})
		}
	}
	st.Expansion.Paging, st.Expansion.TextFilter = true, "each word is how some word of the display begins, without case and accents"
	for _, p := range expandOperations[0].in {
		st.Expansion.Parameter = append(st.Expansion.Parameter, expansionParameter{p.name})
	}
	b, _ := json.Marshal(st) // there is nothing in it that cannot be written
	return b
}

// terminologyCapabilities is the resource, so far as it is claimed.
type terminologyCapabilities struct {
	ResourceType   string                 `json:"resourceType"`
	URL            string                 `json:"url"`
	Version        string                 `json:"version"`
	Name           string                 `json:"name"`
	Status         string                 `json:"status"`
	Date           string                 `json:"date"`
	Kind           string                 `json:"kind"`
	Software       software               `json:"software"`
	Implementation implementation         `json:"implementation"`
	CodeSystem     []codeSystemCapability `json:"codeSystem"`
	Expansion      struct {
		Hierarchical bool                 `json:"hierarchical"`
		Paging       bool                 `json:"paging"`
		Incomplete   bool                 `json:"incomplete"`
		Parameter    []expansionParameter `json:"parameter"`
		TextFilter   string               `json:"textFilter"`
	} `json:"expansion"`
	CodeSearch   string `json:"codeSearch"`
	ValidateCode struct {
		Translations bool `json:"translations"`
	} `json:"validateCode"`
	Translation struct {
		NeedsMap bool `json:"needsMap"`
	} `json:"translation"`
}

type codeSystemCapability struct {
	URI         string                `json:"uri"`
	Version     []versionOfCodeSystem `json:"version,omitempty"`
	Subsumption bool                  `json:"subsumption"`
}

type versionOfCodeSystem struct {
	Code      string `json:"code"`
	IsDefault bool   `json:"isDefault"`
}

type expansionParameter struct {
	Name string `json:"name"`
}
