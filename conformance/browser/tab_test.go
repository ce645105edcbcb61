package browser

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// A tab is what one person looks at. They have no mouse.
type tab struct {
	t   *testing.T
	ctx context.Context

	mu sync.Mutex
	// faults are what the browser complained of, and requests to anyone but
	// the server and the app.
	faults []string
}

// open makes a tab in a profile of its own. At the end of the test nothing must
// have been wrong in it.
func open(t *testing.T) *tab {
	t.Helper()
	if sys == nil {
		t.Skip("needs Chromium and npm, which make deps installs as root, and no -short")
	}
	ctx, cancel := chromedp.NewContext(chromium, chromedp.WithNewBrowserContext())
	b := &tab{t: t, ctx: ctx}
	t.Cleanup(func() {
		cancel()
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, f := range b.faults {
			t.Error(f)
		}
	})
	// The first call makes the tab, whose life is that of its context.
	if err := chromedp.Listen(ctx, b.hear); err != nil {
		t.Fatal(err)
	}
	command(b, network.Enable, network.EnableParams{})
	command(b, log.Enable, cdp.Empty{})
	command(b, runtime.Enable, cdp.Empty{})
	return b
}

// patience is how long anything in a browser may take.
const patience = time.Minute

func (b *tab) run(action chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	if err := chromedp.Do(ctx, action); err != nil {
		b.t.Fatal(err)
	}
}

// command sends the browser a command of its protocol.
// https://chromedevtools.github.io/devtools-protocol/
func command[P, R any](b *tab, c cdp.Command[P, R], params P) R {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	result, err := chromedp.Call(ctx, c, params)
	if err != nil {
		b.t.Fatal(err)
	}
	return result
}

// hear takes down what the browser says.
func (b *tab) hear(event any) {
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		if !ours(e.Request.URL) {
			b.fault("a request to %s", e.Request.URL)
		}
	case *log.EventEntryAdded:
		// The status of a page that says what is wrong is of source network.
		if e.Entry.Source != log.EntrySourceNetwork {
			b.fault("the log says: %s", e.Entry.Text)
		}
	case *runtime.EventExceptionThrown:
		b.fault("a script failed: %s", e.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError {
			b.fault("a script complained")
		}
	}
}

func (b *tab) fault(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults = append(b.faults, fmt.Sprintf(format, args...))
}

// ours reports whether an address is that of the server or of the app, or holds
// itself what it is the address of, as on the browser's own pages of errors.
func ours(address string) bool {
	u, err := url.Parse(address)
	return err == nil && (u.Scheme == "data" || strings.HasPrefix(sys.Auth, u.Scheme+"://"+u.Host+"/") || sys.app.URL == u.Scheme+"://"+u.Host)
}

// visit enters an address.
func (b *tab) visit(address string) {
	b.t.Helper()
	b.run(chromedp.Navigate(address))
}

// eval returns what an expression is worth on the page.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatal(err)
	}
	return value
}

// see waits until the page shows the words.
func (b *tab) see(words string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	for {
		// Between two pages there is nothing to ask.
		text, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.readyState === "complete" ? document.body.innerText : ""`))
		if err == nil && strings.Contains(text, words) {
			return
		}
		if ctx.Err() != nil {
			b.t.Fatalf("the page does not show %q (%v):\n%s", words, err, text)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// focused describes what has the focus.
type focused struct {
	Name    string // by which people know it
	Visible bool   // that it has the focus
	Number  int    // among all that can have it
}

// focusable finds all that one has to be able to reach.
const focusable = `[...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea")].filter(e => e.checkVisibility())`

func (b *tab) focused() focused {
	b.t.Helper()
	return eval[focused](b, `(() => {
		const e = document.activeElement, outline = getComputedStyle(e);
		return {
			Name: ((e.labels && e.labels[0] || e).innerText || "").trim(),
			Visible: outline.outlineStyle !== "none" && parseFloat(outline.outlineWidth) >= 1,
			Number: `+focusable+`.indexOf(e),
		};
	})()`)
}

// press presses a key, or types text.
func (b *tab) press(keys string) {
	b.t.Helper()
	b.run(chromedp.KeyEvent(keys))
}

// send presses Enter, and waits for the page that comes of it: what is seen after
// that is not on the page before.
func (b *tab) send() {
	b.t.Helper()
	eval[bool](b, `window.before = true`)
	b.press(kb.Enter)
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	for {
		came, err := chromedp.Run(ctx, chromedp.Evaluate[bool](`!window.before && document.readyState === "complete"`))
		if err == nil && came {
			return
		}
		if ctx.Err() != nil {
			b.t.Fatalf("no page came: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// to goes to what has a name that begins so.
func (b *tab) to(name string) {
	b.t.Helper()
	seen := []string{}
	for range 60 {
		b.press(kb.Tab)
		at := b.focused()
		if at.Number >= 0 && strings.HasPrefix(at.Name, name) {
			return
		}
		seen = append(seen, at.Name)
	}
	b.t.Fatalf("the keyboard does not lead to %q, only to %q", name, seen)
}

// fill goes to the field of the name and types.
func (b *tab) fill(name, text string) {
	b.t.Helper()
	b.to(name)
	b.press(text)
}

// push goes to the button of the name and pushes it.
func (b *tab) push(name string) {
	b.t.Helper()
	b.to(name)
	b.press(kb.Enter)
}

// logIn logs in on the page that asks for it.
func (b *tab) logIn(login, password string) {
	b.t.Helper()
	b.see("One-time code")
	b.fill("User name", login)
	b.fill("Password", password)
	b.press(kb.Enter)
}
