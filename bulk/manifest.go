package bulk

import (
	"context"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/store"
)

// A Manifest says where the files of an export are.
// https://hl7.org/fhir/uv/bulkdata/STU2/export.html#response---output-manifest
type Manifest struct {
	TransactionTime     string     `json:"transactionTime"`
	Request             string     `json:"request"`
	RequiresAccessToken bool       `json:"requiresAccessToken"`
	Output              []FileItem `json:"output"`
	Deleted             []FileItem `json:"deleted,omitempty"`
	Error               []FileItem `json:"error"`
}

// A FileItem is a file in a Manifest.
type FileItem struct {
	Type  fhir.Type `json:"type"`
	URL   string    `json:"url"`
	Count int64     `json:"count"`
}

// FileName is the name of a file: nobody can guess it.
func FileName(f store.ExportFile) string {
	return fmt.Sprintf("%s.%s.ndjson", f.Type, f.ID)
}

// Manifest returns that of the export, which is done, whose files are at the
// URL.
func (j *Job) Manifest(ctx context.Context, request, at string) ([]byte, error) {
	x, err := j.DB.Exporting(ctx, j.Tenant, j.Work.ID)
	if err != nil {
		return nil, err
	}
	files, err := j.DB.ExportFiles(ctx, j.Work)
	if err != nil {
		return nil, err
	}
	m := Manifest{
		TransactionTime: x.At.Format("2006-01-02T15:04:05.000Z07:00"), Request: request, RequiresAccessToken: true,
		Output: []FileItem{}, Error: []FileItem{},
	}
	if x.At.IsZero() {
		m.TransactionTime = time.Now().UTC().Format("2006-01-02T15:04:05.000Z07:00")
	}
	for _, f := range files {
		item := FileItem{f.Kind.Type(f.Type), at + "/" + FileName(f), f.Lines}
		switch f.Kind {
		case store.OutputFile:
			m.Output = append(m.Output, item)
		case store.DeletionFile:
			m.Deleted = append(m.Deleted, item)
		case store.ErrorFile:
			m.Error = append(m.Error, item)
		}
	}
	return json.Marshal(m)
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
