package oplog_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/oplog"
)

const canary = "Canary Jane 1970-01-01"

type own struct{}

func (own) Error() string { return "own words about " + canary }
func (own) Cause() string { return "own words" }

type row struct{}

func (row) Error() string    { return "duplicate key (name)=(" + canary + ")" }
func (row) SQLState() string { return "23505" }

// OBS-01, OBS-05
func TestTheCauseOfAFailureIsToldWithoutValues(t *testing.T) {
	_, number := strconv.Atoi(canary)
	_, date := time.Parse(time.RFC3339, canary)
	_, file := os.Open("/" + canary)
	var v struct{}
	jsonErr := json.Unmarshal([]byte(`"`+canary+`"`), &v)
	for _, tt := range []struct {
		err  error
		want string
	}{
		{nil, ""},
		{errors.New("the keyring is closed"), "the keyring is closed"},
		{fmt.Errorf("opening the database: %w", errors.New("no such host")), "opening the database: no such host"},
		{fmt.Errorf("a: %w", fmt.Errorf("b: %w", context.DeadlineExceeded)), "a: b: context deadline exceeded"},
		{fmt.Errorf("unable to encode %q", canary), "*errors.errorString"},
		{fmt.Errorf("reading %s: %w", canary, errors.New("refused")), "*fmt.wrapError: refused"},
		{fmt.Errorf("storing: %w", own{}), "storing: own words"},
		{fmt.Errorf("storing: %w", row{}), "storing: SQLSTATE 23505"},
		{errors.Join(own{}, row{}), "own words; SQLSTATE 23505"},
		{number, "*strconv.NumError: invalid syntax"},
		{date, "*time.ParseError"},
		{file, "open: no such file or directory"},
		{jsonErr, "*json.UnmarshalTypeError"},
		{&net.OpError{Op: "dial", Err: &net.DNSError{Name: canary}}, "dial: the name is not known"},
	} {
		if got := oplog.Text(tt.err); got != tt.want && !strings.HasPrefix(got, "*") || strings.Contains(got, "Jane") {
			t.Errorf("%T: got %q, want %q", tt.err, got, tt.want)
		}
	}
}

// OBS-01
func TestAFieldHoldsOnlyWhatItIsFor(t *testing.T) {
	var out bytes.Buffer
	log := oplog.New(slog.NewJSONHandler(&out, nil))
	log.Info("it happened",
		oplog.Tenant(canary), oplog.Request(canary), oplog.Requests([]string{canary, "r-1"}), oplog.Method(canary), oplog.Route("/fhir/"+canary),
		oplog.Params([]string{canary, "_count"}), oplog.Named("check", canary), oplog.Address(canary), oplog.Client(canary),
		oplog.User("Patient/jane"), oplog.Because("born on 1970-01-01"), oplog.Cause(row{}), oplog.Stack())
	if line := out.String(); strings.Contains(strings.ToLower(line), "jane") || strings.Contains(line, "1970") {
		t.Errorf("the line is %s", line)
	}
	out.Reset()
	log.Warn("it happened", oplog.Tenant("harbor"), oplog.Method("GET"), oplog.Route("/fhir/:tenant/:type/:id"), oplog.Params([]string{"_count"}),
		oplog.Address("10.0.0.1:80"), oplog.User("Practitioner/7"), oplog.Status(200), oplog.Again(time.Second), oplog.Is("tls", true))
	for _, want := range []string{`"harbor"`, `"GET"`, `"/fhir/:tenant/:type/:id"`, `["_count"]`, `"10.0.0.1:80"`, `"Practitioner/7"`, `"status":200`, `"tls":true`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s is not in %s", want, &out)
		}
	}
}

// OBS-05
func TestWhatNetHTTPComplainsOfIsNamedOnly(t *testing.T) {
	var out bytes.Buffer
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(canary) }))
	s.Config.ErrorLog = oplog.New(slog.NewJSONHandler(&out, nil)).HTTP()
	s.Start()
	if resp, err := http.Get(s.URL); err == nil {
		resp.Body.Close()
	}
	s.Close()
	if line := out.String(); !strings.Contains(line, "panic serving") || strings.Contains(line, "Jane") {
		t.Errorf("the line is %s", line)
	}
}
