package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/cordon-fhir/cordon/cmd/cordon/demo"
	"github.com/cordon-fhir/cordon/fhir"
)

func TestStatReadsCPUWhateverTheProgramIsCalled(t *testing.T) {
	// https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
	const line = "41 (a) b (c) S 7 41 41 0 -1 4194560 1 2 3 4 100 20 3 1 20 0 1 0 0 0 0"
	got, err := parseStat([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	if want := (stat{parent: 7, cpu: 124 * tick}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, bad := range []string{"", "41 (a", "41 (a) S 7", "41 (a) S x 41 41 0 -1 4194560 1 2 3 4 100 20 3 1 20"} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestTreeCountsEveryDescendantOnce(t *testing.T) {
	stats := map[int]stat{
		1: {parent: 0, cpu: 1}, 2: {parent: 1, cpu: 10}, 3: {parent: 2, cpu: 100}, 4: {parent: 0, cpu: 1000},
	}
	if got := tree(stats, 1); got != 111 {
		t.Errorf("got %d, want 111", got)
	}
}

func TestOwnCPUIsSeen(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("there is no /proc here")
	}
	before, err := readCPU(os.Getpid(), os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); time.Since(began) < 100*time.Millisecond; {
	}
	after, err := readCPU(os.Getpid(), os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if used := after.sub(before); used.server <= 0 || used.database <= 0 || used.own <= 0 || used.busy <= 0 {
		t.Errorf("after a busy tenth of a second: %+v", used)
	}
}

func TestPercentileIsTheNearestRank(t *testing.T) {
	var times []time.Duration
	for i := 1; i <= 200; i++ {
		times = append(times, time.Duration(i)*time.Millisecond)
	}
	for p, want := range map[int]float64{50: 100, 95: 190, 99: 198, 100: 200} {
		if got := percentile(times, p); got != want {
			t.Errorf("p%d: got %v, want %v", p, got, want)
		}
	}
	if got := percentile(times[:1], 99); got != 1 {
		t.Errorf("p99 of one: got %v, want 1", got)
	}
}

func TestClientReadsEveryFraming(t *testing.T) {
	large := strings.Repeat("x", 100_000)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/length":
			body, _ := io.ReadAll(r.Body) // a server may not read on once it writes
			w.Write(body)
		case "/chunks":
			for range 3 {
				io.WriteString(w, large)
				w.(http.Flusher).Flush()
			}
		case "/created":
			w.Header().Set("Location", "/Patient/7/_history/1")
			w.WriteHeader(http.StatusCreated)
		case "/none":
			w.WriteHeader(http.StatusNoContent)
		case "/last":
			w.Header().Set("Connection", "close")
			io.WriteString(w, "bye")
		}
	}))
	defer srv.Close()
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(u.Host)
	defer c.close()
	for range 2 { // the second time over connections that were used, or closed
		for _, tt := range []struct {
			path, body, want, location string
			status                     int
		}{
			{"/length", "abc", "abc", "", 200},
			{"/length", "", "", "", 200},
			{"/length", large, large, "", 200},
			{"/chunks", "", large + large + large, "", 200},
			{"/created", "", "", "/Patient/7/_history/1", 201},
			{"/none", "", "", "", 204},
			{"/last", "", "bye", "", 200},
		} {
			r, err := c.do(plainRequest("POST", tt.path, u.Host, []byte(tt.body)))
			if err != nil {
				t.Fatalf("%s: %v", tt.path, err)
			}
			if r.status != tt.status || string(r.body) != tt.want || r.location != tt.location {
				t.Errorf("%s: got %d, %d bytes, location %q", tt.path, r.status, len(r.body), r.location)
			}
		}
	}
}

