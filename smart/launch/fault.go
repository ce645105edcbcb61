package launch

import (
	"context"
	"errors"
	"net/http"

	"github.com/go-json-experiment/json"
	"github.com/labstack/echo/v4"

	"github.com/cordon-fhir/cordon/fhir"
	"github.com/cordon-fhir/cordon/oplog"
)

// A fault is an error for the client. Its words are constants.
// https://www.rfc-editor.org/rfc/rfc6749#section-5.2
type fault struct {
	Code        string `json:"error"`
	Description string `json:"error_description"`

	status int
	why    string // for the audit trail
}

func (f *fault) Error() string { return f.Code + ": " + f.why }

func invalidRequest(why string) *fault {
	return &fault{"invalid_request", why, http.StatusBadRequest, why}
}

// invalidClient is the one answer to everything that is wrong with a client or
// its proof: what exactly is for us to know, not for who tries.
func invalidClient(why string) *fault {
	return &fault{"invalid_client", "what the client proves itself with is not accepted", http.StatusUnauthorized, why}
}

func invalidScope(why string) *fault {
	return &fault{"invalid_scope", why, http.StatusBadRequest, why}
}

func unsupportedGrantType() *fault {
	const why = "the grant types are authorization_code, refresh_token and client_credentials"
	return &fault{"unsupported_grant_type", why, http.StatusBadRequest, why}
}

func invalidGrant(why string) *fault {
	return &fault{"invalid_grant", "the code or refresh token is not accepted", http.StatusBadRequest, why}
}

func unauthorizedClient(why string) *fault {
	return &fault{"unauthorized_client", why, http.StatusBadRequest, why}
}

func busy() *fault {
	const why = "too many people log in at once, try again"
	return &fault{"temporarily_unavailable", why, http.StatusServiceUnavailable, why}
}

func tooLong() *fault {
	const why = "the body is too long"
	return &fault{"invalid_request", why, http.StatusRequestEntityTooLarge, why}
}

func unavailable() *fault {
	const why = "the server cannot write its audit trail, try again"
	return &fault{"temporarily_unavailable", why, http.StatusServiceUnavailable, why}
}

func noSuchTenant() *fault {
	const why = "there is no such endpoint"
	return &fault{"invalid_request", why, http.StatusNotFound, why}
}

func elsewhere() *fault {
	const why = "the tenant is not served from this region"
	return &fault{"invalid_request", why, http.StatusMisdirectedRequest, why}
}

// noSuchEndpoint is the answer to what the router has no endpoint for.
func noSuchEndpoint(err error) *fault {
	f := noSuchTenant()
	var routing *echo.HTTPError
	if errors.As(err, &routing) && routing.Code == http.StatusMethodNotAllowed {
		f.status = http.StatusMethodNotAllowed
	}
	return f
}

// fault returns what the client is told of an error. One of ours is logged.
func (s *Server) fault(ctx context.Context, c *call, err error) *fault {
	var f *fault
	if errors.As(err, &f) {
		return f
	}
	if fhir.IsCode(err, fhir.Transient) {
		const why = "the server cannot reach its database, try again"
		return &fault{"temporarily_unavailable", why, http.StatusServiceUnavailable, why}
	}
	s.cfg.Log.Error("serving a request", oplog.Request(c.origin.RequestID), oplog.Cause(err))
	return &fault{"server_error", "internal error", http.StatusInternalServerError, "internal error"}
}

// write answers. Tokens and faults must not be kept by anyone on the way.
// https://www.rfc-editor.org/rfc/rfc6749#section-5.1
func write(w http.ResponseWriter, c *call, status int, answer any) {
	body, err := json.Marshal(answer)
	if err != nil { // what we answer are structs of strings and numbers
		status, body = http.StatusInternalServerError, []byte(`{"error":"server_error"}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	guard(h, c)
	cors(h, c.http, c.client)
	if status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", challenge(c.http))
	}
	for name, values := range c.header {
		h[name] = values
	}
	if status == http.StatusNoContent {
		h.Del("Content-Type")
		body = nil
	}
	w.WriteHeader(status)
	w.Write(body) // who hung up has had their answer
}

// challenge names the scheme by which the client tried to log in.
func challenge(r *http.Request) string {
	if _, _, basic := r.BasicAuth(); basic {
		return `Basic realm="token"`
	}
	return "Bearer"
}

// guard sets what every answer has.
func guard(h http.Header, c *call) {
	h.Set("Cache-Control", "no-store")
	h.Set("Pragma", "no-cache")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Request-Id", c.origin.RequestID)
}
