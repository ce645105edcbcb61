// Package smarttest is what the tests of several packages share: tokens and
// assertions, signed as a client, a provider or a forger signs them.
package smarttest

import "github.com/go-jose/go-jose/v4"

// Sign returns claims as a JWT with the headers of o. It panics if the key is
// none for alg.
// https://www.rfc-editor.org/rfc/rfc7515#section-7.1
func Sign(alg jose.SignatureAlgorithm, key any, o *jose.SignerOptions, claims []byte) string {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, o)
	if err != nil {
		panic(err)
	}
	jws, err := signer.Sign(claims)
	if err != nil {
		panic(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		panic(err)
	}
	return text
}
