package evidence

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Results are what a run of the tests says of each requirement.
type Results struct {
	Revision     string    `json:"revision"` // of the source that was tested
	Finished     time.Time `json:"finished"`
	Requirements []Result  `json:"requirements"`
	// Breakout are the lines of the breakout suite that ran.
	Breakout []Line `json:"breakout"`
	// Failed are the packages that did.
	Failed []string `json:"failed,omitempty"`
}

// A Result is what the tests say of one requirement.
type Result struct {
	Requirement
	Tests []Outcome `json:"tests"`
}

// An Outcome is how a test ended.
type Outcome struct {
	Test
	Ended string `json:"ended"` // pass, fail, skip, or "not run"
}

// A Line is one attack of the breakout suite, tried by one or more tests for
// several tenants.
type Line struct {
	ID     string `json:"id"`
	Tried  int    `json:"tried"`
	Failed int    `json:"failed"`
}

// Evidenced reports whether at least one test proved the requirement and none
// failed to.
func (r Result) Evidenced() bool {
	proved := false
	for _, t := range r.Tests {
		switch t.Ended {
		case "pass":
			proved = true
		case "fail":
			return false
		}
	}
	return proved
}

// Held is how many of the lines were tried and broke nothing.
func (r Results) Held() (n int) {
	for _, l := range r.Breakout {
		if l.Failed == 0 {
			n++
		}
	}
	return n
}

// module is the path that packages begin with.
const module = "github.com/cordon-fhir/cordon/"

// maxEvent bounds a line of what go test prints.
const maxEvent = 1 << 20

// breakout is where the breakout suite is.
const breakout = "conformance"

var lineForm = regexp.MustCompile(`^T[0-9]{3}$`)

// linesOf are the lines that the name of a test begins with, or has in it.
func linesOf(name string) (list []string) {
	for word := range strings.SplitSeq(name, "_") {
		if lineForm.MatchString(word) {
			list = append(list, word)
		}
	}
	return list
}

// Judge reads what `go test -json` printed and says what it means for each of the
// requirements, which tests claim to prove.
// https://pkg.go.dev/cmd/test2json
func Judge(printed io.Reader, claims map[string][]Test) (Results, error) {
	ended := map[Test]string{}
	lines, broken := map[string]*Line{}, map[string]bool{}
	var results Results
	in := bufio.NewScanner(printed)
	in.Buffer(nil, maxEvent)
	for in.Scan() {
		var event struct {
			Time                  time.Time
			Action, Package, Test string
		}
		if json.Unmarshal(in.Bytes(), &event) != nil {
			continue // go itself prints, when a package does not build
		}
		if event.Time.After(results.Finished) {
			results.Finished = event.Time
		}
		if event.Action != "pass" && event.Action != "fail" && event.Action != "skip" {
			continue
		}
		dir := strings.TrimPrefix(event.Package, module)
		top, _, sub := strings.Cut(event.Test, "/")
		switch {
		case event.Test == "" && event.Action == "fail":
			results.Failed = append(results.Failed, dir)
		case event.Test == "":
		case !sub:
			ended[Test{dir, top}] = event.Action
		case dir == breakout:
			tried(lines, broken, event.Test, event.Action)
		}
	}
	if err := in.Err(); err != nil {
		return Results{}, fmt.Errorf("reading the results of tests: %w", err)
	}
	for _, one := range Requirements() {
		result := Result{Requirement: one, Tests: []Outcome{}}
		for _, test := range claims[one.ID] {
			how, ran := ended[test]
			if !ran {
				how = "not run"
			}
			result.Tests = append(result.Tests, Outcome{test, how})
		}
		results.Requirements = append(results.Requirements, result)
	}
	for id := range broken {
		if lines[id] == nil {
			lines[id] = &Line{ID: id, Tried: 1}
		}
		lines[id].Failed = max(lines[id].Failed, 1)
	}
	for _, id := range slices.Sorted(maps.Keys(lines)) {
		results.Breakout = append(results.Breakout, *lines[id])
	}
	return results, nil
}

// tried counts a test of a line: the innermost, which is of one tenant or pair of
// tenants. That of all tenants together may fail where each of these passed: then
// the line is broken.
func tried(lines map[string]*Line, broken map[string]bool, test, how string) {
	line, of := path.Split(test)
	if all := linesOf(of); len(all) > 0 || how == "skip" {
		for _, id := range all {
			if how == "fail" {
				broken[id] = true
			}
		}
		return
	}
	for _, id := range linesOf(path.Base(line)) {
		if lines[id] == nil {
			lines[id] = &Line{ID: id}
		}
		lines[id].Tried++
		if how == "fail" {
			lines[id].Failed++
		}
	}
}
