package rest

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/fhir/r4"
	"github.com/cordon-fhir/cordon/fhir/search"
)

// openAPI answers with the description of the tenant's API for tools that know
// HTTP and not FHIR. Like the CapabilityStatement it is made of the tables that
// serve.
// https://spec.openapis.org/oas/v3.1.0
func openAPI(ctx context.Context, s *server, req *request) (*response, error) {
	req.tenant = req.grant.Tenant()
	resp, err := s.describe(ctx, req, "openapi", s.describePaths)
	if err != nil {
		return nil, err
	}
	resp.contentType = "application/json"
	return resp, nil
}

// A jsonObject is an object of JSON.
type jsonObject map[string]any

func refTo(kind, name string) jsonObject {
	return jsonObject{"$ref": "#/components/" + kind + "/" + name}
}

// describePaths makes the document.
func (s *server) describePaths(g guides, _ string) []byte {
	paths := map[string]jsonObject{}
	for _, rt := range table() {
		switch {
		case rt.does == fhir.Operation && rt.whole == nil: // those of operations
		case strings.HasPrefix(rt.path, "/:type"):
			for _, t := range fhir.Types {
				if rt.isOn(t) {
					describeRoute(paths, rt, t, g)
				}
			}
		default:
			describeRoute(paths, rt, "", g)
		}
	}
	for _, o := range operations() {
		o.describe(paths)
	}
	b, _ := json.Marshal(jsonObject{ // there is nothing in it that cannot be written
		"openapi": "3.1.0",
		"info": jsonObject{"title": "Cordon", "version": s.Version,
			"description": "The FHIR R4 API of one tenant. What each interaction means is said by https://hl7.org/fhir/R4/http.html"},
		"servers":    []jsonObject{{"url": g.base}},
		"security":   []jsonObject{{"bearer": []string{}}},
		"paths":      paths,
		"components": components(),
	})
	return b
}

// isOn reports whether a route is served for the type.
func (rt *route) isOn(t fhir.Type) bool {
	if strings.Contains(rt.path, "/:of") && len(r4.Compartment(t)) == 0 {
		return false
	}
	return slices.Contains(served(t), rt.does) && (t != auditEvent || !strings.Contains(rt.path, "/:of"))
}

// names are the parameters in paths.
var names = []string{"id", "version", "of", "job", "file"}

// template returns a path as OpenAPI writes it, and its parameters.
func template(path string, t fhir.Type) (string, []any) {
	path = strings.Replace(path, ":type", string(t), 1)
	var params []any
	for _, n := range names {
		if strings.Contains(path, ":"+n) {
			path = strings.Replace(path, ":"+n, "{"+n+"}", 1)
			params = append(params, refTo("parameters", n))
		}
	}
	if path == "" {
		path = "/"
	}
	return path, params
}

// put adds an interaction to the paths. Its id follows from where it is.
func put(paths map[string]jsonObject, method, path string, does jsonObject) {
	does["operationId"] = strings.ToLower(method) + strings.NewReplacer("/", "_", "$", "", "{", "", "}", "", ".", "").Replace(path)
	if paths[path] == nil {
		paths[path] = jsonObject{}
	}
	paths[path][strings.ToLower(method)] = does
}

