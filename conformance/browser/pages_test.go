package browser

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"
)

func TestTheStartOfTheDemoAppSuitsEverybody(t *testing.T) {
	b := open(t)
	b.visit(sys.app.URL)
	b.see("FHIR base URL")
	b.inspect("app-start")
}

func TestTheLoginPageSuitsEverybodyAndSaysWhatIsWrong(t *testing.T) {
	b := open(t)
	b.connect()
	b.see("One-time code")
	b.inspect("login")
	b.logIn("doctor", "not the password")
	b.see("That did not work.")
	b.inspect("login-fault")
}

// RFC 6238
func TestAUserWithAnAuthenticatorAppLogsInWithItsCode(t *testing.T) {
	b := open(t)
	out, err := sys.Cordon(t.Context(), "user", "add", "--tenant", tenant, "coded", "--user", "Practitioner/dr2", "--role", "doctor", "--codes")
	if err != nil {
		t.Fatal(err)
	}
	password, address, _ := strings.Cut(out, "\n")
	b.visit(sys.page("account"))
	b.logIn("coded", password)
	b.see("That did not work.")
	b.fill("User name", "coded")
	b.fill("Password", password)
	b.fill("One-time code", code(t, address))
	b.press(kb.Enter)
	b.see("Your account")
}

// code is what an authenticator app would show for an otpauth:// URL.
// https://www.rfc-editor.org/rfc/rfc6238
func code(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(strings.TrimSpace(address))
	if err != nil {
		t.Fatal(err)
	}
	secret, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(u.Query().Get("secret"))
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha1.New, secret)
	binary.Write(mac, binary.BigEndian, time.Now().Unix()/30)
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 15
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[at:])&0x7fffffff%1_000_000)
}

func TestThePageOfPatientsSuitsEverybodyAndSearches(t *testing.T) {
	b := open(t)
	b.connect()
	b.logIn("doctor", sys.password("doctor"))
	b.see("Choose a patient")
	b.inspect("patients")
	name := patientName(b, 0)
	b.fill("Name or identifier", "nobodyiscalledthis")
	b.press(kb.Enter)
	b.see("Nobody was found.")
	b.inspect("patients-none")
	b.fill("Name or identifier", "")
	eval[any](b, `document.activeElement.select()`)
	b.press(strings.Fields(name)[0])
	b.press(kb.Enter)
	b.see(name)
}

func TestAUserWhoDoesNotAllowAnAppGoesBackToIt(t *testing.T) {
	b := open(t)
	b.connect()
	b.logIn("patient", sys.password("patient"))
	b.see("Allow Demo app?")
	b.inspect("consent")
	b.push("Do not allow")
	b.see("That did not work:")
	b.inspect("app-refused")
}

func TestAUserTakesBackWhatAnAppMayDoAndLogsOut(t *testing.T) {
	b := open(t)
	b.connect()
	b.logIn("patient", sys.password("patient"))
	b.see("Allow Demo app?")
	b.push("Allow")
	b.see("Refresh the token")
	given := eval[string](b, token)
	b.visit(sys.page("account"))
	b.see("Take back from Demo app")
	b.inspect("account")
	b.push("Take back from Demo app")
	b.see("Nothing.")
	b.inspect("account-empty")
	if got := reads(t, given, "Patient/p1"); got != 401 {
		t.Errorf("the token that was taken back reads the patient: %d", got)
	}
	b.push("Log out")
	b.see("One-time code")
	b.visit(sys.page("account"))
	b.see("One-time code")
}

func TestThePageOfAnErrorSuitsEverybody(t *testing.T) {
	b := open(t)
	b.visit(sys.page("authorize") + "?client_id=demo-app&redirect_uri=https://elsewhere.example/")
	b.see("the address to go back to is not one that the app has registered")
	b.inspect("error")
	b.visit(sys.Auth + "/nowhere/account")
	b.see("there is no such endpoint")
	b.inspect("error-nowhere")
}
