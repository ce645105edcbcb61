package rest

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/uuid"
	"github.com/klauspost/compress/gzip"

	"github.com/cordon-fhir/cordon/bulk"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/oplog"
	"github.com/cordon-fhir/cordon/store"
)

const (
	// exportTime bounds the time until an export is done.
	exportTime = 24 * time.Hour
	// exportTurn is for about how long an export is worked on before others have
	// their turn.
	exportTurn = 4 * time.Second
	// exportTurns bounds how often an export is begun without a file coming of
	// it. Each time it waits for the lease to run out.
	exportTurns = 20
	// pollEvery is how often the state of an export is told.
	pollEvery = 500 * time.Millisecond
)

// exports are what this process remembers of exports and imports.
type exports struct {
	turn time.Duration // exportTurn; tests take another

	mu     sync.Mutex
	told   map[string]*bulk.Told
	polled map[string]time.Time
}

// maxRemembered bounds the exports that are remembered.
const maxRemembered = 1000

// of returns the patients whom the audit trail has of the export.
func (x *exports) of(job string) *bulk.Told {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.told == nil || len(x.told) > maxRemembered {
		x.told = map[string]*bulk.Told{}
	}
	if x.told[job] == nil {
		x.told[job] = &bulk.Told{}
	}
	return x.told[job]
}

func (x *exports) forget(job string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.told, job)
	delete(x.polled, job)
}

// eager reports whether the state of the export was told a moment ago.
func (x *exports) eager(job string, now time.Time) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.polled == nil || len(x.polled) > maxRemembered {
		x.polled = map[string]time.Time{}
	}
	last, again := x.polled[job]
	if again && now.Sub(last) < pollEvery {
		return true
	}
	x.polled[job] = now
	return false
}

// An exported is what became of an export or import, or is there of an export that is
// under way.
type exported struct {
	Status int            `json:"status"`
	Body   jsontext.Value `json:"body,omitempty"` // the manifest of an import, or an OperationOutcome
	// FHIR says that Body is a resource, of a status that does not say so.
	FHIR bool `json:"fhir,omitempty"`
	// Manifests are those of an export. Each but the last leads to the next.
	Manifests []bulk.Manifest `json:"manifests,omitempty"`
}

// A bulkJob is a bulk export or import that is worked on.
type bulkJob interface {
	// Run works for about the time, and reports whether all is done.
	Run(ctx context.Context, about time.Duration) (done bool, err error)
}

// bulk works on an export or import for a while.
func (c *call) bulk(ctx context.Context, w store.Work) error {
	d, err := c.DB.Deferred(ctx, c.grant.Entry(), w.ID, w.Kind)
	if fhir.IsCode(err, fhir.NotFound) {
		return c.DB.Drop(ctx, w) // who asked is somebody else now: their rights have changed
	}
	if err != nil && !isClientError(err) {
		return err // when its lease has run out it is taken up again
	}
	done, j, err := c.turn(ctx, w)
	if ctx.Err() != nil { // cancelled, or the server stops
		if errors.Is(context.Cause(ctx), errStopping) {
			return c.DB.PutBack(context.WithoutCancel(ctx), w)
		}
		return nil
	}
	switch {
	case fhir.IsCode(err, fhir.Login):
		return c.DB.Drop(ctx, w) // nobody is left who may ask for it
	case err == nil && !done:
		return errors.Join(c.inPart(ctx, w, d, j), c.DB.PutBack(ctx, w))
	case err == nil:
		x, err := c.became(ctx, w, d, j, true)
		if err != nil {
			return err
		}
		return c.exported(ctx, w, x)
	}
	lasting := isClientError(err) && !fhir.IsCode(err, fhir.Transient) && !fhir.IsCode(err, fhir.Throttled)
	if !lasting && w.Turn <= exportTurns {
		return err // when its lease has run out it is taken up again
	}
	resp := failure(clientError(err))
	return errors.Join(err, c.exported(ctx, w, exported{Status: resp.status, Body: resp.body}))
}

