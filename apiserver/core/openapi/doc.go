// Package openapi holds the OpenAPI definitions of the core kinds that the API
// server serves, and of the types they are made of. It is generated, and cut
// down to them, by generate.go.
package openapi

//go:generate go run generate.go
