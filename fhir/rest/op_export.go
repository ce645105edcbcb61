package rest

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/cordon-fhir/cordon/bulk"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/deid"
	"github.com/cordon-fhir/cordon/fhir/r4"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/tenant"
)

// exportOperations write what the client may see to files.
// https://hl7.org/fhir/uv/bulkdata/STU2/export.html
var exportOperations = []operation{
	exportOf("patient-export", onType, "Patient"),
	exportOf("group-export", onInstance, "Group"),
	exportOf("export", onSystem),
}

func exportOf(definition string, at level, on ...fhir.Type) operation {
	return operation{
		name: "export", url: "http://hl7.org/fhir/uv/bulkdata/OperationDefinition/" + definition, level: at, on: on,
		in: []parameter{
			{name: "_outputFormat", typ: "string", max: 1},
			{name: "_since", typ: "instant", max: 1},
			{name: "_until", typ: "instant", max: 1},
			{name: "_type", typ: "string"},
			{name: "_typeFilter", typ: "string"},
			{name: "_elements", typ: "string"},
			{name: "patient", typ: "Reference"},
			{name: "includeAssociatedData", typ: "string"},
			{name: "organizeOutputBy", typ: "string", max: 1},
			{name: "allowPartialManifests", typ: "boolean", max: 1},
		},
		searches: true, // what is unknown is for the preference to decide
		parse:    parseExport, later: kickOff,
		whole: func(context.Context, *server, *request) (*response, error) {
			return nil, fhir.Errorf(fhir.NotSupported, "an export is asked for by itself, not in a Bundle")
		},
	}
}

// parseExport reads what is to be exported.
func parseExport(req *request) error {
	p := &exportParser{request: req, e: &bulk.Export{Any: map[fhir.Type][]*search.Query{}, Records: req.ref.Type != ""}}
	for _, read := range []func() error{p.format, p.times, p.deidentified, p.organized, p.types, p.filters, p.elements, p.patients, p.associated, p.others} {
		if err := read(); err != nil {
			return err
		}
	}
	req.export = p.e
	if req.ref.Type == "Group" {
		req.group = req.ref
	}
	return nil
}

// An exportParser reads an Export from a request.
type exportParser struct {
	*request
	e *bulk.Export
}

// passOver notes in the error files what is not done, for who would rather have
// the rest of it than nothing.
func (p *exportParser) passOver(err error) error {
	if p.prefer.handling != "lenient" {
		return err
	}
	e := clientError(err)
	for i := range e.Issues {
		e.Issues[i].Severity = "warning"
	}
	p.e.Passed = append(p.e.Passed, outcome(e.Issues))
	return nil
}

func (p *exportParser) format() error {
	if !p.prefer.async {
		return fhir.Errorf(fhir.Invalid, "an export is asked for with the header Prefer: respond-async")
	}
	switch strings.ReplaceAll(p.in.text("_outputFormat"), "fhir ndjson", "fhir+ndjson") { // a plus sign that nobody encoded
	case "", "application/fhir+ndjson", "application/ndjson", "ndjson":
		return nil
	}
	return fhir.Errorf(fhir.NotSupported, "parameter _outputFormat is application/fhir+ndjson here")
}

func (p *exportParser) times() error {
	for name, into := range map[string]*time.Time{"_since": &p.e.Since, "_until": &p.e.Until} {
		if !p.in.has(name) {
			continue
		}
		t, err := parseTime(p.in.text(name))
		if err != nil {
			return fhir.Errorf(fhir.Invalid, "parameter %s is not an instant", name)
		}
		if *into = t.UTC(); name == "_since" && t.After(p.now()) {
			return fhir.Errorf(fhir.Invalid, "parameter _since is in the future")
		}
	}
	return nil
}

// deidentified says how the export is de-identified, if its client gets no other. What
// it shows is not asked for by what it does not show: who is the only one of that name
// would be known.
func (p *exportParser) deidentified() error {
	set := p.grant.Tenant().Settings.Export
	if !set.Deidentifies(p.grant.Agent().Client) {
		return nil
	}
	p.e.Rules = &deid.Rules{Years: set.Dates == tenant.Years, Now: p.now()}
	for _, name := range []string{"_typeFilter", "patient", "includeAssociatedData", "organizeOutputBy"} {
		if p.in.has(name) {
			return fhir.Errorf(fhir.NotSupported, "parameter %s is not for exports that are de-identified", name)
		}
	}
	return nil
}

