package canonical

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/cordon-fhir/cordon/fhir"
)

// A Package is an implementation guide, or another collection of definitions,
// in the form in which they are published.
// https://confluence.hl7.org/display/FHIR/NPM+Package+Specification
type Package struct {
	Name, Version string
	FHIRVersion   string
	// Canonical is the base of its URLs.
	Canonical    string
	Dependencies map[string]string // version by name
	Definitions  []*Definition
	// Pack holds the Definitions.
	Pack *Pack
}

// What a package may be. The largest in common use, that of all HL7
// terminology, is a tenth of it.
const (
	maxFiles        = 50_000
	maxFile         = 128 << 20
	maxUnpacked     = 1 << 30
	maxPacked       = 128 << 20 // what its definitions take in memory
	maxDependencies = 200
)

// Read reads what can be installed: a package file, or one resource as JSON,
// which becomes a package of its own. Errors are those of ReadPackage.
func Read(r io.Reader) (*Package, error) {
	b := bufio.NewReader(r)
	if first, err := b.Peek(1); err != nil || first[0] != '{' {
		return ReadPackage(b)
	}
	body, err := io.ReadAll(io.LimitReader(b, maxFile+1))
	if err != nil {
		return nil, fhir.Errorf(fhir.Structure, "the file could not be read")
	}
	if len(body) > maxFile {
		return nil, fhir.Errorf(fhir.TooLong, "the resource has more than %d bytes", maxFile)
	}
	d, err := New(body)
	if err != nil {
		return nil, err
	}
	if d.URL == "" {
		return nil, fhir.Errorf(fhir.Structure, "the resource has no url, so nothing could refer to it")
	}
	packer := NewPacker(false)
	packer.Add(d)
	pack := packer.Pack()
	return &Package{
		Name: nameOf(d), Version: versionOf(d), FHIRVersion: "4.0.1", Definitions: pack.Definitions, Pack: pack,
	}, nil
}

// nameOf returns the name of a package that has nothing but d:
// "codesystem.loinc.org" for http://loinc.org.
func nameOf(d *Definition) string {
	_, rest, ok := strings.Cut(d.URL, "://")
	if !ok {
		rest = d.URL
	}
	name := strings.ToLower(string(d.Type)) + "." + strings.Trim(otherThanName.ReplaceAllString(strings.ToLower(rest), "."), ".")
	if len(name) > 128 {
		sum := sha256.Sum256([]byte(d.URL))
		name = name[:63] + "." + hex.EncodeToString(sum[:32])
	}
	return name
}

func versionOf(d *Definition) string {
	version := strings.TrimLeft(otherThanVersion.ReplaceAllString(d.Version, "."), ".+_-")
	if version == "" {
		return "0"
	}
	return version[:min(len(version), 64)]
}

var (
	otherThanName    = regexp.MustCompile(`[^a-z0-9_-]+`)
	otherThanVersion = regexp.MustCompile(`[^A-Za-z0-9.+_-]+`)
)

// ReadPackage reads a package file: a compressed archive whose folder
// "package" has package.json and the definitions. Examples and other folders
// are passed over. A *fhir.Error says what is wrong: it is no package of R4,
// it is too large, or a name in it leads elsewhere.
func ReadPackage(r io.Reader) (*Package, error) {
	z, err := gzip.NewReader(bufio.NewReader(r))
	if err != nil {
		return nil, unreadable(err)
	}
	limited := &io.LimitedReader{R: z, N: maxUnpacked}
	a := archive{files: tar.NewReader(limited), seen: map[string]bool{}, packer: NewPacker(false)}
	for {
		switch err := a.next(); {
		case errors.Is(err, io.EOF):
			return a.finish()
		case limited.N <= 0:
			return nil, fhir.Errorf(fhir.TooLong, "the package unpacks to more than %d bytes", maxUnpacked)
		case err != nil:
			return nil, unreadable(err)
		}
	}
}

// unreadable returns err if it is for the client, else one that says that the
// archive is damaged.
func unreadable(err error) error {
	var known *fhir.Error
	if errors.As(err, &known) {
		return known
	}
	return fhir.Errorf(fhir.Structure, "the file is not a compressed archive")
}

// An archive is a package while it is read.
type archive struct {
	files    *tar.Reader
	seen     map[string]bool
	manifest []byte
	packer   *Packer
}

