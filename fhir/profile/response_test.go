package profile_test

import (
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/fhir/canonical"
	"github.com/cordon-fhir/cordon/fhir/profile"
)

// asking is a Questionnaire with the items.
func asking(items string) string {
	return `{"resourceType":"Questionnaire","url":"http://example.org/q","version":"1","status":"active","item":[` + items + `]}`
}

// answering is a response to it.
func answering(status, items string) string {
	return `{"resourceType":"QuestionnaireResponse","status":"` + status + `","questionnaire":"http://example.org/q","item":[` + items + `]}`
}

// said is an item of a response with answers, which are values.
func said(linkID string, values ...string) string {
	answers := ""
	for _, v := range values {
		answers += `,{` + v + `}`
	}
	return `{"linkId":"` + linkID + `","answer":[` + strings.TrimPrefix(answers, ",") + `]}`
}

func limited(url, value string) string {
	return `{"linkId":"q","type":"%","repeats":true,"extension":[{"url":"` + url + `",` + value + `}]}`
}

const ofR4 = "http://hl7.org/fhir/StructureDefinition/"

// A QuestionnaireResponse is held against its Questionnaire: which items there
// are and where, of what type their answers are and how many, which options
// there are, and what is to be answered on which condition.
// https://hl7.org/fhir/R4/questionnaireresponse.html#link
func TestResponsesAreHeldAgainstTheirQuestionnaire(t *testing.T) {
	const nested = `{"linkId":"g","type":"group","repeats":true,"item":[{"linkId":"smokes","type":"boolean"},
		{"linkId":"many","type":"integer","required":true,"enableWhen":[{"question":"smokes","operator":"=","answerBoolean":true}]}]}`
	group := func(items string) string { return `{"linkId":"g","item":[` + items + `]}` }
	const options = `{"linkId":"q","type":"choice","repeats":true,"answerOption":[{"valueCoding":{"system":"urn:s","code":"a"}},{"valueString":"b"},
		{"valueCoding":{"system":"urn:s","code":"none"},"extension":[{"url":"` + ofR4 + `questionnaire-optionExclusive","valueBoolean":true}]}]}`
	const choices = `{"linkId":"q","type":"choice","answerValueSet":"http://hl7.org/fhir/ValueSet/administrative-gender"}`
	gender := func(code string) string {
		return said("q", `"valueCoding":{"system":"http://hl7.org/fhir/administrative-gender","code":"`+code+`"}`)
	}
	when := func(operator, answer, behavior string) string {
		return `{"linkId":"a","type":"integer","repeats":true},{"linkId":"q","type":"string"` + behavior + `,"enableWhen":[{"question":"a","operator":"` + operator + `",` + answer + `}]}`
	}
	const text = `"valueString":"x"`
	for _, tt := range []struct {
		claim, items string
		valid        []string
		invalid      map[string]string // and what is said
	}{
		{"items that it has", `{"linkId":"q","type":"string"}`, []string{said("q", text), ""}, map[string]string{
			said("other", text):                     "QuestionnaireResponse.item[0]: the Questionnaire has no item with the linkId",
			said("q", text) + `,` + said("q", text): "must be there once",
			said("q", text, text):                   "must have one answer",
			said("q", `"valueBoolean":true`):        "QuestionnaireResponse.item[0].answer[0].value: an answer of the item \"q\" must be a string",
		}},
		{"their order and place", `{"linkId":"q","type":"string","item":[{"linkId":"r","type":"string"}]},{"linkId":"s","type":"string"}`, []string{
			`{"linkId":"q","answer":[{"valueString":"x","item":[` + said("r", text) + `]}]},` + said("s", text),
		}, map[string]string{
			said("s", text) + `,` + said("q", text):           "out of the order",
			said("r", text):                                   "belongs elsewhere",
			`{"linkId":"q","item":[` + said("r", text) + `]}`: "belong into its answer",
		}},
		{"what needs no answer", `{"linkId":"g","type":"group"},{"linkId":"d","type":"display"}`, []string{`{"linkId":"g"},{"linkId":"d"}`}, map[string]string{
			said("g", text): "must have no answer", said("d", text): "must have no answer",
		}},
		{"what must be answered", `{"linkId":"q","type":"string","required":true}`, []string{said("q", text)}, map[string]string{
			"": `the item \"q\" must be answered`, `{"linkId":"q"}`: "must be answered",
		}},
		{"options", options, []string{said("q", `"valueCoding":{"system":"urn:s","code":"a","display":"A"}`, `"valueString":"b"`), said("q", `"valueCoding":{"system":"urn:s","code":"none"}`)}, map[string]string{
			said("q", `"valueCoding":{"system":"urn:s","code":"CANARY"}`):                                              "none of the options",
			said("q", `"valueString":"CANARY"`):                                                                        "none of the options",
			said("q", `"valueCoding":{"system":"urn:s","code":"a"}`, `"valueCoding":{"system":"urn:s","code":"none"}`): "excludes all others",
			said("q", `"valueInteger":1`):                                                                              "must be a Coding or a string",
		}},
		{"open choices", strings.Replace(options, `"choice"`, `"open-choice"`, 1), []string{said("q", `"valueString":"another"`), said("q", `"valueCoding":{"system":"urn:s","code":"z"}`)}, map[string]string{
			said("q", `"valueDate":"2000"`): "must be a Coding or a string",
		}},
		{"value sets", choices, []string{gender("male")}, map[string]string{gender("CANARY"): "not in the value set"}},
		{"a condition in each of several groups", nested, []string{
			group(said("smokes", `"valueBoolean":false`)) + `,` + group(said("smokes", `"valueBoolean":true`)+`,`+said("many", `"valueInteger":3`)),
		}, map[string]string{
			group(said("smokes", `"valueBoolean":true`)):                                           `QuestionnaireResponse.item[0]: the item \"many\" must be answered`,
			group(said("smokes", `"valueBoolean":false`) + `,` + said("many", `"valueInteger":3`)): "not enabled",
		}},
		{"that something was answered", when("exists", `"answerBoolean":true`, ""), []string{said("a", `"valueInteger":1`) + `,` + said("q", text), ""}, map[string]string{said("q", text): "not enabled"}},
		{"that nothing was", when("exists", `"answerBoolean":false`, ""), []string{said("q", text)}, map[string]string{said("a", `"valueInteger":1`) + `,` + said("q", text): "not enabled"}},
		{"that one answer is greater", when(">", `"answerInteger":5`, ""), []string{said("a", `"valueInteger":1`, `"valueInteger":6`) + `,` + said("q", text)}, map[string]string{
			said("a", `"valueInteger":5`) + `,` + said("q", text): "not enabled"}},
		{"numbers of answers", limited(ofR4+"questionnaire-minOccurs", `"valueInteger":2`), []string{said("q", text, text)}, map[string]string{said("q", text): "at least 2", "": "at least 2"}},
		{"no more than", limited(ofR4+"questionnaire-maxOccurs", `"valueInteger":2`), []string{said("q", text, text)}, map[string]string{said("q", text, text, text): "at most 2"}},
		{"lengths", `{"linkId":"q","type":"string","maxLength":3}`, []string{said("q", `"valueString":"äöü"`)}, map[string]string{said("q", `"valueString":"CANARY"`): "longer than 3"}},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			v := profile.New(setOf(t, asking(strings.ReplaceAll(tt.items, `"%"`, `"string"`))), nil)
			check := func(items, want string) {
				t.Helper()
				if items == "" {
					items = `{"linkId":"none"}`
				}
				body := strings.Replace(answering("completed", items), `,"item":[{"linkId":"none"}]`, "", 1)
				errs := errorsIn(validate1(t, v, parse(t, []byte(body)), profile.Options{Claimed: true}))
				said := ""
				for _, e := range errs {
					said += e.Expression[0] + ": " + strings.ReplaceAll(e.Diagnostics, `"`, `\"`) + "\n"
				}
				want = strings.ReplaceAll(strings.ReplaceAll(want, `\"`, `"`), `"`, `\"`)
				if want == "" && said != "" || !strings.Contains(said, want) || strings.Contains(said, "CANARY") {
					t.Errorf("%s: got %q, want %q", items, said, want)
				}
			}
			for _, items := range tt.valid {
				check(items, "")
			}
			for items, want := range tt.invalid {
				check(items, want)
			}
		})
	}
}

