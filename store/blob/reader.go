// https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html

package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
)

// A Reader reads objects that others put into the buckets of an S3 server. It opens
// none of the places where this server keeps its own.
type Reader struct {
	core minio.Core
	own  []string // BUCKET/PREFIX/
}

var (
	// ErrOwn says that an object is where the server keeps its own.
	ErrOwn = errors.New("blob: it is where the server keeps its own")
	// ErrRefused says that the S3 server does not give an object away.
	ErrRefused = errors.New("blob: the server refuses it")
	// ErrChanged says that an object is not the version that was asked for.
	ErrChanged = errors.New("blob: it is another version")
)

// NewReader returns a Reader of the server that cfg names, whatever its URL. own are
// the places of this server's objects; those that are no URL of a bucket are passed over.
func NewReader(cfg S3Config, own ...string) (*Reader, error) {
	client, err := cfg.client()
	if err != nil {
		return nil, err
	}
	r := &Reader{core: minio.Core{Client: client}}
	for _, place := range own {
		if IsS3(place) {
			bucket, prefix := placeOf(place)
			r.own = append(r.own, bucket+"/"+prefix)
		}
	}
	return r, nil
}

// Own reports whether the URL is of an object where this server keeps its own.
func (r *Reader) Own(url string) bool {
	name := strings.TrimPrefix(url, "s3://")
	return slices.ContainsFunc(r.own, func(place string) bool { return strings.HasPrefix(name, place) })
}

// Open opens the object at the URL, s3://BUCKET/NAME. What is read is one version of
// it, the one with the etag unless that is "". The error is one of this package's if
// it would be the same the next time.
func (r *Reader) Open(ctx context.Context, url, etag string) (io.ReadCloser, error) {
	bucket, name, _ := strings.Cut(strings.TrimPrefix(url, "s3://"), "/")
	if r.Own(url) {
		return nil, ErrOwn
	}
	o := &object{ctx: ctx, core: r.core, bucket: bucket, name: name, etag: strings.Trim(etag, `"`), size: -1}
	if err := o.open(); err != nil {
		return nil, err
	}
	return o, nil
}

// An object is read from where it was cut off, as long as something of it comes.
type object struct {
	ctx                context.Context
	core               minio.Core
	bucket, name, etag string
	size, at           int64
	body               io.ReadCloser // nil if it was cut off
	cuts               int           // since something came
}

func (o *object) open() error {
	var opts minio.GetObjectOptions
	var err error
	if o.etag != "" {
		err = opts.SetMatchETag(o.etag)
	}
	if o.at > 0 {
		err = errors.Join(err, opts.SetRange(o.at, o.size-1))
	}
	if err != nil {
		return fmt.Errorf("reading an object: %w", err)
	}
	body, info, _, err := o.core.GetObject(o.ctx, o.bucket, o.name, opts)
	if err != nil {
		return unread(err)
	}
	if o.size < 0 {
		o.size, o.etag = info.Size, info.ETag
	}
	o.body = body
	return nil
}

// unread says of an error of the server what will not pass.
func unread(err error) error {
	var e minio.ErrorResponse
	switch {
	case answered(err, minio.NoSuchKey), answered(err, minio.NoSuchBucket):
		return ErrAbsent
	case answered(err, minio.PreconditionFailed):
		return ErrChanged
	case errors.As(err, &e) && (e.StatusCode == http.StatusForbidden || e.StatusCode == http.StatusUnauthorized):
		return ErrRefused
	}
	return fmt.Errorf("reading an object: %w", err)
}

// Read implements io.Reader.
func (o *object) Read(b []byte) (int, error) {
	for {
		if o.at == o.size {
			return 0, io.EOF
		}
		n, err := o.next(b)
		if o.at += int64(n); n > 0 {
			o.cuts = 0
			return n, nil
		}
		if o.cuts++; err != nil && o.cuts >= tries {
			return 0, err
		}
		select {
		case <-time.After(cutWait << o.cuts):
		case <-o.ctx.Done():
			return 0, o.ctx.Err()
		}
	}
}

// cutWait is how long to wait before an object is opened again, doubled each time.
const cutWait = 50 * time.Millisecond

// next reads what comes next. After an error the object is cut off.
func (o *object) next(b []byte) (n int, err error) {
	if o.body == nil {
		if err := o.open(); err != nil {
			return 0, err
		}
	}
	if n, err = o.body.Read(b[:min(int64(len(b)), o.size-o.at)]); err == nil {
		return n, nil
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // unless it is whole
	}
	o.Close()
	o.body = nil
	return n, fmt.Errorf("reading an object: %w", err)
}

// Close implements io.Closer.
func (o *object) Close() error {
	if o.body == nil {
		return nil
	}
	return o.body.Close()
}
