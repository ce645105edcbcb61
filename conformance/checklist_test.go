package conformance

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/cordon-fhir/cordon/conformance/harness"
)

// A checked line is one of the checklists of SMART App Launch 2.2 (A-…) and of
// the ONC certification of standardized APIs (g10 …).
// https://hl7.org/fhir/smart-app-launch/
// https://www.healthit.gov/test-method/standardized-api-patient-and-population-services
type checked struct {
	line, claim string
	// check looks at a running server; proved names tests that do so already:
	// their package, and their name.
	check  func(p *probe)
	proved string
	// differs is what divergences.md says of a line that is not met.
	differs string
}

var checklist = []checked{
	{"A-01", "every tenant says where its servers are, to anyone", (*probe).discovery, "smart/launch TestTheDiscoveryDocumentIsTrueToWhatRuns", ""},
	{"A-02", "what is claimed is what certification asks for, and no more than runs", (*probe).capabilities, "", ""},
	{"A-03", "the CapabilityStatement says it to apps of SMART 1", (*probe).statement, "", ""},
	{"A-10", "an app asks by GET or POST, and gets its state back as it was", (*probe).asksEitherWay, "smart/launch TestABadAuthorizationRequestGivesNoCode", ""},
	{"A-11", "a user takes scopes off, and allows parts of them", (*probe).takesOff, "smart/launch TestAPageIsGuarded", ""},
	{"A-20", "the answer for a code has what the standard asks for", (*probe).tokenAnswer, "smart/launch TestAppsProveThemselvesInTheWayTheyAreRegisteredFor", ""},
	{"A-21", "a refresh gives the next tokens for the same context", (*probe).refreshes, "smart/launch TestOnlineAccessEndsWithTheSession", ""},
	{"A-22", "a token is short-lived, and a bad one is answered with how to get another", (*probe).shortLived, "smart TestABadTokenIsRefused", ""},
	{"A-30", "an EHR opens an app where its user is", (*probe).opensApp, "smart/launch TestAnEHROpensAnAppWhereItsUserIs", ""},
	{"A-31", "without an EHR there is a patient wherever a scope needs one", (*probe).needsPatient, "", ""},
	{"A-31", "without an EHR the user chooses a visit, of the patient", (*probe).choosesVisit, "smart/launch TestAVisitIsOneOfThePatientThatTheUserMaySee", "standalone `launch/encounter`"},
	{"A-32", "an app is told what else is open", nil, "smart/launch TestAnEHROpensAnAppWhereItsUserIs", ""},
	{"A-33", "a user without a patient goes back", nil, "smart/launch TestAUserChoosesAmongThosePatientsWhomTheyMaySee", ""},
	{"A-40", "scopes are granted in the words that they were asked in", (*probe).bothSyntaxes, "smart TestScopesOfTheStandardAreRead", ""},
	{"A-41", "each letter of a scope allows its interactions only", nil, "conformance TestStranger", ""},
	{"A-42", "granular scopes cut through all that reads", nil, "store TestAScopeNarrowsEveryPath", ""},
	{"A-42", "granular scopes take plain search parameters", nil, "", "granular scopes"},
	{"A-43", "a patient's app sees the record, and who and what it refers to", (*probe).surroundings, "smart TestAPatientScopeIsAlwaysHeldToTheCompartment", ""},
	{"A-44", "what may not be granted is left out, and a service that may have nothing of it is refused", (*probe).leftOut, "smart TestWhatIsGrantedIsWhatBothAllow", ""},
	{"A-45", "a type outside of the scopes is refused", (*probe).limited, "", ""},
	{"A-50", "an app learns who its user is", (*probe).identity, "smart/launch TestKeysOfTokensAreReplacedWithoutAGap", ""},
	{"A-60", "a client proves itself by its signature", (*probe).signs, "smart/launch TestAnAssertionIsGoodOnce", ""},
	{"A-60", "a client replaces its key where it publishes it", nil, "smart/launch TestAClientReplacesItsKeyByPublishingAnother", ""},
	{"A-61", "a backend service gets a token for what it is registered for", (*probe).backend, "smart/launch TestABackendServiceEarnsAToken", ""},
	{"A-70", "introspection says what the app was told", (*probe).introspects, "smart/launch TestIntrospectionTellsOfATokenWhatItsAppWasTold", ""},
	{"A-80", "a page of the app reads the answers, and no other page does", (*probe).crossOrigin, "smart/launch TestAnAppInABrowserReadsItsOwnAnswersOnly", ""},
	{"A-44", "an app that may touch no resource touches none", (*probe).noResources, "", ""},
	{"A-90", "apps keep no state", nil, "", "app state"},

	{"g10 1", "standalone, full access", (*probe).fullAccess, "conformance/browser TestAnAppThatItsUserOpensReadsThePatientRefreshesAndLogsOut", ""},
	{"g10 2", "standalone, limited access", (*probe).limited, "", ""},
	{"g10 3", "an app for practitioners, opened by an EHR", (*probe).opensApp, "conformance/browser TestAnAppThatAnEHROpensReadsThePatientRefreshesAndLogsOut", ""},
	{"g10 8", "many patients", nil, "fhir/rest TestAnExportHasWhatASearchShows", ""},
	{"g10 9.1", "a public app", (*probe).fullAccess, "smart/launch TestAPublicAppRefreshesWithItsTokenAlone", ""},
	{"g10 9.2", "what is revoked is void", nil, "smart/launch TestARevokedTokenIsRefusedByTheTimeItIsAnswered", ""},
	{"g10 9.4", "an app that means another server gets no code", nil, "conformance TestLaunch", ""},
	{"g10 9.5", "a bad code or a bad client gets no token", (*probe).badTokenRequest, "", ""},
	{"g10 9.18", "a bad verifier gets no token", nil, "conformance TestLaunch", ""},
	{"g10 9.8", "an app that an EHR opens with scopes for the patient", (*probe).ehrPatientScopes, "", ""},
	{"g10 9.9", "introspection", (*probe).introspects, "", ""},
	{"g10 9.10", "an app that signs", (*probe).asymmetricApp, "", ""},
	{"g10 9.13", "scopes of SMART 1", (*probe).bothSyntaxes, "", ""},
	{"g10 9.14", "fine-grained scopes", nil, "conformance/fhir TestGranularScopesShowTheirCategoriesOnly", ""},
	{"g10 9.26", "a user chooses categories instead of all", (*probe).takesOff, "", ""},
	{"g10 10", "the record of one patient", nil, "conformance/fhir TestTheSearchesOfUSCoreFindWhatMatches", ""},
	{"g10 11", "a refresh token is good for three months at least", (*probe).months, "", ""},
}

