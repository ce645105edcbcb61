package breakout

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Places are what of its records each tenant has a canary in.
var Places = []string{
	"name", "address", "phone", "email", "mrn", "ssn", "date", "note", "attachment",
	"contained", "narrative", "extension", "id", "tag", "other",
}

// shared are the names of the ids that every tenant has.
var shared = []string{"p1", "p2", "o1", "o2", "e2", "d1", "d2", "x2", "v2", "c2", "t2", "g2", "l2", "k1", "mine"}

// records are in every tenant, under the same ids: p1 is the shared patient, p2
// one that no app of a patient may see. «place» stands for the tenant's canary;
// other names are those of Trial.name.
var records = []string{
	`{"resourceType":"Patient","id":"«p1»",
	  "meta":{"tag":[{"system":"urn:breakout:tag","code":"«tag»"}]},
	  "text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">«narrative»</div>"},
	  "contained":[{"resourceType":"Organization","id":"org","name":"«contained»"}],
	  "extension":[{"url":"http://example.org/nickname","valueString":"«extension»"}],
	  "identifier":[«run»,{"system":"mrn","value":"«mrn1»"},{"system":"urn:mrn","value":"«mrn»"},{"system":"http://hl7.org/fhir/sid/us-ssn","value":"«ssn»"}],
	  "name":[{"family":"«name»","given":["Ada"]}],"gender":"female","birthDate":"1970-01-02",
	  "telecom":[{"system":"phone","value":"«phone»"},{"system":"email","value":"«email»@example.org"}],
	  "address":[{"line":["1 «address» Street"],"city":"Springfield","state":"IL","postalCode":"62701"}],
	  "managingOrganization":{"reference":"#org"}}`,
	`{"resourceType":"Patient","id":"«p2»","identifier":[«run»],"name":[{"family":"«other»"}],"birthDate":"1980-03-04"}`,
	`{"resourceType":"Patient","id":"«id»","identifier":[«run»,{"system":"mrn","value":"«vmrn»"}],"name":[{"family":"Unseen"}]}`,
	`{"resourceType":"Encounter","id":"«e2»","status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/«p2»"}}`,
	`{"resourceType":"Observation","id":"«o1»","status":"final","category":[{"coding":[{"code":"laboratory"}]}],
	  "code":{"coding":[{"system":"http://loinc.org","code":"4548-4"}]},"subject":{"reference":"Patient/«p1»"},
	  "effectiveDateTime":"2024-05-06","valueString":"as seen on «date»","note":[{"text":"The patient said «note» twice."}]}`,
	`{"resourceType":"Observation","id":"«o2»","status":"final","category":[{"coding":[{"code":"vital-signs"}]}],
	  "code":{"coding":[{"system":"http://loinc.org","code":"8867-4"}]},"subject":{"reference":"Patient/«p2»"},
	  "effectiveDateTime":"2024-05-06","valueQuantity":{"value":72,"unit":"/min"},"note":[{"text":"«other»"}]}`,
	`{"resourceType":"Observation","id":"«mine»","status":"final","category":[{"coding":[{"code":"laboratory"}]}],"code":{"text":"x"},"subject":{"reference":"Patient/«patient»"}}`,
	`{"resourceType":"Observation","id":"«vobs»","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/«p1»"}}`,
	`{"resourceType":"DocumentReference","id":"«d1»","status":"current","subject":{"reference":"Patient/«p1»"},
	  "content":[{"attachment":{"contentType":"text/plain","data":"«attachment64»"}}]}`,
	`{"resourceType":"Binary","id":"«x2»","contentType":"text/plain","securityContext":{"reference":"Patient/«p2»"},"data":"«other64»"}`,
	`{"resourceType":"DocumentReference","id":"«d2»","status":"current","subject":{"reference":"Patient/«p2»"},"content":[{"attachment":{"url":"Binary/«x2»"}}]}`,
	`{"resourceType":"Provenance","id":"«v2»","target":[{"reference":"Patient/«p2»"}],"recorded":"2024-05-06T07:08:09Z","agent":[{"who":{"display":"Breakout suite"}}]}`,
	`{"resourceType":"Composition","id":"«c2»","status":"final","type":{"text":"x"},"subject":{"reference":"Patient/«p2»"},"date":"2024-05-06","author":[{"display":"Breakout suite"}],"title":"x"}`,
	`{"resourceType":"Task","id":"«t2»","status":"requested","intent":"order","for":{"reference":"Patient/«p2»"}}`,
	`{"resourceType":"Group","id":"«g2»","type":"person","actual":true,"member":[{"entity":{"reference":"Patient/«p2»"}}]}`,
	`{"resourceType":"List","id":"«l2»","status":"current","mode":"working","subject":{"reference":"Patient/«p2»"}}`,
	`{"resourceType":"Coverage","id":"«k1»","status":"active","beneficiary":{"reference":"Patient/«p1»"},"payor":[{"display":"Payor"}]}`,
}

