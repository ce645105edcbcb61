package consent

import (
	"strings"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
)

var now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func read(t *testing.T, members string) *Consent {
	t.Helper()
	d, err := fhir.Parse([]byte(`{"resourceType":"Consent","status":"active","scope":{"coding":[{"code":"patient-privacy"}]},"patient":{"reference":"Patient/p"}`+members+`}`), fhir.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return Read(search.R4, d)
}

func TestAConsentThatCannotBeFollowedDeniesAndSaysWhy(t *testing.T) {
	deep := strings.Repeat(`"provision":[{"type":"permit",`, maxNested+1) + `"id":"x"` + strings.Repeat(`}]`, maxNested+1)
	for claim, members := range map[string]string{
		"an extension that modifies it":        `,"modifierExtension":[{"url":"x"}],"provision":{"type":"permit"}`,
		"an extension that modifies a rule":    `,"provision":{"type":"permit","modifierExtension":[{"url":"x"}]}`,
		"one that modifies an exception":       `,"provision":{"type":"permit","provision":[{"type":"permit","modifierExtension":[{"url":"x"}]}]}`,
		"rules that are not known":             `,"implicitRules":"http://x.test","provision":{"type":"permit"}`,
		"a type that is none":                  `,"provision":{"type":"perhaps"}`,
		"an exception without type":            `,"provision":{"type":"permit","provision":[{"purpose":[{"code":"TREAT"}]}]}`,
		"no type and no rule":                  `,"policy":[{"uri":"http://x.test"}]`,
		"a rule that is not known":             `,"policyRule":{"coding":[{"code":"hipaa-auth"}]}`,
		"exceptions deeper than are looked at": `,"provision":{"type":"permit",` + deep + `}`,
	} {
		t.Run(claim, func(t *testing.T) {
			c := read(t, members)
			if c == nil || c.Unclear == "" || c.Says(&search.Asker{}, Resource{}) != Deny {
				t.Errorf("got %+v", c)
			}
		})
	}
}

func TestTheBasisOfAConsentIsItsPolicyRule(t *testing.T) {
	for code, want := range map[string]Verdict{"OPTIN": Permit, "OPTINR": Permit, "OPTOUT": Deny, "OPTOUTE": Deny} {
		if got := read(t, `,"policyRule":{"coding":[{"code":"`+code+`"}]}`).Says(&search.Asker{}, Resource{}); got != want {
			t.Errorf("%s: %d, want %d", code, got, want)
		}
	}
}

// What cannot be told is met by what denies, and not by what permits.
func TestWhatCannotBeToldDenies(t *testing.T) {
	for _, condition := range []string{
		`"purpose":[{"code":"TREAT"}]`, `"action":[{"text":"look"}]`, `"actor":[{"reference":{"display":"Doe"}}]`,
		`"actor":[{"reference":{"reference":"CareTeam/1"}}]`, `"actor":[{"reference":{"reference":"Organization/1"}}]`,
		`"class":[{"code":"x"}]`, `"data":[{"meaning":"instance","reference":{"display":"x"}}]`, `"period":{"start":"soon"}`, `"dataPeriod":{"start":"soon"}`,
		`"dataPeriod":{"start":"2020"}`, `"code":[{"text":"x"}]`,
	} {
		d, err := fhir.Parse([]byte(`{"resourceType":"Observation","id":"o"}`), fhir.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		r := Resource{Resource: fhir.Resource{Ref: fhir.Ref{Type: "Observation", ID: "o"}}, Document: d}
		if got := read(t, `,"provision":{"type":"deny",`+condition+`}`).Says(&search.Asker{At: now}, r); got != Deny {
			t.Errorf("deny %s: %d", condition, got)
		}
		if got := read(t, `,"provision":{"type":"permit",`+condition+`}`).Says(&search.Asker{At: now}, r); got != Silent {
			t.Errorf("permit %s: %d", condition, got)
		}
	}
}