// All of what SMART App Launch 2.2 and its certification ask for.
func TestSMARTChecklist(t *testing.T) {
	divergences, err := os.ReadFile("divergences.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range checklist {
		t.Run(c.line+" "+c.claim, func(t *testing.T) {
			if c.proved != "" {
				proved(t, c.proved)
			}
			if c.differs != "" && !bytes.Contains(divergences, []byte("\n| "+c.differs)) {
				t.Errorf("divergences.md does not say what is different: %s", c.differs)
			}
			if c.check != nil {
				attack(t, pair{sys.A1, sys.A2}, c.check)
			}
		})
	}
}

// sameWords reports whether two lists hold the same words, in any order.
func sameWords(a, b string) bool {
	return slices.Equal(slices.Sorted(slices.Values(strings.Fields(a))), slices.Sorted(slices.Values(strings.Fields(b))))
}

// proved fails unless there is the test of the package.
func proved(t *testing.T, name string) {
	t.Helper()
	root, err := harness.Root()
	if err != nil {
		t.Fatal(err)
	}
	pkg, test, _ := strings.Cut(name, " ")
	files, err := filepath.Glob(filepath.Join(root, pkg, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte("\nfunc "+test+"(t *testing.T)")) {
			return
		}
	}
	t.Errorf("%s has no %s", pkg, test)
}

// anyone asks without a token.
func (p *probe) anyone(address string, header ...string) *reply {
	p.Helper()
	return p.send((&call{method: "GET", url: address, header: http.Header{}}).with(header...))
}

func (p *probe) smartConfiguration(at *party, header ...string) *reply {
	p.Helper()
	return p.want(p.anyone(at.base+"/.well-known/smart-configuration", header...), 200)
}

func (p *probe) discovery() {
	for _, at := range sys.parties {
		for _, accept := range []string{"", "application/json", "application/fhir+json", "text/html", "application/fhir+xml"} {
			r := p.smartConfiguration(at, "Accept", accept, "Origin", "https://anyone.example")
			if kind := r.header.Get("Content-Type"); !strings.HasPrefix(kind, "application/json") || r.header.Get("Access-Control-Allow-Origin") != "*" {
				p.Errorf("%s: %v", at.slug, r.header)
			}
		}
		doc := p.object(p.smartConfiguration(at))
		for _, name := range []string{"issuer", "jwks_uri", "authorization_endpoint", "token_endpoint", "introspection_endpoint", "revocation_endpoint", "management_endpoint", "user_access_brand_bundle"} {
			if address, _ := doc[name].(string); !strings.HasPrefix(address, at.issuer()) {
				p.Errorf("%s: %s is %v", at.slug, name, doc[name])
			}
		}
		for name, want := range map[string][]string{
			"grant_types_supported": {"authorization_code", "client_credentials"}, "code_challenge_methods_supported": {"S256"}, "response_types_supported": {"code"},
			"token_endpoint_auth_methods_supported":            {"client_secret_basic", "client_secret_post", "private_key_jwt"},
			"token_endpoint_auth_signing_alg_values_supported": {"RS384", "ES384"},
		} {
			for _, word := range want {
				if !has(doc[name], word) {
					p.Errorf("%s: %s is %v", at.slug, name, doc[name])
				}
			}
		}
		if has(doc["code_challenge_methods_supported"], "plain") {
			p.Error("PKCE is offered as plain")
		}
	}
}