// What the extensions of a question say of its answers holds.
// https://hl7.org/fhir/R4/questionnaire-profiles.html
func TestExtensionsLimitAnswers(t *testing.T) {
	kg := func(n string) string {
		return `"valueQuantity":{"value":` + n + `,"system":"http://unitsofmeasure.org","code":"kg"}`
	}
	for _, tt := range []struct{ typ, extension, valid, invalid string }{
		{"date", `"url":"` + ofR4 + `minValue","valueDate":"2020-01-01"`, `"valueDate":"2020-02-01"`, `"valueDate":"2019-12-31"`},
		{"integer", `"url":"` + ofR4 + `maxValue","valueInteger":5`, `"valueInteger":5`, `"valueInteger":6`},
		{"quantity", `"url":"http://hl7.org/fhir/uv/sdc/StructureDefinition/sdc-questionnaire-maxQuantity",` + kg("5"), strings.Replace(kg("4999"), `"kg"`, `"g"`, 1), strings.Replace(kg("5001"), `"kg"`, `"g"`, 1)},
		{"quantity", `"url":"` + ofR4 + `questionnaire-unitOption","valueCoding":{"system":"http://unitsofmeasure.org","code":"kg"}`, kg("1"), `"valueQuantity":{"value":1,"unit":"kg"}`},
		{"decimal", `"url":"` + ofR4 + `maxDecimalPlaces","valueInteger":2`, `"valueDecimal":1.25`, `"valueDecimal":1.250`},
		{"string", `"url":"` + ofR4 + `minLength","valueInteger":2`, `"valueString":"ab"`, `"valueString":"a"`},
		{"attachment", `"url":"` + ofR4 + `maxSize","valueDecimal":10`, `"valueAttachment":{"contentType":"a/b","size":10}`, `"valueAttachment":{"contentType":"a/b","size":11}`},
		{"attachment", `"url":"` + ofR4 + `mimeType","valueCode":"image/gif"`, `"valueAttachment":{"contentType":"image/gif"}`, `"valueAttachment":{"contentType":"image/png"}`},
		{"reference", `"url":"` + ofR4 + `questionnaire-referenceResource","valueCode":"Patient"`, `"valueReference":{"reference":"Patient/1"}`, `"valueReference":{"reference":"Group/1"}`},
	} {
		v := profile.New(setOf(t, asking(`{"linkId":"q","type":"`+tt.typ+`","extension":[{`+tt.extension+`}]}`)), nil)
		for value, want := range map[string]int{tt.valid: 0, tt.invalid: 1} {
			errs := errorsIn(validate1(t, v, parse(t, []byte(answering("completed", said("q", value)))), profile.Options{Claimed: true}))
			if len(errs) != want {
				t.Errorf("%s, %s: got %v, want %d errors", tt.extension, value, errs, want)
			}
		}
	}
}

