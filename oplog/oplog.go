// Package oplog writes the operational log: what the server did, for those who
// run it. A line is a constant and Fields, and each kind of Field is a function
// of this package that lets through what it names and nothing else. So no line
// can hold what a record or a search says: there is no way to write it.
package oplog

import (
	"context"
	"log/slog"
)

// Constant is text known at compile time: only an untyped constant converts to
// it by itself.
type Constant string

// A Logger writes lines. The nil Logger writes them where slog's default does.
type Logger struct{ handler slog.Handler }

// New returns a Logger that writes to h.
func New(h slog.Handler) *Logger { return &Logger{h} }

// Info tells what happened as it should.
func (l *Logger) Info(event Constant, fields ...Field) { l.write(slog.LevelInfo, event, fields) }

// Warn tells what operators may want to look at.
func (l *Logger) Warn(event Constant, fields ...Field) { l.write(slog.LevelWarn, event, fields) }

// Error tells what failed.
func (l *Logger) Error(event Constant, fields ...Field) { l.write(slog.LevelError, event, fields) }

func (l *Logger) write(level slog.Level, event Constant, fields []Field) {
	h := slog.Default().Handler()
	if l != nil {
		h = l.handler
	}
	attrs := make([]slog.Attr, len(fields))
	for i, f := range fields {
		attrs[i] = f.attr
	}
	slog.New(h).LogAttrs(context.Background(), level, string(event), attrs...)
}
