package smart

import (
	"encoding/base64"

	"github.com/go-json-experiment/json"
)

// decodeStrictly reads one part of a JWT into v: unpadded base64url, one JSON
// object, no member that v lacks, none twice, none in other letters of case.
func decodeStrictly(part string, v any) error {
	data, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, v, json.RejectUnknownMembers(true))
}
