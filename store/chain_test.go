package store_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
)

// family is patients who are linked in a row, their groups, observations and
// questionnaires.
func family(t testing.TB) []*fhir.Document {
	var docs []*fhir.Document
	add := func(json string, args ...any) { docs = append(docs, document(t, json, args...)) }
	for i := range 9 {
		tag := ""
		if i >= 3 {
			tag = `"meta":{"tag":[{"system":"s","code":"shown"}]},`
		}
		add(`{"resourceType":"Patient","id":"c%d","active":%t,"name":[{"family":"Chain%d"}],"generalPractitioner":[{"reference":"Practitioner/c%d"}],"link":[{"other":{"reference":"Patient/c%d"},"type":"seealso"}]}`,
			i, i%2 == 0, i, i%3, i+1)
		add(`{"resourceType":"Observation","id":"c%d",%s"status":"final","code":{"coding":[{"system":"s","code":"c%d"}]},"subject":{"reference":"Patient/c%d"},"hasMember":[{"reference":"Observation/c%d"}],"valueQuantity":{"value":%d}}`,
			i, tag, i%3, i, i+1, i)
	}
	for i := range 3 {
		add(`{"resourceType":"Practitioner","id":"c%d","name":[{"family":"Doctor%d"}]}`, i, i)
		add(`{"resourceType":"Group","id":"c%d","type":"person","actual":true,"member":[{"entity":{"reference":"Patient/c%d"}},{"entity":{"reference":"Patient/c%d"}}]}`, i, i, i+3)
		add(`{"resourceType":"Questionnaire","id":"c%d","status":%q,"url":"http://q.test/q","version":"%d","title":"Canonical"}`, i, []string{"active", "draft", "retired"}[i], i)
		add(`{"resourceType":"QuestionnaireResponse","id":"c%d","status":%q,"questionnaire":"http://q.test/q%s"}`, i, []string{"completed", "amended", "stopped"}[i], []string{"|0", "|1", ""}[i])
	}
	return docs
}

// S-20, S-21: chains.
func TestChainsGoBothWaysAndDeep(t *testing.T) {
	worlds(t, family(t), func(t *testing.T, d *door, w *world, slug string) {
		grant := func() *smart.Grant { return d.grant(t, slug, everything) }
		for depth := 1; depth <= 6; depth++ {
			d.same(t, w, grant, "Patient", strings.Repeat("link:Patient.", depth)+"name=chain7")
		}
		d.same(t, w, grant, "Observation",
			strings.Repeat("has-member:Observation.", 5)+"subject:Patient.family=chain8",
			"subject:Patient._has:Group:member:_id=c1",
			"subject:Patient._id=c1,c4",
			"subject._id=c2",
			"patient._has:Observation:patient:code=s|c2",
			"subject:Patient._has:Group:member:member:Patient.name=chain5",
			"subject:Patient.active=true&subject:Patient.general-practitioner:Practitioner.family=doctor1",
			"subject:Patient.active:not=true", "subject:Patient.name:contains=hain3", "subject:Patient.general-practitioner:Practitioner.family:exact=Doctor2",
		)
		d.same(t, w, grant, "Patient",
			"_has:Observation:subject:has-member:Observation.value-quantity=gt5",
			"_has:Group:member:_id:missing=false&active=true",
			"_has:Observation:patient:_has:Observation:has-member:code=s|c1",
			"_has:Observation:patient:_has:Observation:has-member:_has:Observation:has-member:value-quantity=3",
			"general-practitioner:Practitioner._has:Patient:general-practitioner:family=chain4",
			"_has:Group:member:member:Patient._has:Observation:patient:code=c2",
			"_has:Observation:subject:code=c1&_has:Observation:subject:value-quantity=lt3",
			"_has:Observation:subject:code:not=c1",
		)
		// A canonical URL names each version, or one.
		d.same(t, w, grant, "QuestionnaireResponse", "questionnaire:Questionnaire.title=canonical", "questionnaire.status=active", "questionnaire.version=1", "questionnaire._id=c2")
		d.same(t, w, grant, "Questionnaire", "_has:QuestionnaireResponse:questionnaire:status=completed", "_has:QuestionnaireResponse:questionnaire:status=amended,completed", "_has:QuestionnaireResponse:questionnaire:status=stopped")
	})
}

