// https://docs.aws.amazon.com/AmazonS3/latest/API/

package blob

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// S3Config says where a bucket is, and who asks.
type S3Config struct {
	// URL is s3://BUCKET or s3://BUCKET/PREFIX. Names begin with the prefix.
	URL string
	// Endpoint is the origin of the server, https://HOST[:PORT]; "" is that of AWS.
	Endpoint string
	// Region is the one that requests are signed for; "" asks the server.
	Region string
	// AccessKey and SecretKey are who asks. Without them it is who the environment
	// says: AWS_ACCESS_KEY_ID, the file of credentials, or the role of the machine.
	AccessKey, SecretKey string
}

// IsS3 reports whether place is a URL of a bucket, and no directory.
func IsS3(place string) bool { return strings.HasPrefix(place, "s3://") }

// placeOf returns the bucket of a URL, and what the names of objects there begin with.
func placeOf(url string) (bucket, prefix string) {
	bucket, prefix, _ = strings.Cut(strings.TrimPrefix(url, "s3://"), "/")
	if prefix = strings.Trim(prefix, "/"); prefix != "" {
		prefix += "/"
	}
	return bucket, prefix
}

// S3 is a Store in a bucket.
type S3 struct {
	core           minio.Core
	bucket, prefix string
	// Keeps says that the bucket keeps what is removed from it, as one with versions
	// does.
	Keeps bool
}

// The bounds of one request to the server. What fails for a moment is asked
// again; what fails for longer is for the caller to bear.
const (
	requestTime = time.Minute
	tries       = 4
)

// OpenS3 returns the Store in the bucket, which has to be there.
func OpenS3(ctx context.Context, cfg S3Config) (*S3, error) {
	s, err := newS3(cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	there, err := s.core.BucketExists(ctx, s.bucket)
	if err == nil && !there {
		err = errors.New("there is no such bucket")
	}
	if err == nil {
		s.Keeps, err = s.keeps(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", cfg.URL, err)
	}
	return s, nil
}

func (s *S3) keeps(ctx context.Context) (bool, error) {
	v, err := s.core.GetBucketVersioning(ctx, s.bucket)
	if answered(err, minio.NotImplemented) {
		return false, nil
	}
	return v.Enabled(), err
}

func newS3(cfg S3Config) (*S3, error) {
	bucket, prefix := placeOf(cfg.URL)
	if !IsS3(cfg.URL) {
		return nil, errors.New("blob: a bucket is s3://BUCKET/PREFIX")
	}
	client, err := cfg.client()
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", cfg.URL, err)
	}
	return &S3{core: minio.Core{Client: client}, bucket: bucket, prefix: prefix}, nil
}

// client is one of the server.
func (cfg S3Config) client() (*minio.Client, error) {
	at, err := url.Parse(cmp.Or(cfg.Endpoint, "https://s3.amazonaws.com"))
	if err != nil || at.Host == "" || at.Scheme != "https" && at.Scheme != "http" || strings.Trim(at.Path, "/") != "" {
		return nil, errors.New("blob: an S3 server is https://HOST:PORT")
	}
	transport, err := minio.DefaultTransport(at.Scheme == "https")
	if err != nil {
		return nil, err
	}
	transport.ResponseHeaderTimeout = requestTime / tries
	return minio.New(at.Host, &minio.Options{
		Creds: cfg.credentials(), Secure: at.Scheme == "https", Region: cfg.Region, Transport: transport, MaxRetries: tries,
	})
}

func (cfg S3Config) credentials() *credentials.Credentials {
	if cfg.AccessKey != "" {
		return credentials.NewStaticV4(cfg.AccessKey, cfg.SecretKey, "")
	}
	return credentials.NewChainCredentials([]credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{}})
}

// Put implements Store.
func (s *S3) Put(ctx context.Context, name string, content []byte) error {
	return s.put(ctx, name, content, minio.PutObjectOptions{})
}