// has reports whether a JSON array holds the word.
func has(array any, word string) bool {
	list, _ := array.([]any)
	return slices.Contains(list, any(word))
}

func (p *probe) capabilities() {
	doc := p.object(p.smartConfiguration(p.attacker))
	for _, word := range strings.Fields(`launch-ehr launch-standalone authorize-post client-public client-confidential-symmetric
		client-confidential-asymmetric sso-openid-connect context-banner context-style context-ehr-patient context-ehr-encounter
		context-standalone-patient context-standalone-encounter permission-offline permission-online permission-patient permission-user permission-v1 permission-v2`) {
		if !has(doc["capabilities"], word) {
			p.Errorf("%s is not claimed", word)
		}
	}
	if has(doc["capabilities"], "smart-app-state") {
		p.Errorf("smart-app-state is claimed")
	}
	// Each scope that is listed can be granted.
	scopes, _ := doc["scopes_supported"].([]any)
	for _, sc := range scopes {
		text, _ := sc.(string)
		switch {
		case strings.HasPrefix(text, "system/"), text == "launch", text == "launch/encounter": // see choosesVisit
		case strings.Contains(text, "/*."):
			if got := p.granted(p.attacker, "scope", text); got.Scope != text {
				p.Errorf("%s is granted as %q", text, got.Scope)
			}
		default:
			if got := p.granted(p.attacker, "scope", "patient/Patient.r "+text); !slices.Contains(strings.Fields(got.Scope), text) {
				p.Errorf("%s is not granted: %q", text, got.Scope)
			}
		}
	}
}

func (p *probe) choosesVisit() {
	v := p.visitor(p.attacker)
	v.asks("scope", "openid launch/encounter patient/*.rs")
	v.logIn("doctor")
	v.submit("patient", "p1")
	visit := regexp.MustCompile(`name="encounter" value="([^"]+)"`).FindSubmatch(v.page.body)
	if visit == nil {
		p.Fatalf("no visit to choose: %s", v.page)
	}
	v.submit("encounter", string(visit[1]))
	got := p.redeem(p.attacker, v.agree())
	if got.Encounter != string(visit[1]) || got.Patient != "p1" || !slices.Contains(strings.Fields(got.Scope), "launch/encounter") {
		p.Errorf("%s", got.reply)
	}
}

func (p *probe) statement() {
	r := p.want(p.anyone(p.attacker.base+"/metadata"), 200)
	var doc struct {
		Rest []struct {
			Security struct {
				CORS      bool
				Service   []struct{ Coding []struct{ Code string } }
				Extension []struct {
					URL       string
					Extension []struct{ URL, ValueURI string }
				}
			}
		}
	}
	if err := json.Unmarshal(r.body, &doc); err != nil || len(doc.Rest) != 1 {
		p.Fatalf("%v: %s", err, r)
	}
	security := doc.Rest[0].Security
	if !security.CORS || len(security.Service) == 0 || security.Service[0].Coding[0].Code != "SMART-on-FHIR" {
		p.Errorf("security: %+v", security)
	}
	told := map[string]string{}
	for _, outer := range security.Extension {
		if strings.HasSuffix(outer.URL, "/StructureDefinition/oauth-uris") {
			for _, inner := range outer.Extension {
				told[inner.URL] = inner.ValueURI
			}
		}
	}
	config := p.object(p.smartConfiguration(p.attacker))
	for name, as := range map[string]string{"authorize": "authorization_endpoint", "token": "token_endpoint"} {
		if told[name] != config[as] {
			p.Errorf("%s is %q, and %v in the configuration", name, told[name], config[as])
		}
	}
}

func (p *probe) asksEitherWay() {
	byPost := p.visitor(p.attacker)
	byPost.want(byPost.load("POST", "authorize", p.attacker.request()), 200)
	byPost.logIn("patient")
	p.want(p.redeem(p.attacker, byPost.agree()).reply, 200) // back() has looked at state
	for _, odd := range []string{"%41 %2B+&=?#\"'<>é", strings.Repeat("s", 2000)} {
		v := p.visitor(p.attacker)
		v.asks("state", odd)
		v.logIn("patient")
		v.submit("answer", "allow")
		to, err := url.Parse(v.page.header.Get("Location"))
		if err != nil || to.Query().Get("state") != odd || to.Query().Get("code") == "" {
			p.Errorf("the state comes back as %q", to.Query().Get("state"))
		}
	}
}

