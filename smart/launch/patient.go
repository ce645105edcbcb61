package launch

import (
	"context"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/store"
)

// patientsShown bounds the list that a user chooses from.
const patientsShown = 20

// A patient is one of those whom a user can choose.
type patient struct {
	ID, Name, Born, Gender string
}

// born says when they were born, "" if that is not known.
func (p patient) born() string {
	if p.Born == "" {
		return ""
	}
	return "born " + p.Born
}

// after goes on after a name with what of the rest is known.
func after(known ...string) string {
	text := ""
	for _, k := range known {
		if k != "" {
			text += ", " + k
		}
	}
	return text
}

// patientForm is what the page of patients shows.
type patientForm struct {
	frame
	App      string
	Sealed   string
	Name     string // as searched for
	Patients []patient
	More     bool
}

// choosePatient takes the form of the page of patients: a search, or a choice.
func (s *Server) choosePatient(ctx context.Context, c *call) error {
	form, b, l, r, err := s.posted(ctx, c, patientPage)
	if err != nil {
		return err
	}
	id := form.Get("patient")
	if id == "" {
		return s.showPatients(ctx, c, b, l, r, strings.TrimSpace(form.Get("name")))
	}
	if !fhir.ValidID(id) {
		return invalidRequest("that is not the id of a patient")
	}
	r.Context.Patient = id
	return s.aboutPatient(ctx, c, b, l, r)
}

// showPatients shows those patients whom the user may see, and whose name or
// identifier is as given.
func (s *Server) showPatients(ctx context.Context, c *call, b *browser, l login, r request, name string) error {
	if len(name) > maxName {
		return invalidRequest("the name is too long")
	}
	found, more, err := s.patients(ctx, c, b, l, name)
	if err != nil {
		return err
	}
	if len(found) == 0 && name == "" {
		return r.denied("the user may see no patient")
	}
	sealed, err := r.seal(b.keys, patientPage, b.secret)
	if err != nil {
		return err
	}
	c.show(patients(patientForm{s.frame(b, "Choose a patient"), appName(l.client), sealed, name, found, more}), r)
	return nil
}

func (s *Server) patients(ctx context.Context, c *call, b *browser, l login, name string) ([]patient, bool, error) {
	params := []search.Param{{Name: "_count", Value: "21"}}
	switch {
	case name == "":
	case strings.ContainsAny(name, "0123456789"):
		params = append(params, search.Param{Name: "identifier", Value: escape(name)})
	default:
		for word := range strings.FieldsSeq(name) {
			params = append(params, search.Param{Name: "name", Value: escape(word)})
		}
	}
	matches, err := s.search(ctx, c, b, l, "Patient", params)
	var found []patient
	for _, m := range matches {
		found = append(found, readPatient(m))
	}
	more := len(found) > patientsShown
	return found[:min(len(found), patientsShown)], more, err
}

// search returns what is found with the rights of the user: nothing, if they have
// none to the type.
func (s *Server) search(ctx context.Context, c *call, b *browser, l login, t fhir.Type, params []search.Param) (found []fhir.Resource, err error) {
	g, err := s.grantOf(ctx, c, b, l)
	if err != nil {
		return nil, err
	}
	q, err := search.Parse(t, params, search.Options{Base: s.cfg.Base(c.slug)})
	if err != nil {
		return nil, invalidRequest("that cannot be searched for")
	}
	err = s.cfg.DB.View(ctx, g, func(v *store.View) error {
		p, err := v.Search(ctx, q)
		if err != nil {
			return err
		}
		found = p.Matches
		return nil
	})
	if fhir.IsCode(err, fhir.Forbidden) {
		return nil, nil
	}
	return found, err
}

// escape keeps the signs of a search value plain.
// https://hl7.org/fhir/R4/search.html#escaping
var escape = strings.NewReplacer(`\`, `\\`, `,`, `\,`, `$`, `\$`, `|`, `\|`).Replace

// errNotVisible says that the user may not see what they or an EHR chose, or
// that there is no such thing.
var errNotVisible = invalidRequest("there is no such record that the user may see")

// visible makes sure that the user may see the patient and the encounter of the
// context, and returns them, zero if there is none.
func (s *Server) visible(ctx context.Context, c *call, b *browser, l login, about store.LaunchContext) (p patient, e encounter, err error) {
	for _, ref := range []fhir.Ref{{Type: "Patient", ID: about.Patient}, {Type: "Encounter", ID: about.Encounter}} {
		if ref.ID == "" {
			continue
		}
		g, err := s.grantOf(ctx, c, b, l)
		if err != nil {
			return p, e, err
		}
		r, err := s.cfg.DB.Read(ctx, g, ref)
		if fhir.IsCode(err, fhir.NotFound) || fhir.IsCode(err, fhir.Deleted) || fhir.IsCode(err, fhir.Forbidden) {
			return p, e, errNotVisible
		}
		if err != nil {
			return p, e, err
		}
		if ref.Type == "Patient" {
			p = readPatient(r)
		} else {
			e = readEncounter(r)
		}
	}
	return p, e, nil
}

// readPatient returns what tells a patient from others.
func readPatient(r fhir.Resource) patient {
	var body struct {
		Name []struct {
			Use, Text, Family string
			Given             []string
		} `json:"name"`
		Born   string `json:"birthDate"`
		Gender string `json:"gender"`
	}
	p := patient{ID: r.Ref.ID, Name: "Patient " + r.Ref.ID}
	if json.Unmarshal(r.Body, &body, json.MatchCaseInsensitiveNames(true)) != nil {
		return p
	}
	p.Born, p.Gender = body.Born, body.Gender
	for _, n := range body.Name {
		if n.Use == "old" || n.Use == "maiden" {
			continue
		}
		text := n.Text
		if text == "" {
			text = strings.TrimSpace(strings.Join(n.Given, " ") + " " + n.Family)
		}
		if text != "" {
			p.Name = text
			break
		}
	}
	return p
}
