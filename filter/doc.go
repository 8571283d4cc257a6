// Package filter compiles and runs the filters of triggers: the dialects of
// CloudEvents Subscriptions (exact, prefix, suffix, all, any, not, cesql),
// the older filter.attributes, and expr, which also sees an event's payload.
//
// A Spec is compiled into a Filter; a Matcher holds many Filters under an
// index, so that the cost of matching an event grows with the filters that it
// matches and not with all there are. A View is an event as filters see it.
//
// Filters are pure: no clock, no randomness, no state. The same filter gives
// the same answer on the same event for as long as Engine stays the same.
package filter

// Engine is the version of the filters' semantics. It is kept with a filter
// wherever its answers may be computed again, and changes whenever an existing
// filter could give another answer on some event.
const Engine = 1
