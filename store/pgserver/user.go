package pgserver

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	osuser "os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// stateDir is where root keeps a cluster that lies in a directory which the
// server's user cannot enter, such as one below /root.
const stateDir = "/var/lib/cordon"

// A user is whom PostgreSQL runs as. It refuses to run as root, so for root
// that is someone else; for anyone else it is themselves.
type user struct {
	other    bool
	uid, gid uint32
}

func account() (user, error) {
	if os.Geteuid() != 0 {
		return user{}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := osuser.Lookup(name)
		if err != nil {
			continue
		}
		uid, uerr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gerr := strconv.ParseUint(u.Gid, 10, 32)
		if uerr == nil && gerr == nil {
			return user{true, uint32(uid), uint32(gid)}, nil
		}
	}
	return user{}, errors.New("pgserver: PostgreSQL does not run as root, and there is no user postgres or nobody; make one")
}

// become makes cmd run as u.
func (u user) become(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if u.other {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: u.uid, Gid: u.gid}
	}
}

// home makes the directory for a server, and returns where it is: dir, or a
// place of its own if u cannot enter dir.
func (u user) home(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if u.other && !u.enters(filepath.Dir(dir)) {
		sum := sha256.Sum256([]byte(dir))
		dir = filepath.Join(stateDir, hex.EncodeToString(sum[:8]))
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	return dir, u.mkdir(dir)
}

// mkdir makes a directory of u that nobody else may enter.
func (u user) mkdir(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	if u.other {
		if err := os.Chown(dir, int(u.uid), int(u.gid)); err != nil {
			return fmt.Errorf("giving %s to the server's user: %w", dir, err)
		}
	}
	return nil
}

// write writes a file that only u may read.
func (u user) write(path, text string) error {
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	if u.other {
		return os.Chown(path, int(u.uid), int(u.gid))
	}
	return nil
}

// enters reports whether u may pass through dir and all above it. Of what does
// not exist yet, only the nearest that does is looked at.
func (u user) enters(dir string) bool {
	for {
		if info, err := os.Stat(dir); err == nil {
			st, ok := info.Sys().(*syscall.Stat_t)
			if !ok {
				return false
			}
			may := info.Mode().Perm()&0o001 != 0
			switch {
			case st.Uid == u.uid:
				may = info.Mode().Perm()&0o100 != 0
			case st.Gid == u.gid:
				may = info.Mode().Perm()&0o010 != 0
			}
			if !may {
				return false
			}
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return true
		}
		dir = parent
	}
}
