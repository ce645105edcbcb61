package launch

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
)

// The pages are made by templ from pages.templ: `make generate`.

// A frame is what all pages show.
type frame struct {
	Title string
	Name  string // of the tenant
	Path  string // of its endpoints
	User  string // who has logged in, "" for nobody
}

func (s *Server) frame(b *browser, title string) frame {
	return frame{Title: title, Name: b.tenant.Name, Path: "/auth/" + b.tenant.Slug.String(), User: b.session.Subject}
}

// problemForm is what the page of an error shows.
type problemForm struct {
	frame
	Words string
}

//go:embed style.css
var style string

// styleElement is the only style that a page may have.
var styleElement = "<style>" + style + "</style>"

// styleHash lets browsers know it again.
var styleHash = func() string {
	sum := sha256.Sum256([]byte(style))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}()

// writePage answers a person. A page loads nothing, runs nothing, is shown in
// no frame, and its forms lead to us or back to the app.
// https://www.w3.org/TR/CSP3/
func writePage(w http.ResponseWriter, c *call, status int) {
	var body bytes.Buffer
	if c.redirect == "" {
		if err := c.page.Render(context.Background(), &body); err != nil {
			status = http.StatusInternalServerError
			body.Reset()
		}
	}
	h := w.Header()
	guard(h, c)
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src "+styleHash+"; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"+formAction(c.backTo))
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	for name, values := range c.header {
		h[name] = values
	}
	if c.cookie != nil {
		http.SetCookie(w, c.cookie)
	}
	if c.redirect != "" {
		h.Set("Location", c.redirect)
	}
	w.WriteHeader(status)
	w.Write(body.Bytes()) // who hung up has had their answer
}

// formAction is the source to which a form may be redirected that leads back
// to the address. One that no source can name is left out: such an app gets
// its answer by the browsers that do not hold redirections to form-action.
func formAction(to string) string {
	u, err := url.Parse(to)
	switch {
	case err != nil || u.Scheme == "":
		return ""
	case u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return " " + u.Scheme + ":"
	case strings.ContainsAny(u.Host, " ;,'\""):
		return ""
	}
	return " " + u.Scheme + "://" + u.Host
}
