package search_test

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
)

var allPrefixes = []string{"eq", "ne", "gt", "lt", "ge", "le", "sa", "eb"}

// prefixMatrix holds which prefixes find the resource by a value.
func prefixMatrix(t *testing.T, json, param string, rows map[string]string) {
	t.Helper()
	d := document(t, json)
	for value, want := range rows {
		var got []string
		for _, p := range allPrefixes {
			if finds(t, d, param+"="+p+url.QueryEscape(value)) {
				got = append(got, p)
			}
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s: got %q, want %q", value, s, want)
		}
		if plain := finds(t, d, param+"="+url.QueryEscape(value)); plain != slices.Contains(got, "eq") {
			t.Errorf("%s without a prefix is %t, unlike eq", value, plain)
		}
	}
}

// The rows follow the table of prefixes: eq contains, ne does not, gt and lt
// overlap what is above and below, ge and le are those or eq, sa and eb lie
// wholly after and before.
func TestDatePrefixesOnAPeriod(t *testing.T) { // S-14
	prefixMatrix(t, `{"resourceType":"Encounter","id":"1","period":{"start":"2010-10-10","end":"2010-10-20"}}`, "date", map[string]string{
		"2010-10-05": "ne gt ge sa",
		"2010-10-09": "ne gt ge sa",
		"2010-10-10": "ne gt ge",
		"2010-10-15": "ne gt lt ge le",
		"2010-10-20": "ne lt le",
		"2010-10-21": "ne lt le eb",
		"2010-10":    "eq ge le",
		"2010":       "eq ge le",
		"2011":       "ne lt le eb",
	})
}

func TestDatePrefixesOnAnOpenPeriod(t *testing.T) { // S-14
	prefixMatrix(t, `{"resourceType":"Encounter","id":"1","period":{"start":"2010-10-10"}}`, "date", map[string]string{
		"2010-10-09": "ne gt ge sa",
		"2010":       "ne gt ge",
		"2035":       "ne gt lt ge le",
	})
	prefixMatrix(t, `{"resourceType":"Encounter","id":"1","period":{"end":"2010-10-10"}}`, "date", map[string]string{
		"1930": "ne gt lt ge le",
		"2010": "ne lt le",
		"2011": "ne lt le eb",
	})
}

func TestDatePrefixesOnADay(t *testing.T) { // S-14
	prefixMatrix(t, `{"resourceType":"Patient","id":"1","birthDate":"1974-12-25"}`, "birthdate", map[string]string{
		"1974-12-25":                "eq ge le",
		"1974-12-24":                "ne gt ge sa",
		"1974-12-26":                "ne lt le eb",
		"1974-12":                   "eq ge le",
		"1974":                      "eq ge le",
		"1974-12-25T10:00":          "ne gt lt ge le",
		"1974-12-25T00:00:00Z":      "ne gt ge",
		"1974-12-25T00:00:00+02:00": "ne gt ge sa",
	})
}

func TestDatePrefixesOnAMoment(t *testing.T) { // S-14
	prefixMatrix(t, `{"resourceType":"Observation","id":"1","effectiveInstant":"2013-01-14T10:00:00.5+01:00"}`, "date", map[string]string{
		"2013-01-14":                "eq ge le",
		"2013-01-14T09:00":          "eq ge le",
		"2013-01-14T09:00:00":       "eq ge le",
		"2013-01-14T10:00:00+01:00": "eq ge le",
		"2013-01-14T10:00":          "ne lt le eb",
		"2013-01-14T09:00:00.500Z":  "ne gt ge", // the value is less precise
	})
}

func TestTimingIsItsOuterLimits(t *testing.T) { // S-14
	d := `{"resourceType":"Observation","id":"1","effectiveTiming":{"event":["2012-01-07","2012-01-01"],"repeat":{"boundsPeriod":{"start":"2012-01-03","end":"2012-01-09"}}}}`
	check(t, d, []string{"date=2012-01", "date=gt2012-01-08", "date=lt2012-01-02", "date=ge2012-01-01"}, []string{"date=2012-01-07", "date=gt2012-01-09", "date=sa2012-01-01"})
}

func TestApproximateDates(t *testing.T) { // S-14
	d := `{"resourceType":"Patient","id":"1","birthDate":"1924-06-01"}`
	check(t, d, []string{"birthdate=ap1924", "birthdate=ap1920", "birthdate=ap1930"}, []string{"birthdate=ap1960"})
}

// 100 is [99.5, 100.5), 100.00 is [99.995, 100.005), 1e2 is [95, 105).
func TestNumberPrecision(t *testing.T) { // S-12
	risk := func(p string) string {
		return fmt.Sprintf(`{"resourceType":"RiskAssessment","id":"1","status":"final","prediction":[{"probabilityDecimal":%s}]}`, p)
	}
	prefixMatrix(t, risk("0.8"), "probability", map[string]string{
		"0.8":   "eq ge le",
		"0.80":  "eq ge le",
		"0.84":  "ne lt le eb",
		"0.85":  "ne lt le eb",
		"0.75":  "ne gt ge sa",
		"1":     "eq lt le eb",
		"8e-1":  "eq ge le",
		"0.799": "ne gt ge sa",
	})
	check(t, risk("0.75"), []string{"probability=0.8"}, []string{"probability=0.7"})
	check(t, risk("0.85"), []string{"probability=0.9"}, []string{"probability=0.8"})
	check(t, risk("99.5"), []string{"probability=100", "probability=ap100", "probability=ap109", "probability=1e2"}, []string{"probability=99", "probability=100.0", "probability=ap120"})
	check(t, risk("100.5"), []string{"probability=101"}, []string{"probability=100"})
	check(t, risk("-2"), []string{"probability=-2", "probability=-2.0", "probability=lt0", "probability=ap-2.1"}, []string{"probability=2"})
}

