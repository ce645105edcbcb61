package validate_test

import (
	"strings"
	"testing"
)

// The formats of the primitive types are those of the standard.
// https://hl7.org/fhir/R4/datatypes.html#primitive
func TestPrimitives(t *testing.T) {
	q := func(s string) string { return `"` + s + `"` }
	for _, tt := range []struct {
		typ         string
		good, wrong []string
	}{
		{"boolean", []string{"true", "false"}, []string{`"true"`, "1", "null", "{}"}},
		{"integer", []string{"0", "1", "-1", "2147483647", "-2147483648"}, []string{"2147483648", "-2147483649", "1.0", "1e2", "-0", `"1"`, "true"}},
		{"unsignedInt", []string{"0", "2147483647"}, []string{"-1", "2147483648", "0.5"}},
		{"positiveInt", []string{"1", "2147483647"}, []string{"0", "-1", "2147483648"}},
		{"decimal", []string{"0", "-0.0", "1.50", "1e2", "1E-7", "123456789012345678901234567890.123456789", "9007199254740993"}, []string{`"1.5"`, "1e999", "-1e999999", "1e-400"}},
		{"string", []string{q("a"), q(" "), q(`\u00e9\n`), q("<b>")}, []string{q(""), q(`\u0000`), q(`a\u001fb`), q(`\b`), "1", q(strings.Repeat("x", 1<<20+1))}},
		{"markdown", []string{q("# a\\n\\n* b")}, []string{q(""), q(`\u0007`)}},
		{"code", []string{q("a"), q("a b"), q("<"), q("é")}, []string{q(" a"), q("a "), q("a  b"), q(" "), q(`a\n\nb`)}},
		{"id", []string{q("a"), q("A-1.b"), q(strings.Repeat("a", 64))}, []string{q("a_b"), q("a b"), q("é"), q(strings.Repeat("a", 65)), q("a/b")}},
		{"uri", []string{q("http://x.org/a?b=c#d"), q("urn:oid:1.2"), q("#a"), q("Patient/1"), q("é")}, []string{q("a b"), q(" a"), q(`a\n`), q(`a\u00a0b`), q(`a\u2028`)}},
		{"url", []string{q("https://x.org"), q("mailto:a@b")}, []string{q("a b")}},
		{"canonical", []string{q("http://x.org/a|1.0"), q("urn:uuid:c757873d-ec9a-4326-a141-556f43239520")}, []string{q("http://x.org/a | 1.0")}},
		{"oid", []string{q("urn:oid:1.2.3"), q("urn:oid:2.999"), q("urn:oid:0.0")}, []string{q("1.2.3"), q("urn:oid:1"), q("urn:oid:3.1"), q("urn:oid:1.02"), q("urn:oid:1..2"), q("urn:oid:1.2."), q("urn:oid:")}},
		{"uuid", []string{q("urn:uuid:c757873d-ec9a-4326-a141-556f43239520")}, []string{q("c757873d-ec9a-4326-a141-556f43239520"), q("urn:uuid:C757873D-EC9A-4326-A141-556F43239520"), q("urn:uuid:c757873dec9a4326a141556f43239520"), q("urn:uuid:c757873d-ec9a-4326-a141-556f4323952")}},
		{"date", []string{q("2018"), q("1973-06"), q("1905-08-23"), q("2000-02-29"), q("2024-02-29"), q("0001-01-01"), q("9999-12-31")},
			[]string{q("0000"), q("2018-00"), q("2018-13"), q("2018-1"), q("2018-02-29"), q("1900-02-29"), q("2018-04-31"), q("2018-01-00"), q("2018-01-32"), q("20180101"), q("2018-01-01T00:00:00Z"), q("18"), q("2018-"), q("2018-01-"), q(" 2018"), q("２０１８"), "2018"}},
		{"dateTime", []string{q("2018"), q("1973-06"), q("1905-08-23"), q("2015-02-07T13:28:17-05:00"), q("2017-01-01T00:00:00.000Z"), q("2016-12-31T23:59:60Z"), q("2015-02-07T13:28:17.123456789+14:00")},
			[]string{q("2015-02-07T13:28:17"), q("2015-02-07T13:28Z"), q("2015-02-07T24:00:00Z"), q("2015-02-07T13:60:00Z"), q("2015-02-07T13:28:61Z"), q("2015-02-07T13:28:17+14:01"), q("2015-02-07T13:28:17+15:00"), q("2015-02-07T13:28:17+0500"), q("2015-02-07T13:28:17.Z"), q("2015-02-07t13:28:17z"), q("2015-02-07 13:28:17Z"), q("2015-02T13:28:17Z"), q("2015-02-30T13:28:17Z"), q("2015-02-07T13:28:17Z "), q("9999-12-31T23:59:61+14:00")}},
		{"instant", []string{q("2015-02-07T13:28:17.239+02:00"), q("2017-01-01T00:00:00Z")}, []string{q("2015-02-07"), q("2015"), q("2015-02-07T13:28:17"), q("2015-02-07T13:28Z")}},
		{"time", []string{q("00:00:00"), q("23:59:60"), q("12:30:15.5")}, []string{q("12:30"), q("24:00:00"), q("12:30:15Z"), q("12:30:15."), q("T12:30:15"), q("1:30:15")}},
		{"base64Binary", []string{q("AAAA"), q("AA=="), q("AAA="), q(`AA\nAA`), q("+/+/")}, []string{q("A"), q("AAA"), q("A==="), q("AA=A"), q("===="), q("AA-_"), q("AA.A"), q(" ")}},
	} {
		t.Run(tt.typ, func(t *testing.T) {
			try := func(value string) []string {
				name := "value" + strings.ToUpper(tt.typ[:1]) + tt.typ[1:]
				body := `{"resourceType":"Basic","code":{"text":"x"},"extension":[{"url":"http://x","` + name + `":` + value + `}]}`
				return faults(t, body)
			}
			for _, value := range tt.good {
				if got := try(value); len(got) != 0 {
					t.Errorf("%s is refused: %v", value, got)
				}
			}
			for _, value := range tt.wrong {
				if got := try(value); len(got) == 0 || !strings.HasPrefix(got[0], "value Basic.extension[0].value") {
					t.Errorf("%.80s: got %v, want a fault of its value", value, got)
				}
			}
		})
	}
}
