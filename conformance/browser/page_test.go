package browser

import (
	"bytes"
	"fmt"
	"image/png"
	"os"
	"path/filepath"
	"strings"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp/kb"
)

// inspect looks at the page that is open as all whom it has to suit: on a
// telephone and a desktop, in light and dark, by keyboard, and with a program
// that knows what makes pages hard to use. `go test -artifacts` keeps what it
// saw.
func (b *tab) inspect(name string) {
	b.t.Helper()
	for _, scheme := range []string{"light", "dark"} {
		command(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		for _, width := range []int64{320, 1280} {
			command(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
				Width: width, Height: 800, DeviceScaleFactor: 1, Mobile: width < 600,
			})
			b.look(fmt.Sprintf("%s-%s-%d", name, scheme, width), int(width))
		}
		b.check(name + " in " + scheme)
	}
	b.reach(name)
}

// look takes a picture of the page, on which nothing may stick out.
func (b *tab) look(name string, width int) {
	b.t.Helper()
	if wide := eval[int](b, `Math.max(document.documentElement.scrollWidth, ...[...document.body.querySelectorAll("*")].map(e => Math.ceil(e.getBoundingClientRect().right)))`); wide > width {
		b.t.Errorf("%s is %d wide", name, wide)
	}
	picture := command(b, page.CaptureScreenshot, page.CaptureScreenshotParams{}).Data
	if err := os.WriteFile(filepath.Join(b.t.ArtifactDir(), name+".png"), picture, 0o600); err != nil {
		b.t.Fatal(err)
	}
	drawn, err := png.Decode(bytes.NewReader(picture))
	if err != nil {
		b.t.Fatal(err)
	}
	if got := drawn.Bounds().Dx(); got != width {
		b.t.Errorf("the picture of %s is %d wide", name, got)
	}
}

// A violation is a rule that a page breaks.
type violation struct {
	Rule, Help string
	Where      []string
}

// check asks axe, which knows WCAG and good practice.
// https://www.w3.org/TR/WCAG22/
func (b *tab) check(name string) {
	b.t.Helper()
	axe, err := os.ReadFile(filepath.Join(modules, "axe-core", "axe.min.js"))
	if err != nil {
		b.t.Fatal(err)
	}
	broken := eval[[]violation](b, string(axe)+`;axe.run(document, {preload: false, resultTypes: ["violations"]}).then(found =>
		found.violations.map(v => ({Rule: v.id, Help: v.help, Where: v.nodes.map(n => n.html + " " + n.failureSummary)})))`)
	for _, v := range broken {
		b.t.Errorf("%s: %s: %s\n  %s", name, v.Rule, v.Help, strings.Join(v.Where, "\n  "))
	}
}

// reach goes through the page by the Tab key. All that can be used must get the
// focus, in the order of the page, and show that it has it.
func (b *tab) reach(name string) {
	b.t.Helper()
	all := eval[int](b, `document.activeElement.blur(), `+focusable+`.length`)
	var order []int
	for range all {
		b.press(kb.Tab)
		at := b.focused()
		order = append(order, at.Number)
		if at.Name == "" || !at.Visible {
			b.t.Errorf("%s: what has the focus is %+v", name, at)
		}
	}
	for i, at := range order {
		if at != i {
			b.t.Fatalf("%s: the keyboard goes to %v", name, order)
		}
	}
}
