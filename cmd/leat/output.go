package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// choice is a flag that takes one of a few values.
type choice struct {
	value   string
	allowed []string
}

// String implements pflag.Value.
func (c *choice) String() string { return c.value }

// Type implements pflag.Value.
func (c *choice) Type() string { return "string" }

// Set implements pflag.Value.
func (c *choice) Set(v string) error {
	if !slices.Contains(c.allowed, v) {
		return fmt.Errorf("must be %s", orList(c.allowed))
	}
	c.value = v
	return nil
}

// orList is "a, b or c".
func orList(all []string) string {
	if len(all) < 2 {
		return strings.Join(all, "")
	}
	return strings.Join(all[:len(all)-1], ", ") + " or " + all[len(all)-1]
}

// outputs are the formats of -o.
var outputs = []string{"table", "wide", "json", "yaml", "name"}

// outputFlag declares -o.
func outputFlag(c *cobra.Command) *choice {
	o := &choice{value: "table", allowed: outputs}
	c.Flags().VarP(o, "output", "o", orList(outputs))
	completeChoice(c, "output", outputs)
	return o
}

func completeChoice(c *cobra.Command, flag string, allowed []string) {
	err := c.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(allowed, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic(err) // the flag is not declared: a fault of this program
	}
}

// printObject prints a whole as JSON or YAML; it says no for other formats.
func printObject(w io.Writer, format string, v any) (bool, error) {
	var (
		b   []byte
		err error
	)
	switch format {
	case "json":
		b, err = json.MarshalIndent(v, "", "  ")
		b = append(b, '\n')
	case "yaml":
		b, err = yaml.Marshal(v)
	default:
		return false, nil
	}
	if err != nil {
		return true, err
	}
	_, err = w.Write(b)
	return true, err
}
