package audit_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
)

const base = "https://fhir.example/fhir/harbor"

func sample() audit.Entry {
	return audit.Entry{
		Seq: 0x1234, Recorded: time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC),
		Interaction: fhir.Read, Status: 200,
		Origin: audit.Origin{RequestID: "r-1", Address: "192.0.2.7", Method: "GET /fhir/harbor/Observation/o1", Server: "cordon-1"},
		Agent:  audit.Agent{Client: "app", User: "Practitioner/7", Issuer: "https://fhir.example/auth/harbor", TokenID: "j1", Purpose: "TREAT", Policy: 4},
		Type:   "Observation", Entity: fhir.Ref{Type: "Observation", ID: "o1"}, Version: 3, Patient: fhir.Ref{Type: "Patient", ID: "p1"},
	}
}

// event is what the tests look at of an AuditEvent.
type event struct {
	ID                                     string
	Meta                                   struct{ Profile []string }
	Type                                   coding
	Subtype                                []coding
	Action, Recorded, Outcome, OutcomeDesc string
	PurposeOfEvent                         []concept
	Agent                                  []struct {
		Type         concept
		Who          reference
		Requestor    *bool
		Policy       []string
		Network      struct{ Address, Type string }
		PurposeOfUse []concept
	}
	Source struct{ Observer reference }
	Entity []struct {
		What  reference
		Type  coding
		Role  coding
		Query []byte
	}
}

type (
	coding    struct{ System, Code string }
	concept   struct{ Coding []coding }
	reference struct {
		Reference, Display string
		Identifier         struct{ System, Value string }
	}
)

func render(t testing.TB, e audit.Entry) event {
	t.Helper()
	var got event
	data := audit.Render(e, base)
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	return got
}

