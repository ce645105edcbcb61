package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cordon-fhir/cordon/smart/backend"
)

// A failing network, not a server of ours: it answers the first request so
// and the next ones well.
func flaky(t *testing.T, first http.HandlerFunc) (l *loader, sent *atomic.Int32) {
	t.Helper()
	sent = new(atomic.Int32)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, `{"access_token":"t","token_type":"Bearer","expires_in":300}`)
	})
	mux.HandleFunc("POST /fhir", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if sent.Add(1) == 1 {
			first(w, r)
			return
		}
		fmt.Fprint(w, `{"resourceType":"Bundle","type":"transaction-response","entry":[{"response":{"status":"201 Created"}}]}`)
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	return &loader{
		base: srv.URL + "/fhir", parallel: 1, http: srv.Client(),
		login: &backend.Service{TokenURL: srv.URL + "/token", Client: "backend", Key: key, Scope: "system/*.cruds"},
	}, sent
}

const (
	creates = `{"resourceType":"Bundle","type":"transaction","entry":[{"resource":{"resourceType":"Basic"},"request":{"method":"POST","url":"Basic"}}]}`
	updates = `{"resourceType":"Bundle","type":"transaction","entry":[{"resource":{"resourceType":"Basic","id":"b"},"request":{"method":"PUT","url":"Basic/b"}}]}`
)

func TestOnlyWhatMayGoTwiceIsSentAgain(t *testing.T) {
	answer := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(status) }
	}
	hangUp := func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }
	for _, tt := range []struct {
		claim  string
		bundle string
		first  http.HandlerFunc
		sent   int32
		taken  int
	}{
		{"updates, after a 503", updates, answer(503), 2, 1},
		{"updates, after a lost connection", updates, hangUp, 2, 1},
		{"updates, after a 429", updates, answer(429), 2, 1},
		{"creates, after a 429: nothing was done", creates, answer(429), 2, 1},
		{"not creates, after a 503: they may have been done", creates, answer(503), 1, 0},
		{"not creates, after a lost connection", creates, hangUp, 1, 0},
		{"not what was refused", updates, answer(422), 1, 0},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			l, sent := flaky(t, tt.first)
			p, err := pack([]byte(tt.bundle))
			if err != nil {
				t.Fatal(err)
			}
			// An error is what a create ends with whose connection was lost.
			a, _ := l.post(t.Context(), p)
			if sent.Load() != tt.sent || a.taken != tt.taken {
				t.Errorf("sent %d times, %d taken; want %d and %d", sent.Load(), a.taken, tt.sent, tt.taken)
			}
		})
	}
}

func TestTheReportCountsEveryEntryOfARefusedTransaction(t *testing.T) {
	l, _ := flaky(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(422)
		fmt.Fprint(w, `{"resourceType":"OperationOutcome","issue":[{"severity":"error","code":"value","diagnostics":"a date is malformed","expression":["Bundle.entry[0].resource.birthDate"]}]}`)
	})
	p, err := pack([]byte(creates))
	if err != nil {
		t.Fatal(err)
	}
	p.name, p.file = "a.json", "a.json"
	report, err := l.load(t.Context(), func(yield func(parcel, error) bool) { yield(p, nil) })
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	report.print(&out, []string{"a.json"})
	for _, want := range []string{"a.json", "0          1", "a.json: 422 value: a date is malformed (Bundle.entry[0].resource.birthDate)"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, &out)
		}
	}
}
