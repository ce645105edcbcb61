package ledger

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A Checkpoint says what a log held at a time.
//
// https://github.com/C2SP/C2SP/blob/main/tlog-checkpoint.md
type Checkpoint struct {
	Origin string
	Size   int64
	Root   tlog.Hash
	Time   time.Time
	// Keys are how its log came to the key that signs it.
	Keys []Succession
}

// text is what is signed: the log, its size and its hash, and the time.
func (c Checkpoint) text() string {
	return fmt.Sprintf("%s\n%d\n%s\ntime %s\n", c.Origin, c.Size, base64.StdEncoding.EncodeToString(c.Root[:]), c.Time.UTC().Format(timeForm))
}

const timeForm = "2006-01-02T15:04:05.000Z"

// Sign returns c as a signed note.
// https://pkg.go.dev/golang.org/x/mod/sumdb/note
func (c Checkpoint) Sign(by Signer) ([]byte, error) {
	signed, err := signText(c.text(), by, true)
	if err != nil {
		return nil, fmt.Errorf("signing a checkpoint of %s: %w", c.Origin, err)
	}
	return signed, nil
}

// errCheckpoint says that a text is not the one of a checkpoint.
var errCheckpoint = errors.New("ledger: malformed checkpoint")

// Open returns the checkpoint in a note that is signed by the key, or by one that
// came after it. There is one way to write each.
func Open(signed []byte, by Key) (Checkpoint, error) { return NewTrust(by).Open(signed) }

// Open returns the checkpoint in a note that is signed by a key of the log.
func (t *Trust) Open(signed []byte) (Checkpoint, error) {
	o, err := t.open(signed)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("opening a checkpoint: %w", err)
	}
	lines := strings.Split(o.text, "\n")
	if len(lines) != 5 || lines[0] != t.name {
		return Checkpoint{}, errCheckpoint
	}
	c := Checkpoint{Origin: lines[0], Keys: o.keys}
	if c.Size, err = strconv.ParseInt(lines[1], 10, 64); err != nil || c.Size < 0 {
		return Checkpoint{}, errCheckpoint
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return Checkpoint{}, errCheckpoint
	}
	c.Root = tlog.Hash(root)
	at, ok := strings.CutPrefix(lines[3], "time ")
	if c.Time, err = time.Parse(timeForm, at); err != nil || !ok || c.text() != o.text {
		return Checkpoint{}, errCheckpoint
	}
	return c, nil
}

// A Key is a public key that verifies checkpoints. Its name is that of the log.
type Key struct {
	note.Verifier
	text string
}

// ParseKey reads a Key as it is shown: NAME+HASH+KEY.
func ParseKey(text string) (Key, error) {
	text = strings.TrimSpace(text)
	k, err := note.NewVerifier(text)
	if err != nil {
		return Key{}, errors.New("ledger: malformed key")
	}
	return Key{k, text}, nil
}
