package rest

import (
	"bytes"
	"encoding/json"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/search"
	"github.com/cordon-fhir/cordon/fhir/xml"
)

// What FHIR answers carry.
// https://hl7.org/fhir/R4/http.html#mime-type
const (
	contentType = "application/fhir+json; charset=utf-8"
	xmlType     = "application/fhir+xml; charset=utf-8"
)

// A format is how a client wants resources shown.
// https://hl7.org/fhir/R4/http.html#parameters
type format struct {
	xml      bool // else JSON
	pretty   bool
	summary  string // "true", "text", "data", "count" or ""
	elements []string
	given    []search.Param // _format and _pretty, for the links of pages
}

// takeFormat reads the general parameters among params and returns the others.
// It fails if the client accepts neither JSON nor XML: _format, if given, else
// Accept.
func takeFormat(params []search.Param, accept []string) (format, []search.Param, error) {
	var f format
	var rest []search.Param
	formats := 0
	for _, p := range params {
		if p.Name == "_format" || p.Name == "_pretty" {
			f.given = append(f.given, p)
		}
		switch p.Name {
		case "_format":
			formats++
			f.xml = isXML(p.Value) || p.Value == "xml"
			if !f.xml && !isJSON(p.Value) && p.Value != "json" {
				return f, nil, notAcceptable()
			}
		case "_pretty":
			f.pretty = p.Value == "true"
		default:
			rest = append(rest, p)
		}
	}
	if formats == 0 {
		var ok bool
		if f.xml, ok = accepted(accept); !ok {
			return f, nil, notAcceptable()
		}
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
	return fhir.Errorf(fhir.NotSupported, "resources are served as application/fhir+json or application/fhir+xml, FHIR version 4.0").WithStatus(406)
}

// isJSON reports whether a media type is one of JSON's, for FHIR 4.0 or for no
// version in particular, in UTF-8.
func isJSON(mediaType string) bool {
	return isMediaType(mediaType, "application/fhir+json", "application/json", "text/json")
}

// isXML is isJSON for XML.
func isXML(mediaType string) bool {
	return isMediaType(mediaType, "application/fhir+xml", "application/xml", "text/xml")
}

func isMediaType(given string, names ...string) bool {
	// A plus sign that nobody encoded arrives in a parameter as a space.
	given = strings.Replace(given, "application/fhir ", "application/fhir+", 1)
	t, params, err := mime.ParseMediaType(given)
	return err == nil && slices.Contains(names, t) && forR4(params)
}

func forR4(params map[string]string) bool {
	version, charset := params["fhirversion"], params["charset"]
	return (version == "" || version == "4.0") && (charset == "" || strings.EqualFold(charset, "utf-8"))
}

// accepted reports whether the fields of Accept admit JSON or XML, and whether
// XML is what they would rather have.
// https://www.rfc-editor.org/rfc/rfc9110#name-accept
func accepted(fields []string) (xml, ok bool) {
	all := strings.TrimSpace(strings.Join(fields, ","))
	if all == "" {
		return false, true
	}
	var qJSON, qXML float64
	for one := range strings.SplitSeq(all, ",") {
		t, params, err := mime.ParseMediaType(one)
		if err != nil {
			continue
		}
		q, err := strconv.ParseFloat(params["q"], 64)
		if err != nil {
			q = 1
		}
		switch {
		case (t == "*/*" || t == "application/*" || t == "text/*") && forR4(params), isJSON(one):
			qJSON = max(qJSON, q)
		case isXML(one):
			qXML = max(qXML, q)
		}
	}
	return qXML > qJSON, qXML > 0 || qJSON > 0
}

// inFormat returns resp as the client wants to read it. It is JSON until then.
func (c *call) inFormat(resp *response) *response {
	if resp.contentType != "" || len(resp.body) == 0 || !c.wantsXML(resp) {
		return resp
	}
	b, err := xml.FromJSON(resp.body, c.req.pretty)
	if err != nil {
		c.err = err
		return failure(clientError(err))
	}
	shown := *resp
	shown.body, shown.contentType = b, xmlType
	return &shown
}

// wantsXML reports whether the client wants XML. Where a request fails before
// that was read from it, it is read now.
func (c *call) wantsXML(resp *response) bool {
	if c.req.xml || resp.status < http.StatusBadRequest {
		return c.req.xml
	}
	params, err := search.ParseQuery(c.http.URL.RawQuery)
	if err != nil {
		return false
	}
	f, _, err := takeFormat(params, c.http.Header.Values("Accept"))
	return err == nil && f.xml
}

// pretty returns the JSON b with line breaks and indentation.
func pretty(b []byte) []byte {
	var out bytes.Buffer
	if json.Indent(&out, b, "", "  ") != nil {
		return b
	}
	return out.Bytes()
}
