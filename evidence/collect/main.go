// Command collect reads what `go test -json ./...` prints, and prints what that
// says of each requirement. It is run in the directory of the project.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/cordon-fhir/cordon/evidence"
)

func main() {
	revision := flag.String("revision", "", "revision of the source that is tested")
	flag.Parse()
	if err := collect(*revision, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "collect: %v\n", err)
		os.Exit(1)
	}
}

func collect(revision string, in io.Reader, out io.Writer) error {
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
	return enc.Encode(results)
}