func TestClientRefusesWhatIsNoResponse(t *testing.T) {
	for _, text := range []string{
		"", "HTTP/1.1 2", "SSH-2.0\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
	} {
		c := newClient("")
		c.in.Reset(strings.NewReader(text))
		if _, err := c.read(); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

func TestFigureCountsWhatWasDoneAndWhatWentWrong(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("there is no /proc here")
	}
	b := bench{postmaster: os.Getpid(), cpus: 1}
	n := 0
	f, err := b.exhaust(context.Background(), "ten", 0, 1, func(int) (op, func(), error) {
		return func() (counts, error) {
			switch n++; {
			case n > 10:
				return counts{}, errDone
			case n%5 == 0:
				return counts{}, errors.New("no")
			}
			return counts{ops: 2, entries: 4, bytes: 6}, nil
		}, func() {}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if f.Ops != 16 || f.Errors != 2 || f.Problem != "no" || f.Entries != 2 || f.Bytes != 3 {
		t.Errorf("got %+v", f)
	}
}

func TestSearchesAreDrawnFromWhatWasImported(t *testing.T) {
	c := newCataloger()
	for text := range demo.Bundles(seedDev, 8) {
		if err := c.add(text, answerTo(t, text)); err != nil {
			t.Fatal(err)
		}
	}
	found, err := c.finish()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range searches {
		target := s.query(found)
		u, err := url.Parse(target)
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		if !fhir.Type(u.Path).Known() {
			t.Errorf("%s: %q is no type", s.name, u.Path)
		}
		values, err := url.ParseQuery(u.RawQuery)
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
		for name, list := range values {
			if list[0] == "" {
				t.Errorf("%s: %s has no value", s.name, name)
			}
		}
	}
}

// answerTo makes the answer of a server to a transaction.
func answerTo(t *testing.T, bundle []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	b.WriteString(`{"resourceType":"Bundle","type":"transaction-response","entry":[`)
	n := bytes.Count(bundle, []byte(`"request":`))
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"response":{"status":"201","location":"Patient/x%d/_history/1"}}`, i)
	}
	b.WriteString(`]}`)
	if err := refused(b.Bytes(), n); err != nil {
		t.Fatal(err)
	}
	if err := refused(b.Bytes(), n+1); err == nil {
		t.Error("an answer without an entry passes")
	}
	return b.Bytes()
}

func TestLocationNamesTheID(t *testing.T) {
	for location, want := range map[string]string{
		"http://h/fhir/harbor/Patient/7/_history/1": "7",
		"Patient/a-b.c/_history/12":                 "a-b.c",
		"/fhir/harbor/Patient/7":                    "7",
	} {
		if got := idOf(location); got != want {
			t.Errorf("%s: got %q, want %q", location, got, want)
		}
	}
}

func TestGoalsAreJudgedByTheNearestCeilings(t *testing.T) {
	ceilings := func(insert, read float64) Ceilings {
		return Ceilings{BareInsert: Figure{DatabaseCPU: insert}, BareRead: Figure{DatabaseCPU: read}}
	}
	m := ModeReport{
		Mode:     "shared",
		Ceilings: []Ceilings{ceilings(100, 1), ceilings(1, 3), ceilings(3, 100)},
		Plain: []Figure{
			{Shape: readPatient, Clients: 1, ServerCPU: 1000},
			{Shape: readPatient, Clients: goalClients, ServerCPU: 8, DatabaseCPU: 2},
			{Shape: updatePatient, Clients: goalClients, ServerCPU: 1000},
			{Shape: createPatient, Clients: goalClients, ServerCPU: 8, DatabaseCPU: 6},
		},
		Import:     &Figure{Rate: 5000, Ops: 10},
		Stored:     Sizes{Current: 10000, Audit: 9000},
		ReadBeside: []Figure{{ServerCPU: 100}, {ServerCPU: 1}, {DatabaseCPU: 3}},
		Ones:       []Figure{{Shape: "Patient?_id", ServerCPU: 6, Reads: 2}},
	}
	want := []Goal{
		{"CPU per read Patient", "shared", 5, 5, false, "× bare read", true},
		{"CPU per create Patient", "shared", 7, 6, false, "× bare insert", false},
		{"import of Bundles", "shared", 5000, 4000, true, "resources/s", true},
		{"database per resource", "shared", 1900, 1800, false, "bytes", false},
		{"CPU per page of one, Patient?_id", "shared", 3, 3, false, "× read", true},
	}
	if diff := cmp.Diff(want, m.goals()); diff != "" {
		t.Errorf("goals differ (-want +got):\n%s", diff)
	}
}

func TestFlagsSayWhatToMeasure(t *testing.T) {
	c, err := parse([]string{"-modes", "schema", "-shapes", "create,_has", "-clients", "2,4"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if !c.wants(createPatient) || !c.wants("Patient?_has") || c.wants(readPatient) || !cmp.Equal(c.clients, []int{2, 4}) {
		t.Errorf("got %+v", c)
	}
	for _, args := range [][]string{{"-modes", "cloud"}, {"-clients", "0"}, {"-copies", "0"}, {"-duration", "0s"}, {"shared"}, {"-sizes", "100,10"}, {"-sizes", "x"}, {"-bulk", "-1"}} {
		if _, err := parse(args, io.Discard); err == nil {
			t.Errorf("%v was taken", args)
		}
	}
}
