package samplerd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// A RetryPolicy says how calls are tried again that fail with ResourceExhausted or Unavailable, or with Canceled though
// nobody cancelled their context: a server or a proxy that ends its connections does that. Attempt n is followed
// by a wait between nothing and Base x 2^(n - 1), at most Max, unless the server says how long to wait, or not to try
// again. No wait goes past the deadline of the context: the failure is returned at once instead.
type RetryPolicy struct {
	// Attempts is how often a request is sent at most; 1 or less never tries again. 4 unless said.
	Attempts int
	// Base is the longest first wait. 50 ms unless said.
	Base time.Duration
	// Max is the longest wait. 2 s unless said.
	Max time.Duration
	// Budget is how many retries a client makes in a burst, over all its calls; each uses up one. 0: 20; below 0: none.
	Budget float64
	// BudgetRefill is how many retries each successful call gives back. 0: 0.1, which in the long run is at most one
	// retry for ten such calls; below 0: none.
	BudgetRefill float64
}

var defaultRetry = RetryPolicy{Attempts: 4, Base: 50 * time.Millisecond, Max: 2 * time.Second}

// retryBudget bounds the retries of all calls of a client, so that a fleet of clients cannot turn an overload into a
// storm.
type retryBudget struct {
	mu                  sync.Mutex
	retries, most, gain float64
}

func newRetryBudget(policy RetryPolicy) *retryBudget {
	most := max(cmp.Or(policy.Budget, 20), 0)
	return &retryBudget{retries: most, most: most, gain: max(cmp.Or(policy.BudgetRefill, 0.1), 0)}
}

// deposit counts a call that succeeded.
func (b *retryBudget) deposit() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.retries = min(b.most, b.retries+b.gain)
}

// withdraw uses up one retry; false if none is left.
func (b *retryBudget) withdraw() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.retries < 1 {
		return false
	}
	b.retries--
	return true
}

// pushback is what the trailer grpc-retry-pushback-ms said.
type pushback struct {
	isGiven   bool
	isRefusal bool
	wait      time.Duration
}

func readPushback(trailer metadata.MD) pushback {
	values := trailer.Get("grpc-retry-pushback-ms")
	if len(values) == 0 {
		return pushback{}
	}
	ms, err := strconv.ParseInt(values[0], 10, 32)
	if err != nil || ms < 0 || len(values) > 1 {
		return pushback{isGiven: true, isRefusal: true}
	}
	return pushback{isGiven: true, wait: time.Duration(ms) * time.Millisecond}
}

// wait says how long to wait after a failed attempt, counted from 1; draw gives a number in [0, 1).
func (p RetryPolicy) wait(attempt int, failure *Error, draw func() float64) (time.Duration, bool) {
	switch {
	case attempt >= p.Attempts || !failure.Retryable():
		return 0, false
	case failure.pushback.isGiven || failure.RetryAfter > 0:
		return failure.RetryAfter, true
	}
	longest := p.Max
	if attempt < 30 { // further doubling would overflow, and Max is shorter
		longest = min(p.Max, p.Base<<(attempt-1))
	}
	return time.Duration(draw() * float64(longest)), true
}

// retry calls until it succeeds, fails for good or runs out of attempts, budget or time.
func retry[R any](
	ctx context.Context, policy RetryPolicy, budget *retryBudget, call func(...grpc.CallOption) (R, error),
) (R, error) {
	for attempt := 1; ; attempt++ {
		var trailer metadata.MD
		reply, err := call(grpc.Trailer(&trailer))
		err = newError(err, trailer)
		var failure *Error
		if !errors.As(err, &failure) {
			budget.deposit()
			return reply, err
		}
		failure.isForeign = failure.Code == codes.Canceled && ctx.Err() == nil && !isClosing(failure)
		wait, again := policy.wait(attempt, failure, rand.Float64)
		if deadline, ok := ctx.Deadline(); !again || ok && time.Until(deadline) <= wait || !budget.withdraw() {
			return reply, err
		}
		if err := sleep(ctx, wait); err != nil {
			return reply, err
		}
	}
}

// isClosing says whether a call ended because the client's own connection was closed.
func isClosing(failure *Error) bool {
	return strings.Contains(failure.Message, "client connection is closing")
}

func sleep(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return newError(ctx.Err(), nil)
	}
}

// checkSize fails if a request is larger than the client may send. The same request will never be smaller, so it is
// not to be tried again, whatever its code is elsewhere.
func checkSize(request proto.Message, maxBytes int) error {
	size := proto.Size(request)
	if size <= maxBytes {
		return nil
	}
	text := fmt.Sprintf("a request of %d bytes is larger than WithMaxMessageBytes allows, %d", size, maxBytes)
	return fromStatus(status.New(codes.ResourceExhausted, text), pushback{isRefusal: true})
}

// failed makes an Error of the client's own.
func failed(code codes.Code, text string) error { return newError(status.Error(code, text), nil) }
