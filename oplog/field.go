package oplog

import (
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"time"
)

// A Field is a named value of a line, made by one of the functions below.
type Field struct{ attr slog.Attr }

// Tenant is the slug of a tenant, "" if none was proven.
func Tenant(slug string) Field { return word("tenant", slug) }

// Request is the id of the HTTP request.
func Request(id string) Field { return word("request", id) }

// Requests are ids of several.
func Requests(ids []string) Field {
	return Field{slog.Any("requests", each(ids))}
}

// Method is the HTTP method.
func Method(name string) Field {
	if !slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}, name) {
		name = "other"
	}
	return Field{slog.String("method", name)}
}

// Route is the pattern that the path of a request fits, never the path itself:
// what stands in a pattern for an id begins with a colon or is in braces.
func Route(pattern string) Field { return Field{slog.String("route", made(pattern, routes))} }

// Params are names of search parameters that the standard or the server has.
func Params(names []string) Field { return Field{slog.Any("params", each(names))} }

// Status is the HTTP status of the answer.
func Status(code int) Field { return Number("status", code) }

// Took is how long something took.
func Took(d time.Duration) Field { return Field{slog.Duration("took", d)} }

// Again is when something is tried again.
func Again(in time.Duration) Field { return Field{slog.Duration("again", in)} }

// Number is any number of things.
func Number(name Constant, n int) Field { return Field{slog.Int(string(name), n)} }

// Is says whether something is so.
func Is(name Constant, so bool) Field { return Field{slog.Bool(string(name), so)} }

// Doing is what was being done.
func Doing(what Constant) Field { return Field{slog.String("doing", string(what))} }

// Named is a part of the server by its name: an endpoint, a check, a rule.
func Named(kind Constant, name string) Field { return word(kind, name) }

// Address is a network address, with or without a port.
func Address(a string) Field {
	if _, err := netip.ParseAddr(a); err != nil {
		if _, err := netip.ParseAddrPort(a); err != nil && a != "" {
			a = unfit
		}
	}
	return Field{slog.String("address", a)}
}

// Client is the id of a registered client or operator.
func Client(id string) Field { return word("client", id) }

// User is the user, as Practitioner/x. A patient or a relative is not named: the
// audit trail knows who it was.
func User(ref string) Field {
	if strings.HasPrefix(ref, "Patient/") || strings.HasPrefix(ref, "RelatedPerson/") {
		ref = "patient"
	}
	return word("user", ref)
}

// Because is why something is as it is, in words of this program.
func Because(why string) Field {
	if !plain(why) {
		why = unfit
	}
	return Field{slog.String("because", why)}
}

// Stack is where the program was, without values.
func Stack() Field { return Field{slog.String("stack", Callers(1))} }

// Callers lists the functions that are running, without values: the one that asks
// first, unless some are skipped.
func Callers(skip int) string {
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(skip+2, pcs)])
	var b strings.Builder
	for {
		f, more := frames.Next()
		fmt.Fprintf(&b, "%s:%d ", f.Function, f.Line)
		if !more {
			return b.String()
		}
	}
}

// Cause is why something failed, as Text says it.
func Cause(err error) Field { return Field{slog.String("cause", Text(err))} }

// unfit is written for what is not made as its Field says.
const unfit = "?"

const (
	words  = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:/@+"
	routes = words + "{}$*"
)

// word is a name that the server gave or has checked. It has no spaces and ends
// soon, so that no sentence passes for one.
func word(name Constant, text string) Field {
	return Field{slog.String(string(name), made(text, words))}
}

func each(list []string) []string {
	fit := make([]string, len(list))
	for i, text := range list {
		fit[i] = made(text, words)
	}
	return fit
}

// made returns the text if it is short and made of the characters.
func made(text, characters string) string {
	if len(text) > longest || strings.ContainsFunc(text, func(r rune) bool { return !strings.ContainsRune(characters, r) }) {
		return unfit
	}
	return text
}

const longest = 128
