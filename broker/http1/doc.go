// Package http1 serves the plain requests of HTTP/1.1 with as little work as
// that takes, and hands each connection on which anything else comes over to
// net/http, with all that was read of it.
//
// Plain is a POST to a path of unreserved characters, in a head of at most 4 KiB
// that says nothing of the connection or of the framing but a Content-Length:
// what a sender of events sends. The parser takes no more than net/http would,
// and understands it the same way (FuzzLikeNetHTTP); whatever it is not sure of
// it does not judge. A connection that was handed over stays with net/http.
//
// A connection begins with a goroutine of its own. On Linux, one whose requests
// come whole, and from senders that nobody has to be asked about, goes on in a
// loop, where many are served by one goroutine (see loop), and comes back as soon
// as something has to be waited for.
//
// Deadlines of a connection that is served are set anew only when an eighth of
// them has passed, as setting them for each request would cost more than parsing
// it: what is promised is waited for, and at most an eighth more. In a loop there
// is only one, that of idle connections.
package http1
