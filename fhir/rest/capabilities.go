package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"sync"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/canonical"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/subscriptions"
)

// capabilities answers with the CapabilityStatement of the tenant's API. It is
// made of the tables that serve and of the tenant's packages, and holds nothing
// else of the tenant but its URLs; for who shows a token of the tenant also the
// search parameters that it adds.
// https://hl7.org/fhir/R4/http.html#capabilities
// https://hl7.org/fhir/R4/capabilitystatement.html
func capabilities(ctx context.Context, s *server, req *request) (*response, error) {
	params, err := search.ParseQuery(req.query)
	if err != nil {
		return nil, err
	}
	mode := "full"
	for _, p := range params {
		if p.Name == "mode" {
			mode = p.Value
		}
	}
	switch mode {
	case "full", "normative":
		return s.describe(ctx, req, mode, s.statement)
	case "terminology":
		return s.describe(ctx, req, mode, s.terminologyStatement)
	}
	return nil, fhir.Errorf(fhir.NotSupported, "parameter mode is full, normative or terminology")
}

// described names a document that describes the API of a tenant.
type described struct {
	base, what string
	inside     bool // for the tenant's clients, not for strangers
}

// A description is such a document. It holds as long as the tenant has the
// same packages and search parameters.
type description struct {
	packages, generation int64
	issuer               string // what the authorization server elsewhere says of itself
	body                 []byte
}

// descriptions are those in use. The zero value is empty.
type descriptions struct {
	mu  sync.Mutex
	all map[described]description
}

// maxDescriptions bounds the documents that are kept: each is a megabyte or two.
const maxDescriptions = 32

func (ds *descriptions) find(of described) (description, bool) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	d, ok := ds.all[of]
	return d, ok
}

// keep remembers d, in place of another if there are too many.
func (ds *descriptions) keep(of described, d description) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if ds.all == nil {
		ds.all = map[described]description{}
	}
	for k := range ds.all {
		if len(ds.all) < maxDescriptions {
			break
		}
		delete(ds.all, k)
	}
	ds.all[of] = d
}

// describe answers with a document, which is made once while it is asked for.
func (s *server) describe(ctx context.Context, req *request, what string, make func(guides, string) []byte) (*response, error) {
	key := described{req.base, what, req.grant != nil && req.grant.Principal() != ""}
	g := guides{base: req.base, custom: req.custom}
	if key.inside && g.custom == nil {
		var err error
		if g.custom, err = s.DB.Custom(ctx, req.grant); err != nil {
			return nil, err
		}
	}
	d := description{packages: req.tenant.Packages}
	if g.custom != nil {
		d.generation = g.custom.Generation
	}
	if req.tenant.Issuer != 0 {
		d.issuer = string(s.SmartConfiguration(req.slug))
	}
	if known, ok := s.described.find(key); ok && known.packages == d.packages && known.generation == d.generation && known.issuer == d.issuer {
		return &response{status: http.StatusOK, body: known.body}, nil
	}
	set, packages, err := s.DB.PackageDefinitions(ctx, req.tenant)
	if err != nil {
		return nil, fmt.Errorf("reading a tenant's packages: %w", err)
	}
	g.set = set
	if len(packages) > 0 {
		g.read(set)
	}
	d.body = make(g, what)
	s.described.keep(key, d)
	return &response{status: http.StatusOK, body: d.body}, nil
}

// Guides are what a tenant adds to its API, by packages and by itself.
type guides struct {
	base     string // of the API
	set      *canonical.Set
	custom   *search.Custom
	guides   []string
	servers  []string // the CapabilityStatements that they ask servers to meet
	profiles map[fhir.Type][]string
}

