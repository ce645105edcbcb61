package terminology

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/cordon-fhir/cordon/fhir"
)

// A Source says which definition is meant: the one with the URL (and version)
// among those known, or else the resource itself.
type Source struct {
	URL, Version string
	Resource     []byte
}

// canonical returns the URL with the version.
func (o Source) canonical() string {
	if o.Version == "" {
		return o.URL
	}
	url, _, _ := strings.Cut(o.URL, "|")
	return url + "|" + o.Version
}

// find returns the value set that o means. A *fhir.Error with code NotFound
// says that there is none.
func (s *Service) find(o Source) (*valueSet, error) {
	if o.Resource != nil {
		v, err := parseValueSet(o.Resource)
		if err != nil {
			return nil, err
		}
		return s.compile(v)
	}
	v, err := s.valueSet(o.canonical())
	if err == nil && v == nil {
		err = fhir.Errorf(fhir.NotFound, "the value set is not known")
	}
	return v, err
}

// An ExpandRequest says what to list of a value set. Its fields are the
// parameters of $expand.
// https://hl7.org/fhir/R4/valueset-operation-expand.html
type ExpandRequest struct {
	Source
	Filter              string
	Offset              int
	Count               int // below 0 means all
	IncludeDesignations bool
	Designations        []string // only these: languages, or system|code of a use
	IncludeDefinition   bool
	ActiveOnly          bool
	ExcludeNotForUI     bool
	DisplayLanguage     string
	ExcludeSystems      []string
	Versions            SystemVersions
}

// SystemVersions say which versions of code systems to take, each as
// "system|version".
type SystemVersions struct {
	Default []string // where the value set names none
	Check   []string // and no other: it is an error
	Force   []string // whatever the value set says
}

// MaxExpansion is how many concepts are listed at once.
const MaxExpansion = 10_000

// An Expansion is a ValueSet with its expansion, as FHIR writes it.
// https://hl7.org/fhir/R4/valueset.html
type Expansion struct {
	ResourceType string       `json:"resourceType"`
	URL          string       `json:"url,omitzero"`
	Version      string       `json:"version,omitzero"`
	Name         string       `json:"name,omitzero"`
	Title        string       `json:"title,omitzero"`
	Status       string       `json:"status"`
	Compose      *composeJSON `json:"compose,omitzero"`
	Expansion    Concepts     `json:"expansion"`

	partial bool
}

// Partial reports whether the value set may have concepts that are not known
// here, as only a part of their code system is.
func (x *Expansion) Partial() bool { return x.partial }

// Concepts are the expansion itself.
type Concepts struct {
	Identifier string      `json:"identifier"`
	Timestamp  string      `json:"timestamp"`
	Total      int         `json:"total"`
	Offset     *int        `json:"offset,omitzero"`
	Parameter  []Parameter `json:"parameter,omitzero"`
	Contains   []Contains  `json:"contains,omitzero"`
}

// A Parameter says by what an expansion was made.
type Parameter struct {
	Name    string `json:"name"`
	String  string `json:"valueString,omitzero"`
	Code    string `json:"valueCode,omitzero"`
	URI     string `json:"valueUri,omitzero"`
	Boolean *bool  `json:"valueBoolean,omitzero"`
	Integer *int   `json:"valueInteger,omitzero"`
}

// Contains is a concept in an expansion.
type Contains struct {
	System      string        `json:"system,omitzero"`
	Abstract    bool          `json:"abstract,omitzero"`
	Inactive    bool          `json:"inactive,omitzero"`
	Version     string        `json:"version,omitzero"`
	Code        string        `json:"code"`
	Display     string        `json:"display,omitzero"`
	Designation []Designation `json:"designation,omitzero"`
}

// A Designation is another way to say a concept.
type Designation struct {
	Language string  `json:"language,omitzero"`
	Use      *Coding `json:"use,omitzero"`
	Value    string  `json:"value"`
}

