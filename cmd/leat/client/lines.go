package client

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/leat-dev/leat/broker/operations"
)

// lineReader reads a stream of lines.
type lineReader struct {
	r   *bufio.Reader
	buf []byte // of a line that is longer than r's
}

// newLineReader reads from r, and calls waits, which may be nil, before it does.
func newLineReader(r io.Reader, waits func() error) *lineReader {
	if waits != nil {
		r = waiting{r, waits}
	}
	return &lineReader{r: bufio.NewReaderSize(r, 64<<10)}
}

// next returns the next line, which is good until the one after it is asked
// for. io.EOF is the end after a whole line.
func (l *lineReader) next() (operations.Line, error) {
	b, err := l.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		l.buf = append(l.buf[:0], b...)
		for errors.Is(err, bufio.ErrBufferFull) {
			b, err = l.r.ReadSlice('\n')
			l.buf = append(l.buf, b...)
		}
		b = l.buf
	}
	switch {
	case errors.Is(err, io.EOF) && len(b) > 0:
		return operations.Line{}, io.ErrUnexpectedEOF
	case err != nil:
		return operations.Line{}, err
	}
	line, err := operations.ParseLine(b)
	if err != nil {
		return line, &logError{fmt.Sprintf("a line of the stream does not parse: %v; is the server a newer one?", err)}
	}
	return line, nil
}

// waiting calls a function before each read.
type waiting struct {
	io.Reader
	before func() error
}

// Read implements io.Reader.
func (w waiting) Read(p []byte) (int, error) {
	if err := w.before(); err != nil {
		return 0, &eachError{err}
	}
	return w.Reader.Read(p)
}
