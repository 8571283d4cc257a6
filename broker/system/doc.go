// Package system fills the system broker, an ordinary Broker that always
// exists: every committed write to the API appears on it as an event, exactly
// once, or an event says which are missing.
//
// It reads the history of the resources and appends with the revision as the
// producer's sequence; nothing else is kept, and no write to the API waits.
package system
