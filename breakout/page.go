package breakout

import (
	_ "embed"
	"html/template"
	"io"
	"strings"
	"time"
)

//go:embed page.html
var pageText string

var page = template.Must(template.New("page").Funcs(template.FuncMap{
	"time": func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	"join": strings.Join,
}).Parse(pageText))

// A section is the attacks of one group, as the page shows them.
type section struct {
	Number  int
	Title   string
	Results []Result
}

// HTML writes the sheet for people, as one page that needs nothing else: no script,
// and no other file.
func (s *Sheet) HTML(w io.Writer) error {
	tried, held := s.Score()
	var sections []section
	for _, r := range s.Attacks {
		if n := len(sections); n == 0 || sections[n-1].Number != r.Group {
			sections = append(sections, section{Number: r.Group, Title: Groups[r.Group]})
		}
		last := &sections[len(sections)-1]
		last.Results = append(last.Results, r)
	}
	return page.Execute(w, struct {
		*Sheet
		Tried, Held, Missed int
		Sections            []section
	}{s, tried, held, s.Missed(), sections})
}
