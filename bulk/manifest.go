package bulk

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/store"
)

// A Manifest says where files of an export are.
// https://hl7.org/fhir/uv/bulkdata/STU2/export.html#response---output-manifest
type Manifest struct {
	TransactionTime     string     `json:"transactionTime"`
	Request             string     `json:"request"`
	RequiresAccessToken bool       `json:"requiresAccessToken"`
	OrganizedBy         fhir.Type  `json:"outputOrganizedBy,omitempty"`
	Output              []FileItem `json:"output"`
	Deleted             []FileItem `json:"deleted,omitempty"`
	Error               []FileItem `json:"error"`
	Link                []Link     `json:"link,omitempty"`
}

// A Link leads from a Manifest to the one with more files.
type Link struct {
	Relation string `json:"relation"`
	URL      string `json:"url"`
}

// A FileItem is a file in a Manifest.
type FileItem struct {
	Type  fhir.Type `json:"type,omitempty"`
	URL   string    `json:"url"`
	Count int64     `json:"count"`
}

// FileName is the name of a file: nobody can guess it.
func FileName(f store.ExportFile) string {
	return fmt.Sprintf("%s.%s.%s", f.Type, f.ID, formatOf(f.Kind))
}

// Manifests returns those of the export whose files are at the URL, as far as it has
// come: first those that were told of before, as they were, then one with the files
// that have come since, if there are any or it is done.
// https://hl7.org/fhir/uv/bulkdata/STU3/en/export.html#response---output-manifest
func (j *Job) Manifests(ctx context.Context, told []Manifest, request, at string, done bool) ([]Manifest, error) {
	x, err := j.DB.Exporting(ctx, j.Tenant, j.Work.ID)
	if err != nil {
		return nil, err
	}
	files, err := j.DB.ExportFiles(ctx, j.Work)
	if err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, m := range told {
		for _, f := range slices.Concat(m.Output, m.Deleted) {
			known[f.URL] = true
		}
	}
	m := j.manifest(x.At, request)
	for _, f := range files {
		item := FileItem{f.Kind.Type(f.Type), at + "/" + FileName(f), f.Lines}
		if known[item.URL] {
			continue
		}
		switch f.Kind {
		case store.OutputFile, store.MaskedFile:
			m.Output = append(m.Output, item)
		case store.BlockFile:
			item.Type = ""
			m.Output = append(m.Output, item)
		case store.DeletionFile:
			m.Deleted = append(m.Deleted, item)
		case store.ErrorFile:
			m.Error = append(m.Error, item)
		}
	}
	if len(m.Output)+len(m.Deleted) > 0 || done && len(told) == 0 {
		told = append(told, m)
	}
	return told, nil
}

// manifest returns one without files, of an export of the time.
func (j *Job) manifest(at time.Time, request string) Manifest {
	if at.IsZero() {
		at = time.Now().UTC()
	}
	m := Manifest{
		TransactionTime: at.Format("2006-01-02T15:04:05.000Z07:00"), Request: request, RequiresAccessToken: true,
		Output: []FileItem{}, Error: []FileItem{},
	}
	if j.Organized {
		m.OrganizedBy = "Patient"
	}
	return m
}

// An ImportManifest says what became of an import.
// https://github.com/smart-on-fhir/bulk-import/blob/master/import-manifest.md
type ImportManifest struct {
	TransactionTime     string       `json:"transactionTime"`
	Request             string       `json:"request"`
	RequiresAccessToken bool         `json:"requiresAccessToken"`
	Output              []ImportItem `json:"output"`
	Error               []ImportItem `json:"error"`
}

// An ImportItem is how many lines of an input were stored, or a file of why some
// were not.
type ImportItem struct {
	Type     fhir.Type `json:"type"`
	InputURL string    `json:"inputUrl"`
	Count    int64     `json:"count"`
	URL      string    `json:"url,omitempty"`
}

// Manifest returns that of the import, which is done, whose files are at the
// URL.
func (j *ImportJob) Manifest(ctx context.Context, request, at string) ([]byte, error) {
	inputs, err := j.DB.Importing(ctx, j.Tenant, j.Work.ID)
	if err != nil {
		return nil, err
	}
	files, err := j.DB.ExportFiles(ctx, j.Work)
	if err != nil {
		return nil, err
	}
	m := ImportManifest{
		TransactionTime: time.Now().UTC().Format("2006-01-02T15:04:05.000Z07:00"), Request: request, RequiresAccessToken: true,
		Output: []ImportItem{}, Error: []ImportItem{},
	}
	for _, in := range inputs {
		m.Output = append(m.Output, ImportItem{Type: in.Type, InputURL: j.Inputs[in.N-1].Name, Count: in.Stored})
	}
	for _, f := range files {
		m.Error = append(m.Error, ImportItem{Type: "OperationOutcome", InputURL: j.Inputs[f.Slice-1].Name, Count: f.Lines, URL: at + "/" + FileName(f)})
	}
	return json.Marshal(m)
}
