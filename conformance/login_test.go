package conformance

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"html"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// What the apps of every tenant come back to, and prove themselves by.
const (
	callback   = "https://app.example/callback"
	verifier   = "a-verifier-that-has-forty-three-characters-"
	state      = "st&te=1 +/"
	password   = "correct horse battery"
	bearerType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
)

// everything is what an app for patients asks for that wants all.
const everything = "openid fhirUser launch/patient offline_access patient/*.rs"

// A home is who can log in at a tenant, and the apps that they can use.
type home struct {
	secrets map[string]string           // of clients that have one
	keys    map[string]*jose.JSONWebKey // of those that sign
}

// users can log in at each tenant that has a home. Nobody lets the relative see
// anybody.
var users = []struct{ login, user, roles string }{
	{"doctor", "Practitioner/dr1", "physician"},
	{"colleague", "Practitioner/dr2", "physician"},
	{"patient", "Patient/p1", "patient"},
	{"relative", "RelatedPerson/never-was", "relative"},
}

// apps are its clients that users log in to, and that serve those.
var apps = []struct{ id, method, scopes string }{
	{"app", "none", "openid fhirUser profile launch launch/patient launch/encounter offline_access online_access patient/*.cruds user/*.cruds system/*.cruds"},
	{"other-app", "none", "openid fhirUser launch launch/patient offline_access patient/*.rs"},
	{"secret-app", "client_secret", "openid fhirUser launch launch/patient offline_access patient/*.rs"},
	{"signing-app", "private_key_jwt", "openid fhirUser launch/patient offline_access patient/*.rs"},
	{"ehr", "client_secret", "__launch.open"},
	{"watcher", "client_secret", "__introspect"},
}

// home makes the users and apps of a tenant, once.
func (p *probe) home(at *party) *home {
	p.Helper()
	if at.home == nil {
		h, err := at.settle(context.WithoutCancel(p.Context()))
		if err != nil {
			p.Fatal(err)
		}
		at.home = h
	}
	return at.home
}

func (at *party) settle(ctx context.Context) (*home, error) {
	h := &home{secrets: map[string]string{}, keys: map[string]*jose.JSONWebKey{}}
	file := filepath.Join(at.sys.Dir, "password")
	if err := os.WriteFile(file, []byte(password), 0o600); err != nil {
		return nil, err
	}
	for _, u := range users {
		if _, err := at.sys.Cordon(ctx, "user", "add", "--tenant", at.slug, u.login, "--user", u.user, "--role", u.roles, "--password-file", file); err != nil {
			return nil, err
		}
	}
	for _, a := range apps {
		args := []string{"client", "add", "--tenant", at.slug, a.id, "--name", "The " + a.id, "--method", a.method, "--scopes", a.scopes}
		if !strings.HasPrefix(a.scopes, "__") {
			args = append(args, "--redirect-uri", callback+" https://app.example/other?x=1", "--launch-url", "https://app.example/launch")
		}
		out, err := at.sys.Cordon(ctx, args...)
		if err != nil {
			return nil, err
		}
		switch a.method {
		case "client_secret":
			h.secrets[a.id] = out
		case "private_key_jwt":
			text, err := os.ReadFile(out)
			if err != nil {
				return nil, err
			}
			h.keys[a.id] = new(jose.JSONWebKey)
			if err := json.Unmarshal(text, h.keys[a.id]); err != nil {
				return nil, err
			}
		}
	}
	return h, nil
}

// issuer is the authorization server of the tenant.
func (at *party) issuer() string { return at.sys.Auth + "/" + at.slug }

// auth asks the authorization server of a tenant.
func (p *probe) auth(at *party, method, path, body string, header ...string) *reply {
	p.Helper()
	c := &call{method: method, url: at.issuer() + "/" + path, body: body, header: http.Header{}, either: at, login: true}
	if method == "POST" {
		c.header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	r := p.send(c.with(header...))
	if r.status >= 500 {
		p.Errorf("%s %s answers %s\n%s", method, c.url, r, sys.logOf(r.id))
	}
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Server": ""} {
		if got := r.header.Get(name); got != want {
			p.Errorf("T269: %s %s answers %d with %s: %q, want %q", method, c.url, r.status, name, got, want)
		}
	}
	return r
}

// bearing reads with a token, at the tenant that it may be of.
func (p *probe) bearing(at *party, bearer, path string) *reply {
	p.Helper()
	return p.send(&call{method: "GET", url: at.base + path, header: http.Header{}, bearer: bearer, either: at})
}

// A visitor is somebody with a browser at the pages of a tenant.
type visitor struct {
	*probe
	at      *party
	cookies map[string]string
	page    *reply // what they look at
}

