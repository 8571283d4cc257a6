package storage

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/leat-dev/leat/raftlog"
	"github.com/leat-dev/leat/raftlog/kv"
)

// writeError gives an error of the log the HTTP status that tells a client what
// became of its write.
func writeError(key string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kv.ErrTooLarge):
		return apierrors.NewRequestEntityTooLargeError(err.Error())
	case errors.Is(err, raftlog.ErrOverloaded):
		return apierrors.NewTooManyRequests(err.Error(), 1)
	case errors.Is(err, raftlog.ErrStalled): // also where the wait for it was given up
		return apierrors.NewServiceUnavailable(err.Error())
	case errors.Is(err, raftlog.ErrUnknownOutcome), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return apierrors.NewTimeoutError(fmt.Sprintf("write of %s: %v; read it to see whether it was done", key, err), 0)
	case errors.Is(err, raftlog.ErrDiskFull), errors.Is(err, raftlog.ErrNotLeader),
		errors.Is(err, raftlog.ErrClosed), errors.Is(err, kv.ErrClosed), errors.Is(err, kv.ErrNotBound):
		return apierrors.NewServiceUnavailable(err.Error())
	default:
		return fmt.Errorf("write %s: %w", key, err)
	}
}

const (
	goneList  = "The resourceVersion for the provided list is too old."
	goneWatch = "The resourceVersion for the provided watch is too old."
	goneToken = "The provided continue parameter is too old to display a consistent list result: list again without it, or go on with the token in this response. What was created, changed or deleted since the first chunk may then be missing or appear."
)

// listError gives an error of a read at a revision its HTTP status. A list that
// is cut short by compaction can go on with a token for the present state.
func listError(err error, at, now uint64, paging bool, start, prefix string) error {
	switch {
	case errors.Is(err, kv.ErrFuture):
		return apistorage.NewTooLargeResourceVersionError(at, now, 0)
	case errors.Is(err, kv.ErrCompacted):
		if !paging {
			return apierrors.NewResourceExpired(goneList)
		}
		gone := apierrors.NewResourceExpired(goneToken)
		if token, err := apistorage.EncodeContinue(start, prefix, -1); err == nil {
			gone.ErrStatus.ListMeta.Continue = token
		}
		return gone
	default:
		return err
	}
}

// corruptError says that what is stored cannot be turned into an object.
type corruptError struct {
	what string
	rev  uint64
	err  error
}

func (e *corruptError) Error() string { return fmt.Sprintf("%s revision=%d: %v", e.what, e.rev, e.err) }
func (e *corruptError) Unwrap() error { return e.err }

func asCorrupt(err error, what string, rev uint64) error {
	return &corruptError{what: what, rev: rev, err: err}
}

// readError names a damaged object as such, so that the registry offers to
// delete it unread.
func (s *Store) readError(key string, err error) error {
	var corrupt *corruptError
	if s.c.TellDamage && errors.As(err, &corrupt) {
		return apistorage.NewCorruptObjError(key, corrupt)
	}
	return err
}

// maxCorrupt bounds the damaged objects that one list names.
const maxCorrupt = 100

var errTooManyCorrupt = errors.New("too many errors, the list is truncated")

// listFaults collects what is wrong with the objects of a list. Without the
// feature that deletes damaged objects, the first fault ends the list.
type listFaults struct {
	collect bool
	keys    []string
	errs    []error
	abort   error // why the list ended
}

// add returns true when the list must end.
func (f *listFaults) add(key string, err error) bool {
	var corrupt *corruptError
	if !f.collect || !errors.As(err, &corrupt) {
		f.abort = err
		return true
	}
	f.keys = append(f.keys, key)
	f.errs = append(f.errs, apistorage.NewCorruptObjError(key, corrupt))
	if len(f.errs) >= maxCorrupt {
		f.abort = errTooManyCorrupt
		return true
	}
	return false
}

func (f *listFaults) err(resource string) error {
	if len(f.errs) == 0 {
		return f.abort
	}
	var causes []metav1.StatusCause
	for i, err := range f.errs {
		causes = append(causes, metav1.StatusCause{
			Type: metav1.CauseTypeUnexpectedServerResponse, Field: f.keys[i], Message: err.Error(),
		})
	}
	switch {
	case errors.Is(f.abort, errTooManyCorrupt):
		causes = append(causes, metav1.StatusCause{Type: metav1.CauseTypeTooMany, Message: f.abort.Error()})
	case f.abort != nil:
		causes = append(causes, metav1.StatusCause{Type: metav1.CauseTypeUnexpectedServerResponse, Message: f.abort.Error()})
	}
	var message strings.Builder
	fmt.Fprintf(&message, "failed to read one or more %s from the storage: %v", resource, f.errs[0])
	if n := len(f.errs) - 1; n > 0 {
		fmt.Fprintf(&message, " (and %d more)", n)
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status:  metav1.StatusFailure,
		Code:    http.StatusInternalServerError,
		Reason:  metav1.StatusReasonStoreReadError,
		Message: message.String(),
		Details: &metav1.StatusDetails{Kind: resource, Name: "list", Causes: causes},
	}}
}
