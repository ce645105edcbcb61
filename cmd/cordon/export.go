package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"
)

// exportCommand writes the files of a bulk export to a directory.
// https://hl7.org/fhir/uv/bulkdata/STU2/export.html
type exportCommand struct {
	systemFlags
	To       string   `required:"" placeholder:"DIR" help:"Directory for the files. An export that was begun there goes on."`
	Patients bool     `xor:"of" help:"Of all patients, not of the system."`
	Group    string   `xor:"of" placeholder:"ID" help:"Of the patients in a group."`
	View     string   `placeholder:"NAME" help:"A table in place of resources, by a view that comes with Cordon, as patient_demographics."`
	Format   string   `default:"parquet" enum:"parquet,csv,ndjson,json" help:"Of a table."`
	Type     []string `placeholder:"TYPE" help:"Types of resources. Default: all that the client may see."`
	Filter   []string `sep:"none" placeholder:"TYPE?QUERY" help:"A search that resources of its type must match; may be given again."`
	Since    string   `placeholder:"INSTANT" help:"What was changed after it, as in 2026-01-31T00:00:00Z."`
	Keep     bool     `help:"Leave the files on the server until they expire. Default: they are removed there."`
}

// Run asks for the export, or goes on with one, and checks that each file is
// whole.
func (e *exportCommand) Run(ctx context.Context, c console) error {
	if e.View != "" && (e.Patients || len(e.Type)+len(e.Filter) > 0) {
		return errors.New("--view says of which type it is, and goes with --group and --since alone")
	}
	fhir, err := e.open(ctx, "backend", "system/*.rs")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(e.To, 0o700); err != nil {
		return err
	}
	x := &exporter{system: fhir, dir: e.To, err: c.err}
	job, err := x.begun(ctx, fhir.base+e.query())
	if err != nil {
		return err
	}
	m, err := x.await(ctx, job)
	if err != nil {
		return err
	}
	if err := x.fetch(ctx, m); err != nil {
		return err
	}
	if !e.Keep {
		if _, err := x.ask(ctx, http.MethodDelete, job, nil, http.StatusAccepted); err != nil {
			return err
		}
	}
	if err := os.Remove(x.path("job")); err != nil {
		return err
	}
	return x.print(c.out, m)
}

// query is the path and query of the export, below the base of the tenant.
func (e *exportCommand) query() string {
	at, q := "/$export", url.Values{}
	switch {
	case e.View != "":
		at = "/ViewDefinition/" + url.PathEscape(e.View) + "/$viewdefinition-export"
		q.Set("_format", e.Format)
		if e.Group != "" {
			q.Set("group", "Group/"+e.Group)
		}
	case e.Patients:
		at = "/Patient/$export"
	case e.Group != "":
		at = "/Group/" + url.PathEscape(e.Group) + "/$export"
	}
	if len(e.Type) > 0 {
		q.Set("_type", strings.Join(e.Type, ","))
	}
	if e.Since != "" {
		q.Set("_since", e.Since)
	}
	for _, f := range e.Filter {
		q.Add("_typeFilter", f)
	}
	if len(q) > 0 {
		at += "?" + q.Encode()
	}
	return at
}

// An exporter gets the files of one export.
type exporter struct {
	*system
	dir string
	err io.Writer
}

// An exportManifest is what the server says of the files.
type exportManifest struct {
	TransactionTime        string
	Output, Deleted, Error []exportFile
}

type exportFile struct {
	Type, URL string
	Count     int
	// as is the name of a file of a table, which is written as it is read, and not in
	// gzip.
	as string
}

// tables are the views of an export, and their files, as its Parameters say.
// https://sql-on-fhir.org/ig/OperationDefinition-ViewDefinitionExport.html
type tables struct {
	ResourceType string
	Parameter    []struct {
		Name         string
		ValueInstant string
		Part         []struct{ Name, ValueString, ValueURI string }
	}
}

// manifest is what the Parameters say, as a manifest.
func (t *tables) manifest() *exportManifest {
	m := &exportManifest{}
	for _, p := range t.Parameter {
		if p.Name == "exportStartTime" {
			m.TransactionTime = p.ValueInstant
		}
		view, n := "", 0
		for _, part := range p.Part {
			switch {
			case p.Name != "output":
			case part.Name == "name":
				view = part.ValueString
			case part.Name == "location":
				n++
				as := fmt.Sprintf("%s.%d%s", view, n, path.Ext(part.ValueURI))
				m.Output = append(m.Output, exportFile{Type: view, URL: part.ValueURI, as: filepath.Base(as)})
			}
		}
	}
	return m
}

func (m *exportManifest) files() []exportFile { return slices.Concat(m.Output, m.Deleted, m.Error) }

func (x *exporter) path(name string) string { return filepath.Join(x.dir, name) }

// begun returns where the state of the export is: one that was begun in the
// directory, or a new one.
func (x *exporter) begun(ctx context.Context, at string) (string, error) {
	was, err := os.ReadFile(x.path("job"))
	asked, job, _ := strings.Cut(strings.TrimSpace(string(was)), "\n")
	switch {
	case err == nil && asked == at:
		return job, nil
	case err == nil:
		return "", fmt.Errorf("%s holds another export that is not done: %s", x.dir, asked)
	case !errors.Is(err, os.ErrNotExist):
		return "", err
	}
	resp, err := x.ask(ctx, http.MethodGet, at, http.Header{"Prefer": {"respond-async"}, "Accept": {"application/fhir+json"}}, http.StatusAccepted)
	if err != nil {
		return "", fmt.Errorf("asking for the export: %w", err)
	}
	resp.Body.Close()
	job = resp.Header.Get("Content-Location")
	return job, os.WriteFile(x.path("job"), []byte(at+"\n"+job+"\n"), 0o600)
}

