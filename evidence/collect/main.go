// Command collect reads what `go test -json` prints, and prints what that says of
// each requirement and each line of the breakout suite; for people, how many lines
// held. It is run in the directory of the project.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/cordon-fhir/cordon/evidence"
)

func main() {
	revision := flag.String("revision", "", "revision of the source that is tested")
	flag.Parse()
	if err := collect(*revision, os.Stdin, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "collect: %v\n", err)
		os.Exit(1)
	}
}

// collect fails if a test did.
func collect(revision string, in io.Reader, out, people io.Writer) error {
	claims, err := evidence.Claims(os.DirFS("."))
	if err != nil {
		return err
	}
	results, err := evidence.Judge(in, claims)
	if err != nil {
		return err
	}
	results.Revision = revision
	enc := json.NewEncoder(out)
	enc.SetIndent("", " ")
	if err := enc.Encode(results); err != nil {
		return err
	}
	if len(results.Breakout) > 0 {
		fmt.Fprintln(people, results.Score())
	}
	if len(results.Failed) > 0 {
		return fmt.Errorf("failed: %s", strings.Join(results.Failed, ", "))
	}
	return nil
}