// PutNew is Put if nothing has the name, which the server decides; to put the same
// again is no error. Else the error is ErrExists.
func (s *S3) PutNew(ctx context.Context, name string, content []byte) (err error) {
	var new minio.PutObjectOptions
	new.SetMatchETagExcept("*")
	for try := range tries {
		if err = s.put(ctx, name, content, new); !taken(err) {
			return err
		}
		var had []byte
		if had, err = s.Get(ctx, name); err == nil && !bytes.Equal(had, content) {
			return ErrExists
		}
		if !errors.Is(err, ErrAbsent) {
			return err
		}
		select { // who is about to write it has time to
		case <-time.After(time.Duration(try+1) * 50 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("writing an object: %w", ctx.Err())
		}
	}
	return fmt.Errorf("writing an object that is there and is not: %w", err)
}

// put sends the content with its hash, which the server compares, in one piece,
// so that there is never a part of it. Then it asks whether it is there, since a
// server that says so may be wrong.
func (s *S3) put(ctx context.Context, name string, content []byte, opts minio.PutObjectOptions) error {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	opts.DisableMultipart = true
	opts.ContentType = "application/octet-stream"
	opts.SendContentMd5 = true // which a bucket with locks asks for
	put, err := s.core.Client.PutObject(ctx, s.bucket, s.prefix+name, bytes.NewReader(content), int64(len(content)), opts)
	if err != nil {
		return fmt.Errorf("writing an object: %w", err)
	}
	got, err := s.core.StatObject(ctx, s.bucket, s.prefix+name, minio.StatObjectOptions{})
	if err == nil && (got.Size != int64(len(content)) || got.ETag != put.ETag) {
		err = errors.New("the server has another")
	}
	if err != nil {
		return fmt.Errorf("looking at an object that was written: %w", err)
	}
	return nil
}

// Open implements Store.
func (s *S3) Open(ctx context.Context, name string, offset, n int64) (io.ReadCloser, error) {
	var opts minio.GetObjectOptions
	if err := opts.SetRange(offset, offset+n-1); err != nil {
		return nil, fmt.Errorf("reading an object: %w", err)
	}
	return s.get(ctx, name, opts)
}

// Get returns an object whole; ErrAbsent if there is none.
func (s *S3) Get(ctx context.Context, name string) ([]byte, error) {
	return s.getVersion(ctx, name, "")
}

// getVersion returns a version of an object whole; "" is the newest.
func (s *S3) getVersion(ctx context.Context, name, version string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	r, err := s.get(ctx, name, minio.GetObjectOptions{VersionID: version})
	if err != nil {
		return nil, err
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("reading an object: %w", err)
	}
	return content, nil
}

func (s *S3) get(ctx context.Context, name string, opts minio.GetObjectOptions) (io.ReadCloser, error) {
	r, _, _, err := s.core.GetObject(ctx, s.bucket, s.prefix+name, opts)
	if answered(err, minio.NoSuchKey) {
		return nil, ErrAbsent
	}
	if err != nil {
		return nil, fmt.Errorf("reading an object: %w", err)
	}
	return r, nil
}

// List returns the names that begin with the prefix and come after the name, in
// order.
func (s *S3) List(ctx context.Context, prefix, after string) ([]string, error) {
	opts := minio.ListObjectsOptions{Prefix: s.prefix + prefix, Recursive: true}
	if after != "" {
		opts.StartAfter = s.prefix + after
	}
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	return s.list(ctx, opts)
}

// Folders returns what is between the prefix, which ends with a slash, and the
// next slash of names, in order.
func (s *S3) Folders(ctx context.Context, prefix string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	names, err := s.list(ctx, minio.ListObjectsOptions{Prefix: s.prefix + prefix})
	var folders []string
	for _, name := range names {
		if folder, ok := strings.CutSuffix(strings.TrimPrefix(name, prefix), "/"); ok {
			folders = append(folders, folder)
		}
	}
	return folders, err
}

// Originals returns the names that begin with the prefix, in order, also those
// that were removed, as far as the bucket keeps versions. There may be many: it
// takes as long as ctx lasts.
func (s *S3) Originals(ctx context.Context, prefix string) ([]string, error) {
	names, err := s.list(ctx, minio.ListObjectsOptions{Prefix: s.prefix + prefix, Recursive: true, WithVersions: s.Keeps})
	return slices.Compact(names), err
}

// GetOriginal is Get of what was put under the name first, whatever was put there
// since, as far as the bucket keeps versions.
func (s *S3) GetOriginal(ctx context.Context, name string) ([]byte, error) {
	if !s.Keeps {
		return s.Get(ctx, name)
	}
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	var first minio.ObjectInfo
	for o := range s.core.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: s.prefix + name, Recursive: true, WithVersions: true}) {
		if o.Err != nil {
			return nil, fmt.Errorf("listing objects: %w", o.Err)
		}
		if o.Key == s.prefix+name && !o.IsDeleteMarker { // the newest comes first
			first = o
		}
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("listing objects: %w", ctx.Err())
	}
	if first.Key == "" {
		return nil, ErrAbsent
	}
	return s.getVersion(ctx, name, first.VersionID)
}

func (s *S3) list(ctx context.Context, opts minio.ListObjectsOptions) ([]string, error) {
	var names []string
	for o := range s.core.ListObjectsIter(ctx, s.bucket, opts) {
		if o.Err != nil {
			return nil, fmt.Errorf("listing objects: %w", o.Err)
		}
		names = append(names, strings.TrimPrefix(o.Key, s.prefix))
	}
	if ctx.Err() != nil { // what there is of the list is not all
		return nil, fmt.Errorf("listing objects: %w", ctx.Err())
	}
	return names, nil
}

// Remove implements Store.
func (s *S3) Remove(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	err := s.core.RemoveObject(ctx, s.bucket, s.prefix+name, minio.RemoveObjectOptions{})
	if err != nil && !answered(err, minio.NoSuchKey) {
		return fmt.Errorf("removing an object: %w", err)
	}
	return nil
}

// answered reports whether err is an answer of the server with the code.
func answered(err error, code string) bool {
	var e minio.ErrorResponse
	return errors.As(err, &e) && e.Code == code
}

// taken reports whether err says that an object is there, or about to be.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
func taken(err error) bool {
	var e minio.ErrorResponse
	return errors.As(err, &e) && (e.StatusCode == http.StatusPreconditionFailed || e.StatusCode == http.StatusConflict)
}