// categories are the parts of a scope that certification wants users to have.
var categories = map[string]string{
	"encounter-diagnosis": "Condition", "problem-list-item": "Condition", "health-concern": "Condition",
	"laboratory": "Observation", "social-history": "Observation", "sdoh": "Observation", "survey": "Observation", "vital-signs": "Observation",
}

func (p *probe) takesOff() {
	const asked = "openid fhirUser launch/patient offline_access patient/Patient.rs patient/Condition.rs patient/Observation.rs"
	v := p.visitor(p.attacker)
	v.asks("scope", asked)
	v.logIn("doctor")
	if !bytes.Contains(v.page.body, []byte(p.attacker.canaries["name"])) || !bytes.Contains(v.page.body, []byte(`name="patient"`)) {
		p.Errorf("A-11: there is no choice of patients: %s", v.page)
	}
	v.submit("patient", "p1")
	consent := v.page
	if !bytes.Contains(consent.body, []byte("when you have logged out")) {
		p.Errorf("g10 11: it is not said what offline_access is")
	}
	for field, want := range map[string]string{"s0": "patient/Patient.rs", "s1": "patient/Condition.rs", "s2": "patient/Observation.rs"} {
		v := p.visitor(p.attacker)
		v.asks("scope", asked)
		v.logIn("patient")
		got := p.redeem(p.attacker, v.agree(field, "-"))
		if slices.Contains(strings.Fields(got.Scope), want) || len(strings.Fields(got.Scope)) != 6 {
			p.Errorf("A-11: without %s: %q", want, got.Scope)
		}
	}
	found := map[string]bool{}
	for i, on := range map[int]string{1: "Condition", 2: "Observation"} {
		for j := 0; bytes.Contains(consent.body, fmt.Appendf(nil, `name="s%d.%d"`, i, j)); j++ {
			v := p.visitor(p.attacker)
			v.asks("scope", asked)
			v.logIn("patient")
			got := p.redeem(p.attacker, v.agree(fmt.Sprintf("s%d", i), "-", fmt.Sprintf("s%d.%d", i, j), "on"))
			for word, of := range categories {
				if of == on && strings.Contains(got.Scope, "patient/"+on+".rs?category=") && strings.HasSuffix(scopeOf(got.Scope, on), "|"+word) {
					found[word] = true
				}
			}
			if slices.Contains(strings.Fields(got.Scope), "patient/"+on+".rs") {
				p.Errorf("g10 9.26: a part gives all: %q", got.Scope)
			}
		}
	}
	if len(found) != len(categories) {
		p.Errorf("g10 9.26: users can choose %v", slices.Sorted(maps.Keys(found)))
	}
}

// scopeOf returns the scope for the type.
func scopeOf(scopes, on string) string {
	for _, sc := range strings.Fields(scopes) {
		if strings.HasPrefix(sc, "patient/"+on+".") {
			return sc
		}
	}
	return ""
}

func (p *probe) tokenAnswer() {
	got := p.granted(p.attacker)
	if got.TokenType != "Bearer" || string(got.ExpiresIn) != "3600" || !sameWords(got.Scope, everything) || got.Patient != "p1" || got.IDToken == "" || got.RefreshToken == "" {
		p.Errorf("got %s", got.reply)
	}
	if kind := got.header.Get("Content-Type"); !strings.HasPrefix(kind, "application/json") {
		p.Errorf("as %s", kind)
	}
	h := p.home(p.attacker)
	for claim, r := range map[string]tokens{
		"a blank code": p.redeem(p.attacker, ""), "no code": p.redeem(p.attacker, "", "code", "-"), "no verifier": p.redeem(p.attacker, p.code(p.attacker), "code_verifier", "-"),
	} {
		if r.status != 400 || r.Error != "invalid_grant" && r.Error != "invalid_request" {
			p.Errorf("%s: %s", claim, r.reply)
		}
	}
	for claim, header := range map[string][2]string{"by header": {"secret-app", h.secrets["secret-app"]}, "by a wrong secret": {"secret-app", "guess"}} {
		req := &http.Request{Header: http.Header{}}
		req.SetBasicAuth(header[0], header[1])
		form := change(url.Values{"grant_type": {"authorization_code"}, "code": {p.code(p.attacker, "client_id", "secret-app")}, "redirect_uri": {callback}, "code_verifier": {verifier}})
		r := p.token(p.attacker, form, "Authorization", req.Header.Get("Authorization"))
		if good := claim == "by header"; good != (r.status == 200) || !good && (r.status != 401 || r.Error != "invalid_client") {
			p.Errorf("%s: %s", claim, r.reply)
		}
	}
}