func (p *probe) visitor(at *party) *visitor {
	p.Helper()
	p.home(at)
	return &visitor{probe: p, at: at, cookies: map[string]string{}}
}

func (v *visitor) load(method, path string, form url.Values, header ...string) *reply {
	v.Helper()
	var jar []string
	for _, name := range slices.Sorted(maps.Keys(v.cookies)) {
		jar = append(jar, name+"="+v.cookies[name])
	}
	if len(jar) > 0 {
		header = append(header, "Cookie", strings.Join(jar, "; "))
	}
	v.page = v.auth(v.at, method, path, form.Encode(), header...)
	for _, c := range (&http.Response{Header: v.page.header}).Cookies() {
		v.cookies[c.Name] = c.Value
	}
	return v.page
}

var (
	formTag  = regexp.MustCompile(`<form method="post" action="[^"]*/([a-z]+)"`)
	inputTag = regexp.MustCompile(`<input type="(hidden|checkbox)" name="([^"]*)" value="([^"]*)"( checked)?`)
)

// form returns where the first form of the page goes, and what it would send
// as it is.
func (v *visitor) form() (action string, fields url.Values) {
	v.Helper()
	m := formTag.FindSubmatch(v.page.body)
	if m == nil {
		v.Fatalf("no form on the page: %s", v.page)
	}
	fields = url.Values{}
	for _, in := range inputTag.FindAllSubmatch(v.page.body, -1) {
		if string(in[1]) == "hidden" || len(in[4]) > 0 {
			fields.Set(html.UnescapeString(string(in[2])), html.UnescapeString(string(in[3])))
		}
	}
	return string(m[1]), fields
}

// change sets fields: name and value in turn. A value "-" takes a field off.
func change(fields url.Values, filled ...string) url.Values {
	for i := 0; i < len(filled); i += 2 {
		if fields.Set(filled[i], filled[i+1]); filled[i+1] == "-" {
			fields.Del(filled[i])
		}
	}
	return fields
}

// submit sends the form of the page, filled in.
func (v *visitor) submit(filled ...string) *reply {
	v.Helper()
	action, fields := v.form()
	return v.load("POST", action, change(fields, filled...))
}

func (v *visitor) logIn(login string) *reply {
	v.Helper()
	return v.submit("login", login, "password", password)
}

// asks opens the page that an app sends its user to.
func (v *visitor) asks(changed ...string) *reply {
	v.Helper()
	return v.load("GET", "authorize?"+v.at.request(changed...).Encode(), nil)
}

// request is a good authorization request, changed.
func (at *party) request(changed ...string) url.Values {
	return change(url.Values{
		"response_type": {"code"}, "client_id": {"app"}, "redirect_uri": {callback}, "state": {state}, "nonce": {"n-1"},
		"scope": {everything}, "aud": {at.base}, "code_challenge": {challenge(verifier)}, "code_challenge_method": {"S256"},
	}, changed...)
}

// challenge is what PKCE makes of a verifier.
// https://www.rfc-editor.org/rfc/rfc7636#section-4.2
func challenge(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// back returns what the app is told by way of the browser.
func (v *visitor) back() url.Values {
	v.Helper()
	to, err := url.Parse(v.page.header.Get("Location"))
	if err != nil || v.page.status != http.StatusSeeOther || !strings.HasPrefix(to.String(), callback+"?") {
		v.Fatalf("no way back to the app: %s to %s", v.page, v.page.header.Get("Location"))
	}
	q := to.Query()
	if q.Get("state") != state || q.Get("iss") != v.at.issuer() {
		v.Errorf("the app is told %v", q)
	}
	return q
}

// code goes through all pages: as the doctor, for patient p1.
func (p *probe) code(at *party, changed ...string) string {
	p.Helper()
	return p.codeOf(at, "doctor", changed...)
}

func (p *probe) codeOf(at *party, login string, changed ...string) string {
	p.Helper()
	v := p.visitor(at)
	v.asks(changed...)
	v.logIn(login)
	return v.agree()
}

// agree goes on from the login, leaving all on that is on.
func (v *visitor) agree(filled ...string) string {
	v.Helper()
	if action, _ := v.form(); action == "patient" {
		v.submit("patient", "p1")
	}
	v.submit(append(filled, "answer", "allow")...)
	code := v.back().Get("code")
	if code == "" {
		v.Fatalf("no code: %v", v.back())
	}
	return code
}

// tokens is an answer of the token endpoint.
// https://hl7.org/fhir/smart-app-launch/app-launch.html#response-5
type tokens struct {
	*reply
	AccessToken  string          `json:"access_token"`
	TokenType    string          `json:"token_type"`
	ExpiresIn    json.RawMessage `json:"expires_in"`
	Scope        string          `json:"scope"`
	IDToken      string          `json:"id_token"`
	RefreshToken string          `json:"refresh_token"`
	Patient      string          `json:"patient"`
	Encounter    string          `json:"encounter"`
	Banner       *bool           `json:"need_patient_banner"`
	Style        string          `json:"smart_style_url"`
	Intent       string          `json:"intent"`
	Context      json.RawMessage `json:"fhirContext"`
	Error        string          `json:"error"`
}

// token asks the token endpoint.
func (p *probe) token(at *party, form url.Values, header ...string) tokens {
	p.Helper()
	got := tokens{reply: p.auth(at, "POST", "token", form.Encode(), header...)}
	if err := json.Unmarshal(got.body, &got); err != nil {
		p.Fatalf("%v: %s", err, got.reply)
	}
	if got.header.Get("Cache-Control") != "no-store" || got.header.Get("Pragma") != "no-cache" {
		p.Errorf("A-20: an answer of the token endpoint may be kept: %v", got.header)
	}
	if (got.status == http.StatusOK) != (got.AccessToken != "") || (got.status == http.StatusOK) != (got.Error == "") {
		p.Errorf("A-20: the token endpoint answers %s", got.reply)
	}
	return got
}

// redeem turns a code into tokens, as the public app, changed.
func (p *probe) redeem(at *party, code string, changed ...string) tokens {
	p.Helper()
	return p.token(at, change(url.Values{"grant_type": {"authorization_code"}, "code": {code}, "client_id": {"app"},
		"redirect_uri": {callback}, "code_verifier": {verifier}}, changed...))
}

// refresh asks for the next tokens.
func (p *probe) refresh(at *party, token string, changed ...string) tokens {
	p.Helper()
	return p.token(at, change(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}, "client_id": {"app"}}, changed...))
}

