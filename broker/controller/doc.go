// Package controller makes what the resources ask for true: it keeps a log for
// each Broker, Channel and InMemoryChannel, tells the logs which Triggers and
// Subscriptions they have, tells the dispatcher where these deliver to, and
// writes into each object's status how it is.
//
// # How it works
//
// Informers of the six kinds feed two things. The handlers of Triggers and
// Subscriptions keep, in memory and in the order of the informer, the set of
// subscriptions of each Broker and channel (sets.go). A set that has changed is
// given to the channel's log as a whole, a few milliseconds later, so that a
// burst of changes costs one comparison. Everything else is the work of
// reconcilers, keyed by object: logs.go, trigger.go, subscription.go.
//
// # What must hold
//
//   - A set is given to a log only when the informers have synced: the log
//     forgets the cursors and dead letters of what is missing from it.
//   - The version that goes with a set is the highest resourceVersion that the
//     handlers of its kind have seen, so it covers every member, and a deletion.
//   - A Trigger or Subscription is Ready only when each partition of its log has
//     applied a version that covers the last change of its filter, order or
//     start, and the dispatcher knows where it delivers to.
//   - A change of status makes no change of a set, and a status is written only
//     when it differs: what is idle writes nothing.
//   - A log is dropped only when its object is gone, by UID. Logs whose object
//     went while nobody looked are found when the informers have synced.
//
// A Channel is backed by a log of its own, whatever its channelTemplate: no
// InMemoryChannel is made for it. As both are served at /channels/NAMESPACE/NAME,
// of a Channel and an InMemoryChannel of one name the older one has the
// address, and the other is not ready.
package controller
