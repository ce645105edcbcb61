// Package deploy_test holds the files of this folder to what they promise.
package deploy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.FromSlash(name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// blocks cuts YAML into the mappings below the key at the top.
func blocks(t *testing.T, text, key string) map[string]string {
	t.Helper()
	_, rest, ok := strings.Cut(text, "\n"+key+":\n")
	if !ok {
		t.Fatalf("no %s in the file", key)
	}
	if end := regexp.MustCompile(`(?m)^\S`).FindStringIndex(rest); end != nil {
		rest = rest[:end[0]]
	}
	found := map[string]string{}
	name := ""
	for line := range strings.Lines(rest) {
		if m := regexp.MustCompile(`^  (\w+):\s*$`).FindStringSubmatch(line); m != nil {
			name = m[1]
		}
		found[name] += line
	}
	return found
}

func TestEveryImageIsPinnedToAVersion(t *testing.T) {
	pinned := regexp.MustCompile(`:[0-9]+\.[0-9]+(\.[0-9]+)?(-[a-z]+)?$`)
	for line := range strings.Lines(read(t, "Dockerfile")) {
		f := strings.Fields(line)
		if len(f) > 1 && f[0] == "FROM" && f[1] != "scratch" && !pinned.MatchString(f[1]) {
			t.Errorf("Dockerfile: %s", strings.TrimSpace(line))
		}
	}
	for _, m := range regexp.MustCompile(`image: (\S+)`).FindAllStringSubmatch(read(t, "compose.yaml"), -1) {
		if !pinned.MatchString(m[1]) && !strings.HasSuffix(m[1], ":local") {
			t.Errorf("compose.yaml: image %s", m[1])
		}
	}
}

func TestNoImageOfOursRunsAsRoot(t *testing.T) {
	for stage := range strings.SplitSeq(read(t, "Dockerfile"), "\nFROM ") {
		if strings.HasPrefix(stage, "scratch ") && !strings.Contains(stage, "\nUSER 65532:65532\n") {
			t.Errorf("a final stage has no USER: %.60s", stage)
		}
	}
	if n := strings.Count(read(t, "compose.yaml"), `user: "65532:65532"`); n != 2 {
		t.Errorf("got %d services with a user, want those of cordon and the S3 server", n)
	}
}

func TestTheBinaryIsStatic(t *testing.T) {
	if strings.Count(read(t, "Dockerfile"), "CGO_ENABLED=0 go ") != 2 {
		t.Error("a build without CGO_ENABLED=0 does not run on scratch")
	}
}

// What clients send to the database does not reach its log, and
// nothing acknowledged is lost. pgserver is what the tests run on.
func TestPostgreSQLHasTheSettingsThatWeTestWith(t *testing.T) {
	text := read(t, "compose.yaml")
	_, settings, ok := strings.Cut(read(t, "../store/pgserver/pgserver.go"), "var settings = map[string]string{")
	settings, _, _ = strings.Cut(settings, "\n}")
	rows := regexp.MustCompile(`"(\w+)":\s+"(.*)",`).FindAllStringSubmatch(settings, -1)
	if !ok || len(rows) < 15 {
		t.Fatal("the settings of pgserver are not where they were")
	}
	for _, row := range rows {
		k, v := row[1], row[2]
		switch k {
		case "listen_addresses", "unix_socket_directories", "logging_collector", "shared_preload_libraries":
			continue // the container's own
		}
		if !strings.Contains(text, "- -c"+k+"="+v+"\n") {
			t.Errorf("compose.yaml lacks %s=%s", k, v)
		}
	}
	if !strings.Contains(text, "--data-checksums") {
		t.Error("compose.yaml makes a cluster without checksums")
	}
}

func TestNobodyConnectsWithoutAPassword(t *testing.T) {
	for _, file := range []string{"compose.yaml", "Dockerfile", "env.example", "postgres/10-owner.sh"} {
		text := read(t, file)
		for _, bad := range []string{"POSTGRES_HOST_AUTH_METHOD", "=trust", "AUTH=off", "auth=off", "NO_AUTH", "privileged: true"} {
			if strings.Contains(text, bad) {
				t.Errorf("%s holds %q", file, bad)
			}
		}
	}
	for line := range strings.Lines(read(t, "env.example")) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(k, "#") &&
			(strings.Contains(k, "PASSWORD") || strings.Contains(k, "KEY")) && v != "" {
			t.Errorf("env.example gives %s a value that everyone knows", k)
		}
	}
}

// Only what makes tenants knows the owner; the data plane never does.
func TestTheDataPlaneDoesNotKnowTheOwner(t *testing.T) {
	services := blocks(t, read(t, "compose.yaml"), "services")
	for _, name := range []string{"serve", "s3"} {
		if s := services[name]; s == "" || strings.Contains(s, "owner") || strings.Contains(s, "OWNER") {
			t.Errorf("service %s: %s", name, s)
		}
	}
	if !strings.Contains(services["serve"], "kek:/kek:ro") {
		t.Error("the data plane may write key-encryption keys")
	}
}

// The S3 server that the files of exports are kept on is the one that tests run
// against, and its bucket is there.
func TestTheBucketOfFilesIsThere(t *testing.T) {
	version := regexp.MustCompile(`github.com/versity/versitygw(?:/cmd/versitygw@| )(v\S+)`)
	tested, built := version.FindStringSubmatch(read(t, "../tools/go.mod")), version.FindStringSubmatch(read(t, "Dockerfile"))
	if tested == nil || built == nil || tested[1] != built[1] {
		t.Errorf("the image has versitygw %v, tests %v", built, tested)
	}
	bucket := regexp.MustCompile(`CORDON_FILES: s3://(\w+)\n`).FindStringSubmatch(read(t, "compose.yaml"))
	if bucket == nil || !strings.Contains(read(t, "Dockerfile"), " /out/data/"+bucket[1]+"\n") {
		t.Errorf("there is no bucket %v", bucket)
	}
}
