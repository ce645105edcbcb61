package rest

import (
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cordon-fhir/cordon/fhir"
)

// H-21
func TestThePreferenceIsReadInEverySpelling(t *testing.T) {
	for _, tt := range []struct {
		claim  string
		fields []string
		want   preference
	}{
		{"nothing is preferred without the header", nil, preference{}},
		{"one preference", []string{"return=minimal"}, preference{returns: "minimal"}},
		{"two in one field", []string{"return=representation; handling=strict"}, preference{returns: "representation", handling: "strict"}},
		{"two with a comma and white space", []string{"handling = lenient , return=OperationOutcome"}, preference{returns: "OperationOutcome", handling: "lenient"}},
		{"two fields", []string{"handling=lenient", "return=minimal"}, preference{returns: "minimal", handling: "lenient"}},
		{"a quoted value", []string{`return="minimal"`}, preference{returns: "minimal"}},
		{"the first word counts", []string{"return=minimal, return=representation"}, preference{returns: "minimal"}},
		{"what is not known is passed over", []string{"respond-sync, return=everything, wait=5"}, preference{}},
		{"an answer for later", []string{"respond-async, return=minimal"}, preference{returns: "minimal", async: true}},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, parsePrefer(tt.fields), cmp.AllowUnexported(preference{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// H-11
func TestACopyIsFreshByVersionElseByTime(t *testing.T) {
	r := fhir.Resource{Version: 3, Updated: time.Date(2026, 5, 1, 10, 0, 0, 700e6, time.UTC)}
	const before, at = "Fri, 01 May 2026 09:59:59 GMT", "Fri, 01 May 2026 10:00:00 GMT"
	for _, tt := range []struct {
		claim  string
		header http.Header
		want   bool
	}{
		{"no condition", http.Header{}, false},
		{"the same version", http.Header{"If-None-Match": {`W/"3"`}}, true},
		{"the same version, strong", http.Header{"If-None-Match": {`"3"`}}, true},
		{"one of several", http.Header{"If-None-Match": {`W/"1", W/"3"`}}, true},
		{"any version", http.Header{"If-None-Match": {`*`}}, true},
		{"another version", http.Header{"If-None-Match": {`W/"2"`}}, false},
		{"the version wins over the time", http.Header{"If-None-Match": {`W/"2"`}, "If-Modified-Since": {at}}, false},
		{"not modified since, to the second", http.Header{"If-Modified-Since": {at}}, true},
		{"modified since", http.Header{"If-Modified-Since": {before}}, false},
		{"a malformed time is no condition", http.Header{"If-Modified-Since": {"yesterday"}}, false},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			c, err := parseConditions(tt.header)
			if err != nil {
				t.Fatal(err)
			}
			if got := c.fresh(r); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// H-23
func TestAMalformedIfMatchIsRefused(t *testing.T) {
	for _, tag := range []string{`3`, `W/"x"`, `W/"0"`, `"`, "W/\"1\"\r\nX-Tenant-Id: other"} {
		if _, err := parseConditions(http.Header{"If-Match": {tag}}); !fhir.IsCode(err, fhir.Invalid) {
			t.Errorf("%q: got %v, want an error with code invalid", tag, err)
		}
	}
	if _, err := parseConditions(http.Header{"If-Match": {`W/"1"`, `W/"2"`}}); !fhir.IsCode(err, fhir.Invalid) {
		t.Errorf("two headers: got %v, want an error with code invalid", err)
	}
}

// H-05, T256
func TestARequestIDIsTakenOnlyIfItIsWellFormed(t *testing.T) {
	for id, want := range map[string]bool{
		"a": true, "req_1.2-3": true, "": false, "a b": false, "a\x1b[31m": false, "ä": false, string(make([]byte, 65)): false,
	} {
		if _, ok := requestID(http.Header{"X-Request-Id": {id}}); ok != want {
			t.Errorf("%q: got %v, want %v", id, ok, want)
		}
	}
}

// T005
func TestABearerIsTakenFromOneHeaderOnly(t *testing.T) {
	for _, tt := range []struct {
		fields []string
		want   string
	}{
		{nil, ""},
		{[]string{"Bearer abc"}, "abc"},
		{[]string{"bearer abc"}, "abc"},
		{[]string{"Bearer abc", "Bearer abc"}, ""},
		{[]string{"Basic abc"}, ""},
		{[]string{"Bearer"}, ""},
	} {
		if got := bearer(http.Header{"Authorization": tt.fields}); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.fields, got, tt.want)
		}
	}
}

func TestOnlyATrustedProxyNamesTheClient(t *testing.T) {
	s := &server{Config: Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}
	for _, tt := range []struct {
		claim, peer, forwarded, want string
	}{
		{"a stranger speaks for himself", "192.0.2.1:40000", "198.51.100.7", "192.0.2.1"},
		{"a proxy names the client", "10.0.0.1:40000", "198.51.100.7", "198.51.100.7"},
		{"what the client claims to forward does not count", "10.0.0.1:40000", "203.0.113.9, 198.51.100.7", "198.51.100.7"},
		{"proxies may follow one another", "10.0.0.1:40000", "198.51.100.7, 10.0.0.2", "198.51.100.7"},
		{"a malformed address ends the list", "10.0.0.1:40000", "unknown", "10.0.0.1"},
	} {
		t.Run(tt.claim, func(t *testing.T) {
			r := &http.Request{RemoteAddr: tt.peer, Header: http.Header{"X-Forwarded-For": {tt.forwarded}}}
			if got := s.address(r); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}