// read takes what is in the set and not in R4.
func (g *guides) read(set *canonical.Set) {
	g.profiles = map[fhir.Type][]string{}
	added := func(t fhir.Type) iter.Seq[*canonical.Definition] {
		return func(yield func(*canonical.Definition) bool) {
			for d := range set.All(t) {
				if _, base := canonical.Core().Find(t, d.URL); !base && !yield(d) {
					return
				}
			}
		}
	}
	for d := range added("ImplementationGuide") {
		g.guides = append(g.guides, d.Canonical())
	}
	for d := range added("CapabilityStatement") {
		rest := list(member(d.JSON(), "rest"))
		if text(member(d.JSON(), "kind")) == "requirements" && len(rest) > 0 && text(member(rest[0], "mode")) == "server" {
			g.servers = append(g.servers, d.Canonical())
		}
	}
	for d := range added("StructureDefinition") {
		// Without its version, which certification kits do not look for; two
		// versions of a guide count once.
		if t := fhir.Type(d.Constrains); t.Known() && !slices.Contains(g.profiles[t], d.URL) {
			g.profiles[t] = append(g.profiles[t], d.URL)
		}
	}
	slices.Sort(g.guides)
	slices.Sort(g.servers)
	for _, p := range g.profiles {
		slices.Sort(p)
	}
}

// normative are the resources of R4 that will not change, but for
// OperationOutcome and Parameters, which are not stored.
// https://hl7.org/fhir/R4/versions.html#std-process
var normative = []fhir.Type{"Binary", "Bundle", "CapabilityStatement", "CodeSystem", "Observation", "OperationDefinition",
	"Patient", "StructureDefinition", "ValueSet"}

// smartConfiguration answers with what a SMART app needs to know to ask for a
// token.
// https://hl7.org/fhir/smart-app-launch/conformance.html
func smartConfiguration(_ context.Context, s *server, req *request) (*response, error) {
	doc := s.SmartConfiguration(req.slug)
	if doc == nil {
		return nil, fhir.Errorf(fhir.Transient, "the authorization server of the tenant does not answer")
	}
	return &response{status: http.StatusOK, body: doc, contentType: "application/json"}, nil
}

// A statement is the CapabilityStatement, so far as it is claimed.
type statement struct {
	ResourceType   string           `json:"resourceType"`
	URL            string           `json:"url"`
	Version        string           `json:"version"`
	Name           string           `json:"name"`
	Status         string           `json:"status"`
	Date           string           `json:"date"`
	Kind           string           `json:"kind"`
	Instantiates   []string         `json:"instantiates,omitempty"`
	Software       software         `json:"software"`
	Implementation implementation   `json:"implementation"`
	FHIRVersion    string           `json:"fhirVersion"`
	Format         []string         `json:"format"`
	PatchFormat    []string         `json:"patchFormat"`
	Guides         []string         `json:"implementationGuide,omitempty"`
	Rest           [1]restComponent `json:"rest"`
}

type software struct {
	Name    string `json:"name"`
	Version string `json:"version"`
}

type implementation struct {
	Description string `json:"description"`
	URL         string `json:"url"`
}

type restComponent struct {
	Mode        string        `json:"mode"`
	Security    security      `json:"security"`
	Resource    []capability  `json:"resource"`
	Interaction []coded       `json:"interaction"`
	SearchParam []searchParam `json:"searchParam,omitempty"`
	Operation   []offered     `json:"operation,omitempty"`
	Compartment []string      `json:"compartment"`
}

type security struct {
	Extension   []json.RawMessage `json:"extension,omitempty"`
	CORS        bool              `json:"cors"`
	Service     []json.RawMessage `json:"service"`
	Description string            `json:"description"`
}

type coded struct {
	Code fhir.Interaction `json:"code"`
}