func TestWholeNumbersAreExact(t *testing.T) { // S-12
	check(t, `{"resourceType":"MolecularSequence","id":"1","coordinateSystem":1,"variant":[{"start":98}]}`,
		[]string{"variant-start=98", "variant-start=ge98"}, []string{"variant-start=1e2", "variant-start=ne98"})
}

func TestQuantities(t *testing.T) { // S-13
	q := func(rest string) string {
		return `{"resourceType":"Observation","id":"1","valueQuantity":{"value":5.4,` + rest + `}}`
	}
	check(t, q(`"unit":"milligram","system":"http://unitsofmeasure.org","code":"mg"`),
		[]string{"value-quantity=5.4", "value-quantity=5.4|http://unitsofmeasure.org|mg", "value-quantity=5.4||mg", "value-quantity=gt5||milligram", "combo-value-quantity=5.40||mg"},
		[]string{"value-quantity=5.4||kg", "value-quantity=5.4||Mg", "value-quantity=5.4|http://x.org|mg", "value-quantity=5.5||mg", "value-quantity=5.41"})
	u := func(code string) string { return q(`"system":"http://unitsofmeasure.org","code":"` + code + `"`) }
	check(t, u("g"),
		[]string{"value-quantity=5400||mg", "value-quantity=5.40e3|http://unitsofmeasure.org|mg", "value-quantity=ge0.0054||kg", "value-quantity=le5400||mg", "combo-value-quantity=ap5000||mg"},
		[]string{"value-quantity=5400", "value-quantity=5400|http://x.org|mg", "value-quantity=5401||mg", "value-quantity=5.4||mg", "value-quantity=gt5400||mg", "value-quantity=5.4||L", "value-quantity=ap5000|http://x.org|mg"})
	check(t, u("mg/dL"), []string{"value-quantity=0.054||g/L", "value-quantity=ge54||ug/mL", "value-quantity=le54||mg/L"}, []string{"value-quantity=54||mg/dL", "value-quantity=5.4||mg"})
	check(t, u("Cel"), []string{"value-quantity=278.55||K", "value-quantity=lt42||[degF]", "value-quantity=gt41||[degF]", "value-quantity=ap5||Cel"}, []string{"value-quantity=5.4||K", "value-quantity=ap6.1||Cel"})
	check(t, u("10*3/uL"), []string{"value-quantity=5.4||10*9/L", "value-quantity=5400||/uL"}, []string{"value-quantity=5.4||10*6/L"})
	check(t, u("[pH]"), []string{"value-quantity=5.4||[pH]"}, []string{"value-quantity=5.4||1", "value-quantity=5.4||%25"})
	check(t, u("mmHg"), []string{"value-quantity=5.4||mmHg", "value-quantity=5.4|http://unitsofmeasure.org|mmHg"}, []string{"value-quantity=5.4||mm[Hg]"})
	check(t, q(`"comparator":"<","system":"http://unitsofmeasure.org","code":"g"`), []string{"value-quantity=lt5400||mg", "value-quantity=lt10||mg"}, []string{"value-quantity=ge5400||mg"})
	check(t, q(`"unit":"drops"`), []string{"value-quantity=5.4||drops"}, []string{"value-quantity=5.4|http://unitsofmeasure.org|drops"})
	check(t, q(`"comparator":"<"`), []string{"value-quantity=lt5", "value-quantity=lt5.4", "value-quantity=le5.3"}, []string{"value-quantity=gt5.4", "value-quantity=ge5.4", "value-quantity=5.4"})
	check(t, q(`"comparator":">="`), []string{"value-quantity=gt100", "value-quantity=ge5.4"}, []string{"value-quantity=lt5.4"})
	check(t, `{"resourceType":"Condition","id":"1","onsetRange":{"low":{"value":30,"unit":"a"},"high":{"value":40,"unit":"a"}}}`,
		[]string{"onset-age=gt35", "onset-age=lt35", "onset-age=ge40||a", "onset-age=ap31"}, []string{"onset-age=35", "onset-age=gt40", "onset-age=ge35||b"})
	age := func(low, high string) string {
		return `{"resourceType":"Condition","id":"1","onsetRange":{"low":{"value":18,"system":"http://unitsofmeasure.org","code":"` + low + `"},"high":{"value":3,"system":"http://unitsofmeasure.org","code":"` + high + `"}}}`
	}
	check(t, age("mo", "a"), []string{"onset-age=gt1.5||a", "onset-age=ge36||mo", "onset-age=lt2||a"}, []string{"onset-age=gt3||a", "onset-age=lt18||mo", "onset-age=2||a"})
	check(t, `{"resourceType":"Invoice","id":"1","totalNet":{"value":48,"currency":"EUR"}}`,
		[]string{"totalnet=48", "totalnet=48||EUR", "totalnet=48|urn:iso:std:iso:4217|EUR"}, []string{"totalnet=48||USD"})
}
