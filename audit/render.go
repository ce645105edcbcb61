package audit

import (
	"cmp"
	"encoding/base64"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cordon-fhir/cordon/fhir"
)

// Render returns e as an AuditEvent of the tenant whose FHIR base URL is base.
// https://hl7.org/fhir/R4/auditevent.html
func Render(e Entry, base string) []byte {
	for _, s := range e.sealedTexts(refusedEntry) {
		if s != &e.Query { // which is never shown as text
			*s = printable(*s)
		}
	}
	w := writer{buf: make([]byte, 0, 3<<10)}
	p := patternOf(e.Interaction)
	when := e.Recorded.UTC().Format("2006-01-02T15:04:05.000Z")
	w.raw(`{"resourceType":"AuditEvent"`)
	w.text("id", e.ID())
	w.raw(`,"meta":{"versionId":"1"`)
	w.text("lastUpdated", when)
	if name := e.profile(p); name != "" {
		w.raw(`,"profile":["https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.` + name + `"]`)
	}
	w.raw(`}`)
	w.kind(e, p)
	w.text("action", p.action)
	w.text("recorded", when)
	w.text("outcome", strconv.Itoa(int(e.Outcome)))
	w.text("outcomeDesc", e.outcomeDesc())
	if purpose := e.Purpose(); purpose != "" {
		w.raw(`,"purposeOfEvent":[`)
		w.purpose(purpose)
		w.raw(`]`)
	}
	w.agents(e, p, base)
	w.raw(`,"source":{"site":`)
	w.quote(cmp.Or(e.Agent.SiteName(), base))
	w.raw(`,"observer":{"type":"Device"`)
	w.text("display", cmp.Or(e.Origin.Server, "cordon"))
	w.raw(`},"type":[{"system":"http://terminology.hl7.org/CodeSystem/security-source-type","code":"4","display":"Application Server"}]}`)
	w.entities(e, base)
	w.raw(`}`)
	return w.buf
}

// kind writes what kind of event it is: an interaction, or one of security.
// https://hl7.org/fhir/R4/valueset-audit-event-sub-type.html
func (w *writer) kind(e Entry, p pattern) {
	if e.Interaction == GlassBroken || e.Interaction == GlassEnded {
		w.raw(`,"type":{"system":"` + dcm + `","code":"110113","display":"Security Alert"},"subtype":[{"system":"` + dcm + `"`)
		w.text("code", map[fhir.Interaction]string{GlassBroken: "110127", GlassEnded: "110138"}[e.Interaction])
		w.text("display", p.display)
		w.raw(`}]`)
		return
	}
	if e.Interaction == Removed {
		w.raw(`,"type":{"system":"http://terminology.hl7.org/CodeSystem/iso-21089-lifecycle","code":"destroy","display":"Destroy/Delete Record Lifecycle Event"}`)
		return
	}
	w.raw(`,"type":{"system":"http://terminology.hl7.org/CodeSystem/audit-event-type","code":"rest","display":"RESTful Operation"}`)
	if e.Interaction != "" {
		w.raw(`,"subtype":[{"system":"http://hl7.org/fhir/restful-interaction"`)
		w.text("code", string(e.Interaction))
		w.text("display", p.display)
		w.raw(`}]`)
	}
}

// profile returns which pattern e follows, with the patient or without, "" if
// it lacks what the pattern requires.
func (e Entry) profile(p pattern) string {
	query := p.profile == "Query"
	switch {
	case p.profile == "" || e.Outcome != Success || !query && !e.hasEntity():
		return ""
	case !e.About().IsZero():
		return "Patient" + p.profile
	}
	return p.profile
}

func (e Entry) hasEntity() bool { return e.Entity.Type.Known() && fhir.ValidID(e.Entity.ID) }

// About returns whose record it was, also where the record is the Patient.
func (e Entry) About() fhir.Ref {
	switch {
	case e.Patient.Type.Known() && fhir.ValidID(e.Patient.ID):
		return e.Patient
	case e.Entity.Type == "Patient" && e.hasEntity():
		return e.Entity
	}
	return fhir.Ref{}
}