// G-01, G-02, G-03, G-04, G-05
func TestAReadIsAPatientRead(t *testing.T) {
	got := render(t, sample())
	const dcm = "http://dicom.nema.org/resources/ontology/DCM"
	for _, c := range []struct {
		what      string
		got, want any
	}{
		{"id", got.ID, "0000000000001234"},
		{"profile", got.Meta.Profile, []string{"https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit.PatientRead"}},
		{"type", got.Type, coding{"http://terminology.hl7.org/CodeSystem/audit-event-type", "rest"}},
		{"subtype", got.Subtype, []coding{{"http://hl7.org/fhir/restful-interaction", "read"}}},
		{"action", got.Action, "R"},
		{"recorded", got.Recorded, "2026-01-02T03:04:05.678Z"},
		{"outcome", got.Outcome, "0"},
		{"outcomeDesc", got.OutcomeDesc, ""},
		{"agents", len(got.Agent), 3},
		{"client", got.Agent[0].Type.Coding, []coding{{dcm, "110152"}}},
		{"client's id", got.Agent[0].Who.Identifier.Value, "app"},
		{"client's address", got.Agent[0].Network, struct{ Address, Type string }{"192.0.2.7", "2"}},
		{"server", got.Agent[1].Type.Coding, []coding{{dcm, "110153"}}},
		{"server's name", got.Agent[1].Network, struct{ Address, Type string }{"fhir.example", "1"}},
		{"user", got.Agent[2].Type.Coding, []coding{{"http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "IRCP"}}},
		{"user's name", got.Agent[2].Who.Reference, "Practitioner/7"},
		{"requestors", []bool{*got.Agent[0].Requestor, *got.Agent[1].Requestor, *got.Agent[2].Requestor}, []bool{false, false, true}},
		{"token", got.Agent[2].Policy, []string{"urn:ietf:params:oauth:jti:j1", "urn:cordon:policy:4"}},
		{"purpose", got.Agent[2].PurposeOfUse[0].Coding[0].Code, "TREAT"},
		{"observer", got.Source.Observer.Display, "cordon-1"},
		{"entities", len(got.Entity), 3},
		{"data", got.Entity[0].What.Reference + " " + got.Entity[0].Type.Code + " " + got.Entity[0].Role.Code, "Observation/o1/_history/3 2 4"},
		{"patient", got.Entity[1].What.Reference + " " + got.Entity[1].Type.Code + " " + got.Entity[1].Role.Code, "Patient/p1 1 1"},
		{"request", got.Entity[2].What.Identifier.Value + " " + got.Entity[2].Type.Code, "r-1 XrequestId"},
	} {
		if diff := cmp.Diff(c.want, c.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.what, diff)
		}
	}
}

// G-01: the table of the patterns.
func TestEachInteractionFollowsItsPattern(t *testing.T) {
	for _, tt := range []struct {
		do                           fhir.Interaction
		action, client, server, user string
		profile                      string
	}{
		{fhir.Create, "C", "110153", "110152", "AUT", "PatientCreate"},
		{fhir.Read, "R", "110152", "110153", "IRCP", "PatientRead"},
		{fhir.Vread, "R", "110152", "110153", "IRCP", "PatientRead"},
		{fhir.Update, "U", "110153", "110152", "AUT", "PatientUpdate"},
		{fhir.Patch, "U", "110153", "110152", "AUT", "PatientUpdate"},
		{fhir.Delete, "D", "110150", "custodian", "AUT", "PatientDelete"},
		{fhir.SearchType, "E", "110153", "110152", "IRCP", "PatientQuery"},
		{fhir.SearchSystem, "E", "110153", "110152", "IRCP", "PatientQuery"},
		{fhir.Operation, "E", "110150", "110152", "IRCP", ""},
		{fhir.Transaction, "E", "110150", "110152", "IRCP", ""},
	} {
		e := sample()
		e.Interaction = tt.do
		got := render(t, e)
		types := []string{got.Agent[0].Type.Coding[0].Code, got.Agent[1].Type.Coding[0].Code, got.Agent[2].Type.Coding[0].Code}
		if diff := cmp.Diff([]string{tt.client, tt.server, tt.user}, types); diff != "" || got.Action != tt.action || audit.Action(tt.do) != tt.action {
			t.Errorf("%s: action %s, agents (-want +got):\n%s", tt.do, got.Action, diff)
		}
		if profile := strings.Join(got.Meta.Profile, " "); !strings.HasSuffix(profile, tt.profile) || tt.profile == "" && profile != "" {
			t.Errorf("%s: profile %s, want %s", tt.do, profile, tt.profile)
		}
	}
}

// G-02: the query is there as received, in base64, and not in clear.
func TestAQueryIsKeptAsReceived(t *testing.T) {
	e := sample()
	e.Interaction, e.Entity, e.Version, e.Query = fhir.SearchType, fhir.Ref{}, 0, `code=1&note="<script>`+"\x00"
	got := render(t, e)
	if q := string(got.Entity[0].Query); q != base+"/Observation?"+e.Query || got.Entity[0].Role.Code != "24" {
		t.Errorf("query %q, role %s", q, got.Entity[0].Role.Code)
	}
	if strings.Contains(string(audit.Render(e, base)), "note=") {
		t.Error("the query is in clear")
	}
}

// G-10
func TestAFailureSaysWhyAndClaimsNoPattern(t *testing.T) {
	e := sample()
	e.Outcome, e.Status, e.Reason = audit.Serious, 403, "no scope allows read on Patient"
	e.Entity, e.Agent.User, e.Patient = fhir.Ref{Type: "Patient", ID: "not an id"}, "", fhir.Ref{}
	got := render(t, e)
	if got.Outcome != "8" || got.OutcomeDesc != "HTTP 403: no scope allows read on Patient" || len(got.Meta.Profile) != 0 || len(got.Agent) != 2 {
		t.Errorf("outcome %s %q, profile %v, %d agents", got.Outcome, got.OutcomeDesc, got.Meta.Profile, len(got.Agent))
	}
	if len(got.Entity) != 1 || got.Entity[0].What.Identifier.Value != "r-1" {
		t.Errorf("entities %v", got.Entity)
	}
	if diff := cmp.Diff([]string{"urn:ietf:params:oauth:jti:j1", "urn:cordon:policy:4"}, got.Agent[0].Policy); diff != "" {
		t.Errorf("the client's token (-want +got):\n%s", diff)
	}
}

func TestABundlesEntryNamesTheBundle(t *testing.T) {
	e := sample()
	e.Parent = 0x99
	if got := render(t, e).Entity[2].What.Reference; got != "AuditEvent/0000000000000099" {
		t.Errorf("parent %q", got)
	}
}

func TestAnIDHasOneSpelling(t *testing.T) {
	e := sample()
	if seq, err := audit.ParseID(e.ID()); err != nil || seq != e.Seq {
		t.Errorf("%s is %d, %v", e.ID(), seq, err)
	}
	for _, id := range []string{"", "1234", "00000000000012FF", "+000000000001234", "0000000000000000", "ffffffffffffffff", "00000000000012345", "0x00000000001234"} {
		if seq, err := audit.ParseID(id); err == nil {
			t.Errorf("%q is %d", id, seq)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		e := audit.Entry{Seq: rapid.Int64Min(1).Draw(t, "seq")}
		if seq, err := audit.ParseID(e.ID()); err != nil || seq != e.Seq || !fhir.ValidID(e.ID()) {
			t.Fatalf("%d is %s is %d, %v", e.Seq, e.ID(), seq, err)
		}
	})
}

// anyEntry draws entries, also with texts that no request should have.
func anyEntry() *rapid.Generator[audit.Entry] {
	return rapid.Custom(func(t *rapid.T) audit.Entry {
		text := func(name string) string {
			return rapid.OneOf(rapid.String(), rapid.Just(""), rapid.Just("a\x00\xff\"\\</")).Draw(t, name)
		}
		ref := func(name string) fhir.Ref {
			return rapid.SampledFrom([]fhir.Ref{{}, {Type: "Patient", ID: "7"}, {Type: "Group", ID: "x y"}}).Draw(t, name)
		}
		return audit.Entry{
			Seq: rapid.Int64Min(1).Draw(t, "seq"), Parent: rapid.Int64Range(0, 9).Draw(t, "parent"), Recorded: time.Unix(1e9, 0),
			Interaction: rapid.SampledFrom([]fhir.Interaction{fhir.Read, fhir.Create, fhir.SearchType, fhir.Batch, audit.GlassBroken, audit.GlassEnded, ""}).Draw(t, "do"),
			Outcome:     rapid.SampledFrom([]audit.Outcome{0, 4, 8, 12}).Draw(t, "outcome"), Status: rapid.IntRange(0, 599).Draw(t, "status"),
			Reason: text("reason"), Query: text("query"), Entity: ref("entity"), Patient: ref("patient"), Version: rapid.Int64Range(0, 9).Draw(t, "version"),
			Origin: audit.Origin{RequestID: text("id"), Address: text("address"), Method: text("method"), Server: text("server")},
			Agent: audit.Agent{Client: text("client"), User: text("user"), Issuer: rapid.SampledFrom([]string{"", "https://fhir.example/auth/harbor"}).Draw(t, "issuer"), TokenID: text("token"),
				Purpose: rapid.SampledFrom([]string{"", "TREAT"}).Draw(t, "purpose"), Policy: rapid.Int64Range(0, 9).Draw(t, "policy"), Access: text("access")},
			Glass: rapid.SampledFrom([]audit.Glass{{}, {ID: "g", Purpose: "BTG", Reason: text("why")}}).Draw(t, "glass"),
		}
	})
}

func TestTheSealedPartComesBackAsItWas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := anyEntry().Draw(t, "entry")
		// What is a column is not in it.
		got := audit.Entry{Seq: want.Seq, Parent: want.Parent, Recorded: want.Recorded, Interaction: want.Interaction, Outcome: want.Outcome, Type: want.Type, Version: want.Version}
		sealed := want.MarshalSealed()
		if err := got.UnmarshalSealed(sealed); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		for i := range sealed {
			if (&audit.Entry{}).UnmarshalSealed(sealed[:i]) == nil {
				t.Fatalf("the first %d bytes of %d were read", i, len(sealed))
			}
		}
		if (&audit.Entry{}).UnmarshalSealed(append(sealed, 0)) == nil {
			t.Fatal("a byte too many was read")
		}
	})
}