// A capability is what is claimed of one type.
type capability struct {
	Extension         []canonicalExtension `json:"extension,omitempty"`
	Type              fhir.Type            `json:"type"`
	Profile           string               `json:"profile"`
	SupportedProfile  []string             `json:"supportedProfile,omitempty"`
	Interaction       []coded              `json:"interaction"`
	Versioning        string               `json:"versioning,omitempty"`
	ReadHistory       bool                 `json:"readHistory"`
	UpdateCreate      bool                 `json:"updateCreate"`
	ConditionalCreate bool                 `json:"conditionalCreate"`
	ConditionalRead   string               `json:"conditionalRead"`
	ConditionalUpdate bool                 `json:"conditionalUpdate"`
	ConditionalDelete string               `json:"conditionalDelete"`
	ReferencePolicy   []string             `json:"referencePolicy,omitempty"`
	SearchInclude     []string             `json:"searchInclude,omitempty"`
	SearchRevInclude  []string             `json:"searchRevInclude,omitempty"`
	SearchParam       []searchParam        `json:"searchParam,omitempty"`
	Operation         []offered            `json:"operation,omitempty"`
}

// A canonicalExtension is an extension whose value is a canonical URL.
type canonicalExtension struct {
	URL   string `json:"url"`
	Value string `json:"valueCanonical"`
}

// An offered is an operation by its name and definition.
type offered struct {
	Name       string `json:"name"`
	Definition string `json:"definition"`
}

// callable returns the operations on the system, or on a type.
func callable(t fhir.Type) []offered {
	var list []offered
	for _, o := range operations() {
		here := t == "" && o.level&onSystem != 0 || t != "" && o.level&^onSystem != 0 && o.isOn(t)
		if c := (offered{o.name, o.url}); here && !slices.Contains(list, c) {
			list = append(list, c)
		}
	}
	return list
}

type searchParam struct {
	Name       string `json:"name"`
	Definition string `json:"definition,omitempty"`
	Type       string `json:"type"`
}

// statement makes the CapabilityStatement of the API at base.
// https://hl7.org/fhir/R4/http.html#capabilities
func (s *server) statement(g guides, mode string) []byte {
	base := g.base
	st := statement{
		ResourceType: "CapabilityStatement", URL: base + "/metadata", Version: s.Version, Name: "Cordon",
		Status: "active", Date: s.Now().UTC().Format(instant), Kind: "instance",
		Software:       software{"Cordon", s.Version},
		Implementation: implementation{"the FHIR R4 API of one tenant", base},
		FHIRVersion:    "4.0.1", Instantiates: append([]string{backportServer}, g.servers...), Guides: g.guides,
		Format:      []string{"application/fhir+json", "application/fhir+xml", "json", "xml"},
		PatchFormat: []string{jsonPatchType, "application/fhir+json", "application/fhir+xml"},
	}
	r := &st.Rest[0]
	r.Mode = "server"
	r.Security = s.security(base)
	for _, c := range []fhir.Type{"Patient", "Encounter", "RelatedPerson", "Practitioner", "Device"} {
		r.Compartment = append(r.Compartment, "http://hl7.org/fhir/CompartmentDefinition/"+lower(c))
	}
	for _, p := range append(search.Parameters(""), search.General("")...) {
		r.SearchParam = append(r.SearchParam, searchParam{p.Name, p.Definition, p.Type})
	}
	r.Operation = callable("")
	for _, does := range served("") {
		r.Interaction = append(r.Interaction, coded{does})
	}
	r.Interaction = append(r.Interaction, coded{fhir.Batch}) // has the route of transaction
	for _, t := range fhir.Types {
		if mode == "normative" && !slices.Contains(normative, t) {
			continue
		}
		c := claim(t)
		c.SupportedProfile = g.profiles[t]
		if t == "Subscription" {
			c.topics()
		}
		for _, p := range g.custom.Parameters(t) {
			c.SearchParam = append(c.SearchParam, searchParam{p.Name, p.Definition, p.Type})
		}
		r.Resource = append(r.Resource, c)
	}
	b, _ := json.Marshal(st) // there is nothing in it that cannot be written
	return b
}

// backportServer is the CapabilityStatement of servers that tell of topics.
const backportServer = "http://hl7.org/fhir/uv/subscriptions-backport/CapabilityStatement/backport-subscription-server-r4"

