// Package sources is what the sources of events share: it reconciles their
// resources, resolves their sinks, runs an adapter for each, and hands over
// what the adapters make. Each source stands in a folder of its own, which
// knows nothing of the others.
//
// # The life of a source
//
// An object is read (Kind.Read), its sink is resolved, and its adapter is
// started with an Output. The adapter is stopped, and another started, when the
// spec changes or the sink is another log; when the object goes, what there was
// of it in the log goes too. An adapter that fails is started again, later and
// later, and the status says why.
//
// # Handing over
//
// What an adapter makes is in the log before Output.Hand returns, together with
// its sequence as the position of a producer, which is the object's UID: a
// restart goes on from there. Where the sink is a Broker or channel here, that
// is the log of the sink, so each event is in it exactly once, and no request
// is made. For any other sink the source has a log of its own with one
// subscription, from which the dispatcher delivers to the sink, at least once,
// with retries and dead letters as for a Trigger. That log is kept until the
// object goes; what is in it goes to the sink that the object has then.
//
// # What must hold
//
//   - A position never goes back: an event at or below the position is not
//     handed over again, whatever log it was handed to.
//   - While a log takes nothing, Hand waits: a source is slowed down, and keeps
//     nothing in memory.
//   - At most one adapter of an object runs at a time.
//   - A status is written only when it differs: what is idle writes nothing.
package sources
