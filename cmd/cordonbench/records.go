package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cordon-fhir/cordon/cmd/cordon/demo"
)

// A bundle is a transaction Bundle, as FHIR writes it.
// https://hl7.org/fhir/R4/bundle.html
type bundle struct {
	Entry []struct {
		Resource json.RawMessage `json:"resource"`
		Response struct {
			Status   string `json:"status"`
			Location string `json:"location"`
		} `json:"response"`
	} `json:"entry"`
}

// A bundleFile is a transaction Bundle to import.
type bundleFile struct {
	text    []byte
	entries int
}

// Seeds of the invented records: seedDev is that of `cordon dev --demo`, whose
// people are in each tenant already.
const (
	seedDev  = 1
	seedPool = 2
)

// bodies are resources without ids, to be created.
type bodies struct {
	patients     [][]byte
	observations [][]byte
}

// inventBodies returns n different Patients, and the Observations of the
// patients that every demo tenant has, so that what they refer to is there.
func inventBodies(n int) (bodies, error) {
	var all bodies
	err := invent(seedPool, n, "Patient", &all.patients)
	if err == nil {
		err = invent(seedDev, demoPatients, "Observation", &all.observations)
	}
	return all, err
}

// invent appends the demo records of a type, without ids.
func invent(seed uint64, patients int, resourceType string, into *[][]byte) error {
	for text := range demo.Bundles(seed, patients) {
		var b bundle
		if err := json.Unmarshal(text, &b); err != nil {
			return fmt.Errorf("reading demo records: %w", err)
		}
		for _, e := range b.Entry {
			var r map[string]json.RawMessage
			if err := json.Unmarshal(e.Resource, &r); err != nil {
				return fmt.Errorf("reading demo records: %w", err)
			}
			if string(r["resourceType"]) != `"`+resourceType+`"` {
				continue
			}
			delete(r, "id")
			body, err := json.Marshal(r)
			if err != nil {
				return fmt.Errorf("writing demo records: %w", err)
			}
			*into = append(*into, body)
		}
	}
	return nil
}

// withID returns the resource with an id and another telephone number.
func withID(resource []byte, id, phone string) ([]byte, error) {
	var r map[string]json.RawMessage
	if err := json.Unmarshal(resource, &r); err != nil {
		return nil, fmt.Errorf("reading demo records: %w", err)
	}
	r["id"] = json.RawMessage(`"` + id + `"`)
	r["telecom"] = json.RawMessage(`[{"system":"phone","value":"` + phone + `","use":"home"}]`)
	return json.Marshal(r)
}

// readBundles returns the Bundles to import and says what they are: real ones
// of Synthea if they are in dir, else invented ones of some dozen patients.
func readBundles(dir string) (what string, list []bundleFile, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "synthea", "*.json"))
	if err != nil {
		return "", nil, fmt.Errorf("listing Bundles: %w", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", nil, fmt.Errorf("reading Bundles: %w", err)
		}
		if list, err = appendBundle(list, text); err != nil {
			return "", nil, fmt.Errorf("reading %s: %w", filepath.Base(file), err)
		}
	}
	if len(list) > 0 {
		return "Synthea transaction Bundles", list, nil
	}
	n := 0
	for text := range demo.Bundles(seedDev, demoPatients+60) {
		if n++; n <= 1+demoPatients { // these are there
			continue
		}
		if list, err = appendBundle(list, text); err != nil {
			return "", nil, fmt.Errorf("reading demo records: %w", err)
		}
	}
	return "demo transaction Bundles (no Synthea data found)", list, nil
}

func appendBundle(list []bundleFile, text []byte) ([]bundleFile, error) {
	var b bundle
	if err := json.Unmarshal(text, &b); err != nil {
		return nil, err
	}
	return append(list, bundleFile{text, len(b.Entry)}), nil
}

// findData returns the folder of test data, "" if there is none: that of
// CORDON_TEST_DATA, else ../shared/data beside the repository.
func findData() string {
	if dir := os.Getenv("CORDON_TEST_DATA"); dir != "" {
		return dir
	}
	const beside = "../shared/data"
	if _, err := os.Stat(beside); err != nil {
		return ""
	}
	return beside
}

// A catalog is values of what was imported, for searches that find something.
type catalog struct {
	patients   []person
	pairs      []pair   // of patients and codes of their Observations
	codes      []string // the commonest codes of Observations, as system|code
	quantity   string   // the commonest code with a value, as system|code
	threshold  float64  // median of its values
	years      []string // with an Encounter
	activeOf   []string // ids of patients with an active Condition
	categories []string // of Observations
	since      string   // date at which the later half of Observations begins
	long       []pair   // with more than a page of Observations; of residents only
}

type person struct{ id, family, identifier, birthYear string }

type pair struct{ patient, code string }

// commonest is how many codes searches choose from.
const commonest = 12

// record is what the catalog reads of resources.
type record struct {
	ResourceType string `json:"resourceType"`
	Name         []struct {
		Family string `json:"family"`
	} `json:"name"`
	Identifier     []struct{ System, Value string } `json:"identifier"`
	BirthDate      string                           `json:"birthDate"`
	Subject        struct{ Reference string }       `json:"subject"`
	ClinicalStatus concept                          `json:"clinicalStatus"`
	Category       []concept                        `json:"category"`
	Effective      string                           `json:"effectiveDateTime"`
	Value          struct{ Value float64 }          `json:"valueQuantity"`
	Period         struct{ Start string }           `json:"period"`
}