// outcomeDesc says why, if anything went wrong.
func (e Entry) outcomeDesc() string {
	if e.Outcome == Success {
		return e.Reason
	}
	desc := e.Reason
	if e.Status != 0 {
		desc = strings.TrimSuffix("HTTP "+strconv.Itoa(e.Status)+": "+e.Reason, ": ")
	}
	if e.Failed != "" {
		desc += "; failed: " + e.Failed
	}
	return desc
}

// agents writes the client, the server and, if there is one, the user. What
// the token proves hangs on the user, or on the client that acts for nobody.
func (w *writer) agents(e Entry, p pattern, base string) {
	w.raw(`,"agent":[`)
	w.agentType(p.client)
	if e.Agent.Client != "" {
		w.raw(`,"who":{"identifier":{"value":`)
		w.quote(e.Agent.Client)
		w.raw(`}}`)
	}
	w.raw(`,"requestor":false`)
	if e.Agent.User == "" {
		w.token(e.Agent)
	}
	w.network(e.Origin.Address)
	if e.Agent.User == "" {
		w.purposeOfUse(e)
	}
	w.raw(`},`)
	w.agentType(p.server)
	w.raw(`,"who":{"identifier":{"value":`)
	w.quote(base)
	w.raw(`}},"requestor":false`)
	w.network(hostOf(base))
	w.raw(`}`)
	if e.Agent.User != "" {
		w.raw(`,`)
		w.agentType(p.user)
		w.roles(e.Agent.Roles)
		w.raw(`,"who":{`)
		w.user(e.Agent)
		w.raw(`},"requestor":true`)
		w.token(e.Agent)
		w.purposeOfUse(e)
		w.raw(`}`)
	}
	w.raw(`]`)
}

func (w *writer) agentType(t agentType) {
	w.raw(`{"type":{"coding":[{"system":"` + t.system + `","code":"` + t.code + `","display":"` + t.display + `"}]}`)
}

// roles writes those that the tenant gave the user.
func (w *writer) roles(codes string) {
	for i, code := range strings.Fields(codes) {
		if i == 0 {
			w.raw(`,"role":[`)
		} else {
			w.raw(`,`)
		}
		w.raw(`{"coding":[{"system":"urn:cordon:role","code":`)
		w.quote(code)
		w.raw(`}]}`)
	}
	if strings.TrimSpace(codes) != "" {
		w.raw(`]`)
	}
}

func (w *writer) user(a Agent) {
	if _, err := fhir.ParseRef(a.User); err == nil {
		w.raw(`"reference":`)
		w.quote(a.User)
		return
	}
	w.raw(`"identifier":{`)
	if a.Issuer != "" {
		w.raw(`"system":`)
		w.quote(a.Issuer)
		w.raw(`,`)
	}
	w.raw(`"value":`)
	w.quote(a.User)
	w.raw(`}`)
}

// token writes which token it was and the policy that decided.
func (w *writer) token(a Agent) {
	var policies []string
	if a.TokenID != "" {
		policies = append(policies, "urn:ietf:params:oauth:jti:"+url.PathEscape(a.TokenID))
	}
	if a.Policy > 0 {
		policies = append(policies, "urn:cordon:policy:"+strconv.FormatInt(a.Policy, 10))
	}
	for i, p := range policies {
		if i == 0 {
			w.raw(`,"policy":[`)
		} else {
			w.raw(`,`)
		}
		w.quote(p)
	}
	if len(policies) > 0 {
		w.raw(`]`)
	}
}

func (w *writer) purposeOfUse(e Entry) {
	if purpose := e.Purpose(); purpose != "" {
		w.raw(`,"purposeOfUse":[`)
		w.purpose(purpose)
		w.raw(`]`)
	}
}

func (w *writer) purpose(code string) {
	w.raw(`{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/v3-ActReason","code":`)
	w.quote(code)
	w.raw(`}]}`)
}

// network writes an address, which is an IP address or a name.
func (w *writer) network(address string) {
	if address == "" {
		return
	}
	kind := "1"
	if _, err := netip.ParseAddr(address); err == nil {
		kind = "2"
	}
	w.raw(`,"network":{"address":`)
	w.quote(address)
	w.raw(`,"type":"` + kind + `"}`)
}

