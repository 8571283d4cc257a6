package main

import (
	"bytes"
	"os"
	"testing"
)

// TestReferenceIsCurrent: docs/commands.md is what `make docs` writes, whoever
// runs it.
func TestReferenceIsCurrent(t *testing.T) {
	t.Setenv("SHELL", "/usr/bin/fish")
	t.Setenv("XDG_DATA_HOME", "/somewhere/else")
	var out bytes.Buffer
	if err := writeReference(&out, command()); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/commands.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(page, out.Bytes()) {
		t.Error("docs/commands.md is not what the commands say: run `make docs`")
	}
}