// next reads one file.
func (a *archive) next() error {
	h, err := a.files.Next()
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir, tar.TypeXGlobalHeader:
		return nil
	case tar.TypeReg:
	default:
		return fhir.Errorf(fhir.Structure, "the package has a link or a special file in it")
	}
	if err := a.admit(h); err != nil {
		return err
	}
	folder, file := path.Split(h.Name)
	if folder != "package/" || !strings.HasSuffix(file, ".json") || strings.HasPrefix(file, ".") {
		return nil
	}
	body, err := io.ReadAll(a.files)
	if err != nil {
		return err
	}
	if file == "package.json" {
		a.manifest = body
		return nil
	}
	return a.add(file, body)
}

// admit holds the name and the size of a file against what is allowed.
func (a *archive) admit(h *tar.Header) error {
	switch {
	case !localPath(h.Name):
		return fhir.Errorf(fhir.Structure, "a file of the package has a path that leads out of it")
	case a.seen[h.Name]:
		return fhir.Errorf(fhir.Structure, "a file is in the package twice")
	case len(a.seen) >= maxFiles:
		return fhir.Errorf(fhir.TooLong, "the package has more than %d files", maxFiles)
	case h.Size > maxFile:
		return fhir.Errorf(fhir.TooLong, "a file of the package has more than %d bytes", maxFile)
	}
	a.seen[h.Name] = true
	return nil
}

// localPath reports whether name stays in the folder that it is relative to,
// and is spelled in the one way.
func localPath(name string) bool {
	return name != "" && len(name) <= 512 && path.Clean(name) == name && !path.IsAbs(name) &&
		name != ".." && !strings.HasPrefix(name, "../") && !strings.ContainsAny(name, "\\\x00")
}

// add takes a file of the package's folder, if it defines something.
func (a *archive) add(file string, body []byte) error {
	d, pruned, err := prune(body)
	if err != nil {
		var known *fhir.Error
		if errors.As(err, &known) {
			known.Issues[0].Diagnostics += " (in a file of the package named " + printable(file) + ")"
		}
		return err
	}
	if !slices.Contains(Types, d.Type) || d.URL == "" {
		return nil
	}
	d.body = pruned
	a.packer.Add(d)
	if a.packer.pack.Size() > maxPacked {
		return fhir.Errorf(fhir.TooLong, "the definitions of the package take more than %d bytes", maxPacked)
	}
	return nil
}

// printable returns a file name if it is a plain one.
func printable(name string) string {
	if plainFile.MatchString(name) {
		return name
	}
	return "otherwise than usual"
}

var (
	plainFile      = regexp.MustCompile(`^[A-Za-z0-9._-]{1,200}$`)
	packageName    = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,127}$`)
	packageVersion = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}$`)
)

// finish reads package.json and returns the package.
func (a *archive) finish() (*Package, error) {
	if a.manifest == nil {
		return nil, fhir.Errorf(fhir.Structure, "the package has no package/package.json")
	}
	var m struct {
		Name         string            `json:"name"`
		Version      string            `json:"version"`
		Canonical    string            `json:"canonical"`
		FHIRVersions []string          `json:"fhirVersions"`
		VersionList  []string          `json:"fhir-version-list"` // as older packages have it
		Dependencies map[string]string `json:"dependencies"`
	}
	if err := json.Unmarshal(a.manifest, &m); err != nil {
		return nil, fhir.Errorf(fhir.Structure, "package.json of the package is not well-formed")
	}
	if !packageName.MatchString(m.Name) || !packageVersion.MatchString(m.Version) {
		return nil, fhir.Errorf(fhir.Structure, "package.json of the package has no proper name and version")
	}
	versions := append(m.FHIRVersions, m.VersionList...)
	i := slices.IndexFunc(versions, func(v string) bool { return v == "4.0.1" || v == "4.0.0" || v == "4.0" })
	if i < 0 {
		return nil, fhir.Errorf(fhir.NotSupported, "the package is not for FHIR 4.0.1")
	}
	if len(m.Dependencies) > maxDependencies {
		return nil, fhir.Errorf(fhir.TooLong, "the package depends on more than %d others", maxDependencies)
	}
	for name, version := range m.Dependencies {
		if !packageName.MatchString(name) || !packageVersion.MatchString(version) {
			return nil, fhir.Errorf(fhir.Structure, "package.json of the package names a dependency that is not a name and a version")
		}
	}
	pack := a.packer.Pack()
	return &Package{
		Name: m.Name, Version: m.Version, FHIRVersion: versions[i], Canonical: m.Canonical, Dependencies: m.Dependencies,
		Definitions: pack.Definitions, Pack: pack,
	}, nil
}
