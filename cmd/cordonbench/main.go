package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "cordonbench: %v\n", err)
		os.Exit(1)
	}
}

// A config says what to measure.
type config struct {
	cordon   string        // the binary; "" builds it
	duration time.Duration // of each figure
	modes    []string
	clients  []int
	shapes   []string // parts of the names of shapes; none is all
	copies   int      // how often the Bundles are imported
	posters  int      // clients that import
	sizes    []int    // of a population in which searches are measured, ascending
	policy   bool     // what policies cost
	noise    bool     // what tenants notice of each other
	bulk     int      // patients that are imported and exported; 0 is none
	data     string
	profile  string // directory
	out      string // directory
	dir      string // directory to work in; "" is a new one
}

func parse(args []string, stderr io.Writer) (config, error) {
	var c config
	var modes, clients, shapes, sizes string
	var quick bool
	flags := flag.NewFlagSet("cordonbench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&c.cordon, "cordon", "", "`binary` of cordon; without it one is built")
	flags.DurationVar(&c.duration, "duration", time.Second, "`time` that each shape is measured for, after a short warm-up")
	flags.StringVar(&modes, "modes", "shared,schema,database", "partition `modes` to measure, separated by commas; empty is none")
	flags.StringVar(&clients, "clients", "1,8,32", "`numbers` of clients that read, update and create at once")
	flags.StringVar(&shapes, "shapes", "", "measure only shapes whose names hold one of these `words`, separated by commas")
	flags.IntVar(&c.copies, "copies", 3, "how `often` the Bundles are imported")
	flags.IntVar(&c.posters, "posters", 4, "`number` of clients that import at once")
	flags.StringVar(&sizes, "sizes", "1000,10000", "`numbers` of patients among which selective searches must cost the same, ascending; empty is none")
	flags.BoolVar(&c.policy, "policy", true, "measure what an access policy and consents cost")
	flags.BoolVar(&c.noise, "noise", true, "measure what tenants notice of one that asks a hundred times as much")
	flags.IntVar(&c.bulk, "bulk", 6000, "`number` of patients of a first load, of an import after it, and half of those of an export, in each mode; 0 is none of it")
	flags.BoolVar(&quick, "quick", false, "short figures, 8 clients, one import: to see that all runs, not to be quoted")
	flags.StringVar(&c.data, "data", findData(), "`folder` with synthea/*.json to import; without them, records are invented")
	flags.StringVar(&c.profile, "profile", "", "`folder` for profiles: CPU of the server, and plans and costs of its statements, for each shape measured")
	flags.StringVar(&c.out, "out", "bench-results", "`folder` for the report as JSON")
	flags.StringVar(&c.dir, "dir", "", "`folder` to work in; default is a new one in the system's folder for temporary files")
	if err := flags.Parse(args); err != nil {
		return c, err
	}
	if flags.NArg() > 0 {
		return c, fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	if quick {
		c.duration, clients, c.copies, sizes, c.bulk = 300*time.Millisecond, strconv.Itoa(goalClients), 1, "100,1000", min(c.bulk, 600)
	}
	if modes != "" {
		c.modes = strings.Split(modes, ",")
	}
	for _, m := range c.modes {
		if m != "shared" && m != "schema" && m != "database" {
			return c, fmt.Errorf("-modes: unknown mode %q", m)
		}
	}
	var err error
	if c.clients, err = numbers(clients); err != nil {
		return c, fmt.Errorf("-clients: %w", err)
	}
	if sizes != "" {
		if c.sizes, err = numbers(sizes); err != nil {
			return c, fmt.Errorf("-sizes: %w", err)
		}
		if !slices.IsSorted(c.sizes) {
			return c, errors.New("-sizes: they must ascend")
		}
	}
	if shapes != "" {
		c.shapes = strings.Split(shapes, ",")
	}
	if c.copies < 1 || c.posters < 1 || c.duration <= 0 || c.bulk < 0 {
		return c, errors.New("-copies, -posters and -duration must be more than nothing")
	}
	return c, nil
}

// numbers reads numbers above 0, separated by commas.
func numbers(list string) ([]int, error) {
	var all []int
	for _, s := range strings.Split(list, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("%q is not a number above 0", s)
		}
		all = append(all, n)
	}
	return all, nil
}

// wants reports whether the shape is to be measured.
func (c *config) wants(shape string) bool {
	return c.shapes == nil || slices.ContainsFunc(c.shapes, func(s string) bool { return strings.Contains(shape, s) })
}

// run measures what args say and prints it.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	if url := os.Getenv(thinURL); url != "" {
		return serveThin(ctx, url)
	}
	cfg, err := parse(args, stderr)
	if err != nil {
		return err
	}
	if cfg.profile != "" {
		if err := os.MkdirAll(cfg.profile, 0o755); err != nil {
			return err
		}
	}
	dir := cfg.dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "cordonbench"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	} else if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	// PostgreSQL may run as another user, who has to pass through.
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	if cfg.cordon == "" {
		cfg.cordon = filepath.Join(dir, "cordon")
		fmt.Fprintln(stderr, "building cordon")
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", cfg.cordon, "github.com/cordon-fhir/cordon/cmd/cordon")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		build.Stderr = stderr
		if err := build.Run(); err != nil {
			return fmt.Errorf("building cordon: %w", err)
		}
	}

	fmt.Fprintln(stderr, "starting PostgreSQL")
	pg, err := startPostgres(ctx, filepath.Join(dir, "pg"), cfg.profile != "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pg.discard()) }()
	s := &suite{config: cfg, pg: pg, progress: stderr, bench: bench{pg.PID(), runtime.NumCPU()}}
	if err := s.prepare(ctx, filepath.Join(dir, "dev")); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if s.report.Machine, err = describe(ctx, pg); err != nil {
		return err
	}
	for _, mode := range cfg.modes {
		m, err := s.mode(ctx, mode)
		if err != nil {
			return fmt.Errorf("measuring mode %s: %w", mode, err)
		}
		m.print(stdout)
		s.report.Modes = append(s.report.Modes, *m)
		s.report.Goals = append(s.report.Goals, m.goals()...)
	}
	if err := s.grow(ctx); err != nil {
		return fmt.Errorf("measuring a population that grows: %w", err)
	}
	printSizes(stdout, s.report.Sizes)
	s.report.Goals = append(s.report.Goals, growthGoals(s.report.Sizes)...)
	if err := s.policies(ctx); err != nil {
		return fmt.Errorf("measuring what policies cost: %w", err)
	}
	printPolicies(stdout, s.report.Policies)
	if err := s.noises(ctx); err != nil {
		return fmt.Errorf("measuring what tenants notice of each other: %w", err)
	}
	printNoises(stdout, s.report.Noises)
	if err := s.bulks(ctx); err != nil {
		return fmt.Errorf("measuring imports and exports: %w", err)
	}
	printBulks(stdout, s.report.Bulks)
	return s.finish(stdout)
}

// describe says where it is measured.
func describe(ctx context.Context, pg *postgres) (Machine, error) {
	m := Machine{CPUs: runtime.NumCPU(), Go: runtime.Version()}
	if err := pg.admin.QueryRow(ctx, `SHOW server_version`).Scan(&m.PostgreSQL); err != nil {
		return m, fmt.Errorf("asking PostgreSQL for its version: %w", err)
	}
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return m, fmt.Errorf("reading the machine's name: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return m, fmt.Errorf("reading the machine's name: %w", err)
	}
	m.Kernel = strings.TrimSpace(string(release))
	return m, nil
}
