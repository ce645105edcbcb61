package rest

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/cordon-fhir/cordon/bulk"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/outbound"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/tenant"
)

// importState answers how far an import has come, and what became of it.
// https://github.com/smart-on-fhir/bulk-import/blob/master/import-pnp.md
func importState(ctx context.Context, s *server, req *request) (*response, error) {
	return s.bulkState(ctx, req, store.Import, 1, func() (string, error) {
		x, err := s.DB.Importing(ctx, req.grant.Tenant(), req.job)
		return x.Progress(), err
	})
}

// cancelImport ends an import. What was stored stays.
func cancelImport(ctx context.Context, s *server, req *request) (*response, error) {
	return s.cancelBulk(ctx, req, store.Import)
}

// importFile answers with a file of faults.
func importFile(ctx context.Context, s *server, req *request) (*response, error) {
	return s.bulkFile(ctx, req, store.Import)
}

// importJob is the work on an import.
func (c *call) importJob(w store.Work) bulkJob {
	return &bulk.ImportJob{
		Import: c.req.imports, DB: c.DB, Tenant: c.grant.Tenant(), Work: w, Grant: c.again, Told: c.exports.of(w.ID),
		Source: c.source, Objects: c.ImportObjects, Fetches: c.fetches, Processors: c.processors,
		Read: c.readLine, Store: c.storeLine, Outcome: lineOutcome,
	}
}

// source returns a client that goes to the source of a URL and nowhere else.
func (c *call) source(url string) (client *http.Client, at string) {
	source, _ := c.grant.Tenant().Settings.Import.Source(url) // as when the request was read
	return outbound.Client(outbound.Config{URL: source, Private: c.ImportNetworks, Timeout: sourceTimeout, Conns: 1}), url
}

const (
	// sourceTimeout bounds each step until a source answers.
	sourceTimeout = 20 * time.Second
	// fetchesAtOnce bounds the inputs that a server fetches at once: a slow source
	// must not keep it from other work.
	fetchesAtOnce = 2
)

// readLine makes a resource of a line, and holds it against what is asked of one
// that is created.
func (c *call) readLine(ctx context.Context, t fhir.Type, line []byte) (*fhir.Document, error) {
	d, err := fhir.Parse(line, fhir.Limits{Bytes: bulk.MaxLine})
	if err != nil {
		return nil, err
	}
	if d.Type != t {
		return nil, fhir.Errorf(fhir.Invalid, "the resource is not of the type of the input")
	}
	if d.ID != "" && !fhir.ValidID(d.ID) {
		return nil, fhir.Errorf(fhir.Value, "malformed id").At(string(t) + ".id")
	}
	return d, c.req.valid(ctx, d, string(t))
}

// storeLine stores the resource as an update would, or as a create if it has no
// id.
func (c *call) storeLine(ctx context.Context, tx *store.Tx, g *smart.Grant, d *fhir.Document) error {
	req := &request{
		does: fhir.Create, ref: fhir.Ref{Type: d.Type, ID: d.ID}, document: d, grant: g,
		prefer: preference{returns: "minimal"}, base: c.req.base, entry: true,
	}
	if d.ID == "" {
		_, err := create(ctx, tx, req)
		return err
	}
	if c.req.imports.Initial {
		_, err := tx.Add(ctx, req.ref, d)
		return err
	}
	req.does = fhir.Update
	if c.req.imports.CreateOnly {
		_, err := tx.Current(ctx, fhir.Update, req.ref)
		switch {
		case err == nil:
			return fhir.Errorf(fhir.Conflict, "there is such a resource")
		case !fhir.IsCode(err, fhir.NotFound) && !fhir.IsCode(err, fhir.Deleted):
			return err
		}
	}
	_, err := update(ctx, tx, req)
	return err
}

// lineOutcome says on one line why a line was refused: where, and never what is
// on it.
func lineOutcome(where string, err error) []byte {
	e := clientError(err)
	issues := slices.Clone(e.Issues)
	for i := range issues {
		if issues[i].Code == fhir.NotFound {
			issues[i].Diagnostics = notFound
		}
		issues[i].Diagnostics = where + ": " + issues[i].Diagnostics
	}
	return outcome(issues)
}

