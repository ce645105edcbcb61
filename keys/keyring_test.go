package keys_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/cordon-fhir/cordon/keys"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// T314, T316
func TestOpenedKeysRunOut(t *testing.T) {
	w := newWorld(t)
	synctest.Test(t, func(t *testing.T) {
		w.set(t, w.north)
		time.Sleep(59 * time.Second)
		w.set(t, w.north)
		if w.reads != 1 {
			t.Errorf("%d openings within a minute, want 1", w.reads)
		}
		if err := os.Remove(filepath.Join(w.dir, "test.kek")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if s, err := w.ring.Of(t.Context(), w.north); err == nil {
			t.Errorf("%v outlived its key-encryption key by more than a minute", s)
		}
	})
}

func TestCallersShareOneOpening(t *testing.T) {
	w := newWorld(t)
	synctest.Test(t, func(t *testing.T) {
		w.wait = make(chan struct{})
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { w.set(t, w.north) })
		}
		synctest.Wait()
		if w.reads != 1 {
			t.Errorf("%d openings at once, want 1", w.reads)
		}
		close(w.wait)
		wg.Wait()
		w.ring.Forget(w.north)
	})
}

func TestACallerWhoGivesUpDoesNotFailTheOthers(t *testing.T) {
	w := newWorld(t)
	synctest.Test(t, func(t *testing.T) {
		w.wait = make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := w.ring.Of(ctx, w.north); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want canceled", err)
			}
		})
		synctest.Wait()
		wg.Go(func() { w.set(t, w.north) })
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(w.wait)
		wg.Wait()
		w.ring.Forget(w.north)
	})
}

// T316
func TestForgetAlsoReachesAnOpeningUnderWay(t *testing.T) {
	w := newWorld(t)
	synctest.Test(t, func(t *testing.T) {
		w.wait = make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() { w.set(t, w.north) })
		synctest.Wait()
		w.ring.Forget(w.north)
		close(w.wait)
		wg.Wait()
		w.set(t, w.north)
		if w.reads != 2 {
			t.Errorf("%d openings, want 2: keys from before Forget were remembered", w.reads)
		}
		w.ring.Forget(w.north)
	})
}

func TestKeyEncryptionKeyFiles(t *testing.T) {
	w := newWorld(t)
	path := filepath.Join(w.dir, "test.kek")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("mode %v, %v, want 0600", info.Mode(), err)
	}
	t.Run("a key is not made to decrypt", func(t *testing.T) {
		if _, err := keys.Unwrap(w.kms, "file://fresh", []byte("x"), nil); err == nil {
			t.Error("opened")
		}
		if _, err := os.Stat(filepath.Join(w.dir, "fresh.kek")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a file was made: %v", err)
		}
	})
	t.Run("first users in a race share one key", func(t *testing.T) {
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				sealed, err := keys.Wrap(w.kms, "file://raced", []byte("x"), nil)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := keys.Unwrap(w.kms, "file://raced", sealed, nil); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if left, _ := filepath.Glob(filepath.Join(w.dir, ".kek-*")); len(left) > 0 {
			t.Errorf("left behind: %d files", len(left))
		}
	})
	t.Run("a file that others may read is refused", func(t *testing.T) {
		if err := os.Chmod(path, 0o640); err != nil {
			t.Fatal(err)
		}
		if _, err := w.ring.Of(t.Context(), w.north); err == nil {
			t.Error("it was used")
		}
	})
	t.Run("a directory that others may write to is refused", func(t *testing.T) {
		if err := os.Chmod(w.dir, 0o777); err != nil {
			t.Fatal(err)
		}
		if _, err := keys.NewFileKMS(w.dir); err == nil {
			t.Error("it was used")
		}
	})
	t.Run("names stay in the directory", func(t *testing.T) {
		for _, uri := range []string{"file://", "file://../test", "file:///etc/x", "file://A", "test", "file://a/b", "hcvault://a", "file://a.kek"} {
			if w.kms.Supported(uri) {
				t.Errorf("%q is supported", uri)
			}
			if _, err := w.kms.GetAEAD(uri); err == nil {
				t.Errorf("%q was opened", uri)
			}
		}
	})
}
