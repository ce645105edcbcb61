package smart

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// What a client may be registered with, whoever registers it.
// https://www.rfc-editor.org/rfc/rfc7591

// ValidRedirectURI reports whether users may be sent to the address with a code.
// https://www.rfc-editor.org/rfc/rfc8252#section-7
func ValidRedirectURI(text string) bool {
	u, err := url.Parse(text)
	if err != nil || len(text) > 512 || u.Fragment != "" || strings.ContainsAny(text, "# \"'<>;,\\") || u.User != nil {
		return false
	}
	private := strings.Contains(u.Scheme, ".") && u.Opaque == ""
	return private || ValidAppURL(text)
}

// ValidAppURL reports whether text is an https URL, or http of this very machine.
func ValidAppURL(text string) bool {
	u, err := url.Parse(text)
	if err != nil || len(text) > 512 || u.User != nil || u.Fragment != "" {
		return false
	}
	local := u.Hostname() == "127.0.0.1" || u.Hostname() == "::1" || u.Hostname() == "localhost"
	return u.Host != "" && (u.Scheme == "https" || u.Scheme == "http" && local)
}

// ValidKeysURL reports whether a client may publish its keys at the address.
func ValidKeysURL(text string) bool { return ValidAppURL(text) && !strings.Contains(text, "#") }

// PublicKeys holds the keys to what the token endpoint will accept: public, for
// ES384 or RS384, each with a name of its own. It returns them without any
// member that is not of a public key.
func PublicKeys(jwks []byte) ([]byte, error) {
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(jwks, &set); err != nil || len(set.Keys) == 0 || len(set.Keys) > 10 {
		return nil, errors.New("jwks has to be a JSON Web Key Set of 1 to 10 keys")
	}
	seen := map[string]bool{}
	for _, k := range set.Keys {
		if !k.IsPublic() || !k.Valid() {
			return nil, errors.New("jwks may hold nothing but public keys")
		}
		if k.KeyID == "" || seen[k.KeyID] {
			return nil, errors.New("each key of jwks needs a kid of its own")
		}
		seen[k.KeyID] = true
		switch pub := k.Key.(type) {
		case *ecdsa.PublicKey:
			if pub.Curve.Params().BitSize != 384 {
				return nil, errors.New("an EC key of jwks has to be on P-384, for ES384")
			}
		case *rsa.PublicKey:
			if pub.N.BitLen() < 2048 {
				return nil, errors.New("an RSA key of jwks needs 2048 bits")
			}
		default:
			return nil, errors.New("a key of jwks has to be for ES384 or RS384")
		}
	}
	text, err := json.Marshal(set)
	if err != nil {
		return nil, fmt.Errorf("writing the keys of a client: %w", err)
	}
	return text, nil
}