// Expand lists the concepts of a value set. A *fhir.Error says why they cannot
// be listed: NotFound, the value set is not known; BusinessRule, something
// that it is made of is not known; TooCostly, there are too many.
func (s *Service) Expand(ctx context.Context, req ExpandRequest) (*Expansion, error) {
	s = s.Within(ctx)
	v, err := s.versioned(req)
	if err != nil {
		return nil, err
	}
	x := newExpansion(v, req)
	l := &lister{asker: s.asker()}
	l.ctx, l.turn = ctx, &turn{ctx: ctx}
	if !l.turn.take() {
		return nil, ctx.Err()
	}
	defer l.turn.give()
	if err := x.fill(l); err != nil {
		return nil, err
	}
	x.describe()
	x.partial = v.partial()
	return &x.Expansion, nil
}

// An expansion is an Expansion in the making.
type expansion struct {
	Expansion
	v     *valueSet
	req   ExpandRequest
	words words
	used  []*include // one of each code system
}

func newExpansion(v *valueSet, req ExpandRequest) *expansion {
	x := &expansion{v: v, req: req, words: newWords(req.Filter), Expansion: Expansion{
		ResourceType: "ValueSet", URL: v.URL, Version: v.Version, Name: v.Name, Title: v.Title, Status: v.Status,
	}}
	if x.Status == "" {
		x.Status = "active"
	}
	if req.IncludeDefinition {
		x.Compose = v.Compose
	}
	x.Expansion.Expansion.Identifier = "urn:uuid:" + uuid.NewString()
	x.Expansion.Expansion.Timestamp = time.Now().UTC().Format(time.RFC3339)
	return x
}

// fill lists the concepts of the page, and counts all.
func (x *expansion) fill(l *lister) error {
	if len(x.req.ExcludeSystems) > 0 {
		l.skip = func(in *include) bool {
			return slices.Contains(x.req.ExcludeSystems, in.System) || slices.Contains(x.req.ExcludeSystems, in.System+"|"+in.Version)
		}
	}
	limit := x.req.Count
	if limit < 0 || limit > MaxExpansion {
		limit = MaxExpansion
	}
	c := &x.Expansion.Expansion
	for e := range l.each(x.v) {
		x.use(e.in)
		if !x.wants(e) {
			continue
		}
		if c.Total >= x.req.Offset && len(c.Contains) < limit {
			c.Contains = append(c.Contains, x.contains(e))
		}
		if c.Total++; x.req.Count < 0 && c.Total-x.req.Offset > MaxExpansion {
			return fhir.Errorf(fhir.TooCostly, "the value set has more than %d concepts; ask for pages by count and offset", MaxExpansion)
		}
	}
	return l.err
}

// wants reports whether the client asks for the concept.
func (x *expansion) wants(e entry) bool {
	switch {
	case x.req.ActiveOnly && e.isInactive(), x.req.ExcludeNotForUI && e.isAbstract():
		return false
	case len(x.words) == 0:
		return x.req.Filter == ""
	}
	if e.concept != none && x.words.match(e.in.system.bytes(e.concept, 1)) {
		return true
	}
	if e.listed != nil && x.words.match([]byte(e.listed.Display)) || hasPrefix([]byte(e.entryCode()), strings.ToLower(strings.TrimSpace(x.req.Filter))) {
		return true
	}
	if x.req.DisplayLanguage == "" && !x.req.IncludeDesignations {
		return false
	}
	return slices.ContainsFunc(e.designations(), func(d Designation) bool { return x.words.match([]byte(d.Value)) })
}

// use notes that the code system is part of the expansion.
func (x *expansion) use(in *include) {
	if n := len(x.used); n > 0 && x.used[n-1] == in {
		return
	}
	if !slices.ContainsFunc(x.used, func(u *include) bool { return u.System == in.System && u.system == in.system }) {
		x.used = append(x.used, in)
	}
}

// contains returns the concept as the client wants it.
func (x *expansion) contains(e entry) Contains {
	c := Contains{System: e.in.System, Code: e.entryCode(), Display: e.display(), Abstract: e.isAbstract(), Inactive: e.isInactive()}
	if e.in.Version != "" {
		c.Version = e.in.Version
	}
	if x.req.DisplayLanguage == "" && !x.req.IncludeDesignations && len(x.req.Designations) == 0 {
		return c
	}
	all := e.designations()
	if d, ok := inLanguage(all, x.req.DisplayLanguage); ok {
		c.Display = d.Value
	}
	if x.req.IncludeDesignations || len(x.req.Designations) > 0 {
		c.Designation = slices.DeleteFunc(all, func(d Designation) bool { return !x.asked(d) })
	}
	return c
}

