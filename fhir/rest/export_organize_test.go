package rest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cordon-fhir/cordon/bulk"
	"github.com/cordon-fhir/cordon/smart"
	"github.com/cordon-fhir/cordon/store/storetest"
)

// inBlocks returns the names of what is in the files, by the patient of the block.
func (c *client) inBlocks(m bulk.Manifest) map[string][]string {
	c.t.Helper()
	got := map[string][]string{}
	for _, f := range m.Output {
		whose := ""
		for _, line := range c.lines(f) {
			var r struct {
				ID        string
				Parameter []struct {
					Name  string
					Value struct{ Reference string } `json:"valueReference"`
				}
				ResourceType string
			}
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				c.t.Fatal(err)
			}
			if r.ResourceType != "Parameters" {
				got[whose] = append(got[whose], r.ResourceType+"/"+r.ID)
				continue
			}
			if whose = r.Parameter[0].Value.Reference; r.Parameter[0].Name != "header" || got[whose] != nil {
				c.t.Errorf("header %s, or a second block", line)
			}
		}
	}
	return got
}

// B-30: organized by patient, an export has a block for each, which begins with who
// that is, and in all the blocks what it would have otherwise.
func TestAnExportIsOrganizedByPatient(t *testing.T) {
	a := newAPI(t)
	for _, slug := range []string{storetest.A1, storetest.S1, storetest.D1} {
		t.Run(slug, func(t *testing.T) {
			staff := a.client(t, slug, all)
			r := aRecord()
			r.fill(staff)
			device := "Device/" + fresh()
			staff.must(201, "PUT", "/"+device, `{"resourceType":"Device","id":"`+device[7:]+`","patient":{"reference":"Patient/`+r.p+`"}}`)
			c := a.client(t, slug, exporter)
			m := c.manifest(c.kickOff("/Patient/$export?organizeOutputBy=Patient"))
			if m.OrganizedBy != "Patient" || m.Output[0].Type != "" {
				t.Errorf("%+v", m)
			}
			got := c.inBlocks(m)
			want, _ := c.export("/Patient/$export")
			all, seen := map[string]bool{}, searchAll(staff, "/Patient")
			for whose, names := range got {
				if names[0] != whose || !slices.Contains(seen, whose) {
					t.Errorf("the block of %s begins with %s", whose, names[0])
				}
				for _, name := range names {
					if all[name] = true; want[name] == nil {
						t.Errorf("%s is in no other export", name)
					}
				}
			}
			if len(got) != len(seen) {
				t.Errorf("%d blocks for %d patients", len(got), len(seen))
			}
			for name, resource := range want {
				text := fmt.Sprint(resource)
				ofSomebody := slices.ContainsFunc(seen, func(p string) bool { return name == p || strings.Contains(text, "reference:"+p+"]") })
				if on, _, _ := strings.Cut(name, "/"); ofSomebody && !all[name] && !slices.Contains([]string{"Location", "Medication", "Organization", "Practitioner", "PractitionerRole"}, on) {
					t.Errorf("%s is in no block", name)
				}
			}
			if mine := got["Patient/"+r.p]; !slices.Contains(mine, device) || len(mine) < 3 {
				t.Errorf("the block of one: %v", mine)
			}
		})
	}
}

// B-30: with _since a block has what was changed, of patients who were not; and what
// was deleted is in deleted.
func TestABlockHasWhatWasChangedSince(t *testing.T) {
	a := newAPI(t)
	staff, c := a.client(t, storetest.S2, all), a.client(t, storetest.S2, exporter)
	p := fresh()
	staff.must(201, "PUT", "/Patient/"+p, patient(p, "Before"))
	put := func(name string) {
		staff.do("PUT", "/Observation/"+p+name, `{"resourceType":"Observation","id":"`+p+name+`","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/`+p+`"}}`)
	}
	put("before")
	put("gone")
	time.Sleep(5 * time.Millisecond)
	since := time.Now().UTC().Format(time.RFC3339Nano)
	time.Sleep(5 * time.Millisecond)
	put("after")
	staff.must(204, "DELETE", "/Observation/"+p+"gone", "")
	m := c.manifest(c.kickOff("/$export?organizeOutputBy=Patient&_type=Patient,Observation&_since=" + since))
	if got := c.inBlocks(m); !slices.Equal(got["Patient/"+p], []string{"Observation/" + p + "after"}) {
		t.Errorf("%v", got)
	}
	if _, gone := c.download(bulk.Manifest{Deleted: m.Deleted}); !slices.Contains(gone, "Observation/"+p+"gone") {
		t.Errorf("deleted %v", gone)
	}
}

