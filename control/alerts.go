package control

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/cordon-fhir/cordon/alert"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/store"
)

// maxWhy bounds the words that an operator gives for what they do.
const maxWhy = 500

func (a *api) listAlerts(ctx context.Context, c call) (answer, error) {
	if c.slug != "" {
		if _, err := a.Migrator.TenantBySlug(ctx, c.slug); err != nil {
			return answer{}, err
		}
	}
	list, err := a.Registry.Alerts(ctx, c.slug)
	if err != nil {
		return answer{}, err
	}
	if list == nil {
		list = []alert.Alert{}
	}
	return answer{http.StatusOK, list, strings.TrimSpace("listed alerts " + c.slug)}, nil
}

func (a *api) showAlert(ctx context.Context, c call) (answer, error) {
	al, err := a.Registry.Alert(ctx, c.number)
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, al, fmt.Sprintf("showed alert %d", c.number)}, nil
}

func (a *api) acknowledgeAlert(ctx context.Context, c call) (answer, error) {
	return a.act(ctx, c, "acknowledged", a.Registry.Acknowledge)
}

func (a *api) closeAlert(ctx context.Context, c call) (answer, error) {
	return a.act(ctx, c, "closed", a.Registry.CloseAlert)
}

// act notes what the operator does with an alert, and why.
func (a *api) act(ctx context.Context, c call, did string, do func(ctx context.Context, id int64, by, why string) (alert.Alert, error)) (answer, error) {
	why, err := c.why()
	if err != nil {
		return answer{}, err
	}
	al, err := do(ctx, c.number, c.operator, why)
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, al, fmt.Sprintf("%s alert %d: %s", did, al.ID, why)}, nil
}

// why returns why the operator does what they do.
func (c call) why() (string, error) {
	var b struct {
		Why string `json:"why"`
	}
	if err := decode(c.body, &b); err != nil {
		return "", err
	}
	return b.Why, checkWhy(b.Why)
}

func checkWhy(why string) error {
	if strings.TrimSpace(why) == "" || len(why) > maxWhy {
		return fhir.Errorf(fhir.Invalid, "why has to say why, in at most %d bytes", maxWhy)
	}
	return nil
}

func (a *api) listAlertSinks(ctx context.Context, _ call) (answer, error) {
	list, err := a.Registry.AlertSinks(ctx)
	if err != nil {
		return answer{}, err
	}
	if list == nil {
		list = []store.AlertSink{}
	}
	return answer{http.StatusOK, list, "listed webhooks"}, nil
}

// putAlertSink makes or replaces a webhook. Its secret is shown this once.
func (a *api) putAlertSink(ctx context.Context, c call) (answer, error) {
	var b struct {
		URL string `json:"url"`
	}
	if err := decode(c.body, &b); err != nil {
		return answer{}, err
	}
	sink := store.AlertSink{Tenant: c.slug, URL: b.URL}
	secret, err := a.Migrator.PutAlertSink(ctx, sink)
	if err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, struct {
		store.AlertSink
		Secret string `json:"secret"`
	}{sink, secret}, strings.TrimSpace("set the webhook for alerts " + c.slug)}, nil
}

func (a *api) removeAlertSink(ctx context.Context, c call) (answer, error) {
	if err := a.Migrator.RemoveAlertSink(ctx, c.slug); err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, struct{}{}, strings.TrimSpace("removed the webhook for alerts " + c.slug)}, nil
}