// asked reports whether the designation is one that the client asked for.
func (x *expansion) asked(d Designation) bool {
	if len(x.req.Designations) == 0 {
		return true
	}
	return slices.ContainsFunc(x.req.Designations, func(token string) bool {
		system, code, ok := strings.Cut(token, "|")
		switch {
		case ok && (system == "urn:ietf:bcp:47" || system == ""):
			return d.Language == code
		case ok:
			return d.Use != nil && d.Use.System == system && d.Use.Code == code
		}
		return d.Language == token
	})
}

// inLanguage returns the first designation in the language, or in a dialect of
// it.
func inLanguage(all []Designation, language string) (Designation, bool) {
	if language == "" {
		return Designation{}, false
	}
	i := slices.IndexFunc(all, func(d Designation) bool {
		return strings.EqualFold(d.Language, language) || strings.HasPrefix(strings.ToLower(d.Language), strings.ToLower(language)+"-")
	})
	if i < 0 {
		return Designation{}, false
	}
	return all[i], true
}

// display returns how the value set or else the code system says e.
func (e entry) display() string {
	switch {
	case e.listed != nil && e.listed.Display != "":
		return e.listed.Display
	case e.concept != none:
		return e.in.system.display(e.concept)
	}
	return ""
}

// designations returns the other ways to say e.
func (e entry) designations() []Designation {
	var all []Designation
	if e.listed != nil {
		all = append(all, e.listed.Designation...)
	}
	if e.concept != none {
		all = append(all, e.in.system.designations(e.concept)...)
	}
	return all
}

// designations returns the designations of a concept.
func (s *codeSystem) designations(c uint32) []Designation {
	var all []Designation
	for _, d := range s.designationsOf(c) {
		out := Designation{Language: s.names[d.language], Value: string(s.text[d.value.from:d.value.to])}
		if use := s.codings[d.use]; use != (Coding{}) {
			out.Use = &use
		}
		all = append(all, out)
	}
	return all
}

// partial reports whether v is made of code systems of which not all is known.
func (v *valueSet) partial() bool {
	return slices.ContainsFunc(v.includes, func(in *include) bool {
		return in.system != nil && in.codes == nil && !in.system.complete() ||
			slices.ContainsFunc(in.imports, func(sub imported) bool { return sub.set != nil && sub.set.partial() })
	})
}

// describe says by what the expansion was made.
func (x *expansion) describe() {
	c := &x.Expansion.Expansion
	add := func(p Parameter) { c.Parameter = append(c.Parameter, p) }
	if x.req.Filter != "" {
		add(Parameter{Name: "filter", String: x.req.Filter})
	}
	if x.req.Count >= 0 {
		add(Parameter{Name: "count", Integer: &x.req.Count})
		add(Parameter{Name: "offset", Integer: &x.req.Offset})
		c.Offset = &x.req.Offset
	}
	yes := true
	for _, flag := range []struct {
		name string
		is   bool
	}{
		{"includeDesignations", x.req.IncludeDesignations},
		{"includeDefinition", x.req.IncludeDefinition},
		{"activeOnly", x.req.ActiveOnly},
		{"excludeNested", true},
		{"excludeNotForUI", x.req.ExcludeNotForUI},
	} {
		if flag.is {
			add(Parameter{Name: flag.name, Boolean: &yes})
		}
	}
	for _, token := range x.req.Designations {
		add(Parameter{Name: "designation", String: token})
	}
	if x.req.DisplayLanguage != "" {
		add(Parameter{Name: "displayLanguage", Code: x.req.DisplayLanguage})
	}
	for _, system := range x.req.ExcludeSystems {
		add(Parameter{Name: "exclude-system", URI: system})
	}
	for _, in := range x.used {
		if in.system == nil {
			continue
		}
		uri := in.system.URL
		if in.system.Version != "" {
			uri += "|" + in.system.Version
		}
		add(Parameter{Name: "version", URI: uri})
		if !in.system.complete() && in.codes == nil {
			add(Parameter{Name: in.system.Content, URI: uri}) // not all concepts are known
		}
	}
}
