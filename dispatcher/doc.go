// Package dispatcher delivers events of channels to their subscribers: it
// matches them, keeps a bounded window of requests for each subscription, in
// order by key where asked, retries, takes replies and keeps dead letters.
//
// DESIGN.md beside this file has the states, the lock order, what is
// committed when, and the invariants with the tests that hold them.
package dispatcher