// granted goes through all of it, and wants tokens.
func (p *probe) granted(at *party, changed ...string) tokens {
	p.Helper()
	got := p.redeem(at, p.code(at, changed...))
	if got.status != http.StatusOK {
		p.Fatalf("no tokens: %s", got.reply)
	}
	return got
}

// assertion signs what proves that a client is itself, changed: claims that are
// nil are left out.
// https://hl7.org/fhir/smart-app-launch/client-confidential-asymmetric.html
func (p *probe) assertion(at *party, id string, key *jose.JSONWebKey, changed map[string]any) string {
	p.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(key.Algorithm), Key: key}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		p.Fatal(err)
	}
	claims := map[string]any{"iss": id, "sub": id, "aud": at.issuer() + "/token", "jti": p.fresh("jti"), "exp": time.Now().Add(4 * time.Minute).Unix()}
	maps.Copy(claims, changed)
	maps.DeleteFunc(claims, func(_ string, v any) bool { return v == nil })
	text, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		p.Fatal(err)
	}
	return text
}

// service asks for a token as a backend service.
func (p *probe) service(at *party, assertion, scope string, changed ...string) tokens {
	p.Helper()
	return p.token(at, change(url.Values{"grant_type": {"client_credentials"}, "scope": {scope},
		"client_assertion_type": {bearerType}, "client_assertion": {assertion}}, changed...))
}

// opens lets the EHR say where its user is, and returns the launch.
func (p *probe) opens(at *party, changed ...string) (launch, address string) {
	p.Helper()
	form := change(url.Values{"client_id": {"ehr"}, "client_secret": {p.home(at).secrets["ehr"]}, "app": {"app"}, "user": {"doctor"},
		"patient": {"p1"}, "encounter": {"e1"}, "need_patient_banner": {"false"}, "smart_style_url": {"https://ehr.example/style.json"},
		"intent": {"reconcile-medications"}, "fhirContext": {`[{"reference":"ImagingStudy/i1"}]`}}, changed...)
	r := p.want(p.auth(at, "POST", "launch", form.Encode()), 200)
	var got struct {
		Launch string
		URL    string `json:"launch_url"`
	}
	if err := json.Unmarshal(r.body, &got); err != nil || got.Launch == "" {
		p.Fatalf("no launch: %s", r)
	}
	return got.Launch, got.URL
}

// introspected asks as the resource server.
func (p *probe) introspected(at *party, token string) map[string]any {
	p.Helper()
	form := url.Values{"client_id": {"watcher"}, "client_secret": {p.home(at).secrets["watcher"]}, "token": {token}}
	return p.object(p.want(p.auth(at, "POST", "introspect", form.Encode()), 200))
}

// object reads an answer that is a JSON object.
func (p *probe) object(r *reply) map[string]any {
	p.Helper()
	var got map[string]any
	if err := json.Unmarshal(r.body, &got); err != nil {
		p.Fatalf("not an object: %s", r)
	}
	return got
}
