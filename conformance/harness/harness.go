// Package harness runs the program as it is shipped, for the tests that hold it
// to what it promises.
package harness

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Main runs the tests of a package on the system that start starts and stop ends,
// and exits. stop is called also if start fails, and may be nil. If tests are only
// listed, nothing is started.
func Main(m *testing.M, start func(context.Context) (stop func() error, err error)) {
	flag.Parse()
	if list := flag.Lookup("test.list"); list.Value.String() != "" {
		os.Exit(m.Run())
	}
	os.Exit(run(m, start))
}

func run(m *testing.M, start func(context.Context) (stop func() error, err error)) (code int) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	stop, err := start(ctx)
	if stop != nil {
		defer func() {
			if err := stop(); err != nil {
				fmt.Fprintln(os.Stderr, "stopping the system:", err)
				code = 1
			}
		}()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "starting the system:", err)
		return 1
	}
	return m.Run()
}

// Root returns the root of the module.
func Root() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, serr := os.Stat(filepath.Join(dir, "go.mod")); serr == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			err = errors.New("no go.mod above the test's directory")
		}
		dir = filepath.Dir(dir)
	}
	return "", err
}

// Dir makes a directory for a system. PostgreSQL may run as another user, who
// can pass through it.
func Dir(name string) (string, error) {
	dir, err := os.MkdirTemp("", name)
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o755)
}

// Program returns the program that is tested: what Build makes in dir, unless
// CORDON_TEST_BINARY names one. That is how the same tests run against a program
// with a fault in it.
func Program(ctx context.Context, dir string, args ...string) (string, error) {
	if bin := os.Getenv("CORDON_TEST_BINARY"); bin != "" {
		return bin, nil
	}
	return Build(ctx, dir, args...)
}

// Build makes the program in dir, with more arguments of go build.
func Build(ctx context.Context, dir string, args ...string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "cordon")
	cmd := exec.CommandContext(ctx, "go", append(append([]string{"build", "-o", bin}, args...), "./cmd/cordon")...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the program: %w\n%s", err, out)
	}
	return bin, nil
}
