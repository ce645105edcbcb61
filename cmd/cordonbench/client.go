package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// A client sends requests that are already in bytes over one connection that
// is kept open, and makes no garbage: the load generator shares the machine
// with what it measures, and net/http would cost more than a read does.
// https://www.rfc-editor.org/rfc/rfc9112
type client struct {
	address string
	conn    net.Conn
	in      *bufio.Reader
	answer  response
}

// A response is valid until the client's next request.
type response struct {
	status   int
	location string // only of 201
	body     []byte
}

func newClient(address string) *client {
	return &client{address: address, in: bufio.NewReaderSize(nil, 64<<10)}
}

// close ends the connection.
func (c *client) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// requestTimeout bounds one exchange.
const requestTimeout = 2 * time.Minute

// do sends the request and reads the whole response.
func (c *client) do(request []byte) (*response, error) {
	if c.conn == nil {
		conn, err := net.Dial("tcp", c.address)
		if err != nil {
			return nil, fmt.Errorf("connecting to the server: %w", err)
		}
		c.conn = conn
		c.in.Reset(conn)
	}
	c.conn.SetDeadline(time.Now().Add(requestTimeout))
	if _, err := c.conn.Write(request); err != nil {
		c.close()
		return nil, fmt.Errorf("sending a request: %w", err)
	}
	keep, err := c.read()
	if err != nil || !keep {
		c.close()
	}
	if err != nil {
		return nil, fmt.Errorf("reading a response: %w", err)
	}
	return &c.answer, nil
}

// read reads a response into c.answer; keep says that the connection may be
// used again.
func (c *client) read() (keep bool, err error) {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return false, err
	}
	if len(line) < 12 || !bytes.HasPrefix(line, []byte("HTTP/1.1 ")) {
		return false, errors.New("malformed status line")
	}
	a := &c.answer
	if a.status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return false, errors.New("malformed status line")
	}
	a.location, a.body = "", a.body[:0]
	length, chunked, keep := -1, false, true
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return false, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return false, errors.New("malformed Content-Length")
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = bytes.EqualFold(value, []byte("chunked"))
		case bytes.EqualFold(name, []byte("Connection")):
			keep = !bytes.EqualFold(value, []byte("close"))
		case a.status == 201 && bytes.EqualFold(name, []byte("Location")):
			a.location = string(value)
		}
	}
	switch {
	case a.status == 204 || a.status == 304:
		return keep, nil
	case chunked:
		return keep, c.readChunks()
	case length < 0:
		return false, errors.New("no length")
	}
	return keep, c.readBody(length)
}

// readBody appends n bytes to the body.
func (c *client) readBody(n int) error {
	b := c.answer.body
	at := len(b)
	for cap(b) < at+n {
		b = append(b[:cap(b)], 0)
	}
	b = b[:at+n]
	_, err := io.ReadFull(c.in, b[at:])
	c.answer.body = b
	return err
}

func (c *client) readChunks() error {
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		size, _, _ := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte(";"))
		n, err := strconv.ParseUint(string(size), 16, 31)
		if err != nil {
			return errors.New("malformed chunk")
		}
		if err := c.readBody(int(n)); err != nil {
			return err
		}
		// The line end after a chunk; after the last, the empty trailer.
		if _, err := c.in.ReadSlice('\n'); err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
	}
}
