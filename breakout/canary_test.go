package breakout

import (
	"encoding/base64"
	"slices"
	"testing"
)

// A hunt that cannot find anything proves nothing.
func TestHunterFindsEveryDisguise(t *testing.T) {
	canaries := map[string]string{"name": Canary(), "note": Canary()}
	h := NewHunter(map[string]map[string]string{"here": canaries})
	for place, canary := range canaries {
		for disguise, text := range Disguises(canary) {
			found := h.Find([]byte("xx" + text + "xx"))
			if !slices.ContainsFunc(found, func(w Word) bool { return w.Place == place && w.Disguise == disguise }) {
				t.Errorf("%s, %s: not found", place, disguise)
			}
		}
		for shift := range 3 {
			b64 := base64.StdEncoding.EncodeToString([]byte("xyz"[:shift] + canary + "tail"))
			if len(h.Find([]byte(b64))) == 0 {
				t.Errorf("%s in base64 behind %d bytes: not found", place, shift)
			}
		}
	}
	if found := h.Find([]byte(Canary())); len(found) > 0 {
		t.Errorf("found %v in a word of nobody", found)
	}
}
