package evidence

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/cordon-fhir/cordon/audit/ledger"
)

// A Statement is what the control plane signs: which files it wrote itself, and
// which it was given by the operator, for whom it vouches no further.
type Statement struct {
	Origin string // of the tenant's audit log, whose key signs
	Time   time.Time
	Stated []Sum
	Given  []Sum
}

// A Sum names a file and the hash of its content.
type Sum struct {
	SHA256 string `json:"sha256"` // in hexadecimal
	File   string `json:"file"`
}

// SumOf is the Sum of a file.
func SumOf(name string, content []byte) Sum {
	sum := sha256.Sum256(content)
	return Sum{hex.EncodeToString(sum[:]), name}
}

const timeForm = "2006-01-02T15:04:05Z"

// text is what is signed. Its first line is that of no checkpoint, so that neither
// can be taken for the other.
func (s Statement) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s evidence\ntime %s\n", s.Origin, s.Time.UTC().Format(timeForm))
	for _, sum := range s.Stated {
		fmt.Fprintf(&b, "stated %s %s\n", sum.SHA256, sum.File)
	}
	for _, sum := range s.Given {
		fmt.Fprintf(&b, "given %s %s\n", sum.SHA256, sum.File)
	}
	return b.String()
}

// Sign returns s as a signed note.
// https://pkg.go.dev/golang.org/x/mod/sumdb/note
func (s Statement) Sign(by ledger.Signer) ([]byte, error) {
	signed, err := ledger.SignText(s.text(), by)
	if err != nil {
		return nil, fmt.Errorf("signing evidence of %s: %w", s.Origin, err)
	}
	return signed, nil
}

var (
	errStatement = errors.New("evidence: malformed statement")
	sumForm      = regexp.MustCompile(`^(stated|given) ([0-9a-f]{64}) ([a-z]+\.[a-z]+)$`)
)

// CheckGiven says whether somebody may give a file of the name and hash to be
// signed for.
func CheckGiven(s Sum) error {
	m := sumForm.FindStringSubmatch("given " + s.SHA256 + " " + s.File)
	if m == nil || !isGiven(s.File) {
		return errors.New("a file is named by its SHA-256, and one of " + strings.Join(givenFiles, ", "))
	}
	return nil
}

// OpenStatement returns the Statement in a note that is signed by the key, or by one
// that came after it. There is one way to write each.
func OpenStatement(signed []byte, by ledger.Key) (Statement, error) {
	return openStatement(signed, by.Name(), ledger.NewTrust(by))
}

func openStatement(signed []byte, origin string, by *ledger.Trust) (Statement, error) {
	text, err := by.OpenText(signed)
	if err != nil {
		return Statement{}, fmt.Errorf("opening a statement: %w", err)
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) < 2 {
		return Statement{}, errStatement
	}
	s := Statement{Origin: origin}
	at, _ := strings.CutPrefix(lines[1], "time ")
	if s.Time, err = time.Parse(timeForm, at); err != nil {
		return Statement{}, errStatement
	}
	for _, line := range lines[2:] {
		m := sumForm.FindStringSubmatch(line)
		switch {
		case m == nil:
			return Statement{}, errStatement
		case m[1] == "stated":
			s.Stated = append(s.Stated, Sum{m[2], m[3]})
		default:
			s.Given = append(s.Given, Sum{m[2], m[3]})
		}
	}
	if s.text() != text {
		return Statement{}, errStatement
	}
	return s, nil
}
