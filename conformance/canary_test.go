package conformance

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
)

// places are where each tenant has a canary: a word that exists nowhere else.
var places = []string{
	"name", "address", "phone", "email", "mrn", "ssn", "date", "note", "attachment",
	"contained", "narrative", "extension", "id", "tag", "other",
}

// newCanary returns 16 letters and digits, of both cases. One digit is always
// there: what is of letters alone could be the name of a parameter, which an
// answer may say.
func newCanary() string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	var b [16]byte
	rand.Read(b[:])
	for i := range b {
		b[i] = letters[int(b[i])%len(letters)]
	}
	return "Q7" + string(b[2:15]) + "z"
}

// disguises returns the forms in which a canary could come to light.
func disguises(canary string) map[string]string {
	all := map[string]string{
		"as it is": canary, "in lower case": strings.ToLower(canary), "in upper case": strings.ToUpper(canary),
		"in hex": hex.EncodeToString([]byte(canary)), "in upper hex": strings.ToUpper(hex.EncodeToString([]byte(canary))),
	}
	b := []byte(canary)
	slices.Reverse(b)
	all["reversed"] = string(b)
	// Base64 of a text around it, at each of three alignments, less the
	// letters that depend on the neighbours.
	for shift, name := range []string{"in base64", "in base64, shifted by one", "in base64, shifted by two"} {
		text := base64.StdEncoding.EncodeToString(append(make([]byte, shift), canary...))
		from := (shift*8 + 5) / 6
		to := (shift + len(canary)) * 8 / 6
		all[name] = text[from:to]
	}
	return all
}

// A word is a disguised canary, and whose it is.
type word struct {
	text      string
	disguise  string
	place     string
	party     *party
	plainText string
}

// A hunter finds canaries in bytes, in one pass.
type hunter struct {
	begins [1 << 16]bool
	words  map[uint64][]word // by their first eight bytes
}

func newHunter(parties []*party, except ...string) *hunter {
	h := &hunter{words: map[uint64][]word{}}
	for _, p := range parties {
		for place, canary := range p.canaries {
			if slices.Contains(except, place) {
				continue
			}
			for disguise, text := range disguises(canary) {
				h.begins[binary.LittleEndian.Uint16([]byte(text))] = true
				key := binary.LittleEndian.Uint64([]byte(text))
				h.words[key] = append(h.words[key], word{text, disguise, place, p, canary})
			}
		}
	}
	return h
}

// find returns the canaries in b, each word once.
func (h *hunter) find(b []byte) []word {
	var found []word
	for i := 0; i+8 <= len(b); i++ {
		if !h.begins[binary.LittleEndian.Uint16(b[i:])] {
			continue
		}
		for _, w := range h.words[binary.LittleEndian.Uint64(b[i:])] {
			if bytes.HasPrefix(b[i:], []byte(w.text)) && !slices.Contains(found, w) {
				found = append(found, w)
			}
		}
	}
	return found
}

// A hunt that cannot find anything proves nothing.
func TestHunterFindsEveryDisguise(t *testing.T) {
	p := &party{slug: "here", canaries: map[string]string{"name": newCanary(), "note": newCanary()}}
	h := newHunter([]*party{p})
	for place, canary := range p.canaries {
		for disguise, text := range disguises(canary) {
			found := h.find([]byte("xx" + text + "xx"))
			if !slices.ContainsFunc(found, func(w word) bool { return w.place == place && w.disguise == disguise }) {
				t.Errorf("%s, %s: not found", place, disguise)
			}
		}
		for shift := range 3 {
			b64 := base64.StdEncoding.EncodeToString([]byte("xyz"[:shift] + canary + "tail"))
			if len(h.find([]byte(b64))) == 0 {
				t.Errorf("%s in base64 behind %d bytes: not found", place, shift)
			}
		}
	}
	if found := h.find([]byte(newCanary())); len(found) > 0 {
		t.Errorf("found %v in a word of nobody", found)
	}
}
