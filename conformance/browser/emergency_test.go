package browser

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"
)

// AUTHZ-02: a user chooses a visit by keyboard, on any screen.
func TestThePageOfVisitsSuitsEverybody(t *testing.T) {
	b := open(t)
	b.visit(sys.page("authorize") + "?" + url.Values{
		"client_id": {"demo-app"}, "redirect_uri": {sys.app.URL + "/callback"}, "response_type": {"code"}, "state": {"s"}, "aud": {sys.base()},
		"scope": {"openid launch/patient launch/encounter patient/*.rs"}, "code_challenge_method": {"S256"}, "code_challenge": {strings.Repeat("A", 43)},
	}.Encode())
	b.logIn("doctor", sys.password("doctor"))
	b.see("Choose a patient")
	b.push(patientName(b, 0))
	b.see("Choose a visit")
	b.inspect("visits")
	visit := patientName(b, 0)
	b.push(visit + ", 20") // and its day
	b.see("and the visit " + visit)
	b.inspect("consent-visit")
}

// clinicians makes the tenant one whose policy lets staff break a glass.
func clinicians(t *testing.T) {
	t.Helper()
	for _, args := range [][]string{
		{"policy", "propose", "--tenant", clinic, "--profile", "clinic"},
		{"policy", "approve", "--tenant", clinic, "1"},
		{"tenant", "set", clinic, "breakGlass.mode=approved"},
	} {
		if _, err := sys.Cordon(t.Context(), args...); err != nil {
			t.Fatal(err)
		}
	}
}

// BG-01: two people with a keyboard open the record of a patient in an emergency,
// and see to its end and its review.
func TestThePagesOfEmergencyAccessSuitEverybody(t *testing.T) {
	page := func(name string) string { return sys.Auth + "/" + clinic + "/" + name }
	doctor, officer := open(t), open(t)
	if sys == nil {
		return
	}
	clinicians(t)
	doctor.visit(page("emergency"))
	doctor.logIn("doctor", sys.passwordAt(clinic, "doctor"))
	doctor.see("Your account")
	for end := time.Now().Add(patience); !eval[bool](doctor, `document.body.innerText.includes("Emergency access")`) && time.Now().Before(end); {
		doctor.visit(page("account")) // until the server knows of the policy
	}
	doctor.push("Emergency access")
	doctor.see("Open the app in which you need the record")
	doctor.inspect("emergency-without-app")

	doctor.connectTo(clinic)
	doctor.see("Choose a patient")
	doctor.push(patientName(doctor, 0))
	doctor.see("Allow Demo app?")
	doctor.push("Allow")
	doctor.see("Refresh the token")
	doctor.visit(page("emergency"))
	doctor.see("Another person approves it")
	doctor.inspect("emergency")
	doctor.fill("Identifier of the patient", "p3")
	doctor.fill("Why you need it now", "Found unconscious, takes something for the heart")
	doctor.push("Ask for it")
	doctor.see("Waits for another person")
	doctor.inspect("emergency-asked")

	officer.visit(page("account"))
	officer.logIn("officer", sys.passwordAt(clinic, "officer"))
	officer.see("Your account")
	officer.inspect("account-officer")
	officer.push("Emergency access of others")
	officer.see("Found unconscious")
	officer.inspect("emergencies-asked")
	officer.push("Approve")
	officer.see("It is approved")
	officer.inspect("emergencies-open")

	doctor.visit(page("emergency"))
	doctor.see("Open until")
	doctor.inspect("emergency-open")
	doctor.push("Give back")
	doctor.see("It is given back")
	officer.push("Look again")
	officer.see("To be reviewed")
	officer.inspect("emergencies-due")
	officer.fill("What you found", "justified")
	officer.fill("Note", "as the ambulance says")
	officer.push("Keep the review")
	officer.see("Nothing waits for you.")
	officer.inspect("emergencies-none")
	doctor.press(kb.Escape)
	doctor.push("Look again")
	doctor.see("Ended and reviewed: justified")
	doctor.inspect("emergency-reviewed")
	doctor.fill("Identifier of the patient", "nobody-there")
	doctor.fill("Why you need it now", "x")
	doctor.push("Ask for it")
	doctor.see("there is no such patient")
	doctor.inspect("emergency-fault")
}
