package faults

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
)

// A wire is the connection between the server and PostgreSQL, which can break
// at a chosen message.
// https://www.postgresql.org/docs/15/protocol-message-formats.html
type wire struct {
	listener net.Listener
	target   string

	mu     sync.Mutex
	links  map[*link]bool
	cuts   []*cut
	barred string // part of the names of users whose connections are refused
	closed bool
}

// A cut breaks connections of a user when it is about to run a statement.
type cut struct {
	user string
	sql  string // a part of the statement
	// after lets the statement and all that was sent with it be done, and
	// keeps the answer. Otherwise the statement does not get through.
	after bool
	left  int // how often it is still to happen
	hits  int
}

// newWire listens on a free port for connections to target.
func newWire(target string) (*wire, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &wire{listener: l, target: target, links: map[*link]bool{}}
	go w.accept()
	return w, nil
}

func (w *wire) address() string { return w.listener.Addr().String() }

func (w *wire) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.listener.Close()
	w.sever("")
}

func (w *wire) accept() {
	for {
		conn, err := w.listener.Accept()
		if err != nil {
			return
		}
		go w.serve(conn)
	}
}

// bar refuses connections of users whose name has this part, and cuts those
// there are. "" lets all in.
func (w *wire) bar(part string) {
	w.mu.Lock()
	w.barred = part
	w.mu.Unlock()
	if part != "" {
		w.sever(part)
	}
}

// sever cuts the connections of users whose name has this part.
func (w *wire) sever(part string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for l := range w.links {
		if strings.Contains(l.user, part) {
			l.cut()
		}
	}
}

// arm makes c happen times times.
func (w *wire) arm(c *cut, times int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c.left = times
	w.cuts = append(w.cuts, c)
}

// pending returns how often c is still to happen.
func (w *wire) pending(c *cut) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return c.left
}

// disarm returns how often c has happened, and ends it.
func (w *wire) disarm(c *cut) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	c.left = 0
	return c.hits
}

// due returns the cut that is to happen now, nil if there is none.
func (w *wire) due(user, sql string) *cut {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.cuts {
		if c.left > 0 && c.user == user && strings.Contains(sql, c.sql) {
			c.left--
			c.hits++
			return c
		}
	}
	return nil
}

// A link is one connection.
type link struct {
	wire           *wire
	client, server net.Conn
	user           string
	statements     map[string]string // prepared, by name
	mu             sync.Mutex
	swallow        bool // what the server says goes nowhere
}

func (l *link) cut() {
	l.client.Close()
	l.server.Close()
}

func (w *wire) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", w.target)
	if err != nil {
		return
	}
	defer server.Close()
	in := bufio.NewReaderSize(client, 64<<10)
	first, err := startup(in)
	if err != nil {
		return
	}
	l := &link{wire: w, client: client, server: server, user: userOf(first), statements: map[string]string{}}
	w.mu.Lock()
	refused := w.closed || w.barred != "" && strings.Contains(l.user, w.barred)
	if !refused {
		w.links[l] = true
	}
	w.mu.Unlock()
	if refused {
		return
	}
	defer func() {
		w.mu.Lock()
		delete(w.links, l)
		w.mu.Unlock()
	}()
	if _, err := server.Write(first); err != nil {
		return
	}
	go l.answers()
	l.requests(in)
}

// startup reads the first message, which has no type.
func startup(in io.Reader) ([]byte, error) {
	head := make([]byte, 4)
	if _, err := io.ReadFull(in, head); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head)
	if n < 8 || n > 10_000 {
		return nil, errors.New("malformed startup message")
	}
	rest := make([]byte, n-4)
	_, err := io.ReadFull(in, rest)
	return append(head, rest...), err
}

func userOf(startup []byte) string {
	fields := bytes.Split(startup[8:], []byte{0})
	for i := 0; i+1 < len(fields); i += 2 {
		if string(fields[i]) == "user" {
			return string(fields[i+1])
		}
	}
	return ""
}

// requests passes on what the client says, message by message, until it is to
// be cut.
func (l *link) requests(in *bufio.Reader) {
	defer l.cut()
	out := bufio.NewWriterSize(l.server, 64<<10)
	for {
		head := make([]byte, 5)
		if _, err := io.ReadFull(in, head); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint32(head[1:])) - 4
		if n < 0 || n > 1<<30 {
			return
		}
		body := make([]byte, n)
		if _, err := io.ReadFull(in, body); err != nil {
			return
		}
		if c := l.due(head[0], body); c != nil {
			if !c.after {
				out.Flush() // what came before has got through
				return
			}
			l.mu.Lock()
			l.swallow = true
			l.mu.Unlock()
		}
		out.Write(head)
		out.Write(body)
		if in.Buffered() == 0 {
			if err := out.Flush(); err != nil {
				return
			}
		}
	}
}

// due follows which statements are prepared and returns the cut for the one
// that is about to run, if any.
func (l *link) due(kind byte, body []byte) *cut {
	first, rest, _ := bytes.Cut(body, []byte{0})
	second, _, _ := bytes.Cut(rest, []byte{0})
	switch kind {
	case 'P': // Parse: name, query
		l.statements[string(first)] = string(second)
	case 'B': // Bind: portal, name
		return l.wire.due(l.user, l.statements[string(second)])
	}
	return nil
}

// answers passes on what the server says. Once it is swallowed, the link is
// cut when the transaction is over.
func (l *link) answers() {
	defer l.cut()
	idle := []byte{'Z', 0, 0, 0, 5, 'I'}
	buf := make([]byte, 64<<10)
	var tail []byte
	for {
		n, err := l.server.Read(buf)
		if err != nil {
			return
		}
		l.mu.Lock()
		swallow := l.swallow
		l.mu.Unlock()
		if !swallow {
			if _, err := l.client.Write(buf[:n]); err != nil {
				return
			}
			continue
		}
		tail = append(tail, buf[:n]...)
		tail = tail[max(0, len(tail)-len(idle)):]
		if bytes.Equal(tail, idle) {
			return
		}
	}
}
