package oplog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"syscall"
)

// Caused is implemented by errors of Cordon's own whose words hold no value of
// a record, a search or a row.
type Caused interface {
	error
	// Cause returns those words.
	Cause() string
}

// Text returns what may be logged of err: the words of this program, and of
// errors of others what is known to hold no values. Of the rest it names the
// type: parsers repeat what they were given, and databases what is in a row.
func Text(err error) string {
	switch e := err.(type) {
	case nil:
		return ""
	case Caused:
		return e.Cause()
	case interface{ SQLState() string }:
		return "SQLSTATE " + e.SQLState()
	case *net.OpError:
		return e.Op + ": " + Text(e.Err)
	case *fs.PathError:
		return e.Op + ": " + Text(e.Err)
	case *net.DNSError:
		return "the name is not known"
	case syscall.Errno:
		return e.Error()
	case interface{ Unwrap() []error }:
		var all []string
		for _, one := range e.Unwrap() {
			all = append(all, Text(one))
		}
		return strings.Join(all, "; ")
	}
	kind, within := fmt.Sprintf("%T", err), errors.Unwrap(err)
	switch {
	case kind == "*errors.errorString" && plain(err.Error()), err == context.DeadlineExceeded:
		return err.Error()
	case within == nil:
		return kind
	}
	if words, ok := strings.CutSuffix(err.Error(), within.Error()); ok && kind == "*fmt.wrapError" && plain(words) {
		return words + Text(within)
	}
	return kind + ": " + Text(within)
}

// plain reports whether the text can be that of a program alone: errors of
// others may hold a value, then with digits or between quotes.
func plain(text string) bool {
	return len(text) <= longest && !strings.ContainsFunc(text, func(r rune) bool {
		return r > '~' || r < ' ' || '0' <= r && r <= '9' || strings.ContainsRune("\"`{}[]<>=", r)
	})
}
