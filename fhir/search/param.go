package search

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
)

// Limits of one search. What exceeds them is refused as too costly.
const (
	maxParams = 64
	maxValues = 500
	maxLeaves = 2000
	maxDepth  = 6
	maxLinks  = 32
	maxLength = 4096
	maxSorts  = 8
	// maxTargets is how many types a chain may lead to without saying which.
	maxTargets = 16
)

// ParseQuery reads the parameters of a URL's query or of a form, in order. A
// plus is a space.
// https://hl7.org/fhir/R4/search.html#escaping
func ParseQuery(rawQuery string) ([]Param, error) {
	var list []Param
	for part := range strings.SplitSeq(rawQuery, "&") {
		if part == "" {
			continue
		}
		if len(list) == maxParams {
			return nil, fhir.Errorf(fhir.TooCostly, "a search takes at most %d parameters", maxParams)
		}
		name, value, _ := strings.Cut(part, "=")
		name, err := url.QueryUnescape(name)
		if err == nil {
			value, err = url.QueryUnescape(value)
		}
		if err != nil {
			return nil, fhir.Errorf(fhir.Invalid, "parameter %d of the query is not well encoded", len(list)+1)
		}
		list = append(list, Param{name, value})
	}
	return list, nil
}

// String returns the parameter, encoded for a URL.
func (p Param) String() string { return url.QueryEscape(p.Name) + "=" + url.QueryEscape(p.Value) }

// shown returns a parameter's name for the words of an error, cut to what a
// name can be: a client that mixes up name and value must not find the value
// in our answer and logs.
func shown(name string) string {
	for i := 0; i < len(name); i++ {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && !strings.ContainsRune("-_:.", rune(c)) || i == 100 {
			return "a parameter"
		}
	}
	return "parameter " + name
}

func invalid(name, words string) *fhir.Error {
	return fhir.Errorf(fhir.Invalid, "%s %s", shown(name), words)
}

func unsupported(name, words string) *fhir.Error {
	return fhir.Errorf(fhir.NotSupported, "%s %s", shown(name), words)
}

func tooCostly(name, words string, args ...any) *fhir.Error {
	return fhir.Errorf(fhir.TooCostly, "%s %s", shown(name), fmt.Sprintf(words, args...))
}