func (p *probe) refreshes() {
	first := p.granted(p.attacker)
	second := p.refresh(p.attacker, first.RefreshToken)
	if second.status != 200 || !sameWords(second.Scope, everything) || second.Patient != "p1" || string(second.ExpiresIn) != "3600" || second.TokenType != "Bearer" ||
		second.RefreshToken == "" || second.RefreshToken == first.RefreshToken || second.AccessToken == first.AccessToken {
		p.Errorf("without a scope: %s", second.reply)
	}
	third := p.refresh(p.attacker, second.RefreshToken, "scope", everything)
	if third.status != 200 || !sameWords(third.Scope, everything) {
		p.Errorf("with the scope: %s", third.reply)
	}
	p.want(p.bearing(p.attacker, third.AccessToken, "/Patient/p1"), 200)
	p.want(p.refresh(p.attacker, "nonsense").reply, 400, 401)
	service := p.service(p.attacker, p.assertion(p.attacker, "reader", p.attacker.actors["reader"].Key, nil), "system/*.rs offline_access")
	if service.RefreshToken != "" {
		p.Error("a backend service has a refresh token")
	}
}

func (p *probe) shortLived() {
	for claim, bearer := range map[string]string{"none": "", "nonsense": "x"} {
		r := p.want(p.bearing(p.attacker, bearer, "/Patient/p1"), 401)
		challenge := r.header.Get("WWW-Authenticate")
		if !strings.HasPrefix(challenge, "Bearer") || claim == "nonsense" && !strings.Contains(challenge, `error="invalid_token"`) {
			p.Errorf("%s: WWW-Authenticate: %s", claim, challenge)
		}
	}
}

func (p *probe) opensApp() {
	const scope = "launch openid fhirUser offline_access user/Patient.rs user/Encounter.rs user/Observation.rs patient/*.rs"
	launch, address := p.opens(p.attacker)
	to, err := url.Parse(address)
	if err != nil || !strings.HasPrefix(address, "https://app.example/launch?") || to.Query().Get("iss") != p.attacker.base || to.Query().Get("launch") != launch {
		p.Errorf("the app is opened at %s", address)
	}
	got := p.granted(p.attacker, "scope", scope, "launch", launch)
	if got.Patient != "p1" || got.Encounter != "e1" || got.Banner == nil || *got.Banner || got.Style != "https://ehr.example/style.json" ||
		got.Intent != "reconcile-medications" || string(got.Context) != `[{"reference":"ImagingStudy/i1"}]` {
		p.Errorf("the app is told %s", got.reply)
	}
	for _, sc := range strings.Fields(scope) {
		if !slices.Contains(strings.Fields(got.Scope), sc) {
			p.Errorf("%s is not in %q", sc, got.Scope)
		}
	}
	p.want(p.bearing(p.attacker, got.AccessToken, "/Patient/p1"), 200)
	p.want(p.bearing(p.attacker, got.AccessToken, "/Encounter/e1"), 200)
	p.want(p.refresh(p.attacker, got.RefreshToken).reply, 200)
	claims := p.idToken(got.IDToken)
	user := fmt.Sprint(claims["fhirUser"])
	p.want(p.bearing(p.attacker, got.AccessToken, strings.TrimPrefix(user, p.attacker.base)), 200)
}

func (p *probe) ehrPatientScopes() {
	launch, _ := p.opens(p.attacker)
	const scope = "launch openid fhirUser offline_access patient/*.rs"
	got := p.granted(p.attacker, "scope", scope, "launch", launch)
	if got.Patient != "p1" || !sameWords(got.Scope, scope) {
		p.Errorf("got %s", got.reply)
	}
	p.want(p.bearing(p.attacker, got.AccessToken, "/Patient/p1"), 200)
	p.want(p.bearing(p.attacker, got.AccessToken, "/Patient/p2"), 404)
}

func (p *probe) needsPatient() {
	for _, scope := range []string{"patient/Observation.rs", "launch/patient openid", "openid user/Patient.rs patient/*.read"} {
		if got := p.granted(p.attacker, "scope", scope); got.Patient != "p1" {
			p.Errorf("%s: %s", scope, got.reply)
		}
	}
	if got := p.granted(p.attacker, "scope", "openid user/Patient.rs"); got.Patient != "" {
		p.Errorf("nobody asked for a patient: %s", got.reply)
	}
}

func (p *probe) bothSyntaxes() {
	for asked, writes := range map[string]bool{
		"patient/*.read": false, "patient/*.*": true, "patient/Observation.read patient/Observation.write patient/Patient.read": true,
		"patient/*.rs": false, "patient/*.cruds": true, "patient/Observation.cruds patient/Patient.r": true,
	} {
		scope := "openid fhirUser launch/patient " + asked
		got := p.granted(p.attacker, "scope", scope)
		if !sameWords(got.Scope, scope) {
			p.Errorf("asked for %q, got %q", scope, got.Scope)
		}
		p.want(p.bearing(p.attacker, got.AccessToken, "/Patient/p1"), 200)
		r := p.send(&call{method: "POST", url: p.attacker.base + "/Observation", header: http.Header{"Content-Type": {"application/fhir+json"}},
			body: labResult("x", "p1", "laboratory", "x"), bearer: got.AccessToken, either: p.attacker})
		if (r.status == 201) != writes || !writes && r.status != 403 {
			p.Errorf("%s: a create answers %s", asked, r)
		}
	}
}