// id is the id of the run with the name.
func (s *Suite) id(name string) string { return "bo" + s.run + "-" + name }

// onlyID is the id of one of the Patients that no other tenant has.
func (s *Suite) onlyID(p *party, i int) string { return s.id(fmt.Sprintf("only-%d-%d", p.index, i)) }

// mrn is an identifier that no other tenant has.
func (s *Suite) mrn(p *party) string { return fmt.Sprintf("V-%s-%d", s.run, p.index) }

// seed gives the tenant its records, in one transaction.
func (s *Suite) seed(ctx context.Context, p *party) error {
	replace := []string{
		"«run»", `{"system":"urn:breakout:run","value":"` + s.run + `"}`, "«mrn1»", s.run + "-10001", "«vmrn»", s.mrn(p),
		"«patient»", p.patient(s.id("p1")), "«vobs»", s.id(fmt.Sprintf("vobs-%d", p.index)),
	}
	for _, id := range shared {
		replace = append(replace, "«"+id+"»", s.id(id))
	}
	for _, place := range Places {
		c := Canary()
		p.canaries[place] = c
		replace = append(replace, "«"+place+"»", c, "«"+place+"64»", base64.StdEncoding.EncodeToString([]byte("dictated: "+c+".")))
	}
	filled := strings.NewReplacer(replace...)
	var entries, made []string
	for _, text := range records {
		var compact bytes.Buffer
		if err := json.Compact(&compact, []byte(filled.Replace(text))); err != nil {
			return fmt.Errorf("a record is not JSON: %w", err)
		}
		ref := refOf(compact.Bytes())
		entries, made = append(entries, Give(http.MethodPut, ref, compact.String())), append(made, ref)
	}
	for i := range s.walk {
		ref := "Patient/" + s.onlyID(p, i)
		entries = append(entries, Give(http.MethodPut, ref, filled.Replace(`{"resourceType":"Patient","id":"`+s.onlyID(p, i)+`","identifier":[«run»]}`)))
		made = append(made, ref)
	}
	x, err := s.post(ctx, p, Batch("transaction", entries...))
	if err != nil {
		return err
	}
	if x.Status != http.StatusOK {
		return fmt.Errorf("a transaction of %d entries is answered %d", len(entries), x.Status)
	}
	p.made = made
	return nil
}

// post sends a Bundle as the tenant's backend.
func (s *Suite) post(ctx context.Context, p *party, bundle string) (*Exchange, error) {
	return s.do(ctx, request{
		method: http.MethodPost, url: p.FHIRBase, body: bundle, actor: p.actors["backend"], header: http.Header{"Content-Type": {"application/fhir+json"}},
	})
}

// remove deletes what the run made in the tenant, the newest first, and returns
// what stays.
func (s *Suite) remove(ctx context.Context, p *party) (left []string, err error) {
	slices.Reverse(p.made)
	var refs []string
	for _, ref := range p.made {
		if !slices.Contains(refs, ref) {
			refs = append(refs, ref)
		}
	}
	p.made = nil
	for some := range slices.Chunk(refs, 100) {
		var entries []string
		for _, ref := range some {
			entries = append(entries, Ask(http.MethodDelete, ref))
		}
		x, err := s.post(ctx, p, Batch("batch", entries...))
		if err != nil {
			return append(left, refs...), fmt.Errorf("removing the records of %s: %w", p.Slug, err)
		}
		b, _ := x.bundle()
		statuses := b.statuses()
		for i, ref := range some {
			if i >= len(statuses) || !slices.Contains([]string{"200", "204", "404", "410"}, statuses[i]) {
				left = append(left, p.Slug+"/"+ref)
			}
		}
	}
	return left, nil
}