// became is what there is of an export or import, of which d is kept already.
func (c *call) became(ctx context.Context, w store.Work, d store.Deferred, j bulkJob, done bool) (x exported, err error) {
	if len(d.Answer) > 0 {
		if err := json.Unmarshal(d.Answer, &x); err != nil {
			return x, err
		}
	}
	x.Status = http.StatusOK
	request, at := c.req.base+strings.TrimPrefix(c.http.URL.RequestURI(), "/fhir/"+c.place.tenant), c.req.base+pathOf[w.Kind]+w.ID
	switch j := j.(type) {
	case *bulk.Job:
		if len(j.Views) > 0 {
			x.Body, err = c.tables(ctx, j, w.ID, at)
			x.FHIR = true
			break
		}
		x.Manifests, err = j.Manifests(ctx, x.Manifests, request, at, done)
	case *bulk.ImportJob:
		x.Body, err = j.Manifest(ctx, request, at)
	}
	return x, err
}

// inPart keeps the manifests of files that are there before all is done, for who
// allows that.
// https://hl7.org/fhir/uv/bulkdata/STU3/en/export.html#response---in-progress-status
func (c *call) inPart(ctx context.Context, w store.Work, d store.Deferred, j bulkJob) error {
	if c.req.export == nil || !c.req.export.Partial {
		return nil
	}
	x, err := c.became(ctx, w, d, j, false)
	if err != nil || len(x.Manifests) == 0 {
		return err
	}
	answer, err := json.Marshal(x)
	if err != nil {
		return err
	}
	return c.DB.AnswerInPart(ctx, c.grant.Entry(), w, answer)
}

// pathOf is below which path the state of bulk work is.
var pathOf = map[store.Kind]string{store.Export: "/_export/", store.Import: "/_import/"}

// turn makes the request again, as its client may have it now, and works on it.
func (c *call) turn(ctx context.Context, w store.Work) (done bool, j bulkJob, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = recovered(p)
		}
	}()
	path, _ := plainPath(c.http.URL.EscapedPath())
	if c.place, _, err = c.routes.find(c.http.Method, path); err != nil {
		return false, nil, err
	}
	if err := c.ask(ctx); err != nil {
		return false, nil, err
	}
	if err := c.place.route.parse(c.req); err != nil {
		return false, nil, err
	}
	if w.Kind == store.Import {
		j = c.importJob(w)
	} else if j, err = c.exportJob(ctx, w); err != nil {
		return false, nil, err
	}
	done, err = j.Run(ctx, c.exports.turn)
	return done, j, err
}

// exportJob is the work on an export, of the group as it was.
func (c *call) exportJob(ctx context.Context, w store.Work) (bulkJob, error) {
	if _, err := c.ofGroup(ctx, c.group); err != nil {
		return nil, err
	}
	if rules := c.req.export.Rules; rules != nil {
		var err error
		if rules.Key, err = c.DB.PseudonymKey(ctx, c.grant); err != nil {
			return nil, err
		}
	}
	return &bulk.Job{Export: c.req.export, DB: c.DB, Tenant: c.grant.Tenant(), Work: w, Grant: c.again, Told: c.exports.of(w.ID)}, nil
}

// exported keeps what became of an export or import.
func (c *call) exported(ctx context.Context, w store.Work, x exported) error {
	answer, err := json.Marshal(x)
	if err != nil {
		return err
	}
	_, err = c.DB.Answer(ctx, c.grant.Entry(), w, answer)
	c.exports.forget(w.ID)
	return err
}

// exportState answers how far an export has come, and where its files are.
// https://hl7.org/fhir/uv/bulkdata/STU2/export.html#bulk-data-status-request
func exportState(ctx context.Context, s *server, req *request) (*response, error) {
	q, err := url.ParseQuery(req.query)
	if err != nil {
		return nil, fhir.Errorf(fhir.Invalid, "malformed query")
	}
	page := 1
	if q.Has(manifestPage) {
		if page, err = strconv.Atoi(q.Get(manifestPage)); err != nil {
			return nil, fhir.Errorf(fhir.Invalid, "parameter %s is the number of a manifest", manifestPage)
		}
	}
	separate := q.Get("_status") == "separate"
	resp, err := s.bulkState(ctx, req, store.Export, page, func() (string, error) {
		x, err := s.DB.Exporting(ctx, req.grant.Tenant(), req.job)
		return x.Progress(), err
	})
	if err == nil && separate {
		resp.status, resp.exportStatus = http.StatusOK, resp.status
	}
	return resp, err
}