// S-20: what refers to a resource must be what was asked for and what the
// asker may see, also where only opened bodies tell what they may see.
func TestAReverseChainByCodeHoldsWhereBodiesMustBeOpened(t *testing.T) {
	deny := func(id int, rest string) *fhir.Document {
		return document(t, `{"resourceType":"Consent","id":"c%d","status":"active","scope":{"coding":[{"code":"patient-privacy"}]},"category":[{"text":"x"}],
			"policyRule":{"coding":[{"code":"OPTIN"}]},"patient":{"reference":"Patient/c%d"},"provision":{"type":"deny"%s}}`, id, id, rest)
	}
	docs := append(family(t), deny(2, `,"class":[{"system":"http://hl7.org/fhir/resource-types","code":"Observation"}]`))
	worlds(t, docs, func(t *testing.T, d *door, w *world, slug string) {
		all := func() *smart.Grant { return d.grant(t, slug, everything) }
		tagged := func() *smart.Grant { // the index tells a part of it
			return d.grant(t, slug, "system/Patient.rs system/Observation.rs?_tag=s|shown")
		}
		for _, tt := range []struct {
			grant func() *smart.Grant
			query string
			want  []string
		}{
			{all, "_has:Observation:patient:code=s|c1", []string{"c1", "c4", "c7"}},
			{all, "_has:Observation:patient:code=s|C2", []string{"c5", "c8"}},
			{all, "_has:Observation:patient:code=S|c2", nil},
			{all, "_has:Observation:patient:code=s|c1,s|c2", []string{"c1", "c4", "c5", "c7", "c8"}},
			{tagged, "_has:Observation:patient:code=s|c1", []string{"c4", "c7"}},
			{tagged, "_has:Observation:patient:code=s|none", nil},
		} {
			got, total, err := d.pages(t, tt.grant, "Patient", tt.query+"&_count=2&_total=accurate")
			if err != nil {
				t.Fatal(err)
			}
			var found []string
			for _, r := range got {
				found = append(found, r.Ref.ID)
			}
			if slices.Sort(found); !slices.Equal(found, tt.want) || *total != len(tt.want) {
				t.Errorf("%s finds %v of %d, want %v", tt.query, found, *total, tt.want)
			}
		}
	})
}

