// Package garbage deletes objects whose owners are gone, as Kubernetes' garbage
// collector does: in the background, in the foreground, or not at all, as a
// deletion's propagation policy asks.
//
// It follows the writes of the whole store on one watch, and keeps in memory
// only the objects that name an owner, found by the UID that they name. What
// it decides, it decides on what the store holds at that moment; so the graph
// has to be complete, but need not be fresh, and after a restart, or a watch
// that was lost, it is read anew.
//
// An owner is looked for where the reference says: in the dependent's
// namespace, or outside of all where its kind lives there. One that is not
// there, or has another UID, is absent. One whose kind is not served is not
// known to be absent, and holds its dependents.
package garbage
