// Package browser proves that people can use Cordon's pages and that a SMART
// app can be opened from them: in a real Chromium, against the program as it is
// shipped, with the client library that apps use.
package browser

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/cordon-fhir/cordon/conformance/harness"
)

// All tests share the browser, each with a profile of its own, and the system.
var (
	chromium context.Context
	sys      *system
)

// modules are what npm has installed.
const modules = "../../deploy/demo-app/node_modules"

func TestMain(m *testing.M) { harness.Main(m, start) }

// start starts the system and the browser, if there is one; else each test is
// skipped.
func start(ctx context.Context) (stop func() error, err error) {
	if testing.Short() {
		return nil, nil
	}
	program, err := installed()
	if err != nil || program == "" {
		return nil, err
	}
	s, err := startSystem(ctx)
	if err != nil {
		return s.close, err
	}
	sys = s
	stopChromium, err := startChromium(program)
	return func() error { stopChromium(); return s.close() }, err
}

// installed returns where Chromium is. It installs what is missing. Without root
// that may fail, and then there is none.
func installed() (string, error) {
	if program := ready(); program != "" {
		return program, nil
	}
	out, err := exec.Command("make", "-C", "../..", "deps").CombinedOutput()
	if program := ready(); program != "" || os.Getuid() != 0 {
		return program, nil
	}
	return "", fmt.Errorf("make deps has not installed Chromium and the packages of npm (%v)\n%s", err, out)
}

// ready returns where Chromium is, if the packages of npm are there too.
func ready() string {
	if _, err := os.Stat(filepath.Join(modules, "axe-core", "axe.min.js")); err != nil {
		return ""
	}
	return chromiumPath()
}

func chromiumPath() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// startChromium starts the browser. It can reach this machine only.
func startChromium(program string) (stop func(), err error) {
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
	)
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	allocator, stopAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	browser, stopBrowser := chromedp.NewContext(allocator)
	chromium = browser
	return func() { stopBrowser(); stopAllocator() }, chromedp.Do(browser)
}