func TestAnEntryOfAnEarlierReleaseIsRead(t *testing.T) {
	want := sample()
	sealed := want.MarshalSealed()
	sealed = sealed[:len(sealed)-1] // version 1 ended before Access, which is "" here
	sealed[0] = 1
	var got audit.Entry
	if err := got.UnmarshalSealed(sealed); err != nil || got.Agent != want.Agent {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzUnmarshalSealed(f *testing.F) {
	e := sample()
	f.Add(e.MarshalSealed())
	f.Add([]byte{2})
	f.Fuzz(func(t *testing.T, data []byte) {
		var e audit.Entry
		if e.UnmarshalSealed(data) == nil {
			render(t, e)
		}
	})
}

func TestRenderIsAlwaysJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := anyEntry().Draw(t, "entry")
		data := audit.Render(e, base)
		var tree any
		if err := json.Unmarshal(data, &tree); err != nil {
			t.Fatalf("%v in %s", err, data)
		}
		noneEmpty(t, tree)
	})
}

// noneEmpty holds JSON to FHIR's rule that nothing in it is empty.
func noneEmpty(t *rapid.T, tree any) {
	switch v := tree.(type) {
	case map[string]any:
		if len(v) == 0 {
			t.Fatal("an empty object")
		}
		for _, m := range v {
			noneEmpty(t, m)
		}
	case []any:
		if len(v) == 0 {
			t.Fatal("an empty array")
		}
		for _, m := range v {
			noneEmpty(t, m)
		}
	case string:
		if strings.TrimSpace(v) == "" {
			t.Fatal("an empty string")
		}
	}
}

func BenchmarkRender(b *testing.B) {
	e := sample()
	b.ReportAllocs()
	for b.Loop() {
		audit.Render(e, base)
	}
}

func BenchmarkSealed(b *testing.B) {
	e := sample()
	b.ReportMetric(float64(len(e.MarshalSealed())), "bytes")
	for b.Loop() {
		e.MarshalSealed()
	}
}