// As long as a response is in progress, nothing is missing in it; without its
// Questionnaire nothing is held; and what is not claimed is not looked at.
func TestResponsesMayBeUnfinished(t *testing.T) {
	required := setOf(t, asking(`{"linkId":"q","type":"string","required":true},{"linkId":"r","type":"string"}`))
	other := said("r", `"valueString":"x"`)
	for _, tt := range []struct {
		claim string
		set   *canonical.Set
		body  string
		o     profile.Options
	}{
		{"in progress", required, answering("in-progress", other), profile.Options{Claimed: true}},
		{"not known here", canonical.Core(), answering("completed", other), profile.Options{Claimed: true}},
		{"of the base", required, answering("completed", other), profile.Options{Base: true}},
	} {
		if errs := errorsIn(validate1(t, profile.New(tt.set, nil), parse(t, []byte(tt.body)), tt.o)); len(errs) > 0 {
			t.Errorf("%s: got %v", tt.claim, errs)
		}
	}
}

// A condition of a Questionnaire asks about another of its questions.
func TestConditionsAskAboutOtherQuestions(t *testing.T) {
	when := func(question string) string {
		return `"enableWhen":[{"question":"` + question + `","operator":"exists","answerBoolean":true}]`
	}
	v := profile.New(canonical.Core(), nil)
	for question, want := range map[string]int{"a": 0, "b": 1, "c": 1, "nothing": 1} {
		body := asking(`{"linkId":"a","type":"string"},{"linkId":"b","type":"string",` + when(question) + `,"item":[{"linkId":"c","type":"string"}]}`)
		errs := errorsIn(validate1(t, v, parse(t, []byte(body)), profile.Options{Claimed: true}))
		if len(errs) != want || want == 1 && errs[0].Expression[0] != "Questionnaire.item[1].enableWhen[0]" {
			t.Errorf("%s: got %v, want %d errors", question, errs, want)
		}
	}
}
