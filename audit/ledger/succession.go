package ledger

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// A Succession says that a log goes on under another key: the key before says so.
// All that is signed under the other carries it, in lines at the end of the text,
// with those before it. So whoever has the first key, or any after it, can verify
// what was signed with each of them.
type Succession struct {
	From, To string // public keys, as ParseKey reads them
	Since    time.Time
	// Until is when what From alone has signed counts no longer.
	Until     time.Time
	signature string // of From, in base64
}

// text is what the key before signs. Its second line is that of nothing else.
func (s Succession) text() string {
	return fmt.Sprintf("%s\nnext key %s\nafter %s\nsince %s\nuntil %s\n",
		nameOf(s.From), s.To, s.From, s.Since.UTC().Format(timeForm), s.Until.UTC().Format(timeForm))
}

// String returns s in the one way in which it is written: a line.
func (s Succession) String() string {
	return fmt.Sprintf("%s%s after %s since %s until %s signed %s\n",
		isSuccession, s.To, s.From, s.Since.UTC().Format(timeForm), s.Until.UTC().Format(timeForm), s.signature)
}

// isSuccession begins the line of a Succession.
const isSuccession = "next key "

// nameOf returns the name of a public key.
func nameOf(key string) string {
	name, _, _ := strings.Cut(key, "+")
	return name
}

// shortOf names a public key for people: its name and its hash.
func shortOf(key string) string {
	if name, rest, ok := strings.Cut(key, "+"); ok {
		hash, _, _ := strings.Cut(rest, "+")
		return name + "+" + hash
	}
	return key
}

// Succeed says that the log goes on under the key to. by signs with the key before.
func Succeed(by Signer, from, to string, since, until time.Time) (Succession, error) {
	s := Succession{From: from, To: to, Since: since.UTC().Truncate(time.Millisecond), Until: until.UTC().Truncate(time.Millisecond)}
	signature, err := by.Sign([]byte(s.text()))
	if err != nil {
		return s, fmt.Errorf("signing the next key of %s: %w", by.Name(), err)
	}
	s.signature = base64.StdEncoding.EncodeToString(signature)
	return s, s.check()
}

var errSuccession = errors.New("ledger: malformed line about a next key")

// ParseSuccession reads what String wrote, of which the key before has to be the
// signer.
func ParseSuccession(line string) (s Succession, err error) {
	f := strings.Split(strings.TrimSuffix(line, "\n"), " ")
	if len(f) != 11 {
		return s, errSuccession
	}
	s = Succession{From: f[4], To: f[2], signature: f[10]}
	var err2 error
	s.Since, err = time.Parse(timeForm, f[6])
	s.Until, err2 = time.Parse(timeForm, f[8])
	if err != nil || err2 != nil || s.String() != line {
		return Succession{}, errSuccession
	}
	return s, s.check()
}

// check returns an error unless the key before has signed s, and both are of one log.
func (s Succession) check() error {
	from, err := ParseKey(s.From)
	if err != nil {
		return errSuccession
	}
	to, err := ParseKey(s.To)
	if err != nil || to.Name() != from.Name() || s.From == s.To {
		return errSuccession
	}
	signature, err := base64.StdEncoding.Strict().DecodeString(s.signature)
	if err != nil || !from.Verify([]byte(s.text()), signature) {
		return &StrangeKey{shortOf(s.To)}
	}
	return nil
}

// A StrangeKey says that something is signed with a key, or names one, that no key
// that is believed has named as the next.
type StrangeKey struct{ Key string }

func (e *StrangeKey) Error() string {
	return "ledger: no key of the log that is believed has named the key " + e.Key
}

// A Holder is a Signer for a log whose key was changed.
type Holder struct {
	Signer // that of the newest key
	// Older are those of keys before it that count still: they sign checkpoints too.
	Older []Signer
	Keys  []Succession
}

// SignText returns the text as a note that is signed, with how by came to be the
// signer of its log.
// https://pkg.go.dev/golang.org/x/mod/sumdb/note
func SignText(text string, by Signer) ([]byte, error) { return signText(text, by, false) }

func signText(text string, by Signer, overlapping bool) ([]byte, error) {
	signers := []Signer{by}
	if h, ok := by.(*Holder); ok {
		for _, s := range h.Keys {
			text += s.String()
		}
		if overlapping {
			signers = append(signers, h.Older...)
		}
	}
	return note.Sign(&note.Note{Text: text}, signers...)
}

// A Trust is the keys of a log that are believed: one that was given, those that it
// or one after it has named as the next, and those before it which these say were.
type Trust struct {
	name    string
	keys    map[string]*believed // by their text
	checked map[string]Succession
}

