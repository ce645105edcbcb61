package browser

import (
	"net/http"
	"testing"
)

// token is the access token that the app has.
const token = `JSON.parse(sessionStorage.getItem(JSON.parse(sessionStorage.SMART_KEY))).tokenResponse.access_token`

// reads asks the server with the token, as an app that is not in a browser.
func reads(t *testing.T, token, path string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, sys.base()+"/"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// An EHR opens an app, which finds its patient without asking.
func TestAnAppThatAnEHROpensReadsThePatientRefreshesAndLogsOut(t *testing.T) {
	b := open(t)
	address, err := sys.launch(t.Context(), "p2")
	if err != nil {
		t.Fatal(err)
	}
	b.visit(address)
	b.logIn("doctor", sys.password("doctor"))
	b.see("Allow Demo app?")
	b.push("Allow")
	b.works(t, "p2")
}

// A user opens an app and chooses the patient.
func TestAnAppThatItsUserOpensReadsThePatientRefreshesAndLogsOut(t *testing.T) {
	b := open(t)
	b.connect()
	b.logIn("doctor", sys.password("doctor"))
	b.see("Choose a patient")
	b.push(patientName(b, 1))
	b.see("Allow Demo app?")
	b.push("Allow")
	b.works(t, "")
}

// connect opens the demo app and lets it ask for a patient.
func (b *tab) connect() {
	b.t.Helper()
	b.connectTo(tenant)
}

func (b *tab) connectTo(slug string) {
	b.t.Helper()
	b.visit(sys.app.URL)
	b.see("FHIR base URL")
	b.fill("FHIR base URL", sys.FHIR+"/"+slug)
	b.push("Connect")
}

// patientName returns a name in the list to choose from.
func patientName(b *tab, n int) string {
	return eval[[]string](b, `[...document.querySelectorAll("button.row strong")].map(e => e.innerText)`)[n]
}

// works uses the app when it has its token: for the patient, if one is given,
// whom it was opened for.
func (b *tab) works(t *testing.T, patient string) {
	t.Helper()
	b.see("Refresh the token")
	b.inspect("app-patient")
	context := eval[string](b, `JSON.parse(sessionStorage.getItem(JSON.parse(sessionStorage.SMART_KEY))).tokenResponse.patient`)
	if patient != "" && context != patient {
		t.Errorf("the app was opened for %s and shows %s", patient, context)
	}
	first := eval[string](b, token)
	b.push("Refresh the token")
	b.see("There is a new token.")
	second := eval[string](b, token)
	if got := reads(t, second, "Patient/"+context); got != http.StatusOK {
		t.Errorf("the refreshed token reads the patient: %d", got)
	}
	other := map[bool]string{true: "p2", false: "p1"}[context == "p1"]
	if got := reads(t, second, "Patient/"+other); got != http.StatusNotFound {
		t.Errorf("the token reads another patient: %d", got)
	}
	b.push("Log out")
	b.see("You are logged out.")
	for name, token := range map[string]string{"first": first, "refreshed": second} {
		if got := reads(t, token, "Patient/"+context); got != http.StatusUnauthorized {
			t.Errorf("after the logout the %s token reads the patient: %d", name, got)
		}
	}
}
