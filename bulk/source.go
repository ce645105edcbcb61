package bulk

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/store"
	"github.com/cordon-fhir/cordon/store/blob"
)

const (
	// sourceIdle is for how long a source may be silent, and sourceRate the bytes a
	// second that it sends once that is over.
	sourceIdle = 20 * time.Second
	sourceRate = 64 << 10
	// sourceTime bounds the fetching of one input.
	sourceTime = 8 * time.Minute
)

// fetch fetches an input from its source. It is whole then, or an error says what
// the source did.
func (j *ImportJob) fetch(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeout(ctx, sourceTime)
	defer cancel()
	g, err := j.Grant(ctx)
	if err != nil {
		return err
	}
	to, err := j.DB.BeginFetch(ctx, g, j.Work, n)
	if err != nil {
		return err
	}
	from, err := j.open(ctx, n)
	if err != nil {
		return err
	}
	defer from.Close()
	body := &paced{Reader: from, begun: time.Now(), idle: time.AfterFunc(sourceIdle, cancel)}
	defer body.idle.Stop()
	if _, err := Split(ctx, body, to); err != nil {
		if fhir.IsCode(err, fhir.Structure) && body.cut {
			return unreachable(n)
		}
		return err
	}
	_, err = to.End(ctx)
	return err
}

// open opens input n at its source.
func (j *ImportJob) open(ctx context.Context, n int) (io.ReadCloser, error) {
	in := j.Inputs[n-1]
	if blob.IsS3(in.URL) {
		return j.object(ctx, n, in)
	}
	client, at := j.Source(in.URL)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, fhir.Errorf(fhir.BusinessRule, "input %d cannot be fetched", n)
	}
	req.Header.Set("Accept", "application/fhir+ndjson, application/octet-stream, */*")
	req.Header.Set("Accept-Encoding", "identity") // or the client would unpack what nobody counts
	resp, err := client.Do(req)
	if err != nil {
		return nil, unreachable(n)
	}
	switch {
	case resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500:
		err = unreachable(n)
	case resp.StatusCode != http.StatusOK: // a redirect too
		err = fhir.Errorf(fhir.BusinessRule, "the source of input %d answered %d", n, resp.StatusCode)
	case in.ETag != "" && resp.Header.Get("ETag") != in.ETag:
		err = otherVersion(n)
	}
	if err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp.Body, nil
}

// object opens an input that is in an object store.
func (j *ImportJob) object(ctx context.Context, n int, in Input) (io.ReadCloser, error) {
	if j.Objects == nil {
		return nil, fhir.Errorf(fhir.BusinessRule, "input %d is in an object store, of which this server reads none", n)
	}
	body, err := j.Objects.Open(ctx, in.URL, in.ETag)
	switch {
	case err == nil:
		return body, nil
	case errors.Is(err, blob.ErrChanged):
		return nil, otherVersion(n)
	case errors.Is(err, blob.ErrAbsent), errors.Is(err, blob.ErrRefused), errors.Is(err, blob.ErrOwn):
		return nil, fhir.Errorf(fhir.BusinessRule, "the source of input %d does not have it", n)
	}
	return nil, unreachable(n)
}

func otherVersion(n int) error {
	return fhir.Errorf(fhir.BusinessRule, "the source of input %d has another version of it", n)
}

// unreachable says that the source may be better later.
func unreachable(n int) error {
	return fhir.Errorf(fhir.Transient, "the source of input %d does not answer, or ends too early or is too slow", n)
}

// A paced is what a source sends. It is cut off when it is slow.
type paced struct {
	io.Reader
	begun time.Time
	idle  *time.Timer
	n     int64
	cut   bool // it did not come to its end
}

// Read implements io.Reader.
func (p *paced) Read(b []byte) (int, error) {
	if age := time.Since(p.begun) - sourceIdle; float64(p.n) < sourceRate*age.Seconds() {
		p.cut = true
		return 0, errors.New("bulk: a source is too slow")
	}
	n, err := p.Reader.Read(b)
	p.idle.Reset(sourceIdle)
	p.n += int64(n)
	p.cut = err != nil && !errors.Is(err, io.EOF)
	return n, err
}

// fetched returns the input once it is here. false says that others are being
// fetched, and it is for another time.
func (j *ImportJob) fetched(ctx context.Context, in store.ImportInput) (bool, error) {
	if in.Whole {
		return true, nil
	}
	select {
	case j.Fetches <- struct{}{}:
	case <-time.After(fetchWait):
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
	defer func() { <-j.Fetches }()
	return true, j.fetch(ctx, in.N)
}

// fetchWait is how long an input waits for others that are fetched.
const fetchWait = 2 * time.Second