type believed struct {
	Key
	until time.Time // zero for one that has no next
}

// NewTrust returns the Trust of who believes the key.
func NewTrust(key Key) *Trust {
	return &Trust{key.Name(), map[string]*believed{key.text: {Key: key}}, map[string]Succession{}}
}

// Knows reports whether the key is believed.
func (t *Trust) Knows(key Key) bool { return t.keys[key.text] != nil }

// Follow takes in how the log went on under other keys.
func (t *Trust) Follow(chain []Succession) error {
	_, err := t.newest(chain)
	if err == nil {
		t.believe(chain)
	}
	return err
}

// OpenText returns the text of a note that a key of the log has signed, without the
// lines about keys.
func (t *Trust) OpenText(signed []byte) (string, error) {
	o, err := t.open(signed)
	return o.text, err
}

// opened is a note that is believed.
type opened struct {
	text       string // without the lines about keys
	whole      string
	keys       []Succession
	by         *believed
	signatures []note.Signature // all of them
}

// open reads a note. The newest of the keys that it names has to be believed, and to
// have signed it; if it names none, one that is believed.
func (t *Trust) open(signed []byte) (o opened, err error) {
	_, err = note.Open(signed, note.VerifierList())
	var unverified *note.UnverifiedNoteError
	if !errors.As(err, &unverified) {
		return o, err
	}
	o.whole, o.signatures = unverified.Note.Text, unverified.Note.UnverifiedSigs
	if o.text, o.keys, err = t.cut(o.whole); err != nil {
		return o, err
	}
	by, err := t.newest(o.keys)
	if err != nil {
		return o, err
	}
	n, err := note.Open(signed, note.VerifierList(by...))
	if errors.As(err, &unverified) {
		return o, &StrangeKey{fmt.Sprintf("%s+%08x", o.signatures[0].Name, o.signatures[0].Hash)}
	}
	if err != nil {
		return o, err
	}
	t.believe(o.keys)
	for _, k := range t.keys {
		if k.Name() == n.Sigs[0].Name && k.KeyHash() == n.Sigs[0].Hash {
			o.by = k
		}
	}
	return o, nil
}

// cut takes the lines about keys from the end of a text.
func (t *Trust) cut(text string) (string, []Succession, error) {
	var keys []Succession
	for {
		at := strings.LastIndexByte(strings.TrimSuffix(text, "\n"), '\n') + 1
		line := text[at:]
		if !strings.HasPrefix(line, isSuccession) {
			slices.Reverse(keys)
			return text, keys, nil
		}
		s, known := t.checked[line]
		if !known {
			var err error
			if s, err = ParseSuccession(line); err != nil {
				return "", nil, err
			}
			t.checked[line] = s
		}
		keys, text = append(keys, s), text[:at]
	}
}

// newest returns the key at the end of the chain; without a chain, all keys.
func (t *Trust) newest(chain []Succession) ([]note.Verifier, error) {
	if len(chain) == 0 {
		list := make([]note.Verifier, 0, len(t.keys))
		for _, k := range t.keys {
			list = append(list, k.Key)
		}
		return list, nil
	}
	last := chain[len(chain)-1].To
	known := t.keys[last] != nil
	for i, s := range chain {
		if i > 0 && s.From != chain[i-1].To || nameOf(s.From) != t.name {
			return nil, errSuccession
		}
		known = known || t.keys[s.From] != nil
	}
	if !known {
		return nil, &StrangeKey{shortOf(last)}
	}
	key, err := ParseKey(last)
	return []note.Verifier{key}, err
}

// believe takes in a chain whose newest key is believed: a key before another was
// one of the log, as that one has signed.
func (t *Trust) believe(chain []Succession) {
	for i, until := range Ends(chain) {
		s := chain[i]
		for _, text := range []string{s.From, s.To} {
			if t.keys[text] == nil {
				key, _ := ParseKey(text) // it was checked
				t.keys[text] = &believed{Key: key}
			}
		}
		t.keys[s.From].until = until
	}
}

// Ends returns until when each of the keys that have a next one counts: no longer
// than one that came after it.
func Ends(chain []Succession) []time.Time {
	ends := make([]time.Time, len(chain))
	for i, s := range slices.Backward(chain) {
		if ends[i] = s.Until; i+1 < len(chain) && ends[i+1].Before(s.Until) {
			ends[i] = ends[i+1]
		}
	}
	return ends
}

// GoesOn reports whether keys are those before, and perhaps more.
func GoesOn(keys, before []Succession) bool {
	return len(keys) >= len(before) && slices.EqualFunc(keys[:len(before)], before, func(a, b Succession) bool { return a.String() == b.String() })
}
