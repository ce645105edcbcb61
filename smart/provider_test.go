package smart_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/smart"
)

// A provider that could not be trusted with what it maps is refused when it is
// registered.
func TestAProviderIsCheckedWhenItIsRegistered(t *testing.T) {
	for _, tt := range []struct {
		wrong  string
		change func(*smart.Provider)
	}{
		{"", func(*smart.Provider) {}},
		{"name", func(p *smart.Provider) { p.Name = "local" }},
		{"name", func(p *smart.Provider) { p.Name = "a|b" }},
		{"label", func(p *smart.Provider) { p.Label = "" }},
		{"issuer", func(p *smart.Provider) { p.Issuer = "file:///etc" }},
		{"issuer", func(p *smart.Provider) { p.Issuer = "https://id.example/?a" }},
		{"issuer", func(p *smart.Provider) { p.Issuer = "https://user@id.example" }},
		{"client_id", func(p *smart.Provider) { p.ClientID = "" }},
		{"secret", func(p *smart.Provider) { p.Secret = "a\nb" }},
		{"scopes", func(p *smart.Provider) { p.Scopes = []string{"a b"} }},
		{"userType", func(p *smart.Provider) { p.Mapping.UserType = "Observation" }},
		{"user", func(p *smart.Provider) { p.Mapping.User.Values = map[string]string{"a": "Group/1"} }},
		{"needs values", func(p *smart.Provider) { p.Mapping.Roles = smart.Claim{Name: "roles"} }},
		{"without a name", func(p *smart.Provider) { p.Mapping.Roles.Name = "" }},
		{"roles", func(p *smart.Provider) { p.Mapping.Roles.Values = map[string]string{"a": strings.Repeat("r", 65)} }},
		{"location", func(p *smart.Provider) {
			p.Mapping.Location = smart.Claim{Name: "at", Values: map[string]string{"a": "a/b"}}
		}},
	} {
		p := smart.Provider{
			Name: "hospital", Label: "Hospital", Issuer: "https://id.example", ClientID: "cordon",
			Mapping: smart.Mapping{User: smart.Claim{Name: "u"}, Roles: smart.Claim{Name: "g", Values: map[string]string{"a": "nurse"}}},
		}
		tt.change(&p)
		err := p.Check()
		if (err == nil) != (tt.wrong == "") || err != nil && !strings.Contains(err.Error(), tt.wrong) {
			t.Errorf("%q: %v", tt.wrong, err)
		}
	}
}

// What claims mean is what the mapping says and nothing else.
func TestClaimsMeanWhatTheMappingSays(t *testing.T) {
	m := smart.Mapping{
		User: smart.Claim{Name: "staff"}, UserType: "Practitioner",
		Roles:         smart.Claim{Name: "groups", Values: map[string]string{"A": "nurse", "B": "nurse", "C": "billing"}},
		Organizations: smart.Claim{Name: "org"}, Departments: smart.Claim{Name: "dept"}, Location: smart.Claim{Name: "at"},
		ShiftStart: "from", ShiftEnd: "to",
	}
	for _, tt := range []struct{ claims, user, person string }{
		{`{}`, "", "{[] [] [] []  0 0}"},
		{`{"staff":"dr1","groups":["A","B","x"],"org":"o1","dept":["d1","d2"],"at":"l1","from":10,"to":20}`, "Practitioner/dr1", "{[nurse] [o1] [] [d1 d2] l1 10 20}"},
		{`{"staff":null,"groups":null,"from":null,"roles":["C"]}`, "", "{[] [] [] []  0 0}"},
		{`{"staff":"Practitioner/dr1"}`, "", "error"},
		{`{"staff":"https://here/Practitioner/dr1"}`, "", "error"},
		{`{"from":"10"}`, "", "error"},
		{`{"from":1e400}`, "", "error"},
		{`{"from":20,"to":10}`, "", "error"},
		{`{"groups":[["A"]]}`, "", "error"},
		{`{"at":["l1","l2"]}`, "", "error"},
		{`{"org":"o1","org":"o2"}`, "", "error"},
		{`[]`, "", "error"},
		{`{"org":["` + strings.Repeat(`o","`, 60) + `o"]}`, "", "{[] [o] [] []  0 0}"},
	} {
		user, person, err := m.Of([]byte(tt.claims), "https://here")
		got := fmt.Sprint(person)
		if err != nil {
			user, got = "", "error"
		}
		if user != tt.user || got != tt.person {
			t.Errorf("%s: %q %s %v, want %q %s", tt.claims, user, got, err, tt.user, tt.person)
		}
	}
}