// separateStatus is the query of the place where the state of an export is told to who
// would have it apart from the status of the answer, and manifestPage the parameter
// that says which manifest is asked for.
// https://hl7.org/fhir/uv/bulkdata/STU3/en/export.html#headers
const (
	separateStatus = "_status=separate"
	manifestPage   = "_manifest"
)

// bulkState answers what became of an export or import, or how far it has come.
func (s *server) bulkState(ctx context.Context, req *request, kind store.Kind, page int, progress func() (string, error)) (*response, error) {
	d, err := s.DB.Deferred(ctx, req.grant, req.job, kind)
	switch {
	case err != nil:
		return nil, err
	case d.Done:
		return s.tellExported(ctx, req, d, page)
	case s.Now().After(d.Until):
		return failure(fhir.Errorf(fhir.Transient, "it was not done in time; ask again")), nil
	case s.exports.eager(fmt.Sprint(req.job, page), s.Now()):
		return nil, fhir.Errorf(fhir.Throttled, "the state of bulk work does not change so fast; ask after the time in Retry-After")
	}
	how, err := progress()
	if err != nil {
		return nil, err
	}
	resp := &response{}
	if len(d.Answer) > 0 {
		if resp, err = s.tellExported(ctx, req, d, page); err != nil {
			return nil, err
		}
	}
	resp.status, resp.progress = http.StatusAccepted, how
	return resp, nil
}

// tellExported answers with what is kept, of an export with one of its manifests.
func (s *server) tellExported(ctx context.Context, req *request, d store.Deferred, page int) (*response, error) {
	var x exported
	if err := json.Unmarshal(d.Answer, &x); err != nil {
		return nil, err
	}
	resp := &response{status: x.Status, body: x.Body, expires: d.Expires}
	if x.Status != http.StatusOK {
		return resp, nil
	}
	if !x.FHIR {
		resp.contentType = "application/json"
	}
	if x.Manifests == nil {
		return resp, nil
	}
	if page < 1 || page > len(x.Manifests) {
		return nil, fhir.Errorf(fhir.NotFound, "there is no such manifest")
	}
	m := x.Manifests[page-1]
	if page < len(x.Manifests) {
		m.Link = []bulk.Link{{Relation: "next", URL: nextManifest(req, page+1)}}
	}
	var err error
	if req.grant.Tenant().Settings.Export.Links {
		if resp.expires, err = s.link(ctx, req, &m); err != nil {
			return nil, err
		}
	}
	resp.body, err = json.Marshal(m)
	return resp, err
}

// nextManifest is where another manifest of the same export is told.
func nextManifest(req *request, page int) string {
	q := url.Values{manifestPage: {strconv.Itoa(page)}}
	if strings.Contains(req.query, separateStatus) {
		q.Set("_status", "separate")
	}
	return req.base + pathOf[store.Export] + req.job + "?" + q.Encode()
}

// cancelExport forgets an export and removes its files.
// https://hl7.org/fhir/uv/bulkdata/STU2/export.html#bulk-data-delete-request
func cancelExport(ctx context.Context, s *server, req *request) (*response, error) {
	return s.cancelBulk(ctx, req, store.Export)
}

func (s *server) cancelBulk(ctx context.Context, req *request, kind store.Kind) (*response, error) {
	if err := s.DB.Cancel(ctx, req.grant, req.job, kind); err != nil {
		return nil, err
	}
	s.later.stop(req.job, errCancelled)
	s.exports.forget(req.job)
	if err := s.DB.Sweep(ctx, req.grant.Tenant()); err != nil { // who looks after the tenant does it later
		s.Log.Warn("removing the files of bulk work", oplog.Tenant(req.grant.Tenant().Slug.String()), oplog.Cause(err))
	}
	return &response{status: http.StatusAccepted}, nil
}

// ndjson is what the files of an export of resources are.
const ndjson = "application/fhir+ndjson"

