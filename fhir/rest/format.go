package rest

import (
	"bytes"
	"encoding/json"
	"mime"
	"strconv"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
)

// contentType is what every FHIR answer carries.
// https://hl7.org/fhir/R4/http.html#mime-type
const contentType = "application/fhir+json; charset=utf-8"

// A format is how a client wants resources shown.
// https://hl7.org/fhir/R4/http.html#parameters
type format struct {
	pretty   bool
	summary  string // "true", "text", "data", "count" or ""
	elements []string
}

// takeFormat reads the general parameters among params and returns the others.
// It fails if the client accepts no JSON: _format, if given, else Accept.
func takeFormat(params []search.Param, accept []string) (format, []search.Param, error) {
	var f format
	var rest []search.Param
	formats := 0
	for _, p := range params {
		switch p.Name {
		case "_format":
			formats++
			if !isJSON(p.Value) && p.Value != "json" {
				return f, nil, notAcceptable()
			}
		case "_pretty":
			f.pretty = p.Value == "true"
		default:
			rest = append(rest, p)
		}
	}
	if formats == 0 && !acceptsJSON(accept) {
		return f, nil, notAcceptable()
	}
	return f, rest, nil
}

// takeSubset reads _summary and _elements of a read, where search.Parse has no
// part, and returns the other parameters.
func (f *format) takeSubset(params []search.Param) ([]search.Param, error) {
	var rest []search.Param
	for _, p := range params {
		switch p.Name {
		case "_summary":
			switch p.Value {
			case "true", "text", "data":
				f.summary = p.Value
			case "false", "":
			default:
				return nil, fhir.Errorf(fhir.Invalid, "_summary of a read is true, text, data or false")
			}
		case "_elements":
			for name := range strings.SplitSeq(p.Value, ",") {
				f.elements = append(f.elements, strings.TrimSpace(name))
			}
		default:
			rest = append(rest, p)
		}
	}
	return rest, nil
}

func notAcceptable() error {
	return fhir.Errorf(fhir.NotSupported, "resources are served as application/fhir+json, FHIR version 4.0").WithStatus(406)
}

// isJSON reports whether a media type is one of JSON's, for FHIR 4.0 or for no
// version in particular, in UTF-8.
func isJSON(mediaType string) bool {
	// A plus sign that nobody encoded arrives in a parameter as a space.
	mediaType = strings.Replace(mediaType, "application/fhir json", "application/fhir+json", 1)
	t, params, err := mime.ParseMediaType(mediaType)
	if err != nil {
		return false
	}
	switch t {
	case "application/fhir+json", "application/json", "text/json":
		return forR4(params)
	}
	return false
}

func forR4(params map[string]string) bool {
	version, charset := params["fhirversion"], params["charset"]
	return (version == "" || version == "4.0") && (charset == "" || strings.EqualFold(charset, "utf-8"))
}

// acceptsJSON reports whether the fields of Accept admit JSON.
func acceptsJSON(fields []string) bool {
	all := strings.TrimSpace(strings.Join(fields, ","))
	if all == "" {
		return true
	}
	for one := range strings.SplitSeq(all, ",") {
		t, params, err := mime.ParseMediaType(one)
		if err != nil {
			continue
		}
		if q, err := strconv.ParseFloat(params["q"], 64); err == nil && q == 0 {
			continue
		}
		if (t == "*/*" || t == "application/*" || t == "text/*") && forR4(params) || isJSON(one) {
			return true
		}
	}
	return false
}

// pretty returns the JSON b with line breaks and indentation.
func pretty(b []byte) []byte {
	var out bytes.Buffer
	if json.Indent(&out, b, "", "  ") != nil {
		return b
	}
	return out.Bytes()
}
