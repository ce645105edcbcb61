package faults

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// H-54: what a server that is killed had promised to answer later is answered by
// the next, and nothing is written twice.
func TestKillingTheServerLosesNoAnswerThatComesLater(t *testing.T) {
	whole(t)
	for _, p := range sys.tenants {
		began := time.Now()
		mark := fmt.Sprintf("later-%d", began.UnixNano())
		var entries []string
		for range 2000 {
			entries = append(entries, `{"resource":`+compact(record("", "", mark, ""))+`,"request":{"method":"POST","url":"Basic"}}`)
		}
		batch := promised(t, p, http.MethodPost, "", `{"resourceType":"Bundle","type":"batch","entry":[`+strings.Join(entries, ",")+`]}`)
		var searches []string
		for range 6 {
			searches = append(searches, promised(t, p, http.MethodGet, "Patient?_count=1", ""))
		}
		time.Sleep(200 * time.Millisecond) // some are in work then, and some are not
		sys.server.kill()
		sys.restart(t)
		for _, where := range searches {
			if got := kept(t, p, where); !strings.HasPrefix(got, "200") {
				t.Errorf("%s: a search is answered with %s", p.mode, got)
			}
		}
		answer := kept(t, p, batch)
		done := 0
		if err := p.backend.pages(t.Context(), "Basic?_count=1000&identifier="+mark, func(page []byte) error {
			done += strings.Count(string(page), `"fullUrl"`)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if whole := strings.HasPrefix(answer, "201"); done > len(entries) || whole && done != len(entries) || !whole && !strings.HasPrefix(answer, "503") {
			t.Errorf("%s: %d of %d entries were written, and the answer is %s", p.mode, done, len(entries), answer)
		}
		measured("kill -9 with answers promised, "+p.mode, fmt.Sprintf("all there after %s; of a batch of %d, %d were written, answer %s", time.Since(began).Round(time.Second), len(entries), done, answer), zero)
	}
}

// promised asks for an answer later and returns where it will be.
func promised(t *testing.T, p *party, method, path, body string) string {
	t.Helper()
	r, err := p.backend.do(t.Context(), method, path, body, "Prefer", "respond-async")
	if err != nil {
		t.Fatal(err)
	}
	if r.status != http.StatusAccepted {
		t.Fatalf("%s %s: %d %.300s", method, path, r.status, r.body)
	}
	return r.header.Get("Content-Location")
}

// kept polls until there is an answer and returns the status of its first entry.
func kept(t *testing.T, p *party, where string) string {
	t.Helper()
	for end := time.Now().Add(3 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		r, err := p.backend.do(t.Context(), http.MethodGet, where, "")
		if err != nil {
			t.Fatal(err)
		}
		if r.status == http.StatusAccepted && time.Now().Before(end) {
			continue
		}
		if r.status != http.StatusOK {
			t.Fatalf("polling: %d %.300s", r.status, r.body)
		}
		var b struct {
			Entry []struct{ Response struct{ Status string } }
		}
		if err := json.Unmarshal(r.body, &b); err != nil || len(b.Entry) == 0 {
			t.Fatalf("%v in %.300s", err, r.body)
		}
		return b.Entry[0].Response.Status
	}
}