// B-30: a file of blocks is given away while all that is in it may be seen.
func TestAFileOfBlocksIsKeptFromWhomAnythingInItIsHidden(t *testing.T) {
	g := govern(t, newAPI(t), "export-blocks", shipped(t, "clinic"))
	g.has(keptChart...)
	gp := g.staff("Practitioner/gp", smart.Person{Roles: []string{"physician"}})
	m := gp.manifest(gp.kickOff("/Patient/$export?organizeOutputBy=Patient&_type=Observation,Patient"))
	if len(m.Output) != 1 {
		t.Fatalf("%+v", m)
	}
	file := strings.TrimPrefix(m.Output[0].URL, baseOf(g.slug))
	gp.must(http.StatusOK, "GET", file, "")
	g.has("Observation/of-p", labelPSY+","+keptChart[5])
	gp.must(http.StatusGone, "GET", file, "")
}

// B-30: who allows partial manifests is told of files before all is done, and gets
// them. A manifest that was told does not change but for the link to the next.
func TestFilesAreToldOfBeforeAllIsDone(t *testing.T) {
	staff := newAPI(t).client(t, storetest.A1, all)
	first, last := fresh(), fresh()
	since := url.QueryEscape(time.Now().Add(-time.Minute).UTC().Format(time.RFC3339))
	staff.must(201, "PUT", "/Account/"+first, `{"resourceType":"Account","id":"`+first+`","status":"active"}`)
	staff.must(201, "PUT", "/VisionPrescription/"+last, `{"resourceType":"VisionPrescription","id":"`+last+`","status":"active","created":"2020","patient":{"reference":"Patient/`+last+`"},"dateWritten":"2020","prescriber":{"display":"x"},"lensSpecification":[{"product":{"text":"x"},"eye":"left"}]}`)
	x := begin(t, storetest.A1, exporter, "/$export?allowPartialManifests=true&_since="+since)
	var partial bulk.Manifest
	for turn := 20 * time.Millisecond; partial.Output == nil; turn += 10 * time.Millisecond { // each a little further
		if turn > time.Second {
			t.Fatal("no manifest before all is done")
		}
		x.s.exports.turn = turn
		x.work()
		w := x.do("GET", x.where, "")
		for w.Code == http.StatusTooManyRequests {
			time.Sleep(pollEvery / 5)
			w = x.do("GET", x.where, "")
		}
		if w.Body.Len() == 0 {
			continue
		}
		if err := json.Unmarshal(w.Body.Bytes(), &partial); err != nil || w.Code != http.StatusAccepted || w.Header().Get("X-Progress") == "" || w.Header().Get("Content-Type") != "application/json" {
			t.Fatal(w.Code, w.Header(), w.Body, err)
		}
	}
	if got, _ := x.download(partial); got["Account/"+first] == nil || got["VisionPrescription/"+last] != nil || partial.Link != nil {
		t.Errorf("in part: %v %+v", exportedNames(got, ""), partial)
	}
	x.s.exports.turn = exportTurn
	x.work()

	m := x.manifest(x.where)
	all := bulk.Manifest{}
	for page := m; ; {
		if page.TransactionTime != m.TransactionTime || page.Request != m.Request {
			t.Errorf("another export: %+v", page)
		}
		all.Output = append(all.Output, page.Output...)
		if page.Link == nil {
			break
		}
		page = x.manifest(strings.TrimPrefix(page.Link[0].URL, baseOf(x.slug)))
	}
	if got, _ := x.download(all); got["Account/"+first] == nil || got["VisionPrescription/"+last] == nil {
		t.Errorf("in all: %v", exportedNames(got, ""))
	}
	if m.Link == nil || m.Link[0].Relation != "next" {
		t.Errorf("no link: %+v", m)
	}
	if m.Link = nil; fmt.Sprint(m) != fmt.Sprint(partial) {
		t.Errorf("the manifest has changed: %+v, was %+v", m, partial)
	}
	x.must(404, "GET", x.where+"?_manifest=99", "")
	x.must(400, "GET", x.where+"?_manifest=x", "")
}
