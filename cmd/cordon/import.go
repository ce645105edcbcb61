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
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"
)

// importCommand stores what is in NDJSON files by a bulk import.
// https://github.com/smart-on-fhir/bulk-import/blob/master/import-pnp.md
type importCommand struct {
	systemFlags
	Create  bool     `xor:"mode" help:"Only create: a resource that is there already is refused. Default: it gets a next version."`
	Initial bool     `xor:"mode" help:"A first load, which is faster: the tenant has none of the types yet, and what is there all the same is refused."`
	Job     string   `default:"import.job" placeholder:"FILE" help:"Where the import is noted. One that was cut off goes on when the same command is given again. Default: import.job."`
	Keep    bool     `help:"Leave what became of the import on the server until it expires. Default: it is removed there."`
	Files   []string `arg:"" name:"file" type:"existingfile" help:"NDJSON of one type each, also in gzip."`
}

// Run uploads the files, waits for the import, and holds the counts of the server
// against the files. It returns a *faultsError if any line was refused.
func (i *importCommand) Run(ctx context.Context, c console) error {
	fhir, err := i.open(ctx, "backend", "system/*.cruds")
	if err != nil {
		return err
	}
	files, err := surveyAll(i.Files)
	if err != nil {
		return err
	}
	x := &importer{system: fhir, state: i.Job, err: c.err, files: files}
	job, err := x.begun(ctx, i.mode())
	if err != nil {
		return err
	}
	if err := x.upload(ctx, job); err != nil {
		return err
	}
	m, err := x.await(ctx, job)
	if err != nil {
		return err
	}
	faults, err := x.faults(ctx, m)
	if err != nil {
		return err
	}
	refused := x.print(c.out, m, faults)
	if err := x.whole(m); err != nil {
		return err
	}
	if !i.Keep {
		if _, err := x.ask(ctx, http.MethodDelete, job, nil, http.StatusAccepted); err != nil {
			return err
		}
	}
	if err := os.Remove(x.state); err != nil {
		return err
	}
	if refused > 0 {
		return &faultsError{refused}
	}
	return nil
}

func (i *importCommand) mode() string {
	switch {
	case i.Create:
		return "create"
	case i.Initial:
		return "initial"
	}
	return "upsert"
}

// A surveyed is a file that is to be imported.
type surveyed struct {
	path, name, typ string
	size            int64
	lines           int // that are not blank
}

// surveyAll looks at the files.
func surveyAll(paths []string) ([]surveyed, error) {
	var list []surveyed
	for n, path := range paths {
		s, err := survey(path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		s.name = inputName(path, n+1)
		list = append(list, s)
	}
	return list, nil
}

// inputName is what the server calls a file in what it says of its lines.
func inputName(path string, n int) string {
	plain := func(r rune) rune {
		if r < 128 && (r == '.' || r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z') {
			return r
		}
		return '_'
	}
	base := strings.Map(plain, filepath.Base(path))
	return fmt.Sprintf("%d-%s", n, base[:min(len(base), 80)])
}

// survey counts the lines of a file, and finds the type of what is in it.
func survey(path string) (s surveyed, err error) {
	f, err := os.Open(path)
	if err != nil {
		return s, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return s, err
	}
	s.path, s.size = path, info.Size()
	in := bufio.NewReaderSize(f, 1<<20)
	if magic, _ := in.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(in)
		if err != nil {
			return s, err
		}
		in = bufio.NewReaderSize(z, 1<<20)
	}
	for {
		line, err := in.ReadBytes('\n')
		if line = bytes.TrimSpace(bytes.TrimPrefix(line, []byte("\ufeff"))); len(line) > 0 {
			s.lines++
			if s.typ == "" {
				var r struct{ ResourceType string }
				_ = json.Unmarshal(line, &r) // another line may say it
				s.typ = r.ResourceType
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return s, err
		}
	}
	if s.typ == "" {
		return s, errors.New("there is no resource in it")
	}
	return s, nil
}

// An importer gives a server the files of one import.
type importer struct {
	*system
	state string
	err   io.Writer
	files []surveyed
}

// request is the body that asks for the import.
func (x *importer) request(mode string) []byte {
	type part struct {
		Name  string `json:"name"`
		Code  string `json:"valueCode,omitempty"`
		URI   string `json:"valueUri,omitempty"`
		Parts []part `json:"part,omitempty"`
	}
	list := []part{{Name: "inputFormat", Code: "application/fhir+ndjson"}, {Name: "mode", Code: mode}}
	for _, f := range x.files {
		list = append(list, part{Name: "input", Parts: []part{{Name: "type", Code: f.typ}, {Name: "url", URI: f.name}}})
	}
	body, _ := json.Marshal(map[string]any{"resourceType": "Parameters", "parameter": list}) // of texts alone
	return body
}

// noted is what an import is known by: what it is of.
func (x *importer) noted(mode string) string {
	words := []string{x.base, mode}
	for _, f := range x.files {
		words = append(words, fmt.Sprintf("%s %d", f.path, f.size))
	}
	return strings.Join(words, "; ")
}

// begun returns where the state of the import is: one that was begun, or a new
// one.
func (x *importer) begun(ctx context.Context, mode string) (string, error) {
	was, err := os.ReadFile(x.state)
	asked, job, _ := strings.Cut(strings.TrimSpace(string(was)), "\n")
	switch {
	case err == nil && asked == x.noted(mode):
		return job, nil
	case err == nil:
		return "", fmt.Errorf("%s notes another import that is not done: %s", x.state, asked)
	case !errors.Is(err, os.ErrNotExist):
		return "", err
	}
	resp, err := x.send(ctx, http.MethodPost, x.base+"/$import", "application/fhir+json", bytes.NewReader(x.request(mode)), http.StatusAccepted)
	if err != nil {
		return "", fmt.Errorf("asking for the import: %w", err)
	}
	resp.Body.Close()
	job = resp.Header.Get("Content-Location")
	return job, os.WriteFile(x.state, []byte(x.noted(mode)+"\n"+job+"\n"), 0o600)
}

// send sends a body.
func (x *importer) send(ctx context.Context, method, at, contentType string, body io.Reader, status int) (*http.Response, error) {
	token, err := x.login.Token(ctx)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, at, body)
	if err != nil {
		return nil, err
	}
	req.Header = http.Header{"Authorization": {"Bearer " + token}, "Content-Type": {contentType}, "Prefer": {"respond-async"}, "Expect": {"100-continue"}}
	client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, ExpectContinueTimeout: time.Minute, DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil || resp.StatusCode == status {
		return resp, err
	}
	defer resp.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return nil, &refusedError{resp.StatusCode, issues(said)}
}