// topics adds what can be subscribed to. R4 has no resource for that.
// https://hl7.org/fhir/uv/subscriptions-backport/STU1.1/StructureDefinition-capabilitystatement-subscriptiontopic-canonical.html
func (c *capability) topics() {
	if !slices.Contains(c.SupportedProfile, subscriptions.Profile) {
		c.SupportedProfile = append(slices.Clone(c.SupportedProfile), subscriptions.Profile)
	}
	for _, url := range subscriptions.Topics() {
		c.Extension = append(c.Extension, canonicalExtension{"http://hl7.org/fhir/uv/subscriptions-backport/StructureDefinition/capabilitystatement-subscriptiontopic-canonical", url})
	}
}

// served lists the interactions of the routes on the system, or on a type.
func served(t fhir.Type) []fhir.Interaction {
	var list []fhir.Interaction
	for _, rt := range table() {
		onType := len(rt.path) > 5 && rt.path[:6] == "/:type"
		if rt.does == fhir.Capabilities || rt.does == fhir.Operation || onType != (t != "") || slices.Contains(list, rt.does) {
			continue
		}
		if t == auditEvent && rt.does != fhir.Read && rt.does != fhir.SearchType {
			continue
		}
		list = append(list, rt.does)
	}
	return list
}

// claim says what can be done with resources of a type.
func claim(t fhir.Type) capability {
	c := capability{
		Type: t, Profile: "http://hl7.org/fhir/StructureDefinition/" + string(t),
		ConditionalRead: "full-support", ConditionalDelete: "not-supported",
	}
	for _, does := range served(t) {
		c.Interaction = append(c.Interaction, coded{does})
	}
	c.Operation = callable(t)
	if t == auditEvent {
		c.Versioning = "no-version"
		for _, p := range search.Parameters(t) {
			c.SearchParam = append(c.SearchParam, searchParam{p.Name, p.Definition, p.Type})
		}
		return c
	}
	c.Versioning, c.ReadHistory, c.UpdateCreate = "versioned", true, true
	c.ConditionalCreate, c.ConditionalUpdate, c.ConditionalDelete = true, true, "single"
	c.ReferencePolicy = []string{"literal", "logical", "local"}
	c.SearchInclude, c.SearchRevInclude = search.Includes(t), search.RevIncludes(t)
	for _, p := range append(search.Parameters(t), search.General(t)...) {
		c.SearchParam = append(c.SearchParam, searchParam{p.Name, p.Definition, p.Type})
	}
	return c
}

// security tells where tokens come from.
// https://hl7.org/fhir/smart-app-launch/conformance.html
func (s *server) security(base string) security {
	out := security{
		CORS:    true,
		Service: []json.RawMessage{json.RawMessage(`{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/restful-security-service","code":"SMART-on-FHIR"}]}`)},
		Description: "Every request names its tenant in the path and shows an access token of that tenant's issuer; without a tenant " +
			"there is no answer, and a server of another region answers 421. The scopes of the token, which are those of SMART " +
			"App Launch, decide what each request reaches. See " + base + "/.well-known/smart-configuration",
	}
	slug, _ := s.ours(base)
	var conf struct {
		Token     string `json:"token_endpoint"`
		Authorize string `json:"authorization_endpoint"`
	}
	if json.Unmarshal(s.SmartConfiguration(slug), &conf) != nil || conf.Token == "" || conf.Authorize == "" {
		return out
	}
	// SMART 1 clients look for the endpoints here, and for both.
	ext := append([]byte(nil), `{"url":"http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris","extension":[{"url":"token","valueUri":`...)
	ext = append(quote(ext, conf.Token), `},{"url":"authorize","valueUri":`...)
	out.Extension = []json.RawMessage{append(quote(ext, conf.Authorize), `}]}`...)}
	return out
}

// lower returns the name of a type as the URLs of compartments spell it.
func lower(t fhir.Type) string { return string(t[0]+'a'-'A') + string(t[1:]) }
