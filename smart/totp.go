package smart

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/url"
	"time"
)

// One-time codes by time, as authenticator apps show them: six digits, HMAC
// with SHA-1, a new one every 30 seconds.
// https://www.rfc-editor.org/rfc/rfc6238
const (
	totpStep   = 30
	totpSecret = 20 // bytes
)

// NewTOTP returns the secret of one-time codes.
func NewTOTP() []byte {
	secret := make([]byte, totpSecret)
	rand.Read(secret)
	return secret
}

// TOTPURL returns the text of the QR code by which an authenticator app learns
// the secret.
func TOTPURL(issuer, login string, secret []byte) string {
	text := base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(secret)
	q := url.Values{"secret": {text}, "issuer": {issuer}}
	return "otpauth://totp/" + url.PathEscape(issuer+":"+login) + "?" + q.Encode()
}

// TOTP returns the code at the time.
func TOTP(secret []byte, at time.Time) string { return hotp(secret, at.Unix()/totpStep) }

// CheckTOTP returns the step that the code is of: that of now, or one next to
// it, as clocks differ. It reports false for any other.
func CheckTOTP(secret []byte, code string, now time.Time) (step int64, ok bool) {
	for _, at := range []int64{-1, 0, 1} {
		n := now.Unix()/totpStep + at
		if subtle.ConstantTimeCompare([]byte(hotp(secret, n)), []byte(code)) == 1 {
			step, ok = n, true
		}
	}
	return step, ok
}

// hotp is the code of a counter.
// https://www.rfc-editor.org/rfc/rfc4226#section-5.3
func hotp(secret []byte, counter int64) string {
	mac := hmac.New(sha1.New, secret)
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(counter)))
	sum := mac.Sum(nil)
	at := sum[len(sum)-1] & 0xf
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[at:])&0x7fffffff%1_000_000)
}
