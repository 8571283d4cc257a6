// Package ping is the source that makes an event at the times of a schedule:
// PingSource, and CronJobSource, which was before it.
//
// # Ticks
//
// A tick is a time of the schedule. The last one that was handed over is the
// source's position in the log, as milliseconds since the Unix epoch, so
// neither a restart nor a second look repeats one; the event's id is made of
// the object's UID and the tick.
//
// While a source runs, each tick is handed over in order, also where the log
// stood still for up to a minute. Ticks that passed while it did not run (the
// server was away, the machine slept, the sink did not resolve) are handed over
// as one event, that of the latest of them, with the extension leatlate. Where
// the clock is put back, nothing happens until it is past the last tick again.
//
// # What a missed tick is
//
// A tick is missed only by the schedule that held at its time: a new schedule
// holds from when the spec was written. The status keeps which schedule it is
// of, and since when that holds, for a position alone does not tell.
package ping
