package evidence

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/cordon-fhir/cordon/audit/ledger"
)

// The files of a pack.
const (
	FactsFile      = "facts.json"
	PolicyFile     = "policy.cedar"
	ResultsFile    = "results.json"
	AuditFile      = "audit.json"
	CheckpointFile = "checkpoint.txt"
	statementFile  = "statement.txt" // the note that is signed
	readmeFile     = "README.md"     // what the others say, for people
)

var givenFiles = []string{ResultsFile, AuditFile, CheckpointFile}

func isGiven(name string) bool { return slices.Contains(givenFiles, name) }

// maxFile bounds a file of a pack, in bytes.
const maxFile = 64 << 20

// Audit is what verifying the tenant's audit trail found.
type Audit struct {
	Key         string    `json:"key"`
	At          time.Time `json:"at"`
	Took        string    `json:"took"`
	Entries     int64     `json:"entries"`
	Signed      int64     `json:"signed"`
	Waiting     int64     `json:"waiting"`
	Removed     int64     `json:"removed,omitempty"` // when their time was up
	Checkpoints int       `json:"checkpoints"`
	Newest      time.Time `json:"newest"`
	// Faults are those that were found, one a line.
	Faults []string `json:"faults"`
}

// A Pack is the files of an evidence pack by name, but for the README, which is
// made of them.
type Pack map[string][]byte

// Write makes the directory, which must not be there, and writes the pack and the
// signed statement about it into it. It returns what the pack says.
func (p Pack) Write(dir string, statement []byte, by ledger.Key) (Contents, error) {
	p[statementFile] = statement
	c, err := p.open(by)
	if err != nil {
		return c, err
	}
	p[readmeFile] = []byte(c.Readme())
	if err := os.Mkdir(dir, 0o755); err != nil {
		return c, fmt.Errorf("writing evidence: %w", err)
	}
	for name, content := range p {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return c, fmt.Errorf("writing evidence: %w", err)
		}
	}
	return c, nil
}

// Verify reads a pack from a directory. The error says what in it is not as it was
// signed with the key, or is not signed.
func Verify(dir fs.FS, by ledger.Key) (Contents, error) {
	entries, err := fs.ReadDir(dir, ".")
	if err != nil {
		return Contents{}, fmt.Errorf("reading evidence: %w", err)
	}
	p := Pack{}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return Contents{}, fmt.Errorf("reading evidence: %w", err)
		}
		if !info.Mode().IsRegular() || info.Size() > maxFile {
			return Contents{}, fmt.Errorf("evidence: %s is no file of a pack", e.Name())
		}
		if p[e.Name()], err = fs.ReadFile(dir, e.Name()); err != nil {
			return Contents{}, fmt.Errorf("reading evidence: %w", err)
		}
	}
	readme := p[readmeFile]
	delete(p, readmeFile)
	c, err := p.open(by)
	if err != nil {
		return Contents{}, err
	}
	if !bytes.Equal(readme, []byte(c.Readme())) {
		return Contents{}, errors.New("evidence: " + readmeFile + " says something else than what is signed")
	}
	return c, nil
}

// Contents are what a pack says.
type Contents struct {
	Statement Statement
	Facts     Facts
	Results   *Results // nil: none were given
	Audit     *Audit   // nil: the audit trail was not verified
	// Checkpoint is the newest of the audit log when the pack was made, nil if none
	// was given.
	Checkpoint *ledger.Checkpoint
}

// open reads the files: each must be in the statement, and be as that says.
func (p Pack) open(by ledger.Key) (c Contents, err error) {
	trust := ledger.NewTrust(by)
	if c.Statement, err = openStatement(p[statementFile], by.Name(), trust); err != nil {
		return c, err
	}
	want := slices.Concat(c.Statement.Stated, c.Statement.Given)
	for name, content := range p {
		if name != statementFile && !slices.Contains(want, SumOf(name, content)) {
			return c, fmt.Errorf("evidence: %s is not as it was signed, or not signed", name)
		}
	}
	for _, sum := range want {
		if p[sum.File] == nil {
			return c, fmt.Errorf("evidence: %s is missing", sum.File)
		}
	}
	for _, name := range []string{FactsFile, PolicyFile} {
		if !slices.Contains(c.Statement.Stated, SumOf(name, p[name])) {
			return c, fmt.Errorf("evidence: %s is not stated", name)
		}
	}
	if err := read(p, FactsFile, &c.Facts); err != nil {
		return c, err
	}
	if SumOf("", p[PolicyFile]).SHA256 != c.Facts.Policy.SHA256 || ledger.Origin(c.Facts.Tenant.Slug) != by.Name() {
		return c, errors.New("evidence: the facts are of another tenant or policy")
	}
	return c, c.given(p, trust)
}

// given reads what the operator added.
func (c *Contents) given(p Pack, by *ledger.Trust) error {
	if p[ResultsFile] != nil {
		c.Results = new(Results)
		if err := read(p, ResultsFile, c.Results); err != nil {
			return err
		}
	}
	if p[CheckpointFile] != nil {
		checkpoint, err := by.Open(p[CheckpointFile])
		if err != nil {
			return err
		}
		c.Checkpoint = &checkpoint
	}
	if p[AuditFile] == nil {
		return nil
	}
	c.Audit = new(Audit)
	if err := read(p, AuditFile, c.Audit); err != nil {
		return err
	}
	if key, err := ledger.ParseKey(c.Audit.Key); err != nil || !by.Knows(key) {
		return errors.New("evidence: the audit trail was verified with another key")
	}
	return nil
}

func read(p Pack, name string, into any) error {
	dec := json.NewDecoder(bytes.NewReader(p[name]))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("evidence: reading %s: %w", name, err)
	}
	return nil
}
