package browser

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// elsewhere is a page that is not ours and holds what is put into it.
func (b *tab) elsewhere(put string) {
	b.t.Helper()
	b.visit(sys.app.URL + "/not-there")
	eval[any](b, put+`; null`)
}

// refused waits until the browser complains in these words. That is then nothing
// that was wrong.
func (b *tab) refused(words string) {
	b.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if b.forgive(words) {
			return
		}
	}
	b.t.Errorf("the browser does not complain of %q", words)
}

func (b *tab) forgive(words string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := len(b.faults)
	b.faults = slices.DeleteFunc(b.faults, func(f string) bool { return strings.Contains(f, words) })
	return len(b.faults) < before
}

func TestNoPageIsShownInAFrame(t *testing.T) {
	b := open(t)
	b.elsewhere(`new Promise(done => {
		const frame = document.createElement("iframe");
		frame.src = "` + sys.page("account") + `";
		frame.onload = done;
		document.body.append(frame);
	})`)
	b.refused("frame-ancestors")
	b.visit(sys.page("account")) // which is there
	b.see("One-time code")
}

func TestAFormOfAnotherSiteIsRefused(t *testing.T) {
	for _, to := range []string{"login", "account", "consent", "patient"} {
		b := open(t)
		b.visit(sys.page("account"))
		b.logIn("doctor", sys.password("doctor"))
		b.see("Your account")
		b.elsewhere(`(() => {
			const form = document.createElement("form");
			form.method = "post";
			form.action = "` + sys.page(to) + `";
			form.innerHTML = '<input name="login" value="doctor"><input name="answer" value="logout">';
			document.body.append(form);
			form.submit();
		})()`)
		b.see("the form is not one of ours")
		b.visit(sys.page("account"))
		b.see("Your account")
	}
}

func TestTheNameOfAnAppIsText(t *testing.T) {
	b := open(t)
	const name = `<img src=x onerror=alert(1)><script>alert(2)</script>`
	_, err := sys.Cordon(t.Context(), "client", "add", "--tenant", tenant, "hostile", "--name", name, "--method", "none",
		"--scopes", "openid patient/*.rs", "--redirect-uri", sys.app.URL+"/callback")
	if err != nil {
		t.Fatal(err)
	}
	ask := url.Values{
		"response_type": {"code"}, "client_id": {"hostile"}, "redirect_uri": {sys.app.URL + "/callback"}, "state": {"s"},
		"scope": {"openid patient/*.rs"}, "aud": {sys.base()}, "code_challenge": {strings.Repeat("a", 43)}, "code_challenge_method": {"S256"},
	}
	b.visit(sys.page("authorize") + "?" + ask.Encode())
	b.see(name)
	b.logIn("patient", sys.password("patient"))
	b.see("Allow " + name)
	if got := eval[int](b, `document.querySelectorAll("img, script").length`); got != 0 {
		t.Errorf("the page holds %d elements of the name", got)
	}
	b.inspect("consent-hostile")
}
