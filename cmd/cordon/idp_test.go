package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAServerElsewhereIsDescribedByAnObjectWithItsSecretApart(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	secret := file("secret", "s3cret\n")
	got, err := readWithSecret(file("good.json", `{"issuer": "https://id.example"}`), secret)
	if err != nil || got["issuer"] != "https://id.example" || got["client_secret"] != "s3cret" {
		t.Errorf("got %v, %v", got, err)
	}
	for _, text := range []string{"null", "[]", "{", ""} {
		if got, err := readWithSecret(file("bad.json", text), secret); err == nil {
			t.Errorf("%q: got %v", text, got)
		}
	}
}
