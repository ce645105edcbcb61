package control

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/cordon-fhir/cordon/audit"
	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/oplog"
)

// maxBody bounds the body of a request.
const maxBody = 64 << 10

// ServeHTTP answers one request. Nothing leaves before its audit entry is
// durable: without one the answer is 503, and a change is not even begun.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begun := a.Now()
	entry := audit.Entry{Interaction: fhir.Operation, Origin: origin(r)}
	h := w.Header()
	h.Set("X-Request-Id", entry.Origin.RequestID)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")

	ans, path, err := a.handle(r, &entry)
	if err != nil {
		ans = a.refusal(r.Context(), entry, err)
	}
	entry.Status, entry.Outcome, entry.Reason = ans.status, outcome(ans.status), ans.did
	if err := a.record(r.Context(), entry); err != nil {
		a.Log.Error("audit", oplog.Request(entry.Origin.RequestID), oplog.Cause(err))
		ans = answer{status: http.StatusServiceUnavailable, body: outcomeOf(fhir.Errorf(fhir.Transient, "the audit trail cannot be written"))}
	}
	if ans.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
	a.write(r.Context(), w, ans)
	a.Log.Info("control", oplog.Method(r.Method), oplog.Route(path), oplog.Status(ans.status),
		oplog.Took(a.Now().Sub(begun)), oplog.Client(entry.Agent.Client), oplog.Request(entry.Origin.RequestID))
}

// handle does what the request asks for, if an operator asks. It fills in what
// becomes known for the audit entry, and returns the path of the route.
func (a *api) handle(r *http.Request, entry *audit.Entry) (answer, string, error) {
	ctx := r.Context()
	agent, err := a.authenticate(ctx, r.Header)
	if err != nil {
		return answer{}, "", err
	}
	entry.Agent = agent
	rt, c, err := find(r.Method, r.URL.EscapedPath())
	if err != nil {
		return answer{}, "", err
	}
	c.operator, c.request = agent.Client, entry.Origin.RequestID
	if r.Method == http.MethodGet {
		ans, err := rt.do(a, ctx, c)
		return ans, rt.path, err
	}
	if rt.file {
		c.file, err = file(r)
	} else {
		c.body, err = body(r)
	}
	if err != nil {
		return answer{}, rt.path, err
	}
	first := *entry
	first.Status, first.Reason = http.StatusProcessing, "begins: "+rt.method+" "+strings.NewReplacer("{slug}", c.slug, "{package}", c.item, "{login}", c.item, "{provider}", c.item, "{client}", c.item, "{glass}", c.item, "{hold}", c.item, "{number}", strconv.FormatInt(c.number, 10)).Replace(rt.path)
	if err := a.record(ctx, first); err != nil {
		a.Log.Error("audit", oplog.Request(entry.Origin.RequestID), oplog.Cause(err))
		return answer{}, rt.path, fhir.Errorf(fhir.Transient, "the audit trail cannot be written")
	}
	ans, err := rt.do(a, ctx, c)
	return ans, rt.path, err
}

// record writes the entry, also for a client that has gone.
func (a *api) record(ctx context.Context, e audit.Entry) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	e.Recorded = a.Now()
	return a.Registry.AppendPlatform(ctx, []audit.Entry{e})
}

func body(r *http.Request) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return nil, fhir.Errorf(fhir.Structure, "the body could not be read")
	}
	if len(text) > maxBody {
		return nil, fhir.Errorf(fhir.TooLong, "the body has more than %d bytes", maxBody)
	}
	if len(text) > 0 && mediaType(r) != "application/json" {
		return nil, fhir.Errorf(fhir.NotSupported, "the body has to be application/json").WithStatus(http.StatusUnsupportedMediaType)
	}
	return text, nil
}

// file returns the body of a request that is a file, to be read.
func file(r *http.Request) (io.Reader, error) {
	switch mediaType(r) {
	case "application/gzip", "application/x-gzip", "application/octet-stream", "application/fhir+json", "application/json":
		return r.Body, nil
	}
	return nil, fhir.Errorf(fhir.NotSupported, "the body has to be application/gzip or application/fhir+json").WithStatus(http.StatusUnsupportedMediaType)
}

func mediaType(r *http.Request) string {
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return strings.ToLower(strings.TrimSpace(kind))
}

// status is the table from code to HTTP status.
var status = map[fhir.IssueCode]int{
	fhir.Invalid:      http.StatusBadRequest,
	fhir.Structure:    http.StatusBadRequest,
	fhir.NotSupported: http.StatusBadRequest,
	fhir.TooCostly:    http.StatusUnprocessableEntity,
	fhir.Login:        http.StatusUnauthorized,
	fhir.Forbidden:    http.StatusForbidden,
	fhir.NotFound:     http.StatusNotFound,
	fhir.Conflict:     http.StatusConflict,
	fhir.TooLong:      http.StatusRequestEntityTooLarge,
	fhir.Transient:    http.StatusServiceUnavailable,
}

// refusal answers an error: ours is logged, and told as "internal error".
func (a *api) refusal(ctx context.Context, entry audit.Entry, err error) answer {
	fe, ok := errors.AsType[*fhir.Error](known(err))
	if !ok {
		a.Log.Error("control", oplog.Request(entry.Origin.RequestID), oplog.Cause(err))
		fe = fhir.Errorf(fhir.Exception, "internal error")
	}
	code := fe.Status
	if code == 0 {
		code = status[fe.Code()]
	}
	if code == 0 {
		code = http.StatusInternalServerError
	}
	return answer{status: code, body: outcomeOf(fe), did: "refused: " + fe.Error()}
}

func outcome(status int) audit.Outcome {
	switch {
	case status < 400:
		return audit.Success
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return audit.Serious
	case status < 500:
		return audit.MinorFailure
	}
	return audit.MajorFailure
}

// An operationOutcome has the form of the resource, so that one client reads
// the errors of both APIs.
// https://hl7.org/fhir/R4/operationoutcome.html
type operationOutcome struct {
	Type   string  `json:"resourceType"`
	Issues []issue `json:"issue"`
}

type issue struct {
	Severity    string `json:"severity"`
	Code        string `json:"code"`
	Diagnostics string `json:"diagnostics"`
}

func outcomeOf(e *fhir.Error) operationOutcome {
	o := operationOutcome{Type: "OperationOutcome"}
	for _, is := range e.Issues {
		o.Issues = append(o.Issues, issue{"error", string(is.Code), is.Diagnostics})
	}
	return o
}

func (a *api) write(ctx context.Context, w http.ResponseWriter, ans answer) {
	var text bytes.Buffer
	if err := json.NewEncoder(&text).Encode(ans.body); err != nil {
		a.Log.Error("writing an answer", oplog.Cause(err))
		http.Error(w, "", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(ans.status)
	// A client that has gone does not get its answer; the trail has it.
	_, _ = w.Write(text.Bytes())
}

var requestID = regexp.MustCompile(`^[A-Za-z0-9.-]{1,64}$`)

// origin says where a request came from. What a client writes into it is
// taken only if it is well formed.
func origin(r *http.Request) audit.Origin {
	o := audit.Origin{RequestID: rand.Text(), Method: "other", Server: "control"}
	if ids := r.Header.Values("X-Request-Id"); len(ids) == 1 && requestID.MatchString(ids[0]) {
		o.RequestID = ids[0]
	}
	switch r.Method {
	case http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete:
		o.Method = r.Method
	}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		o.Address = host
	}
	return o
}