// S-30: includes.
func TestIncludesFollowWhatSearchesFollow(t *testing.T) {
	worlds(t, family(t), func(t *testing.T, d *door, w *world, slug string) {
		for _, tt := range []struct {
			on    fhir.Type
			query string
			want  []string
		}{
			{"QuestionnaireResponse", "_id=c1&_include=QuestionnaireResponse:questionnaire", []string{"Questionnaire/c1"}},
			{"QuestionnaireResponse", "_id=c2&_include=QuestionnaireResponse:questionnaire", []string{"Questionnaire/c0", "Questionnaire/c1", "Questionnaire/c2"}},
			{"QuestionnaireResponse", "_id=c0&_include=*", []string{"Questionnaire/c0"}},
			{"Questionnaire", "_id=c1&_revinclude=QuestionnaireResponse:questionnaire", []string{"QuestionnaireResponse/c1", "QuestionnaireResponse/c2"}},
			{"Observation", "_id=c0&_include=Observation:*", []string{"Observation/c1", "Patient/c0"}},
			{"Observation", "_id=c8&_include=Observation:subject:Patient&_include:iterate=Patient:general-practitioner", []string{"Patient/c8", "Practitioner/c2"}},
			{"Observation", "_id=c8&_include=Observation:subject:Patient&_include:recurse=Patient:general-practitioner", []string{"Patient/c8", "Practitioner/c2"}},
			{"Observation", "_id=c8&_include:iterate=*", []string{"Patient/c8", "Practitioner/c2"}},
			{"Patient", "_id=c5&_include:iterate=Patient:link", []string{"Patient/c6", "Patient/c7", "Patient/c8"}},
			{"Practitioner", "_id=c1&_revinclude=Patient:general-practitioner&_revinclude:iterate=Group:member", []string{"Group/c1", "Patient/c1", "Patient/c4", "Patient/c7"}},
			{"Observation", "_id=c8&_include=Observation:subject:Group", nil},
		} {
			page := d.search(t, d.grant(t, slug, everything), tt.on, tt.query)
			var got []string
			for _, r := range page.Included {
				got = append(got, r.Ref.String())
			}
			if slices.Sort(got); !slices.Equal(got, tt.want) {
				t.Errorf("%s?%s includes %v, want %v", tt.on, tt.query, got, tt.want)
			}
		}
		// Of what the token does not reach there is nothing, and no word.
		part := func() *smart.Grant {
			return d.as(t, slug, smart.Token{Client: "tester", Scope: "system/QuestionnaireResponse.rs system/Questionnaire.rs?status=draft system/Observation.rs"})
		}
		if page := d.search(t, part(), "QuestionnaireResponse", "_include=QuestionnaireResponse:questionnaire"); len(page.Matches) != 3 || len(page.Included) != 1 {
			t.Errorf("%d included, want the one that is a draft", len(page.Included))
		}
		if page := d.search(t, part(), "Observation", "_id=c8&_include:iterate=*"); len(page.Included) != 0 {
			t.Errorf("%d included of types that the token does not reach", len(page.Included))
		}
	})
}

// A hop is held to what the token reaches: what is hidden is as what is not.
func TestAChainTellsNothingOfWhatIsHidden(t *testing.T) { // T080, T082, T084
	worlds(t, family(t), func(t *testing.T, d *door, w *world, slug string) {
		part := func() *smart.Grant {
			return d.as(t, slug, smart.Token{Client: "tester", Scope: "system/Patient.rs?active=true system/Observation.rs system/Group.rs system/QuestionnaireResponse.rs system/Questionnaire.rs?status=draft"})
		}
		for _, tt := range []struct {
			on    fhir.Type
			query string
			want  int
		}{
			{"Observation", "subject:Patient.name=chain2", 1},
			{"Observation", "subject:Patient.name=chain3", 0}, // not active
			{"Observation", "subject:Patient.name:exact=Chain3", 0},
			{"Observation", "subject:Patient._id=c3", 0},
			{"Observation", "subject:Patient.active:not=true", 0},
			{"Patient", "link:Patient.link:Patient.name=chain2", 0}, // by way of one that is not active
			{"Group", "member:Patient._has:Observation:patient:code=c0", 1},
			{"QuestionnaireResponse", "questionnaire.title=canonical", 2}, // the draft, by its version or by none
			{"QuestionnaireResponse", "questionnaire.status=active", 0},
		} {
			page := d.search(t, part(), tt.on, tt.query+"&_total=accurate")
			if len(page.Matches) != tt.want || *page.Total != tt.want {
				t.Errorf("%s?%s finds %d of %d, want %d", tt.on, tt.query, len(page.Matches), *page.Total, tt.want)
			}
		}
		for _, query := range []string{"general-practitioner:Practitioner.name=doctor1", "_has:List:subject:_id=1", "link:Patient.general-practitioner:Practitioner._id=c1"} {
			params, _ := search.ParseQuery(query)
			q, err := search.Parse("Patient", params, search.Options{})
			if err != nil {
				t.Fatal(err)
			}
			err = d.db.View(t.Context(), part(), func(v *store.View) error {
				_, err := v.Search(t.Context(), q)
				return err
			})
			if !fhir.IsCode(err, fhir.Forbidden) {
				t.Errorf("%s: %v, want a refusal", query, err)
			}
		}
	})
}
