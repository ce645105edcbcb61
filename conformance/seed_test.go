package conformance

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	attacks "github.com/cordon-fhir/cordon/breakout"
)

// records are in every tenant, under the same ids. «place» stands for the
// tenant's canary. p1 is patient A, p2 patient B; what names p2 is hidden from
// patient A.
var records = []string{
	`{"resourceType":"Patient","id":"p1",
	  "meta":{"tag":[{"system":"http://example.org/tags","code":"«tag»"}]},
	  "text":{"status":"generated","div":"<div xmlns=\"http://www.w3.org/1999/xhtml\">«narrative»</div>"},
	  "contained":[{"resourceType":"Organization","id":"org","name":"«contained»"}],
	  "extension":[{"url":"http://example.org/nickname","valueString":"«extension»"}],
	  "identifier":[{"system":"mrn","value":"10001"},{"system":"urn:mrn","value":"«mrn»"},{"system":"http://hl7.org/fhir/sid/us-ssn","value":"«ssn»"}],
	  "name":[{"family":"«name»","given":["Ada"]}],"gender":"female","birthDate":"1970-01-02",
	  "telecom":[{"system":"phone","value":"«phone»"},{"system":"email","value":"«email»@example.org"}],
	  "address":[{"line":["1 «address» Street"],"city":"Springfield","state":"IL","postalCode":"62701"}],
	  "generalPractitioner":[{"reference":"Practitioner/dr1"}],
	  "managingOrganization":{"reference":"#org"}}`,
	`{"resourceType":"Patient","id":"p2","name":[{"family":"«other»"}],"birthDate":"1980-03-04","identifier":[{"system":"mrn","value":"10002"}]}`,
	`{"resourceType":"Patient","id":"«id»","name":[{"family":"Unseen"}]}`,
	`{"resourceType":"Patient","id":"v-only-«slug»","identifier":[{"system":"mrn","value":"V-777-«slug»"}],"name":[{"family":"Solitary"}]}`,
	`{"resourceType":"Patient","id":"v-kept-«slug»","name":[{"family":"Kept"}]}`,
	`{"resourceType":"Practitioner","id":"dr1","name":[{"family":"Curie"}]}`,
	`{"resourceType":"Practitioner","id":"dr2","name":[{"family":"Noether"}]}`,
	`{"resourceType":"Organization","id":"h1","name":"General Hospital"}`,
	`{"resourceType":"Encounter","id":"e1","status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/p1"}}`,
	`{"resourceType":"Encounter","id":"e2","status":"finished","class":{"code":"AMB"},"subject":{"reference":"Patient/p2"}}`,
	`{"resourceType":"Observation","id":"o1","status":"final","category":[{"coding":[{"code":"laboratory"}]}],
	  "code":{"coding":[{"system":"http://loinc.org","code":"4548-4"}]},"subject":{"reference":"Patient/p1"},
	  "effectiveDateTime":"2024-05-06","valueString":"as seen on «date»","note":[{"text":"The patient said «note» twice."}]}`,
	`{"resourceType":"Observation","id":"o2","status":"final","category":[{"coding":[{"code":"vital-signs"}]}],
	  "code":{"coding":[{"system":"http://loinc.org","code":"8867-4"}]},"subject":{"reference":"Patient/p2"},
	  "effectiveDateTime":"2024-05-06","valueQuantity":{"value":72,"unit":"/min"},"note":[{"text":"«other»"}]}`,
	`{"resourceType":"Observation","id":"v-obs-«slug»","status":"final","code":{"text":"x"},"subject":{"reference":"Patient/p1"}}`,
	`{"resourceType":"DocumentReference","id":"d1","status":"current","subject":{"reference":"Patient/p1"},
	  "content":[{"attachment":{"contentType":"text/plain","data":"«attachment64»"}}]}`,
	`{"resourceType":"Binary","id":"x2","contentType":"text/plain","securityContext":{"reference":"Patient/p2"},"data":"«other64»"}`,
	`{"resourceType":"DocumentReference","id":"d2","status":"current","subject":{"reference":"Patient/p2"},"content":[{"attachment":{"url":"Binary/x2"}}]}`,
	`{"resourceType":"Provenance","id":"v2","target":[{"reference":"Patient/p2"}],"recorded":"2024-05-06T07:08:09Z","agent":[{"who":{"reference":"Practitioner/dr1"}}]}`,
	`{"resourceType":"Consent","id":"c2","status":"active","scope":{"text":"privacy"},"category":[{"text":"privacy"}],"patient":{"reference":"Patient/p2"},"policyRule":{"text":"opt-in"}}`,
	`{"resourceType":"Task","id":"t2","status":"requested","intent":"order","for":{"reference":"Patient/p2"}}`,
	`{"resourceType":"Subscription","id":"s2","status":"off","reason":"«other»","criteria":"Observation?patient=p2","channel":{"type":"rest-hook"}}`,
	`{"resourceType":"CareTeam","id":"ct2","status":"active","subject":{"reference":"Patient/p2"},"participant":[{"member":{"reference":"Practitioner/nobody"}}]}`,
	`{"resourceType":"Group","id":"g2","type":"person","actual":true,"member":[{"entity":{"reference":"Patient/p2"}}]}`,
	`{"resourceType":"List","id":"l2","status":"current","mode":"working","subject":{"reference":"Patient/p2"}}`,
	`{"resourceType":"Coverage","id":"k1","status":"active","beneficiary":{"reference":"Patient/p1"},"payor":[{"reference":"Organization/h1"}]}`,
}

// seed gives the tenant its records.
func (p *party) seed(ctx context.Context) error {
	p.canaries = map[string]string{}
	replace := []string{"«slug»", p.slug}
	for _, place := range attacks.Places {
		c := attacks.Canary()
		p.canaries[place] = c
		replace = append(replace, "«"+place+"»", c, "«"+place+"64»", base64.StdEncoding.EncodeToString([]byte("dictated: "+c+".")))
	}
	filled := strings.NewReplacer(replace...)
	var entries []json.RawMessage
	put := func(text string) error {
		var compact bytes.Buffer
		if err := json.Compact(&compact, []byte(filled.Replace(text))); err != nil {
			return fmt.Errorf("a record is not JSON: %w: %s", err, text)
		}
		var r struct{ ResourceType, ID string }
		if err := json.Unmarshal(compact.Bytes(), &r); err != nil {
			return err
		}
		entries = append(entries, json.RawMessage(fmt.Sprintf(
			`{"resource":%s,"request":{"method":"PUT","url":"%s/%s"}}`, compact.Bytes(), r.ResourceType, r.ID)))
		return nil
	}
	for _, text := range records {
		if err := put(text); err != nil {
			return err
		}
	}
	for _, text := range compartmentRecords() {
		if err := put(text); err != nil {
			return err
		}
	}
	return p.post(ctx, entries)
}

// post sends entries as one transaction.
func (p *party) post(ctx context.Context, entries []json.RawMessage) error {
	body, err := json.Marshal(map[string]any{"resourceType": "Bundle", "type": "transaction", "entry": entries})
	if err != nil {
		return err
	}
	token, err := p.actors["backend"].Token(ctx)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.base, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/fhir+json")
	resp, err := p.sys.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("%s %s", resp.Status, text)
	}
	return nil
}
