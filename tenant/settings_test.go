package tenant

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestSettingsAreChecked(t *testing.T) {
	many, err := json.Marshal(strings.Split(strings.Repeat("http://x ", 101), " ")[:101])
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ claim, text, want string }{
		{"none are the defaults", `{}`, ""},
		{"a level", `{"validation":{"level":"claimed"}}`, ""},
		{"profiles that are required", `{"validation":{"level":"required","profiles":["http://hl7.org/fhir/us/core/StructureDefinition/us-core-patient|6.1.0"]}}`, ""},
		{"a terminology server", `{"terminology":{"url":"https://tx.example.org/fhir","onFailure":"warn","systems":["http://loinc.org"]}}`, ""},
		{"limits", `{"limits":{"client":{"requests":50,"cost":200},"tenant":{"requests":500}}}`, ""},
		{"a limit below nothing", `{"limits":{"client":{"requests":-1}}}`, "limits.client.requests"},
		{"a limit that bounds nothing", `{"limits":{"tenant":{"cost":1000001}}}`, "limits.tenant.cost"},
		{"a level that is none", `{"validation":{"level":"strict"}}`, "validation.level"},
		{"a misspelled name", `{"validation":{"profile":["http://x"]}}`, "/validation/profile"},
		{"a name in capitals", `{"Validation":{"level":"off"}}`, "/Validation"},
		{"a name that is unknown", `{"moods":{}}`, "/moods"},
		{"a wrong type", `{"validation":{"profiles":"http://x"}}`, "/validation/profiles"},
		{"required without profiles", `{"validation":{"level":"required"}}`, "needs validation.profiles"},
		{"profiles that nothing requires", `{"validation":{"profiles":["http://x"]}}`, "for validation.level required"},
		{"a profile that is no URL", `{"validation":{"level":"required","profiles":["us-core-patient"]}}`, "absolute URLs"},
		{"a profile twice", `{"validation":{"level":"required","profiles":["http://x","http://x"]}}`, "twice"},
		{"too many profiles", `{"validation":{"level":"required","profiles":` + string(many) + `}}`, "at most 100"},
		{"a server without http", `{"terminology":{"url":"file:///etc/passwd"}}`, "terminology.url"},
		{"a server with a password", `{"terminology":{"url":"https://u:p@tx.example.org"}}`, "terminology.url"},
		{"a server with a query", `{"terminology":{"url":"https://tx.example.org?a=b"}}`, "terminology.url"},
		{"what to do without a server", `{"terminology":{"onFailure":"warn"}}`, "need terminology.url"},
		{"a way to go on that is none", `{"terminology":{"url":"https://x","onFailure":"open"}}`, "onFailure"},
		{"a name twice", `{"validation":{"level":"off","level":"base"}}`, "JSON object"},
		{"years of the audit trail", `{"audit":{"keepYears":6}}`, ""},
		{"less years than six", `{"audit":{"keepYears":5}}`, "audit.keepYears"},
		{"years before none", `{"audit":{"keepYears":-1}}`, "audit.keepYears"},
		{"too many years", `{"audit":{"keepYears":101}}`, "audit.keepYears"},
		{"an array", `[]`, "JSON object"},
		{"nothing", ``, "JSON object"},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			_, err := ParseSettings([]byte(tt.text))
			if (tt.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// The release before reads what a newer one has stored.
func TestStoredSettingsMayHaveMore(t *testing.T) {
	s, err := storedSettings([]byte(`{"validation":{"level":"claimed"},"later":{"on":true}}`))
	if err != nil || s.Validation.Level != Claimed {
		t.Errorf("got %+v, %v", s, err)
	}
}
