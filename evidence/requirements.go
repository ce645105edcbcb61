package evidence

import (
	_ "embed"
	"fmt"
	"strings"
)

// A Requirement is one thing that Cordon promises.
type Requirement struct {
	ID    string `json:"id"`
	Title string `json:"title"`
}

//go:embed requirements.tsv
var requirements string

// Requirements are all there are, in their order.
func Requirements() []Requirement {
	var list []Requirement
	for line := range strings.Lines(requirements) {
		id, title, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if !ok {
			panic(fmt.Sprintf("evidence: requirements.tsv: %q", line)) // a test reads it
		}
		list = append(list, Requirement{id, title})
	}
	return list
}
