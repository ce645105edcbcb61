package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/go-jose/go-jose/v4"
)

// newKey returns a private key for ES384, named by its thumbprint.
// https://www.rfc-editor.org/rfc/rfc7638
func newKey() (*jose.JSONWebKey, error) {
	private, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	key := &jose.JSONWebKey{Key: private, Algorithm: string(jose.ES384), Use: "sig"}
	thumb, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("naming a key: %w", err)
	}
	key.KeyID = base64.RawURLEncoding.EncodeToString(thumb)
	return key, nil
}

// readJWK reads the JWK in the file, private or public.
// https://www.rfc-editor.org/rfc/rfc7517
func readJWK(file string) (*jose.JSONWebKey, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading a key: %w", err)
	}
	var key jose.JSONWebKey
	if err := json.Unmarshal(text, &key); err != nil || !key.Valid() {
		return nil, fmt.Errorf("reading a key: %s does not hold a JWK", file)
	}
	return &key, nil
}

// readKey reads the private JWK in the file.
func readKey(file string) (*jose.JSONWebKey, error) {
	key, err := readJWK(file)
	if err == nil && key.IsPublic() {
		return nil, fmt.Errorf("reading a key: %s holds no private key", file)
	}
	return key, err
}

// keepKey reads the JWK in the file, and makes a private one if there is no
// file.
func keepKey(file string) (*jose.JSONWebKey, error) {
	key, err := readJWK(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if key, err = newKey(); err != nil {
		return nil, err
	}
	return key, writeJSON(file, key)
}
