package apiserver

import (
	"net/http"

	endpointsfilters "k8s.io/apiserver/pkg/endpoints/filters"
	"k8s.io/apiserver/pkg/endpoints/filters/impersonation"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/filters"

	"github.com/leat-dev/leat/apiserver/plain"
)

// room is how deep the stack of a request gets, about.
const room = 20 << 10

// withRoom has a goroutine that answers a request get its stack at once, while
// there is little on it, and not by and by: each time all of it would be copied,
// the deeper the slower.
func withRoom(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		touch(len(r.Method) % room) // what the compiler cannot know, or it would leave it out
		h.ServeHTTP(w, r)
	})
}

//go:noinline
func touch(i int) byte {
	var space [room]byte
	return space[i]
}

// chain is what a request passes before it is answered: the library's chain, in
// its order, without what does nothing here but to take time, a tenth of a whole
// request: spans of the API's requests, which nobody collects, how long each of
// these filters takes, and audit, which has no policy and no backend. Until
// complete is closed what is not found may be there later.
//
// What shortcuts answer takes no goroutine of its own, which could be left behind
// when its time is up: a shortcut sees to its time itself.
func chain(h http.Handler, shortcuts *plain.Handler, c *genericapiserver.Config, complete <-chan struct{}) http.Handler {
	timed := func(h http.Handler) http.Handler {
		h = withRoom(endpointsfilters.WithWarningRecorder(h)) // which the next one keeps from writing late
		return filters.WithTimeoutForNonLongRunningRequests(h, c.LongRunningFunc)
	}
	h = shortcut(shortcuts, h, timed(h))
	h = endpointsfilters.WithAuthorization(h, c.Authorization.Authorizer, c.Serializer)
	h = filters.WithMaxInFlightLimit(h, c.MaxRequestsInFlight, c.MaxMutatingRequestsInFlight, c.LongRunningFunc)
	h = impersonation.WithConstrainedImpersonation(h, c.Authorization.Authorizer, c.Serializer)
	h = endpointsfilters.WithAuthentication(h, c.Authentication.Authenticator, endpointsfilters.Unauthorized(c.Serializer), c.Authentication.APIAudiences, c.Authentication.RequestHeaderConfig)
	h = either(shortcuts.Looks, endpointsfilters.WithWarningRecorder(h), timed(h))
	h = endpointsfilters.WithRequestDeadline(h, c.AuditBackend, c.AuditPolicyRuleEvaluator, c.LongRunningFunc, c.Serializer, c.RequestTimeout)
	h = filters.WithWaitGroup(h, c.LongRunningFunc, c.NonLongRunningRequestWaitGroup)
	h = endpointsfilters.WithCacheControl(h)
	h = filters.WithHTTPLogging(h)
	h = endpointsfilters.WithLatencyTrackers(h)
	h = either(shortcuts.Looks, withRoom(h), h)
	h = endpointsfilters.WithRequestInfo(h, c.RequestInfoResolver)
	h = endpointsfilters.WithRequestReceivedTimestamp(h)
	h = endpointsfilters.WithMuxAndDiscoveryComplete(h, complete)
	h = filters.WithPanicRecovery(h, c.RequestInfoResolver)
	return endpointsfilters.WithAuditInit(h)
}

// either leaves a request to one of two handlers.
func either(which func(*http.Request) bool, yes, no http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if which(r) {
			yes.ServeHTTP(w, r)
		} else {
			no.ServeHTTP(w, r)
		}
	})
}

// shortcut has shortcuts answer what they can. What looked like that, but is not
// answered, has not been given a time yet.
func shortcut(shortcuts *plain.Handler, h, timed http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !shortcuts.Looks(r):
			h.ServeHTTP(w, r)
		case !shortcuts.Answer(w, r):
			timed.ServeHTTP(w, r)
		}
	})
}
