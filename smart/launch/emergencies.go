package launch

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
)

// emergenciesForm is what the page shows on which privacy officers decide about
// the emergency access of others, and review it.
type emergenciesForm struct {
	frame
	Sealed      string
	Fault, Done string
	// None says why there is nothing to show, "" if there is something.
	None string
	// Asked wait for a decision, Open are in force, Due wait for a review.
	Asked, Open, Due []emergency
	Approves         bool
	Reviews          bool
	Outcomes         []string
}

// emergencies lets who may decide about emergency access of others and review it.
func (s *Server) emergencies(ctx context.Context, c *call) error {
	if c.http.Method == http.MethodPost {
		return s.decideEmergencies(ctx, c)
	}
	return s.showOwn(ctx, c, func(ctx context.Context, c *call, b *browser) error {
		c.note = "showed what others see in an emergency"
		return s.showEmergencies(ctx, c, b, emergenciesForm{})
	})
}

func (s *Server) showEmergencies(ctx context.Context, c *call, b *browser, f emergenciesForm) (err error) {
	f.frame, f.Outcomes = s.frame(b, "Emergency access of others"), store.GlassOutcomes
	if f.Sealed, err = s.sealOwn(b, emergenciesPage); err != nil {
		return err
	}
	g, err := s.grantIn(ctx, c, b, smart.AccountClient, b.session.ID)
	if err != nil {
		return err
	}
	_, noApproval := g.PermitGlass(smart.ApproveGlass)
	_, noReview := g.PermitGlass(smart.ReviewGlass)
	f.Approves, f.Reviews = noApproval == nil, noReview == nil
	if !f.Approves && !f.Reviews {
		f.None = "This page is for those who approve and review emergency access."
		c.show(emergenciesOf(f), request{})
		return nil
	}
	list, err := s.cfg.DB.Glasses(ctx, g)
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(one store.Glass) bool { return one.User == g.Agent().User })
	if err := s.sortEmergencies(ctx, c, b, list, &f); err != nil {
		return err
	}
	c.show(emergenciesOf(f), request{})
	return nil
}

// sortEmergencies puts into f what waits for somebody.
func (s *Server) sortEmergencies(ctx context.Context, c *call, b *browser, list []store.Glass, f *emergenciesForm) error {
	into := map[store.GlassState]*[]emergency{store.GlassRequested: &f.Asked, store.GlassActive: &f.Open, store.GlassEnded: &f.Due}
	list = slices.DeleteFunc(list, func(one store.Glass) bool { return into[one.State] == nil })
	words, err := s.emergenciesInWords(ctx, c, b, list)
	if err != nil {
		return err
	}
	for i, one := range list {
		*into[one.State] = append(*into[one.State], words[i])
	}
	if len(f.Asked)+len(f.Open)+len(f.Due) == 0 {
		f.None = "Nothing waits for you."
	}
	return nil
}

// decideEmergencies takes the forms of the page.
func (s *Server) decideEmergencies(ctx context.Context, c *call) error {
	form, b, err := s.openedOwn(ctx, c, emergenciesPage)
	if err != nil {
		return err
	}
	g, err := s.grantIn(ctx, c, b, smart.AccountClient, b.session.ID)
	if err != nil {
		return err
	}
	f := emergenciesForm{}
	if f.Done, err = s.decide(ctx, g, form); err == nil {
		c.note = "decided about emergency access"
		return s.showEmergencies(ctx, c, b, f)
	}
	if f.Fault, err = refused(c, err); err != nil {
		return err
	}
	return s.showEmergencies(ctx, c, b, f)
}

// decide does what the form says, and says that it is done.
func (s *Server) decide(ctx context.Context, g *smart.Grant, form url.Values) (did string, err error) {
	switch {
	case form.Get("approve") != "":
		_, err = s.cfg.DB.DecideGlass(ctx, g, form.Get("approve"), true)
		return "It is approved, and open now.", err
	case form.Get("refuse") != "":
		_, err = s.cfg.DB.DecideGlass(ctx, g, form.Get("refuse"), false)
		return "It is refused.", err
	case form.Get("end") != "":
		_, err = s.cfg.DB.EndGlass(ctx, g, form.Get("end"))
		return "It has ended.", err
	}
	outcome, note := form.Get("outcome"), strings.TrimSpace(form.Get("note"))
	switch {
	case !slices.Contains(store.GlassOutcomes, outcome):
		return "", fhir.Errorf(fhir.Invalid, "say what you found")
	case len(note) > store.MaxGlassText:
		return "", fhir.Errorf(fhir.Invalid, "a note has at most %d bytes", store.MaxGlassText)
	}
	_, err = s.cfg.DB.ReviewGlass(ctx, g, form.Get("review"), outcome, note)
	return "It is reviewed.", err
}