// exportFile answers with a file of an export.
// https://hl7.org/fhir/uv/bulkdata/STU2/export.html#bulk-data-output-file-request
func exportFile(ctx context.Context, s *server, req *request) (*response, error) {
	return s.bulkFile(ctx, req, store.Export)
}

func (s *server) bulkFile(ctx context.Context, req *request, kind store.Kind) (*response, error) {
	name := strings.Split(req.file, ".")
	if len(name) != 3 || !fhir.Type(name[0]).Known() {
		return nil, fhir.Errorf(fhir.NotFound, "malformed name")
	}
	id, err := uuid.Parse(name[1])
	if err != nil {
		return nil, fhir.Errorf(fhir.NotFound, "malformed name")
	}
	t := fhir.Type(name[0])
	if t == "Parameters" { // a file of blocks, one for each patient
		t = "Patient"
	}
	if t != "OperationOutcome" {
		if _, err := req.grant.Permit(fhir.SearchType, t); err != nil {
			return nil, err
		}
	}
	f, r, err := s.DB.OpenExportFile(ctx, req.grant, kind, req.job, id.String())
	if err != nil {
		return nil, err
	}
	if bulk.FileName(f) != req.file {
		return nil, fhir.Errorf(fhir.NotFound, "malformed name")
	}
	return &response{status: http.StatusOK, file: &servedFile{ExportFile: f, gzip: r}}, nil
}

// A servedFile is a file that is sent, whole or in part.
type servedFile struct {
	store.ExportFile
	gzip io.ReadSeeker
}

// sendFile sends the file, in gzip to who takes that. Each form of it has parts
// and a tag of its own.
// https://www.rfc-editor.org/rfc/rfc9110#name-range-requests
func (c *call) sendFile(f *servedFile) {
	h := c.writer.Header()
	h.Set("Content-Type", bulk.MediaType(f.ExportFile))
	tag, size := hex.EncodeToString(f.Hash), f.Plain
	content := &checked{ReadSeeker: &plainReader{gzip: f.gzip, size: f.Plain}}
	if acceptsGzip(c.http.Header.Values("Accept-Encoding")) {
		content.ReadSeeker = f.gzip
		h.Set("Content-Encoding", "gzip")
		tag, size = tag+"-gzip", f.Size
	}
	h.Set("ETag", `"`+tag+`"`)
	if c.http.Header.Get("Range") == "" {
		h.Set("Content-Length", strconv.FormatInt(size, 10))
	}
	http.ServeContent(c.writer, c.http, "", f.Made, content)
	if content.err != nil {
		c.Log.Error("sending a file", oplog.Request(c.origin.RequestID), oplog.Cause(content.err))
		panic(http.ErrAbortHandler) // or what was sent would look whole
	}
}

// A checked remembers why reading failed.
type checked struct {
	io.ReadSeeker
	err error
}

func (r *checked) Read(b []byte) (int, error) {
	n, err := r.ReadSeeker.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

// A plainReader reads what is in gzip. To go back it begins again.
type plainReader struct {
	gzip   io.ReadSeeker
	size   int64
	at     int64 // where the next Read is from
	open   *gzip.Reader
	opened int64 // where open is
}

// Read implements io.Reader.
func (r *plainReader) Read(b []byte) (int, error) {
	if r.at >= r.size {
		return 0, io.EOF
	}
	if r.open == nil || r.opened > r.at {
		if _, err := r.gzip.Seek(0, io.SeekStart); err != nil {
			return 0, err
		}
		z, err := gzip.NewReader(r.gzip)
		if err != nil {
			return 0, err
		}
		r.open, r.opened = z, 0
	}
	skipped, err := io.CopyN(io.Discard, r.open, r.at-r.opened)
	r.opened += skipped
	if err != nil {
		return 0, err
	}
	n, err := r.open.Read(b)
	r.opened, r.at = r.opened+int64(n), r.at+int64(n)
	return n, err
}

// Seek implements io.Seeker.
func (r *plainReader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.at
	case io.SeekEnd:
		offset += r.size
	}
	if offset < 0 {
		return 0, errors.New("rest: a place before the beginning of a file")
	}
	r.at = offset
	return offset, nil
}
