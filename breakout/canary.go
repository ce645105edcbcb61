package breakout

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"
)

// Canary returns 16 letters and digits, of both cases: a word that exists
// nowhere else. One digit is always there: what is of letters alone could be the
// name of a parameter, which an answer may say.
func Canary() string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	var b [16]byte
	rand.Read(b[:])
	for i := range b {
		b[i] = letters[int(b[i])%len(letters)]
	}
	return "Q7" + string(b[2:15]) + "z"
}

// Disguises returns the forms in which a canary could come to light.
func Disguises(canary string) map[string]string {
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

// A Word is a disguised canary that was found, and whose it is.
type Word struct {
	Owner    string // slug of the tenant
	Place    string // what of a record it is
	Disguise string
	Plain    string // the canary
	text     string
}

// A Hunter finds canaries in bytes, in one pass.
type Hunter struct {
	begins [1 << 16]bool
	words  map[uint64][]Word // by their first eight bytes
}

// NewHunter returns one for the canaries of each tenant, by slug and place.
func NewHunter(canaries map[string]map[string]string) *Hunter {
	h := &Hunter{words: map[uint64][]Word{}}
	for owner, places := range canaries {
		for place, canary := range places {
			for disguise, text := range Disguises(canary) {
				h.begins[binary.LittleEndian.Uint16([]byte(text))] = true
				key := binary.LittleEndian.Uint64([]byte(text))
				h.words[key] = append(h.words[key], Word{owner, place, disguise, canary, text})
			}
		}
	}
	return h
}

// Find returns the canaries in b, each word once.
func (h *Hunter) Find(b []byte) []Word {
	var found []Word
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
