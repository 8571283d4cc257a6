// Package admission sets the defaults of the kinds that Leat serves and
// refuses what is wrong with them, naming the field and what would be right.
// It knows nothing of the API server that calls it.
package admission