type concept struct {
	Coding []struct{ System, Code string } `json:"coding"`
}

// codeOf reads the code of a resource: a CodeableConcept in those that the
// catalog asks.
func codeOf(resource []byte) string {
	var r struct {
		Code concept `json:"code"`
	}
	if json.Unmarshal(resource, &r) != nil || len(r.Code.Coding) == 0 {
		return ""
	}
	return r.Code.Coding[0].System + "|" + r.Code.Coding[0].Code
}

// A cataloger makes a catalog of Bundles and the answers to them.
type cataloger struct {
	catalog
	count  map[string]int
	values map[string][]float64
	dates  []string
	seen   map[string]bool
}

func newCataloger() *cataloger {
	return &cataloger{count: map[string]int{}, values: map[string][]float64{}, seen: map[string]bool{}}
}

// add reads a Bundle that was sent and its answer, which has the ids.
func (c *cataloger) add(sent, answered []byte) error {
	var request, response bundle
	if err := json.Unmarshal(sent, &request); err != nil {
		return fmt.Errorf("reading a Bundle: %w", err)
	}
	if err := json.Unmarshal(answered, &response); err != nil {
		return fmt.Errorf("reading the answer to a Bundle: %w", err)
	}
	if len(request.Entry) != len(response.Entry) {
		return errors.New("the answer to a Bundle has another number of entries")
	}
	var subject string // each Bundle is about one patient
	for i, e := range request.Entry {
		var r record
		// Of types whose elements of the same name have other shapes, what
		// does not fit is left out.
		_ = json.Unmarshal(e.Resource, &r)
		id := idOf(response.Entry[i].Response.Location)
		if r.ResourceType == "Patient" && len(r.Name) > 0 && len(r.Identifier) > 0 {
			subject = id
			c.patients = append(c.patients, person{id, r.Name[0].Family,
				r.Identifier[0].System + "|" + r.Identifier[0].Value, r.BirthDate[:4]})
		}
		c.note(subject, &r, e.Resource)
	}
	return nil
}

// note notes what one resource about the patient has.
func (c *cataloger) note(patient string, r *record, text []byte) {
	switch r.ResourceType {
	case "Observation":
		code := codeOf(text)
		c.count[code]++
		c.once("pair "+patient+" "+code, func() { c.pairs = append(c.pairs, pair{patient, code}) })
		if r.Value.Value > 0 {
			c.values[code] = append(c.values[code], r.Value.Value)
		}
		if len(r.Effective) > 10 {
			c.dates = append(c.dates, r.Effective[:10])
		}
		if len(r.Category) > 0 && len(r.Category[0].Coding) > 0 {
			category := r.Category[0].Coding[0].Code
			c.once("category "+category, func() { c.categories = append(c.categories, category) })
		}
	case "Encounter":
		if len(r.Period.Start) > 4 {
			year := r.Period.Start[:4]
			c.once("year "+year, func() { c.years = append(c.years, year) })
		}
	case "Condition":
		if len(r.ClinicalStatus.Coding) > 0 && r.ClinicalStatus.Coding[0].Code == "active" {
			c.once("active "+patient, func() { c.activeOf = append(c.activeOf, patient) })
		}
	}
}

func (c *cataloger) once(what string, fn func()) {
	if !c.seen[what] {
		c.seen[what] = true
		fn()
	}
}

// finish returns the catalog. It fails if a search shape would have no values.
func (c *cataloger) finish() (*catalog, error) {
	for code := range c.count {
		c.codes = append(c.codes, code)
	}
	slices.SortFunc(c.codes, func(a, b string) int {
		return cmp.Or(cmp.Compare(c.count[b], c.count[a]), cmp.Compare(a, b))
	})
	c.codes = c.codes[:min(len(c.codes), commonest)]
	for _, code := range c.codes {
		if v := c.values[code]; len(v) > len(c.values[c.quantity]) {
			slices.Sort(v)
			c.quantity, c.threshold = code, v[len(v)/2]
		}
	}
	slices.Sort(c.dates)
	if len(c.dates) > 0 {
		c.since = c.dates[len(c.dates)/2]
	}
	if len(c.patients) == 0 || len(c.pairs) == 0 || c.quantity == "" || c.since == "" ||
		len(c.years) == 0 || len(c.activeOf) == 0 || len(c.categories) == 0 {
		return nil, errors.New("what was imported is too little to search")
	}
	return &c.catalog, nil
}

// idOf returns the id in a location: [base]/Type/id[/_history/version].
func idOf(location string) string {
	location, _, _ = strings.Cut(location, "/_history/")
	return location[strings.LastIndexByte(location, '/')+1:]
}

// refused returns the first entry of a transaction's answer that was not done.
func refused(answer []byte, want int) error {
	// A status is all that tells: a created resource has 201, a changed 200.
	done := bytes.Count(answer, []byte(`"status":"20`))
	if done != want {
		return fmt.Errorf("%d of %d entries were done", done, want)
	}
	return nil
}
