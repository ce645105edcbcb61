package store

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/go-json-experiment/json"
	"github.com/klauspost/compress/gzip"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/smart"
)

// A file of an export to who may see only a part of its type is given away while
// they may see all that is in it, like an answer that is kept: who leaves a care team
// leaves the files about its patients behind. What is in a file it says itself.

// sharesType reports whether scopes and policy leave the Grant only a part of what p
// is for.
func sharesType(p smart.Permit) bool {
	where, _ := search.Apart(p.Where())
	return !all(where)
}

// A lineOfFile is what is read of a line: a resource, or a Bundle of deletions.
type lineOfFile struct {
	Type fhir.Type `json:"resourceType"`
	ID   string    `json:"id"`
	Meta struct {
		Version int64 `json:"versionId,string"`
	} `json:"meta"`
	Entry []struct {
		Request struct {
			URL string `json:"url"`
		} `json:"request"`
	} `json:"entry"`
}

// inFile returns what is in the file, in the way of a basis.
func (db *DB) inFile(ctx context.Context, at sealedFile, kind FileKind) (list []audit.ShownVersion, err error) {
	file := &fileReader{ctx: ctx, file: at, files: db.files}
	if kind.Table() {
		return file.sources()
	}
	z, err := gzip.NewReader(file)
	if err != nil {
		return nil, fmt.Errorf("reading what is in a file: %w", err)
	}
	add := func(ref fhir.Ref, version int64) {
		list = append(list, audit.ShownVersion{RID: at.keys.Hash("s", ref.String()), Version: version})
	}
	for lines := bufio.NewReader(z); ; {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return list, nil // each line has an end
		}
		var l lineOfFile
		if err == nil {
			err = json.Unmarshal(line, &l)
		}
		if err != nil {
			return nil, fmt.Errorf("reading what is in a file: %w", err)
		}
		if kind == BlockFile && l.ID == "" {
			continue // the header of a block
		}
		if kind != DeletionFile {
			add(fhir.Ref{Type: l.Type, ID: l.ID}, l.Meta.Version)
			continue
		}
		for _, e := range l.Entry {
			ref, err := fhir.ParseRef(e.Request.URL)
			if err != nil {
				return nil, fmt.Errorf("reading what is in a file: %w", err)
			}
			add(ref, anyVersion)
		}
	}
}

// contents returns what is in a file of the kind and size. The error may say to wait
// until that is read.
type contents func(kind FileKind, size int64) ([]audit.ShownVersion, error)

// seesAllIn returns nil if the Grant may see all that is in a file.
func (v *View) seesAllIn(ctx context.Context, p smart.Permit, in []audit.ShownVersion) error {
	stands, err := v.stands(ctx, p, basis{Shows: in})
	if err == nil && !stands {
		err = fhir.Errorf(fhir.Deleted, "not all that is in this file may be seen any more; export again")
	}
	return err
}