const (
	// uploadTime bounds an upload, and uploadRate the bytes a second that it has
	// once it is older than uploadIdle, for which one may also be silent.
	uploadTime = 6 * time.Hour
	uploadRate = 8 << 10
	uploadIdle = 30 * time.Second
	// uploadsAtOnce bounds the uploads of a tenant that come at once.
	uploadsAtOnce = 4
)

// uploads are how many come at once.
type uploads struct {
	mu sync.Mutex
	of map[tenant.ID]int
}

func (u *uploads) begin(t tenant.ID) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.of == nil {
		u.of = map[tenant.ID]int{}
	}
	if u.of[t] >= uploadsAtOnce {
		return fhir.Errorf(fhir.Throttled, "%d uploads of this tenant are under way already", uploadsAtOnce)
	}
	u.of[t]++
	return nil
}

func (u *uploads) end(t tenant.ID) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.of[t]--; u.of[t] == 0 {
		delete(u.of, t)
	}
}

// streamed checks what is said of a body that is read while it comes. Whether it is
// in gzip is seen when it does.
func (c *call) streamed() error {
	h := c.http.Header
	for _, coding := range h.Values("Content-Encoding") {
		if coding != "gzip" && coding != "identity" {
			return fhir.Errorf(fhir.NotSupported, "the only Content-Encoding of requests is gzip").WithStatus(http.StatusUnsupportedMediaType)
		}
	}
	switch h.Get("Content-Type") {
	case "", ndjson, "application/ndjson", "application/x-ndjson", "application/gzip", "application/octet-stream":
		return nil
	}
	return fhir.Errorf(fhir.NotSupported, "the body must be %s", ndjson).WithStatus(http.StatusUnsupportedMediaType)
}

// notInBundle is what an entry of a Bundle gets that would be an upload.
func notInBundle(context.Context, *server, *request) (*response, error) {
	return nil, fhir.Errorf(fhir.NotSupported, "what is imported is not uploaded in a Bundle")
}

// upload takes an input of an import.
func upload(ctx context.Context, c *call) (*response, error) {
	n, err := strconv.Atoi(c.req.file)
	if err != nil || n < 1 || n > maxInputs || strconv.Itoa(n) != c.req.file {
		return nil, fhir.Errorf(fhir.NotFound, "malformed number of an input")
	}
	t := c.grant.Tenant()
	if err := c.uploads.begin(t.ID); err != nil {
		return nil, err
	}
	defer c.uploads.end(t.ID)
	to, err := c.DB.BeginUpload(ctx, c.grant, c.req.job, n)
	if err != nil {
		return nil, err
	}
	// A request may take a minute; an input takes what it takes.
	ctx, cancel := context.WithTimeout(c.http.Context(), uploadTime)
	defer cancel()
	lines, err := bulk.Split(ctx, &pacedBody{call: c}, to)
	if err != nil {
		return nil, err
	}
	begins, err := to.End(ctx)
	if err != nil {
		return nil, err
	}
	if begins {
		c.later.wake(c.server, t)
	}
	return &response{status: http.StatusOK, body: information(strconv.FormatInt(lines, 10) + " lines")}, nil
}

// A pacedBody is the body of a request that may take long, as long as it comes.
type pacedBody struct {
	*call
	n int64
}

// Read implements io.Reader.
func (b *pacedBody) Read(p []byte) (int, error) {
	age := b.Now().Sub(b.begun)
	if age > uploadIdle && float64(b.n) < uploadRate*(age-uploadIdle).Seconds() {
		return 0, fhir.Errorf(fhir.Transient, "the upload is slower than %d bytes a second", uploadRate)
	}
	w := http.NewResponseController(b.writer)
	// Where a server has no deadlines of its own there are none to move.
	for _, err := range []error{w.SetReadDeadline(time.Now().Add(uploadIdle)), w.SetWriteDeadline(time.Now().Add(2 * uploadIdle))} {
		if err != nil && !errors.Is(err, http.ErrNotSupported) {
			return 0, err
		}
	}
	n, err := b.http.Body.Read(p)
	b.n += int64(n)
	return n, err
}