// await asks about the export until it is done.
func (x *exporter) await(ctx context.Context, job string) (*exportManifest, error) {
	body, err := x.done(ctx, job, x.err)
	if err != nil {
		return nil, fmt.Errorf("asking about the export: %w", err)
	}
	m, t := &exportManifest{}, &tables{}
	if err := errors.Join(json.Unmarshal(body, m), json.Unmarshal(body, t)); err != nil {
		return nil, fmt.Errorf("reading the manifest: %w", err)
	}
	if t.ResourceType == "Parameters" {
		m = t.manifest()
	}
	return m, os.WriteFile(x.path("manifest.json"), body, 0o600)
}

// done asks about bulk work until it is done, and returns its manifest. How far it
// has come it tells on the way.
func (s *system) done(ctx context.Context, job string, tell io.Writer) ([]byte, error) {
	for {
		resp, err := s.ask(ctx, http.MethodGet, job, http.Header{"Accept": {"application/json"}}, http.StatusOK, http.StatusAccepted)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode == http.StatusOK {
			return body, err
		}
		fmt.Fprintln(tell, resp.Header.Get("X-Progress"))
		select {
		case <-time.After(patience(resp)):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// fetch gets the files that are not here yet.
func (x *exporter) fetch(ctx context.Context, m *exportManifest) error {
	lines := 0
	for _, f := range m.files() {
		lines += f.Count
	}
	bar := progressbar.NewOptions(lines, progressbar.OptionSetWriter(x.err), progressbar.OptionSetVisibility(isTerminal(x.err)),
		progressbar.OptionSetDescription("fetching"), progressbar.OptionShowCount(), progressbar.OptionClearOnFinish())
	defer bar.Finish()
	for _, f := range m.files() {
		if err := x.file(ctx, f); err != nil {
			return fmt.Errorf("%s: %w", path.Base(f.URL), err)
		}
		_ = bar.Add(f.Count) // a bar that cannot be drawn is no fault of the export
	}
	return nil
}

// file gets one file, in gzip, from where an earlier run came to, and checks it.
func (x *exporter) file(ctx context.Context, f exportFile) error {
	name := x.path(path.Base(f.URL) + ".gz")
	if f.as != "" {
		name = x.path(f.as)
	}
	if _, err := os.Stat(name); err == nil {
		return nil
	}
	part := name + ".part"
	out, err := os.OpenFile(part, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := x.rest(ctx, f, out); err != nil {
		return err
	}
	if f.as != "" {
		return x.unpacked(out, name)
	}
	if err := whole(out, f); err != nil {
		os.Remove(part)
		return err
	}
	if err := out.Sync(); err != nil {
		return err
	}
	return os.Rename(part, name)
}

// unpacked writes what is in gzip to a file of the name, whose hash gzip holds.
func (x *exporter) unpacked(in *os.File, name string) error {
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return err
	}
	out, err := os.OpenFile(name+".whole", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	z, err := gzip.NewReader(in)
	if err == nil {
		_, err = io.Copy(out, z)
	}
	if err != nil {
		os.Remove(in.Name())
		return err
	}
	if err := errors.Join(out.Sync(), os.Rename(out.Name(), name)); err != nil {
		return err
	}
	return os.Remove(in.Name())
}

// rest appends to out what it lacks of the file.
func (x *exporter) rest(ctx context.Context, f exportFile, out *os.File) error {
	header := http.Header{"Accept-Encoding": {"gzip"}, "Accept": {"application/fhir+ndjson"}}
	info, err := out.Stat()
	if err != nil {
		return err
	}
	if info.Size() > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", info.Size()))
	}
	resp, err := x.ask(ctx, http.MethodGet, f.URL, header, http.StatusOK, http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable: // all of it is here
		return nil
	case resp.StatusCode == http.StatusOK:
		if err := out.Truncate(0); err != nil {
			return err
		}
	}
	_, err = io.Copy(out, resp.Body)
	return err
}

// whole checks that the file has the lines that the manifest says, each of the
// type.
func whole(r io.ReadSeeker, f exportFile) error {
	if _, err := r.Seek(0, io.SeekStart); err != nil {
		return err
	}
	z, err := gzip.NewReader(r)
	if err != nil {
		return err
	}
	in, n := bufio.NewReaderSize(z, 1<<20), 0
	is := []byte(`"resourceType":"` + f.Type + `"`)
	for {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			break
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", n+1, err)
		}
		if n++; !json.Valid(line) || !bytes.Contains(line, is) {
			return fmt.Errorf("line %d is no %s", n, f.Type)
		}
	}
	if n != f.Count {
		return fmt.Errorf("there are %d lines where the manifest says %d", n, f.Count)
	}
	return nil
}

func (x *exporter) print(w io.Writer, m *exportManifest) error {
	counts, total := map[string]int{}, 0
	for _, f := range m.Output {
		counts[f.Type] += f.Count
		total += f.Count
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(m.Output) > 0 && m.Output[0].as != "" {
		fmt.Fprintf(t, "TABLE, AS OF %s\tFILE\n", m.TransactionTime)
		for _, f := range m.Output {
			fmt.Fprintf(t, "%s\t%s\n", f.Type, x.path(f.as))
		}
		return t.Flush()
	}
	fmt.Fprintln(t, "TYPE\tRESOURCES")
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(t, "%s\t%d\n", name, counts[name])
	}
	fmt.Fprintf(t, "total, as of %s\t%d\n", m.TransactionTime, total)
	return t.Flush()
}
