// Package browser proves that people can use Cordon's pages and that a SMART
// app can be opened from them: in a real Chromium, against the program as it is
// shipped, with the client library that apps use.
package browser

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// All tests share the browser, each with a profile of its own, and the system.
var (
	chromium context.Context
	sys      *system
)

// modules are what npm has installed.
const modules = "../../deploy/demo-app/node_modules"

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	if list := flag.Lookup("test.list"); testing.Short() || list != nil && list.Value.String() != "" {
		return m.Run()
	}
	program, err := installed()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if program == "" {
		return m.Run() // to say that each is skipped
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	s, err := startSystem(ctx)
	if s != nil {
		defer s.close()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "starting the system:", err)
		return 1
	}
	sys = s
	stop, err := startChromium(program)
	defer stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "starting Chromium:", err)
		return 1
	}
	return m.Run()
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