func (p *probe) surroundings() {
	got := p.granted(p.attacker, "scope", "launch/patient patient/*.rs")
	for _, path := range []string{"/Practitioner/dr1", "/Organization/h1", "/Encounter/e1", "/Observation/o1", "/Coverage/k1"} {
		p.want(p.bearing(p.attacker, got.AccessToken, path), 200)
	}
	for _, path := range []string{"/Encounter/e2", "/Observation/o2", "/Group/g2"} {
		p.want(p.bearing(p.attacker, got.AccessToken, path), 403, 404)
	}
	narrow := p.granted(p.attacker, "scope", "launch/patient patient/Observation.rs patient/Practitioner.r")
	p.want(p.bearing(p.attacker, narrow.AccessToken, "/Practitioner/dr1"), 200)
	p.want(p.bearing(p.attacker, narrow.AccessToken, "/Organization/h1"), 403)
}

func (p *probe) leftOut() {
	got := p.granted(p.attacker, "client_id", "app", "scope", "launch/patient patient/Patient.rs system/*.rs patient/*.nonsense something")
	if got.Scope != "launch/patient patient/Patient.rs" {
		p.Errorf("a user's app gets %q", got.Scope)
	}
	key := p.attacker.actors["billing"].Key
	ask := func(scope string) tokens {
		return p.service(p.attacker, p.assertion(p.attacker, "billing", key, nil), scope)
	}
	if got := ask("system/Coverage.rs system/Observation.rs"); got.status != 200 || got.Scope != "system/Coverage.rs" {
		p.Errorf("a service gets %s", got.reply)
	}
	for _, scope := range []string{"system/Observation.rs", "system/Nonsense.rs", "system/Coverage.dus", "patient/Coverage.rs", "", "openid"} {
		if got := ask(scope); got.status != 400 || got.Error != "invalid_scope" {
			p.Errorf("%q: %s", scope, got.reply)
		}
	}
}

// noResources uses a token that says who the user is, and no more.
func (p *probe) noResources() {
	got := p.granted(p.attacker, "scope", "openid fhirUser launch/patient")
	if told := p.introspected(p.attacker, got.AccessToken); told["active"] != true || told["patient"] != "p1" {
		p.Errorf("introspection says %v", told)
	}
	for _, path := range []string{"/Patient/p1", "/Patient", "/Patient/never-was", "/Practitioner/dr1", "/_history", "?_type=Patient", "/Patient/p1/$everything",
		"/AuditEvent", "/Patient/p1/*", "/ValueSet/$expand?url=http://hl7.org/fhir/ValueSet/observation-status"} {
		p.want(p.bearing(p.attacker, got.AccessToken, path), 403)
	}
	graph := p.want(p.bearing(p.attacker, got.AccessToken, "/$graphql?query={Patient(id:%22p1%22){id}}"), 200)
	if !bytes.Contains(graph.body, []byte(`"data":{"Patient":null}`)) {
		p.Errorf("$graphql: %s", graph)
	}
	p.want(p.bearing(p.attacker, got.AccessToken, "/metadata"), 200) // is for everybody
}

// months looks up until when a refresh token is good.
func (p *probe) months() {
	p.granted(p.attacker)
	conn, err := sys.asSuperuser(p.Context(), "cordon_registry")
	if err != nil {
		p.Fatal(err)
	}
	var months bool
	if err := conn.QueryRow(p.Context(), `SELECT max(expires) > now() + interval '3 months' FROM registry.refresh_token WHERE tenant_id = $1`, p.attacker.number).Scan(&months); err != nil || !months {
		p.Errorf("a refresh token ends sooner: %v", err)
	}
}

func (p *probe) limited() {
	v := p.visitor(p.attacker)
	v.asks("scope", "openid fhirUser launch/patient offline_access patient/Patient.rs patient/Condition.rs patient/Observation.rs patient/Encounter.rs")
	v.logIn("patient")
	got := p.redeem(p.attacker, v.agree("s1", "-", "s3", "-"))
	for path, want := range map[string]int{"/Patient?_id=p1": 200, "/Observation?patient=p1": 200, "/Condition?patient=p1": 403, "/Encounter?patient=p1": 403,
		"/Immunization?patient=p1": 403, "/Encounter/e1": 403, "/Encounter/never-was": 403} {
		p.want(p.bearing(p.attacker, got.AccessToken, path), want)
	}
}

// idToken reads an ID token after its signature was found good.
func (p *probe) idToken(text string) map[string]any {
	p.Helper()
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(p.want(p.auth(p.attacker, "GET", "jwks", ""), 200).body, &set); err != nil {
		p.Fatal(err)
	}
	jws, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		p.Fatal(err)
	}
	named := set.Key(jws.Signatures[0].Header.KeyID)
	if len(named) != 1 {
		p.Fatalf("key %s is not published", jws.Signatures[0].Header.KeyID)
	}
	payload, err := jws.Verify(named[0].Key)
	if err != nil {
		p.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(payload, &claims); err != nil {
		p.Fatal(err)
	}
	return claims
}

