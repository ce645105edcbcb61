package rest

import (
	"context"
	"net/url"
	"time"

	"github.com/cordon-fhir/cordon/bulk"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store"
)

// Where a tenant allows it the files of an export are at URLs that need no token: who has
// one may have the file, under the Grant of who asked for the export, for some minutes.
// https://hl7.org/fhir/uv/bulkdata/STU3/en/export.html#bulk-data-output-file-request

const (
	// linkLife is for how long a URL is good: as long as a token of a backend service.
	// https://hl7.org/fhir/smart-app-launch/backend-services.html
	linkLife = 5 * time.Minute
	// fileLink is the parameter that stands for a token.
	fileLink = "_link"
	// exportFilePath is where they are.
	exportFilePath = "/_export/:job/:file"
)

// linkTo is what a URL is lent for.
func linkTo(job, file string) string { return "file|" + job + "|" + file }

// link makes the URLs of a manifest good without a token, and returns until when.
func (s *server) link(ctx context.Context, req *request, m *bulk.Manifest) (until time.Time, err error) {
	until = s.Now().Add(linkLife)
	for _, files := range []*[]bulk.FileItem{&m.Output, &m.Deleted, &m.Error} {
		for i := range *files {
			f := &(*files)[i]
			lent, err := s.Verifier.Lend(ctx, req.grant, linkTo(req.job, f.URL[len(req.base+pathOf[store.Export]+req.job+"/"):]), until)
			if err != nil {
				return until, err
			}
			f.URL += "?" + url.Values{fileLink: {lent}}.Encode()
		}
	}
	m.RequiresAccessToken = false
	return until, nil
}

// byLink earns the Grant that the URL of a file was lent, if it has one and no token came
// with it. What it was lent by is forgotten: nothing is to record it.
func (c *call) byLink(ctx context.Context) (g *smart.Grant, lent bool, err error) {
	if c.place.file == "" || c.place.route == nil || c.place.route.path != exportFilePath {
		return nil, false, nil
	}
	q := c.http.URL.Query()
	text := q.Get(fileLink)
	if text == "" {
		return nil, false, nil
	}
	q.Del(fileLink)
	c.http.URL.RawQuery = q.Encode()
	if bearer(c.http.Header) != "" {
		return nil, false, nil
	}
	place := c.place
	c.again = func(ctx context.Context) (*smart.Grant, error) {
		g, err := c.Verifier.Borrow(ctx, place.tenant, linkTo(place.job, place.file), text, c.origin)
		if err == nil && !g.Tenant().Settings.Export.Links {
			err = fhir.Errorf(fhir.Login, "a token is needed")
		}
		return g, err
	}
	g, err = c.again(ctx)
	return g, true, err
}