func hostOf(base string) string {
	u, err := url.Parse(base)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

const (
	systemObject = `"type":{"system":"http://terminology.hl7.org/CodeSystem/audit-entity-type","code":"2","display":"System Object"}`
	person       = `"type":{"system":"http://terminology.hl7.org/CodeSystem/audit-entity-type","code":"1","display":"Person"}`
	requestID    = `"type":{"system":"https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType","code":"XrequestId"}`
)

// role returns a code of AuditEvent.entity.role.
// https://hl7.org/fhir/R4/valueset-object-role.html
func role(code, display string) string {
	return `,"role":{"system":"http://terminology.hl7.org/CodeSystem/object-role","code":"` + code + `","display":"` + display + `"}`
}

// entities writes what was touched: the data or the query, whose record it
// was, the request, and the entry of the Bundle that it was part of.
func (w *writer) entities(e Entry, base string) {
	w.raw(`,"entity":[`)
	start := len(w.buf)
	if e.hasEntity() {
		what := e.Entity.String()
		if e.Version > 0 {
			what += "/_history/" + strconv.FormatInt(e.Version, 10)
		}
		w.entity(what, systemObject+role("4", "Domain Resource"))
	}
	if e.Query != "" || patternOf(e.Interaction).profile == "Query" {
		w.query(e, base)
	}
	if p := e.About(); !p.IsZero() {
		w.entity(p.String(), person+role("1", "Patient"))
	}
	if e.Glass.ID != "" {
		w.glass(e.Glass)
	}
	if e.Parent != 0 {
		w.entity("AuditEvent/"+idOf(e.Parent), systemObject+role("20", "Job"))
	}
	if e.Origin.RequestID != "" {
		w.request(e.Origin)
	}
	if len(w.buf) == start { // an empty array would not be FHIR
		w.buf = w.buf[:start-len(`,"entity":[`)]
		return
	}
	w.buf[len(w.buf)-1] = ']' // over the last comma
}

func (w *writer) entity(what, rest string) {
	w.raw(`{"what":{"reference":`)
	w.quote(what)
	w.raw(`},` + rest + `},`)
}

// glass writes through which broken glass it was, and why that was broken.
func (w *writer) glass(g Glass) {
	w.raw(`{"what":{"identifier":{"value":`)
	w.quote(g.ID)
	w.raw(`}},` + systemObject + `,"description":"break-glass"`)
	if g.Reason != "" {
		w.raw(`,"detail":[{"type":"justification","valueString":`)
		w.quote(g.Reason)
		w.raw(`}]`)
	}
	w.raw(`},`)
}

// query writes the request as it was received, in base64, for it may hold
// anything.
func (w *writer) query(e Entry, base string) {
	asked := base
	if e.Type != "" {
		asked += "/" + string(e.Type)
	}
	asked += "?" + e.Query
	w.raw(`{` + systemObject + role("24", "Query") + `,"query":"`)
	w.buf = base64.StdEncoding.AppendEncode(w.buf, []byte(asked))
	w.raw(`"},`)
}

func (w *writer) request(o Origin) {
	w.raw(`{"what":{"identifier":{"value":`)
	w.quote(o.RequestID)
	w.raw(`}},` + requestID)
	w.text("description", o.Method)
	w.raw(`},`)
}

// A writer appends JSON.
type writer struct{ buf []byte }

func (w *writer) raw(s string) { w.buf = append(w.buf, s...) }

// text writes a further member, unless it is empty, which FHIR forbids.
func (w *writer) text(name, value string) {
	if value == "" {
		return
	}
	w.buf = append(append(append(w.buf, `,"`...), name...), `":`...)
	w.quote(value)
}

// quote writes a string. The error of AppendQuote says that it was not UTF-8;
// what was not has then been replaced.
func (w *writer) quote(s string) { w.buf, _ = jsontext.AppendQuote(w.buf, s) }

// printable returns s as a string of FHIR: without control characters and
// without space around it.
// https://hl7.org/fhir/R4/datatypes.html#string
func printable(s string) string {
	if strings.ContainsFunc(s, unicode.IsControl) {
		s = strings.Map(func(r rune) rune {
			if unicode.IsControl(r) {
				return ' '
			}
			return r
		}, s)
	}
	return strings.TrimSpace(s)
}