func (p *probe) identity() {
	doc := p.object(p.want(p.auth(p.attacker, "GET", ".well-known/openid-configuration", ""), 200))
	smart := p.object(p.smartConfiguration(p.attacker))
	for _, name := range []string{"issuer", "authorization_endpoint", "token_endpoint", "jwks_uri"} {
		if doc[name] == nil || doc[name] != smart[name] {
			p.Errorf("%s is %v and %v", name, doc[name], smart[name])
		}
	}
	if !has(doc["response_types_supported"], "code") || !has(doc["subject_types_supported"], "public") || !has(doc["id_token_signing_alg_values_supported"], "RS256") {
		p.Errorf("the document of OpenID Connect: %v", doc)
	}
	for login, user := range map[string]string{"patient": "Patient/p1", "doctor": "Practitioner/dr1"} {
		got := p.redeem(p.attacker, p.codeOf(p.attacker, login))
		claims := p.idToken(got.IDToken)
		now := float64(time.Now().Unix())
		exp, _ := claims["exp"].(float64)
		iat, _ := claims["iat"].(float64)
		if claims["iss"] != doc["issuer"] || claims["aud"] != "app" || claims["nonce"] != "n-1" || claims["sub"] != login ||
			claims["fhirUser"] != p.attacker.base+"/"+user || exp <= now || iat > now+1 {
			p.Errorf("%s: %v", login, claims)
		}
		r := p.want(p.bearing(p.attacker, got.AccessToken, "/"+user), 200)
		if refOf(r.body) != user {
			p.Errorf("fhirUser leads to %s", r)
		}
	}
	if got := p.granted(p.attacker, "scope", "launch/patient patient/*.rs"); got.IDToken != "" {
		p.Error("an ID token that nobody asked for")
	}
}

func (p *probe) signs() {
	for _, r := range []tokens{
		p.service(p.attacker, p.assertion(p.attacker, "reader", p.attacker.actors["reader"].Key, nil), "system/*.rs"),
		p.service(p.attacker, p.assertion(p.attacker, "reader", p.attacker.actors["reader"].Key, nil), "system/*.rs", "client_id", "reader"),
	} {
		p.want(r.reply, 200)
	}
	// All that can be wrong is T047 to T049.
	if got := p.service(p.attacker, "nonsense", "system/*.rs"); got.status != 401 || got.Error != "invalid_client" {
		p.Errorf("nonsense: %s", got.reply)
	}
}

func (p *probe) backend() {
	assert := func() string { return p.assertion(p.attacker, "reader", p.attacker.actors["reader"].Key, nil) }
	got := p.service(p.attacker, assert(), "system/*.rs")
	if got.TokenType != "Bearer" || string(got.ExpiresIn) != "300" || got.Scope != "system/*.rs" || got.RefreshToken != "" || got.Patient != "" {
		p.Errorf("got %s", got.reply)
	}
	if r := p.service(p.attacker, assert(), "system/*.rs", "grant_type", "not_a_grant_type"); r.status != 400 || r.Error != "unsupported_grant_type" {
		p.Errorf("another grant_type: %s", r.reply)
	}
	if r := p.service(p.attacker, assert(), "system/*.rs", "client_assertion_type", "urn:nonsense"); r.status != 400 && r.status != 401 {
		p.Errorf("another client_assertion_type: %s", r.reply)
	}
	for _, scope := range []string{"-", "user/*.rs", "system/*.cruds2"} {
		if r := p.service(p.attacker, assert(), "system/*.rs", "scope", scope); r.status != 400 || r.Error != "invalid_scope" {
			p.Errorf("scope %q: %s", scope, r.reply)
		}
	}
}

func (p *probe) introspects() {
	got := p.granted(p.attacker)
	claims := p.idToken(got.IDToken)
	told := p.introspected(p.attacker, got.AccessToken)
	for name, want := range map[string]any{"active": true, "client_id": "app", "scope": got.Scope, "patient": got.Patient, "iss": claims["iss"], "sub": claims["sub"], "fhirUser": claims["fhirUser"]} {
		if told[name] != want {
			p.Errorf("%s is %v, want %v", name, told[name], want)
		}
	}
	if exp, _ := told["exp"].(float64); exp <= float64(time.Now().Unix()) {
		p.Errorf("exp is %v", told["exp"])
	}
	if told := p.introspected(p.attacker, "nonsense"); len(told) != 1 || told["active"] != false {
		p.Errorf("of nonsense: %v", told)
	}
}