// organized reads organizeOutputBy and allowPartialManifests.
// https://hl7.org/fhir/uv/bulkdata/STU3/en/export.html#query-parameters
func (p *exportParser) organized() error {
	p.e.Partial = p.in.boolean("allowPartialManifests", false)
	if !p.in.has("organizeOutputBy") {
		return nil
	}
	if p.in.text("organizeOutputBy") != "Patient" {
		return p.passOver(fhir.Errorf(fhir.NotSupported, "parameter organizeOutputBy is Patient here"))
	}
	_, err := p.grant.Permit(fhir.SearchType, "Patient")
	p.e.Organized = err == nil
	return err
}

// types reads _type. Without it all are exported that the token reaches.
func (p *exportParser) types() error {
	for _, names := range p.in.texts("_type") {
		for name := range strings.SplitSeq(names, ",") {
			if err := p.addType(fhir.Type(strings.TrimSpace(name))); err != nil {
				return err
			}
		}
	}
	if p.in.has("_type") {
		if len(p.e.Types) == 0 {
			return fhir.Errorf(fhir.Invalid, "parameter _type names nothing that can be exported here")
		}
		return nil
	}
	for _, t := range p.grant.Types(fhir.SearchType) {
		if t != auditEvent && (!p.e.Records || bulk.InRecords(t)) && (!p.e.Organized || bulk.OfPatient(t)) && (p.e.Rules == nil || deid.Covers(t)) {
			p.e.Types = append(p.e.Types, t)
		}
	}
	if len(p.e.Types) == 0 {
		return fhir.Errorf(fhir.Forbidden, "no scope of the token allows an export here")
	}
	return nil
}

func (p *exportParser) addType(t fhir.Type) error {
	switch {
	case !t.Known():
		return p.passOver(fhir.Errorf(fhir.NotSupported, "parameter _type names what is no resource type"))
	case t == auditEvent:
		return p.passOver(fhir.Errorf(fhir.NotSupported, "the audit trail is searched by itself, at /AuditEvent"))
	case p.e.Records && !bulk.InRecords(t):
		return p.passOver(fhir.Errorf(fhir.NotSupported, "parameter _type names a type that is in no patient's record: %s", t))
	case p.e.Rules != nil && !deid.Covers(t):
		return p.passOver(fhir.Errorf(fhir.NotSupported, "parameter _type names a type of which nothing is left when it is de-identified: %s", t))
	case p.e.Organized && !bulk.OfPatient(t):
		return p.passOver(fhir.Errorf(fhir.NotSupported, "parameter _type names a type that is in no patient's block: %s", t))
	case slices.Contains(p.e.Types, t):
		return nil
	}
	if _, err := p.grant.Permit(fhir.SearchType, t); err != nil {
		return err
	}
	p.e.Types = append(p.e.Types, t)
	return nil
}

// filters reads _typeFilter: searches, any one of which must match.
func (p *exportParser) filters() error {
	for _, text := range p.in.texts("_typeFilter") {
		name, query, found := strings.Cut(text, "?")
		t := fhir.Type(name)
		if !found || !slices.Contains(p.e.Types, t) {
			if err := p.passOver(fhir.Errorf(fhir.Invalid, "parameter _typeFilter is a type that is exported, ? and a search of it")); err != nil {
				return err
			}
			continue
		}
		q, err := p.filter(t, query)
		if err != nil {
			if err = p.passOver(err); err != nil {
				return err
			}
			continue
		}
		p.e.Any[t] = append(p.e.Any[t], q)
	}
	return nil
}

func (p *exportParser) filter(t fhir.Type, query string) (*search.Query, error) {
	params, err := search.ParseQuery(query)
	if err != nil {
		return nil, err
	}
	for _, x := range params {
		if slices.Contains(notCriteria, x.Name) {
			return nil, fhir.Errorf(fhir.NotSupported, "parameter _typeFilter holds what chooses no resources: %s", x.Name)
		}
	}
	return search.Parse(t, params, p.strict())
}