// describeRoute adds a route, of a type if it has one.
func describeRoute(paths map[string]jsonObject, rt route, t fhir.Type, g guides) {
	path, params := template(rt.path, t)
	does := jsonObject{"summary": summaryOf(rt, t), "responses": responsesOf(rt)}
	if t != "" {
		does["tags"] = []string{string(t)}
	}
	if rt.public != nil {
		does["security"] = []jsonObject{}
	}
	switch rt.does {
	case fhir.SearchType, fhir.SearchSystem:
		if rt.method == http.MethodGet {
			params = append(params, searchParams(rt, t, g)...)
		} else {
			does["requestBody"] = bodyOf("application/x-www-form-urlencoded", jsonObject{"type": "object", "additionalProperties": jsonObject{"type": "string"}})
		}
	case fhir.HistoryInstance, fhir.HistoryType, fhir.HistorySystem:
		params = append(params, refTo("parameters", "count"), refTo("parameters", "since"))
	case fhir.Create:
		params = append(params, refTo("parameters", "ifNoneExist"), refTo("parameters", "prefer"))
		does["requestBody"] = bodyOf("application/fhir+json", refTo("schemas", "Resource"))
	case fhir.Update:
		params = append(params, refTo("parameters", "ifMatch"), refTo("parameters", "prefer"))
		does["requestBody"] = bodyOf("application/fhir+json", refTo("schemas", "Resource"))
	case fhir.Patch:
		params = append(params, refTo("parameters", "ifMatch"), refTo("parameters", "prefer"))
		body := bodyOf("application/json-patch+json", refTo("schemas", "JSONPatch"))
		body["content"].(jsonObject)["application/fhir+json"] = jsonObject{"schema": refTo("schemas", "Resource")}
		does["requestBody"] = body
	case fhir.Delete:
		params = append(params, refTo("parameters", "ifMatch"))
	case fhir.Transaction:
		does["requestBody"] = bodyOf("application/fhir+json", refTo("schemas", "Resource"))
	}
	if rt.streams {
		does["requestBody"] = bodyOf(ndjson, jsonObject{"type": "string"})
	}
	if !slices.Contains([]fhir.Interaction{fhir.Create, fhir.Transaction}, rt.does) && strings.HasSuffix(rt.path, ":type") && rt.method != http.MethodGet {
		params = append(params, refTo("parameters", "criteria"))
	}
	if len(params) > 0 {
		does["parameters"] = params
	}
	put(paths, rt.method, path, does)
}

func summaryOf(rt route, t fhir.Type) string {
	switch {
	case strings.HasPrefix(rt.path, "/_async"):
		return map[string]string{http.MethodGet: "the answer to a request that is answered later", http.MethodDelete: "forget it"}[rt.method]
	case rt.streams:
		return "an input of an import"
	case t == "":
		return string(rt.does)
	}
	return string(rt.does) + " of " + string(t)
}

// searchParams are those of a search by GET.
func searchParams(rt route, t fhir.Type, g guides) []any {
	if strings.Contains(rt.path, ":of") {
		t = "" // whichever is searched
	}
	var list []any
	known := slices.Concat(search.Parameters(t), search.General(t), g.custom.Parameters(t))
	for _, p := range known {
		list = append(list, jsonObject{
			"name": p.Name, "in": "query", "x-fhir-type": p.Type,
			"schema": jsonObject{"type": "array", "items": jsonObject{"type": "string"}},
		})
	}
	for _, name := range []string{"count", "sort", "include", "revinclude", "summary", "elements", "total", "more"} {
		list = append(list, refTo("parameters", name))
	}
	return list
}

func responsesOf(rt route) jsonObject {
	status := "200"
	switch rt.does {
	case fhir.Create:
		status = "201"
	case fhir.Delete:
		status = "204"
	}
	ok := jsonObject{"description": "done"}
	if status != "204" {
		ok["content"] = jsonObject{"application/fhir+json": jsonObject{"schema": refTo("schemas", "Resource")}}
	}
	return jsonObject{status: ok, "default": refTo("responses", "outcome")}
}

func bodyOf(mediaType string, schema jsonObject) jsonObject {
	return jsonObject{"required": true, "content": jsonObject{mediaType: jsonObject{"schema": schema}}}
}

// describe adds an operation wherever it can be called.
func (o *operation) describe(paths map[string]jsonObject) {
	add := func(path string, t fhir.Type) {
		path, params := template(path+"/$"+o.name, t)
		does := func() jsonObject {
			d := jsonObject{"summary": "$" + o.name, "responses": responsesOf(route{does: fhir.Operation}), "externalDocs": jsonObject{"url": o.url}}
			if t != "" {
				d["tags"] = []string{string(t)}
			}
			return d
		}
		called := does()
		body := bodyOf("application/fhir+json", refTo("schemas", "Resource"))
		if o.bare {
			body = bodyOf("application/json", jsonObject{"type": "object"})
		}
		body["required"] = slices.ContainsFunc(o.in, func(p parameter) bool { return p.min > 0 && !p.simple() })
		called["requestBody"] = body
		if len(params) > 0 {
			called["parameters"] = params
		}
		put(paths, http.MethodPost, path, called)
		if !o.simple() {
			return
		}
		got := does()
		for _, p := range o.in {
			if p.simple() {
				params = append(slices.Clone(params), p.describe())
			}
		}
		if o.searches {
			params = append(slices.Clone(params), refTo("parameters", "more"))
		}
		if len(params) > 0 {
			got["parameters"] = params
		}
		put(paths, http.MethodGet, path, got)
	}
	if o.level&onSystem != 0 {
		add("", "")
	}
	for _, t := range fhir.Types {
		if !o.isOn(t) {
			continue
		}
		for l, path := range map[level]string{onType: "/:type", onInstance: "/:type/:id", onVersion: "/:type/:id/_history/:version"} {
			if o.level&l != 0 {
				add(path, t)
			}
		}
	}
}

