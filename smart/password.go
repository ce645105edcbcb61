package smart

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/sync/semaphore"
	"golang.org/x/text/unicode/norm"
)

// The cost of a guess: Argon2id over 19 MiB, twice.
// https://www.rfc-editor.org/rfc/rfc9106
const (
	argonMemory = 19 << 10 // KiB
	argonTime   = 2
	argonSalt   = 16
	argonKey    = 32
)

// The bounds of a password, in bytes. Length is what makes one good, so no
// kinds of characters are asked for.
// https://pages.nist.gov/800-63-4/sp800-63b.html#passwordver
const (
	minPassword = 12
	maxPassword = 256
)

// loginName is what the login of a user looks like.
var loginName = regexp.MustCompile(`^[a-z0-9][a-z0-9._@+-]{0,99}$`)

// ValidLogin reports whether a user can have the login.
func ValidLogin(name string) bool { return loginName.MatchString(name) }

// hashing bounds the memory and the processors that logins take, whoever asks.
var hashing = semaphore.NewWeighted(int64(max(1, runtime.GOMAXPROCS(0)/2)))

// CheckPassword says what is wrong with a password that somebody chose.
func CheckPassword(password string) error {
	switch {
	case len(password) < minPassword:
		return fmt.Errorf("a password has at least %d bytes", minPassword)
	case len(password) > maxPassword:
		return fmt.Errorf("a password has at most %d bytes", maxPassword)
	case !utf8.ValidString(password) || strings.ContainsFunc(password, unicode.IsControl):
		return errors.New("a password has no control characters")
	}
	return nil
}

// HashPassword returns what may be kept of a password, for IsPassword.
func HashPassword(ctx context.Context, password string) (string, error) {
	salt := make([]byte, argonSalt)
	rand.Read(salt)
	key, err := derive(ctx, password, salt)
	if err != nil {
		return "", err
	}
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("%s%s$%s", argonPrefix, b64.EncodeToString(salt), b64.EncodeToString(key)), nil
}

// argonPrefix begins every hash: another cost would have another.
var argonPrefix = fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=1$", argon2.Version, argonMemory, argonTime)

// nobodysHash is what a password is held against if there is no account: it
// takes as long, and no password fits.
var nobodysHash = argonPrefix + base64.RawStdEncoding.EncodeToString(make([]byte, argonSalt)) + "$" +
	base64.RawStdEncoding.EncodeToString(make([]byte, argonKey))

// IsPassword reports whether hash is of the password. It takes the same time
// for a hash that is "", which no password is of. An error means that ctx ended
// before its turn came.
func IsPassword(ctx context.Context, hash, password string) (bool, error) {
	none := hash == ""
	if none {
		hash = nobodysHash
	}
	salt, want, err := parseHash(hash)
	if err != nil {
		return false, err
	}
	if len(password) > maxPassword {
		password = ""
	}
	key, err := derive(ctx, password, salt)
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(key, want) == 1 && !none, nil
}

func parseHash(hash string) (salt, key []byte, err error) {
	rest, ok := strings.CutPrefix(hash, argonPrefix)
	first, second, both := strings.Cut(rest, "$")
	salt, err1 := base64.RawStdEncoding.DecodeString(first)
	key, err2 := base64.RawStdEncoding.DecodeString(second)
	if !ok || !both || err1 != nil || err2 != nil || len(salt) != argonSalt || len(key) != argonKey {
		return nil, nil, errors.New("smart: malformed hash of a password")
	}
	return salt, key, nil
}

// derive takes its turn. The same characters may be typed in more than one
// way, so they are brought to one form first.
func derive(ctx context.Context, password string, salt []byte) ([]byte, error) {
	if err := hashing.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("waiting to hash a password: %w", err)
	}
	defer hashing.Release(1)
	return argon2.IDKey(norm.NFKC.Bytes([]byte(password)), salt, argonTime, argonMemory, 1, argonKey), nil
}