func (p *probe) crossOrigin() {
	got := p.granted(p.attacker)
	read := func(origin string) http.Header {
		return p.send((&call{method: "GET", url: p.attacker.base + "/Patient/p1", header: http.Header{}, bearer: got.AccessToken, either: p.attacker}).with("Origin", origin)).header
	}
	if h := read("https://app.example"); h.Get("Access-Control-Allow-Origin") != "https://app.example" || h.Get("Access-Control-Allow-Credentials") != "" ||
		!strings.Contains(h.Get("Access-Control-Expose-Headers"), "ETag") || !strings.Contains(h.Get("Access-Control-Expose-Headers"), "Location") {
		p.Errorf("the app reads %v", h)
	}
	if h := read("https://anyone.example"); h.Get("Access-Control-Allow-Origin") != "" {
		p.Errorf("anyone reads %v", h)
	}
	before := p.send((&call{method: "OPTIONS", url: p.attacker.base + "/Patient/p1", header: http.Header{}}).with(
		"Origin", "https://app.example", "Access-Control-Request-Method", "PUT", "Access-Control-Request-Headers", "authorization,content-type,if-match,prefer")).header
	for _, word := range []string{"authorization", "content-type", "if-match", "if-none-match", "prefer"} {
		if !strings.Contains(strings.ToLower(before.Get("Access-Control-Allow-Headers")), word) {
			p.Errorf("%s is not allowed: %v", word, before)
		}
	}
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {got.RefreshToken}, "client_id": {"app"}}.Encode()
	for origin, want := range map[string]string{"https://anyone.example": "", "https://app.example": "https://app.example"} {
		r := p.auth(p.attacker, "POST", "token", strings.Replace(form, got.RefreshToken, "nonsense", 1), "Origin", origin)
		if h := r.header.Get("Access-Control-Allow-Origin"); h != want {
			p.Errorf("the token endpoint answers %s with %q", origin, h)
		}
	}
}

func (p *probe) fullAccess() {
	scope := "launch/patient openid fhirUser offline_access"
	for _, on := range strings.Fields(`Medication AllergyIntolerance CarePlan CareTeam Condition Device DiagnosticReport DocumentReference Encounter Goal
		Immunization Location MedicationRequest Observation Organization Patient Practitioner Procedure Provenance PractitionerRole Coverage RelatedPerson ServiceRequest Specimen`) {
		scope += " patient/" + on + ".rs"
	}
	got := p.granted(p.attacker, "scope", scope)
	if !sameWords(got.Scope, scope) {
		p.Errorf("asked for %q, got %q", scope, got.Scope)
	}
	for _, sc := range strings.Fields(scope) {
		on, ok := strings.CutPrefix(strings.TrimSuffix(sc, ".rs"), "patient/")
		if !ok {
			continue
		}
		query := "?patient=p1"
		switch on {
		case "Patient":
			query = "?_id=p1"
		case "Medication", "Location", "Organization", "Practitioner", "PractitionerRole":
			query = "?_id=x"
		case "Provenance":
			query = "?target=Patient/p1"
		}
		p.want(p.bearing(p.attacker, got.AccessToken, "/"+on+query), 200)
	}
	p.want(p.bearing(p.attacker, got.AccessToken, "/Claim?patient=p1"), 403)
	p.want(p.bearing(p.attacker, "", "/Patient/p1"), 401)
	next := p.refresh(p.attacker, got.RefreshToken)
	p.want(p.bearing(p.attacker, next.AccessToken, "/Patient/"+next.Patient), 200)
}

func (p *probe) badTokenRequest() {
	code := p.code(p.attacker)
	p.want(p.redeem(p.attacker, "BAD_CODE").reply, 400)
	p.want(p.redeem(p.attacker, code, "client_id", "BAD_CLIENT_ID").reply, 400, 401)
	p.want(p.redeem(p.attacker, code, "redirect_uri", "https://elsewhere.example/").reply, 400)
	p.want(p.redeem(p.attacker, code, "grant_type", "bad").reply, 400)
}

func (p *probe) asymmetricApp() {
	key := p.home(p.attacker).keys["signing-app"]
	code := p.code(p.attacker, "client_id", "signing-app")
	prove := func() []string {
		return []string{"client_id", "-", "client_assertion_type", bearerType, "client_assertion", p.assertion(p.attacker, "signing-app", key, nil)}
	}
	p.want(p.redeem(p.attacker, code, "client_id", "signing-app").reply, 400, 401)
	got := p.redeem(p.attacker, code, prove()...)
	if got.status != 200 || got.RefreshToken == "" || got.Patient != "p1" {
		p.Fatalf("got %s", got.reply)
	}
	p.want(p.refresh(p.attacker, got.RefreshToken, "client_id", "signing-app").reply, 400, 401)
	p.want(p.refresh(p.attacker, got.RefreshToken, prove()...).reply, 200)
	p.want(p.bearing(p.attacker, got.AccessToken, "/Patient/p1"), 200)
}