// upload gives the server the files that it has not got.
func (x *importer) upload(ctx context.Context, job string) error {
	var size int64
	for _, f := range x.files {
		size += f.size
	}
	bar := progressbar.NewOptions64(size, progressbar.OptionSetWriter(x.err), progressbar.OptionSetVisibility(isTerminal(x.err)),
		progressbar.OptionSetDescription("uploading"), progressbar.OptionShowBytes(true), progressbar.OptionClearOnFinish())
	defer bar.Finish()
	for n, f := range x.files {
		if err := x.file(ctx, fmt.Sprintf("%s/%d", job, n+1), f, bar); err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
	}
	return nil
}

// file uploads a file, and again when the server asks for patience or the line is
// cut.
func (x *importer) file(ctx context.Context, at string, f surveyed, bar *progressbar.ProgressBar) error {
	for try := 1; ; try++ {
		begun := bar.State().CurrentNum
		err := x.once(ctx, at, f, bar)
		var refused *refusedError
		said := errors.As(err, &refused)
		switch {
		case said && refused.status == http.StatusConflict: // it was whole before
			_ = bar.Set64(begun + f.size)
			return nil
		case err == nil, try == tries, ctx.Err() != nil, said && refused.status != http.StatusTooManyRequests && refused.status != http.StatusServiceUnavailable:
			return err
		}
		_ = bar.Set64(begun)
		select {
		case <-time.After(time.Duration(try) * time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (x *importer) once(ctx context.Context, at string, f surveyed, bar *progressbar.ProgressBar) error {
	in, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer in.Close()
	read := progressbar.NewReader(in, bar)
	resp, err := x.send(ctx, http.MethodPut, at, "application/fhir+ndjson", struct{ io.Reader }{&read}, http.StatusOK)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// An importManifest is what the server says of the inputs.
type importManifest struct {
	Output, Error []importItem
}

type importItem struct {
	Type, InputURL, URL string
	Count               int
}

// await asks about the import until it is done.
func (x *importer) await(ctx context.Context, job string) (*importManifest, error) {
	body, err := x.done(ctx, job, x.err)
	if err != nil {
		return nil, fmt.Errorf("asking about the import: %w", err)
	}
	m := &importManifest{}
	if err := json.Unmarshal(body, m); err != nil {
		return nil, fmt.Errorf("reading the manifest: %w", err)
	}
	return m, nil
}

// faults returns why lines were refused, the first of them.
func (x *importer) faults(ctx context.Context, m *importManifest) (list []string, err error) {
	for _, f := range m.Error {
		if len(list) >= maxFaults {
			break
		}
		resp, err := x.ask(ctx, http.MethodGet, f.URL, http.Header{"Accept": {"application/fhir+ndjson"}}, http.StatusOK)
		if err != nil {
			return nil, err
		}
		in := bufio.NewScanner(resp.Body)
		in.Buffer(nil, 1<<20)
		for len(list) < maxFaults && in.Scan() {
			list = append(list, issues(in.Bytes()))
		}
		resp.Body.Close()
		if err := in.Err(); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// print writes what became of each file, and returns how many lines were refused.
func (x *importer) print(w io.Writer, m *importManifest, faults []string) (refused int) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "FILE\tTYPE\tRESOURCES\tREFUSED")
	total := 0
	for _, f := range x.files {
		stored, faulty := m.of(f)
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\n", f.path, f.typ, stored, faulty)
		total, refused = total+stored, refused+faulty
	}
	fmt.Fprintf(t, "total of %d files\t\t%d\t%d\n", len(x.files), total, refused)
	t.Flush()
	if len(faults) > 0 {
		fmt.Fprintln(w, "\nRefused:")
	}
	for _, f := range faults {
		fmt.Fprintln(w, " ", f)
	}
	if refused > len(faults) {
		fmt.Fprintf(w, "  (the first %d are shown)\n", len(faults))
	}
	return refused
}

// of returns how many lines of a file were stored, and refused.
func (m *importManifest) of(f surveyed) (stored, refused int) {
	count := func(list []importItem) (n int) {
		for _, x := range list {
			if x.InputURL == f.name {
				n += x.Count
			}
		}
		return n
	}
	return count(m.Output), count(m.Error)
}

// whole checks that each line of each file was stored or refused.
func (x *importer) whole(m *importManifest) error {
	for _, f := range x.files {
		if stored, refused := m.of(f); stored+refused != f.lines {
			return fmt.Errorf("%s has %d lines, the server stored %d and refused %d", f.path, f.lines, stored, refused)
		}
	}
	return nil
}
