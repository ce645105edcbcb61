package launch

import (
	"cmp"
	"context"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/store"
)

// encountersShown bounds the list that a user chooses from.
const encountersShown = 20

// An encounter is a visit that a user can choose.
type encounter struct {
	ID, What, Begun, Status string
}

// encounterForm is what the page of visits shows.
type encounterForm struct {
	frame
	App        string
	Sealed     string
	Patient    patient
	Encounters []encounter
	More       bool
}

// showEncounters shows the visits of the patient that the user may see, the last
// one first.
func (s *Server) showEncounters(ctx context.Context, c *call, b *browser, l login, r request) error {
	who, _, err := s.visible(ctx, c, b, l, store.LaunchContext{Patient: r.Context.Patient})
	if err != nil {
		return err
	}
	found, err := s.encounters(ctx, c, b, l, r.Context.Patient, search.Param{Name: "_sort", Value: "-date"}, search.Param{Name: "_count", Value: "21"})
	if err != nil {
		return err
	}
	sealed, err := r.seal(b.keys, encounterPage, b.secret)
	if err != nil {
		return err
	}
	more := len(found) > encountersShown
	found = found[:min(len(found), encountersShown)]
	c.show(encounters(encounterForm{s.frame(b, "Choose a visit"), appName(l.client), sealed, who, found, more}), r)
	return nil
}

// chooseEncounter takes the form of the page of visits: one of the patient's that
// the user may see, or none.
func (s *Server) chooseEncounter(ctx context.Context, c *call) error {
	form, b, l, r, err := s.posted(ctx, c, encounterPage)
	if err != nil {
		return err
	}
	if form.Has("none") {
		return s.showConsent(ctx, c, b, l, r)
	}
	id := form.Get("encounter")
	if !fhir.ValidID(id) {
		return invalidRequest("that is not the id of a visit")
	}
	found, err := s.encounters(ctx, c, b, l, r.Context.Patient, search.Param{Name: "_id", Value: id})
	if err != nil {
		return err
	}
	if len(found) != 1 {
		return errNotVisible
	}
	r.Context.Encounter = id
	return s.showConsent(ctx, c, b, l, r)
}

// encounters searches those of the patient, with the rights of the user.
func (s *Server) encounters(ctx context.Context, c *call, b *browser, l login, patient string, more ...search.Param) (found []encounter, err error) {
	params := append([]search.Param{{Name: "patient", Value: "Patient/" + patient}}, more...)
	matches, err := s.search(ctx, c, b, l, "Encounter", params)
	for _, m := range matches {
		found = append(found, readEncounter(m))
	}
	return found, err
}

// readEncounter returns what tells a visit from others.
func readEncounter(r fhir.Resource) encounter {
	type coding struct{ Code, Display string }
	var body struct {
		Status string
		Class  coding
		Type   []struct {
			Text   string
			Coding []coding
		}
		Period struct{ Start string }
	}
	e := encounter{ID: r.Ref.ID, What: "Visit " + r.Ref.ID}
	if json.Unmarshal(r.Body, &body, json.MatchCaseInsensitiveNames(true)) != nil {
		return e
	}
	e.Status, e.What = body.Status, cmp.Or(body.Class.Display, body.Class.Code, e.What)
	if len(body.Type) > 0 {
		text := body.Type[0].Text
		if text == "" && len(body.Type[0].Coding) > 0 {
			text = body.Type[0].Coding[0].Display
		}
		e.What = cmp.Or(text, e.What)
	}
	e.Begun, _, _ = strings.Cut(body.Period.Start, "T")
	return e
}
