package rest

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"

	"github.com/klauspost/compress/gzip"

	"github.com/cordon-fhir/cordon/fhir"
)

// body reads the body, decompressed, if the request has one to be read.
func (c *call) body() ([]byte, error) {
	if m := c.http.Method; m != http.MethodPost && m != http.MethodPut && m != http.MethodPatch {
		return nil, nil
	}
	limit := int64(c.Limits.Body)
	tooLong := fhir.Errorf(fhir.TooLong, "the body is longer than %d bytes", limit)
	if c.http.ContentLength > limit {
		return nil, tooLong
	}
	var in io.Reader = http.MaxBytesReader(c.writer, c.http.Body, limit)
	switch encoding := c.http.Header.Values("Content-Encoding"); {
	case len(encoding) == 0 || len(encoding) == 1 && encoding[0] == "identity":
	case len(encoding) == 1 && strings.EqualFold(encoding[0], "gzip"):
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, fhir.Errorf(fhir.Structure, "the body is not in the encoding that Content-Encoding names")
		}
		defer z.Close()
		in = io.LimitReader(z, limit+1)
	default:
		return nil, fhir.Errorf(fhir.NotSupported, "the only Content-Encoding of requests is gzip").WithStatus(http.StatusUnsupportedMediaType)
	}
	body, err := readAll(in, c.http.ContentLength)
	var tooBig *http.MaxBytesError
	switch {
	case errors.As(err, &tooBig) || int64(len(body)) > limit:
		return nil, tooLong
	case err != nil:
		return nil, fhir.Errorf(fhir.Structure, "the body ends too early or is not in its encoding")
	}
	return body, c.mediaType(len(body))
}

// small is the size of a body that needs no room: nearly all are.
const small = 256 << 10

// room waits until the process has room to work on a body of the size. A body
// made for the purpose takes fifty times its size in memory once it is parsed.
func (c *call) room(ctx context.Context, size int) error {
	if size <= small {
		return nil
	}
	n := int64(min(size, c.Limits.Bodies))
	if err := c.bodies.Acquire(ctx, n); err != nil {
		return fhir.Errorf(fhir.Transient, "the server works on too many large requests, try again")
	}
	c.holds = n
	return nil
}

// readAll reads to the end. The length that the client claims saves copying,
// but memory is not given for a claim alone.
func readAll(in io.Reader, length int64) ([]byte, error) {
	body := make([]byte, 0, max(512, min(length+1, 1<<20)))
	for {
		n, err := in.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if err == io.EOF {
			return body, nil
		}
		if err != nil {
			return nil, err
		}
		if len(body) == cap(body) {
			body = append(body, 0)[:len(body)]
		}
	}
}

// jsonPatchType is the media type of a JSON Patch.
// https://www.rfc-editor.org/rfc/rfc6902#section-6
const jsonPatchType = "application/json-patch+json"

func isJSONPatch(mediaType string) bool {
	t, _, err := mime.ParseMediaType(mediaType)
	return err == nil && t == jsonPatchType
}

// isResource reports whether a media type is that of a resource.
func isResource(mediaType string) bool { return isJSON(mediaType) || isXML(mediaType) }

// mediaType checks Content-Type for what the interaction takes.
func (c *call) mediaType(length int) error {
	given := c.http.Header.Values("Content-Type")
	if len(given) == 0 && length == 0 {
		return nil
	}
	t, params, err := "", map[string]string(nil), error(nil)
	if len(given) == 1 {
		t, params, err = mime.ParseMediaType(given[0])
	}
	ok := len(given) == 1 && err == nil && forR4(params)
	want := "application/fhir+json or application/fhir+xml"
	switch c.req.does {
	case fhir.Create, fhir.Update, fhir.Transaction, fhir.Operation:
		if bare := c.place.route.operation != nil && c.place.route.operation.bare; bare {
			want = graphqlType + " or application/json"
			ok = length == 0 || ok && (t == graphqlType || t == "application/json")
			break
		}
		ok = ok && isResource(given[0])
	case fhir.Patch:
		want = jsonPatchType + ", " + want
		ok = ok && (t == jsonPatchType || isResource(given[0]))
	default:
		want = "application/x-www-form-urlencoded"
		ok = ok && t == want
	}
	if !ok {
		return fhir.Errorf(fhir.NotSupported, "the body must be %s in UTF-8", want).WithStatus(http.StatusUnsupportedMediaType)
	}
	return nil
}