// describe returns a parameter as one of a URL.
func (p parameter) describe() jsonObject {
	schema := jsonObject{"type": "string"}
	switch p.typ {
	case "boolean":
		schema = jsonObject{"type": "boolean"}
	case "integer":
		schema = jsonObject{"type": "integer"}
	case "positiveInt", "unsignedInt":
		schema = jsonObject{"type": "integer", "minimum": map[string]int{"positiveInt": 1}[p.typ]}
	case "decimal":
		schema = jsonObject{"type": "number"}
	}
	if p.max != 1 {
		schema = jsonObject{"type": "array", "items": schema}
	}
	return jsonObject{"name": p.name, "in": "query", "required": p.min > 0, "x-fhir-type": p.typ, "schema": schema}
}

// components are what the paths share.
func components() jsonObject {
	text := jsonObject{"type": "string"}
	texts := jsonObject{"type": "array", "items": text}
	id := jsonObject{"type": "string", "pattern": `^[A-Za-z0-9\-.]{1,64}$`}
	param := func(in, name, words string, schema jsonObject) jsonObject {
		return jsonObject{"name": name, "in": in, "required": in == "path", "description": words, "schema": schema}
	}
	params := jsonObject{
		"id":          param("path", "id", "the logical id of a resource", id),
		"version":     param("path", "version", "a version of it", jsonObject{"type": "integer", "minimum": 1}),
		"of":          param("path", "of", "a type, or * for all that are in the compartment", text),
		"file":        param("path", "file", "the name of a file, or the number of an input", jsonObject{"type": "string"}),
		"job":         param("path", "job", "the id of a request that is answered later", jsonObject{"type": "string", "format": "uuid"}),
		"count":       param("query", "_count", "resources on a page", jsonObject{"type": "integer", "minimum": 0}),
		"since":       param("query", "_since", "nothing older", jsonObject{"type": "string", "format": "date-time"}),
		"sort":        param("query", "_sort", "search parameters to sort by, - before what falls", text),
		"include":     param("query", "_include", "references to follow", texts),
		"revinclude":  param("query", "_revinclude", "references to follow backwards", texts),
		"summary":     param("query", "_summary", "a part of each resource", jsonObject{"type": "string", "enum": []string{"true", "text", "data", "count", "false"}}),
		"elements":    param("query", "_elements", "the elements to show, with commas between", text),
		"total":       param("query", "_total", "whether to count", jsonObject{"type": "string", "enum": []string{"none", "estimate", "accurate"}}),
		"ifMatch":     param("header", "If-Match", `the version to be changed, W/"3"`, text),
		"ifNoneExist": param("header", "If-None-Exist", "create unless a resource meets this search", text),
		"prefer":      param("header", "Prefer", "return=minimal, return=representation or return=OperationOutcome", text),
		"criteria": jsonObject{"name": "criteria", "in": "query", "description": "search parameters that one resource meets", "style": "form", "explode": true,
			"schema": jsonObject{"type": "object", "additionalProperties": text}},
		"more": jsonObject{"name": "more", "in": "query", "description": "search parameters with modifiers, chains and _has", "style": "form", "explode": true,
			"schema": jsonObject{"type": "object", "additionalProperties": text}},
	}
	return jsonObject{
		"securitySchemes": jsonObject{"bearer": jsonObject{"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
		"parameters":      params,
		"schemas": jsonObject{
			"Resource": jsonObject{"type": "object", "required": []string{"resourceType"}, "properties": jsonObject{
				"resourceType": jsonObject{"type": "string", "description": "a type of https://hl7.org/fhir/R4/resourcelist.html"}, "id": id}},
			"JSONPatch": jsonObject{"type": "array", "items": jsonObject{"type": "object", "required": []string{"op", "path"},
				"properties": jsonObject{"op": jsonObject{"type": "string", "enum": []string{"add", "remove", "replace", "move", "copy", "test"}}, "path": text}}},
		},
		"responses": jsonObject{"outcome": jsonObject{"description": "what is wrong, as an OperationOutcome",
			"content": jsonObject{"application/fhir+json": jsonObject{"schema": refTo("schemas", "Resource")}}}},
	}
}
