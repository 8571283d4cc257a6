package event

import (
	"encoding/base64"
	"slices"
	"strings"
)

// The core attributes, by their place in coreNames.
const (
	coreID = iota
	coreSource
	coreType
	coreSubject
	coreTime
	coreDataContentType
	coreDataSchema
	coreSpecVersion
	coreCount
)

// noCore is the place of a name that no core attribute has.
const noCore = -1

func coreOf(name string) int {
	switch name {
	case "id":
		return coreID
	case "source":
		return coreSource
	case "type":
		return coreType
	case "subject":
		return coreSubject
	case "time":
		return coreTime
	case "datacontenttype":
		return coreDataContentType
	case "dataschema":
		return coreDataSchema
	case "specversion":
		return coreSpecVersion
	}
	return noCore
}

// coreOfHeader is coreOf for what follows Ce- in a header's name, in the
// spelling that most senders have; noCore says that it may be in another one.
func coreOfHeader(name string) int {
	switch name {
	case "Id", "id":
		return coreID
	case "Source", "source":
		return coreSource
	case "Type", "type":
		return coreType
	case "Subject", "subject":
		return coreSubject
	case "Time", "time":
		return coreTime
	case "Dataschema", "dataschema":
		return coreDataSchema
	case "Specversion", "specversion":
		return coreSpecVersion
	}
	return noCore
}

// coreName is the inverse of coreOf.
func coreName(i int) string {
	return [coreCount]string{"id", "source", "type", "subject", "time", "datacontenttype", "dataschema", "specversion"}[i]
}

// builder collects the attributes of one event, of either specversion.
type builder struct {
	e           *Event
	specVersion string
	base64      bool // 0.3's datacontentencoding
	has         [coreCount]bool
}

// set takes one attribute. That an extension is given once only is seen by
// attributes.
func (b *builder) set(name string, v Value, l *Limits) *FormatError {
	core := coreOf(name)
	if core == noCore {
		if err := checkName(name, l); err != nil {
			return err
		}
		if len(b.e.Extensions) >= l.MaxExtensions {
			return wrong(name, "there are more extension attributes than the limit of %d", l.MaxExtensions)
		}
		b.e.Extensions = append(b.e.Extensions, Extension{name, v})
		return nil
	}
	return b.setCore(core, v)
}

func (b *builder) setCore(core int, v Value) *FormatError {
	switch {
	case b.has[core]:
		return twice(coreName(core))
	case v.Kind != String:
		return wrong(coreName(core), "must be a string")
	case v.Str == "" && (core <= coreType || core == coreSpecVersion):
		return wrong(coreName(core), "is required and must not be empty")
	case v.Str == "":
		return wrong(coreName(core), "must not be empty; leave it out where there is none")
	}
	b.has[core] = true
	if core == coreSpecVersion {
		b.specVersion = v.Str
	} else {
		*b.e.core(core) = v.Str
	}
	return nil
}

func twice(name string) *FormatError {
	return wrong(clip(name), "is given more than once; send it once")
}

// attributes completes the attributes, and converts those of 0.3.
func (b *builder) attributes() *FormatError {
	if len(b.e.Extensions) > 1 {
		slices.SortFunc(b.e.Extensions, byName)
	}
	for i := 1; i < len(b.e.Extensions); i++ {
		if name := b.e.Extensions[i].Name; name == b.e.Extensions[i-1].Name {
			return twice(name)
		}
	}
	switch b.specVersion {
	case "1.0":
		return nil
	case "0.3":
		return b.from03()
	case "":
		return wrong("specversion", "is required: 1.0 (or 0.3); without it this is no CloudEvent. Send the attributes as ce- headers, or the event as %s", StructuredType)
	}
	return wrong("specversion", "%q is not supported: send 1.0 (or 0.3)", clip(b.specVersion))
}

func (b *builder) from03() *FormatError {
	if v, ok := b.e.Attribute("schemaurl"); ok {
		if b.has[coreDataSchema] {
			return wrong("dataschema", "is no attribute of specversion 0.3 beside schemaurl; send one of them")
		}
		b.e.DataSchema = v.Str
		b.e.DeleteExtension("schemaurl")
	}
	if v, ok := b.e.Attribute("datacontentencoding"); ok {
		if !strings.EqualFold(v.Str, "base64") {
			return wrong("datacontentencoding", "%q is not supported: base64, or leave it out", clip(v.Str))
		}
		b.base64 = true
		b.e.DeleteExtension("datacontentencoding")
	}
	return nil
}

func decodeBase64(member string, b []byte) ([]byte, *FormatError) {
	out := make([]byte, base64.StdEncoding.DecodedLen(len(b)))
	n, err := base64.StdEncoding.Strict().Decode(out, b)
	if err != nil {
		return nil, wrong(member, "the base64 does not decode (%v): send the standard alphabet of RFC 4648, padded", err)
	}
	return out[:n:n], nil
}

func byName(a, b Extension) int { return strings.Compare(a.Name, b.Name) }
