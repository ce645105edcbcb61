package conformance

import (
	"encoding/base64"
	"testing"
)

// Group 7 of the breakout suite: paging, caches, answers that come later. TEN-32
func TestCursors(t *testing.T) { outside(t, 7) }

func decode64(s string) (string, error) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	return string(b), err
}

func encode64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
