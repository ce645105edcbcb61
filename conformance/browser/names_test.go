package browser

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
)

// unbroken is a name that no page can break at a space.
var unbroken = strings.Repeat("Wolfeschlegelsteinhausenberger", 3)

func TestTheLoginPageWithSeveralProvidersSuitsEverybody(t *testing.T) {
	b := open(t)
	labels := map[string]string{"hospital": "Hospital login", "region": `Region <b>North</b> & "South"`, "state": unbroken}
	for name, label := range labels {
		text, err := json.Marshal(map[string]any{"name": name, "label": label, "issuer": "https://127.0.0.1:9", "client_id": "cordon", "mapping": map[string]any{"user": map[string]any{"claim": "sub"}, "userType": "Practitioner"}})
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), name+".json")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := sys.Cordon(t.Context(), "idp", "add", "--tenant", tenant, file); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		for name := range labels {
			if _, err := sys.Cordon(context.WithoutCancel(t.Context()), "idp", "remove", "--tenant", tenant, name); err != nil {
				t.Error(err)
			}
		}
	})
	b.connect()
	b.see("Or log in with")
	for _, label := range labels {
		b.see(label) // as text
	}
	b.inspect("login-providers")
	b.push("Hospital login")
	b.see("The identity provider does not answer.")
	b.inspect("login-provider-silent")
	b.logIn("patient", sys.password("patient")) // the built-in login is there still
	b.see("Allow Demo app?")
}

func TestAUserWhoMaySeeNobodyGoesBackToTheApp(t *testing.T) {
	b := open(t)
	password, err := sys.Cordon(t.Context(), "user", "add", "--tenant", tenant, "stranger", "--user", "RelatedPerson/nobody")
	if err != nil {
		t.Fatal(err)
	}
	b.connect()
	b.logIn("stranger", password)
	b.see("That did not work:")
	b.inspect("app-nobody")
}

func TestAFormThatIsTooOldSaysSo(t *testing.T) {
	b := open(t)
	b.visit(sys.page("account"))
	b.see("One-time code")
	command(b, network.ClearBrowserCookies, cdp.Empty{})
	b.logIn("doctor", sys.password("doctor"))
	b.see("the page is too old or was made for another browser")
	b.inspect("error-stale")
}

func TestLongNamesFitOnEveryPage(t *testing.T) {
	b := open(t)
	b.patient(t, "long-name", unbroken)
	if _, err := sys.Cordon(t.Context(), "client", "add", "--tenant", tenant, "long", "--name", unbroken, "--method", "none",
		"--scopes", "openid fhirUser offline_access launch/patient patient/*.rs patient/Observation.rs patient/Condition.rs", "--redirect-uri", sys.app.URL+"/callback"); err != nil {
		t.Fatal(err)
	}
	ask := url.Values{
		"response_type": {"code"}, "client_id": {"long"}, "redirect_uri": {sys.app.URL + "/callback"}, "state": {"s"},
		"scope": {"openid fhirUser offline_access launch/patient patient/Observation.rs patient/Condition.rs"}, "aud": {sys.base()},
		"code_challenge": {strings.Repeat("a", 43)}, "code_challenge_method": {"S256"},
	}
	b.visit(sys.page("authorize") + "?" + ask.Encode())
	b.see(unbroken)
	b.inspect("login-long")
	b.logIn("doctor", sys.password("doctor"))
	b.see("Choose a patient")
	b.fill("Name or identifier", unbroken[:20])
	b.send()
	b.see(unbroken)
	b.inspect("patients-long")
	b.push("Ada " + unbroken)
	b.see("Allow " + unbroken)
	b.inspect("consent-long")
}

// patient stores a patient with the family name.
func (b *tab) patient(t *testing.T, id, family string) {
	t.Helper()
	token, err := sys.Cordon(t.Context(), "token", "--tenant", tenant, "--scope", "system/*.cruds")
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, sys.base()+"/Patient/"+id,
		strings.NewReader(`{"resourceType":"Patient","id":"`+id+`","name":[{"family":"`+family+`","given":["Ada"]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/fhir+json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated && resp.StatusCode != http.StatusOK {
		t.Fatalf("storing a patient: %s", resp.Status)
	}
}
