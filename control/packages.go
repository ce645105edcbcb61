package control

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/canonical"
	"github.com/cordon-fhir/cordon/store"
)

// maxUpload bounds the file of a package.
const maxUpload = 256 << 20

// packageID is what stands for a package in a path: "hl7.fhir.us.core@6.1.0".
var packageID = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,127}@[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}$`)

// packageView is a package that a tenant has.
type packageView struct {
	Name      string            `json:"name"`
	Version   string            `json:"version"`
	Canonical string            `json:"canonical,omitempty"`
	Hash      string            `json:"hash"` // SHA-256 of the file
	Contents  map[fhir.Type]int `json:"contents"`
	Installed time.Time         `json:"installed"`
	// Missing are the packages that it depends on and that the tenant has in
	// no version, as "name@version".
	Missing []string `json:"missing,omitempty"`
}

func viewPackage(p store.InstalledPackage, all []store.InstalledPackage) packageView {
	v := packageView{
		Name: p.Name, Version: p.Version, Canonical: p.Canonical, Hash: p.Hash.String(), Contents: p.Contents, Installed: p.Installed.UTC(),
	}
	for _, name := range slices.Sorted(maps.Keys(p.Dependencies)) {
		there := slices.ContainsFunc(all, func(x store.InstalledPackage) bool { return x.Name == name })
		if !there && name != "hl7.fhir.r4.core" { // which is part of the server
			v.Missing = append(v.Missing, name+"@"+p.Dependencies[name])
		}
	}
	return v
}

func (a *api) listPackages(ctx context.Context, c call) (answer, error) {
	all, err := a.Migrator.Packages(ctx, c.slug)
	if err != nil {
		return answer{}, err
	}
	list := make([]packageView, 0, len(all))
	for _, p := range all {
		list = append(list, viewPackage(p, all))
	}
	return answer{http.StatusOK, list, "listed the packages of tenant " + c.slug}, nil
}

// installPackage installs the file: 201, or 200 if the tenant has it.
func (a *api) installPackage(ctx context.Context, c call) (answer, error) {
	select {
	case a.uploading <- struct{}{}:
		defer func() { <-a.uploading }()
	case <-ctx.Done():
		return answer{}, fhir.Errorf(fhir.Transient, "another package is being installed, try again")
	}
	hash, p, err := readFile(c.file)
	if err != nil {
		return answer{}, err
	}
	got, created, err := a.Migrator.InstallPackage(ctx, c.slug, hash, p)
	if err != nil {
		return answer{}, err
	}
	all, err := a.Migrator.Packages(ctx, c.slug)
	if err != nil {
		return answer{}, err
	}
	if !created {
		return answer{http.StatusOK, viewPackage(got, all), fmt.Sprintf("found package %s@%s with tenant %s", p.Name, p.Version, c.slug)}, nil
	}
	return answer{http.StatusCreated, viewPackage(got, all),
		fmt.Sprintf("installed package %s@%s, SHA-256 %s, for tenant %s", p.Name, p.Version, hash, c.slug)}, nil
}

// readFile reads a package while it comes, and its hash.
func readFile(r io.Reader) (hash store.Hash, p *canonical.Package, err error) {
	limited := &io.LimitedReader{R: r, N: maxUpload + 1}
	sum := sha256.New()
	all := io.TeeReader(limited, sum)
	p, err = canonical.Read(all)
	if err == nil {
		if _, err = io.Copy(io.Discard, all); err != nil {
			err = fhir.Errorf(fhir.Structure, "the body could not be read")
		}
	}
	if limited.N <= 0 {
		err = fhir.Errorf(fhir.TooLong, "the file has more than %d bytes", maxUpload)
	}
	copy(hash[:], sum.Sum(nil))
	return hash, p, err
}

func (a *api) removePackage(ctx context.Context, c call) (answer, error) {
	name, version, _ := strings.Cut(c.item, "@")
	if err := a.Migrator.RemovePackage(ctx, c.slug, name, version); err != nil {
		return answer{}, err
	}
	return answer{http.StatusOK, struct{}{}, "removed package " + c.item + " from tenant " + c.slug}, nil
}
