package keys

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// fileKMS keeps each key-encryption key in a file. It is for development: who
// can read the directory can read every tenant.
type fileKMS struct{ dir string }

// NewFileKMS returns a KMS that keeps its keys in dir, which it makes if there
// is none. The key file://NAME is the file NAME.kek there; it is made when it
// is first used to encrypt, never to decrypt. A directory that others may write
// to and a file that others may read are refused.
func NewFileKMS(dir string) (KMS, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the directory of key-encryption keys: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("looking at the directory of key-encryption keys: %w", err)
	}
	if info.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("keys: others may write to %s; want mode 0700", dir)
	}
	return fileKMS{dir}, nil
}

const filePrefix = "file://"

var kekName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// Supported reports whether uri is file://NAME.
func (k fileKMS) Supported(uri string) bool {
	name, ok := strings.CutPrefix(uri, filePrefix)
	return ok && kekName.MatchString(name)
}

// GetAEAD returns the key that uri names. It reads the file at each use, so a
// file that was taken away is gone at once.
func (k fileKMS) GetAEAD(uri string) (tink.AEAD, error) {
	if !k.Supported(uri) {
		return nil, errors.New("keys: want file://NAME of a-z 0-9 and hyphen")
	}
	return kekFile(filepath.Join(k.dir, strings.TrimPrefix(uri, filePrefix)+".kek")), nil
}

// kekFile is the path of one key-encryption key.
type kekFile string

// Encrypt makes the file if there is none.
func (f kekFile) Encrypt(plaintext, ad []byte) ([]byte, error) {
	a, err := f.load()
	if errors.Is(err, fs.ErrNotExist) {
		if err = f.create(); err == nil {
			a, err = f.load()
		}
	}
	if err != nil {
		return nil, err
	}
	return a.Encrypt(plaintext, ad)
}

// Decrypt fails if there is no file: a new key could open nothing.
func (f kekFile) Decrypt(ciphertext, ad []byte) ([]byte, error) {
	a, err := f.load()
	if err != nil {
		return nil, err
	}
	return a.Decrypt(ciphertext, ad)
}

// maxKEKFile bounds what is read of a file that is not ours.
const maxKEKFile = 64 << 10

func (f kekFile) load() (tink.AEAD, error) {
	file, err := os.Open(string(f))
	if err != nil {
		return nil, fmt.Errorf("opening a key-encryption key: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("looking at a key-encryption key: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("keys: others may use %s; want a file of mode 0600", f)
	}
	h, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(io.LimitReader(file, maxKEKFile)))
	if err != nil {
		return nil, fmt.Errorf("keys: %s is not a key-encryption key", f) // Tink's words may quote the file
	}
	if _, err := aes256(h); err != nil {
		return nil, err
	}
	return aead.New(h)
}

// create writes a new key beside the path and links it there, so that of
// several processes one wins and nobody sees half a key.
func (f kekFile) create() error {
	h, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return fmt.Errorf("making a key-encryption key: %w", err)
	}
	dir := filepath.Dir(string(f))
	tmp, err := os.CreateTemp(dir, ".kek-*") // mode 0600
	if err != nil {
		return fmt.Errorf("making a key-encryption key: %w", err)
	}
	defer os.Remove(tmp.Name())
	err = insecurecleartextkeyset.Write(h, keyset.NewJSONWriter(tmp))
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("storing a key-encryption key: %w", err)
	}
	if err := os.Link(tmp.Name(), string(f)); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("storing a key-encryption key: %w", err)
	}
	return syncDir(dir)
}

// syncDir makes a new name in dir durable: a key that wraps others must not be
// lost with the power.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("storing a key-encryption key: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("storing a key-encryption key: %w", err)
	}
	return nil
}