// elements reads _elements, and says how resources are shown.
func (p *exportParser) elements() error {
	var f format
	for _, names := range p.in.texts("_elements") {
		for name := range strings.SplitSeq(names, ",") {
			f.elements = append(f.elements, strings.TrimSpace(name))
		}
	}
	for _, name := range f.elements {
		if t, _, typed := strings.Cut(name, "."); name == "" || typed && r4.TypeOf(t) == nil {
			return fhir.Errorf(fhir.Invalid, "parameter _elements names elements, as in id or Patient.name")
		}
	}
	p.e.Show = f.show
	return nil
}

// maxExported bounds the patients who are named.
const maxExported = 1000

// patients reads the parameter patient, for the records of some patients alone.
func (p *exportParser) patients() error {
	if !p.in.has("patient") {
		return nil
	}
	if !p.e.Records {
		return fhir.Errorf(fhir.Invalid, "parameter patient is for exports of patients and groups")
	}
	for _, a := range p.in {
		if a.name != "patient" {
			continue
		}
		id, ok := strings.CutPrefix(strings.TrimPrefix(text(member(a.json, "reference")), p.base+"/"), "Patient/")
		if !ok || !fhir.ValidID(id) {
			return notPatients()
		}
		p.e.Patients = append(p.e.Patients, id)
	}
	if len(p.e.Patients) > maxExported {
		return fhir.Errorf(fhir.TooCostly, "an export names at most %d patients; make a Group of them", maxExported)
	}
	slices.Sort(p.e.Patients)
	p.e.Patients = slices.Compact(p.e.Patients)
	return nil
}

// notPatients is the answer to a parameter that names no patient, or one whom
// the client does not see, or who is not in the group.
func notPatients() error {
	return fhir.Errorf(fhir.Invalid, "parameter patient names somebody who is no patient here")
}

// associated reads includeAssociatedData. With two words the wider one counts.
func (p *exportParser) associated() error {
	if p.e.Organized && p.in.has("includeAssociatedData") {
		return p.passOver(fhir.Errorf(fhir.NotSupported, "parameter includeAssociatedData does not go with organizeOutputBy here"))
	}
	for _, words := range p.in.texts("includeAssociatedData") {
		for word := range strings.SplitSeq(words, ",") {
			var with bulk.Provenance
			switch strings.TrimSpace(word) {
			case "LatestProvenanceResources":
				with = bulk.LatestProvenance
			case "RelevantProvenanceResources":
				with = bulk.RelevantProvenance
			default:
				if err := p.passOver(fhir.Errorf(fhir.NotSupported, "parameter includeAssociatedData is LatestProvenanceResources or RelevantProvenanceResources here")); err != nil {
					return err
				}
				continue
			}
			if p.e.Provenance != bulk.RelevantProvenance {
				p.e.Provenance = with
			}
			if err := p.addType("Provenance"); err != nil {
				return err
			}
		}
	}
	return nil
}

// others reads what is not done: the client is told, or goes without it.
func (p *exportParser) others() error {
	for _, x := range p.params {
		if err := p.passOver(unknownParameter(x.Name)); err != nil {
			return err
		}
	}
	return nil
}

// kickOff sees to it that the export is done.
// https://hl7.org/fhir/uv/bulkdata/STU2/export.html#bulk-data-kick-off-request
func kickOff(ctx context.Context, c *call) (*response, error) {
	if !c.DB.KeepsFiles() {
		return nil, fhir.Errorf(fhir.NotSupported, "this server has no place for the files of an export").WithStatus(http.StatusNotImplemented)
	}
	if err := c.known(ctx); err != nil {
		return nil, err
	}
	group, err := c.ofGroup(ctx, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.postpone(ctx, postponed{path: pathOf[store.Export], within: exportTime, kind: store.Export, group: group})
	if err == nil && c.req.prefer.separate {
		resp.contentLocation += "?" + separateStatus
		resp.applied = "respond-async, separate-export-status"
	}
	return resp, err
}

// known refuses patients whom the client does not see.
func (c *call) known(ctx context.Context) error {
	if len(c.req.export.Patients) == 0 {
		return nil
	}
	refs := make([]fhir.Ref, len(c.req.export.Patients))
	for i, id := range c.req.export.Patients {
		refs[i] = fhir.Ref{Type: "Patient", ID: id}
	}
	return c.DB.View(ctx, c.grant.Entry(), func(v *store.View) error {
		v.Operation(c.req.asEntry())
		found, err := v.ReadAll(ctx, refs...)
		if err == nil && len(found) < len(refs) {
			err = notPatients()
		}
		return err
	})
}
