package oplog

import (
	"log"
	"log/slog"
	"strings"
)

// HTTP returns what net/http may complain to. It tells which of its complaints
// came, not with which words: a panic's could be anything.
func (l *Logger) HTTP() *log.Logger { return log.New(complaints{l}, "", 0) }

type complaints struct{ log *Logger }

func (c complaints) Write(text []byte) (int, error) {
	for _, known := range []string{"TLS handshake error", "panic serving", "Accept error", "superfluous response.WriteHeader", "response.Write on hijacked connection"} {
		if strings.HasPrefix(string(text), "http: "+known) {
			c.log.Warn("net/http complains", Field{slog.String("of", known)})
			return len(text), nil
		}
	}
	c.log.Warn("net/http complains")
	return len(text), nil
}
